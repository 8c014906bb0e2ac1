# SPDX-License-Identifier: Apache-2.0
"""What becomes of a COPY that is broken off, and of its snapshot, locks and types."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import psycopg
import pyarrow as pa
import pytest
from psycopg.pq import ConnStatus

from connectors.contract import ColumnSpec, Limits, Page, SourceError, StreamSpec
from connectors.postgres import CONNECTOR
from connectors.postgres.copy import Strange, Wanted
from connectors.postgres.login import connection
from connectors.postgres.rows import Reader, reader
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

PATIENCE_S = 60.0
ROWS = 2_000
ID = ColumnSpec("id", "I", None, None, key=True)
BIG = StreamSpec(("public", "big"), (ID,))
WANTED = [Wanted("id", pa.int64())]


ENDLESS = (
    "select generate_series(1, 5000) union all"
    " select 1 from generate_series(1, 1000000) where pg_sleep(600) is null"
)
"""The server sends rows when it has a few thousand, and then nothing for hours."""

AT_WORK = (
    "select count(*) from pg_stat_activity where state = 'active'"
    " and application_name = 'fep' and query like '%copy%'"
)


@pytest.fixture(scope="module")
def big(server: Server) -> Server:
    server.sql(
        "create table big (id int primary key); insert into big"
        f" select i from generate_series(1, {ROWS}) i"
    )
    return server


@contextmanager
def reading(server: Server) -> Iterator[Reader]:
    with reader(server.config(), Limits()) as found:
        yield found


def nobody_works(server: Server) -> bool:
    end = time.monotonic() + PATIENCE_S
    while server.sql(AT_WORK) != "0":
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def ids(pages: Sequence[Page]) -> list[int]:
    return [i for page in pages for i in page.rows.column("id").to_pylist()]


def test_a_read_that_is_left_ends_at_the_server(server: Server) -> None:
    """It is cancelled while the connection stays, and no row of it is waited for."""
    with reading(server) as rows:
        with closing(rows.batches(ENDLESS, WANTED, 1)) as found:
            assert next(found).to_pylist() == [{"id": 1}]
        assert nobody_works(server)
        assert rows.row("select 'still here'") == ("still here",)


def test_after_a_read_that_was_left_the_snapshot_is_the_same(big: Server) -> None:
    """What was written meanwhile is not seen by the next read of the session."""
    with CONNECTOR.open(big.config(), Limits(page_rows=100)) as session:
        (part,) = session.plan(BIG)
        with closing(session.read(part)) as pages:  # type: ignore[type-var]
            first = next(pages)
        big.sql("insert into big values (0)")
        try:
            assert ids(list(session.read(part))) == list(range(1, ROWS + 1))
        finally:
            big.sql("delete from big where id = 0")
    assert ids([first]) == list(range(1, 101))


def test_two_reads_at_once_are_refused(big: Server) -> None:
    """One connection has one COPY: the rows of two are never taken for each other's."""
    with CONNECTOR.open(big.config(), Limits(page_rows=100)) as session:
        (part,) = session.plan(BIG)
        pages = iter(session.read(part))
        found = [next(pages)]
        with pytest.raises(SourceError, match="still to come"):
            next(iter(session.read(part)))
        found += pages
    assert ids(found) == list(range(1, ROWS + 1))


def test_a_table_stays_locked_when_a_statement_is_broken_off(big: Server) -> None:
    """TRUNCATE empties older snapshots, too: a read that goes on would find no more."""
    with CONNECTOR.open(big.config(), Limits(page_rows=100)) as session:
        (part,) = session.plan(BIG)
        with closing(session.read(part)) as pages:  # type: ignore[type-var]
            next(pages)
        session.frontier(BIG)
        with pytest.raises(RuntimeError, match="lock timeout"):
            big.sql("set lock_timeout = '100ms'; truncate big")


def test_a_strange_value_leaves_the_reader_usable(server: Server) -> None:
    """Its statement ends at the server; the next one begins."""
    odd = f"select date 'infinity' union all select null from ({ENDLESS}) e"
    with reading(server) as rows:
        with pytest.raises(Strange):
            list(rows.batches(odd, [Wanted("v", pa.date32())], 10))
        assert nobody_works(server)
        found = list(rows.batches("values (7)", WANTED, 10))
    assert [batch.to_pylist() for batch in found] == [[{"id": 7}]]


def test_a_session_ends_though_its_server_stands_still(server: Server) -> None:
    """A server that neither sends nor heeds a cancel request is left behind."""
    with connection(server.config(), Limits()) as db:
        rows = Reader(db, stop_s=0.2)
        pid = db.info.backend_pid
        with rows:
            found = rows.batches(ENDLESS, WANTED, 4000)
            next(found)
            end = time.monotonic() + PATIENCE_S
            while not rows._turn.locked():  # the rest is being waited for
                assert time.monotonic() < end
                time.sleep(0.05)
            time.sleep(0.05)
            os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(SourceError, match="closed"):
            next(found)


@pytest.mark.parametrize(
    ("letter", "before", "after"),
    [
        ("I", "int", "date using '2024-02-29'"),
        ("I", "int", "numeric using 1.5"),
        ("N", "numeric(12,2)", "numeric(14,4) using 1.2345"),
        ("C", "text", "int using 5"),
        ("D", "date", "timestamp using '2024-02-29 13:00'"),
    ],
)
@pytest.mark.parametrize("key", [" primary key", ""])
def test_a_column_that_changes_after_planning_is_never_misread(
    server: Server, letter: str, before: str, after: str, key: str
) -> None:
    """Neither are bytes of one type another's, nor does a cast cut a value."""
    size = (12, 2) if letter in "NC" else (None, None)
    value = ColumnSpec("v", letter, *size, key=False)
    stream = StreamSpec(("public", "moving"), (ID, value))
    server.sql(
        "drop table if exists moving;"
        f" create table moving (id int{key}, v {before});"
        " insert into moving values (1, null)"
    )
    with CONNECTOR.open(server.config(), Limits()) as session:
        (part,) = session.plan(stream)
        server.sql(f"alter table moving alter v type {after}")
        with pytest.raises(SourceError) as caught:
            list(session.read(part))
    assert caught.value.kind == "type"


@pytest.mark.parametrize(
    "act",
    [
        "truncate emptied; insert into emptied values (9)",
        "alter table emptied alter id type bigint using id",
        "drop table emptied; create table emptied (id int primary key)",
    ],
)
def test_a_table_that_is_emptied_under_a_snapshot_is_not_read_as_empty(
    server: Server, act: str
) -> None:
    """An older snapshot finds no row in the table's new file, and no error."""
    stream = StreamSpec(("public", "emptied"), (ID,))
    server.sql(
        "drop table if exists emptied; create table emptied (id int primary key);"
        " insert into emptied values (1), (2)"
    )
    with CONNECTOR.open(server.config(), Limits()) as session:
        session.frontier(stream)
        server.sql(act)
        (part,) = session.plan(stream)
        with pytest.raises(SourceError) as caught:
            list(session.read(part))
    assert caught.value.kind in {"failed", "type"}


def test_an_index_made_under_a_snapshot_harms_no_read(server: Server) -> None:
    """Neither does one that is made anew, nor a second read of the session."""
    stream = StreamSpec(("public", "indexed"), (ID,))
    server.sql(
        "create table indexed (id int primary key, v text);"
        " insert into indexed values (1), (2)"
    )
    with CONNECTOR.open(server.config(), Limits()) as session:
        session.frontier(stream)
        server.sql("create index on indexed (v); reindex table indexed")
        (part,) = session.plan(stream)
        assert ids(list(session.read(part))) == [1, 2]
        assert ids(list(session.read(part))) == [1, 2]


def test_a_lock_that_was_not_had_ends_one_read(big: Server) -> None:
    """The session's next one finds its transaction as it was."""
    big.sql("create table locked (id int primary key)")
    stream = StreamSpec(("public", "locked"), (ID,))
    limits = Limits(lock_timeout_s=1)
    with CONNECTOR.open(big.config(), limits) as session:
        first, second = (session.plan(s)[0] for s in (stream, BIG))
        with psycopg.connect(
            host=str(big.socket_folder), port=big.port, user="postgres",
            dbname=big.database,
        ) as other:  # fmt: skip
            other.execute("lock table locked in access exclusive mode")
            with pytest.raises(SourceError) as caught:
                list(session.read(first))
            assert caught.value.kind == "timeout"
            assert ids(list(session.read(second))) == list(range(1, ROWS + 1))


def test_a_session_ends_while_its_server_sorts(server: Server) -> None:
    """No row has come yet: it is cancelled all the same, and that is what is told."""
    slow = "select id::int4 from generate_series(1, 9) id, pg_sleep(600) order by 1"
    told: list[SourceError] = []

    def read(rows: Reader) -> None:
        try:
            list(rows.batches(slow, WANTED, 10))
        except SourceError as e:
            told.append(e)

    with connection(server.config(), Limits()) as db:
        with Reader(db, stop_s=PATIENCE_S) as rows:
            thread = threading.Thread(target=read, args=(rows,))
            thread.start()
            end = time.monotonic() + PATIENCE_S
            while server.sql(AT_WORK) == "0":
                assert time.monotonic() < end
                time.sleep(0.02)
            began = time.monotonic()
        assert time.monotonic() - began < PATIENCE_S
        thread.join(PATIENCE_S)
        assert db.pgconn.status == ConnStatus.OK
    assert "closed" in str(told[0])


def test_a_row_is_left_out_once_whatever_stands_beside_its_key(server: Server) -> None:
    """A key that is no UTF-8 makes its page's keys bytes, those of texts among them."""
    stream = StreamSpec(
        ("public", "damaged"),
        (
            ColumnSpec("id", "C", 9, None, key=True),
            ColumnSpec("d", "D", None, None, key=False),
        ),
    )
    days = "'2020-01-01'), ('b', '2020-01-01'), ('c', '2020-01-01'), ('d', '2020-01-01'"
    server.sql(
        "create table damaged (id bytea, d date);"
        f" insert into damaged values ('a', {days}),"
        " ('e', 'infinity'), ('\\xe4ff', '2020-01-01');"
        " set allow_system_table_mods = on;"
        " update pg_attribute set atttypid = 25, attcollation = 950"
        " where attrelid = 'damaged'::regclass and attname = 'id';"
        " create unique index on damaged (id)"
    )
    with CONNECTOR.open(server.config(), Limits(page_rows=4)) as session:
        (part,) = session.plan(stream)
        pages = [page.rows.column(0) for page in session.read(part)]
    keys = [bytes(k.as_buffer()) for page in pages for k in page]
    assert keys == [b"a", b"b", b"c", b"d", b"e", b"\xe4\xff"]


def test_any_libpq_of_psycopg_serves(big: Server) -> None:
    """The one that psycopg loads by itself, where there is no wheel that brings one."""
    code = (
        "import sys, json\n"
        "from connectors.postgres import CONNECTOR\n"
        "from connectors.contract import *\n"
        "one = ColumnSpec('id', 'I', None, None, True)\n"
        "stream = StreamSpec(('public', 'big'), (one,))\n"
        "with CONNECTOR.open(json.load(sys.stdin), Limits()) as s:\n"
        "    print(sum(p.rows.num_rows for p in s.read(s.plan(stream)[0])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(big.config()),
        capture_output=True,
        text=True,
        env={**os.environ, "PSYCOPG_IMPL": "python"},
    )
    assert (done.stdout, done.stderr) == (f"{ROWS}\n", "")
