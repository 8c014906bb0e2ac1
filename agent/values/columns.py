# SPDX-License-Identifier: Apache-2.0
"""Columns: how text is parsed in two paths, and small helpers over Arrow arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agent.wire.texts import text_bytes

Column = Any
"""An Arrow array; the stubs' own type fits no function that takes several kinds."""
Mask = npt.NDArray[np.bool_]
Faults = dict[str, Mask]

PIECE = 128
"""Rows that share the fate of a failed cast where nothing tells the odd ones apart."""


@dataclass(frozen=True)
class Parsed:
    """A column in its item's type.

    Args:
        values: null where the text is null or faulty.
        faults: reason -> rows, disjoint; empty if all is well.
    """

    values: Column
    faults: Faults


Fast = Callable[[Any], Column]
Slow = Callable[[Any], Parsed]


def truth(array: Column) -> Mask:
    """A boolean column as a mask; null counts as false."""
    if array.null_count:
        array = pc.fill_null(array, False)
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask


def two_paths(
    column: Column, fast: Fast, slow: Slow, *, usual: str | None = None
) -> Parsed:
    """``fast`` for the whole column, else for its usual values, else piece by piece.

    Args:
        column: what to parse.
        fast: all values of a column, or None if any of them needs a closer look.
        slow: any column.
        usual: pattern of texts that ``fast`` nearly always takes.
    """
    whole = fast(column)
    if whole is not None:
        return Parsed(whole, {})
    around = _around(column, fast, slow, usual) if usual else None
    return _piecewise(column, fast, slow) if around is None else around


def _around(column: Column, fast: Fast, slow: Slow, usual: str) -> Parsed | None:
    """``slow`` for unusual texts only; None if a usual one fails, too."""
    ordinary = pc.match_substring_regex(column, usual)
    odd = truth(pc.invert(ordinary))
    values = fast(pc.if_else(ordinary, column, pa.scalar(None, column.type)))
    if values is None or not odd.any():
        return None
    rest = slow(column.filter(odd))
    values = pc.replace_with_mask(values, pa.array(odd), rest.values)
    return Parsed(values, _scatter(rest.faults, np.flatnonzero(odd), size=len(odd)))


def _piecewise(column: Column, fast: Fast, slow: Slow) -> Parsed:
    parts = [fast(column.slice(start, PIECE)) for start in range(0, len(column), PIECE)]
    failed = [i * PIECE for i, part in enumerate(parts) if part is None]
    if not failed:
        return Parsed(_joined(parts), {})
    rest = slow(pa.concat_arrays([column.slice(s, PIECE) for s in failed]))
    for i, start in enumerate(failed):
        parts[start // PIECE] = rest.values.slice(i * PIECE, PIECE)
    rows = np.concatenate([np.arange(s, s + PIECE) for s in failed])
    faults = _scatter(rest.faults, rows, size=len(column))
    return Parsed(_joined(parts), faults)


def _joined(parts: list[Column | None]) -> Column:
    return pa.concat_arrays([part for part in parts if part is not None])


def _scatter(faults: Faults, rows: npt.NDArray[np.int64], *, size: int) -> Faults:
    found: Faults = {}
    for reason, mask in faults.items():
        if mask.any():
            found[reason] = np.zeros(size, np.bool_)
            found[reason][rows[: len(mask)][mask]] = True
    return found


def cast(column: Column, to: pa.DataType) -> Column | None:
    """The column in another type, or None if a value does not allow it."""
    try:
        return column.cast(to)
    except pa.ArrowInvalid:
        return None


def only(text: Column, table: npt.NDArray[np.bool_]) -> bool:
    """Whether all bytes of a column belong to a table of :func:`letters`."""
    return bool(table[text_bytes(text)].all())


def letters(allowed: bytes) -> npt.NDArray[np.bool_]:
    """A table of bytes for :func:`only`."""
    table = np.zeros(256, np.bool_)
    table[list(allowed)] = True
    return table


def matching(text: Column, pattern: str) -> Column:
    """The values that match; null elsewhere."""
    return pc.if_else(
        pc.match_substring_regex(text, pattern), text, pa.scalar(None, text.type)
    )


def missing(found: Column, text: Column) -> Mask:
    """Rows with text but nothing found in it."""
    return truth(pc.and_(found.is_null(), text.is_valid()))


def trim(text: Column) -> Column:
    """Without blanks and tabs around."""
    return pc.utf8_trim(text, " \t")


def within(values: Column, low: Any, high: Any) -> bool:
    """Whether all values lie between two bounds; an empty column does."""
    ends: Any = pc.min_max(values).as_py()
    return ends["min"] is None or bool(low <= ends["min"] and ends["max"] <= high)


_ZEROS: dict[pa.DataType, object] = {
    pa.string(): "",
    pa.binary(): b"",
    pa.bool_(): False,
}


def canonical(values: Column) -> Column:
    """The same column with nothing under its nulls.

    A null hides a value and does not erase it: what was withheld would leave in the
    payload, and equal rows of two sources would not be equal bytes.
    """
    if not values.null_count:
        return values
    valid = np.packbits(truth(values.is_valid()), bitorder="little")
    filled = pc.fill_null(values, pa.scalar(_ZEROS.get(values.type, 0), values.type))
    buffers = [pa.py_buffer(valid.tobytes()), *filled.buffers()[1:]]
    return pa.Array.from_buffers(values.type, len(values), buffers)
