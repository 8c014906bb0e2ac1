# SPDX-License-Identifier: Apache-2.0
"""Our own connectors as subjects of the conformance suite."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from psycopg import sql

from connectors.conformance import Subject
from connectors.contract import ColumnSpec
from connectors.mysql import CONNECTOR as MYSQL
from connectors.postgres import CONNECTOR as POSTGRES
from connectors.sqlite import CONNECTOR as SQLITE
from tests.support.fake_connector import FakeConnector, FakeTable, FakeTransaction
from tests.support.mariadb import Mariadb
from tests.support.postgres import Server

SQLITE_TYPES: Mapping[str, str] = {
    "I": "integer",
    "L": "integer",
    "B": "real",
    "G": "blob",
}

POSTGRES_TYPES: Mapping[str, str] = {
    "M": "text",
    "N": "numeric({length},{scale})",
    "Y": "numeric(19,4)",
    "I": "bigint",
    "D": "date",
    "T": "timestamp",
    "L": "boolean",
    "B": "double precision",
    "G": "bytea",
}


MYSQL_TYPES: Mapping[str, str] = {
    "C": "varchar({length})",
    "M": "longtext",
    "N": "decimal({length},{scale})",
    "Y": "decimal(19,4)",
    "I": "bigint",
    "D": "date",
    "T": "datetime(6)",
    "L": "tinyint(1)",
    "B": "double",
    "G": "longblob",
}


def fake_subject() -> Subject:
    connector = FakeConnector()

    def create(name: str, columns: Sequence[ColumnSpec]) -> tuple[str, ...]:
        made = next(connector.clock)
        connector.tables["main", name] = FakeTable(tuple(columns), made=made)
        return ("main", name)

    def add(table: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
        with connector.lock:
            found = connector.tables[table]
            found.rows += [tuple(row) for row in rows]
            found.writers += [next(connector.clock)] * len(rows)

    broken = {"unreachable": {"fail": "unreachable"}, "login": {"fail": "login"}}
    return Subject(
        connector,  # type: ignore[arg-type]
        {},
        create,
        add,
        broken,  # type: ignore[arg-type]
        lambda: FakeTransaction(connector),
    )


def sqlite_subject(folder: Path) -> Subject:
    path = folder / "source.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
    db.close()
    other = folder / "other.txt"
    other.write_text("no database, " * 100)

    def create(name: str, columns: Sequence[ColumnSpec]) -> tuple[str, ...]:
        listed = ", ".join(
            f'"{c.name}" {SQLITE_TYPES.get(c.type, "text")}' for c in columns
        )
        with sqlite3.connect(path) as db:
            db.execute(f'create table "{name}" ({listed})')
        db.close()
        return (name,)

    def add(table: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            with sqlite3.connect(path) as db:
                db.executemany(
                    f'insert into "{table[-1]}" values ({marks})',
                    [[_plain(v) for v in row] for row in rows],
                )
            db.close()

    broken = {
        "unreachable": {"path": str(folder / "absent.db")},
        "failed": {"path": str(other)},
    }
    return Subject(SQLITE, {"path": str(path)}, create, add, broken)  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else value


def postgres_subject(server: Server) -> Subject:
    """The reader may only select; on loopback it needs its password."""
    config = {**server.config("reader", password="reader's own"), "host": "127.0.0.1"}
    config["sslmode"] = "disable"
    server.sql(
        "drop role if exists reader; create role reader login password 'reader''s own';"
        " alter default privileges in schema public grant select on tables to reader;"
    )

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(server.socket_folder),
            port=server.port,
            user="postgres",
            dbname=server.database,
        )

    def create(name: str, columns: Sequence[ColumnSpec]) -> tuple[str, ...]:
        listed = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(native_type(c)))
            for c in columns
        )
        at = sql.Identifier("public", name)
        with connect() as db:
            db.execute(sql.SQL("drop table if exists {}").format(at))
            db.execute(sql.SQL("create table {} ({})").format(at, listed))
        return ("public", name)

    def add(table: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            marks = sql.SQL(", ").join(sql.Placeholder() * len(rows[0]))
            into = sql.SQL("insert into {} values ({})").format(
                sql.Identifier(*table), marks
            )
            with connect() as db, db.cursor() as cursor:
                cursor.executemany(into, rows)

    broken = {
        "unreachable": {**config, "port": 1},
        "login": {**config, "password": "s3cret-wrong"},
    }
    return Subject(
        POSTGRES,
        config,
        create,
        add,
        broken,  # type: ignore[arg-type]
        lambda: PostgresTransaction(connect()),
    )


class PostgresTransaction:
    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self._db = db

    def put(self, table: tuple[str, ...], row: Sequence[Any]) -> None:
        at, marks = sql.Identifier(*table), sql.SQL(", ").join(map(sql.Literal, row))
        columns = self._db.execute(
            sql.SQL("select * from {} limit 0").format(at)
        ).description
        names = [sql.Identifier(c.name) for c in columns or ()]
        updated = self._db.execute(
            sql.SQL("update {} set ({}) = row({}) where {} = {}").format(
                at, sql.SQL(", ").join(names), marks, names[0], sql.Literal(row[0])
            )
        )
        if not updated.rowcount:
            self._db.execute(sql.SQL("insert into {} values ({})").format(at, marks))

    def save(self) -> None:
        self._db.execute("savepoint here")

    def undo(self) -> None:
        self._db.execute("rollback to here")

    def commit(self) -> None:
        self._db.commit()
        self._db.close()

    def rollback(self) -> None:
        self._db.rollback()
        self._db.close()


def native_type(column: ColumnSpec) -> Any:
    if column.type == "C":
        return f"varchar({column.length})"
    text = POSTGRES_TYPES[column.type]
    return text.format(length=column.length, scale=column.scale)


STAMP = "fep_changed"


def mysql_subject(server: Mariadb) -> Subject:
    """The reader may select and see transactions; on loopback it needs its password."""
    config = {**server.config("reader", password="reader's own"), "sslmode": "disable"}
    server.sql(
        "create or replace user reader identified by 'reader\\'s own'",
        "grant select on town.* to reader",
        "grant process on *.* to reader",
    )

    def create(name: str, columns: Sequence[ColumnSpec]) -> tuple[str, ...]:
        listed = [
            f"`{c.name}` "
            + MYSQL_TYPES[c.type].format(length=c.length, scale=c.scale)
            + " null"
            for c in columns
        ]
        server.sql(
            f"drop table if exists `{name}`",
            f"create table `{name}` ({', '.join(listed)}, {STAMP} timestamp(6) not null"
            " default current_timestamp(6) on update current_timestamp(6) invisible,"
            f" key ({STAMP}), key (`{columns[0].name}`))",
        )
        return ("town", name)

    def add(table: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            marks = ", ".join(["%s"] * len(rows[0]))
            with server.connect() as db, db.cursor() as cursor:
                cursor.execute("set sql_mode = ''")
                cursor.executemany(
                    f"insert into `{table[-1]}` values ({marks})",
                    [tuple(map(_mysql_value, row)) for row in rows],
                )
                db.commit()

    broken = {
        "unreachable": {**config, "port": 1},
        "login": {**config, "password": "s3cret-wrong"},
    }
    return Subject(
        MYSQL,
        config,
        create,
        add,
        broken,  # type: ignore[arg-type]
        lambda: MysqlTransaction(server.connect()),
        STAMP,
    )


def _mysql_value(value: Any) -> Any:
    """The driver writes years below 1000 with fewer digits."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    return value.isoformat() if isinstance(value, date) else value


class MysqlTransaction:
    def __init__(self, db: pymysql.Connection[Any]) -> None:
        self._db = db
        self._do("set session transaction isolation level read committed")
        self._do("start transaction")

    def _do(self, text: str, values: Sequence[Any] = ()) -> int:
        with self._db.cursor() as cursor:
            return cursor.execute(text, tuple(values) or None)

    def put(self, table: tuple[str, ...], row: Sequence[Any]) -> None:
        at = f"`{table[-1]}`"
        with self._db.cursor() as cursor:
            cursor.execute(f"select * from {at} limit 0")
            names = [d[0] for d in cursor.description]
        pairs = ", ".join(f"`{n}` = %s" for n in names)
        where = f"`{names[0]}` = %s"
        there = self._do(f"select 1 from {at} where {where}", row[:1])
        if there:
            self._do(f"update {at} set {pairs} where {where}", (*row, row[0]))
        else:
            marks = ", ".join(["%s"] * len(row))
            self._do(f"insert into {at} values ({marks})", row)

    def save(self) -> None:
        self._do("savepoint here")

    def undo(self) -> None:
        self._do("rollback to here")

    def commit(self) -> None:
        self._db.commit()
        self._db.close()

    def rollback(self) -> None:
        self._db.rollback()
        self._db.close()
