# SPDX-License-Identifier: Apache-2.0
"""Values of SQLite, each with its own type, as columns of Arrow.

Rules

1. A column is native only if every value of the page is: whole numbers for I, 0 and 1
   for L, floats (and whole numbers that a float holds) for B and F, and for N and Y
   numbers that are decimals of the item's scale.
2. Otherwise it is text: whole numbers and texts as they stand, a float as the shortest
   decimal that gives the same float again (SQLite's own rendering keeps 15 digits).
3. Texts and bytes come alike; the column is ``binary`` where not all of it is UTF-8.

A float is the decimal ``n / 10**s`` if that division, of two exact floats and so
rounded once, gives the float again. With at most 15 digits in ``n`` it is the only
decimal of so few digits that does (IEEE 754, DBL_DIG): the one that rule 2 would print.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.contract import ColumnSpec
from connectors.sqlite.text import text_of

_DIGITS = 15
"""Digits of which no two decimals are the same float."""

_MONEY = (19, 4)
"""Precision and scale of Y."""

Values = Sequence[Any]
Array = Any
"""An Arrow array of any kind."""


def column(values: Values, letter: str) -> Array:
    """Values of one column, in a type that :func:`finished` takes.

    Args:
        values: as the driver gives them: int, float, str, bytes, None.
        letter: type of the item.
    """
    native = _NATIVE.get(letter)
    found = native(values) if native else None
    return _bytes(values) if found is None else found


def finished(array: Array, spec: ColumnSpec) -> Array:
    """The column of a page.

    Args:
        array: from :func:`column`; several of one type may be put together.
        spec: what the column is bound to.
    """
    if spec.type in "NY" and pa.types.is_float64(array.type):
        found = _decimals(array, spec)
        array = _bytes(array.to_pylist()) if found is None else found
    if spec.type == "G" or not pa.types.is_binary(array.type):
        return array
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return array


def _bytes(values: Values) -> Array:
    try:
        return pa.array(values, pa.binary())
    except pa.ArrowTypeError:  # a number is among them
        return pa.array(list(map(_written, values)), pa.binary())


def _written(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(text_of(value)).encode()


def _whole(values: Values) -> Array | None:
    try:
        found = pa.array(values)  # told to make int64, it would cut 3.5 to 3
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    if pa.types.is_null(found.type):
        return found.cast(pa.int64())
    return found if pa.types.is_int64(found.type) else None


def _truth(values: Values) -> Array | None:
    found = _whole(values)
    if found is None or set(found.unique().to_pylist()) - {0, 1, None}:
        return None
    return found.cast(pa.bool_())


def _float(values: Values) -> Array | None:
    try:
        return pa.array(values, pa.float64())  # an int above 2**53 is an error
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return None


def decimal_of(spec: ColumnSpec) -> tuple[int, int] | None:
    """Precision and scale of an item N or Y; None if a float does not tell its values.

    Args:
        spec: what the column is bound to.
    """
    precision, scale = _MONEY if spec.type == "Y" else (spec.length, spec.scale or 0)
    return None if precision is None or scale > _DIGITS else (precision, scale)


def _decimals(floats: Array, spec: ColumnSpec) -> Array | None:
    """The decimals that these are; None if any of them needs more digits."""
    kind = decimal_of(spec)
    if kind is None:
        return None
    precision, scale = kind
    found = floats.fill_null(0.0).to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        units = np.rint(found * 10.0**scale)
        exact = (np.abs(units) < 10.0**_DIGITS) & (units / 10.0**scale == found)
    if not exact.all():
        return None
    halves = np.empty((len(found), 2), "<i8")  # 128 bits, the lower half first
    halves[:, 0] = units
    halves[:, 1] = halves[:, 0] >> 63
    return pa.Array.from_buffers(
        pa.decimal128(precision, scale),
        len(found),
        [floats.buffers()[0], pa.py_buffer(halves.data)],
    )


_NATIVE: Mapping[str, Callable[[Values], Array | None]] = {
    "I": _whole,
    "L": _truth,
    "B": _float,
    "F": _float,
    "N": _float,
    "Y": _float,
}
