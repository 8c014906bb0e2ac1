# SPDX-License-Identifier: Apache-2.0
"""Tables with a growing number and no other mark, read by the ledger of gaps.

Rules

1. The order is that of the ledger: the oldest writer is asked for, then the snapshot is
   taken, then its numbers are read, then the clock. Rows follow in the same snapshot.
2. A full read looks at the highest number first. What is missing below it has been
   given up, and need not be known, if nobody is open who began before that look; for a
   table with more rows than the ledger has places the read waits a little for that.
3. An increment looks at the numbers in open gaps and from the highest on. The highest
   itself has to be there still: else rows were taken away, and numbers may come again.
   A row without a number would not be seen, so none may be there; nor would one with
   the number of another, so none may come twice.
4. The value of a frontier is the ledger, with the connector's own frontier beside it,
   which tells one source from another. It is that of the snapshot at which a read
   began, and so holds for a read that was cut and went on in another one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from agent.errors import FrontierLost
from agent.pipeline import gaps
from agent.pipeline.gaps import Gap, Ledger, Run, TooManyGaps, advanced
from connectors.contract import (
    ColumnSpec,
    Frontier,
    NumberedSession,
    Page,
    SourceError,
    StreamSpec,
)

if TYPE_CHECKING:
    from agent.model.job import Job
    from connectors.contract import Connector, Session

METHOD = "number"
"""How changes are found, as :class:`Way` says it."""

LOWEST = -(2**63 - 1)
"""Below all numbers."""

KEEP = timedelta(days=1)
"""How long a gap may stay open where nobody tells of writers."""

PATIENCE_S = 15.0
"""How long the full read of a large table waits for its oldest writer."""

PAUSE_S = 0.5

_TWICE = "number-twice: two rows have one number"

WINDOWS = 256
"""Most windows of a statement; near ones are joined."""

Window = tuple[int, int | None]

Paced = Callable[[Iterator[Page]], Iterator[Page]]
"""Gives the same pages, no faster than they may be read."""


class Unfit(Exception):
    """A table cannot be followed by its number; the text says why."""


@dataclass(frozen=True)
class Kept:
    """What the value of a frontier says.

    Args:
        source: the connector's own frontier, of the same snapshot.
        ledger: of the numbers.
    """

    source: str
    ledger: Ledger

    def text(self) -> str:
        """As it is stored."""
        body = {"source": self.source, "ledger": self.ledger.text()}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def kept(value: str) -> Kept:
    """The frontier that was stored.

    Raises:
        FrontierLost: it is none of this method.
    """
    try:
        body = json.loads(value)
        return Kept(str(body["source"]), gaps.parsed(body["ledger"]))
    except (ValueError, TypeError, KeyError) as e:
        raise FrontierLost("unreadable: the stored frontier is no ledger") from e


def session_of(
    session: Session, connector: Connector, job: Job, stream: StreamSpec
) -> NumberedSession | None:
    """The session, if a job goes by numbers: nothing else tells what changed.

    Raises:
        SourceError: as of the connector.
    """
    if job.kind != "pull" or job.mode not in ("full", "incremental"):
        return None
    if stream.number is None or not isinstance(session, NumberedSession):
        return None
    caps = connector.capabilities(job.source, stream)
    return session if caps.increments is None else None


@dataclass(frozen=True)
class Taken:
    """What the numbers of a snapshot said.

    Args:
        windows: where the rows of an increment are.
        assumes: what is relied on.
    """

    windows: tuple[Window, ...]
    assumes: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """Where a run begins that goes by numbers.

    Args:
        frontier: of the run.
        taken: None if the table cannot be followed by its number; then
        unfit: says why.
    """

    frontier: Frontier
    taken: Taken | None
    unfit: str | None = None


@dataclass(frozen=True)
class Before:
    """What was asked before the snapshot.

    Args:
        ledger: of the last read; of a full one: all numbers up to the highest are one
            gap.
        oldest: see ``gaps.advanced``.
    """

    ledger: Ledger
    oldest: datetime | None


def look(
    session: NumberedSession,
    stream: StreamSpec,
    job: Job,
    *,
    rows: int | None,
    sleep: Callable[[float], None],
    paced: Paced,
) -> Looked:
    """Take the snapshot, with what has to be asked before and read first in it.

    Args:
        session: its snapshot is not taken yet.
        stream: what is read.
        job: full or incremental.
        rows: of the table, or None if nobody knows.
        sleep: waits some seconds.
        paced: holds the read of the numbers back.

    Raises:
        FrontierLost: increments cannot go on; its detail begins with why.
        SourceError: the source does not answer; missing, type: there is no such number.
    """
    if job.resume is not None:
        return _resumed(session.frontier(stream), job.resume.frontier, stream)
    if job.mode == "incremental":
        return _changed(session, stream, str(job.since), paced)
    try:
        before = _before_full(session, stream, rows=rows, sleep=sleep)
        at = session.frontier(stream)
    except Unfit as e:
        return Looked(session.frontier(stream), None, str(e))
    try:
        return _read(session, stream, before, at, paced)
    except Unfit as e:
        return Looked(at, None, str(e))


def _resumed(at: Frontier, base: str, stream: StreamSpec) -> Looked:
    """The rest of a full read counts as read when its first part was."""
    try:
        kept(base)
    except FrontierLost:
        return Looked(at, None)
    return Looked(at, Taken((), _assumes(stream)))


def _changed(
    session: NumberedSession, stream: StreamSpec, since: str, paced: Paced
) -> Looked:
    """Where the rows of an increment are, and the ledger after it."""
    known = kept(since)
    old = known.ledger
    if session.highest(stream).nulls:
        raise FrontierLost(_null(stream))
    before = Before(old, _oldest(session, stream))
    at = session.frontier(stream)
    session.goes_on(known.source, at.value)
    empty = old.high == LOWEST
    windows = joined([*old.windows[:-1], (old.high + empty, None)])
    try:
        new, runs = _advanced(session, stream, before, windows, paced)
    except TooManyGaps as e:
        raise FrontierLost(f"gaps-many: {e}") from e
    except Unfit as e:
        raise FrontierLost(str(e)) from e
    if not empty and not any(first <= old.high <= last for first, last in runs):
        raise FrontierLost(f"recreated: the row with the number {old.high} is gone")
    taken = Taken(
        joined(_within(runs, old.windows)),
        _assumes(stream),
    )
    return Looked(_frontier(at, new), taken)


def _before_full(
    session: NumberedSession,
    stream: StreamSpec,
    *,
    rows: int | None,
    sleep: Callable[[float], None],
) -> Before:
    """Look at the highest number, and ask who may still write.

    Raises:
        Unfit: NULL stands in the column.
    """
    found = session.highest(stream)
    if found.nulls:
        raise Unfit(_null(stream))
    if found.number is None:
        return Before(Ledger(LOWEST), _oldest(session, stream))
    seen = _instant(session.server_time())
    oldest, left = _oldest(session, stream), PATIENCE_S
    if rows is None or rows > gaps.MOST:
        while oldest is not None and oldest <= seen and left > 0:
            sleep(PAUSE_S)
            left -= PAUSE_S
            oldest = _oldest(session, stream)
    return Before(Ledger(found.number, (Gap(LOWEST, found.number, seen),)), oldest)


def _null(stream: StreamSpec) -> str:
    return f"number-null: NULL stands in {stream.number}"


def _read(
    session: NumberedSession,
    stream: StreamSpec,
    before: Before,
    at: Frontier,
    paced: Paced,
) -> Looked:
    """The ledger of a full read, from the numbers of its snapshot.

    Raises:
        Unfit: the table has too many holes that may still be filled, or a number twice.
    """
    old, oldest = before.ledger, before.oldest
    settled = oldest is not None and all(oldest > gap.seen for gap in old.gaps)
    windows = old.windows[-1:] if settled else old.windows
    try:
        new, _ = _advanced(session, stream, before, windows, paced)
    except TooManyGaps as e:
        raise Unfit(f"gaps-many: {e}") from e
    taken = Taken((), _assumes(stream))
    return Looked(_frontier(at, new), taken)


def _advanced(
    session: NumberedSession,
    stream: StreamSpec,
    before: Before,
    windows: Sequence[Window],
    paced: Paced,
) -> tuple[Ledger, Sequence[Run]]:
    """The new ledger, and the numbers that were read.

    Raises:
        FrontierLost: a gap was open for too long.
        TooManyGaps: there are.
        Unfit: a number stands twice.
    """
    old = before.ledger
    runs = _runs(paced(session.numbered(_alone(stream), windows)))
    now = _instant(session.server_time())
    found = advanced(old, runs, now=now, oldest=before.oldest, keep=KEEP)
    if found.overdue:
        raise FrontierLost(
            f"gaps-overdue: {len(found.overdue)} gaps since"
            f" {found.overdue[0].seen.isoformat()}, and nobody tells who may fill them"
        )
    return found.ledger, runs


def _frontier(at: Frontier, ledger: Ledger) -> Frontier:
    note = f"{at.note}; numbers to {ledger.high}, {len(ledger.gaps)} gaps"
    return replace(at, value=Kept(at.value, ledger).text(), note=note)


def _assumes(stream: StreamSpec) -> tuple[str, ...]:
    """What is relied on and not proven."""
    return (
        "changes=inserts-only",
        f"number-taken-and-used-in-one-transaction={stream.number}",
        "clock-steps<3s",
    )


def joined(windows: Iterable[Window]) -> tuple[Window, ...]:
    """At most :data:`WINDOWS` windows that cover these, which grow; near ones join."""
    found = tuple(windows)
    if len(found) <= WINDOWS:
        return found
    apart = [b[0] - (a[1] or 0) for a, b in pairwise(found)]
    widest = sorted(range(len(apart)), key=apart.__getitem__)[-(WINDOWS - 1) :]
    starts = [0, *(i + 1 for i in sorted(widest))]
    ends = [*(start - 1 for start in starts[1:]), len(found) - 1]
    return tuple((found[i][0], found[j][1]) for i, j in zip(starts, ends, strict=True))


def _within(runs: Sequence[Run], windows: Sequence[Window]) -> Iterator[Run]:
    """What of the runs lies in the windows; both grow."""
    rest = iter(windows)
    window = next(rest, None)
    for run in runs:
        while window is not None:
            first, last = window
            if first > run[1]:
                break
            begin, end = max(first, run[0]), run[1]
            end = end if last is None else min(last, end)
            if begin <= end:
                yield begin, end
            if last is None or last >= run[1]:
                break
            window = next(rest, None)


def _alone(stream: StreamSpec) -> StreamSpec:
    """The number's column and no other."""
    number = ColumnSpec(str(stream.number), "I", None, None, key=True)
    return replace(stream, columns=(number,), stamp=None)


def _runs(pages: Iterable[Page]) -> list[Run]:
    """Numbers that grow, as runs.

    Raises:
        SourceError: type: they are not of 64 bits.
        TooManyGaps: they have too many holes.
        Unfit: one comes twice.
    """
    found: list[Run] = []
    for page in pages:
        for first, last in _runs_of(page.rows.column(0)):
            if found and first == found[-1][1]:
                raise Unfit(_TWICE)
            if found and first <= found[-1][1] + 1:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        if len(found) > 3 * gaps.MOST:
            raise TooManyGaps(f"more than {3 * gaps.MOST} runs of numbers")
    return found


def _runs_of(column: pa.Array[Any]) -> Iterator[Run]:
    try:
        numbers = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
        raise SourceError("type", "the number is not of 64 bits") from e
    steps = np.diff(numbers)
    if not steps.all():
        raise Unfit(_TWICE)
    ends = np.flatnonzero(steps > 1)
    firsts = numbers[np.concatenate(([0], ends + 1))]
    lasts = numbers[np.concatenate((ends, [len(numbers) - 1]))]
    return zip(firsts.tolist(), lasts.tolist(), strict=True)


def _oldest(session: NumberedSession, stream: StreamSpec) -> datetime | None:
    oldest = session.oldest_writer(stream)
    return None if oldest is None else _instant(oldest)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
