# SPDX-License-Identifier: Apache-2.0
"""Rows of a statement as columns, by ``connectors/native/sqliterows.c``.

Values come as ``values.py`` says: of the item's type, or as texts. C begins with the
item's type. A value that is another one ends the page before its row, and its column
comes as text in the next one, for ``TEXT_ROWS`` rows; each further time for twice as
many. So a text here and there costs the rows around it, and a column of texts a page
more for each doubling.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from ctypes import c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from connectors.contract import ColumnSpec, Limits, Page, SourceError
from connectors.native import page as native
from connectors.native.loader import library
from connectors.sql import PAGE_BYTES, KeyValue, Mark, token_of
from connectors.sqlite.errors import source_error
from connectors.sqlite.handle import CLOSED, Statement
from connectors.sqlite.text import text_of
from connectors.sqlite.values import decimal_of, finished

if TYPE_CHECKING:
    from connectors.sqlite.session import Query

TEXT_ROWS = 512
"""For so many rows a column comes as text the first time that it has to."""

_ROOM = 16
"""Bytes that a page has ready for each value, at most, before it grows."""

_FULL, _END, _OTHER = 1, 2, 3
_INTEGER, _FLOAT, _TEXT, _BLOB, _NULL = 1, 2, 3, 4, 5
_AS_TEXT, _AS_DECIMAL = 0, 4
_NATIVE: Mapping[str, tuple[int, pa.DataType]] = {
    "I": (1, pa.int64()),
    "L": (2, pa.bool_()),
    "B": (3, pa.float64()),
    "F": (3, pa.float64()),
}


class _Item(ctypes.Structure):
    """``struct fep_item``."""

    _fields_ = (
        ("shape", ctypes.c_uint8),
        ("precision", ctypes.c_uint8),
        ("scale", ctypes.c_uint8),
    )


class _Key(ctypes.Structure):
    """``struct fep_key``."""

    _fields_ = (
        ("place", c_int32),
        ("type", c_int32),
        ("whole", c_int64),
        ("number", c_double),
    )


class _Reading(ctypes.Structure):
    """``struct fep_reading``."""

    _fields_ = (
        ("sqlite", c_void_p),
        ("statement", c_void_p),
        ("items", c_void_p),
        ("keys", c_void_p),
        ("last", c_void_p),
        ("width", c_int32),
        ("parts", c_int32),
        ("current", c_int32),
        ("place", c_int32),
        ("run", c_int64),
    )


def _library() -> ctypes.CDLL:
    found = library()
    found.fep_sqlite_fill.restype = c_int
    found.fep_sqlite_fill.argtypes = [c_void_p, c_void_p, c_int64, c_size_t]
    found.fep_sqlite_remember.restype = c_int
    found.fep_sqlite_remember.argtypes = [c_void_p, c_int32, c_char_p, c_size_t]
    return found


class Forms:
    """In which form each column comes next.

    Args:
        columns: of the stream.
        most: rows of a page; it has fewer if there are many columns.
    """

    def __init__(self, columns: Sequence[ColumnSpec], most: int) -> None:
        self._columns = columns
        self._most = max(min(most, PAGE_BYTES // (_ROOM * len(columns))), 1)
        self._left = [0] * len(columns)
        self._again = [min(TEXT_ROWS, self._most)] * len(columns)

    @property
    def rows(self) -> int:
        """Most rows of the next page."""
        return min(self._most, *(left or self._most for left in self._left))

    def next(self) -> list[tuple[int, pa.DataType, int, int]]:
        """For each column what C takes, its type, precision and scale."""
        return [
            (_AS_TEXT, pa.binary(), 0, 0) if left else _form(column)
            for column, left in zip(self._columns, self._left, strict=True)
        ]

    def passed(self, rows: int) -> None:
        """So many rows came."""
        self._left = [max(left - rows, 0) for left in self._left]

    def other(self, place: int) -> None:
        """A column has a value that is not of its type."""
        self._left[place] = self._again[place]
        self._again[place] = min(2 * self._again[place], self._most)


def _form(column: ColumnSpec) -> tuple[int, pa.DataType, int, int]:
    if column.type in _NATIVE:
        return (*_NATIVE[column.type], 0, 0)
    decimal = decimal_of(column) if column.type in "NY" else None
    if decimal is None:
        return _AS_TEXT, pa.binary(), 0, 0
    return (_AS_DECIMAL, pa.decimal128(*decimal), *decimal)


@dataclass
class Reader:
    """The rows of a statement, page by page.

    Args:
        statement: ready to be stepped.
        query: what it is of.
        limits: of the session.
        mark: the place that it begins at.
    """

    statement: Statement
    query: Query
    limits: Limits
    mark: Mark | None
    _keys: Any = field(init=False)
    _last: native.Page = field(init=False)
    _reading: _Reading = field(init=False)

    def __post_init__(self) -> None:
        places = self.query.key_places()
        self._keys = (_Key * len(places))(*(_Key(p, _NULL, 0, 0.0) for p in places))
        self._last = native.Page([pa.binary()] * len(places), 1)
        self._reading = _Reading(
            sqlite=ctypes.addressof(self.statement.handle.functions.rows),
            statement=self.statement.pointer,
            keys=ctypes.addressof(self._keys),
            last=self._last.pointer,
            width=len(self.query.stream.columns),
            parts=len(places),
        )
        self._begin()

    def _begin(self) -> None:
        """Stand before the first row, with the key of the mark as the last one."""
        self._reading.current, self._reading.run = False, 0
        for i, value in enumerate(self.mark.key if self.mark is not None else ()):
            self._remember(i, value)

    def pages(self) -> Generator[Page, None, None]:
        """All pages.

        Raises:
            SourceError: as SQLite says, or the session was closed.
        """
        forms = Forms(self.query.stream.columns, self.limits.page_rows)
        given, status = False, _FULL
        while status != _END:
            filled, token, status = self._page(forms, given)
            again = status == _OTHER and not given and filled.rows < TEXT_ROWS
            if not again:
                forms.passed(filled.rows)
            if status == _OTHER:
                forms.other(self._reading.place)
            if again:
                self._again()
            elif filled.rows:
                page = self._finished(filled, token)
                del filled
                yield page
                given = True
                del page

    def _again(self) -> None:
        """Begin again: the first rows showed what types there are."""
        statement = self.statement
        with statement.handle.turn:
            if statement.pointer is not None:
                statement.handle.functions.call.sqlite3_reset(statement.pointer)
            self._begin()

    def _page(self, forms: Forms, given: bool) -> tuple[native.Page, str, int]:
        """The next rows, the place after them, and why they end there."""
        kinds = forms.next()
        page = native.Page([kind for _, kind, _, _ in kinds], forms.rows)
        items = (_Item * len(kinds))(*(_Item(a, p, s) for a, _, p, s in kinds))
        self._reading.items = ctypes.addressof(items)
        skipped = self.mark.rows if self.mark is not None and not given else 0
        with self.statement.handle.turn:
            status = self._filled(page, skipped)
            return page, token_of(self._mark()), status

    def _finished(self, page: native.Page, token: str) -> Page:
        chosen = self.query.stream.columns
        names = [c.name for c in chosen]
        rows = page.batch(names)
        arrays = [finished(a, c) for a, c in zip(rows.columns, chosen, strict=True)]
        return Page(pa.RecordBatch.from_arrays(arrays, names=names), token)

    def _filled(self, page: native.Page, skipped: int) -> int:
        """Rows up to a page's end, and why it ended.

        Raises:
            SourceError: see :meth:`pages`.
        """
        if self.statement.pointer is None:
            raise SourceError("failed", CLOSED)
        reading = ctypes.addressof(self._reading)
        found = int(
            _library().fep_sqlite_fill(reading, page.pointer, skipped, PAGE_BYTES)
        )
        if found in (_FULL, _END, _OTHER):
            return found
        if found == native.LARGE and page.rows:
            return _FULL
        if found == native.LARGE:
            raise source_error("SQLITE_TOOBIG")
        if found == native.MEMORY:
            raise source_error("SQLITE_NOMEM")
        raise self.statement.handle.error()

    def _mark(self) -> Mark:
        """The place after the last row."""
        key = tuple(self._key(i) for i in range(self._reading.parts))
        return Mark(key, self._reading.run)

    def _key(self, i: int) -> KeyValue:
        part = self._keys[i]
        if part.type == _NULL:
            return None
        if part.type in (_INTEGER, _FLOAT):
            return part.whole if part.type == _INTEGER else part.number  # type: ignore[no-any-return]
        found = (ctypes.c_uint64 * 5)()
        library().fep_page_column(self._last.pointer, i, found)
        data = ctypes.string_at(found[2], found[3])
        with suppress(UnicodeDecodeError):
            return data.decode()
        return data

    def _remember(self, i: int, value: KeyValue) -> None:
        """Part ``i`` of the key of the last row."""
        part = self._keys[i]
        part.type = _NULL
        if value is not None and part.place >= self._reading.width:
            value = value if isinstance(value, bytes) else text_of(value)
        if isinstance(value, int):
            part.type, part.whole = _INTEGER, value
        elif isinstance(value, float):
            part.type, part.number = _FLOAT, value
        elif value is not None:
            part.type = _TEXT
            data = value if isinstance(value, bytes) else value.encode()
            reading = ctypes.addressof(self._reading)
            if _library().fep_sqlite_remember(reading, i, data, len(data)):
                raise source_error("SQLITE_NOMEM")
