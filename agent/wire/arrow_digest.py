# SPDX-License-Identifier: Apache-2.0
"""Canonical text, frames and digests of rows over Arrow columns (wire.md §2).

The same as ``agent.crypto.frames`` does for Python values, a column at a time: a test
holds the two together. For worker and sandbox processes only.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from sys import byteorder
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.crypto.frames import NULL_FRAME, TYPE_BYTES, add_digests, number_text
from agent.model.item import Item

Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""

_SLICE_ROWS = 65_536
_SLICE_CELLS = 1 << 20
"""Frames of so many rows and cells are in memory at once."""


def canonical_columns(
    batch: pa.RecordBatch, items: Sequence[Item]
) -> list[list[bytes | None]]:
    """Canonical bytes of each item's values, None for NULL; one list a column."""
    return [_canonical(batch.column(i.name), i.type).to_pylist() for i in items]


def key_frames(batch: pa.RecordBatch, items: Sequence[Item]) -> list[bytes]:
    """The canonical key of each row: the frames of its key items."""
    keys = [item for item in items if item.key]
    return [key for part in _slices(batch, len(keys)) for key in _frames(part, keys)]


def row_digests(batch: pa.RecordBatch, items: Sequence[Item]) -> Iterator[int]:
    """Digest of each row, in order."""
    sha256, number = hashlib.sha256, int.from_bytes
    for part in _slices(batch, len(items)):
        for data in _frames(part, items):
            yield number(sha256(data).digest()[:16], "big")


def row_digest_sum(batch: pa.RecordBatch, items: Sequence[Item]) -> int:
    """Sum of the rows' digests modulo 2^128."""
    return add_digests(row_digests(batch, items))


def _slices(batch: pa.RecordBatch, columns: int) -> Iterator[pa.RecordBatch]:
    step = max(1, min(_SLICE_ROWS, _SLICE_CELLS // max(1, columns)))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def _frames(batch: pa.RecordBatch, items: Sequence[Item]) -> list[bytes]:
    """The frames of the items, joined, of each row."""
    parts: list[Any] = []
    for item in items:
        values = _canonical(batch.column(item.name), item.type)
        parts.append(_heads(values, TYPE_BYTES[item.type]))
        parts.append(values.fill_null(b"") if values.null_count else values)
    joined: list[bytes] = pc.binary_join_element_wise(*parts, b"").to_pylist()
    return joined


def _heads(values: Column, type_byte: int) -> Column:
    """Type byte and u32 length of each value; lengths repeat, so each is made once."""
    sizes: Column = pc.binary_length(values)
    lengths = sizes.dictionary_encode()
    head = bytes([type_byte])
    made = [head + n.to_bytes(4, "big") for n in lengths.dictionary.to_pylist()]
    heads = pa.array(made, pa.binary()).take(lengths.indices)
    return heads.fill_null(NULL_FRAME) if heads.null_count else heads


# --- canonical text by type -------------------------------------------------------


def _canonical(column: Column, letter: str) -> Column:
    return _TEXT[letter](column).cast(pa.binary())


def _as_is(column: Column) -> Column:
    return column


def _to_string(column: Column) -> Column:
    return column.cast(pa.string())


def _decimal(column: Column) -> Column:
    scale = column.type.scale
    if scale > 6:  # Arrow writes small numbers as 1E-7 then
        plain = [None if v is None else number_text(v) for v in column.to_pylist()]
        return pa.array(plain, pa.string())
    text = column.cast(pa.string())
    if scale == 0:
        return text
    return pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".")


def _instant(column: Column) -> Column:
    naive = column.view(pa.timestamp("us"))  # a cast would ask the system's tzdata
    text = naive.cast(pa.string())
    text = pc.utf8_replace_slice(text, 10, 11, "T")
    return pc.binary_join_element_wise(text, "Z", "")


def _logical(column: Column) -> Column:
    return pc.if_else(column, "true", "false")


def _float(column: Column) -> Column:
    """16 hex digits of the big-endian bits; -0.0 + 0.0 is +0.0."""
    values = pc.add(column, 0.0).fill_null(0.0)
    start = values.offset * 8
    bits = array("Q")
    bits.frombytes(memoryview(values.buffers()[1])[start : start + 8 * len(values)])
    if byteorder == "little":
        bits.byteswap()
    digits = pa.py_buffer(bits.tobytes().hex().encode("ascii"))
    text = pa.Array.from_buffers(pa.binary(16), len(values), [None, digits])
    return pc.if_else(column.is_valid(), text.cast(pa.binary()), None)


_TEXT: Mapping[str, Callable[[Column], Column]] = MappingProxyType(
    {
        **dict.fromkeys("CMG", _as_is),
        **dict.fromkeys("NY", _decimal),
        **dict.fromkeys("ID", _to_string),
        "T": _instant,
        "L": _logical,
        **dict.fromkeys("BF", _float),
    }
)
