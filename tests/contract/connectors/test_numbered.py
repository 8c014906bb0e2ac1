# SPDX-License-Identifier: Apache-2.0
"""A table with nothing but a growing number, read by the gap ledger beside writers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from threading import Event
from typing import Any

import pytest

from agent.pipeline.gaps import Ledger, advanced
from connectors.contract import (
    ColumnSpec,
    Connector,
    Limits,
    NumberedSession,
    StreamSpec,
)
from connectors.mysql import CONNECTOR as MYSQL
from connectors.postgres import CONNECTOR as POSTGRES
from tests.support.databases import Maria, Postgres
from tests.support.gaps import runs_of
from tests.support.mariadb import Mariadb
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

STREAM = StreamSpec(
    ("numbered",), (ColumnSpec("id", "I", None, None, key=True),), number="id"
)
KEEP = timedelta(days=1)


@pytest.fixture(params=["postgres", "mariadb"])
def source(request: Any) -> tuple[Postgres | Maria, Connector]:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("server")
        server.sql(
            "drop table if exists numbered;"
            " create table numbered (id bigserial primary key, note text)"
        )
        return Postgres(server), POSTGRES
    mariadb: Mariadb = request.getfixturevalue("mariadb")
    mariadb.sql(
        "drop table if exists numbered",
        "create table numbered (id bigint primary key auto_increment, note text)",
    )
    return Maria(mariadb), MYSQL


def read(
    source: tuple[Postgres | Maria, Connector], ledger: Ledger
) -> tuple[Ledger, list[int]]:
    """The next state of the ledger, and the numbers that were read."""
    database, connector = source
    with connector.open(database.server.config(), Limits()) as session:
        assert isinstance(session, NumberedSession)
        oldest = session.oldest_writer(STREAM)
        pages = list(session.numbered(STREAM, ledger.windows))
        now = datetime.fromisoformat(session.server_time())
    numbers = [i for page in pages for i in page.rows.column(0).to_pylist()]
    since = None if oldest is None else datetime.fromisoformat(oldest)
    found = advanced(ledger, [*runs_of(numbers)], now=now, oldest=since, keep=KEEP)
    return found.ledger, numbers


def write_on(database: Postgres | Maria, seed: int, stop: Event) -> None:
    chance = Random(seed)
    run, close = database.connect()
    while not stop.is_set():
        run("begin")
        run("insert into numbered (note) values ('x')")
        stop.wait(chance.choice((0.0, 0.02, 0.3, 1.0)))
        run("rollback" if chance.random() < 0.2 else "commit")
    close()


def test_numbers_that_commit_late_are_read(
    source: tuple[Postgres | Maria, Connector],
) -> None:
    """Eight writers that commit out of order: every number is read exactly once."""
    stop, ledger, seen = Event(), Ledger(0), list[int]()
    with ThreadPoolExecutor(8) as threads:
        for seed in range(8):
            threads.submit(write_on, source[0], seed, stop)
        try:
            for _ in range(8):
                ledger, numbers = read(source, ledger)
                seen += numbers
                time.sleep(0.3)
        finally:
            stop.set()
    ledger, numbers = read(source, ledger)
    seen += numbers
    assert sorted(seen) == [i for (i,) in source[0].rows(
        "select id from numbered order by id")]  # fmt: skip
    assert len(seen) > 40


# --- what check says, and the right to be told of writers -----------------------------

NOTES = StreamSpec(
    ("plain",), (ColumnSpec("note", "C", 50, None, key=True),), number="id"
)


def problems(
    connector: Connector, config: Mapping[str, Any], stream: StreamSpec = NOTES
) -> dict[str, str | None]:
    found = connector.check(config, [stream])
    return {f.code: f.remedy for f in found if f.severity != "ok"}


def cured(source: tuple[Postgres | Maria, Connector], config: Mapping[str, Any]) -> Any:
    """Codes in the order in which their remedies were run, until check is quiet."""
    seen = []
    run, close = source[0].connect()
    while found := problems(source[1], config):
        code, remedy = next(iter(found.items()))
        assert code not in seen, found
        seen.append(code)
        run(str(remedy).rstrip(";"))
    close()
    return seen


def told(
    connector: Connector, config: Mapping[str, Any], stream: StreamSpec = NOTES
) -> bool:
    with connector.open(config, Limits()) as session:
        assert isinstance(session, NumberedSession)
        return session.oldest_writer(stream) is not None


def test_each_remedy_removes_its_cause_in_postgres(server: Server) -> None:
    """A view over a table whose sequence is taken from in advance."""
    server.sql(
        "drop role if exists counts; create role counts login;"
        " create sequence steps cache 10; create table beneath"
        " (id bigint primary key default nextval('steps'), note text);"
        " alter sequence steps owned by beneath.id;"
        " create view plain as select * from beneath; grant select (note) on plain to"
        " counts"
    )
    config = {**server.config(), "user": "counts"}
    wanted = ["grant-missing", "number-cached", "writers-hidden"]
    assert cured((Postgres(server), POSTGRES), config) == wanted
    assert told(POSTGRES, config)
    server.sql(
        "drop view plain; create materialized view kept as select * from beneath;"
        " create view plain as select * from kept; grant select on plain to counts"
    )
    assert "writers-elsewhere" in problems(POSTGRES, config)
    assert not told(POSTGRES, config)


def test_each_remedy_removes_its_cause_in_mariadb(mariadb: Mariadb) -> None:
    """A table without a time; then a server that shares its numbers with another."""
    mariadb.sql(
        "create or replace user counts",
        "create or replace table plain (id bigint not null, note varchar(50) not null"
        " primary key)",
        "grant select (note) on plain to counts",
    )
    config = mariadb.config("counts")
    wanted = ["grant-missing", "number-not-indexed", "writers-hidden"]
    assert cured((Maria(mariadb), MYSQL), config) == wanted
    assert told(MYSQL, config)
    mariadb.sql("set global auto_increment_increment = 2")
    try:
        assert "writers-elsewhere" in problems(MYSQL, config)
        assert not told(MYSQL, config)
    finally:
        mariadb.sql("set global auto_increment_increment = 1")


def test_the_writers_of_a_subscribed_table_are_elsewhere(server: Server) -> None:
    """They took their numbers at the publisher; so it is assumed where nobody tells."""
    server.sql(
        "create table subscribed (id bigint primary key, note text);"
        " create view through as select * from subscribed;"
        " drop role if exists reads; create role reads login in role pg_read_all_stats;"
        " grant select on subscribed, through to reads"
    )
    configs = server.config(), {**server.config(), "user": "reads"}
    streams = [replace(NOTES, table=(name,)) for name in ("subscribed", "through")]

    def tells() -> list[bool]:
        return [told(POSTGRES, c, stream) for c in configs for stream in streams]

    alone = tells()
    server.sql(
        "insert into pg_subscription_rel values (1, 'subscribed'::regclass, 'r')"
    )
    filled = tells()
    server.sql("delete from pg_subscription_rel")
    server.sql("revoke select on pg_subscription_rel from public")
    unknown = tells()
    assert (alone, filled) == ([True] * 4, [False] * 4)
    assert unknown == [True, True, False, False]


def test_a_replica_that_may_be_written_to_is_one_in_mariadb(mariadb: Mariadb) -> None:
    """Rows of its primary bear that one's times; nobody here tells of their writers."""
    mariadb.sql("create or replace table plain (id bigint primary key, note text)")
    alone = told(MYSQL, mariadb.config())
    mariadb.sql(
        "change master to master_host = '127.0.0.1', master_port = 1,"
        " master_user = 'nobody'",
        "start slave sql_thread",
    )
    try:
        ((read_only,),) = mariadb.sql("select @@global.read_only")
        replicating = told(MYSQL, mariadb.config())
    finally:
        mariadb.sql("stop slave", "reset slave all")
    assert (alone, read_only, replicating) == (True, 0, False)


def test_a_table_with_a_better_mark_keeps_it(server: Server, mariadb: Mariadb) -> None:
    """Both say so; the number is not asked for then."""
    server.sql("create table marked (id bigint primary key)")
    mariadb.sql(
        "create or replace table marked (id bigint primary key, at timestamp(6) not"
        " null default current_timestamp(6) on update current_timestamp(6), key (at))"
    )
    stream = replace(STREAM, table=("marked",))
    for connector, config in (
        (POSTGRES, server.config()),
        (MYSQL, mariadb.config()),
    ):
        assert connector.capabilities(config, stream).increments is not None
        codes = [f.code for f in connector.check(config, [stream])]
        assert "number-unused" in codes
