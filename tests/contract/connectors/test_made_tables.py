# SPDX-License-Identifier: Apache-2.0
"""Tables made at random arrive as the database's own texts say, on three databases."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from agent.model.item import ItemType
from agent.model.job import BoundItem
from connectors.mysql.catalog import quoted as backticked
from connectors.sql import quoted
from tests.support.centre import arrive
from tests.support.made_tables import (
    Kind,
    Made,
    compare,
    days,
    digits,
    floats,
    moments,
    small,
    tables,
    texts,
    whole,
)
from tests.support.mariadb import MARIADB_ALONE, OTHER, Mariadb
from tests.support.postgres import Server
from tests.support.tries import tries

pytestmark = pytest.mark.contract

ASKED = os.environ.get("FEP_TABLES")
"""So many tables of each database, to hunt with."""

often = settings(
    tries(20),
    max_examples=int(ASKED) if ASKED else tries(20).max_examples,
    suppress_health_check=list(HealthCheck),
)

# --- PostgreSQL ---------------------------------------------------------------------

odd_days = st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "4714-11-24 BC"]
)
odd_moments = st.sampled_from(["infinity", "-infinity", "0044-03-15 12:00 BC"])
odd_moments |= st.sampled_from(["294276-12-31 23:59:59.999999", "1986-05-04 00:30"])
odd_moments |= st.sampled_from(["4714-11-25 00:00 BC", "1986-09-14 00:30"])
json_texts = st.sampled_from(['{"a": 1.10, "a": 2}', "null", '["张", 1e400]', '"x"'])

POSTGRES = (
    Kind("smallint", "INYBFCM", whole(16), key=True),
    Kind("integer", "INYBFCM", whole(32), key=True),
    Kind("bigint", "INYBFCM", whole(64), key=True),
    Kind("numeric", "NYIBFCM", digits | st.sampled_from(["NaN", "Infinity"]), key=True),
    Kind("numeric(12,2)", "NYIBFCM", small | st.just("NaN"), key=True),
    Kind("numeric(60,25)", "NYIBFCM", digits),
    Kind("real", "BFNYCM", whole(20) | st.sampled_from(["NaN", "0.1", "-Infinity"])),
    Kind("double precision", "BFNYCM", floats | st.sampled_from(["NaN", "Infinity"])),
    Kind("boolean", "LCM", st.sampled_from(["true", "false"])),
    Kind("date", "DCM", days | odd_days, key=True),
    Kind("timestamp", "TCM", moments | odd_moments, key=True),
    Kind("timestamp(3)", "TCM", moments | odd_moments),
    Kind("timestamptz", "TCM", moments | odd_moments, key=True),
    Kind("text", "CMNYIBFL", texts | digits | floats, key=True),
    Kind("text", "CDT", texts | days | moments),
    Kind('text collate "C"', "C", texts, key=True),
    Kind("varchar(5)", "CM", texts, key=True),
    Kind("char(5)", "CM", texts, key=True),
    Kind("bytea", "G", st.binary(max_size=9)),
    Kind("time", "CM", st.times().map(str) | st.just("24:00")),
    Kind("timetz", "CM", st.times().map(str)),
    Kind("interval", "CM", st.timedeltas().map(lambda d: f"{d.days} d {d.seconds} s")),
    Kind("money", "CM", small),
    Kind("uuid", "CM", st.uuids().map(str), key=True),
    Kind("json", "MC", json_texts),
    Kind("jsonb", "MC", st.sampled_from(['{"a": 1.10, "a": 2}', "null", "1.50"])),
    Kind("bit(5)", "CM", st.sampled_from(["00101", "11111"])),
    Kind("varbit(9)", "CM", st.sampled_from(["", "101", "111111111"])),
    Kind("inet", "CM", st.ip_addresses().map(str)),
    Kind("cidr", "CM", st.sampled_from(["10.0.0.0/8", "2001:db8::/32"])),
    Kind("macaddr", "CM", st.sampled_from(["08:00:2b:01:02:03", "08002b-010204"])),
    Kind("interval year to month", "CM", st.integers(-99, 99).map("{} mon".format)),
    Kind("name", "CM", st.sampled_from(["张", "a", ""])),
    Kind("date[]", "MC", st.sampled_from(["{infinity,NULL}", "{2024-02-29}"])),
    Kind("numeric(9,2)[]", "MC", st.sampled_from(["{1.10,NaN}", "{{1},{2}}"])),
    Kind("tsvector", "MC", st.sampled_from(["'a':1 'b''c'", "张"])),
    Kind("int[]", "MC", st.sampled_from(["{{1,2},{3,NULL}}", "{}", "[2:2]={1}"])),
    Kind("text[]", "MC", st.sampled_from(['{"a b",NULL,"NULL"}', '{"\\"",张}'])),
    Kind("int8range", "CM", st.sampled_from(["[1,5]", "empty", "(,)"])),
    Kind("point", "CM", st.sampled_from(["(0.1,-1e300)", "(1,2)"])),
    Kind("xml", "M", st.just("<a>张</a>")),
    Kind("oid", "CM", st.integers(0, 2**32 - 1).map(str)),
)


@pytest.fixture
def postgres(server: Server) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(
        host=str(server.socket_folder), port=server.port, user="postgres",
        dbname=server.database, autocommit=True,
        options="-c timezone=Asia/Shanghai -c datestyle=ISO -c client_encoding=UTF8",
    ) as db:  # fmt: skip
        yield db


def in_postgres(db: psycopg.Connection[Any], made: Made) -> list[tuple[Any, ...]]:
    """Make the table; its rows as the server prints them."""
    table = quoted(made.name)
    names = [quoted(bound.column) for bound in made.items]
    own = [f"{n} {k.native}" for n, k in zip(names, made.kinds, strict=True)]
    keys = [n for n, b in zip(names, made.items, strict=True) if b.item.key]
    if made.indexed:
        own.append(f"primary key ({', '.join(keys)})")
    db.execute("drop schema public cascade; create schema public")
    db.execute(f"create table {table} ({', '.join(own)})".encode())
    marks = ", ".join(f"%s::{k.native}" for k in made.kinds)
    into = table.replace("%", "%%")
    insert = f"insert into {into} values ({marks}) on conflict do nothing"
    with db.cursor() as cursor:
        cursor.executemany(insert.encode(), made.rows)
    printed = [
        n if k.native == "bytea"
        else f"case when {n} is not null then concat({n}) end" if k.native == "char(5)"
        else f"{n}::text"
        for n, k in zip(names, made.kinds, strict=True)
    ]  # fmt: skip
    return db.execute(f"select {', '.join(printed)} from {table}".encode()).fetchall()


def test_any_table_of_postgres_arrives(
    server: Server, postgres: psycopg.Connection[Any], tmp_path: Path
) -> None:
    """Every value is what the server's text says, or its row is withheld."""

    @often
    @given(tables(POSTGRES))
    def holds(made: Made) -> None:
        told = in_postgres(postgres, made)
        table = ("public", made.name)
        found = arrive(tmp_path, "postgres", server.config(), table, made.items)
        assume(compare(made, told, found))

    holds()


# --- MariaDB ------------------------------------------------------------------------

SHAPES = frozenset({"point", "geometry", "polygon"})
MARIADB = (
    Kind("tinyint", "INYBFCM", whole(8), key=True),
    Kind("tinyint(1)", "LI", st.sampled_from(["0", "1"])),
    Kind("smallint unsigned", "INYBFCM", st.integers(0, 2**16 - 1).map(str), key=True),
    Kind("mediumint", "INYBFCM", whole(24)),
    Kind("int", "INYBFCM", whole(32), key=True),
    Kind("bigint", "INYBFCM", whole(64), key=True),
    Kind("bigint unsigned", "INYBFCM", st.integers(0, 2**64 - 1).map(str), key=True),
    Kind("decimal(12,2)", "NYIBFCM", small, key=True),
    Kind("decimal(40,20)", "NYIBFCM", digits),
    Kind("decimal(65,30)", "NYIBFCM", digits),
    Kind("decimal(65,0)", "NYIBFCM", whole(200)),
    Kind("float", "BFCM", whole(20) | st.sampled_from(["0.1", "3.4e38", "1e-30"])),
    Kind("double", "BFNYCM", floats),
    Kind("bit(33)", "INC", st.integers(0, 2**33 - 1).map(str)),
    Kind("year", "INCM", st.integers(1901, 2155).map(str)),
    Kind("date", "DCM", days | st.sampled_from(["0000-00-00", "2024-00-15"]), key=True),
    Kind("datetime(6)", "TCM", moments | st.just("0000-00-00 00:00:00"), key=True),
    Kind("datetime", "TCM", moments),
    Kind("timestamp(6) null", "TCM", st.integers(1, 2**31 - 1).map(
        lambda s: f"{s // 31_536_000 + 1970}-02-03 04:05:06.{s % 1000:06}"), key=True),
    Kind("time(6)", "CM", st.sampled_from(["838:59:59", "-838:59:59", "00:00:00.1"])),
    Kind("text", "CMNYIBFL", texts | digits | floats),
    Kind("text", "CDT", texts | days | moments),
    Kind("varchar(9) collate utf8mb4_bin", "CM", texts, key=True),
    Kind("varchar(9)", "CM", texts, key=True),
    Kind("char(9)", "CM", texts, key=True),
    Kind("varchar(9) charset utf8mb3", "CM", st.sampled_from(["张", "a ", ""]),
         key=True),
    Kind("varchar(9) charset gbk", "CM", st.sampled_from(["张三", "a", ""]), key=True),
    Kind("varchar(9) charset latin1", "CM", st.sampled_from(["é€", "a"]), key=True),
    Kind("varchar(9) charset ascii", "CM", st.sampled_from(["B", "a", "c"]), key=True),
    Kind("varchar(9) charset greek", "CM", st.sampled_from(["Ω", "ω", "c"]), key=True),
    Kind("enum('喜','sad','')", "CM", st.sampled_from(["喜", "sad", ""]), key=True),
    Kind("set('a','b','张')", "CM", st.sampled_from(["a,张", "b", ""])),
    Kind("json", "MC", json_texts.filter(lambda v: "e400" not in v)),
    Kind("blob", "G", st.binary(max_size=9)),
    Kind("varbinary(9)", "G", st.binary(max_size=9)),
    Kind("binary(5)", "G", st.binary(max_size=5)),
    Kind("tinytext", "CM", texts),
    Kind("longtext", "MC", texts | digits),
    Kind("point", "MC", st.sampled_from(["POINT(0.1 -1e300)", "POINT(1 2)"])),
    Kind("geometry", "MC", st.sampled_from(["LINESTRING(0 0,1 0.5)", "POINT(1 2)"])),
    Kind("polygon", "MC", st.just("POLYGON((0 0,4 0,4 4,0 0),(2 1,3 1,3 2,2 1))")),
    Kind("uuid", "CM", st.uuids().map(str), key=True),
    Kind("inet6", "CM", st.ip_addresses(v=6).map(str)),
)  # fmt: skip
THERE = tuple(k for k in MARIADB if not OTHER or k.native not in MARIADB_ALONE)


def in_mariadb(db: Any, made: Made) -> list[tuple[Any, ...]]:
    """Make the table; its rows as the server prints them."""
    table = backticked(made.name)
    names = [backticked(bound.column) for bound in made.items]
    own = [f"{n} {k.native}" for n, k in zip(names, made.kinds, strict=True)]
    keys = [n for n, b in zip(names, made.items, strict=True) if b.item.key]
    if made.indexed:
        own = [o.removesuffix(" null") for o in own]
        own.append(f"primary key ({', '.join(keys)})")
    with db.cursor() as cursor:
        cursor.execute("drop database town")
        cursor.execute("create database town")
        cursor.execute("use town")
        cursor.execute(
            f"create table {table} ({', '.join(own)})".replace("%", "%%"), ()
        )
        marks = ", ".join(
            "st_geomfromtext(%s)" if k.native in SHAPES else "%s" for k in made.kinds
        )
        insert = f"insert ignore into {table.replace('%', '%%')} values ({marks})"
        for row in made.rows:
            bits = (k.native.startswith("bit") for k in made.kinds)
            inputs = [int(v) if bit and v is not None else v
                      for v, bit in zip(row, bits, strict=True)]  # fmt: skip
            cursor.execute(insert, inputs)
        printed = [_printed(n, k) for n, k in zip(names, made.kinds, strict=True)]
        cursor.execute(
            f"select {', '.join(printed)} from {table}".replace("%", "%%"), ()
        )
        return list(cursor.fetchall())


def _printed(name: str, kind: Kind) -> str:
    if kind.letters == "G":
        return name
    value = f"st_astext({name})" if kind.native in SHAPES else name
    if kind.native == "float":
        value = f"({name} + 0e0)"
    if kind.native.startswith("bit"):
        return f"lpad(bin({name} + 0), 33, '0')"
    text = f"convert(cast({value} as char) using utf8mb4)"
    return f"concat({text}, '+00:00')" if kind.native.startswith("timestamp") else text


def test_any_table_of_mariadb_arrives(mariadb: Mariadb, tmp_path: Path) -> None:
    """Every value is what the server's text says, or its row is withheld."""
    with closing(mariadb.connect()) as db, db.cursor() as cursor:
        db.autocommit(True)
        cursor.execute("set time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES'")

        @often
        @given(tables(THERE))
        def holds(made: Made) -> None:
            told = in_mariadb(db, made)
            told = [_bits(made, row) for row in told]
            table = ("town", made.name)
            found = arrive(tmp_path, "mysql", mariadb.config(), table, made.items)
            assume(compare(made, told, found))

        holds()


def _bits(made: Made, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A number of bits is its number, unless its digits are asked for."""
    return tuple(
        str(int(v, 2))
        if v is not None and k.native == "bit(33)" and b.item.type in "IN"
        else v
        for v, k, b in zip(row, made.kinds, made.items, strict=True)
    )


# --- SQLite -------------------------------------------------------------------------

anything = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | digits
    | days
    | moments
)
SQLITE = (
    Kind("integer", "INYBFCML", anything),
    Kind("text", "CMINYBFDTL", anything, key=True),
    Kind("numeric", "NYIBFCMDT", anything),
    Kind("real", "BFNYICM", anything),
    Kind("blob", "CMINYBF",
         anything | st.binary(max_size=6).filter(lambda b: b"\0" not in b)),
    Kind("varchar(9)", "CM", texts, key=True),
    Kind("int", "I", st.integers(-(2**63), 2**63 - 1), key=True),
    Kind("blob", "G", st.binary(max_size=9)),
)  # fmt: skip


def in_sqlite(path: Path, made: Made) -> list[tuple[Any, ...]]:
    """Make the table; its rows, a text for each number."""
    path.unlink(missing_ok=True)
    table = quoted(made.name)
    names = [quoted(bound.column) for bound in made.items]
    own = [f"{n} {k.native}" for n, k in zip(names, made.kinds, strict=True)]
    keys = [n for n, b in zip(names, made.items, strict=True) if b.item.key]
    if made.indexed:
        own.append(f"primary key ({', '.join(keys)})")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"create table {table} ({', '.join(own)})")
        marks = ", ".join("?" for _ in names)
        db.executemany(f"insert or ignore into {table} values ({marks})", made.rows)
        found = db.execute(f"select {', '.join(names)} from {table}").fetchall()
    return [tuple(map(_told, row, made.items)) for row in found]


def _told(value: Any, bound: BoundItem) -> str | bytes | None:
    """A value as the text, or the bytes, that it is; U+0000 if it is none."""
    if isinstance(value, bytes) and bound.item.type is not ItemType.G:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return "\0"
    if isinstance(value, float) and isfinite(value):
        return format(Decimal(repr(value)), "f")
    return value if isinstance(value, bytes | None) else str(value)


def test_any_table_of_sqlite_arrives(tmp_path: Path) -> None:
    """Every value is what its own type and text say, or its row is withheld."""
    path = tmp_path / "t.db"

    @often
    @given(tables(SQLITE))
    def holds(made: Made) -> None:
        told = in_sqlite(path, made)
        source = {"path": str(path)}
        found = arrive(tmp_path, "sqlite", source, (made.name,), made.items)
        assume(compare(made, told, found))

    holds()
