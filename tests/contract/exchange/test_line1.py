# SPDX-License-Identifier: Apache-2.0
"""What line 1 decides, in wire.md's order of checks; each rule is broken once.

Two rules broken at once show the order: the earlier one answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.exchange_client import (
    Key,
    Node,
    Stream,
    b64,
    changed,
    digest,
    payload,
)
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

Rows = list[tuple[Any, ...]]
ROWS: Rows = [("u", "1", "张三", 30)]


def refused(node: Node, data: bytes) -> tuple[int, str]:
    answer = node.create(len(data), data)
    assert "Fep-Receipt" not in answer.headers
    return answer.status, answer.problem


def untouched(stream: Stream) -> bool:
    """Nothing was stored: the position is the empty stream's."""
    position = stream.node.position(stream.resource)
    return (position["epoch"], position["digest"]) == (0, None)


# --- form -------------------------------------------------------------------------


def test_line_without_lf_in_64_kib_is_too_large(stream: Stream) -> None:
    """The cap counts the LF: 65,536 bytes without one are refused."""
    data = b"a" * 65_536 + b"\n"
    assert refused(stream.node, data) == (413, "too-large")


def test_line_of_65535_bytes_and_lf_is_read(stream: Stream) -> None:
    """At the cap the line is judged, not its length."""
    data = b"a" * 65_535 + b"\n"
    assert refused(stream.node, data) == (400, "malformed")


def test_file_that_ends_before_the_lf_is_malformed(stream: Stream) -> None:
    """A file has a line 1."""
    data = stream.next(ROWS).line.encode()
    assert refused(stream.node, data) == (400, "malformed")


def test_carriage_return_is_malformed(stream: Stream) -> None:
    """One LF, no CR."""
    batch = stream.next(ROWS)
    data = batch.line.encode() + b"\r\n" + batch.data
    assert refused(stream.node, data) == (400, "malformed")


def pad(line: str) -> str:
    return line + "="


def loose(line: str) -> str:
    """Other unused bits at the end of the signature's base64url."""
    last = line[-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return line[:-1] + alphabet[alphabet.index(last) ^ 1]


def two_parts(line: str) -> str:
    return line.rpartition(".")[0]


def std_base64(line: str) -> str:
    head, body, signature = line.split(".")
    return f"{head}.{body}.{signature[:-1]}+"


@pytest.mark.parametrize("break_it", [pad, loose, two_parts, std_base64])
def test_loose_forms_of_a_jws_are_malformed(
    stream: Stream, break_it: Callable[[str], str]
) -> None:
    """Padding, loose bits, other alphabets and missing segments are refused."""
    batch = stream.next(ROWS)
    data = break_it(batch.line).encode() + b"\n" + batch.data
    assert refused(stream.node, data) == (400, "malformed")


def test_further_header_member_is_malformed(stream: Stream) -> None:
    """The header is exactly alg, kid and typ."""
    batch = stream.next(ROWS)
    batch.header = {"crit": ["exp"]}
    assert refused(stream.node, batch.file()) == (400, "malformed")


def test_header_member_twice_is_malformed(stream: Stream) -> None:
    """Libraries take the last of duplicates; the exchange takes none."""
    batch = stream.next(ROWS)
    head, rest = batch.line.split(".", 1)
    text = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)).decode()
    twice = text[:-1] + ',"alg":"ES256"}'
    data = f"{b64(twice.encode())}.{rest}\n".encode() + batch.data
    assert refused(stream.node, data) == (400, "malformed")


# --- typ, alg, kid, purpose, signature --------------------------------------------


def test_other_typ_is_malformed(stream: Stream) -> None:
    """A catalog statement is no batch, whoever signed it."""
    batch = stream.next(ROWS)
    batch.typ = "fep-catalog+jws"
    assert refused(stream.node, batch.file()) == (400, "malformed")


@pytest.mark.parametrize("alg", ["none", "HS256", "ES384"])
def test_other_alg_than_the_directory_has_is_a_bad_signature(
    stream: Stream, alg: str
) -> None:
    """alg comes from the directory, never from the message."""
    batch = stream.next(ROWS)
    batch.header = {"alg": alg}
    assert refused(stream.node, batch.file()) == (422, "bad-signature")


def test_unknown_kid_is_a_bad_signature(stream: Stream) -> None:
    """A key that no statement lists signs nothing."""
    batch = stream.next(ROWS)
    batch.key = Key()
    assert refused(stream.node, batch.file()) == (422, "bad-signature")


def test_key_of_another_purpose_is_a_bad_signature(stream: Stream) -> None:
    """A tls key does not sign batches."""
    batch = stream.next(ROWS)
    batch.key = stream.node.tls
    assert refused(stream.node, batch.file()) == (422, "bad-signature")


def test_changed_payload_is_a_bad_signature(stream: Stream) -> None:
    """One changed count in line 1, and the signature does not verify."""
    batch = stream.next(ROWS)
    head, _, signature = batch.line.split(".")
    body = json.dumps(changed(batch.manifest, "rows.upsert", 2)).encode()
    data = f"{head}.{b64(body)}.{signature}\n".encode() + batch.data
    assert refused(stream.node, data) == (422, "bad-signature")
    assert untouched(stream)


def test_key_of_another_node_is_a_bad_signature(stream: Stream, stranger: Node) -> None:
    """A known key signs for its own node only."""
    batch = stream.next(ROWS)
    batch.key = stranger.key
    assert refused(stream.node, batch.file()) == (422, "bad-signature")


# --- known messages ---------------------------------------------------------------


def test_repeated_batch_gets_its_newest_receipt(stream: Stream) -> None:
    """Nothing is stored or loaded twice; the end of the upload has the receipt."""
    batch = stream.next(ROWS)
    stream.load(batch)
    answer = stream.node.send(batch)
    assert (answer.status, answer.receipt["state"]) == (201, "loaded")
    assert stream.node.position(stream.resource)["seq"] == 1


def test_repeat_with_another_encoding_of_the_signature_is_the_same(
    stream: Stream,
) -> None:
    """An ECDSA signature can be re-encoded; the message digest is over its input."""
    batch = stream.next(ROWS)
    stream.load(batch)
    signing_input, _, raw = batch.line.rpartition(".")
    data = base64.urlsafe_b64decode(raw + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    s = (order - int.from_bytes(data[32:], "big")).to_bytes(32, "big")
    twin = f"{signing_input}.{b64(data[:32] + s)}\n".encode() + batch.data
    answer = stream.node.create(len(twin), twin)
    assert (answer.status, answer.receipt["manifest"]) == (201, batch.digest)


def test_repeat_of_a_rejected_batch_gets_the_rejection(stream: Stream) -> None:
    """Rejected is final for these bytes."""
    batch = stream.next(ROWS, quality={"read": 9, "quarantined": 0, "skipped": 0})
    first = stream.node.send(batch).receipt
    again = stream.node.send(batch).receipt
    assert first == again
    assert first["code"] == "bad-manifest"


# --- shape ------------------------------------------------------------------------

BROKEN: list[tuple[str, object]] = [
    ("v", 2),
    ("mode", "merge"),
    ("stream.reason", None),
    ("stream.incarnation", "ABC"),
    ("content.size", -1),
    ("content.digest", "md5:0"),
    ("rows.delete", -1),
    ("run_end", "yes"),
    ("as_of", "2026-11-21 08:00:00"),
    ("sealed_at", "2026-11-21T08:00:60Z"),
    ("snapshot", {"id": "x", "part": 1, "final": False, "rows": None}),
    ("quality.read", 5),
    ("unknown", 1),
    ("agent", ""),
]


@pytest.mark.parametrize(("path", "value"), BROKEN, ids=[p for p, _ in BROKEN])
def test_manifest_of_wrong_shape_is_rejected_by_signature(
    stream: Stream, path: str, value: object
) -> None:
    """Signature, certificate and owner are good, so the rejection is signed."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, path, value)
    answer = stream.node.send(batch)
    receipt = answer.receipt
    assert (receipt["state"], receipt["code"]) == ("rejected", "bad-manifest")
    assert receipt["manifest"] == batch.digest
    assert untouched(stream)


def test_unchanged_batch_with_a_payload_is_a_bad_manifest(stream: Stream) -> None:
    """Mode unchanged has no bytes after the LF."""
    batch = stream.next([], mode="unchanged")
    batch.data = b"x"
    batch.manifest = changed(batch.manifest, "content.size", 1)
    assert stream.node.send(batch).receipt["code"] == "bad-manifest"


def test_broken_shape_without_identity_is_malformed(stream: Stream) -> None:
    """Without a readable identity no receipt can be signed."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, "stream", None)
    assert refused(stream.node, batch.file()) == (400, "malformed")


def test_json_that_is_not_strict_is_malformed(stream: Stream) -> None:
    """A fraction breaks the message as a whole: no identity is read from it."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, "rows.delete", 1.0)
    assert refused(stream.node, batch.file()) == (400, "malformed")


def test_broken_shape_from_another_certificate_is_malformed(
    stream: Stream, stranger: Node
) -> None:
    """A rejection is signed only after the certificate was verified."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, "agent", "")
    assert refused(stranger, batch.file()) == (400, "malformed")


def test_broken_shape_of_a_resource_without_owner_is_malformed(node: Node) -> None:
    """A rejection is signed only after the owner was verified."""
    batch = Stream(node, "990100/nobody/s").next(ROWS, agent="")
    assert refused(node, batch.file()) == (400, "malformed")


def test_broken_shape_of_a_taken_identity_is_a_fork(stream: Stream) -> None:
    """A broken second manifest does not overwrite the receipt of the first."""
    stream.push(stream.next(ROWS))
    stream.seq, stream.prev = 0, None
    batch = stream.next(ROWS, agent="")
    assert refused(stream.node, batch.file()) == (422, "fork")


# --- aud, certificate, key status, owner, catalog ---------------------------------


def test_batch_for_another_exchange_is_refused(stream: Stream) -> None:
    """aud must be this exchange."""
    batch = stream.next(ROWS, aud="another.exchange")
    assert refused(stream.node, batch.file()) == (422, "wrong-exchange")


def test_upload_by_another_node_is_forbidden(stream: Stream, stranger: Node) -> None:
    """The certificate is not the producer's."""
    assert refused(stranger, stream.next(ROWS).file()) == (403, "forbidden")


def test_wrong_exchange_is_told_before_the_certificate(
    stream: Stream, stranger: Node
) -> None:
    """Order: aud, then certificate."""
    batch = stream.next(ROWS, aud="another.exchange")
    assert refused(stranger, batch.file()) == (422, "wrong-exchange")


def test_upload_without_certificate_is_unauthenticated(
    sandbox: SandboxProcess, fresh_node: Callable[[str], Node]
) -> None:
    """Nobody uploads unknown."""
    answer = fresh_node("anonymous").create(10)
    assert (answer.status, answer.problem) == (401, "unauthenticated")


def test_revoked_key_is_refused_at_once(
    sandbox: SandboxProcess, fresh_node: Callable[[str], Node], resource: str
) -> None:
    """From the moment of revocation, whatever sealed_at says."""
    node = fresh_node("revoked")
    node.enrol()
    stream = Stream(node, resource)
    assert stream.put_catalog().status == 201
    stream.push(stream.next(ROWS))
    sandbox.ask("POST", "/revoke", {"kid": node.key.kid})
    assert refused(node, stream.next(ROWS).file()) == (422, "key-revoked")
    files = payload(node.get("/v1/directory").body.decode())["files"]
    assert node.key.kid in [k["kid"] for k in files["revoked.json"]["kids"]]


def test_revoked_tls_key_is_unauthenticated(
    sandbox: SandboxProcess, fresh_node: Callable[[str], Node]
) -> None:
    """A certificate whose key is revoked opens nothing."""
    node = fresh_node("tlsrevoked")
    node.enrol()
    sandbox.ask("POST", "/revoke", {"kid": node.tls.kid})
    answer = node.get("/v1/directory")
    assert (answer.status, answer.problem) == (401, "unauthenticated")


def test_retired_key_is_taken_for_thirty_days(
    sandbox: SandboxProcess, fresh_node: Callable[[str], Node], resource: str
) -> None:
    """By the exchange's clock: on day 29 yes, on day 31 no."""
    node = fresh_node("retired")
    node.enrol()
    stream = Stream(node, resource)
    assert stream.put_catalog().status == 201
    old, new = node.key, Key()
    statement = node.key_statement(2, [node.tls, new], old)
    assert node.ask("POST", "/v1/keys", statement.encode()).status == 201
    day = 86_400
    sandbox.faults({"kind": "clock", "seconds": 29 * day})
    stream.push(stream.next(ROWS))
    sandbox.faults({"kind": "clock", "seconds": 31 * day})
    assert refused(node, stream.next(ROWS).file()) == (422, "key-revoked")


def test_batch_of_another_nodes_resource_is_not_owner(
    stream: Stream, stranger: Node
) -> None:
    """The first catalog gave the resource to its node."""
    thief = Stream(stranger, stream.resource)
    assert refused(stranger, thief.next(ROWS).file()) == (422, "not-owner")


def test_catalog_of_another_nodes_resource_is_not_owner(
    stream: Stream, stranger: Node
) -> None:
    """Nor can it be taken by a catalog."""
    answer = Stream(stranger, stream.resource).put_catalog()
    assert (answer.status, answer.problem) == (422, "not-owner")


def test_batch_before_its_catalog_is_catalog_unknown(node: Node, resource: str) -> None:
    """PUT the catalog, then try again."""
    stream = Stream(node, resource)
    assert refused(node, stream.next(ROWS).file()) == (422, "catalog-unknown")
    assert stream.put_catalog().status == 201
    stream.push(stream.next(ROWS))


def test_catalog_of_another_resource_is_catalog_unknown(
    stream: Stream, node: Node
) -> None:
    """The digest must be of this resource's statement."""
    other = Stream(node, stream.resource + "x")
    assert other.put_catalog().status == 201
    catalog = {"version": 1, "digest": digest(other.statement)}
    batch = stream.next(ROWS, catalog=catalog)
    assert refused(node, batch.file()) == (422, "catalog-unknown")


def test_catalog_version_must_be_the_statements(stream: Stream) -> None:
    """Version and digest name one statement."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, "catalog.version", 2)
    assert refused(stream.node, batch.file()) == (422, "catalog-unknown")


# --- sizes ------------------------------------------------------------------------


def test_upload_length_must_be_what_line_1_says(stream: Stream) -> None:
    """A file of another length cannot have the digest."""
    batch = stream.next(ROWS)
    data = batch.file() + b"x"
    assert refused(stream.node, data) == (422, "bad-digest")


def test_payload_of_another_digest_is_refused(stream: Stream) -> None:
    """One flipped bit: bad-digest, unsigned, and the next try may succeed."""
    batch = stream.next(ROWS)
    good = batch.file()
    bad = good[:-20] + bytes([good[-20] ^ 1]) + good[-19:]
    assert refused(stream.node, bad) == (422, "bad-digest")
    assert untouched(stream)
    stream.push(batch)


def test_line_1_longer_than_the_payload_cap_is_malformed(stream: Stream) -> None:
    """content.size above 64 MiB is a broken manifest."""
    batch = stream.next(ROWS)
    batch.manifest = changed(batch.manifest, "content.size", 64 * 1024 * 1024 + 1)
    assert stream.node.send(batch).receipt["code"] == "bad-manifest"


# --- as soon as line 1 is in ------------------------------------------------------


def test_refusal_comes_before_the_payload(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A raw socket sends line 1 of a 60 MB file and gets the refusal at once."""
    batch = stream.next(ROWS, aud="another.exchange")
    line = batch.line.encode() + b"\n"
    head = (
        "POST /v1/batches HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n"
        "Content-Type: application/offset+octet-stream\r\n"
        "Upload-Length: 60000000\r\nContent-Length: 60000000\r\n\r\n"
    )
    with socket.create_connection(sandbox.address, 10) as plain:
        context = stream.node.context
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as tls:
            tls.sendall(head.encode() + line)
            answer = read_head(tls)
    assert answer.startswith(b"HTTP/1.1 422 ")


def test_signed_rejection_at_line_1_needs_no_payload(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A dead manifest is rejected in the answer to the request that brings it."""
    batch = stream.next(ROWS, agent="")
    line = batch.line.encode() + b"\n"
    answer = stream.node.create(len(batch.file()), line)
    assert answer.receipt["code"] == "bad-manifest"
    assert answer.headers["Upload-Offset"] == str(len(line))


def read_head(tls: ssl.SSLSocket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = tls.recv(4096)
        if not more:
            break
        data += more
    return data


def test_receipt_names_the_message_digest(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A receipt is signed by the exchange's key over this very message."""
    batch = stream.next(ROWS)
    receipt = stream.push(batch)
    signing_input = batch.line.rpartition(".")[0].encode()
    assert receipt["manifest"] == "sha256:" + hashlib.sha256(signing_input).hexdigest()
