# SPDX-License-Identifier: Apache-2.0
"""Values of MariaDB on their way to the centre: equal, withheld or refused.

Each vector is read, checked, packed and decoded as the exchange would.
"""

from __future__ import annotations

import struct
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
from tests.support.mariadb import MARIADB_ALONE, OTHER, Mariadb

pytestmark = pytest.mark.contract

NO_NUMBER = Withheld("bad_number")
BEYOND = Withheld("out_of_range")
NO_DATE = Withheld("bad_date")
NO_TIME = Withheld("bad_time")
NO_TEXT = Withheld("undecodable")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def single(number: float) -> float:
    found: float = struct.unpack("f", struct.pack("f", number))[0]
    return found


ALL: tuple[Vector, ...] = (
    # numbers
    Vector("bigint", value("I"), {"-9223372036854775808": -(2**63)}),
    Vector("bigint unsigned", value("I"), {"18446744073709551615": BEYOND,
                                           "9223372036854775807": 2**63 - 1}),
    Vector("bigint unsigned", value("N", 20, 0), {
        "18446744073709551615": Decimal(2**64 - 1)}),
    Vector("bigint unsigned", value("C"), {
        "18446744073709551615": "18446744073709551615"}),
    Vector("bigint", value("B"), {"9007199254740992": 2.0**53,
                                  "9007199254740993": BEYOND}),
    Vector("int(6) zerofill", value("I"), {"42": 42}),
    Vector("int(6) zerofill", value("C"), {"42": "000042"}),
    Vector("year", value("C"), {"2024": "2024", "'0000'": "0000"}),
    Vector("tinyint(1)", value("L"), {"1": True, "0": False,
                                      "2": Withheld("bad_boolean")}),
    Vector("decimal(65,30)", value("N", 38, 4), {
        "9" * 35 + "." + "9" * 30: BEYOND, "-0.5": Decimal("-0.5")}),
    Vector("decimal(65,0)", value("N", 38, 0), {"9" * 65: BEYOND, "9" * 39: BEYOND,
                                                "9" * 38: Decimal("9" * 38)}),
    Vector("decimal(65,0)", value("N", 38, 0), {"1" + "0" * 64: BEYOND}),
    Vector("decimal(65,0)", value("N", 38, 0), {f"{2**128 + 5}": BEYOND}),
    Vector("decimal(40,20)", value("N", 38, 20), {
        "123456789012345678.12345678901234567891":
            Decimal("123456789012345678.12345678901234567891"),
        "12345678901234567890.12345678901234567891": BEYOND}),
    Vector("decimal(40,20)", value("N", 38, 20), {
        "12345678901234567890.12345678901234567891": BEYOND}),
    Vector("decimal(40,20)", value("C"), {
        "12345678901234567890.1": "12345678901234567890.10000000000000000000"}),
    Vector("decimal(12,4)", value("N", 12, 2), {"1.1000": Decimal("1.1"),
                                                "1.1001": BEYOND}),
    Vector("decimal(20,2)", value("Y"), {"999999999999999.99":
                                         Decimal("999999999999999.99"),
                                         "9999999999999999.99": BEYOND}),
    Vector("decimal(20,2)", value("B"), {"0.10": 0.1, "9007199254740993": BEYOND}),
    Vector("float", value("B"), {"0.1": single(0.1), "16777217": 16777216.0,
                                 "3.4028234663852886e38": 3.4028234663852886e38}),
    Vector("float", value("C"), {"0.1": "0.10000000149011612"}),
    Vector("float(7,3)", value("B"), {"1234.567": single(1234.567)}),
    Vector("double", value("B"), {
        "0.1": 0.1, "0.1e0 + 0.2e0": 0.1 + 0.2, "5e-324": 5e-324,
        "1.7976931348623157e308": 1.7976931348623157e308, "-0e0": 0.0}),
    Vector("double", value("N", 38, 18), {"0.1": Decimal("0.1"), "1e30": NO_NUMBER}),
    Vector("bit(64)", value("N", 20, 0), {"x'ffffffffffffffff'": Decimal(2**64 - 1)}),
    Vector("bit(64)", value("I"), {"x'ffffffffffffffff'": BEYOND}),
    Vector("bit(5)", value("C"), {"b'00101'": "00101"}),
    Vector("bit(1)", value("L"), {"b'1'": True, "b'0'": False}),
    # dates and times
    Vector("date", value("D"), {
        "'2024-02-29'": date(2024, 2, 29), "'9999-12-31'": date(9999, 12, 31),
        "'0000-00-00'": NO_DATE, "'2024-00-15'": NO_DATE, "'2024-02-30'": NO_DATE,
        "'2024-02-00'": NO_DATE}),
    Vector("date", value("C"), {"'0000-00-00'": "0000-00-00",
                                "'2024-00-15'": "2024-00-15"}),
    Vector("datetime(6)", value("T"), {
        "'2024-01-02 03:04:05.000001'": at("2024-01-01 19:04:05.000001"),
        "'0000-00-00 00:00:00'": NO_TIME, "'2024-00-15 01:00:00'": NO_TIME,
        "'1986-05-04 02:30:00'": Withheld("time_gap"),
        "'1986-09-14 01:30:00'": Withheld("time_ambiguous")}),
    Vector("datetime", value("T"), {"'9999-12-31 23:59:59'":
                                    at("9999-12-31 15:59:59")}),
    Vector("timestamp(6) null", value("T"), {
        "'2024-01-02 03:04:05.000001'": at("2024-01-01 19:04:05.000001"),
        "'1986-05-04 04:30:00'": at("1986-05-03 20:30:00")}),
    Vector("timestamp null default null", value("T"), {
        "'0000-00-00 00:00:00'": NO_TIME}),
    Vector("timestamp null default null", value("C"), {
        "'2024-01-01 08:00:00'": "2024-01-01 00:00:00+00:00"}),
    Vector("time", value("C"), {"'838:59:59'": "838:59:59", "'24:00:00'": "24:00:00",
                                "'-838:59:59'": "-838:59:59"}),
    Vector("time(6)", value("C"), {"'-100:00:01.000001'": "-100:00:01.000001"}),
    # texts
    Vector("longtext", value("M"), {"concat(repeat('x', 300000), '张')":
                                    "x" * 300_000 + "张",
                                    "repeat('x', 1048577)": Withheld("too_long")}),
    Vector("varchar(9)", value("C", 4), {
        "'𠮷䶮𪚥龦'": "𠮷䶮𪚥龦", "'𠮷䶮𪚥龦a'": Withheld("too_long"),
        "_utf8mb4 x'EEA1A3EFA3BFF48FBFBD'": "\ue863\uf8ff\U0010fffd",
        "'a\\0b'": Withheld("nul_char"), "'ab '": "ab ", "''": ""}),
    Vector("varchar(9) character set utf8mb3", value("C"), {
        "'张三䶮'": "张三䶮", "_utf8mb4 x'EEA1A3'": "\ue863"}),
    Vector("varchar(9) character set ucs2", value("C"), {"'张三'": "张三"}),
    Vector("varchar(9) character set utf16", value("C"), {"'𠮷'": "𠮷"}),
    Vector("varchar(9) character set latin1", value("C"), {
        "x'E920818D'": "é \x81\x8d", "'abc'": "abc"}),
    Vector("varchar(9) character set latin1", value("C", 3), {
        "x'D5C5C8FD'": "张三", "x'9534B235'": "𠮷", "x'FE9F80'": NO_TEXT,
        "'abcd'": Withheld("too_long"), "x'8140'": "丂", "x'E9'": NO_TEXT,
        "x'D5C5D5C5D5C5'": "张张张"}, "gb18030"),
    Vector("text character set latin1", value("M"), {"x'E5BCA0'": "张"}, "utf-8"),
    Vector("text", value("M"), {"'张'": NO_TEXT, "'a'": "a"}, "gb18030"),
    Vector("varchar(9) character set gbk", value("C"), {
        "'张三'": "张三", "x'FE9F'": "䶮", "x'A2A1'": "ⅰ"}),
    Vector("varchar(9) character set big5", value("C"), {"'張'": "張"}),
    Vector("varchar(9) character set greek", value("C"), {"'Ωmega'": "Ωmega",
                                                          "x'AE'": NO_TEXT}),
    Vector("varchar(9) character set tis620", value("C"), {"x'A1'": "ก",
                                                           "x'FF'": NO_TEXT}),
    Vector("varchar(9) character set cp1251", value("C"), {"'Я'": "Я",
                                                           "x'98'": NO_TEXT}),
    Vector("varchar(9) character set ascii", value("C"), {"'a'": "a",
                                                          "x'D5C5'": NO_TEXT}),
    Vector("char(5)", value("C", 5), {"'ab'": "ab", "'张 '": "张"}),
    Vector("enum('喜','sad','')", value("C"), {"'喜'": "喜", "''": ""}),
    Vector("enum('é','ö') character set latin1", value("C"), {"'é'": "é"}),
    Vector("set('a','b','张')", value("C"), {"'张,a'": "a,张", "''": ""}),
    Vector("json", value("M"), {"""'{"b": 1.10, "a": null, "b": 2}'""":
                                '{"b": 1.10, "a": null, "b": 2}'}),
    Vector("text", value("N", 38, 2), {
        "'1.10'": Decimal("1.1"), "'１２'": NO_NUMBER, "'1e2'": NO_NUMBER,
        "repeat('9', 65)": BEYOND}),
    Vector("text", value("D"), {"'0000-00-00'": NO_DATE, "'2024-02-30'": NO_DATE,
                                "'20240229'": date(2024, 2, 29)}),
    # bytes and others
    Vector("longblob", value("G"), {"repeat(x'ff', 70000)": b"\xff" * 70000, "''": b"",
                                    "repeat('a', 1048577)": Withheld("too_long")}),
    Vector("binary(3)", value("G"), {"x'61'": b"a\0\0"}),
    Vector("uuid", value("C"), {"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'":
                                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}),
    Vector("inet6", value("C"), {"'::1'": "::1"}),
    Vector("geometry", value("M"), {
        "st_geomfromtext('POLYGON((0 0,1 1,1 0,0 0))')": "POLYGON((0 0,1 1,1 0,0 0))",
        "point(0.1, -2.123456789012345)": "POINT(0.1 -2.123456789012345)"}),
)  # fmt: skip
VECTORS = tuple(v for v in ALL if not OTHER or v.native not in MARIADB_ALONE)
UNFIT = (
    ("blob", "C"),
    ("datetime", "D"),
    ("int", "G"),
    ("date", "N"),
    ("time", "I"),
    ("time", "T"),
    ("json", "G"),
    ("point", "G"),
)


@pytest.fixture(scope="module")
def centre(mariadb: Mariadb, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What arrived of each vector."""
    sheet = Sheet(VECTORS)
    with mariadb.connect() as db, db.cursor() as cursor:
        cursor.execute("drop table if exists vectors")
        cursor.execute("set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+08:00'")
        cursor.execute(f"create table vectors ({', '.join(sheet.columns)})")
        for key, column, sql in sheet.inserts:
            cursor.execute(f"insert into vectors (id, {column}) values ({key}, {sql})")
        db.commit()
    folder = tmp_path_factory.mktemp("centre")
    table = ("town", "vectors")
    return sheet.of(arrive(folder, "mysql", mariadb.config(), table, sheet.items))


@pytest.mark.parametrize(
    "i", range(len(VECTORS)), ids=[f"{v.native}-{v.item.type}" for v in VECTORS]
)
def test_no_value_changes_silently(centre: list[Any], i: int) -> None:
    """Each value is the same at the centre, or it is named and stays."""
    assert centre[i] == [exact(v) for v in VECTORS[i].values.values()]


@pytest.mark.usefixtures("centre")
def test_check_tells_how_each_column_is_read(mariadb: Mariadb) -> None:
    """What is told native comes so where it fits; what is told text never does."""
    usual = Sheet(VECTORS).usual
    mariadb.sql("delete from vectors", f"insert into vectors {usual}")
    found = paths("mysql", mariadb.config(), ("town", "vectors"), Sheet(VECTORS))
    assert [name for name, (told, met) in found.items() if told != met] == []


@pytest.mark.parametrize(("native", "letter"), UNFIT)
def test_a_type_whose_values_would_change_is_refused(
    mariadb: Mariadb, tmp_path: Path, native: str, letter: str
) -> None:
    """Not a row is read of a column whose type cannot fit its item."""
    mariadb.sql(
        "drop table if exists unfit",
        f"create table unfit (id int primary key, v {native})",
    )
    items = (KEY, BoundItem(value(letter), "v"))
    found = arrive(tmp_path, "mysql", mariadb.config(), ("town", "unfit"), items)
    assert isinstance(found.ended, Failed)
    assert found.ended.code == "source-type"
