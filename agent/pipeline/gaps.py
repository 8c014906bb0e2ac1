# SPDX-License-Identifier: Apache-2.0
"""Tables with nothing but a growing number: which numbers are still to come.

Rules

1. Numbers are given out in order and committed in any. Above the highest number that
   was read everything is new; below it, only a number that was missing can still come.
   The ledger holds the missing ones, as ranges.
2. A gap closes when its numbers were read. It also closes when no transaction is open
   that began before the gap was seen: whoever took its numbers has given up. Where the
   source does not tell when its oldest transaction began, it stays open.
3. Nothing is ever dropped silently. Where the source does not tell, gaps older than
   ``keep`` are overdue: the table is to be read in full. More gaps than ``MOST`` are
   refused for the same reason.
4. It is assumed that a number is taken and used in the same transaction, and that rows
   are only added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

Run = tuple[int, int]
"""The first and the last of consecutive numbers."""

MOST = 10_000
"""Most gaps of a ledger."""


class TooManyGaps(Exception):
    """The ledger would grow beyond :data:`MOST` gaps."""


@dataclass(frozen=True)
class Gap:
    """Numbers that were missing.

    Args:
        first: the lowest.
        last: the highest.
        seen: when they were first missed, by the source's clock after that read: who
            took one of them had begun by then.
    """

    first: int
    last: int
    seen: datetime


@dataclass(frozen=True)
class Ledger:
    """What was read of a table.

    Args:
        high: the highest number that was read; all below are read or in a gap.
        gaps: in order, without overlap.
    """

    high: int
    gaps: tuple[Gap, ...] = ()

    def text(self) -> str:
        """As it is stored."""
        gaps = [[g.first, g.last, g.seen.isoformat()] for g in self.gaps]
        return json.dumps({"high": self.high, "gaps": gaps}, separators=(",", ":"))

    @property
    def windows(self) -> tuple[tuple[int, int | None], ...]:
        """What to read: each gap, and everything above; None is no end."""
        return (*((g.first, g.last) for g in self.gaps), (self.high + 1, None))


@dataclass(frozen=True)
class Advanced:
    """A ledger after a read.

    Args:
        ledger: the new one.
        given_up: gaps that closed although nothing filled them.
        overdue: gaps that were open for too long; only a full read helps.
    """

    ledger: Ledger
    given_up: tuple[Gap, ...]
    overdue: tuple[Gap, ...]


def parsed(text: str) -> Ledger:
    """The ledger that was stored.

    Raises:
        ValueError: it is none.
    """
    try:
        body = json.loads(text)
        gaps = tuple(
            Gap(int(first), int(last), datetime.fromisoformat(seen))
            for first, last, seen in body["gaps"]
        )
        ledger = Ledger(int(body["high"]), gaps)
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"not a ledger: {type(e).__name__}") from None
    before = None
    for gap in gaps:
        if gap.first > gap.last or (before is not None and gap.first <= before):
            raise ValueError("not a ledger: gaps out of order")
        before = gap.last
    if before is not None and before > ledger.high:
        raise ValueError("not a ledger: a gap above the highest number")
    return ledger


def started(runs: Iterable[Run], now: datetime) -> Ledger:
    """The ledger after a full read.

    Args:
        runs: of all numbers that were read, growing.
        now: the source's clock after they were read.

    Raises:
        TooManyGaps: they have too many holes.
    """
    high, gaps = None, []
    for first, last in runs:
        if high is not None and first > high + 1:
            gaps.append(Gap(high + 1, first - 1, now))
            _few(gaps)
        high = last
    return Ledger(0 if high is None else high, tuple(gaps))


def advanced(
    ledger: Ledger,
    runs: Sequence[Run],
    *,
    now: datetime,
    oldest: datetime | None,
    keep: timedelta,
) -> Advanced:
    """The ledger after its windows were read.

    Args:
        ledger: before.
        runs: of numbers that were read, in its windows or beside them, growing.
        now: the source's clock after they were read.
        oldest: asked before the snapshot was taken: when the oldest transaction began
            that was open then, or the clock if none was; None if nobody tells.
        keep: how long a gap may stay open where nobody tells.

    Raises:
        TooManyGaps: there would be too many.
    """
    open_gaps = _punched(ledger.gaps, runs)
    closed = [g for g in open_gaps if oldest is not None and oldest > g.seen]
    left = [g for g in open_gaps if oldest is None or oldest <= g.seen]
    overdue = [g for g in left if oldest is None and now - g.seen > keep]
    left = [g for g in left if oldest is not None or now - g.seen <= keep]
    above = [(first, last) for first, last in runs if last > ledger.high]
    fresh = started([(ledger.high, ledger.high), *_after(above, ledger.high)], now)
    left += fresh.gaps
    _few(left)
    return Advanced(Ledger(fresh.high, tuple(left)), tuple(closed), tuple(overdue))


def _after(runs: Iterable[Run], number: int) -> Iterator[Run]:
    """What of runs that end above a number lies above it."""
    return ((max(first, number + 1), last) for first, last in runs)


def _punched(gaps: Sequence[Gap], runs: Iterable[Run]) -> list[Gap]:
    """The gaps without the numbers, both growing."""
    found: list[Gap] = []
    rest = iter(runs)
    run = next(rest, None)
    for gap in gaps:
        first = gap.first
        while run is not None and run[0] <= gap.last:
            if run[0] > first:
                found.append(replace(gap, first=first, last=run[0] - 1))
            first = max(first, run[1] + 1)
            if run[1] > gap.last:
                break  # it reaches into the next gap
            run = next(rest, None)
        if first <= gap.last:
            found.append(replace(gap, first=first))
    return found


def _few(gaps: Sequence[Gap]) -> None:
    if len(gaps) > MOST:
        raise TooManyGaps(f"more than {MOST} gaps")
