# SPDX-License-Identifier: Apache-2.0
"""Types of PostgreSQL that fast readers are known to change (docs/adr/0001)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from connectors.contract import ColumnSpec, Limits, SourceError, StreamSpec
from connectors.postgres import CONNECTOR
from connectors.postgres.catalog import bound
from connectors.postgres.columns import Query
from connectors.postgres.copy import Strange
from connectors.postgres.login import connection
from connectors.postgres.rows import Reader, reader
from connectors.postgres.session import planned
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

ID = ColumnSpec("id", "I", None, None, key=True)

AS_TEXT: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("numeric", "N", ["'NaN'", "'Infinity'", "1e30", "1.10", "0.00000000000000000001"]),
    ("numeric(40,2)", "N", ["12345678901234567890123456789012345678.99", "'NaN'"]),
    ("numeric(12,2)", "C", ["1.10", "'NaN'", "-0.00"]),
    ("numeric(12,4)", "N", ["1.1000", "'NaN'"]),
    ("real", "B", ["0.1", "'NaN'", "'-Infinity'", "16777217", "3.4e38"]),
    ("time", "C", ["'24:00'", "'00:00'", "'23:59:59.999999'"]),
    ("timetz", "C", ["'24:00+08'", "'12:00:00.5-03:30'"]),
    ("interval", "C", ["'1 month'", "'30 days'", "'-1 year 2 hours 0.000001 sec'"]),
    ("money", "C", ["12.34", "-0.01", "92233720368547758.07"]),
    ("uuid", "C", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    ("json", "M", ["""'{"b": 1.10, "a": null, "b": 2}'""", "'null'"]),
    ("jsonb", "M", ["""'{"b": 1.10, "a": [1, {"张": "\\u0031"}]}'""", "'null'"]),
    ("xml", "M", ["'<a>张</a>'"]),
    ("text[]", "M", ["array['a', null, 'b,\"c', '张']", "'{}'", "'[2:3]={x,y}'"]),
    ("int[]", "M", ["array[[1,2],[3,4]]", "array[null]::int[]"]),
    ("char(3)[]", "M", ["array['a','bc ']::char(3)[]"]),
    ("mood", "C", ["'喜'", "'sad '"]),
    ("inet", "C", ["'10.0.0.1/8'", "'::1'"]),
    ("bit(5)", "C", ["B'00101'"]),
    ("int4range", "C", ["'[1,5)'", "'empty'"]),
    ("point", "C", ["'(1.5,-2)'"]),
    ("pair", "C", ["row(1, 'a b')"]),
    ("oid", "C", ["4294967295"]),
    ("name", "C", ["'pg_张'"]),
    ('"char"', "C", ["'x'"]),
    ("tsvector", "M", ["'a:1 b:2'"]),
    ("boolean", "C", ["true", "false"]),
    ("bigint", "N", ["9223372036854775807", "-1"]),
    ("smallint", "B", ["-32768"]),
    ("date", "C", ["'infinity'", "'0044-03-15 BC'", "'2024-02-29'"]),
    ("timestamp", "C", ["'-infinity'", "'0044-03-15 01:02:03 BC'"]),
    ("timestamptz", "C", ["'2024-01-01 00:00+00'", "'infinity'"]),
    ("posint", "C", ["7"]),
)
"""(native type, item type, values): read as the server's own text."""


def stream_of(table: str, *columns: ColumnSpec) -> StreamSpec:
    return StreamSpec(("public", table), (ID, *columns))


def spec(
    letter: str, length: int | None = None, scale: int | None = None
) -> ColumnSpec:
    return ColumnSpec("v", letter, length, scale, key=False)


@pytest.fixture(scope="module")
def types(server: Server) -> Server:
    server.sql(
        "create type mood as enum ('喜', 'sad '); create type pair as (a int, b text);"
        " create domain posint as int check (value > 0);"
        " create domain code as char(5); create domain inner_code as code;"
        " create domain amount as numeric(10,2)"
    )
    return server


def table_of(server: Server, native: str, values: Sequence[str]) -> str:
    rows = ", ".join(f"({i}, {v})" for i, v in enumerate([*values, "null"]))
    server.sql(
        "drop table if exists pitfall;"
        f" create table pitfall (id int primary key, v {native});"
        f" insert into pitfall values {rows}"
    )
    return "pitfall"


def read(server: Server, stream: StreamSpec, **limits: Any) -> pa.Table:
    with CONNECTOR.open(server.config(), Limits(**limits)) as session:
        (part,) = session.plan(stream)
        batches = [page.rows for page in session.read(part)]
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches)


def server_text(server: Server) -> list[str | None]:
    found = server.sql(
        "set timezone = 'Asia/Shanghai'; set extra_float_digits = 3;"
        " select json_agg(v::text order by id) from pitfall"
    )
    return list(json.loads(found))


@pytest.mark.parametrize(("native", "letter", "values"), AS_TEXT)
def test_a_type_that_is_not_carried_is_the_servers_text(
    types: Server, native: str, letter: str, values: Sequence[str]
) -> None:
    """A column that the fast path cannot carry arrives as the server prints it."""
    length, scale = (38, 0) if letter == "N" else (4000, None)
    table = table_of(types, native, values)
    found = read(types, stream_of(table, spec(letter, length, scale))).column("v")
    assert found.type == pa.string()
    assert found.to_pylist() == server_text(types)


@pytest.mark.parametrize("native", ["char(5)", "code", "inner_code"])
@pytest.mark.parametrize("letter", ["C", "N"])
def test_char_keeps_its_blanks(types: Server, native: str, letter: str) -> None:
    """The blanks that fill char(n) arrive, through domains too."""
    table = table_of(types, native, ["'ab'", "'张'", "''", "'12345'"])
    found = read(types, stream_of(table, spec(letter, 5, 0))).column("v")
    assert found.to_pylist() == ["ab   ", "张    ", "     ", "12345", None]


@pytest.mark.parametrize("native", ["char(6)", "inner_code"])
def test_only_blanks_are_stripped_and_filled_up_again(
    types: Server, native: str
) -> None:
    """Whatever else looks like a blank at the end of char(n) stays as it is."""
    ends = ["\t", "\n", "\u00a0", "\u3000", "\u200b", "😀", "e\u0301", " \t ", "  x"]
    table = table_of(types, native, [f"'a{end}'" for end in ends])
    size = 6 if native == "char(6)" else 5
    found = read(types, stream_of(table, spec("C", 6, None))).column("v").to_pylist()
    assert found == [*(f"a{end}".ljust(size) for end in ends), None]


@pytest.mark.parametrize(
    ("native", "wanted", "values"),
    [
        ("numeric(12,2)", (12, 2), ["0", "-0.01", "9999999999.99", "1.10"]),
        ("numeric(12,2)", (19, 4), ["1.10"]),
        ("amount", (10, 2), ["12345678.90"]),
        ("numeric(38,38)", (38, 38), ["0." + "1" * 38]),
        ("numeric(38,0)", (38, 0), ["9" * 38, "-" + "9" * 38]),
        ("numeric(1,0)", (1, 0), ["9"]),
    ],
)
def test_a_decimal_is_native(
    types: Server, native: str, wanted: tuple[int, int], values: Sequence[str]
) -> None:
    """numeric(p,s) that fits the item arrives as its decimal, digit for digit."""
    table = table_of(types, native, values)
    found = read(types, stream_of(table, spec("N", *wanted))).column("v")
    assert found.type == pa.decimal128(*wanted)
    assert found.to_pylist() == [*map(Decimal, values), None]


def test_nan_of_a_decimal_makes_its_page_text(types: Server) -> None:
    """NaN, which no decimal can be, arrives as NaN; its page is text."""
    table = table_of(types, "numeric(12,2)", ["1.10", "'NaN'", "0"])
    found = read(types, stream_of(table, spec("N", 12, 2))).column("v")
    assert found.to_pylist() == ["1.10", "NaN", "0.00", None]


def test_only_the_page_of_an_odd_value_is_text(types: Server) -> None:
    """A column is native again on the next page."""
    types.sql(
        "drop table if exists pitfall; create table pitfall (id int primary key,"
        " v date); insert into pitfall select i, date '2000-01-01' + i from"
        " generate_series(1, 5000) i; update pitfall set v = 'infinity' where id = 1"
    )
    stream = stream_of("pitfall", spec("D"))
    with CONNECTOR.open(types.config(), Limits(page_rows=2048)) as session:
        (part,) = session.plan(stream)
        kinds = [page.rows.column(1).type for page in session.read(part)]
    assert kinds == [pa.string(), pa.date32(), pa.date32()]


DATES = ["'0001-01-01'", "'1582-10-10'", "'1969-12-31'", "'9999-12-31'"]


def test_a_date_is_native(types: Server) -> None:
    """Dates of the years 1 to 9999 arrive as dates."""
    found = read(types, stream_of(table_of(types, "date", DATES), spec("D")))
    assert found.column("v").type == pa.date32()
    assert found.column("v").to_pylist() == [
        *(date.fromisoformat(d.strip("'")) for d in DATES),
        None,
    ]


def test_dates_beyond_the_range_are_the_servers_text(types: Server) -> None:
    """Infinity, BC and years after 9999 arrive as the server prints them."""
    odd = ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'10000-01-01'"]
    odd += ["'5874897-12-31'", "'4714-11-24 BC'", "'2024-02-29'"]
    table = table_of(types, "date", odd)
    found = read(types, stream_of(table, spec("D"))).column("v")
    assert found.to_pylist() == server_text(types)


TIMES = ["'0001-01-01 00:00:00'", "'1969-12-31 23:59:59.999999'"]
TIMES += ["'9999-12-31 23:59:59.999999'"]


def test_a_timestamp_is_a_wall_clock_time(types: Server) -> None:
    """A timestamp without zone arrives as it stands, without a zone."""
    found = read(types, stream_of(table_of(types, "timestamp", TIMES), spec("T")))
    assert found.column("v").type == pa.timestamp("us")
    assert found.column("v").to_pylist() == [
        *(datetime.fromisoformat(t.strip("'")) for t in TIMES),
        None,
    ]


def test_a_timestamptz_is_an_instant(types: Server) -> None:
    """A timestamp with zone arrives in UTC, whatever zone it was written with."""
    values = ["'2024-01-01 08:00:00.000001+08'", "'1900-01-01 00:00:00+00'"]
    table = table_of(types, "timestamptz", values)
    found = read(types, stream_of(table, spec("T"))).column("v")
    assert found.type == pa.timestamp("us", "UTC")
    assert [None if v is None else str(v) for v in found.to_pylist()] == [
        "2024-01-01 00:00:00.000001+00:00",
        "1900-01-01 00:00:00+00:00",
        None,
    ]


@pytest.mark.parametrize("native", ["timestamp", "timestamptz"])
def test_times_beyond_the_range_are_the_servers_text(
    types: Server, native: str
) -> None:
    """Infinity, BC and the far future of a timestamp arrive as the server prints."""
    odd = ["'infinity'", "'-infinity'", "'0044-03-15 12:00 BC'"]
    odd += ["'294276-12-31 23:59:59.999999+00'", "'4714-11-25 00:00+00 BC'"]
    table = table_of(types, native, odd)
    found = read(types, stream_of(table, spec("T"))).column("v")
    assert found.type == pa.string()
    assert found.to_pylist() == server_text(types)


STRANGE = {
    "date": ["infinity", "-infinity", "0001-12-31 BC", "10000-01-01", "5874897-12-31"],
    "timestamp": ["infinity", "-infinity", "0001-12-31 23:59:59.999999 BC"],
    "timestamptz": ["infinity", "-infinity", "0001-12-31 23:59:59.999999+00 BC"],
}
STRANGE["date"] += ["4714-11-24 BC"]
for _native in ("timestamp", "timestamptz"):
    STRANGE[_native] += ["10000-01-01 00:00+00", "294276-12-31 23:59:59.999999+00"]
    STRANGE[_native] += ["294247-01-10 04:00:54.775807+00", "4714-11-24 00:00+00 BC"]
    STRANGE[_native] += ["294247-01-10 04:00:54.775808+00"]


@pytest.mark.parametrize("native", STRANGE)
def test_each_strange_date_or_time_is_seen_by_itself(
    types: Server, native: str
) -> None:
    """A quick read sees every value beyond the range by itself, and no ordinary one."""
    usual = ["0001-01-01", "9999-12-31", "1970-01-01", "1969-12-31"]
    values = [f"'{value}'" for value in (*STRANGE[native], *usual)]
    stream = stream_of(
        table_of(types, native, values), spec("D" if native == "date" else "T")
    )
    seen = strange(types, stream)
    odd = len(STRANGE[native])
    assert seen == [True] * odd + [False] * (len(usual) + 1)


@pytest.mark.parametrize("size", ["1,0", "4,4", "9,2", "18,0", "38,38", "38,0"])
def test_nan_is_strange_and_zero_is_not(types: Server, size: str) -> None:
    """Of numerics of any width."""
    precision, scale = (int(n) for n in size.split(","))
    one = f"0.{'0' * (scale - 1)}1" if scale else "1"
    table = table_of(types, f"numeric({size})", ["'NaN'", one, f"-{one}", "0"])
    seen = strange(types, stream_of(table, spec("N", precision, scale)))
    assert seen == [True, False, False, False, False]


def strange(server: Server, stream: StreamSpec) -> list[bool]:
    """Of each row, whether a quick read stops at it."""
    config = server.config()
    with connection(config, Limits()) as db:
        query = planned(db, config, bound(db, stream), stream).quick
    count = int(server.sql("select count(*) from pitfall"))
    with reader(config, Limits()) as rows:
        return [stops(rows, query, f" where id = {i}") for i in range(count)]


def stops(rows: Reader, query: Query, where: str) -> bool:
    try:
        (found,) = rows.batches(query.select(where), query.wanted(), 64)
    except Strange:
        return True
    return found.num_rows != 1


def test_a_strange_date_late_in_a_table_costs_no_row(types: Server) -> None:
    """From its page on rows are asked for anew, in the snapshot of those before."""
    types.sql(
        "drop table if exists late; create table late (id int primary key, v date);"
        " insert into late select n, '2024-02-29' from generate_series(1, 9000) n;"
        " update late set v = 'infinity' where id = 7000; vacuum analyze late"
    )
    stream = stream_of("late", spec("D"))
    with CONNECTOR.open(types.config(), Limits(page_rows=2048)) as session:
        session.frontier(stream)
        (part,) = session.plan(stream)
        pages = session.read(part)
        found = [next(pages).rows]
        types.sql("delete from late where id > 2000; insert into late values (9001)")
        found += [page.rows for page in pages]
    ids = [i for rows in found for i in rows.column("id").to_pylist()]
    assert ids == list(range(1, 9001))
    texts = [rows for rows in found if rows.column("v").type == pa.string()]
    (text,) = texts
    assert text.column("v")[text.column("id").to_pylist().index(7000)].as_py() == (
        "infinity"
    )
    assert len(found) > len(texts)


def test_floats_keep_their_bits(types: Server) -> None:
    """float8 arrives bit for bit, with NaN, infinity and minus zero."""
    values = ["0.1", "'-0'", "'NaN'", "'-Infinity'", "5e-324", "1.7976931348623157e308"]
    table = table_of(types, "float8", values)
    found = read(types, stream_of(table, spec("B"))).column("v").to_pylist()
    wanted = [float(v.strip("'")) for v in values]
    assert [struct.pack("d", abs(v or 0)) for v in found[:-1]] == [
        struct.pack("d", abs(v)) for v in wanted
    ]
    assert str(found[1]) == "-0.0"


def test_bytes_arrive_as_bytes(types: Server) -> None:
    """Bytea arrives byte for byte."""
    table = table_of(types, "bytea", ["'\\x00ff80'", "''"])
    found = read(types, stream_of(table, spec("G"))).column("v")
    assert found.to_pylist() == [b"\x00\xff\x80", b"", None]


@pytest.mark.parametrize("native", ["smallint", "int", "posint"])
def test_whole_numbers_are_native(types: Server, native: str) -> None:
    """Every width of whole number arrives as a 64-bit one."""
    table = table_of(types, native, ["32767", "1"])
    found = read(types, stream_of(table, spec("I"))).column("v")
    assert found.type == pa.int64()
    assert found.to_pylist() == [32767, 1, None]


@pytest.mark.parametrize(
    ("native", "letter"),
    [("bytea", "C"), ("timestamp", "D"), ("int", "G"), ("date", "N"), ("uuid", "I")],
)
def test_a_type_that_can_never_fit_is_told_at_once(
    types: Server, native: str, letter: str
) -> None:
    """A binding that loses or never gives values is refused by plan and check."""
    stream = stream_of(table_of(types, native, []), spec(letter, 10, 0))
    with (
        CONNECTOR.open(types.config(), Limits()) as session,
        pytest.raises(SourceError) as caught,
    ):
        session.plan(stream)
    assert caught.value.kind == "type"
    found = CONNECTOR.check(types.config(), [stream])
    assert [f.column for f in found if f.code == "type-unfit"] == ["v"]


def test_strange_names_are_quoted(server: Server) -> None:
    """Names with quotes, blanks, dots and Chinese are read like any other."""
    server.sql(
        'create schema "部 门";'
        ' create table "部 门"."t"";drop" ("编号 1" int primary key, "a.""b" text);'
        """ insert into "部 门"."t"";drop" values (1, 'x''y')"""
    )
    stream = StreamSpec(
        ("部 门", 't";drop'),
        (
            ColumnSpec("编号 1", "I", None, None, key=True),
            ColumnSpec('a."b', "C", 9, None, key=False),
        ),
    )
    found = read(server, stream).to_pylist()
    assert found == [{"编号 1": 1, 'a."b': "x'y"}]
