# SPDX-License-Identifier: Apache-2.0
"""Reading a table of SQLite in key order, page by page, in one snapshot."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from connectors.contract import (
    FoundColumn,
    Frontier,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.sql import (
    PAGE_BYTES,
    KeyPart,
    KeyValue,
    Mark,
    from_key,
    mark_after,
    mark_of,
    order_by,
    quoted,
    text_or_bytes,
    token_of,
)
from connectors.sqlite.file import bound, connection, name_of, our_errors, whole
from connectors.sqlite.look import draft
from connectors.sqlite.values import column

FIRST_ROWS = 64
"""Rows of the first page, which tells how wide rows are."""

PAGE_ROWS = 8192
"""Most rows of a page: their Python values live at the same time."""

_OPCODES = 100_000
"""Steps of SQLite's machine between two looks at the clock."""

Row = tuple[Any, ...]


@contextmanager
def session(config: Mapping[str, Any], limits: Limits) -> Iterator[SqliteSession]:
    """A session on one snapshot.

    Raises:
        SourceError: unreachable, right, timeout, failed.
    """
    with connection(config) as db:
        with our_errors():
            (as_of,) = db.execute(
                "select strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
            ).fetchone()
            db.execute("select count(*) from main.sqlite_master").fetchone()
        yield SqliteSession(
            db, limits, str(as_of), str(config.get("encoding", "utf-8"))
        )


@dataclass
class SqliteSession:
    """One connection inside one read transaction.

    Args:
        db: the connection.
        limits: of this session.
        as_of: SQLite's clock just before the snapshot was taken.
        encoding: of texts, a codec of Python.
        clock: seconds, only for the timeout.
    """

    db: sqlite3.Connection
    limits: Limits
    as_of: str
    encoding: str
    clock: Callable[[], float] = field(default=time.monotonic)

    def describe(self, stream: StreamSpec) -> Sequence[FoundColumn]:
        """See the contract."""
        with our_errors():
            return [draft(column) for column in whole(self.db, stream).values()]

    def frontier(self, stream: StreamSpec) -> Frontier:
        """See the contract; SQLite names no snapshot, so the value is the time."""
        return Frontier(self.as_of, self.as_of, f"{name_of(stream)} at {self.as_of}")

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        """See the contract."""
        with our_errors():
            bound(self.db, stream)
            return [Slice(stream, self._estimate(name_of(stream)))]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        """See the contract."""
        with our_errors():
            end = self.clock() + self.limits.statement_timeout_s
            self.db.set_progress_handler(lambda: self.clock() > end, _OPCODES)
            query = self._query(part.stream)
            mark = mark_of(resume, len(query.keys)) if resume is not None else None
            if self.encoding != "utf-8":
                self.db.text_factory = lenient(self.encoding)
            yield from self._pages(query, mark)

    def _pages(self, query: Query, mark: Mark | None) -> Iterator[Page]:
        """Pages; from a text on that is not UTF-8, texts are decoded one by one."""
        while True:
            try:
                for page, place in self._decoded_pages(query, mark):
                    yield page
                    mark = place
            except sqlite3.OperationalError as e:
                # without a code it is Python's own, and its message holds the value
                if hasattr(e, "sqlite_errorcode"):
                    raise
                self.db.text_factory = lenient("utf-8")
            else:
                return

    def _decoded_pages(
        self, query: Query, mark: Mark | None
    ) -> Iterator[tuple[Page, Mark]]:
        cursor = self.db.execute(*query.sql(mark))
        delivered = mark.rows if mark is not None else 0
        rows = min(FIRST_ROWS, self.limits.page_rows)
        while fetched := cursor.fetchmany(rows):
            while mark and delivered and fetched and query.key(fetched[0]) == mark.key:
                del fetched[0]
                delivered -= 1
            if not fetched:
                continue
            delivered = 0
            batch = query.batch(fetched)
            mark = mark_after(len(fetched), lambda i: query.key(fetched[i]), mark)
            yield Page(batch, token_of(mark)), mark
            fits = int(PAGE_BYTES * len(fetched) / max(batch.nbytes, 1))
            rows = max(min(fits, PAGE_ROWS, self.limits.page_rows), 1)

    def _query(self, stream: StreamSpec) -> Query:
        declared = bound(self.db, stream)
        table = f"main.{quoted(name_of(stream))}"
        keys = [i for i, c in enumerate(stream.columns) if c.key]
        if not keys:
            raise SourceError("type", f"{name_of(stream)}: no key column is bound")
        parts = []
        for i in keys:
            name = stream.columns[i].name
            at = f"t.{quoted(name)}"
            if self._mixed(table, quoted(name), stream.columns[i].type):
                at = f"cast({at} as text)"
            parts.append(KeyPart(f"{at} collate binary", declared[name].nullable))
        return Query(stream, table, tuple(keys), tuple(parts))

    def _mixed(self, table: str, name: str, letter: str) -> bool:
        """Whether a key holds values that are one text but not equal to SQLite.

        Such as 1 and '1': they would not stand side by side.
        """
        (kinds,) = self.db.execute(
            f"select group_concat(distinct typeof({name})) from {table}"  # noqa: S608
        ).fetchone()
        found = set((kinds or "").split(",")) - {"null", ""}
        numbers = letter in "NYI" and found <= {"integer", "real"}
        return "blob" in found or (len(found) > 1 and not numbers)

    def _estimate(self, table: str) -> int | None:
        """Rows as of the last ANALYZE."""
        if not self.db.execute(
            "select 1 from main.sqlite_master where name = 'sqlite_stat1'"
        ).fetchone():
            return None
        found = self.db.execute(
            "select stat from main.sqlite_stat1 where tbl = ? and stat is not null",
            (table,),
        ).fetchone()
        return int(str(found[0]).split()[0]) if found else None


@dataclass(frozen=True)
class Query:
    """The statement of a stream.

    Args:
        stream: what is read.
        table: quoted.
        keys: places of the key columns.
        parts: the key columns in ORDER BY.
    """

    stream: StreamSpec
    table: str
    keys: tuple[int, ...]
    parts: tuple[KeyPart, ...]

    def sql(self, mark: Mark | None) -> tuple[str, dict[str, Any]]:
        """The statement from a place on, and its parameters."""
        chosen = ", ".join(f"t.{quoted(c.name)}" for c in self.stream.columns)
        where, values = "", {}
        if mark is not None:
            values = {f"k{i}": v for i, v in enumerate(mark.key)}

            def write(i: int, value: KeyValue) -> str:
                text = (
                    isinstance(value, bytes) or self.parts[i].expression[:4] == "cast"
                )
                return f"cast(:k{i} as text)" if text else f":k{i}"

            where = " where " + from_key(self.parts, mark.key, write, nulls="first")
        return (
            f"select {chosen} from {self.table} as t{where}"  # noqa: S608
            f" order by {order_by(self.parts)}",
            values,
        )

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Rows, at least one, as Arrow."""
        chosen = self.stream.columns
        values = zip(*rows, strict=True)
        arrays = [column(v, c.type) for v, c in zip(values, chosen, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=[c.name for c in chosen])

    def key(self, row: Row) -> Row:
        """The key of a row."""
        return tuple(row[i] for i in self.keys)


def lenient(encoding: str) -> Callable[[bytes], str | bytes]:
    """A text factory that leaves what it cannot decode as bytes."""
    return lambda raw: text_or_bytes(raw, encoding)
