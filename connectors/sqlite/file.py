# SPDX-License-Identifier: Apache-2.0
"""Opening a file of SQLite read-only, and what it declares."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from connectors.contract import SourceError, StreamSpec
from connectors.sql import quoted
from connectors.sqlite.errors import BUSY_S, our_errors
from connectors.sqlite.handle import Functions, Handle


@contextmanager
def connection(config: Mapping[str, Any]) -> Iterator[sqlite3.Connection]:
    """A read-only connection with one snapshot, held until the block ends.

    Raises:
        SourceError: unreachable or right; failed if it is no database.
    """
    with _begun(_opened(config)) as db:
        yield db


@contextmanager
def connection_and_handle(
    config: Mapping[str, Any], library: Functions | None
) -> Iterator[tuple[sqlite3.Connection, Handle | None]]:
    """The same, with the connection's handle if it can be had.

    When the block ends, what reads through the handle is interrupted.

    Args:
        config: of the source.
        library: functions of SQLite, or None.

    Raises:
        SourceError: as of :func:`connection`.
    """
    pointer = None
    if library is None:
        opened = _opened(config)
    else:
        opened, pointer = library.opened(lambda: _opened(config))
    with _begun(opened) as db:
        if library is None or pointer is None:
            yield db, None
            return
        handle = Handle(library, pointer)
        try:
            yield db, handle
        finally:
            handle.close(db.interrupt)


def _opened(config: Mapping[str, Any]) -> sqlite3.Connection:
    path = Path(str(config["path"]))
    if not path.is_file():
        raise SourceError("unreachable", f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise SourceError("right", f"this user may not read {path}")
    with our_errors():
        return sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,  # a worker's threads take turns
        )


@contextmanager
def _begun(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        with our_errors():
            db.execute("PRAGMA query_only = 1")
            db.execute("PRAGMA trusted_schema = 0")
            db.execute("BEGIN")
        yield db
    finally:
        db.close()


@dataclass(frozen=True)
class Column:
    """A column as declared; ``primary`` is its place in the primary key, or 0."""

    name: str
    declared: str
    nullable: bool
    primary: int


def name_of(stream: StreamSpec) -> str:
    """The table's name; SQLite has one schema, ``main``.

    Raises:
        SourceError: missing: the name is qualified otherwise.
    """
    *schema, name = stream.table
    if schema not in ([], ["main"]):
        raise SourceError("missing", f"SQLite knows no schema {'.'.join(schema)}")
    return name


def tables(db: sqlite3.Connection) -> list[str]:
    """Names of tables and views, sorted."""
    rows = db.execute(
        "select name from main.sqlite_master where type in ('table', 'view')"
        " and name not like 'sqlite\\_%' escape '\\' order by name"
    )
    return [str(name) for (name,) in rows]


def columns(db: sqlite3.Connection, table: str) -> dict[str, Column]:
    """Columns of a table by name, in order; none if there is no such table."""
    rows = db.execute(
        "select name, type, \"notnull\", pk from pragma_table_xinfo(?, 'main')"
        " where hidden <> 1",
        (table,),
    )
    return {
        str(name): Column(str(name), str(declared), not notnull, int(primary))
        for name, declared, notnull, primary in rows
    }


def rowid_name(db: sqlite3.Connection, table: str) -> str | None:
    """The column that is the table's rowid, so a whole number in every row; or None.

    Source: lang_createtable.html, "ROWIDs and the INTEGER PRIMARY KEY". Every other
    primary key has an index of its own, also in tables without rowids.
    """
    keys = [c for c in columns(db, table).values() if c.primary]
    if len(keys) != 1 or keys[0].declared.upper() != "INTEGER":
        return None
    own = db.execute(
        "select 1 from pragma_index_list(?, 'main') where origin = 'pk'", (table,)
    )
    return None if own.fetchone() else keys[0].name


def whole(db: sqlite3.Connection, stream: StreamSpec) -> dict[str, Column]:
    """All columns of the stream's table.

    Raises:
        SourceError: missing.
    """
    table = name_of(stream)
    quoted(table)
    found = columns(db, table) if table in tables(db) else {}
    if not found:
        raise SourceError("missing", f"there is no table {table}")
    return found


def bound(db: sqlite3.Connection, stream: StreamSpec) -> dict[str, Column]:
    """The stream's columns as declared.

    Raises:
        SourceError: missing.
    """
    table, found = name_of(stream), whole(db, stream)
    absent = [c.name for c in stream.columns if c.name not in found]
    if absent:
        raise SourceError("missing", f"{table} has no column {', '.join(absent)}")
    return {c.name: found[c.name] for c in stream.columns}
