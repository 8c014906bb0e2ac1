# SPDX-License-Identifier: Apache-2.0
"""A run's session: rows in one snapshot; the catalogue over short connections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pymysql
from pymysql.connections import Connection

from connectors.contract import (
    Caps,
    FoundColumn,
    Frontier,
    Highest,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.mysql import changes, numbers
from connectors.mysql.catalog import Column, Table, bound, look_up, name_of
from connectors.mysql.changes import Activity
from connectors.mysql.columns import Query, query_of
from connectors.mysql.discover import draft
from connectors.mysql.login import connected, connection, our_errors, rows
from connectors.mysql.wire import RawConnection
from connectors.sql import (
    PAGE_BYTES,
    from_key,
    in_windows,
    mark_after,
    mark_of,
    token_of,
)


@contextmanager
def session(config: Mapping[str, Any], limits: Limits) -> Iterator[MysqlSession]:
    """A session; the snapshot is taken with the first frontier or row.

    Raises:
        SourceError: unreachable, login.
    """
    db = connected(config, limits, RawConnection)
    try:
        yield MysqlSession(config, limits, db)
    finally:
        with suppress(pymysql.err.Error, OSError):
            db.close()


@dataclass
class MysqlSession:
    """One transaction for rows.

    Args:
        config: the source's settings.
        limits: of this session.
        db: the connection that reads rows.
    """

    config: Mapping[str, Any] = field(repr=False)
    limits: Limits
    db: Connection[Any]
    _activity: Activity | None = None
    _reading: bool = False
    _planned: dict[StreamSpec, tuple[Table, Query]] = field(default_factory=dict)

    def describe(self, stream: StreamSpec) -> Sequence[FoundColumn]:
        """See the contract."""
        name = name_of(stream.table, str(self.config["database"]))
        with connection(self.config, self.limits) as db:
            table = look_up(db, name)
        if table is None:
            raise SourceError("missing", f"there is no table {'.'.join(name)}")
        return draft(table).columns

    def frontier(self, stream: StreamSpec) -> Frontier:
        """See the contract: the earliest time of a row that may not be seen yet."""
        found = self._snapshot()
        name = name_of(stream.table, str(self.config["database"]))
        with connection(self.config, self.limits) as db:
            table = look_up(db, name)
        stamp = None
        if table is not None:
            column = changes.stamp_of(table, stream.stamp)
            stamp = column.name if column else None
        return changes.frontier_of(
            changes.point_of(found, table, stamp), ".".join(name)
        )

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        """See the contract."""
        return [Slice(stream, self._query(stream)[1].rows)]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        """See the contract."""
        _, query = self._query(part.stream)
        yield from self._resumed(query, "", resume)

    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        """See the contract: the rows with a time from the last frontier on."""
        old = changes.parsed(since)
        changes.judge(old, changes.parsed(until))
        table, query = self._query(stream)
        stamp = incremental(table, stream)
        yield from self._resumed(query, changes.condition(stamp, old), resume)

    def oldest_writer(self, stream: StreamSpec) -> str | None:
        """See the contract."""
        if self._activity is not None:
            raise SourceError("failed", "the snapshot was taken already")
        with connection(self.config, self.limits) as db:
            table = bound(db, stream, str(self.config["database"]))
            return numbers.oldest_writer(db, table)

    def highest(self, stream: StreamSpec) -> Highest:
        """See the contract."""
        with connection(self.config, self.limits) as db:
            table = bound(db, stream, str(self.config["database"]))
            return numbers.highest(db, table, str(stream.number))

    def goes_on(self, since: str, until: str) -> None:
        """See the contract."""
        changes.judge(changes.parsed(since), changes.parsed(until))

    def server_time(self) -> str:
        """See the contract."""
        with connection(self.config, self.limits) as db:
            return changes.clock(db)

    def numbered(
        self,
        stream: StreamSpec,
        windows: Sequence[tuple[int, int | None]],
        resume: str | None = None,
    ) -> Iterator[Page]:
        """See the contract."""
        table, query = self._query(stream)
        condition = in_windows(numbers.whole(table, str(stream.number)), windows)
        yield from self._resumed(query, condition, resume)

    def _resumed(self, query: Query, where: str, resume: str | None) -> Iterator[Page]:
        self._snapshot()
        mark = mark_of(resume, len(query.keys)) if resume is not None else None
        after = ""
        if mark is not None:
            after = from_key(query.parts, mark.key, query.literal, nulls="first")
        left = mark.rows if mark else 0
        for raw in self._raw(query, query.select(where, after)):
            rest = raw
            while left and mark and rest.num_rows:
                if query.key_at(rest, 0) != mark.key:
                    left = 0
                    break
                rest, left = rest.slice(1), left - 1
            if rest.num_rows:
                left = 0
                mark = mark_after(rest.num_rows, partial(query.key_at, rest), mark)
                yield Page(query.rows_of(rest), token_of(mark))

    def _raw(self, query: Query, sql: str) -> Iterator[pa.RecordBatch]:
        if self._reading:
            raise SourceError(
                "failed", "the last read was given up; open a new session"
            )
        self._reading = True
        if not isinstance(self.db, RawConnection):
            raise SourceError("failed", "the connection cannot read rows")
        fits = PAGE_BYTES / query.width if query.width else self.limits.page_rows
        most = max(min(int(fits), self.limits.page_rows), 1)
        yield from self.db.pages(sql, query.form, most)
        self._reading = False

    def _snapshot(self) -> Activity:
        """Take the snapshot once, after asking what goes on."""
        if self._activity is None:
            with connection(self.config, self.limits) as db:
                found = changes.activity(db)
            with our_errors():
                rows(self.db, "set transaction isolation level repeatable read")
                rows(self.db, "start transaction with consistent snapshot, read only")
            self._activity = found
        return self._activity

    def _query(self, stream: StreamSpec) -> tuple[Table, Query]:
        if stream not in self._planned:
            with connection(self.config, self.limits) as db:
                self._planned[stream] = planned(db, self.config, stream)
        return self._planned[stream]


def planned(
    db: Connection[Any], config: Mapping[str, Any], stream: StreamSpec
) -> tuple[Table, Query]:
    """The stream's table and how to read it.

    Raises:
        SourceError: missing, type, right.
    """
    extra = [stream.stamp] if stream.stamp else []
    table = bound(db, stream, str(config["database"]), extra)
    return table, query_of(table, stream, config.get("encoding"))


def incremental(table: Table, stream: StreamSpec) -> Column:
    """The column that increments of the stream go by.

    Raises:
        SourceError: missing, type: there is none, or the table has no transactions.
    """
    stamp = changes.stamp_of(table, stream.stamp)
    name = ".".join(table.name)
    if not table.transactional:
        raise SourceError("type", f"{name}: {table.engine or 'a view'} has no snapshot")
    if stamp is None:
        raise SourceError(
            "type", f"{name}: no column is set by the database with every change"
        )
    return stamp


def capabilities(config: Mapping[str, Any], stream: StreamSpec) -> Caps:
    """See the contract."""
    with connection(config, Limits()) as db:
        table, query = planned(db, config, stream)
        stamp = changes.stamp_of(table, stream.stamp)
        found = changes.activity(db)
    return Caps(
        snapshot=table.transactional,
        ordered=True,
        paths={reading.name: reading.path for reading in query.readings},
        increments=changes.increments(table, stamp, found),
    )
