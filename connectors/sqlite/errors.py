# SPDX-License-Identifier: Apache-2.0
"""Errors of SQLite as ours: of the driver, and of its C functions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from connectors.contract import Kind, SourceError

BUSY_S = 10.0
"""How long to wait for a writer's lock, seconds."""

_KINDS: Mapping[str, Kind] = {
    "SQLITE_CANTOPEN": "unreachable",
    "SQLITE_IOERR": "unreachable",
    "SQLITE_PERM": "right",
    "SQLITE_AUTH": "right",
    "SQLITE_READONLY": "right",
    "SQLITE_BUSY": "timeout",
    "SQLITE_LOCKED": "timeout",
    "SQLITE_INTERRUPT": "timeout",
}
"""Primary result code -> kind; all others are ``failed``."""

_SENTENCES: Mapping[str, str] = {
    "SQLITE_NOTADB": "the file is not a SQLite database, or it is encrypted",
    "SQLITE_CORRUPT": "the file is damaged; run PRAGMA integrity_check",
    "SQLITE_BUSY": f"a writer held its lock for more than {BUSY_S:.0f} s",
    "SQLITE_INTERRUPT": "the statement ran longer than statement_timeout_s",
}


_PRIMARY = (
    *("ERROR", "INTERNAL", "PERM", "ABORT", "BUSY", "LOCKED", "NOMEM", "READONLY"),
    *("INTERRUPT", "IOERR", "CORRUPT", "NOTFOUND", "FULL", "CANTOPEN", "PROTOCOL"),
    *("EMPTY", "SCHEMA", "TOOBIG", "CONSTRAINT", "MISMATCH", "MISUSE", "NOLFS"),
    *("AUTH", "FORMAT", "RANGE", "NOTADB"),
)
"""Primary result codes (rescode.html): the driver has many more constants."""


def _names() -> Iterator[tuple[int, str]]:
    own = {name: code for name, code in vars(sqlite3).items() if isinstance(code, int)}
    for primary in _PRIMARY:
        name = f"SQLITE_{primary}"
        yield own[name], name
        for longer, code in own.items():
            extended = code > 0xFF and code & 0xFF == own[name]
            if longer.startswith(f"{name}_") and extended:
                yield code, longer


NAMES: Mapping[int, str] = dict(_names())
"""Result code -> its name, extended ones among them."""


@contextmanager
def our_errors() -> Iterator[None]:
    """Translate errors of the driver; its messages may hold values and stay behind.

    Raises:
        SourceError: instead of any sqlite3.Error.
    """
    try:
        yield
    except sqlite3.Error as e:
        name = getattr(e, "sqlite_errorname", type(e).__name__)
        raise source_error(str(name)) from None


def source_error(name: str) -> SourceError:
    """The error of a result code.

    Args:
        name: of the code, or of the driver's exception if it has none.
    """
    primary = "_".join(name.split("_")[:2])
    sentence = _SENTENCES.get(primary)
    detail = f"{name}: {sentence}" if sentence else name
    return SourceError(_KINDS.get(primary, "failed"), detail)
