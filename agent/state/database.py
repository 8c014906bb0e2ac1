# SPDX-License-Identifier: Apache-2.0
"""Opening a database: one process, a safe journal, the right version.

WAL is used only where the SQLite library no longer has the WAL-reset bug (fixed in
3.51.3, and in 3.44.6 and 3.50.7 for older lines); else a truncated rollback journal.
``synchronous=FULL`` in both: a commit that returned survives a power cut.

A schema that is ``alone`` has WAL with every library: the bug needs two connections,
one that resets the log while another still writes to it. Ours is the only one: a lock
file keeps other processes out, ``locking_mode=EXCLUSIVE`` everybody else who would open
the file, and one lock the threads. No shared memory is used then. (A commit costs
about 0.2 ms so, and 1.7 ms with the rollback journal.)

After an error of input or output, a failed sync among them, nothing more is asked of
the connection: the kernel may have dropped pages and call them clean, so that a second
try on the same file would prove nothing. The process has to end. A disk that is only
full refuses before anything of a transaction counts: it is undone as a whole, so it may
be done once more after room was made (:meth:`Connection.once_more`), and later ones may
go on.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from agent.errors import AlreadyRunning, OwnFault, SpoolWriteFailed, StateDamaged
from agent.state.migrations import STEPS

T = TypeVar("T")

APPLICATION_ID = 0x46455041
"""``FEPA``, so that ``file`` and we know whose database it is."""


@dataclass(frozen=True)
class Schema:
    """What a database of ours is.

    Args:
        application_id: so that ``file`` and we know whose it is.
        steps: numbered migrations; one that was released never changes.
        refused: raised when the disk is full, read-only or broken.
        damaged: raised when the database does not do what it must.
        alone: write-ahead journal and an exclusive lock; see the module. What is
            deleted is overwritten (``secure_delete``), whatever the library's default.
        searched: whether every page is looked at when it is opened. A file of many
            gigabytes would need minutes; who says no has another proof of soundness.
    """

    application_id: int
    steps: tuple[tuple[str, ...], ...]
    refused: type[OwnFault] = SpoolWriteFailed
    damaged: type[OwnFault] = StateDamaged
    alone: bool = False
    searched: bool = True


STATE = Schema(APPLICATION_ID, STEPS)
"""The state of the push flow."""

_DISK = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)


_LASTING = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
"""After these no further transaction is tried."""


def journal_mode(library: tuple[int, int, int]) -> str:
    """The journal mode that this version of the SQLite library does safely."""
    fixed = (
        library >= (3, 51, 3)
        or (3, 50, 7) <= library < (3, 51, 0)
        or (3, 44, 6) <= library < (3, 45, 0)
    )
    return "wal" if fixed else "truncate"


@contextmanager
def faults(path: Path, schema: Schema = STATE) -> Iterator[None]:
    """Translate what SQLite raises, into what the schema says.

    Raises:
        SpoolWriteFailed: the disk is full, read-only or broken.
        StateDamaged: anything else; the database does not do what it must.
    """
    try:
        yield
    except sqlite3.Error as e:
        name = getattr(e, "sqlite_errorname", type(e).__name__)
        if _code(e) in _DISK:
            raise schema.refused(f"{path}: {name}: {e}") from e
        raise schema.damaged(f"{path}: {name}: {e}") from e


def _nothing() -> None:
    """Nobody wants to hear of a write."""


class Connection:
    """The one connection; all use of it goes through :meth:`transaction`.

    Args:
        path: the database file; made if it is not there.
        schema: what it is.
        before: called before each transaction; may make room on the disk.
        full: called after one that the full disk refused; makes what room it can.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema = STATE,
        *,
        before: Callable[[], None] = _nothing,
        full: Callable[[], None] = _nothing,
    ) -> None:
        self.path = path
        self._schema = schema
        self._before = before
        self._full = full
        self._broken: OwnFault | None = None
        self._holder: int | None = None
        self._lock = threading.RLock()
        self._held = _lock_file(path, schema)
        try:
            with faults(path, schema):
                self._db = _connect(path, schema)
        except BaseException:
            os.close(self._held)
            raise

    @contextmanager
    def transaction(self) -> Iterator[Database]:
        """One transaction: all of it or, after an exception, nothing.

        Raises:
            SpoolWriteFailed: the disk refused, now or before.
            StateDamaged: the database does not do what it must.
        """
        self._before()
        with self._sound(), self._db.atomic():
            yield self._db

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Alone with the database, unless it is known to be broken."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            outer, self._holder = self._holder, threading.get_ident()
            try:
                with faults(self.path, self._schema):
                    yield
            except OwnFault as e:
                left_open = outer is None and self._db.conn.in_transaction
                if left_open or _code(e.__cause__) in _LASTING:
                    self._broken = e
                raise
            finally:
                self._holder = outer

    def once_more(self, work: Callable[[], T]) -> T:
        """Do work whose writes are one transaction; twice if the disk is full.

        Only where the disk was full, and the transaction is undone for certain: the
        connection is in none any more. Then nothing of it counts, and SQLite puts the
        file right before it is read again. As a part of another transaction the work is
        done once: that one is undone, and done again, as a whole.

        Args:
            work: must be able to be done again from its beginning.

        Raises:
            SpoolWriteFailed: the disk refused otherwise, or was still full.
            StateDamaged: the database does not do what it must.
        """
        if self._holder == threading.get_ident():
            return work()
        try:
            return work()
        except OwnFault as e:
            if self._broken is not None or _code(e.__cause__) != sqlite3.SQLITE_FULL:
                raise
        self._full()
        return work()

    def fold(self, *, emptied: bool = False) -> None:
        """Bring a write-ahead journal into the file, so that it begins anew.

        Args:
            emptied: cut the journal to nothing, so that what was deleted is not left
                in it; else it is written over from its beginning, which is faster.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        mode = "TRUNCATE" if emptied else "PASSIVE"

        def folded() -> None:  # what was copied twice is the same
            with self._sound():
                self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

        self.once_more(folded)

    def close(self) -> None:
        """Close the database and let go of its lock."""
        with self._lock:
            self._db.close()
            os.close(self._held)


def _code(error: BaseException | None) -> int | None:
    """What SQLite says of an error of its own, without the fine points."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _lock_file(path: Path, schema: Schema) -> int:
    lock = path.with_name(path.name + ".lock")
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise schema.refused(f"{lock}: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(fd)
        raise AlreadyRunning(f"{lock} is held by another process") from e
    return fd


def _connect(path: Path, schema: Schema) -> Database:
    fresh = not path.exists()
    conn = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    try:
        if fresh:
            path.chmod(0o600)
        # Plug-ins of sqlite-utils have no business in the state.
        db = Database(conn, execute_plugins=False, recursive_triggers=False)
        if schema.alone:  # before anything is read: no shared memory is made then
            conn.execute("PRAGMA locking_mode = EXCLUSIVE")
        _judge(db, path, schema)
        _set_journal(conn, schema)
        conn.execute("PRAGMA synchronous = FULL")
        conn.execute("PRAGMA foreign_keys = ON")
        _migrate(db, schema)
    except BaseException:
        conn.close()
        raise
    return db


def _set_journal(conn: sqlite3.Connection, schema: Schema) -> None:
    if schema.alone:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("PRAGMA wal_autocheckpoint = 0")  # see Connection.fold
        conn.execute("PRAGMA secure_delete = ON")
    else:
        mode = journal_mode(sqlite3.sqlite_version_info)
        conn.execute(f"PRAGMA journal_mode = {mode}")


def _judge(db: Database, path: Path, schema: Schema) -> None:
    """Refuse a file that is not ours, not sound or newer than we are."""
    version = _pragma(db, "user_version")
    owner = _pragma(db, "application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    steps = len(schema.steps)
    if tables and owner != schema.application_id:
        raise schema.damaged(f"{path}: expected a database of ours, got another one")
    if version > steps:
        raise schema.damaged(
            f"{path}: expected schema version {steps} or older, got {version}"
        )
    if not schema.searched:
        return
    found = db.execute("PRAGMA quick_check(3)").fetchall()
    if [row[0] for row in found] != ["ok"]:
        raise schema.damaged(f"{path}: quick_check: {found[0][0]}")


def _migrate(db: Database, schema: Schema) -> None:
    for number in range(_pragma(db, "user_version") + 1, len(schema.steps) + 1):
        with db.atomic():
            for statement in schema.steps[number - 1]:
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {schema.application_id}")
            db.execute(f"PRAGMA user_version = {number}")


def _pragma(db: Database, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
