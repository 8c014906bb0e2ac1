# SPDX-License-Identifier: Apache-2.0
"""A connector whose database is a dictionary; it obeys the whole contract."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest
from threading import Lock
from typing import Any

import pyarrow as pa

from connectors import findings
from connectors.contract import (
    API,
    Caps,
    ColumnSpec,
    Finding,
    FoundColumn,
    FoundTable,
    Frontier,
    FrontierLost,
    Increments,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.sql import PAGE_BYTES, mark_after, mark_of, token_of

AS_OF = "2026-11-21T08:00:00Z"

_ARROW: Mapping[str, pa.DataType] = {
    "I": pa.int64(),
    "D": pa.date32(),
    "T": pa.timestamp("us"),
    "L": pa.bool_(),
    "B": pa.float64(),
    "F": pa.float64(),
    "G": pa.binary(),
    "Y": pa.decimal128(19, 4),
}


@dataclass
class FakeTable:
    """Columns as they would be bound, and rows of Python values.

    ``writers`` holds the transaction of each row, 0 beyond its end; ``made`` tells
    tables of one name apart.
    """

    columns: tuple[ColumnSpec, ...]
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    writers: list[int] = field(default_factory=list)
    made: int = 0

    def versions(self) -> list[tuple[tuple[Any, ...], int]]:
        return list(zip_longest(self.rows, self.writers, fillvalue=0))  # type: ignore[arg-type]


@dataclass
class FakeConnector:
    """Tables by qualified name. ``config["fail"]`` is a kind to fail with at once."""

    tables: dict[tuple[str, ...], FakeTable] = field(default_factory=dict)
    name: str = "fake"
    api: int = API
    clock: Iterator[int] = field(default_factory=lambda: count(1))
    open_ids: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    def spec(self) -> Mapping[str, Any]:
        return {"type": "object", "properties": {"fail": {"type": "string"}}}

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        found = [findings.connected("memory")]
        for stream in streams:
            try:
                self._bound(stream)
            except SourceError as e:
                found.append(findings.from_error(e))
        try:
            _fail(config)
        except SourceError as e:
            return [findings.from_error(e)]
        return found

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        _fail(config)
        return [
            FoundTable(
                name,
                None,
                len(table.rows),
                tuple(
                    FoundColumn(
                        c.name, "memory", c.type, c.length, c.scale, True, c.key, None
                    )
                    for c in table.columns
                ),
            )
            for name, table in self.tables.items()
        ]

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        _fail(config)
        self._bound(stream)
        paths = {c.name: "native" for c in stream.columns}
        return Caps(True, True, paths, Increments("memory"))

    @contextmanager
    def open(self, config: Mapping[str, Any], limits: Limits) -> Iterator[FakeSession]:
        _fail(config)
        with self.lock:
            session = self._session(limits)
        yield session

    def _session(self, limits: Limits) -> FakeSession:
        rows = {name: tuple(table.rows) for name, table in self.tables.items()}
        seen = {name: tuple(t.versions()) for name, t in self.tables.items()}
        upto = min([*self.open_ids, next(self.clock)])
        return FakeSession(self, rows, limits, seen, upto)

    def _bound(self, stream: StreamSpec) -> list[int]:
        table = self.tables.get(stream.table)
        if table is None:
            raise SourceError("missing", "no such table")
        names = [c.name for c in table.columns]
        absent = [c.name for c in stream.columns if c.name not in names]
        if absent:
            raise SourceError("missing", f"no such column: {', '.join(absent)}")
        return [names.index(c.name) for c in stream.columns]


def _fail(config: Mapping[str, Any]) -> None:
    if kind := config.get("fail"):
        raise SourceError(kind, "as the settings ask")


@dataclass
class FakeSession:
    """The rows as they were when the session was opened."""

    connector: FakeConnector
    rows: Mapping[tuple[str, ...], tuple[tuple[Any, ...], ...]]
    limits: Limits
    seen: Mapping[tuple[str, ...], tuple[tuple[tuple[Any, ...], int], ...]] = field(
        default_factory=dict
    )
    upto: int = 0

    def frontier(self, stream: StreamSpec) -> Frontier:
        table = self.connector.tables.get(stream.table)
        value = json.dumps({"upto": self.upto, "made": table.made if table else 0})
        return Frontier(value, AS_OF, "memory")

    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        try:
            point = json.loads(since)
            upto, made = point["upto"], point["made"]
        except (ValueError, TypeError, KeyError):
            raise FrontierLost("unreadable", "the stored frontier") from None
        if made != self.connector.tables[stream.table].made:
            raise FrontierLost("recreated", "another table of this name")
        rows = tuple(row for row, by in self.seen[stream.table] if by >= upto)
        part = replace(self, rows={**self.rows, stream.table: rows})
        yield from part.read(Slice(stream, None), resume)

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        self.connector._bound(stream)
        return [Slice(stream, len(self.rows[stream.table]))]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        stream = part.stream
        places = self.connector._bound(stream)
        keys = [i for i, c in enumerate(stream.columns) if c.key]
        rows = [tuple(row[i] for i in places) for row in self.rows[stream.table]]
        rows.sort(key=lambda row: [_nulls_last(row[i]) for i in keys])

        def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(row[i] for i in keys)

        mark = mark_of(resume, len(keys)) if resume is not None else None
        start = 0
        if mark is not None:
            start = [key(row) for row in rows].index(mark.key) + mark.rows
        while start < len(rows):
            page = self._page(stream, rows[start : start + self.limits.page_rows])
            start += page.num_rows
            done = rows[start - page.num_rows : start]
            mark = mark_after(
                page.num_rows, [key(row) for row in done].__getitem__, mark
            )
            yield Page(page, token_of(mark))

    def _page(
        self, stream: StreamSpec, rows: Sequence[tuple[Any, ...]]
    ) -> pa.RecordBatch:
        arrays = [
            pa.array(values, _arrow(c))
            for values, c in zip(zip(*rows, strict=True), stream.columns, strict=True)
        ]
        names = [c.name for c in stream.columns]
        page = pa.RecordBatch.from_arrays(arrays, names=names)
        fits = int(len(rows) * PAGE_BYTES / max(page.nbytes, 1))
        return page if page.nbytes <= PAGE_BYTES else page.slice(0, max(fits, 1))


class FakeTransaction:
    """Writes that are seen once it commits; its id is taken when it begins."""

    def __init__(self, connector: FakeConnector) -> None:
        self._connector = connector
        self._puts: list[tuple[tuple[str, ...], tuple[Any, ...]]] = []
        self._saved = 0
        with connector.lock:
            self._id = next(connector.clock)
            connector.open_ids.add(self._id)

    def put(self, table: tuple[str, ...], row: Sequence[Any]) -> None:
        self._puts.append((table, tuple(row)))

    def save(self) -> None:
        self._saved = len(self._puts)

    def undo(self) -> None:
        del self._puts[self._saved :]

    def commit(self) -> None:
        with self._connector.lock:
            for name, row in self._puts:
                table = self._connector.tables[name]
                kept = [v for v in table.versions() if v[0][0] != row[0]]
                table.rows = [r for r, _ in kept] + [row]
                table.writers = [w for _, w in kept] + [self._id]
            self._connector.open_ids.discard(self._id)

    def rollback(self) -> None:
        self._puts = []
        self.commit()


def _nulls_last(value: Any) -> tuple[Any, ...]:
    return (True,) if value is None else (False, value)


def _arrow(column: ColumnSpec) -> pa.DataType:
    if column.type == "N":
        return pa.decimal128(column.length or 38, column.scale or 0)
    return _ARROW.get(column.type, pa.string())
