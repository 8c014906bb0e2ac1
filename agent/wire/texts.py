# SPDX-License-Identifier: Apache-2.0
"""Columns of text, looked at as a whole.

Most texts of a register are short, and few columns hold one that is too long. That is
seen in all bytes of a column at once, at a small part of what it costs to look at each
value; so is in C whether all are UTF-8. Who is not sure then asks Arrow, which looks at
each. For worker and sandbox only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.contract import SourceError
from connectors.native.text import surely_texts

Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""


def validate(column: Column) -> None:
    """As ``column.validate(full=True)``: offsets inside the data, texts in UTF-8.

    Raises:
        pyarrow.ArrowInvalid: it is not valid.
    """
    if pa.types.is_string(column.type) and _is_sound(column):
        return
    column.validate(full=True)


def _is_sound(column: Column) -> bool:
    """Whether surely all values are valid.

    Raises:
        pyarrow.ArrowInvalid: there are not as many nulls as it says.
    """
    if column.null_count:
        column.view(pa.binary()).validate(full=True)
    try:
        return surely_texts(column)
    except SourceError:  # a checkout that has not compiled our library
        return False


def may_have_nul(text: Column) -> bool:
    """Whether any byte of a column is 0; those under nulls are looked at, too."""
    data = text_bytes(text)
    return bool(data.min(initial=1) == 0)


def fit(text: Column, most: int) -> bool:
    """Whether surely no value has more characters than ``most``.

    What lies under a null counts, too. A character that is not ASCII has two bytes or
    more.
    """
    longest = int(lengths(text).max(initial=0))
    if longest <= most:
        return True
    return longest // 2 <= most and int(text_bytes(text).min(initial=0xFF)) >= 0x80


def all_are(text: Column, letter: str) -> bool:
    """Whether each value of a column without nulls is this ASCII character."""
    one_each = bool((lengths(text) == 1).all())
    return one_each and bool((text_bytes(text) == ord(letter)).all())


def text_bytes(text: Column) -> npt.NDArray[np.uint8]:
    """All bytes of a string or binary column with sound offsets, one after another."""
    data = text.buffers()[2]
    if data is None or not len(text):
        return np.empty(0, np.uint8)
    at = _offsets(text)
    return np.frombuffer(data, np.uint8)[at[0] : at[-1]]


def lengths(text: Column) -> npt.NDArray[np.int32]:
    """Byte length of each value; a null counts as whatever lies under it."""
    return np.diff(_offsets(text))


def _offsets(text: Column) -> npt.NDArray[np.int32]:
    """One more than there are values; a column without values may have none."""
    if not len(text):
        return np.zeros(1, np.int32)
    # of somebody else's column the buffer may be larger by any number of bytes
    return np.frombuffer(text.buffers()[1], np.int32, len(text) + 1, 4 * text.offset)
