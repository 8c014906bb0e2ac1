# SPDX-License-Identifier: Apache-2.0
"""Which values of a column of texts a rule does not take; see ``rules.c``.

Texts have type ``string``. A mask has a row for each of theirs; null is never marked.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import POINTER, Structure, byref, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.native.loader import library

Mask = npt.NDArray[np.bool_]

MOST = 128
"""Values that a list may have."""


class _Texts(Structure):
    """``fep_texts``; whoever makes one keeps the column."""

    _fields_ = (
        ("validity", c_void_p),
        ("offsets", c_void_p),
        ("data", c_void_p),
        ("size", c_int64),
        ("first", c_int64),
        ("rows", c_int64),
    )


def doubtful_citizen_ids(text: pa.Array[Any]) -> Mask | None:
    """Rows that are not surely a valid citizen number of 18 characters.

    That is its form, a day of birth that was, and the check character.

    Returns:
        None if all are.

    Raises:
        SourceError: as of ``library``.
    """
    return _marked("fep_doubtful_citizen_ids", text)


def doubtful_credit_codes(text: pa.Array[Any]) -> Mask | None:
    """Rows that are not surely a valid credit code: its alphabet, the check character.

    Returns:
        None if all are.

    Raises:
        SourceError: as of ``library``.
    """
    return _marked("fep_doubtful_credit_codes", text)


def unlisted(text: pa.Array[Any], values: pa.Array[Any]) -> Mask | None:
    """Rows that are none of a few values, byte for byte.

    Args:
        text: what is judged.
        values: at most :data:`MOST`, none of them null.

    Returns:
        None if there are none.

    Raises:
        ValueError: more values, or a null among them.
        SourceError: as of ``library``.
    """
    return _marked("fep_unlisted", text, values)


def _marked(name: str, *columns: pa.Array[Any]) -> Mask | None:
    """The mask that a function makes of its first column; None if it marks no row."""
    marks = np.empty(len(columns[0]), np.bool_)
    texts = [byref(_texts(column)) for column in columns]
    found = _function(name, len(columns))(*texts, marks.ctypes.data)
    if found < 0:
        raise ValueError(f"expected at most {MOST} values and no null: status {found}")
    return marks if found else None


def _texts(column: pa.Array[Any]) -> _Texts:
    validity, offsets, data = column.buffers()
    return _Texts(
        validity.address if validity else None,
        offsets.address if offsets else None,
        data.address if data else None,
        data.size if data else 0,
        column.offset,
        len(column),
    )


@cache
def _function(name: str, columns: int) -> Callable[..., int]:
    found = library()[name]
    found.restype = c_int64
    found.argtypes = [POINTER(_Texts)] * columns + [c_void_p]
    return found
