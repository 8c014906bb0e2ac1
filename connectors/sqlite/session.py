# SPDX-License-Identifier: Apache-2.0
"""Reading a table of SQLite in key order, page by page, in one snapshot."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    closing,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import pyarrow as pa

from connectors.ahead import ahead
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
from connectors.sqlite.columnar import Reader
from connectors.sqlite.errors import our_errors
from connectors.sqlite.file import (
    bound,
    connection_and_handle,
    name_of,
    rowid_name,
    whole,
)
from connectors.sqlite.handle import Handle, functions
from connectors.sqlite.look import draft
from connectors.sqlite.values import column, finished

FIRST_ROWS = 64
"""Rows that are fetched at first; they tell how wide rows are."""

FETCH_ROWS = 512
"""Most rows that are fetched at once: their Python values fit into the processor's
cache, which makes them half as dear as those of a page."""

_OPCODES = 1_000_000
"""Steps of SQLite's machine between two looks at the clock."""

Row = tuple[Any, ...]
Texts = Callable[[bytes], str | bytes]
Arrived = tuple[pa.RecordBatch, Mark]
"""Rows, and the place after them."""


@contextmanager
def session(config: Mapping[str, Any], limits: Limits) -> Iterator[SqliteSession]:
    """A session on one snapshot.

    Raises:
        SourceError: unreachable, right, timeout, failed.
    """
    with connection_and_handle(config, functions()) as (db, handle):
        with our_errors():
            (as_of,) = db.execute(
                "select strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
            ).fetchone()
            db.execute("select count(*) from main.sqlite_master").fetchone()
        encoding = str(config.get("encoding", "utf-8"))
        yield SqliteSession(db, handle, limits, str(as_of), encoding)


@dataclass
class SqliteSession:
    """One connection inside one read transaction.

    Args:
        db: the connection.
        handle: of the connection, or None if it cannot be had.
        limits: of this session.
        as_of: SQLite's clock just before the snapshot was taken.
        encoding: of texts, a codec of Python.
        clock: seconds, only for the timeout.
    """

    db: sqlite3.Connection
    handle: Handle | None
    limits: Limits
    as_of: str
    encoding: str
    clock: Callable[[], float] = field(default=time.monotonic)

    def describe(self, stream: StreamSpec) -> Sequence[FoundColumn]:
        """See the contract."""
        with self._turn(), our_errors():
            return [draft(column) for column in whole(self.db, stream).values()]

    def frontier(self, stream: StreamSpec) -> Frontier:
        """See the contract; SQLite names no snapshot, so the value is the time."""
        return Frontier(self.as_of, self.as_of, f"{name_of(stream)} at {self.as_of}")

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        """See the contract."""
        with self._turn(), our_errors():
            bound(self.db, stream)
            return [Slice(stream, self._estimate(name_of(stream)))]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        """See the contract."""
        with self._turn(), our_errors():
            if not self.db.in_transaction:  # SQLite ends one after some errors
                raise SourceError("failed", "the snapshot is gone")
            end = self.clock() + self.limits.statement_timeout_s
            self.db.set_progress_handler(lambda: self.clock() > end, _OPCODES)
            query = self._query(part.stream)
            mark = mark_of(resume, len(query.keys)) if resume is not None else None
        if query.plain and self.handle is not None:
            with closing(ahead(self._columns(self.handle, query, mark))) as pages:
                yield from pages
        else:
            with our_errors():
                yield from self._pages(query, mark)

    def _turn(self) -> AbstractContextManager[object]:
        """The connection for this thread alone: pages may be read in another one."""
        return nullcontext() if self.handle is None else self.handle.turn

    def _columns(
        self, handle: Handle, query: Query, mark: Mark | None
    ) -> Generator[Page, None, None]:
        statement = handle.prepare(*query.sql(mark, keyed=True))
        try:
            yield from Reader(statement, query, self.limits, mark).pages()
        finally:
            handle.finished(statement)

    def _pages(self, query: Query, mark: Mark | None) -> Iterator[Page]:
        """Pages of what is fetched; one ends where a column comes in another type."""
        parts: list[pa.RecordBatch] = []
        at, size, rows = mark, 0, 0
        for part, after in self._parts(query, mark):
            full = size >= PAGE_BYTES or rows + part.num_rows > self.limits.page_rows
            if parts and at and (full or part.schema != parts[0].schema):
                yield Page(query.page(parts), token_of(at))
                parts, size, rows = [], 0, 0
            parts.append(part)
            at, rows = after, rows + part.num_rows
            size += part.get_total_buffer_size()
        if parts and at:
            yield Page(query.page(parts), token_of(at))

    def _parts(self, query: Query, mark: Mark | None) -> Iterator[Arrived]:
        """What is fetched at once, and the place after it."""
        if query.plain and mark is not None:
            mark = Mark(tuple(map(_key_value, mark.key)), mark.rows)
        texts = bytes if query.plain else lenient(self.encoding)
        with self._texts(texts):
            cursor = self.db.execute(*query.sql(mark, keyed=False))
        delivered = mark.rows if mark is not None else 0
        most = min(FETCH_ROWS, self.limits.page_rows)
        rows = min(FIRST_ROWS, most)
        while fetched := self._fetched(cursor, rows, texts):
            while mark and delivered and fetched and query.key(fetched[0]) == mark.key:
                del fetched[0]
                delivered -= 1
            if not fetched:
                continue
            delivered = 0
            batch = query.batch(fetched)
            mark = mark_after(len(fetched), partial(_key_at, query, fetched), mark)
            fits = int(
                PAGE_BYTES * len(fetched) / max(batch.get_total_buffer_size(), 1)
            )
            rows = max(min(fits, most), 1)
            del fetched
            yield batch, mark

    def _fetched(self, cursor: sqlite3.Cursor, rows: int, texts: Texts) -> list[Row]:
        with self._texts(texts):
            return cursor.fetchmany(rows)

    @contextmanager
    def _texts(self, factory: Texts) -> Iterator[None]:
        """How texts come meanwhile; names of columns and tables come as ``str``."""
        self.db.text_factory = factory
        try:
            yield
        finally:
            self.db.text_factory = str

    def _query(self, stream: StreamSpec) -> Query:
        declared = bound(self.db, stream)
        table = f"main.{quoted(name_of(stream))}"
        keys = [i for i, c in enumerate(stream.columns) if c.key]
        if not keys:
            raise SourceError("type", f"{name_of(stream)}: no key column is bound")
        own = rowid_name(self.db, name_of(stream))
        parts = []
        for i in keys:
            name = stream.columns[i].name
            at = f"t.{quoted(name)}"
            if name != own and self._mixed(table, quoted(name), stream.columns[i].type):
                at = f"cast({at} as text)"
            parts.append(KeyPart(f"{at} collate binary", declared[name].nullable))
        (stored,) = self.db.execute("PRAGMA encoding").fetchone()
        plain = self.encoding == "utf-8" and stored == "UTF-8"
        return Query(stream, table, tuple(keys), tuple(parts), plain)

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
        plain: texts stand in the file as UTF-8, so they are fetched as bytes. In other
            files bytes and texts are not told apart by their look.
    """

    stream: StreamSpec
    table: str
    keys: tuple[int, ...]
    parts: tuple[KeyPart, ...]
    plain: bool

    def sql(self, mark: Mark | None, *, keyed: bool) -> tuple[str, dict[str, Any]]:
        """The statement from a place on, and its parameters.

        Args:
            mark: the place.
            keyed: whether :meth:`key_places` are among its columns.
        """
        wanted = [f"t.{quoted(c.name)}" for c in self.stream.columns]
        if keyed:
            wanted += [part.expression for part in self._casts()]
        chosen = ", ".join(wanted)
        where, values = "", {}
        if mark is not None:
            values = {f"k{i}": v for i, v in enumerate(mark.key)}

            def write(i: int, value: KeyValue) -> str:
                text = isinstance(value, bytes) or self.parts[i] in self._casts()
                return f"cast(:k{i} as text)" if text else f":k{i}"

            where = " where " + from_key(self.parts, mark.key, write, nulls="first")
        return (
            f"select {chosen} from {self.table} as t{where}"  # noqa: S608
            f" order by {order_by(self.parts)}",
            values,
        )

    def key_places(self) -> list[int]:
        """Where the key stands, as SQLite compares it: mixed ones after all columns."""
        after = count(len(self.stream.columns))
        casts = self._casts()
        return [
            next(after) if part in casts else place
            for place, part in zip(self.keys, self.parts, strict=True)
        ]

    def _casts(self) -> list[KeyPart]:
        return [part for part in self.parts if part.expression.startswith("cast")]

    def batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Rows, at least one, as Arrow; texts are ``binary``."""
        chosen = self.stream.columns
        values = zip(*rows, strict=True)
        arrays = [column(v, c.type) for v, c in zip(values, chosen, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=[c.name for c in chosen])

    def page(self, parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
        """Several of these as one page."""
        chosen = self.stream.columns
        arrays = [
            finished(pa.concat_arrays([part.column(i) for part in parts]), c)
            for i, c in enumerate(chosen)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=[c.name for c in chosen])

    def key(self, row: Row) -> Row:
        """The key of a row."""
        if self.plain:
            return tuple(_key_value(row[i]) for i in self.keys)
        return tuple(row[i] for i in self.keys)


def _key_at(query: Query, rows: Sequence[Row], i: int) -> Row:
    return query.key(rows[i])


def _key_value(value: KeyValue) -> KeyValue:
    """A value of a key: bytes that are UTF-8 are the text that they are compared as."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return value


def lenient(encoding: str) -> Callable[[bytes], str | bytes]:
    """A text factory that leaves what it cannot decode as bytes."""
    return lambda raw: text_or_bytes(raw, encoding)
