# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of rows and keys over Arrow columns, 16 bytes each, a column at a time.

For finding what changed, not for proof: nobody is kept from making two rows with one
fingerprint, but by accident it does not happen (two lanes of 64 bits). SHA-256 over the
wire's frames costs many times as much for a row of 14 columns.

Rules

1. Equal rows of one catalog have equal fingerprints, however their arrays are sliced,
   chunked, or filled under their NULLs. -0.0 is 0.0, as in the canonical text.
2. Each value is one or more words of 64 bits: numbers, dates and instants as they are,
   decimals as two, texts as their length plus one and their bytes, eight at a time.
   NULL of a text is the length word 0; of others a word that only NULL has, besides.
3. A word is mixed (shift, multiply, shift: a bijection), multiplied by an odd number of
   its place and lane, and added to both lanes. The numbers come from the salt. So words
   that are 0 cost nothing, and a row with one word changed never keeps its fingerprint.
4. What is computed is called ``mix-2`` for ever. A change is another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Words = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x9E3779B97F4A7C15)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_LANES = (0x243F6A8885A308D3, 0x13198A2E03707344)
"""Odd and arbitrary numbers: those of MurmurHash3, of the golden ratio and of pi."""

_SHIFTS = {n: np.uint64(n) for n in (27, 29, 30, 31, 32, 33)}
_NULL = 0xA24BAED4963EE407

_SLICE = 16384
"""Rows at a time: what is worked on stays near the processor."""
_MARK, _VALUE = 0, 1
"""Places of a column's words: length or NULL, then the value's."""
_COLUMN = 1 << 32
"""More places than a column has."""


def fingerprints(columns: Sequence[Column], rows: int, salt: int = 0) -> Words:
    """Two words for each row.

    Args:
        columns: arrays of the wire's types, each of so many rows.
        rows: their number.
        salt: 64 bits.
    """
    found: Words = np.empty((rows, 2), np.uint64)
    for start in range(0, rows, _SLICE):
        size = min(_SLICE, rows - start)
        parts = [column.slice(start, size) for column in columns]
        _slice(parts, _Lanes(size, salt), found[start : start + size])
    return found


def _slice(columns: Sequence[Column], lanes: _Lanes, out: Words) -> None:
    for number, column in enumerate(columns):
        if _is_text(column.type):
            _add_text(lanes, number * _COLUMN, column)
        else:
            _add_words(lanes, number * _COLUMN, column)
    lanes.finish(out)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


@lru_cache(maxsize=4096)
def _factors(salt: int, place: int, count: int) -> tuple[Words, Words]:
    """Odd numbers of ``count`` places from one on, for each lane."""
    first, second = (_series(salt ^ lane, place, count) for lane in _LANES)
    return first, second


def _series(seed: int, place: int, count: int) -> Words:
    """SplitMix64 of consecutive numbers, made odd."""
    start = (seed + place * int(_C2)) % 2**64
    x = np.arange(1, count + 1, dtype=np.uint64) * _C2 + np.uint64(start)
    for shift, factor in ((30, _F1), (27, _F2)):
        x ^= x >> _SHIFTS[shift]
        x *= factor
    x ^= x >> _SHIFTS[31]
    x |= np.uint64(1)
    x.setflags(write=False)
    return x


class _Lanes:
    """The two sums of every row."""

    def __init__(self, rows: int, salt: int) -> None:
        self._salt = salt
        first, second = (np.full(rows, lane ^ salt, np.uint64) for lane in _LANES)
        self._sums = (first, second)
        self._scratch = np.empty(rows * 16, np.uint64)

    def add(self, words: Words, place: int, at: Places | None = None) -> None:
        """Take words of each row, or of the rows at some places.

        Args:
            words: one a row, or two dimensions: so many a row. They are used up.
            place: of the first one.
            at: rows, each once.
        """
        if words.size > self._scratch.size:
            self._scratch = np.empty(words.size, np.uint64)
        other = self._scratch[: words.size].reshape(words.shape)
        np.right_shift(words, _SHIFTS[32], out=other)
        words ^= other
        words *= _C1
        np.right_shift(words, _SHIFTS[29], out=other)
        words ^= other
        count = 1 if words.ndim == 1 else words.shape[1]
        factors = _factors(self._salt, place, count)
        for total, factor in zip(self._sums, factors, strict=True):
            part = words * factor[0] if words.ndim == 1 else words @ factor
            if at is None:
                total += part
            else:
                total[at] += part

    def finish(self, out: Words) -> None:
        """The sums after a last mixing, one row a row."""
        for lane, total in enumerate(self._sums):
            for shift, factor in ((33, _F1), (29, _F2)):
                total ^= total >> _SHIFTS[shift]
                total *= factor
            total ^= total >> _SHIFTS[32]
            out[:, lane] = total


def _add_words(lanes: _Lanes, place: int, column: Column) -> None:
    words = _decimal(column) if pa.types.is_decimal(column.type) else [_plain(column)]
    null = None
    if column.null_count:
        null = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        lanes.add(np.full(len(null), _NULL, np.uint64), place + _MARK, null)
    for i, word in enumerate(words):
        if null is not None:
            word[null] = 0
        lanes.add(word, place + _VALUE + i)


def _decimal(column: Column) -> list[Words]:
    start, end = 2 * column.offset, 2 * (column.offset + len(column))
    raw = np.frombuffer(column.buffers()[1], "<u8")[start:end].reshape(-1, 2)
    return [raw[:, 0].copy(), raw[:, 1].copy()]


def _plain(column: Column) -> Words:
    """Values of 64 bits or fewer as words of their own."""
    kind = column.type
    if pa.types.is_floating(kind):
        values = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False) + 0.0
        return np.array(values).view(np.uint64)
    if pa.types.is_timestamp(kind):
        column = column.view(pa.int64())
    elif pa.types.is_date32(kind):
        column = column.view(pa.int32())
    whole = pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return np.array(whole, np.int64).view(np.uint64)


def _add_text(lanes: _Lanes, place: int, column: Column) -> None:
    text = column if pa.types.is_string(column.type) else column.view(pa.string())
    if column.null_count:
        text = pc.fill_null(text, "")
    _, offsets, _ = text.buffers()
    places = np.frombuffer(offsets, "<i4")[text.offset :][: len(text) + 1]
    sizes = np.diff(places).astype(np.int64)
    marks = (sizes + 1).astype(np.uint64)
    if column.null_count:
        marks[column.is_null().to_numpy(zero_copy_only=False)] = 0
    lanes.add(marks, place + _MARK)
    for at, width in _widths(sizes):
        some = text if at is None else text.take(pa.array(at))
        padded = pc.ascii_rpad(some, 8 * width, padding="\0")
        raw = np.frombuffer(padded.buffers()[2], "<u8", len(some) * width)
        words = raw.reshape(-1, width) if width > 1 else raw
        lanes.add(words.copy(), place + _VALUE, at)


def _widths(sizes: Places) -> Iterator[tuple[Places | None, int]]:
    """Rows that are filled up to one width, in words; None is all rows.

    Where a few are much longer than the others, each power of two has its own.
    """
    words = (sizes + 7) >> 3
    most = int(words.max(initial=0))
    if not most:
        return
    if most * len(sizes) <= 2 * int(words.sum()) + 4 * len(sizes):
        yield None, most
        return
    classes = np.ceil(np.log2(np.maximum(words, 1))).astype(np.int64)
    for one in np.unique(classes[words > 0]).tolist():
        at = np.flatnonzero((classes == one) & (words > 0))
        yield at, int(words[at].max())
