# SPDX-License-Identifier: Apache-2.0
"""Opening the database: one process, a safe journal, the right version.

WAL is used only where the SQLite library no longer has the WAL-reset bug (fixed in
3.51.3, and in 3.44.6 and 3.50.7 for older lines); else a truncated rollback journal.
``synchronous=FULL`` in both: a commit that returned survives a power cut.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlite_utils import Database

from agent.errors import AlreadyRunning, SpoolWriteFailed, StateDamaged
from agent.state.migrations import STEPS

APPLICATION_ID = 0x46455041
"""``FEPA``, so that ``file`` and we know whose database it is."""

_DISK = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)


def journal_mode(library: tuple[int, int, int]) -> str:
    """The journal mode that this version of the SQLite library does safely."""
    fixed = (
        library >= (3, 51, 3)
        or (3, 50, 7) <= library < (3, 51, 0)
        or (3, 44, 6) <= library < (3, 45, 0)
    )
    return "wal" if fixed else "truncate"


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """Translate what SQLite raises.

    Raises:
        SpoolWriteFailed: the disk is full, read-only or broken.
        StateDamaged: anything else; the database does not do what it must.
    """
    try:
        yield
    except sqlite3.Error as e:
        code = getattr(e, "sqlite_errorcode", None)
        name = getattr(e, "sqlite_errorname", type(e).__name__)
        if code is not None and (code & 0xFF) in _DISK:
            raise SpoolWriteFailed(f"{path}: {name}: {e}") from e
        raise StateDamaged(f"{path}: {name}: {e}") from e


class Connection:
    """The one connection; all use of it goes through :meth:`transaction`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._held = _lock_file(path)
        try:
            with faults(path):
                self._db = _connect(path)
        except BaseException:
            os.close(self._held)
            raise

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One transaction: all of it or, after an exception, nothing.

        Raises:
            SpoolWriteFailed: the disk refused.
            StateDamaged: the database does not do what it must.
        """
        with self._lock, faults(self.path), self._db.atomic():
            yield self._db

    def close(self) -> None:
        """Close the database and let go of its lock."""
        with self._lock:
            self._db.close()
            os.close(self._held)


def _lock_file(path: Path) -> int:
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise SpoolWriteFailed(f"{lock}: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise AlreadyRunning(f"{lock} is held by another process") from e
    return fd


def _connect(path: Path) -> Database:
    fresh = not path.exists()
    conn = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        if fresh:
            path.chmod(0o600)
        # Plug-ins of sqlite-utils have no business in the state.
        db = Database(conn, execute_plugins=False, recursive_triggers=False)
        _judge(db, path)
        conn.execute(
            f"PRAGMA journal_mode = {journal_mode(sqlite3.sqlite_version_info)}"
        )
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA foreign_keys = ON")
        _migrate(db)
    except BaseException:
        conn.close()
        raise
    return db


def _judge(db: Database, path: Path) -> None:
    """Refuse a file that is not ours, not sound or newer than we are."""
    version = _pragma(db, "user_version")
    owner = _pragma(db, "application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and owner != APPLICATION_ID:
        raise StateDamaged(f"{path}: expected a state database, got another one")
    if version > len(STEPS):
        raise StateDamaged(
            f"{path}: expected schema version {len(STEPS)} or older, got {version}"
        )
    found = db.execute("PRAGMA quick_check(3)").fetchall()
    if [row[0] for row in found] != ["ok"]:
        raise StateDamaged(f"{path}: quick_check: {found[0][0]}")


def _migrate(db: Database) -> None:
    for number in range(_pragma(db, "user_version") + 1, len(STEPS) + 1):
        with db.atomic():
            for statement in STEPS[number - 1]:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {number}")


def _pragma(db: Database, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
