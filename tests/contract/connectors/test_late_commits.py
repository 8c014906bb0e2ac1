# SPDX-License-Identifier: Apache-2.0
"""Increments beside twelve writers: nothing is lost; a cursor on the time loses.

The copies are compared with the table by the database's own driver. With FEP_FULL=1 the
writers are at work for 60 s instead of 6 s. A failure prints the seed.
"""

from __future__ import annotations

import os
import time

import pytest

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
from tests.support.mariadb import Mariadb
from tests.support.postgres import private_server
from tests.support.writers import (
    ROWS_EACH,
    WRITERS,
    Difference,
    difference,
    writing,
)

pytestmark = pytest.mark.contract

SECONDS = 60 if os.environ.get("FEP_FULL") else 6
SEED = int(os.environ.get("FEP_SEED") or time.time_ns() % 10**6)
COLUMNS = (
    ColumnSpec("id", "I", None, None, key=True),
    ColumnSpec("note", "C", 200, None, key=False),
)
FIRST = [f"({i}, 'first')" for i in range(ROWS_EACH * WRITERS)]


def run(
    database: Postgres | Maria, connector: Connector, stream: StreamSpec, seconds: float
) -> tuple[Difference, Difference, list[int]]:
    """What our copy and that of a cursor on the time lack in the end.

    Returns:
        ours, the cursor's, and the rows of each increment.
    """
    config = database.server.config()
    copy: dict[int, str] = {}
    cursor_copy: dict[int, str] = {}
    largest = None
    since: str | None = None
    sizes = []

    def increment() -> None:
        nonlocal since
        with connector.open(config, Limits()) as session:
            assert isinstance(session, IncrementalSession)
            until = session.frontier(stream).value
            if since is None:
                pages = [p for part in session.plan(stream) for p in session.read(part)]
            else:
                pages = list(session.changes(stream, since, until))
        since = until
        sizes.append(sum(page.rows.num_rows for page in pages))
        for page in pages:
            ids, notes = (column.to_pylist() for column in page.rows.columns)
            copy.update(zip(ids, notes, strict=True))

    def poll() -> None:
        """As a cursor does: everything from the largest time on that was seen."""
        nonlocal largest
        where = "" if largest is None else f" where changed >= '{largest}'"
        for number, note, changed in database.rows(
            f"select id, note, changed from work{where}"
        ):
            cursor_copy[number] = note
            largest = changed if largest is None else max(largest, changed)

    with writing(database, SEED) as end:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            increment()
            poll()
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began) % 1.0))
        done = end()
    assert sum(w.committed + w.prepared for w in done) > 5 * seconds
    for _ in range(2):
        increment()
        poll()
    table = dict(database.rows("select id, note from work"))
    return difference(table, copy), difference(table, cursor_copy), sizes


@pytest.mark.parametrize("stamp", [None, "changed"])
def test_postgres_loses_nothing_where_a_cursor_does(stamp: str | None) -> None:
    """Twelve writers, savepoints, two phases: the copy equals the table."""
    settings = {"max_prepared_transactions": "50", "max_connections": "60"}
    with private_server(settings=settings) as server:
        server.sql(
            "create table work (id bigint primary key, note text,"
            " changed timestamptz not null default now());"
            " create index on work (changed);"
            " create function touch() returns trigger language plpgsql as"
            " $$ begin new.changed := now(); return new; end $$;"
            " create trigger touch before update on work for each row"
            " execute function touch();"
            f" insert into work (id, note) values {', '.join(FIRST)}"
        )
        stream = StreamSpec(("public", "work"), COLUMNS, stamp)
        ours, cursors, sizes = run(Postgres(server), POSTGRES, stream, SECONDS)
    assert (ours, cursors.total > 0) == (Difference(0, 0, 0), True), (
        f"FEP_SEED={SEED}",
        cursors,
        sizes,
    )


def test_mariadb_loses_nothing_where_a_cursor_does(mariadb: Mariadb) -> None:
    """Twelve writers, savepoints, rollbacks: the copy equals the table."""
    mariadb.sql(
        "drop table if exists work",
        "create table work (id bigint primary key, note varchar(200), changed"
        " timestamp(6) not null default current_timestamp(6)"
        " on update current_timestamp(6), key (changed))",
        f"insert into work (id, note) values {', '.join(FIRST)}",
    )
    stream = StreamSpec(("town", "work"), COLUMNS)
    ours, cursors, sizes = run(Maria(mariadb), MYSQL, stream, SECONDS)
    assert (ours, cursors.total > 0) == (Difference(0, 0, 0), True), (
        f"FEP_SEED={SEED}",
        cursors,
        sizes,
    )
