# SPDX-License-Identifier: Apache-2.0
"""The compiled library beside this file."""

from __future__ import annotations

import ctypes
import platform
from ctypes import c_char_p, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from connectors.contract import SourceError

FRONT_ENDS = (
    "fep_doubtful_citizen_ids",
    "fep_doubtful_credit_codes",
    "fep_mysql_rows",
    "fep_pg_page",
    "fep_sound_utf8",
    "fep_sqlite_expect",
    "fep_sqlite_fill",
    "fep_sqlite_float",
    "fep_sqlite_handle",
    "fep_sqlite_opened",
    "fep_sqlite_remember",
    "fep_unlisted",
    "fep_utf8",
)
"""What the connectors call besides pages; an older library does not have all of it."""

PATH = Path(__file__).with_name("libfepcolumns.so")


@cache
def library() -> ctypes.CDLL:
    """The library, with the signatures of ``columns.h``.

    Raises:
        SourceError: it is not there, or was made for another machine.
    """
    return load(PATH)


def load(path: Path) -> ctypes.CDLL:
    """The library of a file; see :func:`library`.

    Raises:
        SourceError: ``failed``; what is expected, and what the loader says.
    """
    try:
        found = ctypes.CDLL(str(path))
        found.fep_page_new.restype = c_void_p
        found.fep_page_new.argtypes = [c_int32, c_char_p, c_int64]
        found.fep_page_free.restype = None
        found.fep_page_free.argtypes = [c_void_p]
        found.fep_page_column.restype = None
        found.fep_page_column.argtypes = [c_void_p, c_int32, c_uint64 * 5]
        found.fep_page_rows.restype = c_int64
        found.fep_page_rows.argtypes = [c_void_p]
        found.fep_page_bytes.restype = c_size_t
        found.fep_page_bytes.argtypes = [c_void_p]
        for name in FRONT_ENDS:
            getattr(found, name)
    except (OSError, AttributeError) as e:
        raise SourceError("failed", _trouble(e)) from None
    return found


def _trouble(said: Exception) -> str:
    return (
        f"the reader's library cannot be used: {said}; expected the one of this version"
        f" for {platform.machine()}: install the package for this machine, or run"
        " scripts/native in a checkout"
    )
