# SPDX-License-Identifier: Apache-2.0
"""Bytes of a column taken for texts, if that is what they are."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import pyarrow as pa

from connectors.native.loader import library

_OFFSET = 4
"""Bytes of an offset."""


@cache
def _valid() -> Callable[[int, int, int], int]:
    """``fep_utf8``."""
    found = library().fep_utf8
    found.restype = c_int32
    found.argtypes = [c_void_p, c_int64, c_void_p]
    return found


@cache
def _sound() -> Callable[[int, int, int, int], int]:
    """``fep_sound_utf8``."""
    found = library().fep_sound_utf8
    found.restype = c_int32
    found.argtypes = [c_void_p, c_int64, c_void_p, c_int64]
    return found


def as_text(raw: pa.Array[Any]) -> pa.Array[Any] | None:
    """The same values as ``string``, or None if one is not UTF-8.

    Like Arrow's cast, but a column is looked at as a whole; nothing is copied.

    Args:
        raw: type ``binary``.
    """
    _, offsets, data = raw.buffers()
    if not len(raw) or offsets is None or data is None or not data.size:
        return raw.view(pa.string())
    first = offsets.address + _OFFSET * raw.offset
    if not _valid()(first, len(raw), data.address):
        return None
    return raw.view(pa.string())


def surely_texts(column: pa.Array[Any]) -> bool:
    """Whether a column from anywhere holds UTF-8 in ascending places of its data.

    What lies under a null counts, too. Not sure of a column without bytes, with too
    few offsets, or with some that lie where C does not look for them.

    Args:
        column: type ``string``.

    Raises:
        SourceError: there is no compiled library.
    """
    _, offsets, data = column.buffers()
    if offsets is None or data is None or not len(column):
        return False
    first = offsets.address + _OFFSET * column.offset
    enough = offsets.size >= _OFFSET * (column.offset + len(column) + 1)
    if first % _OFFSET or not enough or not data.size:
        return False
    return bool(_sound()(first, len(column), data.address, data.size))
