# SPDX-License-Identifier: Apache-2.0
"""What the PostgreSQL connector says when something is wrong, and what it hides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from connectors.contract import ColumnSpec, Finding, Limits, SourceError, StreamSpec
from connectors.postgres import CONNECTOR
from connectors.postgres.session import PostgresSession
from tests.support.postgres import Server, private_server

pytestmark = pytest.mark.contract

PASSWORD = "pa ss'w\\ord=\"x"
CANARY = "110101199003070011"


@pytest.fixture(scope="module")
def town(server: Server) -> Server:
    server.sql(
        "create role agent login password 'pa ss''w\\ord=\"x';"
        "create role walled login password 'x';"
        "create schema town; create table town.person (id_no char(18) primary key,"
        " name varchar(30), born date, salary numeric);"
        f"insert into town.person values ('{CANARY}', '张三', '1990-03-07', 1);"
        "comment on table town.person is '人口';"
        "comment on column town.person.name is '姓名';"
        "create database empty; revoke connect on database empty from public"
    )
    return server


PERSON = StreamSpec(
    ("town", "person"),
    (
        ColumnSpec("id_no", "C", 18, None, key=True),
        ColumnSpec("name", "C", 30, None, key=False),
    ),
)


def agent(server: Server, **changes: Any) -> dict[str, Any]:
    config = server.config("agent", password=PASSWORD)
    return {**config, "host": "127.0.0.1", "sslmode": "disable", **changes}


def allow(server: Server) -> None:
    server.sql("grant usage on schema town to agent")
    server.sql("grant select on town.person to agent")


def problems(config: Mapping[str, Any], *streams: StreamSpec) -> dict[str, Finding]:
    found = CONNECTOR.check(config, streams or (PERSON,))
    return {f.code: f for f in found if f.severity != "ok"}


def pull(config: Mapping[str, Any], stream: StreamSpec = PERSON, **limits: Any) -> int:
    with CONNECTOR.open(config, Limits(**limits)) as session:
        return sum(
            page.rows.num_rows
            for part in session.plan(stream)
            for page in session.read(part)
        )


def test_each_remedy_removes_its_cause(town: Server) -> None:
    """Running what check prints, one after the other, ends in a table that is read."""
    seen = []
    config = agent(town)
    while errors := [f for f in problems(config).values() if f.severity == "error"]:
        with pytest.raises(SourceError) as caught:
            pull(config)
        assert caught.value.kind == "right"
        seen.append(errors[0].code)
        town.sql(errors[0].remedy or "")
    assert seen == ["usage-missing", "grant-missing"]
    assert pull(config) == 1
    assert problems(config) == {}


def test_only_the_bound_columns_are_asked_for(town: Server) -> None:
    """The GRANT names the bound columns; the others stay closed and undiscovered."""
    town.sql("grant usage on schema town to agent;"
             " grant select (id_no, name) on town.person to agent")  # fmt: skip
    (table,) = (
        t for t in CONNECTOR.discover(agent(town)) if t.table == ("town", "person")
    )
    assert table.comment == "人口"
    assert [(c.name, c.type, c.length, c.key, c.comment) for c in table.columns] == [
        ("id_no", "C", 18, True, None),
        ("name", "C", 30, False, "姓名"),
    ]


def test_an_account_that_may_write_is_warned_about(town: Server) -> None:
    """Check warns of rights beyond reading and prints the REVOKE."""
    town.sql("grant usage on schema town to agent;"
             " grant select, delete on town.person to agent")  # fmt: skip
    found = problems(agent(town))["can-write"]
    town.sql(found.remedy or "")
    assert "can-write" not in problems(agent(town))
    assert "superuser" in problems(town.config())


def test_row_security_is_told(town: Server) -> None:
    """A policy that hides rows is a warning, for hidden rows count as deleted."""
    allow(town)
    town.sql("alter table town.person enable row level security")
    found = problems(agent(town))
    town.sql("alter table town.person disable row level security")
    assert "row-security" in found
    assert "row-security" not in problems(agent(town))


def test_a_name_that_is_nearly_right_is_offered(town: Server) -> None:
    """A missing table or column comes with the names that look like it."""
    columns = (*PERSON.columns, ColumnSpec("nane", "C", 9, None, key=False))
    wrong = StreamSpec(PERSON.table, columns)
    assert "name" in problems(agent(town), wrong)["column-missing"].en
    absent = StreamSpec(("town", "persons"), PERSON.columns)
    assert "town.person" in problems(agent(town), absent)["table-missing"].zh


@pytest.mark.parametrize(
    ("changes", "kind", "remedy"),
    [
        ({"password": "wrong"}, "login", "ALTER ROLE"),
        ({"password": None}, "login", "ALTER ROLE"),
        ({"user": "nobody-here"}, "login", "ALTER ROLE"),
        ({"database": "absent"}, "login", "CREATE DATABASE"),
        ({"database": "empty"}, "right", "GRANT CONNECT"),
        ({"port": 1}, "unreachable", "listen_addresses"),
        ({"host": "/nonexistent"}, "unreachable", "listen_addresses"),
        ({"host": "no-such-host.invalid"}, "unreachable", "listen_addresses"),
        ({"sslmode": "require"}, "unreachable", "sslmode"),
    ],
)
def test_a_refused_connection_says_what_to_do(
    town: Server, changes: Mapping[str, Any], kind: str, remedy: str
) -> None:
    """Each way to be refused has its kind and its remedy, and tells no password."""
    config = agent(town, **changes)
    with pytest.raises(SourceError) as caught:
        pull(config)
    assert caught.value.kind == kind, caught.value.detail
    (found,) = problems(config).values()
    assert remedy in (found.remedy or "")
    assert PASSWORD not in repr((found, caught.value.args, caught.value.__cause__))


def test_pg_hba_is_named(server: Server) -> None:
    """An account that pg_hba.conf keeps out is told so, with the line to add."""
    hba = "local all all trust\nhost all walled 127.0.0.1/32 reject\n"
    with private_server(tcp=True, hba=hba) as strict:
        config = {**strict.config("walled", password="x"), "host": "127.0.0.1"}
        (found,) = problems(config).values()
    assert found.code == "login"
    assert (found.remedy or "").startswith("pg_hba.conf: host")


def slow_table(server: Server, body: str) -> StreamSpec:
    server.sql(
        "drop view if exists public.slow; drop function if exists public.slowly;"
        " create function public.slowly(i int) returns text language plpgsql"
        f" as $$ begin {body} return i::text; end $$;"
        " create view public.slow as select i as id, public.slowly(i) as v"
        " from generate_series(1, 100000) i"
    )
    return StreamSpec(
        ("public", "slow"),
        (
            ColumnSpec("id", "I", None, None, key=True),
            ColumnSpec("v", "C", 20, None, key=False),
        ),
    )


def test_a_statement_that_takes_too_long_is_cancelled(server: Server) -> None:
    """The statement timeout of the session ends the read as ``timeout``."""
    stream = slow_table(server, "perform pg_sleep(0.01);")
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        pull(server.config(), stream, statement_timeout_s=1)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 10


def test_an_error_in_the_middle_tells_no_value(server: Server) -> None:
    """An error after many rows is ``failed``; its text, which holds values, is not."""
    body = f"if i = 90000 then raise exception 'row {CANARY}'; end if;"
    stream = slow_table(server, body)
    with pytest.raises(SourceError) as caught:
        pull(server.config(), stream)
    assert caught.value.kind == "failed"
    assert CANARY not in repr((caught.value, caught.value.__cause__))
    assert caught.value.__suppress_context__


def test_a_server_that_dies_in_the_middle_is_unreachable(server: Server) -> None:
    """A server killed between two pages ends the read as ``unreachable``."""
    with private_server() as dying:
        dying.sql("create table big (id int primary key, v text)")
        dying.sql("insert into big select i, repeat('x', 500)"
                  " from generate_series(1, 200000) i")  # fmt: skip
        stream = StreamSpec(
            ("public", "big"),
            (
                ColumnSpec("id", "I", None, None, key=True),
                ColumnSpec("v", "C", 500, None, key=False),
            ),
        )
        with CONNECTOR.open(dying.config(), Limits(page_rows=2048)) as session:
            (part,) = session.plan(stream)
            reading = iter(session.read(part))
            next(reading)
            os.kill(dying.pid, signal.SIGQUIT)  # immediate shutdown
            with pytest.raises(SourceError) as caught:
                list(reading)
        assert caught.value.kind == "unreachable"


def test_what_is_read_of_a_closed_session_is_an_error(server: Server) -> None:
    """Rows that are still to come are never taken for the end of the table."""
    stream = slow_table(server, "")
    with CONNECTOR.open(server.config(), Limits(page_rows=2048)) as session:
        (part,) = session.plan(stream)
        reading = iter(session.read(part))
        next(reading)
    with pytest.raises(SourceError, match="closed"):
        list(reading)


def test_a_right_lost_between_plan_and_read_is_told(town: Server) -> None:
    """A grant that is revoked after planning is ``right``, not a driver's error."""
    allow(town)
    with CONNECTOR.open(agent(town), Limits()) as session:
        (part,) = session.plan(PERSON)
        town.sql("revoke all on town.person from agent;"
                 " revoke all (id_no, name) on town.person from agent")  # fmt: skip
        with pytest.raises(SourceError) as caught:
            list(session.read(part))
    assert caught.value.kind == "right"


def test_nothing_can_be_written_through_a_session(server: Server) -> None:
    """A view that writes fails: the transaction is read-only."""
    server.sql(
        "drop table if exists public.trap cascade; create table public.trap (n int);"
        " create function public.spring() returns text language plpgsql volatile"
        " as $$ begin insert into public.trap values (1); return 'x'; end $$;"
        " create view public.trapped as select 1 as id, public.spring() as v"
    )
    stream = StreamSpec(
        ("public", "trapped"),
        (
            ColumnSpec("id", "I", None, None, key=True),
            ColumnSpec("v", "C", 20, None, key=False),
        ),
    )
    with pytest.raises(SourceError):
        pull(server.config(), stream)
    assert server.sql("select count(*) from public.trap") == "0"


@pytest.fixture(scope="module")
def bytes_only(server: Server) -> Iterator[dict[str, Any]]:
    """A database that does not know its encoding and holds GB 18030."""
    server.sql("create database bytes_only encoding 'SQL_ASCII' template template0"
               " lc_collate 'C' lc_ctype 'C'")  # fmt: skip
    config = server.config(database="bytes_only")
    with psycopg.connect(
        host=str(server.socket_folder), port=server.port, user="postgres",
        dbname="bytes_only",
    ) as db:  # fmt: skip
        db.execute("create table t (k text primary key, c char(4), j json)")
        for raw in ("张三".encode("gb18030"), b"ascii", b"\xff\xfe"):
            db.execute(
                "insert into t values (convert_from(%s, 'SQL_ASCII'),"
                " convert_from(%s, 'SQL_ASCII'), '{}')",
                (raw, raw[:4]),
            )
    yield config
    server.sql("drop database bytes_only with (force)")


BYTES = StreamSpec(
    ("public", "t"),
    (
        ColumnSpec("k", "C", 20, None, key=True),
        ColumnSpec("c", "C", 4, None, key=False),
        ColumnSpec("j", "M", None, None, key=False),
    ),
)


def test_undecodable_text_arrives_as_bytes(bytes_only: Mapping[str, Any]) -> None:
    """Text of an unknown encoding arrives as its bytes; decodable columns as text."""
    with CONNECTOR.open(bytes_only, Limits()) as session:
        (page,) = session.read(session.plan(BYTES)[0])
        keys = page.rows.column(0).to_pylist()
        again = list(session.read(session.plan(BYTES)[0], page.token))
    assert keys == [b"ascii", "张三".encode("gb18030"), b"\xff\xfe"]
    assert page.rows.column(2).to_pylist() == ["{}"] * 3
    assert again == []


def test_a_declared_encoding_decodes(bytes_only: Mapping[str, Any]) -> None:
    """With ``encoding`` set, texts are UTF-8 and only what does not decode is bytes."""
    with CONNECTOR.open({**bytes_only, "encoding": "gb18030"}, Limits()) as session:
        (page,) = session.read(session.plan(BYTES)[0])
    assert page.rows.column(0).to_pylist() == [b"ascii", "张三".encode(), b"\xff\xfe"]


KIN = "张三", "赵四", "周五"
"""In the order of their bytes in GB 18030; those in UTF-8 are all greater."""


def test_a_read_goes_on_after_a_key_of_a_declared_encoding(
    bytes_only: Mapping[str, Any],
) -> None:
    """Its text goes back as the bytes that stand there: each row comes once."""
    config = {**bytes_only, "encoding": "gb18030"}
    with psycopg.connect(
        host=config["host"], port=config["port"], user="postgres", dbname="bytes_only"
    ) as db:
        db.execute("create table kin (k text primary key)")
        for name in KIN:
            raw = name.encode("gb18030")
            db.execute("insert into kin values (convert_from(%s, 'SQL_ASCII'))", (raw,))
    stream = StreamSpec(("public", "kin"), BYTES.columns[:1])
    with CONNECTOR.open(config, Limits(page_rows=1)) as session:
        part = session.plan(stream)[0]
        pages = list(session.read(part))
        rests = [
            [p.rows.column(0)[0].as_py() for p in session.read(part, page.token)]
            for page in pages
        ]
    assert rests == [[*KIN[1:]], [*KIN[2:]], []]


def test_rows_of_a_declared_encoding_are_not_digested(
    bytes_only: Mapping[str, Any],
) -> None:
    """They would be asked for by key texts that the server does not have."""
    for config in (bytes_only, {**bytes_only, "encoding": "gb18030"}):
        with CONNECTOR.open(config, Limits()) as session:
            assert isinstance(session, PostgresSession)
            assert session.tagging(BYTES) is None


def test_a_latin_database_is_converted_by_its_server(server: Server) -> None:
    """Text of another known encoding is converted; what has no place in it is told."""
    server.sql("create database latin encoding 'EUC_CN' template template0"
               " lc_collate 'C' lc_ctype 'C'")  # fmt: skip
    server.sql(
        "create table t (k text primary key, c char(4), j json);"
        """ insert into t values ('张三', '李', '{"a":"王"}')""",
        database="latin",
    )
    config = server.config(database="latin")
    with CONNECTOR.open(config, Limits()) as session:
        (page,) = session.read(session.plan(BYTES)[0])
    assert page.rows.to_pylist() == [{"k": "张三", "c": "李   ", "j": '{"a":"王"}'}]


def test_the_reader_works_in_an_empty_environment(town: Server) -> None:
    """No variable of the environment is needed, nor is a home folder."""
    allow(town)
    code = (
        "import sys, json\n"
        "from connectors.postgres import CONNECTOR\n"
        "from connectors.contract import *\n"
        "config, table, columns = json.load(sys.stdin)\n"
        "stream = StreamSpec(tuple(table), tuple(ColumnSpec(*c) for c in columns))\n"
        "with CONNECTOR.open(config, Limits()) as s:\n"
        "    print(sum(p.rows.num_rows for p in s.read(s.plan(stream)[0])))\n"
    )
    columns = [(c.name, c.type, c.length, c.scale, c.key) for c in PERSON.columns]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([agent(town), PERSON.table, columns]),
        capture_output=True, text=True, env={}, check=False,
    )  # fmt: skip
    assert done.stdout == "1\n", done.stderr


def test_a_process_killed_while_reading_leaves_no_query(server: Server) -> None:
    """When a worker is killed the server ends its query by itself."""
    slow_table(server, "perform pg_sleep(0.001);")
    code = (
        "import sys, json\n"
        "from connectors.postgres import CONNECTOR\n"
        "from connectors.contract import *\n"
        "c = (ColumnSpec('id','I',None,None,True), ColumnSpec('v','C',20,None,False))\n"
        "stream = StreamSpec(('public', 'slow'), c)\n"
        "with CONNECTOR.open(json.load(sys.stdin), Limits()) as s:\n"
        "    part = s.plan(stream)[0]\n"
        "    print('go', flush=True)\n"
        "    list(s.read(part))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdin
    assert child.stdout
    child.stdin.write(json.dumps(server.config()))
    child.stdin.close()
    assert child.stdout.readline() == "go\n"
    count = (
        "select count(*) from pg_stat_activity where application_name = 'fep'"
        " and query like '%slow%' and pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + 20
    while server.sql(count) == "0" and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    while server.sql(count) != "0" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert server.sql(count) == "0"
