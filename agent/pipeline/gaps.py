# SPDX-License-Identifier: Apache-2.0
"""Tables with nothing but a growing number: which numbers are still to come.

Rules

1. Numbers are given out in order and committed in any. Above the highest number that
   was read everything is new; below it, only a number that was missing can still come.
   The ledger holds the missing ones, as ranges.
2. A gap closes when its numbers were read. It also closes when no transaction is open
   that began before the gap was seen: whoever took its numbers has given up. Where the
   source does not tell when its oldest transaction began, it stays open.
3. Nothing is ever dropped silently. Gaps older than ``keep`` are handed over once, to
   be looked for by reconcile, and leave the ledger then. More gaps than ``MOST`` are
   refused: such a table is better read in full.
4. It is assumed that a number is taken and used in the same transaction, and that rows
   are only added. Both are said to the people (:data:`ASSUMES`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

ASSUMES = ("rows-only-added", "number-taken-and-used-in-one-transaction")
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
        overdue: gaps that are handed over to reconcile.
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


def started(numbers: Iterable[int], now: datetime) -> Ledger:
    """The ledger after a full read.

    Args:
        numbers: all that were read, growing.
        now: the source's clock after they were read.

    Raises:
        TooManyGaps: they have too many holes.
    """
    high, gaps = None, []
    for number in numbers:
        if high is not None and number > high + 1:
            gaps.append(Gap(high + 1, number - 1, now))
            _few(gaps)
        high = number
    return Ledger(0 if high is None else high, tuple(gaps))


def advanced(
    ledger: Ledger,
    numbers: Sequence[int],
    *,
    now: datetime,
    oldest: datetime | None,
    keep: timedelta,
) -> Advanced:
    """The ledger after its windows were read.

    Args:
        ledger: before.
        numbers: that were read in its windows, growing.
        now: the source's clock after they were read.
        oldest: asked before the snapshot was taken: when the oldest transaction began
            that was open then, or the clock if none was; None if nobody tells.
        keep: how long a gap may stay open.

    Raises:
        TooManyGaps: there would be too many.
    """
    below = [n for n in numbers if n <= ledger.high]
    open_gaps = _punched(ledger.gaps, below)
    closed = [g for g in open_gaps if oldest is not None and oldest > g.seen]
    left = [g for g in open_gaps if g not in closed]
    overdue = [g for g in left if now - g.seen > keep]
    left = [g for g in left if g not in overdue]
    above = [n for n in numbers if n > ledger.high]
    fresh = started([ledger.high, *above], now)
    left += fresh.gaps
    _few(left)
    return Advanced(Ledger(fresh.high, tuple(left)), tuple(closed), tuple(overdue))


def _punched(gaps: Sequence[Gap], numbers: Sequence[int]) -> list[Gap]:
    """The gaps without the numbers, both growing."""
    found: list[Gap] = []
    rest = iter([*numbers, None])
    number = next(rest)
    for gap in gaps:
        first = gap.first
        while number is not None and number <= gap.last:
            if number > first:
                found.append(replace(gap, first=first, last=number - 1))
            if number >= first:
                first = number + 1
            number = next(rest)
        if first <= gap.last:
            found.append(replace(gap, first=first))
    return found


def _few(gaps: Sequence[Gap]) -> None:
    if len(gaps) > MOST:
        raise TooManyGaps(f"more than {MOST} gaps")
