# SPDX-License-Identifier: Apache-2.0
"""A run's session: one snapshot for frontiers and rows, and what they are asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa

from connectors.contract import (
    Caps,
    FoundColumn,
    Frontier,
    FrontierLost,
    Highest,
    Increments,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.postgres import changes, numbers, tags
from connectors.postgres.catalog import Table, bound, having, look_up, name_of
from connectors.postgres.columns import Query, query_of
from connectors.postgres.copy import Strange
from connectors.postgres.discover import draft
from connectors.postgres.login import connection, our_errors
from connectors.postgres.rows import Reader, reader
from connectors.postgres.tags import TAG, Tagging
from connectors.sql import (
    Mark,
    from_key,
    in_windows,
    mark_after,
    mark_of,
    token_of,
)
from connectors.tags import TaggedKeys, TaggedPage

CHOSEN_ROWS = 4096
"""Most rows of a page of those that are asked for by their keys."""


@contextmanager
def session(config: Mapping[str, Any], limits: Limits) -> Iterator[PostgresSession]:
    """A session; the snapshot is taken with the first frontier or row.

    Raises:
        SourceError: unreachable, login, right.
    """
    with connection(config, limits) as db:
        version = db.info.server_version
    with ExitStack() as stack:
        yield PostgresSession(config, limits, version, stack)


@dataclass
class PostgresSession:
    """One transaction for rows; the catalogue is asked over short connections.

    Args:
        config: the source's settings.
        limits: of this session.
        version: of the server.
        stack: closes the reader.
    """

    config: Mapping[str, Any] = field(repr=False)
    limits: Limits
    version: int
    stack: ExitStack
    _reader: Reader | None = None
    _floor: str | None = None
    _tables: dict[tuple[str, str], Table | None] = field(default_factory=dict)
    _queries: dict[StreamSpec, Query] = field(default_factory=dict)
    _taggings: dict[StreamSpec, Tagging | None] = field(default_factory=dict)

    def describe(self, stream: StreamSpec) -> Sequence[FoundColumn]:
        """See the contract."""
        name = name_of(stream.table, str(self.config["database"]))
        with connection(self.config, self.limits) as db, our_errors():
            table = self._tables[name] = look_up(db, name)
        if table is None:
            raise SourceError("missing", f"there is no table {'.'.join(name)}")
        return draft(table).columns

    def frontier(self, stream: StreamSpec) -> Frontier:
        """See the contract: the oldest transaction that the snapshot does not see."""
        name = name_of(stream.table, str(self.config["database"]))
        if stream.stamp is not None and self._reader is None:
            with connection(self.config, self.limits) as db, our_errors():
                self._floor = changes.oldest_start(db)
        point = changes.point_of(self._rows().row(changes.statement(name)))
        return changes.frontier_of(replace(point, floor=self._floor), name)

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        """See the contract."""
        return [Slice(stream, self._query(stream).rows)]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        """See the contract."""
        yield from self._resumed(self._query(part.stream), resume)

    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        """See the contract: the rows whose xmin lies between the frontiers."""
        old, new = changes.parsed(since), changes.parsed(until)
        changes.judge(old, new)
        query = self._query(stream)
        with connection(self.config, self.limits) as db:
            table = incremental(db, self._bound(db, stream), stream)
        stamp = changes.stamp_floor(table, stream.stamp, old, new)
        yield from self._resumed(changes.changed(query, old, new, stamp), resume)

    def oldest_writer(self, stream: StreamSpec) -> str | None:
        """See the contract."""
        if self._reader is not None:
            raise SourceError("failed", "the snapshot was taken already")
        name = name_of(stream.table, str(self.config["database"]))
        with connection(self.config, self.limits) as db, our_errors():
            return numbers.oldest_writer(db, name)

    def highest(self, stream: StreamSpec) -> Highest:
        """See the contract."""
        with connection(self.config, self.limits) as db, our_errors():
            return numbers.highest(db, bound(db, stream), str(stream.number))

    def goes_on(self, since: str, until: str) -> None:
        """See the contract."""
        old, new = changes.parsed(since), changes.parsed(until)
        changes.judge(old, new)
        if new.as_of < old.as_of:
            raise FrontierLost("clock", f"it was {old.as_of}, now it is {new.as_of}")

    def server_time(self) -> str:
        """See the contract."""
        with connection(self.config, self.limits) as db, our_errors():
            return changes.clock(db)

    def numbered(
        self,
        stream: StreamSpec,
        windows: Sequence[tuple[int, int | None]],
        resume: str | None = None,
    ) -> Iterator[Page]:
        """See the contract."""
        query = self._query(stream)
        with connection(self.config, self.limits) as db, our_errors():
            table = self._bound(db, stream)
        column = numbers.whole(table, str(stream.number))
        condition = in_windows(column, windows)
        yield from self._resumed(changes.reduced(query, condition), resume)

    def tagging(self, stream: StreamSpec) -> str | None:
        """See the contract."""
        found = self._tagging(stream)
        return None if found is None else found.name

    def tags(self, part: Slice) -> Iterator[TaggedKeys]:
        """See the contract."""
        query = tags.keys_only(self._query(part.stream))
        sql = query.select("", self._tag(part.stream))
        most, held = self.limits.page_rows, self._held(query)
        for batch in held.batches(sql, query.wanted(tags.TAGGED), most):
            yield TaggedKeys(query.rows_of(batch), batch.column(TAG))

    def tagged(
        self, part: Slice, keys: Sequence[pa.RecordBatch] | None = None
    ) -> Iterator[TaggedPage]:
        """See the contract."""
        query, tag = self._query(part.stream), self._tag(part.stream)
        size = self.limits.page_rows
        if keys is not None:  # few rows, each from another place: small pages will do
            size = min(size, CHOSEN_ROWS)
        wanted = query.wanted(tags.TAGGED)
        wheres = [""] if keys is None else tags.conditions(query, keys)
        mark, held = None, self._held(query)
        for where in wheres:
            sql = query.select(f" where {where}" if where else "", tag)
            for batch in held.batches(sql, wanted, size):
                rows = query.rows_of(batch)
                mark = mark_after(rows.num_rows, partial(query.key_at, rows), mark)
                yield TaggedPage(rows, token_of(mark), batch.column(TAG))

    def _tag(self, stream: StreamSpec) -> str:
        """The tag's column.

        Raises:
            SourceError: failed: the rows cannot be digested.
        """
        found = self._tagging(stream)
        if found is None:
            raise SourceError("failed", "the server cannot digest these rows")
        return found.column

    def _tagging(self, stream: StreamSpec) -> Tagging | None:
        if stream not in self._taggings:
            query, found = self._query(stream), None
            if self.version >= tags.SINCE_VERSION:
                with connection(self.config, self.limits) as db, our_errors():
                    found = tags.tagging(db, self._bound(db, stream), stream, query)
            self._taggings[stream] = found
        return self._taggings[stream]

    def _resumed(self, query: Query, resume: str | None) -> Iterator[Page]:
        """The rows after a place; where an index leads to any place, the quick way.

        The first strange value ends that: from the page on that holds it, the rows are
        asked for once more, carefully, in the same snapshot.
        """
        if query.indexed:
            try:
                with closing(self._pages(query.quick, resume)) as quick:
                    for page in quick:
                        resume = page.token
                        yield page
            except Strange:
                pass
            else:
                return
        yield from self._pages(query, resume)

    def _pages(self, query: Query, resume: str | None) -> Generator[Page, None, None]:
        """The rows after a place, asked for in one way.

        Raises:
            Strange: the next page has a value that this way cannot carry.
        """
        where, mark = "", None
        if resume is not None:
            mark = mark_of(resume, len(query.keys))
            condition = from_key(query.parts, mark.key, query.literal, nulls="last")
            where = f" where {condition}"
        sql, resumed = query.select(where), mark
        held = self._held(query, where)
        batches = held.batches(sql, query.wanted(), self.limits.page_rows)
        with closing(batches):
            for batch in batches:
                rows = query.rows_of(batch)
                if resumed is not None:
                    rows, resumed = _without_delivered(query, rows, resumed)
                if rows.num_rows:
                    mark = mark_after(rows.num_rows, partial(query.key_at, rows), mark)
                    yield Page(rows, token_of(mark))

    def _held(self, query: Query, where: str = "") -> Reader:
        """The reader, once what a query reads stays as it was planned.

        Raises:
            SourceError: type: a column has another type by now, whose values a cast
                would change; failed: the table has other rows than the snapshot.
        """
        found, bare = self._rows(), query.quick
        if not bare.fits(found.hold(bare.select(where))):
            raise SourceError("type", "a column's type changed since it was planned")
        return found

    def _rows(self) -> Reader:
        if self._reader is None:
            self._reader = self.stack.enter_context(reader(self.config, self.limits))
        return self._reader

    def _query(self, stream: StreamSpec) -> Query:
        if stream not in self._queries:
            with connection(self.config, self.limits) as db:
                table = self._bound(db, stream)
                self._queries[stream] = planned(db, self.config, table, stream)
        return self._queries[stream]

    def _bound(self, db: psycopg.Connection[Any], stream: StreamSpec) -> Table:
        """The stream's table, looked up once a session.

        Raises:
            SourceError: missing.
        """
        name = name_of(stream.table, db.info.dbname)
        if name not in self._tables:
            self._tables[name] = look_up(db, name)
        return having(self._tables[name], name, stream)


def _without_delivered(
    query: Query, rows: pa.RecordBatch, resumed: Mark
) -> tuple[pa.RecordBatch, Mark | None]:
    """Leave out rows of the mark's key that were delivered.

    Returns:
        the other rows, and what is still to be left out of the next batch.
    """
    found = 0
    while found < min(rows.num_rows, resumed.rows):
        if query.key_at(rows, found) != resumed.key:
            return rows.slice(found), None
        found += 1
    left = resumed.rows - found
    return rows.slice(found), Mark(resumed.key, left) if left else None


def planned(
    db: psycopg.Connection[Any],
    config: Mapping[str, Any],
    table: Table,
    stream: StreamSpec,
) -> Query:
    """How to read a stream of a table, after the server has agreed to do it.

    Raises:
        SourceError: type, right.
    """
    query = query_of(
        table,
        stream,
        server_encoding=db.info.parameter_status("server_encoding") or "UTF8",
        encoding=str(config.get("encoding", "utf-8")),
    )
    with our_errors():
        try:
            db.execute(f"explain {query.select('')}".encode())
        except psycopg.errors.InsufficientPrivilege:
            name = ".".join(table.name)
            raise SourceError(
                "right", f"{config['user']} may not select the columns of {name}"
            ) from None
    return query


def promised(
    db: psycopg.Connection[Any], table: Table, stream: StreamSpec
) -> Increments | None:
    """What increments of a stream of a table rest on; None if there can be none.

    Raises:
        SourceError: missing, type.
    """
    with our_errors():
        foreign_parts = changes.has_foreign_parts(db, table)
    return changes.increments(table, stream.stamp, foreign_parts=foreign_parts)


def incremental(db: psycopg.Connection[Any], table: Table, stream: StreamSpec) -> Table:
    """The stream's table, of which there can be increments.

    Raises:
        SourceError: missing; type: its rows have no transaction id.
    """
    if promised(db, table, stream) is None:
        name = ".".join(stream.table)
        raise SourceError("type", f"{name}: rows of a view have no transaction id")
    return table


def capabilities(config: Mapping[str, Any], stream: StreamSpec) -> Caps:
    """See the contract."""
    with connection(config, Limits()) as db:
        with our_errors():
            table = bound(db, stream)
        query = planned(db, config, table, stream)
        increments = promised(db, table, stream)
    return Caps(
        snapshot=True,
        ordered=True,
        paths={reading.name: reading.path for reading in query.readings},
        increments=increments,
    )
