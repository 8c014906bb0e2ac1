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
