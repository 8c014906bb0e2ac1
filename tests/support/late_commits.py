# SPDX-License-Identifier: Apache-2.0
"""Readers that keep copies of a table beside twelve writers, and what the copies lack.

All readers see one workload. Each makes its first copy before the writers begin, takes
an increment every second while they are at work and two more when they are done. What
then is missing, too much or stale in a copy is found by ``compare.py``, which imports
nothing of this project.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from connectors.contract import (
    ColumnSpec,
    Connector,
    IncrementalSession,
    Limits,
    StreamSpec,
)
from connectors.mysql import CONNECTOR as MYSQL
from connectors.postgres import CONNECTOR as POSTGRES
from tests.support.databases import Maria, Postgres
from tests.support.mariadb import private_mariadb
from tests.support.postgres import private_server
from tests.support.writers import (
    ROWS_EACH,
    WRITERS,
    Write,
    Written,
    write_on,
    writing,
)

LAST = 999_999_999
"""Key of the row that is committed after all others."""

_COMPARE = Path(__file__).with_name("compare.py")
_COLUMNS = ("--column", "id:I:key", "--column", "note:C")

Source = Postgres | Maria


@dataclass(frozen=True)
class Kept:
    """A copy: a SQLite file and the table in it, with the columns id and note."""

    file: Path
    table: str = "work"


@dataclass(frozen=True)
class Found:
    """What is wrong with a copy, in rows.

    Args:
        lost: committed and not in the copy.
        duplicated: in the copy and not, or not so often, in the table.
        stale: in the copy with what they held before.
    """

    lost: int
    duplicated: int
    stale: int


class Broken(Exception):
    """A reader broke down; it is left out from then on."""


class Reader(Protocol):
    """Something that keeps a copy of the table ``work``; all may raise Broken."""

    def step(self) -> None:
        """Take one increment; the first time everything."""
        ...

    def kept(self) -> Kept:
        """The copy, once the row ``LAST`` is committed and no step will follow."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a race ended with.

    Args:
        found: name of a reader -> what is wrong with its copy.
        failed: name of a reader that broke down -> why.
        steps: name of a reader -> increments that it took beside the writers.
        written: what each writer did.
        rows: of the table in the end.
    """

    found: Mapping[str, Found]
    failed: Mapping[str, str]
    steps: Mapping[str, int]
    written: tuple[Written, ...]
    rows: int


# --- the department ------------------------------------------------------------------


@contextmanager
def department(
    kind: str,
    *,
    logged: bool = False,
    numbered: bool = False,
    env: Mapping[str, str] | None = None,
) -> Iterator[Source]:
    """A private server with the table ``work``; its ``changed`` is the database's own.

    Args:
        kind: ``postgres`` or ``mariadb``.
        logged: the log can be read, as some peers want it.
        numbered: there is no ``changed``, only a growing ``id``; PostgreSQL's ``work``
            is a view then, for tables tell what changed without any column.
        env: variables of the server's process.
    """
    numbers = range(int(numbered), int(numbered) + ROWS_EACH * WRITERS)
    first = ", ".join(f"({i}, 'first')" for i in numbers)
    if kind == "mariadb":
        settings = {"server-id": "1", "log-bin": "", "binlog-format": "ROW"}
        with private_mariadb(settings if logged else None, env=env) as maria:
            changed = (
                "changed timestamp(6) not null default current_timestamp(6)"
                " on update current_timestamp(6), key (changed)"
            )
            maria.sql(
                "create table work (id bigint primary key auto_increment,"
                " note varchar(200))"
                if numbered
                else "create table work (id bigint primary key, note varchar(200),"
                f" {changed})",
                f"insert into work (id, note) values {first}",
            )
            yield Maria(maria)
        return
    settings = {"max_prepared_transactions": "50", "max_connections": "80"}
    settings |= {"wal_level": "logical"} if logged else {}
    hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
    with private_server(settings=settings, tcp=logged, hba=hba, env=env) as server:
        server.sql(
            "create table entries (id bigserial primary key, note text);"
            " create view work as select id, note from entries;"
            f" insert into work (id, note) values {first};"
            f" select setval('entries_id_seq', {ROWS_EACH * WRITERS})"
            if numbered
            else "create table work (id bigint primary key, note text,"
            " changed timestamptz not null default now());"
            " create index on work (changed);"
            " create function touch() returns trigger language plpgsql as"
            " $$ begin new.changed := now(); return new; end $$;"
            " create trigger touch before update on work for each row"
            " execute function touch();"
            f" insert into work (id, note) values {first}"
        )
        yield Postgres(server)


# --- the race ------------------------------------------------------------------------


class _Racer:
    """A reader, how often it stepped, and why it stopped if it did."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.steps = 0
        self.failed: str | None = None
        self.found: Found | None = None

    def step(self) -> None:
        if self.failed is None:
            try:
                self.reader.step()
            except Broken as e:
                self.failed = str(e)

    def follow(self, stop: Event) -> None:
        """One increment a second."""
        began = time.monotonic()
        while not stop.is_set() and self.failed is None:
            self.step()
            self.steps += 1
            stop.wait(1.0 - (time.monotonic() - began) % 1.0)

    def judge(self, source: Source) -> None:
        """Two increments when all is committed, and the comparison."""
        self.step()
        self.step()
        if self.failed is None:
            try:
                self.found = compared(source, self.reader.kept())
            except Broken as e:
                self.failed = str(e)


def race(
    source: Source,
    readers: Mapping[str, Reader],
    *,
    seconds: float,
    seed: int,
    write: Write = write_on,
) -> Outcome:
    """Let all readers follow one workload, and compare."""
    racers = {name: _Racer(reader) for name, reader in readers.items()}
    with ThreadPoolExecutor(len(racers)) as threads:
        for done in [threads.submit(r.step) for r in racers.values()]:
            done.result()
        stop = Event()
        with writing(source, seed, write) as end:
            following = [threads.submit(r.follow, stop) for r in racers.values()]
            time.sleep(seconds)
            written = end()
            stop.set()
        for done in following:
            done.result()
    run, close = source.connect()
    run(f"insert into work (id, note) values ({LAST}, 'last')")
    close()
    for racer in racers.values():
        racer.judge(source)
    ((rows,),) = source.rows("select count(*) from work")
    return Outcome(
        found={n: r.found for n, r in racers.items() if r.found is not None},
        failed={n: r.failed for n, r in racers.items() if r.failed is not None},
        steps={name: racer.steps for name, racer in racers.items()},
        written=tuple(written),
        rows=rows,
    )


def compared(source: Source, kept: Kept) -> Found:
    """What a copy lacks, has too much and has wrong, as the foreign program says."""
    done = subprocess.run(
        [sys.executable, str(_COMPARE), "--centre", str(kept.file), kept.table,
         *_COLUMNS, *source.printed_by("work")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not done.stdout:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    return Found(found["missing"], found["extra"], found["different"])


# --- readers -------------------------------------------------------------------------


def keep(file: Path, rows: Mapping[int, str]) -> Kept:
    """Write rows that were kept in memory."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("create table work (id integer, note text)")
        db.executemany("insert into work values (?, ?)", rows.items())
        db.commit()
    return Kept(file)


class CursorReader:
    """What everybody writes: all rows from the largest time on that was seen.

    Args:
        source: what to read.
        file: of the copy.
        by: another column than the time.
    """

    def __init__(self, source: Source, file: Path, *, by: str = "changed") -> None:
        self._source, self._file, self._by = source, file, by
        self._rows: dict[int, str] = {}
        self._largest: Any = None

    def step(self) -> None:
        """Read what is not older than the newest row so far."""
        by, largest = self._by, self._largest
        where = "" if largest is None else f" where {by} >= '{largest}'"
        for number, note, changed in self._source.rows(
            f"select id, note, {by} from work{where} order by {by}"
        ):
            self._rows[number], self._largest = note, changed

    def kept(self) -> Kept:
        """The copy."""
        return keep(self._file, self._rows)


class SessionReader:
    """The connector alone: frontier, then the rows between it and the last one."""

    def __init__(self, source: Source, file: Path, *, stamp: str | None) -> None:
        maria = isinstance(source, Maria)
        self._connector: Connector = MYSQL if maria else POSTGRES
        columns = (
            ColumnSpec("id", "I", None, None, key=True),
            ColumnSpec("note", "C", 200, None, key=False),
        )
        table = ("town" if maria else "public", "work")
        self._stream = StreamSpec(table, columns, stamp)
        self._source, self._file = source, file
        self._rows: dict[int, str] = {}
        self._since: str | None = None

    def moved(self, source: Source) -> None:
        """From now on the rows are read there."""
        self._source = source

    def step(self) -> None:
        """Read everything, then what changed."""
        stream = self._stream
        opened: AbstractContextManager[Any] = self._connector.open(
            self._source.server.config(), Limits()
        )
        with opened as session:
            assert isinstance(session, IncrementalSession)
            until = session.frontier(stream).value
            if self._since is None:
                pages = [p for s in session.plan(stream) for p in session.read(s)]
            else:
                pages = list(session.changes(stream, self._since, until))
        self._since = until
        for page in pages:
            for row in page.rows.to_pylist():
                self._rows[row["id"]] = row["note"]

    def kept(self) -> Kept:
        """The copy."""
        return keep(self._file, self._rows)
