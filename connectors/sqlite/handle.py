# SPDX-License-Identifier: Apache-2.0
"""The C functions of the SQLite that Python uses, and its handle of a connection.

There must not be two SQLite libraries in one process (ADR 0012), nor does a second
connection see the same snapshot. So the functions are looked up in Python's own module,
and the handle is the one that Python's connection works with: when SQLite opens it, it
calls a function of ``sqliterows.c`` (``sqlite3_auto_extension``). If what was found
were another library, that one would open nothing and no handle would come.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
import threading
from collections.abc import Callable, Mapping
from ctypes import POINTER, c_char_p, c_double, c_int, c_int64, c_void_p
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from connectors.contract import SourceError
from connectors.native.loader import library
from connectors.sql import KeyValue
from connectors.sqlite.errors import NAMES, source_error

CLOSED = "the session was closed while it was read"

_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "sqlite3_auto_extension": (c_int, [c_void_p]),
    "sqlite3_cancel_auto_extension": (c_int, [c_void_p]),
    "sqlite3_extended_errcode": (c_int, [c_void_p]),
    "sqlite3_prepare_v2": (
        c_int,
        [c_void_p, c_char_p, c_int, POINTER(c_void_p), c_void_p],
    ),
    "sqlite3_reset": (c_int, [c_void_p]),
    "sqlite3_finalize": (c_int, [c_void_p]),
    "sqlite3_bind_parameter_index": (c_int, [c_void_p, c_char_p]),
    "sqlite3_bind_int64": (c_int, [c_void_p, c_int, c_int64]),
    "sqlite3_bind_double": (c_int, [c_void_p, c_int, c_double]),
    "sqlite3_bind_text": (c_int, [c_void_p, c_int, c_char_p, c_int, c_void_p]),
    "sqlite3_bind_blob": (c_int, [c_void_p, c_int, c_char_p, c_int, c_void_p]),
}
"""Those that Python calls, from c3ref/funclist.html."""

_ROWS = (
    "sqlite3_step",
    "sqlite3_column_value",
    "sqlite3_value_type",
    "sqlite3_value_int64",
    "sqlite3_value_double",
    "sqlite3_value_text",
    "sqlite3_value_blob",
    "sqlite3_value_bytes",
    "sqlite3_db_handle",
    "sqlite3_db_mutex",
    "sqlite3_mutex_enter",
    "sqlite3_mutex_leave",
)
"""Those of ``struct fep_sqlite`` in ``sqliterows.c``, in its order."""

_AGAIN_S = 0.05
"""A step that had not begun when it was interrupted is interrupted again then."""

_COPIED = -1
"""``SQLITE_TRANSIENT``: SQLite copies what is bound."""


class Functions:
    """What ``sqliterows.c`` needs of SQLite, and what goes with it.

    Args:
        found: the loaded library, or what depends on it; it has them all.
    """

    def __init__(self, found: ctypes.CDLL) -> None:
        self.call = found
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
        addresses = [ctypes.cast(getattr(found, name), c_void_p) for name in _ROWS]
        self.rows = (c_void_p * len(_ROWS))(*(a.value for a in addresses))
        self._alone = threading.Lock()
        self._native = _native()
        self._extension = ctypes.cast(self._native.fep_sqlite_opened, c_void_p)

    def opened(
        self, opening: Callable[[], sqlite3.Connection]
    ) -> tuple[sqlite3.Connection, int | None]:
        """A connection and its handle; None if it has another library.

        Args:
            opening: makes one connection, in this thread.
        """
        with self._alone:
            self._native.fep_sqlite_expect()
            self.call.sqlite3_auto_extension(self._extension)
            try:
                db = opening()
            finally:
                self.call.sqlite3_cancel_auto_extension(self._extension)
            return db, self._native.fep_sqlite_handle()


def _native() -> ctypes.CDLL:
    found = library()
    found.fep_sqlite_expect.restype = None
    found.fep_sqlite_expect.argtypes = []
    found.fep_sqlite_handle.restype = c_void_p
    found.fep_sqlite_handle.argtypes = []
    return found


@cache
def functions() -> Functions | None:
    """Those of Python's own SQLite; None if it hides them.

    Raises:
        OSError: our library is not there.
    """
    return functions_of(ctypes.CDLL(getattr(_sqlite3, "__file__", None)))


def functions_of(found: ctypes.CDLL) -> Functions | None:
    """Those of a library, or of what it depends on; None if it hides them."""
    names = (*_SIGNATURES, *_ROWS)
    return Functions(found) if all(hasattr(found, name) for name in names) else None


@dataclass(eq=False)
class Handle:
    """A connection as C knows it; Python's own use of it takes turns with ours.

    Whoever holds the interpreter's lock must not wait for SQLite's while SQLite, in
    another thread, waits for the interpreter's to ask the clock.

    Args:
        functions: of its library.
        pointer: ``sqlite3 *``.
        turn: held by whoever uses the connection, here or through Python.
    """

    functions: Functions
    pointer: int
    turn: threading.RLock = field(default_factory=threading.RLock)
    _open: set[Statement] | None = field(default_factory=set)

    def prepare(self, sql: str, values: Mapping[str, KeyValue]) -> Statement:
        """A statement with its parameters.

        Args:
            sql: one statement.
            values: of its parameters by name; those that it has not are left out.

        Raises:
            SourceError: as SQLite says, or the session was closed.
        """
        call, found, text = self.functions.call, c_void_p(), sql.encode()
        with self.turn:
            if self._open is None:
                raise SourceError("failed", CLOSED)
            prepared = call.sqlite3_prepare_v2(
                self.pointer, text, len(text), ctypes.byref(found), None
            )
            if prepared or found.value is None:
                raise self.error()
            statement = Statement(self, found.value)
            self._open.add(statement)
            statement.bind(values)
        return statement

    def error(self) -> SourceError:
        """What went wrong last."""
        code = self.functions.call.sqlite3_extended_errcode(self.pointer)
        return source_error(NAMES.get(code) or NAMES.get(code & 0xFF, "SQLITE_ERROR"))

    def finished(self, statement: Statement) -> None:
        """Give a statement back; nothing happens the second time."""
        with self.turn:
            pointer, statement.pointer = statement.pointer, None
            if pointer is not None:
                self.functions.call.sqlite3_finalize(pointer)
            if self._open is not None:
                self._open.discard(statement)

    def close(self, interrupt: Callable[[], None]) -> None:
        """Give all statements back; there can be no more.

        Args:
            interrupt: ends the step that another thread may be in.
        """
        while not self.turn.acquire(timeout=_AGAIN_S):
            interrupt()
        try:
            for statement in tuple(self._open or ()):
                self.finished(statement)
            self._open = None
        finally:
            self.turn.release()


@dataclass(eq=False)
class Statement:
    """A prepared statement.

    Args:
        handle: of its connection.
        pointer: ``sqlite3_stmt *``; None after it was given back.
    """

    handle: Handle
    pointer: int | None

    def bind(self, values: Mapping[str, KeyValue]) -> None:
        """Set its parameters.

        Raises:
            SourceError: as SQLite says.
        """
        for name, value in values.items():
            place = self.handle.functions.call.sqlite3_bind_parameter_index(
                self.pointer, f":{name}".encode()
            )
            if place and value is not None and self._bind(place, value):
                raise self.handle.error()

    def _bind(self, place: int, value: str | int | float | bytes) -> int:
        call = self.handle.functions.call
        if isinstance(value, int):
            return int(call.sqlite3_bind_int64(self.pointer, place, value))
        if isinstance(value, float):
            return int(call.sqlite3_bind_double(self.pointer, place, value))
        bind, data = call.sqlite3_bind_blob, value
        if isinstance(data, str):
            bind, data = call.sqlite3_bind_text, data.encode()
        return int(bind(self.pointer, place, data, len(data), _COPIED))
