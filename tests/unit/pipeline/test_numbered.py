# SPDX-License-Identifier: Apache-2.0
"""A table with nothing but a growing number, from its full read through increments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import FrontierLost
from agent.model.batch import Quality, Rows
from agent.model.job import Job, Resume
from agent.pipeline import gaps, numbered
from agent.pipeline.extract import reading
from agent.pipeline.gaps import Gap, Ledger
from agent.pipeline.numbered import KEEP, LOWEST, WINDOWS, Kept, Looked, joined, kept
from connectors.contract import (
    Caps,
    ColumnSpec,
    Frontier,
    Highest,
    Limits,
    Page,
    Slice,
    StreamSpec,
)
from connectors.contract import FrontierLost as Lost
from tests.support.fake_source import job
from tests.support.tries import tries

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NUMBER = ColumnSpec("seq", "I", None, None, key=True)
STREAM = StreamSpec(("log",), (ColumnSpec("id", "C", 9, None, key=True),), number="seq")


@dataclass(frozen=True)
class Writer:
    """Takes a number, and commits or gives up some seconds later."""

    number: int
    begins: int
    ends: int
    commits: bool = True


@dataclass
class Server:
    """A session on a table; each question takes a second."""

    writers: Sequence[Writer]
    now: int = 0
    tells: bool = True
    nulls: bool = False
    since: str = "here"
    asked: list[str] = field(default_factory=list)
    snapshot: int | None = None

    def _at(self, what: str) -> int:
        self.asked.append(what)
        self.now += 1
        return self.now

    def _there(self, moment: int) -> list[int]:
        return sorted(w.number for w in self.writers if w.commits and w.ends <= moment)

    def oldest_writer(self, stream: StreamSpec) -> str | None:
        at = self._at("oldest")
        open_now = [w.begins for w in self.writers if w.begins <= at < w.ends]
        return instant(min(open_now, default=at)).isoformat() if self.tells else None

    def highest(self, stream: StreamSpec) -> Highest:
        return Highest(max(self._there(self._at("highest")), default=None), self.nulls)

    def server_time(self) -> str:
        return instant(self._at("clock")).isoformat()

    def goes_on(self, since: str, until: str) -> None:
        if since != until:
            raise Lost("restored", "it went back")

    def frontier(self, stream: StreamSpec) -> Frontier:
        self.snapshot = self._at("snapshot")
        return Frontier(self.since, "2026-11-21T12:00:00Z", "at noon")

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        return [Slice(stream, None)]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        return self.numbered(part.stream, ((LOWEST, None),))

    def numbered(
        self,
        stream: StreamSpec,
        windows: Sequence[tuple[int, int | None]],
        resume: str | None = None,
    ) -> Iterator[Page]:
        assert self.snapshot is not None
        self.asked.append(f"numbers {windows[-1][0]}")
        found = within(self._there(self.snapshot), windows)
        size = 3 if len(found) < 100 else 5000
        for start in range(0, len(found), size):
            rows = pa.record_batch({"seq": pa.array(found[start : start + size])})
            yield Page(rows, "")


@dataclass
class Door:
    """The connector of a server."""

    server: Server

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        return Caps(False, True, {})

    @contextmanager
    def open(self, config: Mapping[str, Any], limits: Limits) -> Iterator[Server]:
        yield self.server


def instant(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


def within(
    numbers: Iterable[int], windows: Sequence[tuple[int, int | None]]
) -> list[int]:
    if len(windows) == 1:  # many numbers are looked for in one
        ((low, high),) = windows
        return [n for n in numbers if n >= low and (high is None or n <= high)]
    return [n for n in numbers if any(within([n], (w,)) for w in windows)]


def committed(*numbers: int) -> list[Writer]:
    return [Writer(n, -100, -99) for n in numbers]


def work(since: str | None = None, **changes: Any) -> Job:
    mode = "full" if since is None else "incremental"
    return job("", mode=mode, since=since, number="seq", **changes)


def look(server: Server, given: Job, *, rows: int | None = 10) -> Looked:
    slept = count()

    def sleep(seconds: float) -> None:
        assert next(slept) < 100
        server.now += 1

    return numbered.look(server, STREAM, given, rows=rows, sleep=sleep, paced=iter)


def ledger(looked: Looked) -> Ledger:
    return kept(looked.frontier.value).ledger


def since(high: int, *missing: Gap, source: str = "here") -> str:
    return Kept(source, Ledger(high, missing)).text()


# --- full reads ---------------------------------------------------------------------


def test_holes_that_a_writer_may_fill_are_gaps_after_a_full_read() -> None:
    """Below the lowest number, too: the first of all may commit last."""
    server = Server([*committed(2, 3, 6), Writer(4, -5, 99)])
    found = ledger(look(server, work()))
    assert [(g.first, g.last) for g in found.gaps] == [(LOWEST, 1), (4, 5)]
    assert found.high == 6


def test_writers_are_asked_for_before_the_snapshot_and_numbers_read_in_it() -> None:
    """The clock comes last: who took a missing number had begun by then."""
    server = Server([*committed(1, 3), Writer(2, -5, 99)])
    look(server, work())
    assert server.asked == [
        *("highest", "clock", "oldest", "snapshot"),
        *("numbers 4", "clock"),
    ]


def test_old_holes_of_a_large_table_are_not_looked_for() -> None:
    """Nobody is open who began before the look at its end: they were given up."""
    server = Server([*committed(1, 500_000), Writer(500_001, -5, 12)])
    looked = look(server, work(), rows=gaps.MOST + 1)
    assert ledger(looked) == Ledger(500_001)
    assert server.asked.count("oldest") > 1
    assert "numbers 500001" in server.asked


def test_a_writer_that_stays_open_does_not_hold_up_a_full_read() -> None:
    """After some seconds all numbers are read instead."""
    server = Server([*committed(1, 9), Writer(4, -5, 10**6)])
    found = ledger(look(server, work(), rows=None))
    assert [(g.first, g.last) for g in found.gaps] == [(LOWEST, 0), (2, 8)]


def test_an_empty_table_has_a_ledger_that_begins_below_all_numbers() -> None:
    """Its first row may bear any number."""
    server = Server([])
    value = look(server, work()).frontier.value
    server = Server(committed(-7))
    looked = look(server, work(value))
    assert looked.taken is not None
    assert within([-7], looked.taken.windows) == [-7]


def test_a_table_with_too_many_holes_is_unfit() -> None:
    """Nobody tells of writers, so that all of them would have to be kept."""
    server = Server(committed(*range(0, 2 * gaps.MOST + 10, 2)), tells=False)
    looked = look(server, work())
    assert looked.taken is None
    assert str(looked.unfit).startswith("gaps-many: ")
    assert looked.frontier.value == "here"


def test_a_row_without_a_number_makes_a_table_unfit() -> None:
    """An increment would never see it."""
    looked = look(Server(committed(1), nulls=True), work())
    assert str(looked.unfit).startswith("number-null: ")
    assert (looked.taken, looked.frontier.value) == (None, "here")


@pytest.mark.parametrize("numbers", [(1, 1), (1, 2, 3, 3, 4)], ids=["page", "pages"])
def test_a_number_that_stands_twice_makes_a_table_unfit(
    numbers: tuple[int, ...],
) -> None:
    """A late row with a number that was read would never be looked for."""
    looked = look(Server(committed(*numbers), tells=False), work())
    assert str(looked.unfit).startswith("number-twice: ")
    assert (looked.taken, looked.frontier.value) == (None, "here")


def test_what_nobody_proves_is_said() -> None:
    """Changes and deletes are not seen, and how numbers are given out is not either."""
    taken = look(Server([]), work()).taken
    assert taken is not None
    assert taken.assumes == (
        "changes=inserts-only",
        "number-taken-and-used-in-one-transaction=seq",
        "clock-steps<3s",
    )


# --- increments ---------------------------------------------------------------------


def test_an_increment_reads_gaps_and_what_is_new_and_nothing_else() -> None:
    """The row with the highest number is looked at, and not read again."""
    server = Server([*committed(1, 3, 4, 5, 6, 9), Writer(2, -5, 99)])
    looked = look(server, work(since(5, Gap(2, 3, instant(0)))))
    assert looked.taken is not None
    assert looked.taken.windows == ((3, 3), (6, 6), (9, 9))
    assert server.asked[:3] == ["highest", "oldest", "snapshot"]


def test_an_increment_without_new_numbers_reads_no_rows() -> None:
    """And its gaps close, since nobody is open."""
    looked = look(Server(committed(1, 5)), work(since(5, Gap(2, 4, instant(-9)))))
    assert looked.taken is not None
    assert looked.taken.windows == ()
    assert ledger(looked) == Ledger(5)


@pytest.mark.parametrize(
    ("server", "value", "reason"),
    [
        (Server(committed(1)), "{}", "unreadable"),
        (Server(committed(1)), '{"source":"","ledger":"{}"}', "unreadable"),
        (Server(committed(1, 2)), since(9), "recreated"),
        (Server(committed(1), nulls=True), since(1), "number-null"),
        (Server(committed(1, 2, 2)), since(1), "number-twice"),
        (Server(committed(1, 2, 3, 3)), since(1), "number-twice"),
        (
            Server(committed(5), tells=False),
            since(5, Gap(2, 3, NOON - KEEP)),
            "gaps-overdue",
        ),
        (
            Server(committed(*range(1, 2 * gaps.MOST + 10, 2))),
            since(1),
            "gaps-many",
        ),
    ],
)
def test_increments_that_cannot_go_on_have_a_name(
    server: Server, value: str, reason: str
) -> None:
    """A full read follows; it reads what they would have missed."""
    with pytest.raises(FrontierLost) as caught:
        look(server, work(value))
    assert caught.value.detail.startswith(f"{reason}: ")


def test_another_source_is_told_by_the_connector() -> None:
    """Before a number is read: they mean nothing there."""
    server = Server(committed(1))
    with pytest.raises(Lost):
        look(server, work(since(1, source="elsewhere")))
    assert not any(a.startswith("numbers") for a in server.asked)


def test_a_read_that_goes_on_keeps_the_ledger_of_its_first_part() -> None:
    """What was committed since comes with the next increment."""
    server = Server(committed(1, 2, 3, 4))
    looked = look(server, replace(work(), resume=resumed(since(3))))
    assert looked.taken is not None
    assert server.asked == ["snapshot"]
    assert look(server, replace(work(), resume=resumed("xmin"))).taken is None


def resumed(base: str) -> Resume:
    none = Rows(0, 0, 0), Quality(0, 0, 0)
    return Resume("t", None, 1, *none, {}, {}, base, "", "")


@pytest.mark.parametrize("known", [None, since(2)])
def test_the_numbers_are_read_as_kindly_as_the_rows(known: str | None) -> None:
    """The pass over the numbers alone is held back page by page as well."""
    held: list[int] = []
    server = Server([*committed(1, 2, 3, 4, 5), Writer(9, -5, 99)])
    door: Any = Door(server)
    with reading(door, work(known), hold=lambda rows, _: held.append(rows)):
        assert held == ([3, 2] if known is None else [3, 1])


# --- windows ------------------------------------------------------------------------


def test_many_windows_are_joined_where_they_are_near() -> None:
    """All are covered; as few numbers as can be come again."""
    windows = [(10 * i, 10 * i + 1) for i in range(2 * WINDOWS)]
    windows[7:] = [(a + 1000, b + 1000) for a, b in windows[7:]]
    found = joined([*windows, (10**6, None)])
    assert len(found) == WINDOWS
    assert found[-1] == (10**6, None)
    assert all(a[1] is not None and a[1] < b[0] for a, b in pairwise(found))
    assert all(within((a, b), found) == [a, b] for a, b in windows)
    assert any(last == windows[6][1] for _, last in found)


# --- all of it ----------------------------------------------------------------------

WRITERS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from((1, 2, 25)), st.booleans()),
    min_size=2,
    max_size=30,
)


@tries(60)
@given(
    plan=WRITERS, begin=st.integers(-5, 15), large=st.booleans(), tells=st.booleans()
)
def test_no_number_that_commits_is_missed_beside_a_full_read(
    plan: list[tuple[int, int, bool]], begin: int, large: bool, tells: bool
) -> None:
    """A full read at any moment and increments after it read every committed number."""
    start, writers = 0, []
    for number, (wait, lasts, commits) in enumerate(plan, 1):
        start += wait
        writers.append(Writer(number, start, start + lasts, commits))
    server = Server(writers, now=begin, tells=tells)
    value = look(server, work(), rows=None if large else 5).frontier.value
    assert server.snapshot is not None
    seen = set(server._there(server.snapshot))
    while server.now < begin + start + 60:
        server.now += 3
        looked = look(server, work(value))
        assert looked.taken is not None
        value = looked.frontier.value
        seen |= set(within(server._there(server.snapshot), looked.taken.windows))
    assert seen == {w.number for w in writers if w.commits}
