# SPDX-License-Identifier: Apache-2.0
"""The tus receiver: creation, pieces, cuts, resumption, and who may do what."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.client import HTTPException

import pytest

from tests.support.exchange_client import Node, Stream
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

MANY = [("u", f"{i:06d}", f"名{i * 7919 % 9973}", i) for i in range(3000)]


@contextmanager
def raw(node: Node) -> Iterator[ssl.SSLSocket]:
    """A TLS socket to write broken HTTP to."""
    with (
        socket.create_connection(node.address, 10) as plain,
        node.context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        yield tls


def head_of(request: str, **headers: str) -> bytes:
    named = {"Host": "x", "Tus-Resumable": "1.0.0"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [request, *(f"{n}: {v}" for n, v in named.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def wait_written(sandbox: SandboxProcess, location: str, offset: int) -> None:
    """Until so many bytes are in the file; asking by HEAD would steal the lock."""
    key = location.rpartition("/")[2]
    (path,) = (sandbox.folder / "uploads").glob(f"{key}.*")
    until = time.monotonic() + 10
    while path.stat().st_size < offset:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_options_names_the_extensions(node: Node) -> None:
    """Version, extensions and the largest size: 67,174,400 bytes."""
    headers = node.ask("OPTIONS", "/v1/batches").headers
    assert headers["Tus-Version"] == "1.0.0"
    assert headers["Tus-Max-Size"] == "67174400"
    assert {"creation", "creation-with-upload"} <= set(
        headers["Tus-Extension"].split(",")
    )


def test_empty_creation_then_pieces(stream: Stream) -> None:
    """201 without bytes, 204 for each piece, the receipt with the last."""
    node, data = stream.node, stream.next(MANY).file()
    created = node.create(len(data))
    location = created.headers["Location"]
    assert (created.status, location.startswith("/v1/batches/")) == (201, True)
    middle = len(data) // 2
    first = node.patch(location, 0, data[:middle])
    assert (first.status, first.headers["Upload-Offset"]) == (204, str(middle))
    assert "Fep-Receipt" not in first.headers
    last = node.patch(location, middle, data[middle:])
    assert (last.status, last.headers["Upload-Offset"]) == (204, str(len(data)))
    assert last.receipt["state"] == "stored"


def test_creation_with_upload_may_bring_a_part(stream: Stream) -> None:
    """The rest follows by PATCH."""
    node, data = stream.node, stream.next(MANY).file()
    created = node.create(len(data), data[:100])
    assert (created.status, created.headers["Upload-Offset"]) == (201, "100")
    answer = node.patch(created.headers["Location"], 100, data[100:])
    assert answer.receipt["state"] == "stored"


def test_pieces_of_one_byte_are_bytes_too(stream: Stream) -> None:
    """Line 1 may come in any cut; it is judged when its LF is in."""
    node, batch = stream.node, stream.next([("u", "1", "a", 1)])
    data = batch.file()
    location = node.create(len(data)).headers["Location"]
    line = len(batch.line)
    for start, end in ((0, 1), (1, line), (line, line + 1), (line + 1, len(data))):
        answer = node.patch(location, start, data[start:end])
        assert answer.status == 204
    assert answer.receipt["state"] == "stored"


def test_cut_upload_goes_on_where_it_stopped(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """What came before a cut is kept; HEAD says how much."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data)).headers["Location"]
    with raw(node) as tls:
        tls.sendall(
            head_of(
                f"PATCH {location} HTTP/1.1",
                Upload_Offset="0",
                Content_Type="application/offset+octet-stream",
                Content_Length=str(len(data)),
            )
        )
        tls.sendall(data[:5000])
        wait_written(sandbox, location, 5000)
    answer = node.head(location)
    assert answer.headers["Upload-Offset"] == "5000"
    assert answer.headers["Upload-Length"] == str(len(data))
    assert answer.headers["Cache-Control"] == "no-store"
    assert node.patch(location, 5000, data[5000:]).receipt["state"] == "stored"


def test_newer_request_steals_the_lock_of_a_dead_one(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A PATCH that hangs half-way is cut by the next; nothing waits for it."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data)).headers["Location"]
    with raw(node) as hanging:
        hanging.sendall(
            head_of(
                f"PATCH {location} HTTP/1.1",
                Upload_Offset="0",
                Content_Type="application/offset+octet-stream",
                Content_Length=str(len(data)),
            )
        )
        hanging.sendall(data[:4000])
        wait_written(sandbox, location, 4000)
        began = time.monotonic()
        answer = node.patch(location, 4000, data[4000:])
        assert answer.receipt["state"] == "stored"
        assert time.monotonic() - began < 5


def test_two_requests_on_one_connection_do_not_cut_each_other(stream: Stream) -> None:
    """Keep-alive: a finished request is no dead one."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data)).headers["Location"]
    headers = {
        "Tus-Resumable": "1.0.0",
        "Content-Type": "application/offset+octet-stream",
    }
    with node.connection() as connection:
        for start, end in ((0, 1000), (1000, 2000), (2000, len(data))):
            piece = headers | {"Upload-Offset": str(start)}
            connection.request("PATCH", location, data[start:end], piece)
            response = connection.getresponse()
            response.read()
            assert response.status == 204
    assert "Fep-Receipt" in response.headers


def test_wrong_offset_is_a_conflict(stream: Stream) -> None:
    """409, and nothing is written."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data), data[:100]).headers["Location"]
    assert node.patch(location, 50, data[50:]).status == 409
    assert node.head(location).headers["Upload-Offset"] == "100"


def test_more_bytes_than_announced_are_refused(stream: Stream) -> None:
    """Upload-Length is a promise."""
    node, data = stream.node, stream.next(MANY).file()
    answer = node.create(len(data), data + b"x")
    assert (answer.status, answer.problem) == (400, "malformed")


def test_piece_of_another_type_is_unsupported(stream: Stream) -> None:
    """415, as tus has it."""
    node = stream.node
    location = node.create(1000).headers["Location"]
    answer = node.ask("PATCH", location, b"x", Tus_Resumable="1.0.0", Upload_Offset="0")
    assert answer.status == 415


def test_other_tus_version_is_a_failed_precondition(stream: Stream) -> None:
    """412 with the version that would do."""
    answer = stream.node.create(10, Tus_Resumable="0.2.2")
    assert (answer.status, answer.headers["Tus-Version"]) == (412, "1.0.0")


@pytest.mark.parametrize("length", ["", "-1", "1.5", "0", "abc"])
def test_upload_length_is_required(stream: Stream, length: str) -> None:
    """A number of bytes, at least a line 1."""
    answer = stream.node.create(0, Upload_Length=length)
    assert (answer.status, answer.problem) == (400, "malformed")


def test_upload_above_the_largest_size_is_refused(stream: Stream) -> None:
    """Tus-Max-Size is enforced before a byte comes."""
    answer = stream.node.create(67_174_401)
    assert (answer.status, answer.problem) == (413, "too-large")
    assert stream.node.create(67_174_400).status == 201


def test_location_is_bound_to_the_certificate(stream: Stream, stranger: Node) -> None:
    """Another certificate finds nothing there."""
    location = stream.node.create(1000).headers["Location"]
    assert stranger.head(location).status == 404
    answer = stranger.patch(location, 0, b"x")
    assert (answer.status, answer.problem) == (404, "not-found")


@pytest.mark.parametrize("name", ["0" * 32, "..", "*", "%2e%2e%2fcentre.db", "[a]"])
def test_unknown_location_is_not_found(stream: Stream, name: str) -> None:
    """No name leaves the folder of uploads."""
    assert stream.node.head(f"/v1/batches/{name}").status == 404


def test_finished_upload_is_gone(stream: Stream) -> None:
    """After the receipt the location answers 404."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data)).headers["Location"]
    assert node.patch(location, 0, data).status == 204
    assert node.head(location).status == 404


def test_refused_upload_is_gone(sandbox: SandboxProcess, stream: Stream) -> None:
    """A refusal at line 1 ends the upload and leaves no file."""
    node, data = stream.node, stream.next(MANY, aud="another.exchange").file()
    location = node.create(len(data)).headers["Location"]
    assert node.patch(location, 0, data).problem == "wrong-exchange"
    assert node.head(location).status == 404
    key = location.rpartition("/")[2]
    assert not list((sandbox.folder / "uploads").glob(f"{key}*"))


def test_rejected_receipt_comes_with_the_last_answer(stream: Stream) -> None:
    """A signed rejection ends an upload like a stored receipt does."""
    batch = stream.next([("u", "1", "a", 1), ("u", "1", "a", 1)])
    data = batch.file()
    location = stream.node.create(len(data)).headers["Location"]
    answer = stream.node.patch(location, 0, data)
    assert (answer.status, answer.receipt["code"]) == (204, "bad-payload")


def test_repeated_batch_is_answered_at_its_end(stream: Stream) -> None:
    """Pieces of a known batch are taken and thrown away; the receipt comes last."""
    node, batch = stream.node, stream.next(MANY)
    stream.push(batch)
    data = batch.file()
    location = node.create(len(data)).headers["Location"]
    first = node.patch(location, 0, data[:-10])
    assert "Fep-Receipt" not in first.headers
    last = node.patch(location, len(data) - 10, data[-10:])
    assert last.receipt["manifest"] == batch.digest


def test_whole_upload_without_an_answer_is_finished_by_head(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """When the exchange dies after the last byte, the next question ends the upload."""
    node, data = stream.node, stream.next(MANY).file()
    location = node.create(len(data)).headers["Location"]
    sandbox.faults({"kind": "cut", "count": 1, "bytes": len(data), "route": "PATCH"})
    with pytest.raises((OSError, HTTPException)):
        node.patch(location, 0, data)
    answer = node.head(location)
    assert answer.receipt["state"] == "stored"


def test_upload_expires(sandbox: SandboxProcess, stream: Stream) -> None:
    """Upload-Expires is seven days after the last byte."""
    created = stream.node.create(1000)
    expires = parsedate_to_datetime(created.headers["Upload-Expires"]).timestamp()
    assert abs(expires - time.time() - 7 * 86_400) < 60


def test_batches_of_one_stream_race_for_one_place(stream: Stream) -> None:
    """Two whole uploads for the same identity: one is stored, the other a fork."""
    node = stream.node
    one, two = stream.next(MANY), stream.next(MANY[:10])
    places = [node.create(len(b.file())).headers["Location"] for b in (one, two)]
    for place, batch in zip(places, (one, two), strict=True):
        assert node.patch(place, 0, batch.file()[:-1]).status == 204
    answers = [
        node.patch(place, len(batch.file()) - 1, batch.file()[-1:])
        for place, batch in zip(places, (one, two), strict=True)
    ]
    assert answers[0].receipt["state"] == "stored"
    assert (answers[1].status, answers[1].problem) == (422, "fork")


def test_stored_file_is_the_sent_bytes(sandbox: SandboxProcess, stream: Stream) -> None:
    """The exact bytes are kept as evidence under a name made from line 1."""
    batch = stream.next(MANY)
    stream.push(batch)
    folder = sandbox.folder / "batches" / stream.node.node.replace("/", "_")
    path = folder / f"{stream.resource.replace('/', '_')}.1.1.fepb"
    assert path.read_bytes() == batch.file()


def test_disk_that_cannot_store_is_busy(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """The exchange's own trouble is 503 with Retry-After; later it works again."""
    folder = sandbox.folder / "uploads"
    aside = folder.rename(sandbox.folder / "aside")
    batch = stream.next(MANY)
    answer = stream.node.send(batch)
    aside.rename(folder)
    assert (answer.status, answer.problem) == (503, "busy")
    assert answer.headers["Retry-After"] == "60"
    stream.push(batch)
