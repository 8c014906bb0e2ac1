# SPDX-License-Identifier: Apache-2.0
"""Rows of a binary COPY, received by libpq and made columns in C (``pgcopy.c``).

libpq is the very one that psycopg works with, for it is psycopg's connection.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import c_int, c_int32, c_size_t, c_uint8, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import psycopg
import pyarrow as pa
from psycopg import pq
from psycopg.pq import misc

from connectors.contract import SourceError
from connectors.native.loader import library
from connectors.native.page import LARGE, MEMORY, Page
from connectors.native.text import as_text

_FULL, _END, _FAILED, _STRANGE = 1, 2, 3, 4
"""What ``fep_pg_page`` returns, besides the statuses that every page has."""

_WHOLE, _BIT, _DOUBLE, _DATE, _TIME, _DECIMAL, _BYTES, _INSTEAD = range(8)

State = Literal["more", "end", "failed"]


class Strange(SourceError):
    """A value that its column cannot hold, and whose text was not asked for."""

    def __init__(self) -> None:
        super().__init__("type", "a value is none of its column's type")


@dataclass(frozen=True)
class Wanted:
    """A column of the statement.

    Args:
        name: in the batches.
        type: in the batches. It says what the server sends: whole numbers of any width
            are int64, ``numeric`` is a decimal, texts are string, or binary as bytes.
            A page in which a text is no UTF-8 has it binary, too.
        instead: texts of what the column before cannot hold, and NULL elsewhere.
    """

    name: str
    type: pa.DataType
    instead: bool = False


@dataclass(frozen=True)
class Line:
    """Where messages come from.

    Args:
        connection: address of libpq's connection.
        receive: address of ``PQgetCopyData``.
        release: address of ``PQfreemem``.
        socket: of the connection, or -1.
    """

    connection: int
    receive: int
    release: int
    socket: int = -1


class _Column(ctypes.Structure):
    _fields_ = (
        ("kind", c_uint8),
        ("precision", c_uint8),
        ("scale", c_uint8),
    )


class _Copy(ctypes.Structure):
    _fields_ = (
        ("connection", c_void_p),
        ("receive", c_void_p),
        ("release", c_void_p),
        ("columns", ctypes.POINTER(_Column)),
        ("socket", c_int32),
        ("width", c_int32),
        ("begun", c_uint8),
        ("ended", c_uint8),
    )


class Copy:
    """The rows of one COPY that has begun.

    Args:
        line: where it comes from; its functions live as long as this.
        columns: of its statement.
    """

    def __init__(self, line: Line, columns: Sequence[Wanted]) -> None:
        self._wanted = tuple(columns)
        self._columns = (_Column * len(columns))(*map(_column, columns))
        self._copy = _Copy(
            line.connection,
            line.receive,
            line.release,
            self._columns,
            line.socket,
            len(columns),
        )

    def page(self, rows: int, full: int) -> tuple[pa.RecordBatch, State]:
        """The next rows; waits for them without the interpreter's lock.

        Args:
            rows: most of them.
            full: with so many bytes it is enough.

        Returns:
            them, and what is to come. After ``failed`` libpq knows the reason, or the
            rows had no end.

        Raises:
            Strange: one of them cannot be told; those before it are lost, too.
            SourceError: failed: this is no COPY of these columns.
            MemoryError: there is not enough.
        """
        page = Page([_received(column.type) for column in self._wanted], rows)
        status = _read()(ctypes.byref(self._copy), page.pointer, full)
        if status == _STRANGE:
            raise Strange
        if status == MEMORY:
            raise MemoryError
        if status == LARGE:
            raise SourceError("failed", "the texts of a page have 2 GiB or more")
        states: dict[int, State] = {_FULL: "more", _END: "end", _FAILED: "failed"}
        if status not in states:
            raise SourceError("failed", "the server sent rows of another form")
        return self._decodable(page), states[status]

    def _decodable(self, page: Page) -> pa.RecordBatch:
        """A page's rows; a text column with other bytes than UTF-8 is binary."""
        found = page.batch([column.name for column in self._wanted])
        arrays = [
            _text(raw) if pa.types.is_string(column.type) else raw
            for column, raw in zip(self._wanted, found.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=found.schema.names)


def _text(raw: pa.Array[Any]) -> pa.Array[Any]:
    """The server sends what it has, though it once took it for something else."""
    found = as_text(raw)
    return raw if found is None else found


def _received(kind: pa.DataType) -> pa.DataType:
    """Texts are bytes until all of a page's are known."""
    return pa.binary() if pa.types.is_string(kind) else kind


def line_of(db: psycopg.Connection[Any]) -> Line:
    """Where a connection gives messages."""
    libpq = _libpq()
    receive = ctypes.cast(libpq.PQgetCopyData, c_void_p).value
    release = ctypes.cast(libpq.PQfreemem, c_void_p).value
    connection: int = db.pgconn.pgconn_ptr  # type: ignore[attr-defined]
    return Line(connection, receive or 0, release or 0, db.pgconn.socket)


@cache
def _libpq() -> ctypes.CDLL:
    """The library that psycopg's own module is linked with, or has loaded."""
    if pq.__impl__ == "python":
        return ctypes.CDLL(misc.find_libpq_full_path())
    return ctypes.CDLL(sys.modules[pq.PGconn.__module__].__file__)


@cache
def _read() -> ctypes._NamedFuncPointer:
    found = library().fep_pg_page
    found.restype = c_int
    found.argtypes = [ctypes.POINTER(_Copy), c_void_p, c_size_t]
    return found


def _column(wanted: Wanted) -> _Column:
    if wanted.instead:
        return _Column(_INSTEAD)
    if pa.types.is_decimal(wanted.type):
        return _Column(_DECIMAL, wanted.type.precision, wanted.type.scale)
    return _Column(_kind(wanted.type))


def _kind(kind: pa.DataType) -> int:
    """How the server sends what becomes this type.

    Raises:
        ValueError: nothing becomes it.
    """
    for fits, found in (
        (pa.types.is_int64, _WHOLE),
        (pa.types.is_boolean, _BIT),
        (pa.types.is_float64, _DOUBLE),
        (pa.types.is_date32, _DATE),
        (pa.types.is_timestamp, _TIME),
        (pa.types.is_string, _BYTES),
        (pa.types.is_binary, _BYTES),
    ):
        if fits(kind):
            return found
    raise ValueError(kind)
