# SPDX-License-Identifier: Apache-2.0
"""A table with nothing but a growing number, read by the gap ledger beside writers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
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
    SourceError,
    StreamSpec,
)
from connectors.mysql import CONNECTOR as MYSQL
from connectors.postgres import CONNECTOR as POSTGRES
from tests.support.databases import Maria, Postgres
from tests.support.mariadb import Mariadb
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

STREAM = StreamSpec(("numbered",), (ColumnSpec("id", "I", None, None, key=True),))
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
        oldest = session.oldest_writer()
        pages = list(session.numbered(STREAM, "id", ledger.windows))
        now = datetime.fromisoformat(session.server_time())
    numbers = [i for page in pages for i in page.rows.column(0).to_pylist()]
    since = None if oldest is None else datetime.fromisoformat(oldest)
    found = advanced(ledger, numbers, now=now, oldest=since, keep=KEEP)
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


def test_a_column_that_is_no_number_is_refused(
    source: tuple[Postgres | Maria, Connector],
) -> None:
    """A missing column, or one of another type, is told before a row is read."""
    with source[1].open(source[0].server.config(), Limits()) as session:
        assert isinstance(session, NumberedSession)
        for name, kind in (("absent", "missing"), ("note", "type")):
            with pytest.raises(SourceError) as caught:
                list(session.numbered(STREAM, name, ((1, None),)))
            assert caught.value.kind == kind
