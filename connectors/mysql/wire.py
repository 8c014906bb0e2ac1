# SPDX-License-Identifier: Apache-2.0
"""Rows as the server sends them: text of the protocol, cut into columns of bytes.

The driver connects, logs in and sends the statement; it would then make Python objects
one by one, and values of its own. Here a result's packets are taken from the socket in
large pieces. Each packet is a row: for every column a length (one byte, or two to eight
after a marker; FB is NULL) and the text. Lengths are read for all rows of a page at
once, and the texts become an Arrow array over the received bytes.

Source: the MySQL client/server protocol, "Text Resultset" and "Length-Encoded Integer".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pymysql
from pymysql.connections import Connection

from connectors.contract import SourceError
from connectors.mysql.login import ServerError, our_errors
from connectors.sql import PAGE_BYTES

RECEIVE = 1024 * 1024
"""Bytes to ask the socket for."""

WHOLE = 0xFFFFFF
"""A packet of this length goes on in the next one."""

_NULL, _TWO, _THREE, _EIGHT = 0xFB, 0xFC, 0xFD, 0xFE
_ERROR, _END = 0xFF, 0xFE

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Places = np.ndarray[Any, np.dtype[np.int64]]


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
            yield from _pages(self._received(), width, rows)

    def _received(self) -> Iterator[bytes]:
        self._sock.settimeout(self._read_timeout)
        while True:
            try:
                piece = self._rfile.read1(RECEIVE)
            except TimeoutError:
                raise SourceError("timeout", "the server sent nothing") from None
            if not piece:
                raise pymysql.err.OperationalError(2013, "lost")
            yield piece


def _pages(pieces: Iterator[bytes], width: int, most: int) -> Iterator[pa.RecordBatch]:
    """Cut what is received into pages, up to the end of the result.

    Raises:
        ServerError: the server ended the result with an error.
    """
    page = _Page(width)
    for begin, size in page.packets(pieces):
        first = page.data[begin]
        if first == _ERROR or (first == _END and size < 9):
            if page.starts:
                yield page.close(begin - 4)
                begin = 4
            if first == _ERROR:
                code = int.from_bytes(page.data[begin + 1 : begin + 3], "little")
                raise ServerError(code)
            return
        page.starts.append(begin)
        end = begin + size
        if end >= PAGE_BYTES or len(page.starts) == most:
            yield page.close(end)


class _Page:
    """Received bytes, and where in them the rows of the open page begin."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._at = 0
        self.data = bytearray()
        self.starts: list[int] = []

    def packets(self, pieces: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Where each packet's content begins, and its length, as they arrive."""
        for piece in pieces:
            self.data += piece
            while (found := self._packet()) is not None:
                begin, size = found
                self._at = begin + size
                yield found

    def _packet(self) -> tuple[int, int] | None:
        """The packet at the current place; one that goes on is made whole first."""
        if len(self.data) - self._at < 4:
            return None
        begin = self._at + 4
        size = int.from_bytes(self.data[self._at : self._at + 3], "little")
        if begin + size > len(self.data):
            return None
        return (begin, size) if size < WHOLE else self._joined(begin)

    def _joined(self, begin: int) -> tuple[int, int] | None:
        """A packet in pieces, once all have arrived; their heads are cut out."""
        heads, end, size = [], begin + WHOLE, WHOLE
        while size == WHOLE:
            if len(self.data) - end < 4:
                return None
            heads.append(end)
            size = int.from_bytes(self.data[end : end + 3], "little")
            end += 4 + size
            if end > len(self.data):
                return None
        for head in reversed(heads):
            del self.data[head : head + 4]
        return begin, end - 4 * len(heads) - begin

    def close(self, end: int) -> pa.RecordBatch:
        """The rows so far; what was received after ``end`` stays."""
        rows = _page(self.data[:end], self.starts, self._width)
        self.data, self.starts = self.data[end:], []
        self._at -= end
        return rows


def _page(data: bytearray, starts: list[int], width: int) -> pa.RecordBatch:
    received = bytes(data)
    buffer = pa.py_buffer(received)
    raw: Bytes = np.frombuffer(received, np.uint8)
    at: Places = np.array(starts, np.int64)
    columns = []
    for _ in range(width):
        column, at = _column(buffer, raw, at)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(width)])


def _column(buffer: pa.Buffer, raw: Bytes, at: Places) -> tuple[pa.Array[Any], Places]:
    """The next column of all rows, and where the one after it begins."""
    first = raw[at].astype(np.int64)
    sizes, begins = first.copy(), at + 1
    null = first == _NULL
    sizes[null] = 0
    for marker, count in ((_TWO, 2), (_THREE, 3), (_EIGHT, 8)):
        which = np.flatnonzero(first == marker)
        if len(which):
            digits = raw[at[which, None] + np.arange(1, count + 1)].astype(np.int64)
            sizes[which] = (digits << (8 * np.arange(count))).sum(axis=1)
            begins[which] += count
    return _bytes(buffer, raw, begins, sizes, null), begins + sizes


def _bytes(
    buffer: pa.Buffer,
    raw: Bytes,
    begins: Places,
    sizes: Places,
    null: np.ndarray[Any, np.dtype[np.bool_]],
) -> pa.Array[Any]:
    """The texts, through a view of 16 bytes each: short ones stand in the view."""
    count = len(begins)
    views = np.zeros((count, 16), np.uint8)
    views[:, :4] = sizes.astype("<i4").view(np.uint8).reshape(count, 4)
    short = np.flatnonzero(sizes <= 12)
    places = np.minimum(begins[short, None] + np.arange(12), len(raw) - 1)
    texts = raw[places]
    texts[np.arange(12) >= sizes[short, None]] = 0
    views[short, 4:] = texts
    long = np.flatnonzero(sizes > 12)
    views[long, 4:8] = raw[begins[long, None] + np.arange(4)]
    offsets = begins[long].astype("<i4").view(np.uint8).reshape(len(long), 4)
    views[long, 12:] = offsets
    valid = None
    if null.any():
        valid = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    found = pa.Array.from_buffers(
        pa.binary_view(), count, [valid, pa.py_buffer(views.tobytes()), buffer]
    )
    plain: pa.Array[Any] = found.cast(pa.binary())
    return plain
