# SPDX-License-Identifier: Apache-2.0
"""Rows as the server sends them: text of the protocol, cut into columns of bytes.

The driver connects, logs in and sends the statement; it would then make Python objects
one by one, and values of its own. Here a result's packets are taken from the socket in
large pieces. Each packet is a row: for every column a length (one byte, or two to eight
after a marker; FB is NULL) and the text.

Rules

1. What is received for a page lies in one buffer. One loop finds where its packets
   begin; lengths are then read column by column, for all rows of the page at once.
2. Where values begin and end, row by row, are the offsets of one Arrow array over the
   buffer: value, gap, value, gap. A column is every so manieth element of it.
3. The next page is received by a thread of its own while this one is cut: the server
   would else wait, for a socket holds less than a page.

Source: the MySQL client/server protocol, "Text Resultset" and "Length-Encoded Integer".
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pymysql
from pymysql.connections import Connection

from connectors.ahead import ahead
from connectors.contract import SourceError
from connectors.mysql.login import ServerError, our_errors
from connectors.sql import PAGE_BYTES

WHOLE = 0xFFFFFF
"""A packet of this length goes on in the next one."""

EARLY = 65536
"""More than the driver's own buffer holds, bytes."""

_NULL, _TWO, _THREE, _EIGHT = 0xFB, 0xFC, 0xFD, 0xFE
_ERROR, _END = 0xFF, 0xFE
_HEAD = 4
"""Bytes before a packet's content: three of its length, one of its number."""

_head = struct.Struct("<I").unpack_from

_CLOSED = "the session was closed while it was read"

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
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

    def pages(self, sql: str, rows: int) -> Iterator[pa.RecordBatch]:
        """The result of a statement, columns ``0, 1, ...`` of type ``binary``.

        If it is given up, the connection is only good for closing.

        Args:
            sql: a SELECT.
            rows: most rows of a page.

        Raises:
            SourceError: the statement failed, also while iterating.
        """
        with our_errors():
            self.query(sql, unbuffered=True)
            width = int(self._result.field_count)
            self._result.unbuffered_active = False  # its packets are ours now
            self._result.connection = None
            self._sock.settimeout(self._read_timeout)
            self._buffered = self._receiving = True
            cuts = ahead(cut_pages(self._received, rows))
            try:
                for cut in cuts:
                    if self._sock is None:
                        raise SourceError("failed", _CLOSED)
                    yield batch(cut, width)
                    del cut
                self._receiving = False
            finally:
                self._hang_up()
                cuts.close()

    def _received(self, into: memoryview) -> int:
        file = self._rfile
        if file is None:
            raise SourceError("failed", _CLOSED)
        try:
            count = self._early(file, into) or int(file.raw.readinto(into))
        except TimeoutError:
            raise SourceError("timeout", "the server sent nothing") from None
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
        self._hang_up()
        super().close()

    def _hang_up(self) -> None:
        """End a wait for the server in the thread that receives."""
        if self._receiving and self._sock is not None:
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Cut:
    """Received rows of one page.

    Args:
        data: received bytes.
        starts: where in them the content of each row begins.
    """

    data: Bytes
    starts: Places


def cut_pages(receive: Receive, most: int) -> Generator[Cut, None, None]:
    """What is received in pages, up to the end of the result.

    Args:
        receive: takes more from the server.
        most: rows of a page.

    Raises:
        ServerError: the server ended the result with an error.
    """
    page = _Page(most)
    while page.ended is None:
        page.receive(receive)
        while page.full:
            yield page.close()
    if page.starts:
        yield page.close()
    if page.ended:
        raise ServerError(page.ended)


class _Page:
    """Received bytes, and where in them the rows of the open page begin.

    Args:
        most: rows of a page.

    Attributes:
        starts: of the content of each row.
        ended: None, 0 after the last row, or the error that the server ended with.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._data: Bytes = np.empty(PAGE_BYTES, np.uint8)
        self._filled = self._at = 0
        self.starts: list[int] = []
        self.ended: int | None = None

    @property
    def full(self) -> bool:
        """Whether rows and bytes are as many as a page should have."""
        enough = len(self.starts) == self._most or self._filled == len(self._data)
        return enough and bool(self.starts)

    def receive(self, receive: Receive) -> None:
        """Take more in; a row that does not fit gets a larger buffer."""
        if self._filled == len(self._data):
            self._move(0, 2 * self._filled)
        self._filled += receive(self._data.data[self._filled :])
        self._walk()

    def close(self) -> Cut:
        """The rows so far; what was received after them is the next page's."""
        found = Cut(self._data, np.array(self.starts, np.int64))
        self.starts = []
        self._move(self._at, max(PAGE_BYTES, 2 * (self._filled - self._at)))
        self._at = 0
        if self.ended is None:
            self._walk()
        return found

    def _move(self, begin: int, size: int) -> None:
        """What was received from ``begin`` on, to a buffer of another size."""
        data: Bytes = np.empty(size, np.uint8)
        self._filled -= begin
        data[: self._filled] = self._data[begin : begin + self._filled]
        self._data = data

    def _walk(self) -> None:
        """Find the packets that are whole by now; the result's last one ends it."""
        self._short_ones()
        while len(self.starts) < self._most and (size := self._long_one()):
            self.starts.append(self._at + _HEAD)
            self._at += _HEAD + size
            self._short_ones()
        if self.starts:
            last = self.starts[-1]
            first = self._data[last]
            if first == _ERROR or (first == _END and self._at - last < 9):
                self.starts.pop()
                code = bytes(self._data[last + 1 : last + 3])
                self.ended = int.from_bytes(code, "little") if first == _ERROR else 0

    def _short_ones(self) -> None:
        """Packets in a row; none in pieces, for it would not end before ``stop``."""
        data, add = self._data.data, self.starts.append
        at, last = self._at, self._filled - _HEAD
        stop = min(self._filled, at + WHOLE)
        for _ in range(self._most - len(self.starts)):
            if at > last:
                break
            begin = at + _HEAD
            end = begin + (_head(data, at)[0] & WHOLE)
            if end > stop:
                break
            add(begin)
            at = end
        self._at = at

    def _long_one(self) -> int:
        """Bytes of the packet at this place, 0 until all of it has arrived.

        The heads of its pieces are cut out.
        """
        heads: list[int] = []
        at, size = self._at, WHOLE
        while size == WHOLE:
            if at > self._filled - _HEAD:
                return 0
            heads.append(at)
            size = _head(self._data.data, at)[0] & WHOLE
            at += _HEAD + size
            if at > self._filled:
                return 0
        for head in reversed(heads[1:]):
            rest = self._data[head + _HEAD : self._filled].copy()
            self._filled -= _HEAD
            self._data[head : self._filled] = rest
        return at - self._at - _HEAD * len(heads)


def batch(cut: Cut, width: int) -> pa.RecordBatch:
    """Columns ``0, 1, ...`` of type ``binary``.

    Args:
        cut: rows.
        width: number of columns.
    """
    count = len(cut.starts)
    ends = np.empty((count, 2 * width), np.int32)
    nulls = []
    at = cut.starts
    for i in range(width):
        begins, sizes, null = _lengths(cut.data, at)
        ends[:, 2 * i] = begins
        at = begins + sizes
        ends[:, 2 * i + 1] = at
        nulls.append(null)
    offsets, data = pa.py_buffer(ends.data), pa.py_buffer(cut.data.data)
    values = pa.Array.from_buffers(pa.binary(), ends.size - 1, [None, offsets, data])
    rows = np.arange(0, ends.size, 2 * width, dtype=np.int32)
    columns = [_column(values, rows + 2 * i, nulls[i]) for i in range(width)]
    return pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(width)])


def _lengths(raw: Bytes, at: Places) -> tuple[Places, Places | Bytes, Mask | None]:
    """Of one value a row: where it begins, how long it is, whether it is NULL."""
    first = raw[at]
    if first.max(initial=0) < _NULL:
        return at + 1, first, None
    sizes, begins = first.astype(np.int64), at + 1
    null = first == _NULL
    sizes[null] = 0
    for marker, count in ((_TWO, 2), (_THREE, 3), (_EIGHT, 8)):
        which = np.flatnonzero(first == marker)
        if len(which):
            digits = raw[at[which, None] + np.arange(1, count + 1)].astype(np.int64)
            sizes[which] = (digits << (8 * np.arange(count))).sum(axis=1)
            begins[which] += count
    return begins, sizes, null if null.any() else None


def _column(
    values: pa.Array[Any], which: np.ndarray[Any, Any], null: Mask | None
) -> pa.Array[Any]:
    """Some of the values; those that are NULL are empty there."""
    taken = pc.take(values, pa.array(which), boundscheck=False)
    if null is None:
        return taken
    valid = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    found: pa.Array[Any] = pa.Array.from_buffers(
        pa.binary(), len(taken), [valid, *taken.buffers()[1:]]
    )
    return found
