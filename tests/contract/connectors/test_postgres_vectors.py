# SPDX-License-Identifier: Apache-2.0
"""Values of PostgreSQL on their way to the centre: equal, withheld or refused.

Each vector is read, checked, packed and decoded as the exchange would.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent.model.job import BoundItem, Failed
from tests.support.centre import (
    KEY,
    Sheet,
    Vector,
    Withheld,
    arrive,
    exact,
    paths,
    value,
)
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

NO_NUMBER = Withheld("bad_number")
BEYOND = Withheld("out_of_range")
NO_DATE = Withheld("bad_date")
NO_TIME = Withheld("bad_time")
LONG = "x" * 300_000 + "张"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


VECTORS: tuple[Vector, ...] = (
    # numbers
    Vector("smallint", value("I"), {"-32768": -32768, "32767": 32767}),
    Vector("bigint", value("I"), {"-9223372036854775808": -(2**63),
                            "9223372036854775807": 2**63 - 1}),
    Vector("bigint", value("N", 18, 0), {"999999999999999999": Decimal("9" * 18),
                                   "9223372036854775807": BEYOND}),
    Vector("bigint", value("B"), {
        "9007199254740992": 2.0**53, "-9007199254740993": BEYOND}),
    Vector("bigint", value("Y"), {"999999999999999": Decimal(999999999999999),
                            "1000000000000000": BEYOND}),
    Vector("oid", value("C"), {"4294967295": "4294967295"}),
    Vector("numeric", value("N", 38, 20), {
        "'NaN'": NO_NUMBER, "'Infinity'": NO_NUMBER, "'-Infinity'": NO_NUMBER,
        "1e17": Decimal(10**17), "1e30": BEYOND, "1.10": Decimal("1.1"),
        "0.00000000000000000001": Decimal("0.00000000000000000001"),
        "0.000000000000000000001": BEYOND}),
    Vector("numeric", value("I"), {
        "1.00": 1, "1.5": NO_NUMBER, "9223372036854775808": BEYOND,
                             "'NaN'": NO_NUMBER}),
    Vector("numeric", value("B"), {"0.1": 0.1, "1.10": 1.1, "'NaN'": NO_NUMBER,
                             "12345678901234567.89": BEYOND}),
    Vector("numeric(40,20)", value("N", 38, 20), {
        "123456789012345678.12345678901234567891":
            Decimal("123456789012345678.12345678901234567891"),
        "12345678901234567890.12345678901234567891": BEYOND, "'NaN'": NO_NUMBER}),
    Vector("numeric(40,20)", value("C"), {
        "12345678901234567890.1": "12345678901234567890.10000000000000000000"}),
    Vector("numeric(12,2)", value("N", 12, 2), {
        "9999999999.99": Decimal("9999999999.99"), "'NaN'": NO_NUMBER, "-0.00": 0}),
    Vector("numeric(12,4)", value("N", 12, 2), {
        "1.1000": Decimal("1.1"), "1.1001": BEYOND}),
    Vector("numeric(5,-2)", value("I"), {"1234": 1200}),
    Vector("real", value("B"), {"0.1": 0.1, "16777217": 16777216.0, "'NaN'": NO_NUMBER,
                          "'-Infinity'": NO_NUMBER, "3.4e38": 3.4e38}),
    Vector("real", value("N", 20, 4), {"0.1": Decimal("0.1"), "1e10": NO_NUMBER}),
    Vector("double precision", value("B"), {
        "0.1": 0.1, "'-0'": -0.0, "5e-324": 5e-324,
        "0.1::float8 + 0.2::float8": 0.1 + 0.2,
        "1.7976931348623157e308": 1.7976931348623157e308,
        "'NaN'": BEYOND, "'Infinity'": BEYOND, "'-Infinity'": BEYOND}),
    Vector("double precision", value("N", 38, 18), {
        "0.1": Decimal("0.1"), "1e16": NO_NUMBER, "'NaN'": NO_NUMBER}),
    Vector("money", value("C"), {"12.34": "$12.34", "-1000": "-$1,000.00"}),
    Vector("boolean", value("L"), {"true": True, "false": False}),
    Vector("boolean", value("C"), {"true": "true", "false": "false"}),
    Vector("bit(5)", value("C"), {"B'00101'": "00101"}),
    # dates and times
    Vector("date", value("D"), {
        "'2024-02-29'": date(2024, 2, 29), "'0001-01-01'": date(1, 1, 1),
        "'9999-12-31'": date(9999, 12, 31), "'infinity'": NO_DATE,
        "'-infinity'": NO_DATE, "'0044-03-15 BC'": NO_DATE, "'10000-01-01'": NO_DATE}),
    Vector("date", value("C"), {
        "'infinity'": "infinity", "'0044-03-15 BC'": "0044-03-15 BC"}),
    Vector("timestamp", value("T"), {
        "'2024-01-02 03:04:05.000001'": at("2024-01-01 19:04:05.000001"),
        "'2024-01-01 24:00'": at("2024-01-01 16:00:00"),
        "'1986-05-04 02:30'": Withheld("time_gap"),
        "'1986-09-14 01:30'": Withheld("time_ambiguous"),
        "'infinity'": NO_TIME, "'0044-03-15 12:00 BC'": NO_TIME,
        "'0001-01-01 00:00'": BEYOND, "'10000-01-01'": NO_TIME}),
    Vector("timestamp", value("C"), {
        "'2024-01-02 03:04:05.1'": "2024-01-02 03:04:05.1"}),
    Vector("timestamptz", value("T"), {
        "'2024-01-02 03:04:05.000001+08'": at("2024-01-01 19:04:05.000001"),
        "'1986-05-04 02:30+08'": at("1986-05-03 18:30:00"),
        "'0001-01-01 00:00+00'": at("0001-01-01 00:00:00"),
        "'9999-12-31 23:59:59.999999+00'": at("9999-12-31 23:59:59.999999"),
        "'infinity'": NO_TIME, "'0044-03-15 12:00+00 BC'": NO_TIME}),
    Vector("timestamptz", value("C"), {
        "'2024-01-01 00:00+00'": "2024-01-01 08:00:00+08"}),
    Vector("time", value("C"), {
        "'24:00'": "24:00:00", "'23:59:59.999999'": "23:59:59.999999"}),
    Vector("timetz", value("C"), {"'24:00+08'": "24:00:00+08"}),
    Vector("interval", value("C"), {
        "'1 month'": "1 mon", "'30 days'": "30 days",
        "'-1 year 2 hours 0.000001 sec'": "-1 years +02:00:00.000001"}),
    # texts
    Vector("text", value("M"), {f"repeat('x', {300_000}) || '张'": LONG,
                          "repeat('x', 1048577)": Withheld("too_long"),
                          "''": "", "'a' || chr(10) || chr(9) || '\\'": "a\n\t\\"}),
    Vector("text", value("C", 4), {
        "'𠮷䶮𪚥龦'": "𠮷䶮𪚥龦", "'𠮷䶮𪚥龦 '": Withheld("too_long"),
                             "U&'\\E863\\F8FF\\+10FFFD'": "\ue863\uf8ff\U0010fffd",
                             "'e' || U&'\\0301'": "e\u0301"}),
    Vector("varchar(9)", value("C", 9), {"'ab '": "ab ", "''": ""}),
    Vector("char(5)", value("C", 5), {
        "'ab'": "ab   ", "'张'": "张    ", "''": "     "}),
    Vector("text", value("N", 38, 2), {
        "'1.10'": Decimal("1.1"), "'１２'": NO_NUMBER, "'1e2'": NO_NUMBER,
        "'1,000'": NO_NUMBER, "'0x1F'": NO_NUMBER, "''": NO_NUMBER,
        "repeat('9', 65)": BEYOND, "'1.005'": BEYOND}),
    Vector("text", value("I"), {"'007'": 7, "'0x1F'": NO_NUMBER, "'1e2'": NO_NUMBER,
                          "'9223372036854775808'": BEYOND, "'1_000'": NO_NUMBER}),
    Vector("text", value("B"), {
        "'1e5'": 1e5, "'0.30000000000000004'": 0.1 + 0.2, "'1e400'": BEYOND,
        "'nan'": NO_NUMBER, "'inf'": NO_NUMBER, "'0x1p3'": NO_NUMBER,
        "'9007199254740993'": BEYOND, "'0.12345678901234567890'": BEYOND}),
    Vector("text", value("D"), {"'2024-02-30'": NO_DATE, "'2024/2/9'": date(2024, 2, 9),
                          "'20240229'": date(2024, 2, 29), "'0000-00-00'": NO_DATE,
                          "'2024-00-15'": NO_DATE, "'2024-01-01 00:00:01'": NO_DATE}),
    Vector("text", value("T"), {
        "'2024-01-02T03:04:05+08:00'": at("2024-01-01 19:04:05"),
        "'2024-01-02 03:04:05.1234567'": NO_TIME, "'2024-01-02 24:00:00'": NO_TIME,
        "'2024-01-02 03:04:60'": NO_TIME, "'2024-01-02'": NO_TIME}),
    Vector("text", value("L"), {
        "'是'": True, "'N'": False, "'2'": Withheld("bad_boolean")}),
    Vector("bytea", value("G"), {r"'\x00ff80'": b"\x00\xff\x80", "''": b"",
                           "decode(repeat('ff', 70000), 'hex')": b"\xff" * 70000,
        "decode(repeat('00', 1048577), 'hex')": Withheld("too_long")}),
    # documents, lists and others
    Vector("json", value("M"), {"""'{"b": 1.10, "a": null, "b": 2}'""":
                          '{"b": 1.10, "a": null, "b": 2}', "'null'": "null"}),
    Vector("jsonb", value("M"), {"""'{"a": 1.10, "b": 10000000000000000000000.0}'""":
                           '{"a": 1.10, "b": 10000000000000000000000.0}'}),
    Vector("uuid", value("C"), {"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'":
                          "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}),
    Vector("int[]", value("M"), {"array[[[1],[2]],[[3],[4]]]": "{{{1},{2}},{{3},{4}}}",
                           "'[2:3]={5,null}'": "[2:3]={5,NULL}"}),
    Vector("numeric[]", value("M"), {"array[1.10, 'NaN']": "{1.10,NaN}"}),
    Vector("char(3)[]", value("M"), {"array['a']::char(3)[]": '{"a  "}'}),
    Vector("mood", value("C"), {"'喜'": "喜", "'sad '": "sad "}),
    Vector("inet", value("C"), {"'10.0.0.1/8'": "10.0.0.1/8"}),
    Vector("tstzrange", value("C"), {"'[2024-01-01 00:00+00,)'":
                               '["2024-01-01 08:00:00+08",)'}),
    Vector("point", value("C"), {"'(1.5,-2)'": "(1.5,-2)"}),
    Vector("polygon", value("M"), {"'((0,0),(1,1),(1,0))'": "((0,0),(1,1),(1,0))"}),
    Vector("pair", value("C"), {"row(1, 'a b')": '(1,"a b")'}),
    Vector("xml", value("M"), {"'<a>张</a>'": "<a>张</a>"}),
)  # fmt: skip


UNFIT = (
    ("double precision", "I"),
    ("boolean", "I"),
    ("date", "T"),
    ("timestamp", "D"),
    ("time", "T"),
    ("bytea", "M"),
    ("jsonb", "N"),
    ("int[]", "I"),
    ("money", "Y"),
)


@pytest.fixture(scope="module")
def centre(server: Server, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What arrived of each vector."""
    sheet = Sheet(VECTORS)
    rows = (
        f"insert into vectors (id, {column}) values ({key}, {sql});"
        for key, column, sql in sheet.inserts
    )
    server.sql(
        "create type mood as enum ('喜', 'sad '); create type pair as (a int, b text);"
        " set timezone = 'Asia/Shanghai';"
        f" create table vectors ({', '.join(sheet.columns)}); {' '.join(rows)}"
    )
    folder = tmp_path_factory.mktemp("centre")
    table = ("public", "vectors")
    return sheet.of(arrive(folder, "postgres", server.config(), table, sheet.items))


@pytest.mark.parametrize(
    "i", range(len(VECTORS)), ids=[f"{v.native}-{v.item.type}" for v in VECTORS]
)
def test_no_value_changes_silently(centre: list[Any], i: int) -> None:
    """Each value is the same at the centre, or it is named and stays."""
    assert centre[i] == [exact(v) for v in VECTORS[i].values.values()]


@pytest.mark.usefixtures("centre")
def test_check_tells_how_each_column_is_read(server: Server) -> None:
    """What is told native comes so where it fits; what is told text never does."""
    server.sql(f"delete from vectors; insert into vectors {Sheet(VECTORS).usual}")
    found = paths("postgres", server.config(), ("public", "vectors"), Sheet(VECTORS))
    assert [name for name, (told, met) in found.items() if told != met] == []


@pytest.mark.parametrize(("native", "letter"), UNFIT)
def test_a_type_whose_values_would_change_is_refused(
    server: Server, tmp_path: Path, native: str, letter: str
) -> None:
    """Not a row is read of a column whose type cannot fit its item."""
    server.sql(
        "drop table if exists unfit;"
        f" create table unfit (id int primary key, v {native})"
    )
    items = (KEY, BoundItem(value(letter), "v"))
    found = arrive(tmp_path, "postgres", server.config(), ("public", "unfit"), items)
    assert isinstance(found.ended, Failed)
    assert found.ended.code == "source-type"


def test_gbk_in_a_latin1_database_is_repaired_column_by_column(
    server: Server, tmp_path: Path
) -> None:
    """The columns that are told so are read as GBK, the others as they are declared."""
    server.sql(
        "drop database if exists latin with (force); create database latin"
        " encoding 'LATIN1' locale 'C' template template0"
    )
    values = "E'\\xd5\\xc5', E'\\xe9t\\xe9'", "E'\\xe9', ''", "'a', E'\\x80'"
    rows = ", ".join(f"({i}, {v})" for i, v in enumerate(values))
    server.sql(
        "create table t (id int primary key, gbk text, latin text);"
        f" set client_encoding = 'LATIN1'; insert into t values {rows}",
        database="latin",
    )
    gbk = BoundItem(replace(value("C"), name="gbk"), "gbk", encoding="gb18030")
    latin = BoundItem(replace(value("C"), name="latin"), "latin")
    config = server.config(database="latin")
    found = arrive(tmp_path, "postgres", config, ("public", "t"), (KEY, gbk, latin))
    server.sql("drop database latin with (force)")
    sent = [(r["gbk"], r["latin"]) for r in found.rows if r["_op"] == "u"]
    assert sent == [("张", "été"), ("a", "\x80")]
    assert [(q["key"]["id"], q["reason"]) for q in found.withheld] == [
        (1, "undecodable")
    ]
