# SPDX-License-Identifier: Apache-2.0
"""Opening the state: a safe journal, one process, only what is ours and sound."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.errors import AlreadyRunning, OwnFault, SpoolWriteFailed, StateDamaged
from agent.state import KeptDue, Run, State, StreamKey
from agent.state.database import APPLICATION_ID, Connection, faults, journal_mode
from agent.state.migrations import STEPS


def opened(path: Path) -> State:
    return State(path, new_incarnation=lambda: "a" * 32)


@pytest.mark.parametrize(
    ("library", "mode"),
    [
        ((3, 40, 1), "truncate"),
        ((3, 44, 5), "truncate"),
        ((3, 44, 6), "wal"),
        ((3, 45, 0), "truncate"),
        ((3, 50, 6), "truncate"),
        ((3, 50, 7), "wal"),
        ((3, 51, 2), "truncate"),
        ((3, 51, 3), "wal"),
        ((3, 52, 0), "wal"),
    ],
)
def test_wal_only_where_its_reset_bug_is_fixed(
    library: tuple[int, int, int], mode: str
) -> None:
    """3.44.6, 3.50.7 and 3.51.3 have the fix."""
    assert journal_mode(library) == mode


def test_commits_are_synced(tmp_path: Path) -> None:
    """synchronous is FULL and the journal is the one chosen."""
    connection = Connection(tmp_path / "state.db")
    with connection.transaction() as db:
        pragmas = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "journal_mode", "foreign_keys")
        ]
    connection.close()
    assert pragmas == [2, journal_mode(sqlite3.sqlite_version_info), 1]


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """Mode 0600."""
    opened(tmp_path / "state.db").close()
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """Two daemons would seal one identity twice."""
    first = opened(tmp_path / "state.db")
    with pytest.raises(AlreadyRunning, match=r"state\.db\.lock"):
        opened(tmp_path / "state.db")
    first.close()
    opened(tmp_path / "state.db").close()


def test_an_incarnation_is_made_once(tmp_path: Path) -> None:
    """It belongs to the file, not to the process."""
    opened(tmp_path / "state.db").close()
    state = State(tmp_path / "state.db", new_incarnation=lambda: "b" * 32)
    assert state.incarnation == "a" * 32
    assert state.renew_incarnation("c" * 32, after="a" * 32) == "c" * 32
    assert state.renew_incarnation("d" * 32, after="a" * 32) == "c" * 32
    assert state.incarnation == "c" * 32
    state.close()


@pytest.mark.parametrize(
    "content",
    [b"not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4096],
    ids=["text", "header"],
)
def test_a_file_that_is_no_database_is_damaged(tmp_path: Path, content: bytes) -> None:
    """StateDamaged says which file; it is left as it is."""
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(StateDamaged, match=r"state\.db"):
        opened(path)
    assert path.read_bytes() == content


def test_a_page_that_was_overwritten_is_found(tmp_path: Path) -> None:
    """quick_check looks at every page."""
    path = tmp_path / "state.db"
    opened(path).close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 3] = b"\x5a" * 4096
    path.write_bytes(data)
    with pytest.raises(StateDamaged):
        opened(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An old program does not guess what a newer one meant."""
    path = tmp_path / "state.db"
    opened(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    db.close()
    with pytest.raises(StateDamaged, match=f"got {len(STEPS) + 1}"):
        opened(path)


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    """A database without our application id is not touched."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE person (id)")
    db.close()
    with pytest.raises(StateDamaged, match="another one"):
        opened(path)


def test_a_folder_that_is_not_there_is_a_write_fault(tmp_path: Path) -> None:
    """The operator's disk, not a damaged state."""
    with pytest.raises(SpoolWriteFailed):
        opened(tmp_path / "absent" / "state.db")


def test_a_half_made_schema_is_made_again(tmp_path: Path) -> None:
    """A step and its number are one transaction; an empty file is version 0."""
    path = tmp_path / "state.db"
    path.touch()
    opened(path).close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(STEPS),)
    db.close()


def test_a_confirmation_without_a_number_does_not_outlive_the_upgrade(
    tmp_path: Path,
) -> None:
    """Schema 1 kept a bare yes; its run goes on, without the yes."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        for statement in STEPS[0]:
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO streams (id, producer, aud, resource, incarnation)"
            " VALUES (1, 'p', 'a', 'r', 'i')"
        )
        db.execute(
            "INSERT INTO runs (id, stream, state, confirm_deletes, asked_at)"
            " VALUES ('r', 1, 'queued', 1, '2026-11-21T08:00:00Z')"
        )
    db.close()
    state = opened(path)
    assert [(r.id, r.deletes_confirmed) for r in state.unfinished_runs()] == [
        ("r", None)
    ]
    state.close()


def test_an_upgrade_keeps_for_which_instant_the_last_run_holds(tmp_path: Path) -> None:
    """Schema 2 kept it with the frontier only; runs of before were all full reads."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        for statement in (*STEPS[0], *STEPS[1]):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        db.execute(
            "INSERT INTO streams (id, producer, aud, resource, incarnation)"
            " VALUES (1, 'p', 'a', 'r', 'i')"
        )
        db.execute(
            "INSERT INTO runs (id, stream, state, asked_at)"
            " VALUES ('r', 1, 'queued', '2026-11-21T08:00:00Z')"
        )
        at = "2026-11-21T07:00:00Z"
        db.execute("INSERT INTO frontiers VALUES (1, 'r', 'f', ?)", [at])
    db.close()
    opened(path).close()
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT kind, as_of FROM runs").fetchall()
    db.close()
    assert found == [("full", at)]


def test_a_full_disk_is_a_write_fault(tmp_path: Path) -> None:
    """SQLITE_FULL: exit 74; what was committed stays."""
    connection = Connection(tmp_path / "state.db")
    with connection.transaction() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SpoolWriteFailed, match="SQLITE_FULL"):
        _fill(connection)
    with connection.transaction() as db:
        assert db.execute("SELECT count(*) FROM meta").fetchone() == (0,)
    connection.close()


class Disk:
    """As many pages as a database has now, until its reserve is given up."""

    def __init__(self, path: Path, *, reserve: bool = True) -> None:
        self.reserve = reserve
        self.given_up = 0
        self.connection = Connection(path, full=self.give_up)
        self._pages = 0

    def fill(self) -> None:
        """Nothing is left from now on."""
        with self.connection.transaction() as db:
            self._pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {self._pages}")

    def give_up(self) -> None:
        """What the connection asks for when it is refused."""
        self.given_up += 1
        if self.reserve:
            with self.connection.transaction() as db:
                db.execute(f"PRAGMA max_page_count = {self._pages + 10_000}")

    def count(self) -> int:
        """Rows that were written."""
        with self.connection.transaction() as db:
            return int(db.execute("SELECT count(*) FROM meta").fetchone()[0])


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A full one with a reserve."""
    found = Disk(tmp_path / "state.db")
    found.fill()
    yield found
    found.connection.close()


def test_a_write_that_finds_the_disk_full_is_done_once_more_in_the_reserve(
    disk: Disk,
) -> None:
    """All of it once, though the first try had written a part."""
    disk.connection.once_more(partial(_fill, disk.connection))
    assert (disk.given_up, disk.count()) == (1, 2000)


def test_a_disk_that_stays_full_is_a_write_fault_after_two_tries(disk: Disk) -> None:
    """The reserve may be gone already; nothing of either try stays."""
    disk.reserve = False
    with pytest.raises(SpoolWriteFailed, match="SQLITE_FULL"):
        disk.connection.once_more(partial(_fill, disk.connection))
    assert (disk.given_up, disk.count()) == (1, 0)


@pytest.mark.parametrize(
    "code",
    [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CORRUPT],
)
def test_nothing_but_a_full_disk_is_tried_again(disk: Disk, code: int) -> None:
    """After a failed sync a second try on the same file would prove nothing."""
    tried: list[bool] = []

    def work() -> None:
        tried.append(True)
        with disk.connection.transaction():
            raise _refused(code)

    with pytest.raises(OwnFault):
        disk.connection.once_more(work)
    assert (tried, disk.given_up) == ([True], 0)


def test_a_part_of_a_transaction_is_done_again_with_all_of_it(disk: Disk) -> None:
    """Alone it would be a half: what stood before it was undone with it."""
    connection = disk.connection

    def whole() -> None:
        with connection.transaction() as db:
            db.execute("INSERT INTO meta VALUES ('before', '')")
            connection.once_more(partial(_fill, connection))

    connection.once_more(whole)
    assert (disk.given_up, disk.count()) == (1, 2001)


def test_a_transaction_that_is_not_undone_for_certain_is_not_tried_again(
    disk: Disk,
) -> None:
    """Whoever wrote next would be a part of it; nothing is asked of it any more."""

    def work() -> None:
        with disk.connection.transaction() as db:
            db.conn.set_authorizer(_no_rollback)
            raise _refused(sqlite3.SQLITE_FULL)

    with pytest.raises(OwnFault) as first:
        disk.connection.once_more(work)
    with pytest.raises(OwnFault) as second:
        disk.count()
    assert (second.value, disk.given_up) == (first.value, 0)


def _no_rollback(action: int, *_: object) -> int:
    refused = action == sqlite3.SQLITE_TRANSACTION
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


def test_what_the_daemon_remembers_finds_the_disk_full_and_goes_on(
    tmp_path: Path,
) -> None:
    """A run is put down with its due time, both once."""
    state = State(
        tmp_path / "state.db",
        new_incarnation=lambda: "a" * 32,
        full=lambda: _pages(state, 10_000),
    )
    stream = state.stream(StreamKey("n", "x", "r")).id
    _pages(state, 0)
    due = KeptDue(stream, "full", "daily", "t", None)
    for number in range(40):  # each needs a page of its own now and then
        asked = f"{number}" + "t" * 500
        state.add_run(Run(f"run-{number}", stream, "queued", None, asked), due=due)
    assert len(state.unfinished_runs()) == 40
    assert state.dues() == (due,)
    state.close()


def _pages(state: State, more: int) -> None:
    """Let the database have so many more pages than now."""
    with state._connection.transaction() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + more}")


def test_any_other_complaint_of_sqlite_is_damage(tmp_path: Path) -> None:
    """A constraint that fails means that our own rules were broken."""
    with pytest.raises(StateDamaged), faults(tmp_path):
        raise sqlite3.IntegrityError("UNIQUE constraint failed")


def test_a_lock_file_that_cannot_be_made_is_a_write_fault(tmp_path: Path) -> None:
    """Its folder is a file."""
    (tmp_path / "state").write_text("")
    with pytest.raises(SpoolWriteFailed, match=os.strerror(errno.ENOTDIR)):
        opened(tmp_path / "state" / "state.db")


def _fill(connection: Connection) -> None:
    with connection.transaction() as db:
        for number in range(2000):
            db.execute("INSERT INTO meta VALUES (?, ?)", [str(number), "x" * 200])


def _refused(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "lasting"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_IOERR_DIR_FSYNC, True),
        (sqlite3.SQLITE_READONLY, True),
        (sqlite3.SQLITE_FULL, False),
        (sqlite3.SQLITE_CONSTRAINT, False),
    ],
)
def test_after_a_failed_sync_the_connection_is_not_used_again(
    tmp_path: Path, code: int, lasting: bool
) -> None:
    """A disk that was only full may be asked again."""
    connection = Connection(tmp_path / "state.db")
    with pytest.raises(OwnFault) as first, connection.transaction():
        raise _refused(code)
    if lasting:
        with pytest.raises(OwnFault) as second, connection.transaction():
            pytest.fail("nothing may be tried")
        assert second.value is first.value
    else:
        with connection.transaction() as db:
            db.execute("SELECT 1")
    connection.close()


def test_room_is_made_before_each_transaction(tmp_path: Path) -> None:
    """Not while it runs: then the disk may be full already."""
    called: list[bool] = []
    connection = Connection(tmp_path / "state.db", before=lambda: called.append(True))
    with connection.transaction():
        assert called == [True]
    connection.close()
