# SPDX-License-Identifier: Apache-2.0
"""The exchange is killed at bad moments; what it promised holds afterwards."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange_client import Batch, Node, Stream
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

Row = tuple[Any, ...]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with running_sandbox(tmp_path / "centre") as found:
        yield found


@pytest.fixture
def stream(sandbox: SandboxProcess, tmp_path: Path) -> Stream:
    node = Node(sandbox.address, sandbox.ca, tmp_path / "node")
    node.enrol()
    found = Stream(node)
    assert found.put_catalog().status == 201
    return found


def restart(sandbox: SandboxProcess) -> None:
    sandbox.kill()
    sandbox.start()


def people(*ids: int) -> list[Row]:
    return [("u", f"{i:06d}", "甲", i) for i in ids]


def count(sandbox: SandboxProcess) -> int:
    found: int = sandbox.rows('select count(*) from "990100_rk_person"')[0][0]
    return found


def test_identity_and_port_survive(sandbox: SandboxProcess, stream: Stream) -> None:
    """After kill -9 the same URL, authority, key and nodes are there."""
    before = (sandbox.url, sandbox.ca_sha256, sandbox.kid)
    restart(sandbox)
    assert (sandbox.url, sandbox.ca_sha256, sandbox.kid) == before
    assert stream.node.get("/v1/directory").status == 200


def test_stored_batches_are_loaded_after_a_kill(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """``stored`` is a promise: the next process loads what this one did not."""
    sandbox.load(on=False)
    for i in range(3):
        stream.push(stream.next(people(i)))
    restart(sandbox)
    assert stream.node.wait_receipt(1, 3)["state"] == "loaded"
    assert count(sandbox) == 3


def test_staging_survives_a_kill(sandbox: SandboxProcess, stream: Stream) -> None:
    """A snapshot goes on with the part after the last staged one."""
    stream.push(stream.part(people(1, 2)))
    sandbox.wait_loaded()
    restart(sandbox)
    assert stream.load(stream.part(people(3), part=2, total=3))["state"] == "loaded"
    assert count(sandbox) == 3


def test_receipt_and_repeat_survive_a_kill(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A batch sent again after the kill gets its receipt and loads nothing."""
    batch = stream.next(people(1))
    loaded = stream.load(batch)
    restart(sandbox)
    assert stream.node.send(batch).receipt == loaded
    assert count(sandbox) == 1


def test_unfinished_upload_goes_on_after_a_kill(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """The offset that was answered is there, line 1 and digest are taken up again."""
    data = stream.next(people(*range(2000))).file()
    location = stream.node.create(len(data), data[:3000]).headers["Location"]
    restart(sandbox)
    assert stream.node.head(location).headers["Upload-Offset"] == "3000"
    answer = stream.node.patch(location, 3000, data[3000:])
    assert answer.receipt["state"] == "stored"


def test_upload_cut_inside_line_1_goes_on_after_a_kill(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Judgement comes when the rest of the line does."""
    data = stream.next(people(1)).file()
    location = stream.node.create(len(data), data[:50]).headers["Location"]
    restart(sandbox)
    assert stream.node.patch(location, 50, data[50:]).receipt["state"] == "stored"


def test_whole_upload_is_finished_after_a_kill(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Every byte was in, nothing was registered: HEAD ends it with the receipt."""
    data = stream.next(people(1)).file()
    location = stream.node.create(len(data)).headers["Location"]
    sandbox.faults({"kind": "cut", "bytes": len(data), "count": 1, "route": "PATCH"})
    with pytest.raises((OSError, HTTPException)):
        stream.node.patch(location, 0, data)
    restart(sandbox)
    assert stream.node.head(location).receipt["state"] == "stored"


def test_file_of_a_batch_that_was_never_registered_is_replaced(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A kill between rename and commit leaves a file; the next upload replaces it."""
    batch = stream.next(people(1))
    place = sandbox.folder / "batches" / stream.node.node.replace("/", "_")
    place.mkdir(parents=True)
    path = place / "990100_rk_person.1.1.fepb"
    path.write_bytes(b"half of something")
    assert stream.load(batch)["state"] == "loaded"
    assert path.read_bytes() == batch.file()


def test_abandoned_upload_expires(sandbox: SandboxProcess, stream: Stream) -> None:
    """Seven days after its last byte an upload is gone: at the latest by a restart."""
    location = stream.node.create(1000, b"abc").headers["Location"]
    (path,) = (sandbox.folder / "uploads").iterdir()
    week = time.time() - 7 * 86_400 - 60
    os.utime(path, (week, week))
    restart(sandbox)
    assert stream.node.head(location).status == 404
    assert not list((sandbox.folder / "uploads").iterdir())


def test_second_exchange_in_a_folder_is_refused(sandbox: SandboxProcess) -> None:
    """Two processes on one folder would sign two truths."""
    second = SandboxProcess(sandbox.folder)
    with pytest.raises(RuntimeError, match="another process serves"):
        second.start()


def test_folder_too_deep_for_a_socket_is_named(tmp_path: Path) -> None:
    """A path that no socket can have is a usage fault, not a traceback."""
    deep = SandboxProcess(tmp_path / ("d" * 100))
    with pytest.raises(RuntimeError, match="expected at most 107 bytes"):
        deep.start()


def test_taken_port_is_named(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """Another program listens there."""
    second = SandboxProcess(
        tmp_path / "second", "--listen", f"127.0.0.1:{sandbox.address[1]}"
    )
    with pytest.raises(RuntimeError, match="cannot listen on"):
        second.start()


def test_sigterm_ends_cleanly(sandbox: SandboxProcess, stream: Stream) -> None:
    """Exit code 0, nothing lost, the log folded into the file."""
    stream.push(stream.next(people(1)))
    assert sandbox.stop() == 0
    assert not (sandbox.folder / "centre.db-wal").exists()
    sandbox.start()
    assert stream.node.wait_receipt(1, 1)["state"] == "loaded"


def deliver(stream: Stream, batch: Batch) -> None:
    """Send until it is stored, as an agent would."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            answer = stream.node.send(batch)
        except (OSError, HTTPException):
            time.sleep(0.05)
            continue
        if "Fep-Receipt" in answer.headers:
            assert answer.receipt["state"] in ("stored", "loaded"), answer.receipt
            stream.keep(batch)
            return
        raise AssertionError(answer.body)
    raise AssertionError("never stored")


def test_kills_at_random_moments_lose_and_double_nothing(
    sandbox: SandboxProcess,
    stream: Stream,
    record_property: Callable[[str, object], None],
) -> None:
    """Ten kills while batches stream in: every row is there once, the chain whole."""
    seed = int(time.time())
    record_property("seed", seed)
    chance = random.Random(seed)
    done = threading.Event()

    def killer() -> None:
        for _ in range(10):
            time.sleep(chance.uniform(0.02, 0.4))
            restart(sandbox)
        done.set()

    thread = threading.Thread(target=killer)
    thread.start()
    sent = 0
    while not done.is_set() or sent < 20:
        first = sent * 500
        deliver(stream, stream.next(people(*range(first, first + 500))))
        sent += 1
    thread.join()
    assert stream.node.wait_receipt(1, sent)["state"] == "loaded"
    assert count(sandbox) == sent * 500
    states = sandbox.rows("select seq, state from batch order by id")
    assert states == [(i, "loaded") for i in range(1, sent + 1)]
