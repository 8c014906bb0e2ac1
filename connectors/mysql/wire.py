# SPDX-License-Identifier: Apache-2.0
"""Rows as the server sends them: text of the protocol, made columns by C.

The driver connects, logs in and sends the statement; it would then make Python objects
one by one, and values of its own. Here a result's packets are taken from the socket in
pieces that fit into a processor's cache, and ``connectors/native/mysqltext.c`` appends
their values to the columns of a page.

Rules

1. A value is the text that was sent, or is parsed exactly to the type asked for.
2. A text that cannot be parsed ends its page before its row. From there on its column
   is text, and so is every other one of which that happens, until a page is full; the
   next page is parsed again. A page that is full costs one short page a column at most.
3. A page is received and cut by a thread of its own while the one before is used: the
   server would else wait. The interpreter's lock is free while C works.

Source: the MySQL client/server protocol, "Text Resultset".
"""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from ctypes import c_int32, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pymysql
from pymysql.connections import Connection

from connectors.ahead import ahead
from connectors.contract import SourceError
from connectors.mysql.login import ServerError, our_errors
from connectors.native import page as native
from connectors.native.loader import library
from connectors.native.page import Page
from connectors.sql import PAGE_BYTES

RECEIVED = 256 * 1024
"""Bytes that are received before they are cut, unless one row is larger."""

EARLY = 65536
"""More than the driver's own buffer holds, bytes."""

_MORE, _FULL, _END, _ERROR, _ODD = 1, 2, 3, 4, 5
"""Why ``fep_mysql_rows`` stopped."""

_CLOSED = "the session was closed while it was read"

Receive = Callable[[memoryview], int]
"""Fills the beginning of a buffer: how many bytes, at least one."""

if TYPE_CHECKING:
    _Connection = Connection[Any]
else:
    _Connection = Connection


class RawConnection(_Connection):
    """A connection whose results are read as pages of bytes."""

    _rfile: Any
    _result: Any
    _sock: Any
    _read_timeout: float | None
    _buffered = False
    _receiving = False
    _closing = False

    def pages(self, sql: str, form: Form, rows: int) -> Iterator[pa.RecordBatch]:
        """The result of a statement.

        If it is given up, the connection is only good for closing.

        Args:
            sql: a SELECT.
            form: what its columns become.
            rows: most rows of a page.

        Raises:
            SourceError: the statement failed, also while iterating.
        """
        with our_errors():
            self.query(sql, unbuffered=True)
            if self._result.field_count != len(form.types):
                raise SourceError("failed", "the server gave other columns")
            self._result.unbuffered_active = False  # its packets are ours now
            self._result.connection = None
            self._sock.settimeout(self._read_timeout)
            self._buffered = self._receiving = True
            pages = ahead(cut_pages(self._received, form, rows))
            try:
                for page in pages:
                    if self._closing or self._sock is None:
                        raise SourceError("failed", _CLOSED)
                    yield page
                    del page
                self._receiving = False
            finally:
                self._hang_up()
                pages.close()

    def _received(self, into: memoryview) -> int:
        file = self._rfile
        if file is None:
            raise SourceError("failed", _CLOSED)
        try:
            count = self._early(file, into) or int(file.raw.readinto(into))
        except TimeoutError:
            raise SourceError("timeout", "the server sent nothing") from None
        if self._closing:
            raise SourceError("failed", _CLOSED)
        if not count:
            raise pymysql.err.OperationalError(2013, "lost")
        return count

    def _early(self, file: Any, into: memoryview) -> int:
        """What the driver's buffer holds: it came with the names of the columns."""
        if not self._buffered:
            return 0
        found = file.read1(min(len(into), EARLY))
        self._buffered = len(found) == EARLY
        into[: len(found)] = found
        return len(found)

    def close(self) -> None:
        """Close it, also while a result is received."""
        self._closing = True
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        """End a wait for the server in the thread that receives.

        Of a TLS line only the socket: what ``SSLSocket.shutdown`` leaves gives the
        receiver the rest of the stream as it is, encrypted.
        """
        if self._receiving and self._sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)


@dataclass(frozen=True)
class Form:
    """What the columns of a result become.

    Args:
        types: of each column: ``binary`` for the text as it is sent, or what it is
            parsed to: ``int64``, ``bool``, ``date32``, ``decimal128``, or ``timestamp``
            of microseconds. Where a text cannot be parsed, its page has ``binary``.
        also: parsed columns whose texts come as well, behind all others.
    """

    types: tuple[pa.DataType, ...]
    also: tuple[int, ...] = ()


def parses(kind: pa.DataType) -> bool:
    """Whether texts can be parsed to a type here."""
    return _kind(kind) != _TEXT


_TEXT, _INTEGER, _DECIMAL, _DATE, _MOMENT, _TRUTH = range(6)
"""Kinds of ``mysqltext.c``."""


def _kind(kind: pa.DataType) -> int:
    if pa.types.is_decimal128(kind):
        return _DECIMAL
    if isinstance(kind, pa.TimestampType) and kind.unit == "us":
        return _MOMENT
    plain = {pa.int64(): _INTEGER, pa.date32(): _DATE, pa.bool_(): _TRUTH}
    return plain.get(kind, _TEXT)


class _Column(ctypes.Structure):
    """``struct fep_mysql_column``."""

    _fields_ = (
        ("kind", c_int32),
        ("digits", c_int32),
        ("scale", c_int32),
        ("also", c_int32),
    )


def _column(kind: pa.DataType) -> _Column:
    """How a column is read that becomes ``kind``."""
    digits = scale = 0
    if isinstance(kind, pa.Decimal128Type):
        digits, scale = kind.precision, kind.scale
    return _Column(_kind(kind), digits, scale, -1)


class _Reader(ctypes.Structure):
    """``struct fep_mysql``."""

    _fields_ = (
        ("columns", c_void_p),
        ("data", c_void_p),
        ("filled", c_size_t),
        ("at", c_size_t),
        ("joined", c_size_t),
        ("most", c_size_t),
        ("width", c_int32),
        ("odd", c_int32),
        ("code", c_int32),
    )


@cache
def _rows() -> Callable[[int, Any], int]:
    """``fep_mysql_rows``."""
    found = library().fep_mysql_rows
    found.restype = c_int32
    found.argtypes = [c_void_p, ctypes.POINTER(_Reader)]
    return found


def cut_pages(
    receive: Receive, form: Form, most: int
) -> Generator[pa.RecordBatch, None, None]:
    """What is received in pages, up to the end of the result.

    Args:
        receive: takes more from the server.
        form: what the columns become.
        most: rows of a page.

    Raises:
        SourceError: the server sent what the protocol does not allow.
        ServerError: the server ended the result with an error.
    """
    cutter = _Cutter(receive, form)
    names = [str(i) for i in range(len(form.types) + len(form.also))]
    reason = _FULL
    while reason not in (_END, _ERROR):
        page = cutter.page(most, again=reason == _FULL)
        reason = cutter.fill(page)
        if page.rows:
            yield page.batch(names)
        del page
    if reason == _ERROR:
        raise ServerError(cutter.code)


class _Cutter:
    """Received bytes, and what the columns of the open page are.

    Args:
        receive: takes more from the server.
        form: what the columns become.
    """

    def __init__(self, receive: Receive, form: Form) -> None:
        self._receive, self._form = receive, form
        self._odd: set[int] = set()
        self._columns = (_Column * len(form.types))()
        self._reader = _Reader(
            columns=ctypes.addressof(self._columns),
            most=PAGE_BYTES,
            width=len(form.types),
        )
        self._room(RECEIVED)

    @property
    def code(self) -> int:
        """The server's error."""
        return int(self._reader.code)

    def page(self, most: int, *, again: bool) -> Page:
        """An empty page.

        Args:
            most: rows of it.
            again: columns that were odd are parsed again.
        """
        if again:
            self._odd.clear()
        types = [
            pa.binary() if i in self._odd else kind
            for i, kind in enumerate(self._form.types)
        ]
        for i, kind in enumerate(types):
            self._columns[i] = _column(kind)
        for place, i in enumerate(self._form.also, len(types)):
            self._columns[i].also = place
        return Page([*types, *[pa.binary()] * len(self._form.also)], most)

    def fill(self, page: Page) -> int:
        """Append rows until the page is full, or the rows end, or one is odd.

        Raises:
            SourceError: a row is malformed or too large.
        """
        while (reason := _rows()(page.pointer, self._reader)) == _MORE:
            self._more()
        if reason == native.MEMORY:
            raise MemoryError
        if reason < 0:
            what = "too large" if reason == native.LARGE else "malformed"
            raise SourceError("failed", f"the server sent a row that is {what}")
        if reason == _ODD:
            self._odd.add(int(self._reader.odd))
        return int(reason)

    def _more(self) -> None:
        """Receive; a row that does not fit gets a larger buffer."""
        reader = self._reader
        begin, end = reader.at, reader.filled
        rest = self._data[begin:end]
        if len(rest) == len(self._data):
            self._room(2 * len(rest))
        self._data[: len(rest)] = rest
        reader.at = 0
        reader.filled = len(rest) + self._receive(self._data[len(rest) :])

    def _room(self, size: int) -> None:
        buffer = (ctypes.c_uint8 * size)()
        self._data = memoryview(buffer).cast("B")
        self._reader.data = ctypes.addressof(buffer)
