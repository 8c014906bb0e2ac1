# SPDX-License-Identifier: Apache-2.0
"""Lookups in a real PostgreSQL: indexes, equality, types, and what breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.errors import (
    SourceFailed,
    SourceRight,
    SourceText,
    SourceTimeout,
    SourceUnreachable,
)
from agent.lookup.query import BAD, TWICE, Answer, Ask
from agent.lookup.query.gather import Sources
from agent.lookup.query.process import Seams, Watch
from agent.lookup.query.talk import Opening
from agent.lookup.query.texts import Texts
from agent.model.job import BoundItem
from agent.wire.arrow import canonical_columns
from connectors.contract import ColumnSpec, Limits, LookupSpec, SourceError, StreamSpec
from connectors.postgres import CONNECTOR
from connectors.postgres.catalog import bound as look_up
from connectors.postgres.login import connection, settings
from connectors.postgres.lookup import LOOK_S, lookup
from connectors.postgres.question import question_of
from tests.contract.connectors.test_postgres_types import AS_TEXT
from tests.support.columns import bound, checker
from tests.support.postgres import Server, private_server

pytestmark = pytest.mark.contract

CANARY = "110101199003070011"
NOTE = ColumnSpec("note", "C", 20, None, key=False)


def key(letter: str, length: int | None = None, scale: int | None = None) -> ColumnSpec:
    return ColumnSpec("k", letter, length, scale, key=True)


def spec(table: str, *columns: ColumnSpec, by: str = "k") -> LookupSpec:
    return LookupSpec(StreamSpec(("public", table), columns), (by,))


def fetch(
    server: Server, what: LookupSpec, *keys: str, config: dict[str, Any] | None = None
) -> list[tuple[int, Any]]:
    """Number of the key and last column of each row."""
    with lookup(config or server.config(), Limits(statement_timeout_s=5)) as session:
        page = session.fetch(what, [(k,) for k in keys])
    return list(zip(page.which, page.columns[-1], strict=True))


@pytest.fixture(scope="module")
def town(server: Server) -> Iterator[Server]:
    server.sql(
        "create collation if not exists blind (provider = icu,"
        " locale = 'und-u-ks-level1', deterministic = false);"
        "create role clerk login; create type mood as enum ('喜', 'sad ');"
        "create type pair as (a int, b text);"
        "create domain posint as int check (value > 0)"
    )
    yield server
    server.sql("drop table if exists odd; drop type mood, pair; drop domain posint")


# --- indexes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(town: Server) -> Server:
    """A table whose every column could be the key, and has an index."""
    columns = {
        "vc": "lpad(i::text, 18, '0')::varchar(18)",
        "ch": "lpad(i::text, 18, '0')::char(18)",
        "tx": "i::text",
        "bl": "('k' || i)::text collate blind",
        "i2": "(i % 30000)::smallint",
        "i4": "i::int",
        "i8": "i::bigint",
        "nu": "i::numeric(12,2)",
        "nn": "i::numeric",
        "da": "date '1900-01-01' + (i % 60000)",
        "ts": "timestamp '2026-11-21 08:00' + i * interval '1 s'",
        "tz": "timestamptz '2026-11-21 08:00+00' + i * interval '1 s'",
        "uu": "md5(i::text)::uuid",
    }
    chosen = ", ".join(f"{value} as {name}" for name, value in columns.items())
    town.sql(
        f"create table large as select {chosen} from generate_series(1, 100000) i;"
        + "".join(f"create index on large ({name});" for name in columns)
        + "analyze large"
    )
    return town


@pytest.mark.parametrize(
    ("column", "letter", "asked"),
    [
        ("vc", "C", "000000000000000007"),
        ("ch", "C", "000000000000000007"),
        ("tx", "C", "7"),
        ("bl", "C", "k7"),
        ("i2", "I", "7"),
        ("i4", "I", "7"),
        ("i4", "C", "7"),
        ("i8", "N", "7"),
        ("nu", "N", "7"),
        ("nn", "C", "7"),
        ("da", "D", "1900-01-08"),
        ("ts", "T", "2026-11-21T00:00:07.000000Z"),
        ("tz", "T", "2026-11-21T08:00:07.000000Z"),
        ("uu", "C", "8f14e45f-ceea-167a-5a36-dedd4bea2543"),
    ],
)
def test_each_key_is_one_probe_of_its_index(
    large: Server, column: str, letter: str, asked: str
) -> None:
    """Of a large table a key reads its row: no cast defeats the index."""
    lengths = {"C": (40, None), "N": (12, 2)}.get(letter, (None, None))
    what = LookupSpec(
        StreamSpec(
            ("public", "large"), (ColumnSpec(column, letter, *lengths, key=True),)
        ),
        (column,),
    )
    plan = plan_of(large, what, [asked])

    assert "Seq Scan" not in plan
    assert "Index Cond" in plan
    assert fetch(large, what, asked)


def plan_of(server: Server, what: LookupSpec, keys: Sequence[str]) -> str:
    """How the server runs the prepared statement, as a session prepares it."""
    with connection(server.config(), Limits()) as db:
        question = question_of(
            look_up(db, what.stream),
            what,
            server_encoding="UTF8",
            encoding="utf-8",
            timezone="Asia/Shanghai",
        )
        db.execute(settings(Limits(), db.info.server_version, lasting=True).encode())
        db.execute(f"prepare fep_plan as {question.sql}".encode())
        _, (array,) = question.parameters([(k,) for k in keys])
        rows = db.execute(f"explain execute fep_plan ('{array.decode()}')".encode())
        return "\n".join(line for (line,) in rows)


# --- equality ---------------------------------------------------------------------


def test_char_is_equal_with_its_blanks_only(town: Server) -> None:
    """char(n) is found by the text that a push sends, blanks included."""
    town.sql("create table padded (k char(5) primary key, note text);"
             "insert into padded values ('ab', 'x'), ('张', 'y')")  # fmt: skip
    what = spec("padded", key("C", 5), NOTE)
    exact = [(k, n) for k, n in zip(["ab   ", "ab", "张    "], "xxy", strict=True)]
    rows = fetch(town, what, *[k for k, _ in exact])

    # The connector may give a row that is nearly equal; the worker compares again.
    assert [row for row in rows if row[0] != 1] == [(0, "x"), (2, "y")]


@pytest.mark.parametrize(
    "native", ["text collate blind", "citext", "varchar(9) collate blind"]
)
async def test_a_collation_that_ignores_case_finds_the_exact_text(
    town: Server, native: str
) -> None:
    """Of many that the database calls equal the one with the same letters comes."""
    town.sql(
        "create extension if not exists citext; drop table if exists alike;"
        f" create table alike (k {native}, note text); create index on alike (k);"
        " insert into alike values ('ab', '1'), ('AB', '2'), ('Ab', '3'), ('aB', '4'),"
        " ('twice', '5'), ('twice', '6'), ('TWICE', '7')"
    )
    items = (bound("k", "C", 9, key=True), bound("note", "C", 20))
    async with sources(town) as hr:
        found = await hr.fetch(ask("alike", items, "aB", "AB", "ab", "aé", "twice"))

    assert found.rows == (("aB", "4"), ("AB", "2"), ("ab", "1"), None, TWICE)


def test_numerics_that_are_equal_have_texts_that_differ(town: Server) -> None:
    """Bound as C each numeric is its own text; bound as N equal numbers are one."""
    town.sql("create table scales (k numeric, note text);"
             "insert into scales"
             " values (1, 'a'), (1.0, 'b'), (1.00, 'c'), ('NaN', 'd')")  # fmt: skip
    assert fetch(town, spec("scales", key("C", 9), NOTE), "1.00", "1.000", "NaN") == [
        (0, "c"),
        (2, "d"),
    ]
    assert [i for i, _ in fetch(town, spec("scales", key("N", 9, 2), NOTE), "1")] == [
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("native", "value", "letter", "text"),
    [
        ("mood2", "'喜'", "C", "喜"),
        ("inet", "'10.0.0.1'", "C", "10.0.0.1/32"),
        ("json", """'{"a": 1}'""", "C", '{"a": 1}'),
        ("text[]", "array['a','b']", "C", "{a,b}"),
        ("boolean", "true", "C", "true"),
        ("boolean", "true", "L", "true"),
        ("date", "'infinity'", "C", "infinity"),
        ("real", "0.1", "N", "0.1"),
        ("double precision", "0.1", "C", "0.1"),
        ("timestamptz", "'2024-01-01 00:00+00'", "C", "2024-01-01 08:00:00+08"),
        ("posint2", "7", "I", "7"),
        ("code2", "'ab'", "C", "ab   "),
    ],
)
def test_other_types_are_found_by_the_servers_text(
    town: Server, native: str, value: str, letter: str, text: str
) -> None:
    """A key of an unusual type is compared as the text that a push sends."""
    town.sql(
        "drop table if exists unusual; drop type if exists mood2;"
        " drop domain if exists posint2; drop domain if exists code2;"
        " create type mood2 as enum ('喜');"
        " create domain posint2 as int check (value > 0);"
        " create domain code2 as char(5);"
        f" create table unusual (k {native}, note text);"
        f" insert into unusual values ({value}, 'x')"
    )
    size = {"C": (40, None), "N": (9, 2)}.get(letter, (None, None))
    what = spec("unusual", key(letter, *size), NOTE)

    assert fetch(town, what, "怒", text, "") == [(1, "x")]


@pytest.mark.parametrize("letter", "NYIDT")
def test_a_text_column_is_no_number_and_no_date(town: Server, letter: str) -> None:
    """``007`` would be missed by ``7``: refused, not answered with no row."""
    town.sql("create table if not exists texted (k text, note text)")
    with pytest.raises(SourceError) as e:
        fetch(town, spec("texted", key(letter, 9, 2), NOTE), "7")

    assert e.value.kind == "type"


# --- types ------------------------------------------------------------------------


VALUES: tuple[tuple[str, str, Sequence[str]], ...] = (
    *AS_TEXT,
    ("numeric(12,2)", "N", ["0", "-0.01", "9999999999.99", "1.10", "'NaN'"]),
    ("numeric(19,4)", "Y", ["12.3456", "'NaN'"]),
    ("date", "D", ["'0001-01-01'", "'9999-12-31'", "'infinity'", "'0044-03-15 BC'"]),
    ("timestamp", "T", ["'0001-01-02 00:00'", "'9999-12-31 23:59:59.999999'",
     "'infinity'", "'1986-05-04 02:30'", "'1986-09-14 01:30'",
     "'2024-02-29 01:02:03.4'"]),
    ("timestamptz", "T", ["'0001-01-02 00:00+00'", "'2024-02-29 01:02:03.4+05:30'",
     "'1900-01-01 00:00+00'", "'-infinity'", "'9999-12-31 20:00+00'"]),
    ("double precision", "B", ["0.1", "-0.0", "5e-324", "1.7976931348623157e308",
     "'NaN'", "'Infinity'", "1e21", "123456789012345680"]),
    ("bytea", "G", ["'\\x00ff'", "''", "'\\x5c'"]),
    ("boolean", "L", ["true", "false"]),
    ("bigint", "I", ["9223372036854775807", "-9223372036854775808"]),
    ("text", "C", ["''", "' a '", "'𠮷'", "repeat('字', 4001)"]),
    ("text", "M", ["repeat('字', 400000)", "'x'"]),
    ("text", "I", ["' 007 '", "'x'", "'5.00'", "'9223372036854775808'"]),
    ("text", "D", ["'1985/3/7'", "'19850307'", "'x'", "''"]),
    ("text", "T", ["'2026-11-21 08:00'", "'2026-11-21T08:00:00.5+08:05'", "'x'"]),
    ("varchar(30)", "N", ["'+5.'", "'0.005'", "'1e5'"]),
    ("text", "L", ["'是'", "'t'", "'2'"]),
    ("text", "B", ["'.5'", "'1e400'", "'x'"]),
    ("char(9)", "N", ["'1.5'"]),
    ("char(9)", "C", ["'ab'"]),
)  # fmt: skip


@pytest.mark.parametrize(("native", "letter", "values"), VALUES)
def test_a_lookup_answers_what_a_push_sends(
    town: Server, native: str, letter: str, values: Sequence[str]
) -> None:
    """Of every odd value both give the same canonical bytes, or neither gives any."""
    town.sql(
        "drop table if exists odd;"
        f" create table odd (id int primary key, v {native});"
        + "".join(
            f"insert into odd values ({i}, {value});"
            for i, value in enumerate([*values, "null"])
        )
    )
    size = {"C": (4000, None), "N": (38, 10)}.get(letter, (None, None))
    items = (bound("id", "I", key=True), bound("v", letter, *size))
    told = fetch(town, LookupSpec(stream_of(items), ("id",)), *map(str, range(9)))
    texts = Texts(items[1].item, "Asia/Shanghai")([value for _, value in told])

    assert texts == pushed(town, items)


def stream_of(items: tuple[BoundItem, ...]) -> StreamSpec:
    columns = (
        ColumnSpec(b.column, b.item.type.value, b.item.length, b.item.scale, b.item.key)
        for b in items
    )
    return StreamSpec(("public", "odd"), tuple(columns))


def pushed(server: Server, items: tuple[BoundItem, ...]) -> list[Any]:
    """What a push sends of each row, as a lookup writes it; BAD if it withholds it."""
    with CONNECTOR.open(server.config(), Limits()) as session:
        (part,) = session.plan(stream_of(items))
        (page,) = session.read(part)
    sent = checker(items).check(page.rows).rows
    good = {row["id"]: row["_op"] == "u" for row in sent.to_pylist()}
    what = items[1].item
    if what.type.value in "BFG":
        write = Texts(what, "Asia/Shanghai")
        values = sent.column("v").to_pylist()
        texts = write([repr(v) if isinstance(v, float) else v for v in values])
    else:
        (raw,) = canonical_columns(sent.select(["v"]), [what])
        texts = [None if t is None else t.decode() for t in raw]
    return [text if good[i] else BAD for i, text in enumerate(texts)]


# --- what breaks ------------------------------------------------------------------


def ask(table: str, items: tuple[BoundItem, ...], *keys: str, by: str = "k") -> Ask:
    return Ask("hr", ("public", table), items, (by,), tuple((k,) for k in keys))


@asynccontextmanager
async def sources(
    server: Server, *, timeout_s: int = 5, **config: Any
) -> AsyncIterator[Sources]:
    def opening(_: str) -> Opening:
        return Opening(
            "postgres", {**server.config(), **config}, timeout_s, "Asia/Shanghai"
        )

    found = Sources(opening, seams=Seams(lambda low, _: low, watch=Watch(away_s=0)))
    try:
        yield found
    finally:
        await found.close()


PERSON = (bound("k", "C", 18, key=True), bound("note", "C", 20))


@pytest.fixture(scope="module")
def person(town: Server) -> Server:
    town.sql(
        "create table person (k varchar(18) primary key, note varchar(20));"
        f"insert into person values ('{CANARY}', '张三');"
        "create view sleepy as select k, note, pg_sleep(9)::text as z from person;"
        "create view napping as select k, note || pg_sleep(9) as note from person;"
        "create table diary (line text);"
        "create function write_down(text) returns text language plpgsql as"
        " $$ begin insert into public.diary values ($1); return $1; end $$;"
        "create view writing as select k, write_down(note)::varchar(20) as note"
        " from person;"
        "grant select on person, sleepy to clerk"
    )
    return town


async def test_a_slow_source_is_a_timeout_and_usable_afterwards(person: Server) -> None:
    """The server cancels the statement; the same worker answers the next ask."""
    async with sources(person, timeout_s=1) as hr:
        await hr.fetch(ask("person", PERSON, CANARY))
        worker = hr._queues["hr"].source._worker  # type: ignore[attr-defined]
        with pytest.raises(SourceTimeout, match="57014"):
            await hr.fetch(ask("napping", PERSON, CANARY))
        found = await hr.fetch(ask("person", PERSON, CANARY))

        assert found.rows == ((CANARY, "张三"),)
        assert hr._queues["hr"].source._worker is worker  # type: ignore[attr-defined]


async def test_a_terminated_backend_costs_nobody_an_answer(person: Server) -> None:
    """A session that the server ended is opened anew within the ask."""
    async with sources(person) as hr:
        for _ in range(3):
            found = await hr.fetch(ask("person", PERSON, CANARY))
            assert found.rows == ((CANARY, "张三"),)
            person.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'fep'"
            )


async def test_a_source_that_goes_and_comes_back(town: Server) -> None:
    """Away it is unreachable, at once; back it answers, with its new address only."""
    with private_server() as first:
        first.sql("create table person (k text primary key, note text);"
                  "insert into person values ('1', 'first')")  # fmt: skip
        config = first.config()

        def opening(_: str) -> Opening:
            return Opening("postgres", config, 5, "Asia/Shanghai")

        hr = Sources(opening, seams=Seams(lambda low, _: low, watch=Watch(away_s=0)))
        assert (await hr.fetch(ask("person", PERSON, "1"))).rows == (("1", "first"),)
    with pytest.raises(SourceUnreachable):
        await hr.fetch(ask("person", PERSON, "1"))
    with private_server() as second:
        second.sql("create table person (k text primary key, note text);"
                   "insert into person values ('1', 'second')")  # fmt: skip
        config.update(second.config())
        await hr._queues["hr"].source._worker.end("settings changed")  # type: ignore[attr-defined,union-attr]
        assert (await hr.fetch(ask("person", PERSON, "1"))).rows == (("1", "second"),)
    await hr.close()


async def test_a_view_that_writes_is_refused(person: Server) -> None:
    """Every transaction of a lookup only reads, whatever a view calls."""
    async with sources(person) as hr:
        with pytest.raises(SourceFailed, match="25006"):
            await hr.fetch(ask("writing", PERSON, CANARY))

    assert person.sql("select count(*) from diary") == "0"


async def test_an_account_without_rights_is_told(person: Server) -> None:
    """What the account may not read is a missing right, and no value is told."""
    async with sources(person, user="clerk") as hr:
        assert (await hr.fetch(ask("person", PERSON, CANARY))).rows[0] is not None
        with pytest.raises(SourceRight) as e:
            await hr.fetch(ask("napping", PERSON, CANARY))

    assert CANARY not in f"{e.value!r} {e.value.__context__!r}"


def test_a_column_that_changes_its_type_is_asked_anew(person: Server) -> None:
    """ALTER TABLE under a prepared statement is noticed; nothing is cast wrongly."""
    person.sql("create table moved (k int primary key, note text);"
               "insert into moved values (7, 'x')")  # fmt: skip
    what = spec("moved", key("C", 18), NOTE)
    with lookup(person.config(), Limits()) as session:
        now = 0.0
        session.clock = lambda: now
        for native in ("int", "bigint", "varchar(9)", "char(9)", "numeric(9,2)"):
            person.sql(f"alter table moved alter k type {native} using k::{native}")
            now += LOOK_S
            own = {"char(9)": "7        ", "numeric(9,2)": "7.00"}.get(native, "7")
            page = session.fetch(what, [(own,), ("8",)])
            assert page.columns == [[own], ["x"]]


async def test_more_shapes_than_statements_are_kept(person: Server) -> None:
    """Old prepared statements go; each shape answers all the same."""
    items = [(*PERSON, *[bound(f"n{i}", "C", 20)]) for i in range(140)]
    items = [(*each[:2], BoundItem(each[2].item, "note")) for each in items]
    async with sources(person) as hr:
        for each in (*items, *items[:3]):
            found = await hr.fetch(ask("person", each, CANARY))
            assert found.rows == ((CANARY, "张三", "张三"),)


# --- encodings --------------------------------------------------------------------


@pytest.fixture(scope="module")
def encodings(town: Server) -> Server:
    for name in ("SQL_ASCII", "EUC_CN"):
        town.sql(
            f"create database {name.lower()} encoding '{name}' template template0"
            " lc_collate 'C' lc_ctype 'C'"
        )
    town.sql("create table person (k varchar(20), note varchar(20));"
             "insert into person values ('张三', '李四'), ('a', 'b')",
             database="euc_cn")  # fmt: skip
    raw = "张三".encode("gb18030").hex()
    town.sql(
        "set client_encoding to SQL_ASCII;"
        "create table person (k varchar(20), note varchar(20));"
        f"insert into person values (convert_from('\\x{raw}', 'SQL_ASCII'),"
        f" convert_from('\\x{raw}', 'SQL_ASCII')), ('a', 'b')",
        database="sql_ascii",
    )
    return town


async def test_a_database_without_encoding_is_asked_in_its_own(
    encodings: Server,
) -> None:
    """SQL_ASCII: keys go and values come in the encoding of the settings."""
    config = {"database": "sql_ascii", "encoding": "gb18030"}
    async with sources(encodings, **config) as hr:
        found = await hr.fetch(ask("person", PERSON, "张三", "a", "李四", "\ud800"))

    assert found.rows == (("张三", "张三"), ("a", "b"), None, None)


async def test_a_key_that_the_server_cannot_hold_fails_only_its_own_ask(
    encodings: Server,
) -> None:
    """EUC_CN has no 𠮷: asked beside others it is told alone, and without the key."""
    async with sources(encodings, database="euc_cn") as hr:
        await hr.fetch(ask("person", PERSON, "a"))
        found = await asyncio.gather(
            *(hr.fetch(ask("person", PERSON, k)) for k in ("a", "张三", "𠮷", "b")),
            return_exceptions=True,
        )

    good = [f.rows if isinstance(f, Answer) else None for f in found]
    assert good == [(("a", "b"),), (("张三", "李四"),), None, (None,)]
    assert isinstance(found[2], SourceText)
    assert "𠮷" not in f"{found[2]!r} {found[2].__context__!r}"
