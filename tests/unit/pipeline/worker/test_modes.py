# SPDX-License-Identifier: Apache-2.0
"""What a worker reads by the job's mode, and from where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.model.batch import Quality, Rows
from agent.model.job import (
    Ended,
    Failed,
    Job,
    Line,
    Message,
    Packed,
    Resume,
    Way,
    decode,
    encode,
)
from agent.pipeline.worker.run import Run, Tools
from agent.wire.batch import EMPTY_DIGEST
from tests.support.fake_source import FakeConnector, job, tools


class Daemon:
    """Answers every Packed with a line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heard: list[Message] = []
        self.connector = FakeConnector()
        self.files = 0

    def hear(self) -> Message:
        self.files += 1
        path = self.folder / f"{self.files}.tmp"
        return Line(self.packed[-1].part, "a.b.c", str(path))

    @property
    def packed(self) -> list[Packed]:
        return [m for m in self.heard if isinstance(m, Packed)]

    def run(self, work: Job, given: Tools | None = None) -> Message:
        self.heard.clear()
        chosen = given or tools(self.connector)
        Run(work, tell=self.heard.append, hear=self.hear, tools=chosen).go()
        return self.heard[-1]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


def work(daemon: Daemon, **source: object) -> Job:
    """10 rows in pages of 4, a page a part; changes are told."""
    source = {"rows": 10, "changed": 0, **source}
    return job(str(daemon.folder), source=source, max_rows_per_batch=4)


def increment(daemon: Daemon, **source: object) -> Job:
    """The same after a read that ended at f0."""
    return replace(work(daemon, **source), mode="incremental", since="f0")


# --- increments ---------------------------------------------------------------------


def test_an_increment_reads_the_changes_between_two_frontiers(daemon: Daemon) -> None:
    """No snapshot, no distinct keys; the frontier comes with the last part."""
    last = daemon.run(increment(daemon, changed=6))
    assert "changes f0 f1" in daemon.connector.asked
    assert "read" not in daemon.connector.asked
    told = [(p.mode, p.final, p.rows, p.distinct, p.frontier) for p in daemon.packed]
    assert told == [
        ("incremental", False, Rows(4, 0, 0), None, None),
        ("incremental", True, Rows(2, 0, 0), None, "f1"),
    ]
    assert isinstance(last, Ended)
    assert (last.quality, last.frontier) == (Quality(6, 0, 0), "f1")


def test_an_increment_without_rows_is_unchanged_and_has_no_bytes(
    daemon: Daemon,
) -> None:
    """It still moves the frontier."""
    daemon.run(increment(daemon))
    (packed,) = daemon.packed
    assert (packed.mode, packed.size, packed.raw_size) == ("unchanged", 0, 0)
    assert (packed.digest, packed.frontier) == (EMPTY_DIGEST, "f1")
    (file,) = daemon.folder.glob("*.tmp")
    assert file.read_bytes() == b"a.b.c\n"


def test_rows_that_were_all_withheld_are_counted(daemon: Daemon) -> None:
    """Nothing of them leaves, but somebody has to see that they were there."""
    last = daemon.run(increment(daemon, changed=1, names={"0": "drop"}))
    (packed,) = daemon.packed
    assert (packed.mode, packed.quality) == ("unchanged", Quality(1, 1, 0))
    assert isinstance(last, Ended)
    assert last.reasons == {"duplicate_key": 1}


def test_a_lost_frontier_has_a_name_of_its_own(daemon: Daemon) -> None:
    """The reason stands first; nothing was packed."""
    last = daemon.run(replace(increment(daemon), since="lost"))
    assert isinstance(last, Failed)
    assert last.code == "frontier-lost"
    assert last.detail == "restored: the log is behind"
    assert daemon.packed == []


def test_a_full_read_says_how_changes_are_found_from_now_on(daemon: Daemon) -> None:
    """And says nothing where they are not."""
    daemon.run(work(daemon))
    assert Way("fake", ("a=b",)) in daemon.heard
    daemon.run(job(str(daemon.folder)))
    assert not any(isinstance(m, Way) for m in daemon.heard)


def test_a_mode_that_nobody_reads_is_a_defect(daemon: Daemon) -> None:
    """The daemon must not ask for it."""
    last = daemon.run(replace(work(daemon), mode="cdc"))  # type: ignore[arg-type]
    assert isinstance(last, Failed)
    assert last.code == "internal"


# --- going on -----------------------------------------------------------------------


def cut(daemon: Daemon, *, after: int) -> tuple[list[Packed], Job]:
    """The parts of a whole read up to some number, and the job that goes on."""
    daemon.run(work(daemon))
    done = daemon.packed[:after]
    last = done[-1]
    assert last.token is not None
    assert last.base is not None
    resume = Resume(
        token=last.token,
        last=last.last,
        parts=after,
        rows=sum((p.rows for p in done), Rows(0, 0, 0)),
        quality=sum((p.quality for p in done), Quality(0, 0, 0)),
        reasons={"bad-name": 1},
        warnings={},
        frontier="f-before",
        as_of="2026-11-21T07:00:00Z",
        basis="",
    )
    return done, replace(work(daemon), resume=resume)


@pytest.mark.parametrize("after", [1, 2])
def test_a_read_goes_on_after_its_last_part(daemon: Daemon, after: int) -> None:
    """The parts are numbered on, and the sums are those of the whole."""
    _, again = cut(daemon, after=after)
    last = daemon.run(again)
    assert [p.part for p in daemon.packed] == list(range(after + 1, 4))
    assert (daemon.packed[-1].distinct, daemon.packed[-1].final) == (10, True)
    assert isinstance(last, Ended)
    assert (last.rows, last.quality) == (Rows(10, 0, 0), Quality(10, 0, 0))
    assert last.reasons == {"bad-name": 1}


def test_it_counts_as_read_at_the_frontier_of_its_first_part(daemon: Daemon) -> None:
    """What changed since comes with the next increment."""
    _, again = cut(daemon, after=1)
    daemon.run(again)
    assert {p.as_of for p in daemon.packed} == {"2026-11-21T07:00:00Z"}
    assert daemon.packed[-1].frontier == "f-before"
    assert {p.base for p in daemon.packed[:-1]} == {"f-before"}


def test_a_key_that_the_cut_divided_is_not_sent_twice(daemon: Daemon) -> None:
    """Rows of one key: the first counted, those after the cut are duplicates."""
    _, again = cut(daemon, after=1)
    divided = replace(again, source={**again.source, "divided": 1})
    last = daemon.run(divided)
    assert daemon.packed[-1].distinct == 10
    assert isinstance(last, Ended)
    assert last.quality == Quality(11, 1, 0)
    assert last.reasons == {"bad-name": 1, "duplicate_key": 1}


def test_a_job_that_goes_on_travels_whole(daemon: Daemon) -> None:
    """Over the worker's socket."""
    _, again = cut(daemon, after=2)
    assert decode(encode(again)) == again
