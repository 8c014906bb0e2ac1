# SPDX-License-Identifier: Apache-2.0
"""Reading a source: a connector's session turned into pieces that fit a batch.

The frontier is taken before anything is read. A page that is larger than a batch is cut
into pieces of about even bytes, so that a batch mostly ends where a page ends (only
there is a position to resume from) and one long text does not make a batch too large.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent.child.source import source_faults, stream_of
from agent.pipeline import numbered
from agent.pipeline.numbered import Taken
from connectors.contract import (
    Connector,
    DescribingSession,
    FoundColumn,
    Frontier,
    IncrementalSession,
    Limits,
    NumberedSession,
    Page,
    Session,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.tags import TaggedKeys, TaggedPage, TaggingSession, Tags

if TYPE_CHECKING:
    import pyarrow as pa

    from agent.model.job import Job

LIMITED_TIMEOUT_S = 86_400
"""A limited read may run so long: the server counts the time for which we rest. That
pages keep coming within the statement's own time is watched from outside."""

PAGES_PER_S = 4
"""A page of a read with a limit of rows is what may come in such a part of a second."""

Hold = Callable[[int, int], None]
"""Waits after a page of so many rows and bytes."""

P = TypeVar("P", bound=Page)

Seen = Callable[[Sequence[FoundColumn], bool], None]
"""Takes a table's columns, and whether a job can be done with them."""


@dataclass(frozen=True)
class Piece:
    """Consecutive source rows.

    Args:
        rows: columns as the connector gave them.
        token: position after the last row where a page ends here, else None.
        tags: digests of the rows by their source, one a row, or None.
    """

    rows: pa.RecordBatch
    token: str | None
    tags: Tags | None = None


def _at_once(_rows: int, _size: int) -> None:
    """The hold of a read that nobody holds back."""


@dataclass(frozen=True)
class Reading:
    """A session at its frontier, ready to be read once.

    Args:
        stream: what is read.
        frontier: the point up to which the rows will be complete.
        estimate: rows to expect, or None.
        slices: what to read, in order.
        hold: called after each page.
        taken: what the table's numbers say, if changes are found by them.
        unfit: why they are not, though they are to be; or None.
    """

    session: Session
    stream: StreamSpec
    frontier: Frontier
    estimate: int | None
    slices: tuple[Slice, ...]
    taken: Taken | None = None
    unfit: str | None = None
    hold: Hold = _at_once

    def paced(self, pages: Iterator[P]) -> Iterator[P]:
        """The same pages, no faster than the source can bear and its limits allow."""
        return _paced(pages, self.hold)

    def pieces(
        self, *, raw_bytes: int, max_rows: int, resume: str | None = None
    ) -> Iterator[Piece]:
        """All rows in order, in pieces of about ``raw_bytes`` and ``max_rows`` at most.

        Args:
            raw_bytes: aim for the size of a piece.
            max_rows: most rows of a piece.
            resume: the token after which to begin; only where there is one slice.

        Raises:
            SourceError: the source cannot be read further.
        """
        for part in self.slices:
            for page in self.paced(self.session.read(part, resume)):
                yield from split(page, raw_bytes=raw_bytes, max_rows=max_rows)
                del page  # it is not kept while the next one is read

    def tagging(self) -> str | None:
        """How the source digests the rows; None if it cannot.

        Raises:
            SourceError: the source cannot be read.
        """
        session = self.session
        if not isinstance(session, TaggingSession):
            return None
        return session.tagging(self.stream)

    def tags(self) -> Iterator[TaggedKeys]:
        """The key and tag of every row, in order.

        Raises:
            SourceError: the source cannot be read further.
        """
        for part in self.slices:
            for found in self._tagging_session.tags(part):
                yield found
                size = found.keys.nbytes + found.tags.nbytes
                self.hold(found.keys.num_rows, size)

    def tagged(
        self,
        keys: Sequence[pa.RecordBatch] | None,
        *,
        raw_bytes: int,
        max_rows: int,
    ) -> Iterator[Piece]:
        """All rows, or those of some keys, with tags, in pieces as above.

        Raises:
            SourceError: the source cannot be read further.
        """
        for part in self.slices:
            for page in self.paced(self._tagging_session.tagged(part, keys)):
                yield from _with_tags(
                    page, split(page, raw_bytes=raw_bytes, max_rows=max_rows)
                )

    @property
    def _tagging_session(self) -> TaggingSession:
        if not isinstance(self.session, TaggingSession):
            raise SourceError("failed", "the connector digests no rows")
        return self.session

    def changes(self, since: str, *, raw_bytes: int, max_rows: int) -> Iterator[Piece]:
        """Rows that were inserted or changed after a frontier, in pieces as above.

        Raises:
            SourceError: the source cannot be read further, or tells no changes.
            FrontierLost: the frontier says nothing of this source.
        """
        for page in self.paced(self._changed(since)):
            yield from split(page, raw_bytes=raw_bytes, max_rows=max_rows)

    def _changed(self, since: str) -> Iterator[Page]:
        session, taken = self.session, self.taken
        if taken is not None and isinstance(session, NumberedSession):
            if not taken.windows:
                return iter(())
            return session.numbered(self.stream, taken.windows)
        if not isinstance(session, IncrementalSession):
            raise SourceError("failed", "the connector tells no changes")
        return session.changes(self.stream, since, self.frontier.value)


@contextmanager
def reading(
    connector: Connector,
    job: Job,
    *,
    seen: Seen | None = None,
    hold: Hold | None = None,
) -> Iterator[Reading]:
    """Open the job's source and take its frontier; everything closes on leaving.

    Args:
        connector: of the source.
        job: what to read.
        seen: called with the table's columns, if the connector can say them, and
            whether they are such that the job can be done.
        hold: called after each page, to wait.

    Raises:
        SourceFault: the source cannot be opened or, inside the block, not be read.
    """
    stream = stream_of(job.table, job.items, job.stamp, job.number)
    held = _at_once if hold is None else hold
    with source_faults(), connector.open(job.source, _limits(job)) as session:
        numbers = numbered.session_of(session, connector, job, stream)
        if numbers is not None:
            yield _by_number(numbers, stream, job, seen, held)
        else:
            frontier = session.frontier(stream)
            slices = _planned(session, stream, seen)
            rows = _sum(slices)
            yield Reading(session, stream, frontier, rows, slices, hold=held)


def _limits(job: Job) -> Limits:
    """What the session may cost; a read that may be slowed down takes longer.

    A limited one comes in small pages, too.
    """
    page_rows, timeout_s = min(job.max_rows_per_batch, Limits.page_rows), 0
    if job.pacing is not None and (job.pacing.limited or job.pacing.probe_s):
        timeout_s = LIMITED_TIMEOUT_S
        if slowest := job.pacing.slowest_rows:
            page_rows = max(min(page_rows, int(slowest / PAGES_PER_S)), 1)
    return Limits(
        statement_timeout_s=max(job.statement_timeout_s, timeout_s),
        page_rows=page_rows,
        timezone=job.timezone,
    )


def _by_number(
    session: NumberedSession,
    stream: StreamSpec,
    job: Job,
    seen: Seen | None,
    hold: Hold,
) -> Reading:
    """A session at the ledger of its snapshot; the columns are told before.

    Raises:
        SourceError, FrontierLost: as of ``numbered.look``.
    """
    slices = _planned(session, stream, seen)
    rows = _sum(slices)
    pace = partial(_paced, hold=hold)
    looked = numbered.look(
        session, stream, job, rows=rows, sleep=time.sleep, paced=pace
    )
    return Reading(
        session,
        stream,
        looked.frontier,
        rows,
        slices,
        looked.taken,
        looked.unfit,
        hold,
    )


def _paced(pages: Iterator[P], hold: Hold) -> Iterator[P]:
    """The same pages; after each the hold is called."""
    for page in pages:
        rows, size = page.rows.num_rows, page.rows.nbytes
        yield page
        del page  # it is not kept while the next one is read
        hold(rows, size)


def _planned(
    session: Session, stream: StreamSpec, seen: Seen | None
) -> tuple[Slice, ...]:
    """What to read; the columns are told even where they make that impossible."""
    if seen is None or not isinstance(session, DescribingSession):
        return tuple(session.plan(stream))
    found = session.describe(stream)
    try:
        slices = tuple(session.plan(stream))
    except SourceError:
        seen(found, False)
        raise
    seen(found, True)
    return slices


def split(page: Page, *, raw_bytes: int, max_rows: int) -> Iterator[Piece]:
    """Cut a page at rows into pieces of about even bytes; most pages stay whole.

    A row is never divided: a piece exceeds its share by less than one row.
    """
    rows = page.rows
    size = rows.nbytes
    count = max(round(size / raw_bytes), -(-rows.num_rows // max_rows), 1)
    if count == 1 and rows.num_rows:  # so there is nothing to look for
        yield Piece(rows, page.token)
        return
    share, start = size / count, 0
    while start < rows.num_rows:
        take = _rows_within(rows, start, share=share, max_rows=max_rows)
        start += take
        last = start == rows.num_rows
        yield Piece(rows.slice(start - take, take), page.token if last else None)


def _with_tags(page: TaggedPage, pieces: Iterable[Piece]) -> Iterator[Piece]:
    start = 0
    for piece in pieces:
        size = piece.rows.num_rows
        yield replace(piece, tags=page.tags.slice(start, size))
        start += size


def _rows_within(
    rows: pa.RecordBatch, start: int, *, share: float, max_rows: int
) -> int:
    """How many rows from ``start`` reach ``share`` bytes; at least one (bisection)."""
    low, high = 1, min(rows.num_rows - start, max_rows)
    while low < high:
        middle = (low + high) // 2
        if rows.slice(start, middle).nbytes < share:
            low = middle + 1
        else:
            high = middle
    return low


def _sum(slices: tuple[Slice, ...]) -> int | None:
    estimates = [s.estimate for s in slices if s.estimate is not None]
    return sum(estimates) if len(estimates) == len(slices) else None
