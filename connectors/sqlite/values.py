# SPDX-License-Identifier: Apache-2.0
"""Values of SQLite, each with its own type, as columns of Arrow.

Rules

1. A column is native only if every value of the page is: whole numbers for I, 0 and 1
   for L, floats (and whole numbers that a float holds) for B and F.
2. Otherwise it is text: whole numbers and texts as they stand, a float as the shortest
   decimal that gives the same float again (SQLite's own rendering keeps 15 digits).
3. A value that is bytes makes its column ``binary``; the texts beside it are UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from connectors.sqlite.text import text_of

_EXACT = 2**53
"""All whole numbers up to here are floats."""


def column(values: Sequence[Any], letter: str) -> pa.Array[Any]:
    """Values of one column and page (int, float, str, bytes, None).

    Args:
        values: as the driver gives them.
        letter: type of the item.
    """
    kinds = set(map(type, values)) - {type(None)}
    if bytes in kinds or letter == "G":
        return pa.array([_bytes(v) for v in values], pa.binary())
    if kinds <= {str}:
        return pa.array(values, pa.string())
    native = _native(values, letter, kinds)
    if native is not None:
        return native
    return pa.array([text_of(v) for v in values], pa.string())


def _native(
    values: Sequence[Any], letter: str, kinds: set[type]
) -> pa.Array[Any] | None:
    """The column in the item's own type, or None if a value forbids it."""
    if letter == "I" and kinds == {int}:
        return pa.array(values, pa.int64())
    if letter == "L" and kinds == {int} and set(values) <= {0, 1, None}:
        return pa.array([None if v is None else v == 1 for v in values], pa.bool_())
    floats = letter in "BF" and kinds <= {int, float}
    if floats and all(type(v) is not int or abs(v) <= _EXACT for v in values):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return None


def _bytes(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return str(text_of(value)).encode()
