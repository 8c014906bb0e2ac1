# SPDX-License-Identifier: Apache-2.0
"""Texts of a database that calls Latin-1 what is another encoding: as they were meant.

A database that was declared Latin-1 and fed with GBK gives one wrong character for each
byte. From these the bytes are known again, and so is the text.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.values.columns import Column, truth
from agent.wire.arrow import LONG_CAP

_BYTES = {chr(byte): byte for byte in range(256)} | {
    bytes((byte,)).decode("cp1252"): byte
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # cp1252 has no characters there
}
"""Character -> the byte that it stands for, in ISO 8859-1 and in Windows' and MySQL's
own Latin-1."""


def repaired(column: Column, encoding: str) -> Column:
    """The column with the texts that its bytes are in ``encoding``.

    Args:
        column: ``string``; or ``binary``, if a text could not be decoded.
        encoding: of which ASCII is a part, a codec of Python.
            A text of more than :data:`LONG_CAP` bytes in it counts as none, but for
            ASCII, which stays as it is: too long, whatever stands beside it.

    Returns:
        ``string``; ``binary`` if a value is no text in this encoding: then UTF-8 where
        it is one and bytes that are not UTF-8 where not.
    """
    if column.type == pa.string():
        odd = truth(pc.invert(pc.string_is_ascii(column)))
        if not odd.any():
            return column
    values = [_meant(value, encoding) for value in column.to_pylist()]
    if any(isinstance(value, bytes) for value in values):
        raw: Any = [v.encode() if isinstance(v, str) else v for v in values]
        return pa.array(raw, pa.binary())
    return pa.array(values, pa.string())


def _meant(value: str | bytes | None, encoding: str) -> str | bytes | None:
    if value is None:
        return None
    if len(value) > LONG_CAP:  # a lookup may have cut it
        return value if value.isascii() else b"\xff"
    try:
        text = value.decode() if isinstance(value, bytes) else value
        return bytes(_BYTES[letter] for letter in text).decode(encoding)
    except (UnicodeError, KeyError):
        raw = value.encode() if isinstance(value, str) else value
        return b"\xff" + raw
