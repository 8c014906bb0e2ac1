# SPDX-License-Identifier: Apache-2.0
"""How kindly real servers are read: limits, windows, and what they can bear."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
import pytest

from agent.model.pacing import Bounds, Pacing, Rate
from agent.registry import find
from connectors.contract import (
    ColumnSpec,
    FeelingConnector,
    Health,
    Limits,
    SourceError,
    StreamSpec,
    offers_health,
)
from tests.support.mariadb import Mariadb
from tests.support.postgres import Server, free_port
from tests.support.reader import reader

pytestmark = pytest.mark.contract

NIGHT = datetime(2026, 11, 21, 23, 0)  # noqa: DTZ001 - a time of day
DAY = datetime(2026, 11, 21, 12, 0)  # noqa: DTZ001
ROWS = 400_000
ROW_BYTES = 44
"""A number, the place of a text and its 32 characters."""


@dataclass(frozen=True)
class Site:
    """A server with a table ``big``, and one ``door`` that can be locked.

    Args:
        connector: its name.
        config: of an account that may read.
        table: qualified name of ``big``.
        run: one statement on a connection of its own, which may wait; then closes it.
        lock: takes a lock in ``door`` until the block ends.
        wait: a statement that waits for that lock.
        shut: lets nobody read ``door`` until the block ends.
    """

    connector: str
    config: dict[str, Any]
    table: tuple[str, ...]
    run: Callable[[str], None]
    lock: Callable[[], Any]
    wait: str
    shut: Callable[[], Any]

    @property
    def feeling(self) -> FeelingConnector:
        found = find(self.connector)
        assert offers_health(found)
        return found

    @property
    def door(self) -> StreamSpec:
        column = ColumnSpec("id", "I", None, None, key=True)
        return StreamSpec((*self.table[:-1], "door"), (column,))

    def health(self) -> Health:
        return self.feeling.health(self.config)


@contextmanager
def waiting(site: Site, count: int) -> Iterator[None]:
    """So many sessions wait for a lock."""
    with ExitStack() as stack, site.lock():
        for _ in range(count):
            stack.enter_context(busy(site, site.wait))
        yield


@contextmanager
def busy(site: Site, statement: str) -> Iterator[None]:
    """A session does something."""
    thread = threading.Thread(target=site.run, args=(statement,))
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        assert not thread.is_alive()


def until(site: Site, fact: Callable[[Health], bool]) -> Health:
    """Look until it is so."""
    end = time.monotonic() + 20
    while not fact(found := site.health()):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def postgres_site(server: Server) -> Site:
    server.sql(
        "create table big as select i as id, md5(i::text) as note"
        f" from generate_series(1, {ROWS}) i; alter table big add primary key (id);"
        "create table door (id int primary key); insert into door values (1);"
        "analyze"
    )

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(server.socket_folder), port=server.port, user="postgres",
            dbname=server.database, autocommit=True,
        )  # fmt: skip

    def run(statement: str) -> None:
        with connect() as db:
            db.execute(statement.encode())

    @contextmanager
    def lock() -> Iterator[None]:
        with connect() as db, db.transaction():
            db.execute("lock table door in access exclusive mode")
            yield

    wait = "select count(*) from door"
    return Site("postgres", server.config(), ("public", "big"), run, lock, wait, lock)


def mysql_site(server: Mariadb) -> Site:
    server.sql(
        "drop table if exists big, door",
        "create table big (id int primary key, note varchar(40)) select seq as id,"
        f" md5(seq) as note from seq_1_to_{ROWS}",
        "create table door (id int primary key) select 1 as id",
    )

    def run(statement: str) -> None:
        with server.connect() as db, db.cursor() as cursor:
            cursor.execute(statement)

    @contextmanager
    def lock() -> Iterator[None]:
        with server.connect() as db, db.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("update door set id = 2")
            yield
            db.rollback()

    @contextmanager
    def shut() -> Iterator[None]:
        with server.connect() as db, db.cursor() as cursor:
            cursor.execute("lock tables door write")
            yield

    wait = "select * from door for update"
    return Site("mysql", server.config(), ("town", "big"), run, lock, wait, shut)


@pytest.fixture(scope="module", params=["postgres", "mysql"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param == "postgres":
        return postgres_site(request.getfixturevalue("server"))
    return mysql_site(request.getfixturevalue("mariadb"))


@pytest.mark.parametrize("unit", ["rows", "bytes"])
def test_the_rate_falls_to_the_limit_of_the_hour_and_recovers(
    site: Site, unit: str
) -> None:
    """Outside of the window it is read at the day's limit, within it faster."""
    day_rate, night_rate = Rate(4_000), Rate(40_000)
    if unit == "bytes":
        day_rate = Rate(bytes=day_rate.rows * ROW_BYTES)
        night_rate = Rate(bytes=night_rate.rows * ROW_BYTES)
    pacing = Pacing("hr", day_rate, night_rate, windows=("20:00-06:00",))
    calm = reader(site.connector, site.config, site.table, pacing)
    calm.job = replace(calm.job, max_rows_per_batch=1_000)
    calm.local = NIGHT
    with calm.reading():
        night = calm.rate()
        calm.local = DAY
        day = calm.rate()
        calm.local = NIGHT
        again = calm.rate()

    assert 2_000 < day < 8_000
    assert night > 3 * day
    assert again > 3 * day


def test_a_server_that_is_unwell_is_read_slower_until_it_is_well(site: Site) -> None:
    """Sessions that wait for locks slow the reading down; without them it recovers."""
    pacing = Pacing("hr", Rate(16_000), probe_s=0.15, bounds=Bounds(lock_waits=2))
    calm = reader(site.connector, site.config, site.table, pacing)
    with calm.reading():
        well = calm.rate()
        with waiting(site, 3):
            said = calm.share(1 / 16)
            sick = calm.rate()
        calm.share(1.0)
        again = calm.rate()

    assert said.reasons == ("lock_waits=3>2",)
    assert sick < well / 4
    assert again > 3 * sick


def test_a_source_without_limits_slows_down_too(site: Site) -> None:
    """The whole speed is not known, yet a sixteenth of it is."""
    pacing = Pacing("hr", probe_s=0.01, bounds=Bounds(lock_waits=2))
    with waiting(site, 3):
        calm = reader(site.connector, site.config, site.table, pacing)
        with calm.reading():
            assert calm.share(1 / 16).reasons == ("lock_waits=3>2",)


def test_sessions_at_work_are_counted(site: Site) -> None:
    """Those that do something now, as a share of the most that the server takes."""
    before = until(site, lambda h: h.lock_waits == 0)
    assert before.busy is not None
    sleep = "select pg_sleep(2)" if site.connector == "postgres" else "do sleep(2)"
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(busy(site, sleep))
        found = until(site, lambda h: (h.busy or 0) > (before.busy or 0) + 0.015)
    assert 0 < (found.busy or 0) < 0.2
    assert (found.replica_lag_s, found.hidden) == (None, ())


def test_a_lock_is_not_waited_for_for_long(site: Site) -> None:
    """A table that somebody locks ends the read as ``timeout``, and soon."""

    def pull() -> None:
        limits = Limits(lock_timeout_s=1)
        with find(site.connector).open(site.config, limits) as session:
            session.frontier(site.door)
            for part in session.plan(site.door):
                list(session.read(part))

    began = time.monotonic()
    with site.shut(), pytest.raises(SourceError) as caught:
        pull()
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 15


def test_an_account_that_sees_little_says_so(server: Server) -> None:
    """Without pg_read_all_stats ``busy`` is hidden, with the GRANT that shows it."""
    server.sql("create role looker login")
    config = server.config("looker")
    feeling = find("postgres")
    assert offers_health(feeling)
    with psycopg.connect(
        host=str(server.socket_folder), port=server.port, user="postgres",
        dbname=server.database,
    ):  # fmt: skip
        found = feeling.health(config)
        assert (found.busy, found.lock_waits, found.hidden) == (None, 0, ("busy",))
        (told,) = [f for f in feeling.check(config, []) if f.code == "health-hidden"]
        assert told.severity == "ok"
        server.sql(told.remedy or "")
        assert feeling.health(config).hidden == ()
    server.sql("drop role looker")


def test_a_replica_that_is_behind_is_noticed(server: Server) -> None:
    """A standby whose replay stands still is behind; one that follows is not."""
    with standby(server) as behind:
        feeling = find("postgres")
        assert offers_health(feeling)
        server.sql("create table t as select 1 as id")
        _wait(lambda: behind.sql("select to_regclass('t')") == "t")
        assert (feeling.health(behind.config()).replica_lag_s or 0) < 1
        behind.sql("select pg_wal_replay_pause()")
        server.sql("insert into t values (2)")
        _wait(lambda: (feeling.health(behind.config()).replica_lag_s or 0) > 0.5)


@contextmanager
def standby(primary: Server) -> Iterator[Server]:
    """A server that follows another one."""
    base = primary.data.parent
    copy, port = base / "copy", free_port()
    prefix = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]
    if base.owner() != "postgres":
        prefix = []
    subprocess.run(
        [*prefix, str(primary.programs / "pg_basebackup"), "-h", str(base), "-p",
         str(primary.port), "-U", "postgres", "-D", str(copy), "-R", "-c", "fast"],
        check=True, cwd="/",
    )  # fmt: skip
    with (copy / "postgresql.conf").open("a") as conf:
        conf.write(f"port = {port}\n")
    ctl = [*prefix, str(primary.programs / "pg_ctl"), "-D", str(copy), "-w"]
    quiet = {"stdout": subprocess.DEVNULL, "check": True, "cwd": "/"}
    subprocess.run([*ctl, "-l", str(copy / "log"), "start"], **quiet)  # type: ignore[call-overload]
    try:
        yield replace(primary, port=port, data=copy)
    finally:
        subprocess.run([*ctl, "-m", "immediate", "stop"], **quiet)  # type: ignore[call-overload]
        shutil.rmtree(copy, ignore_errors=True)


def _wait(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.05)
