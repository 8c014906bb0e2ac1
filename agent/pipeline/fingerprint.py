# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of rows and keys over Arrow columns, 16 bytes each, a column at a time.

For finding what changed, not for proof: nobody is kept from making two rows with one
fingerprint, but by accident it does not happen (two lanes of 64 bits). SHA-256 over the
wire's frames costs two to three times as much for a row of 14 columns.

Rules

1. Equal rows of one catalog have equal fingerprints, however their arrays are sliced,
   chunked, or filled under their NULLs. -0.0 is 0.0, as in the canonical text.
2. Each value is one or more words of 64 bits: numbers, dates and instants as they are,
   decimals as two, texts as their length plus one and their bytes, eight at a time.
   NULL of a text is the length word 0; of others a word that only NULL has, mixed in
   addition.
3. A word is mixed (multiply, shift, multiply) and goes into both lanes, differently.
   Lanes begin with the salt. Every step is a bijection of the lane.
4. What is computed is called ``mix-1`` for ever. A change is another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Words = np.ndarray[Any, np.dtype[np.uint64]]
Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_C3 = np.uint64(0x52DCE729)
_C4 = np.uint64(0x9E3779B97F4A7C15)
_F1 = np.uint64(0xFF51AFD7ED558CCD)
_F2 = np.uint64(0xC4CEB9FE1A85EC53)
_FIVE = np.uint64(5)
_NULL = 0xA24BAED4963EE407
_LANES = (0x243F6A8885A308D3, 0x13198A2E03707344)
"""Odd and arbitrary numbers: those of MurmurHash3, of the golden ratio and of pi."""

_SHIFTS = {n: np.uint64(n) for n in (27, 29, 31, 32, 33, 37)}


def fingerprints(columns: Sequence[Column], rows: int, salt: int = 0) -> Words:
    """Two words for each row.

    Args:
        columns: arrays of the wire's types, each of so many rows.
        rows: their number.
        salt: 64 bits.
    """
    mixer = _Mixer(rows, salt)
    for column in columns:
        if _is_text(column.type):
            _add_text(mixer, column)
        else:
            _add_words(mixer, column)
    return mixer.finished()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


class _Mixer:
    """The two lanes of every row."""

    def __init__(self, rows: int, salt: int) -> None:
        self._a, self._b = (np.full(rows, x ^ salt, np.uint64) for x in _LANES)

    def add(self, words: Words, at: np.ndarray[Any, Any] | None = None) -> None:
        """Take one word of each row, or of the rows at some places.

        ``words`` is used up.
        """
        words *= _C1
        words ^= words >> _SHIFTS[29]
        words *= _C2
        words ^= words >> _SHIFTS[32]
        a, b = (self._a, self._b) if at is None else (self._a[at], self._b[at])
        a ^= words
        high = a << _SHIFTS[27]
        a >>= _SHIFTS[37]
        a |= high
        a *= _FIVE
        a += _C3
        high = b << _SHIFTS[33]
        b >>= _SHIFTS[31]
        b |= high
        b += words
        b *= _C4
        if at is not None:
            self._a[at], self._b[at] = a, b

    def finished(self) -> Words:
        """The lanes after a last mixing, one row a row."""
        found = np.stack([self._a + self._b, self._b], axis=1)
        for shift, factor in ((33, _F1), (29, _F2)):
            found ^= found >> _SHIFTS[shift]
            found *= factor
        found ^= found >> _SHIFTS[32]
        return found


def _add_words(mixer: _Mixer, column: Column) -> None:
    kind = column.type
    if pa.types.is_decimal(kind):
        start, end = 2 * column.offset, 2 * (column.offset + len(column))
        raw = np.frombuffer(column.buffers()[1], "<u8")[start:end].reshape(-1, 2)
        words = [raw[:, 0].copy(), raw[:, 1].copy()]
    else:
        words = [_plain(column)]
    null = None
    if column.null_count:
        null = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
    for word in words:
        if null is not None:
            word[null] = 0
        mixer.add(word)
    if null is not None:
        mixer.add(np.full(len(null), _NULL, np.uint64), null)


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


def _add_text(mixer: _Mixer, column: Column) -> None:
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, "<i4")[column.offset :][: len(column) + 1]
    begins = places[:-1].astype(np.int64)
    sizes = np.diff(places).astype(np.int64)
    words = (sizes + 1).astype(np.uint64)
    if column.null_count:
        null = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        sizes[null], words[null] = 0, 0
    mixer.add(words)
    first, last = int(places[0]), int(places[-1])
    raw = b"" if data is None else memoryview(data)[first:last].tobytes()
    eight = np.ndarray((len(raw) + 1,), "<u8", raw + bytes(8), 0, (1,))
    begins -= first
    at = np.flatnonzero(sizes)
    begins, sizes = begins[at], sizes[at]
    done = 0
    while len(at):
        found = eight[begins + done]
        left = sizes - done
        short = np.flatnonzero(left < 8)
        bits = ((8 - left[short]) * 8).astype(np.uint64)
        found[short] = found[short] << bits >> bits
        mixer.add(found, None if len(at) == len(column) else at)
        more = left > 8
        at, begins, sizes = at[more], begins[more], sizes[more]
        done += 8
