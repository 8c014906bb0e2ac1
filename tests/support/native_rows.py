# SPDX-License-Identifier: Apache-2.0
"""Rows put into a page one value at a time, by ``native_rows.c``."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
from collections.abc import Sequence
from ctypes import c_char_p, c_int32, c_size_t, c_void_p
from datetime import date, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

from connectors.native.page import Page

ROOT = Path(__file__).resolve().parents[2]
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a timestamp without a zone
SANITIZED = "cc -fsanitize=address,undefined -fno-sanitize-recover=all"
"""A compiler whose library ends the process where it touches what it must not."""


def build(out: Path, *sources: Path, compiler: str | None = None) -> Path:
    """The library, with further sources, in another file; $CC says by whom."""
    env = {**os.environ, **({"CC": compiler} if compiler else {})}
    words = [ROOT / "scripts/native", out, *sources]
    subprocess.run(words, env=env, check=True, capture_output=True)
    return out


class Rows:
    """The functions that append.

    Args:
        folder: for the compiled file.
    """

    def __init__(self, folder: Path) -> None:
        here = Path(__file__).with_suffix(".c")
        found = ctypes.CDLL(str(build(folder / "librows.so", here)))
        found.fep_put_null.argtypes = [c_void_p, c_int32]
        found.fep_put_bytes.argtypes = [c_void_p, c_int32, c_char_p, c_size_t]
        found.fep_put_fixed.argtypes = [c_void_p, c_int32, c_char_p]
        found.fep_end_row.argtypes = [c_void_p]
        found.fep_put_far.argtypes = [c_void_p, c_int32, c_size_t, c_size_t]
        self._library = found

    def put(self, page: Page, column: int, value: Any) -> int:
        """One value; the status."""
        pointer = page.pointer
        match value:
            case None:
                return int(self._library.fep_put_null(pointer, column))
            case str() | bytes():
                raw = value.encode() if isinstance(value, str) else value
                put = self._library.fep_put_bytes
                return int(put(pointer, column, raw, len(raw)))
            case _:
                raw = _number(value).to_bytes(16, "little", signed=True)
                return int(self._library.fep_put_fixed(pointer, column, raw))

    def row(self, page: Page, values: Sequence[Any]) -> bool:
        """One value for each column; whether there is room for another row."""
        assert [self.put(page, i, v) for i, v in enumerate(values)] == [0] * len(values)
        return bool(self._library.fep_end_row(page.pointer))

    def far(self, page: Page, column: int, used: int, size: int) -> int:
        """The status of so many more bytes for a column that holds ``used``."""
        return int(self._library.fep_put_far(page.pointer, column, used, size))


def _number(value: Any) -> int:
    match value:
        case datetime():
            return (value - EPOCH) // timedelta(microseconds=1)
        case date():
            return value.toordinal() - date(1970, 1, 1).toordinal()
        case Decimal():
            return int(value.scaleb(2, Context(prec=50)))
        case float():
            (bits,) = struct.unpack("<q", struct.pack("<d", value))
            return int(bits)
        case _:
            return int(value)
