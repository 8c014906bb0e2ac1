# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.child.inside import DaemonGone, Lines
from agent.errors import SpoolWriteFailed
from agent.model.batch import Quality, Rows
from agent.model.job import (
    Ended,
    Failed,
    Job,
    Line,
    Message,
    Packed,
    Progress,
    Written,
    decode,
    encode,
)
from agent.pipeline.worker.run import LOADS_WAITING, PAYLOADS_WAITING, Run, Tools
from agent.pipeline.worker.serving import serve
from agent.wire.arrow import read_payload, row_digest_sum
from tests.support.fake_source import CANARY, ITEMS, FakeConnector, job, tools

PLAIN = tuple(b.item for b in ITEMS)


class Daemon:
    """Answers every Packed with a line, unless told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[Message] = []
        self.answer: Callable[[Packed], Message] = self.line

    def line(self, packed: Packed) -> Line:
        return Line(packed.part, f"part.{packed.part}.x", str(self.path(packed.part)))

    def path(self, part: int) -> Path:
        return self.folder / f"{part}.tmp"

    def hear(self) -> Message:
        packed = self.heard[-1]
        while not isinstance(packed, Packed):
            packed = self.heard[self.heard.index(packed) - 1]
        return self.answer(packed)

    def run(self, work: Job, given: Tools | None = None) -> Message:
        Run(work, tell=self.heard.append, hear=self.hear, tools=given or tools()).go()
        return self.heard[-1]

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.heard if isinstance(m, kind)]

    def rows(self, packed: Packed) -> list[pa.RecordBatch]:
        line1, _, data = self.path(packed.part).read_bytes().partition(b"\n")
        assert line1 == f"part.{packed.part}.x".encode()
        assert len(data) == packed.size
        return list(
            read_payload(
                data, PLAIN, mode="full", raw_size=packed.raw_size, rows=packed.rows
            )
        )


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


def small(daemon: Daemon, **source: Any) -> Job:
    """A job of 10 rows in pages of 4, two pages a part at most."""
    return job(str(daemon.folder), source={"rows": 10, **source}, max_rows_per_batch=4)


def test_every_row_arrives_in_order(daemon: Daemon) -> None:
    """The files hold the source's rows, and the exchange's reader takes them."""
    last = daemon.run(small(daemon))

    ids = [
        v
        for p in daemon.of(Packed)
        for b in daemon.rows(p)
        for v in b["id"].to_pylist()
    ]
    assert ids == [f"{i:018d}" for i in range(10)]
    assert isinstance(last, Ended)
    assert (last.rows, last.quality) == (Rows(10, 0, 0), Quality(10, 0, 0))


def test_each_part_is_packed_then_written(daemon: Daemon) -> None:
    """The order of messages is Packed, Written, part after part, then Ended."""
    daemon.run(small(daemon))

    kinds = [type(m).__name__ for m in daemon.heard if not isinstance(m, Progress)]
    assert kinds == ["Packed", "Written"] * 3 + ["Ended"]


def test_only_the_final_part_tells_distinct_and_frontier(daemon: Daemon) -> None:
    """Parts are numbered; distinct keys and the frontier come with the last one."""
    daemon.run(small(daemon))

    told = [
        (p.part, p.final, p.distinct, p.frontier, p.token) for p in daemon.of(Packed)
    ]
    assert told == [
        (1, False, None, None, "after 3"),
        (2, False, None, None, "after 7"),
        (3, True, 10, "f1", None),
    ]


def test_distinct_counts_kept_rows_too(daemon: Daemon) -> None:
    """distinct = u and k rows of all parts; what was withheld is counted by reason."""
    last = daemon.run(small(daemon, names={"1": "keep", "5": "drop", "9": "warn"}))

    assert daemon.of(Packed)[-1].distinct == 9
    assert isinstance(last, Ended)
    assert (last.rows, last.quality) == (Rows(8, 0, 1), Quality(10, 2, 0))
    assert last.reasons == {"bad-name": 1, "duplicate_key": 1}
    assert last.warnings == {"odd": 1}


def test_table_without_rows_is_one_final_part(daemon: Daemon) -> None:
    """An empty table gives one final part that the exchange's reader takes."""
    daemon.run(small(daemon, rows=0))

    (packed,) = daemon.of(Packed)
    assert (packed.final, packed.distinct, packed.raw_size) == (True, 0, 0)
    assert daemon.rows(packed) == []


def test_digest_run_writes_nothing(daemon: Daemon) -> None:
    """Kind digest counts and digests the rows that would be sent, without k rows."""
    work = job(
        str(daemon.folder), kind="digest", source={"rows": 10, "names": {"1": "keep"}}
    )
    last = daemon.run(work)
    assert isinstance(last, Ended)

    daemon.run(job(str(daemon.folder), source={"rows": 10, "names": {"1": "keep"}}))
    (packed,) = daemon.of(Packed)
    (sent,) = daemon.rows(packed)
    total = row_digest_sum(sent.filter(pa.compute.equal(sent["_op"], "u")), PLAIN)
    assert last.digest == f"{total % 2**128:032x}"
    assert last.rows == Rows(9, 0, 1)
    assert [m for m in daemon.heard[: daemon.heard.index(last)] if m] == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("unreachable", "source-unreachable"),
        ("login", "source-login"),
        ("right", "source-right"),
        ("missing", "source-missing"),
        ("type", "source-type"),
        ("text", "source-text"),
        ("timeout", "source-timeout"),
        ("failed", "source-failed"),
    ],
)
@pytest.mark.parametrize("at", ["open", 1, "end"])
def test_source_error_names_its_code(
    daemon: Daemon, kind: str, code: str, at: object
) -> None:
    """Whenever the source fails, the run ends with our code for it, never as final."""
    last = daemon.run(small(daemon, fail=kind, fail_at=at))

    assert isinstance(last, Failed)
    assert last.code == code
    assert "column AGE of person" in last.detail
    assert not any(p.final for p in daemon.of(Packed))


def test_secrecy_marking_stops_the_run(daemon: Daemon) -> None:
    """A marked row ends the run with its own code; no final part is packed."""
    last = daemon.run(small(daemon, names={"9": "机密★"}))

    assert isinstance(last, Failed)
    assert last.code == "secrecy-marker"
    assert not any(p.final for p in daemon.of(Packed))


def test_foreign_exception_tells_its_class_alone(daemon: Daemon) -> None:
    """A defect names class and place; the message of the exception is not repeated."""
    last = daemon.run(small(daemon, fail="bug", fail_at=1))

    assert isinstance(last, Failed)
    assert last.code == "internal"
    assert last.detail.startswith("KeyError at tests.support.fake_source:")
    assert CANARY not in json.dumps(encode(last).decode(), ensure_ascii=False)


def test_failed_write_ends_the_run(daemon: Daemon) -> None:
    """A spool that cannot be written is SpoolWriteFailed; the session is closed."""
    daemon.path(2).mkdir()
    connector = FakeConnector()

    last = daemon.run(small(daemon), tools(connector))

    assert isinstance(last, Failed)
    assert last.code == SpoolWriteFailed.code
    assert connector.closed == 1


def test_wrong_answer_ends_the_run(daemon: Daemon) -> None:
    """A line for another part is a defect, and nothing is written."""
    daemon.answer = lambda p: Line(p.part + 1, "x.y.z", str(daemon.path(p.part)))

    last = daemon.run(small(daemon))

    assert isinstance(last, Failed)
    assert last.detail == "expected the line of part 1, got Line"
    assert not daemon.path(1).exists()


def test_daemon_that_does_not_answer_stops_the_reading(daemon: Daemon) -> None:
    """Without a line no more is read than what the two queues and three hands hold."""
    connector = FakeConnector()
    read_before: list[int] = []

    def wait_and_see(packed: Packed) -> Message:
        if packed.part == 1:
            while not read_before or read_before[-1] != connector.pages_read:
                read_before.append(connector.pages_read)
                threading.Event().wait(0.05)
        return daemon.line(packed)

    daemon.answer = wait_and_see
    daemon.run(small(daemon, rows=400), tools(connector))

    # delivered, waiting, being packed; then open, waiting, being checked; one read
    assert read_before[-1] <= (1 + PAYLOADS_WAITING + 1) + (1 + LOADS_WAITING + 1) + 1
    assert connector.pages_read == 100


def test_progress_is_told_at_most_twice_a_second(daemon: Daemon) -> None:
    """A clock that moves 0.2 s a look gives a message every third page."""
    at = iter(range(10_000))
    daemon.run(small(daemon, rows=40), tools(clock=lambda: next(at) * 0.2))

    assert [p.read for p in daemon.of(Progress)] == [12, 24, 36]
    assert {p.estimate for p in daemon.of(Progress)} == {40}


def test_job_through_a_socket(daemon: Daemon) -> None:
    """serve() takes one job, says so, does it and leaves with 0."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode(small(daemon, rows=0)))
        thread = threading.Thread(target=lambda: codes.append(serve(theirs, tools())))
        codes: list[int] = []
        thread.start()
        lines = Lines(ours)
        assert decode(lines.receive()) == Progress(0, None)
        packed = decode(lines.receive())
        assert isinstance(packed, Packed)
        lines.send(encode(daemon.line(packed)))

        assert decode(lines.receive()) == Written(1)
        assert isinstance(decode(lines.receive()), Ended)
        thread.join()

    assert codes == [0]


def test_daemon_that_is_gone_ends_the_worker(daemon: Daemon) -> None:
    """A closed socket instead of a line ends the worker with 3 and leaves no file."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(encode(small(daemon)))
        ours.shutdown(socket.SHUT_WR)

        assert serve(theirs, tools()) == 3

    assert list(daemon.folder.iterdir()) == []


def test_no_job_is_no_run() -> None:
    """A daemon that closes at once is not an error worth a trace."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        assert serve(theirs, tools()) == 3


def flood(sock: socket.socket) -> None:
    with suppress(ConnectionError):
        sock.sendall(b"x" * 5 * 1024 * 1024)


def test_lines_are_bounded_both_ways() -> None:
    """A line above the cap is refused, sent or received."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(ValueError, match="at most 4194304"):
            Lines(ours).send(b"x" * (4 * 1024 * 1024) + b"\n")
        thread = threading.Thread(target=flood, args=(ours,))
        thread.start()
        with pytest.raises(ValueError, match="more than 4194304"):
            Lines(theirs).receive()
        theirs.close()
        thread.join()


def test_lines_arrive_whole_however_they_are_cut() -> None:
    """Two lines in one piece and one line in two are three lines."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"one\ntwo\nth")
        lines = Lines(theirs)
        first = [lines.receive(), lines.receive()]
        ours.sendall(b"ree\n")

        assert [*first, lines.receive()] == [b"one\n", b"two\n", b"three\n"]
        ours.close()
        with pytest.raises(DaemonGone):
            lines.receive()
