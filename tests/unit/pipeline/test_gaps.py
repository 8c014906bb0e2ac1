# SPDX-License-Identifier: Apache-2.0
"""The gap ledger forgets no number that can still come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline import gaps
from agent.pipeline.gaps import (
    Gap,
    Ledger,
    TooManyGaps,
    advanced,
    parsed,
    started,
)
from tests.support.gaps import runs_of
from tests.support.tries import tries

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def at(seconds: int) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_a_full_read_leaves_its_holes_as_gaps() -> None:
    """Numbers that are missing below the highest one may still come."""
    found = started(runs_of([1, 2, 5, 6, 9]), NOON)
    assert found == Ledger(9, (Gap(3, 4, NOON), Gap(7, 8, NOON)))
    assert found.windows == ((3, 4), (7, 8), (10, None))
    assert started([], NOON) == Ledger(0)


def test_a_gap_that_is_filled_closes() -> None:
    """What was filled is missing no more; a gap filled in the middle becomes two."""
    ledger = Ledger(9, (Gap(2, 8, NOON),))
    found = advanced(ledger, [*runs_of([5, 8, 12])], now=at(9), oldest=None, keep=DAY)
    assert found.ledger == Ledger(
        12, (Gap(2, 4, NOON), Gap(6, 7, NOON), Gap(10, 11, at(9)))
    )
    assert found.given_up == ()


def test_a_gap_stays_while_an_older_writer_is_open() -> None:
    """A transaction that began before the gap was seen may still fill it."""
    ledger = Ledger(9, (Gap(2, 8, at(10)),))
    found = advanced(ledger, [], now=at(99), oldest=at(10), keep=DAY)
    assert found.ledger == ledger


def test_a_gap_closes_when_no_older_writer_is_open() -> None:
    """Numbers of a rolled-back transaction are given up, and told."""
    ledger = Ledger(9, (Gap(2, 8, at(10)),))
    found = advanced(ledger, [], now=at(99), oldest=at(11), keep=DAY)
    assert (found.ledger, found.given_up) == (Ledger(9), ledger.gaps)


def test_a_gap_is_kept_where_nobody_tells() -> None:
    """Without knowledge of writers a gap stays for a day, then is overdue."""
    ledger = Ledger(9, (Gap(2, 8, NOON),))
    assert advanced(ledger, [], now=NOON + DAY, oldest=None, keep=DAY).ledger == ledger
    found = advanced(ledger, [], now=at(1) + DAY, oldest=None, keep=DAY)
    assert (found.ledger, found.overdue) == (Ledger(9), ledger.gaps)


def test_a_writer_that_is_open_for_days_keeps_its_gap() -> None:
    """It may still commit: nothing is overdue as long as somebody tells of it."""
    ledger = Ledger(9, (Gap(2, 8, NOON),))
    found = advanced(ledger, [], now=NOON + 9 * DAY, oldest=at(-1), keep=DAY)
    assert (found.ledger, found.overdue) == (ledger, ())


def test_numbers_beside_the_windows_change_nothing() -> None:
    """Windows that were joined give numbers that are known already."""
    ledger = Ledger(20, (Gap(2, 3, NOON), Gap(9, 9, NOON), Gap(15, 18, NOON)))
    found = advanced(
        ledger, [(3, 8), (12, 15), (17, 22)], now=at(9), oldest=None, keep=DAY
    )
    assert found.ledger == Ledger(
        22, (Gap(2, 2, NOON), Gap(9, 9, NOON), Gap(16, 16, NOON))
    )


def test_too_many_gaps_are_refused() -> None:
    """A table with ten thousand holes is better read in full."""
    with pytest.raises(TooManyGaps):
        started(runs_of(range(0, 3 * gaps.MOST, 2)), NOON)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"high":1}', '{"high":1,"gaps":[[1]]}',
     '{"high":9,"gaps":[[3,2,"2026-11-21T12:00:00+00:00"]]}',
     '{"high":1,"gaps":[[3,4,"2026-11-21T12:00:00+00:00"]]}'],
)  # fmt: skip
def test_what_is_no_ledger_is_refused(text: str) -> None:
    """A damaged ledger is a ValueError, never a smaller ledger."""
    with pytest.raises(ValueError, match=r".+"):
        parsed(text)


WRITERS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(1, 9), st.booleans()), max_size=40
)


@tries(300)
@given(writers=WRITERS, pause=st.integers(0, 3))
def test_no_committed_number_is_ever_missed(
    writers: list[tuple[int, int, bool]], pause: int
) -> None:
    """Numbers taken in order and committed in any order are all read in the end.

    Each writer takes the next number at its start, lasts for some time, and commits or
    gives up. A read asks for the oldest open writer, takes its snapshot a little later,
    and looks at the clock when it is done.
    """
    start, plan = 0, []
    for number, (wait, lasts, commits) in enumerate(writers, 1):
        start += wait
        plan.append((number, start, start + lasts, commits))
    ledger, seen = Ledger(0), set[int]()
    for asked in range(0, start + 40, 3 + pause):
        running = [begin for _, begin, end, _ in plan if begin <= asked < end]
        there = [n for n, _, end, commits in plan if commits and end <= asked + 1]
        read = sorted(
            n for n in there for low, high in ledger.windows
            if n >= low and (high is None or n <= high)
        )  # fmt: skip
        oldest = at(min(running, default=asked))
        found = advanced(
            ledger, [*runs_of(read)], now=at(asked + 2), oldest=oldest, keep=DAY
        )
        ledger = parsed(found.ledger.text())
        assert found.ledger == ledger
        seen |= set(read)
    assert seen == {n for n, _, _, commits in plan if commits}
    assert ledger.gaps == ()
