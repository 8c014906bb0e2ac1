# SPDX-License-Identifier: Apache-2.0
"""Opening a file of SQLite read-only, what it declares, and its errors as ours."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from connectors.contract import Kind, SourceError, StreamSpec
from connectors.sql import quoted

BUSY_S = 10.0
"""How long to wait for a writer's lock, seconds."""

_KINDS: Mapping[str, Kind] = {
    "SQLITE_CANTOPEN": "unreachable",
    "SQLITE_IOERR": "unreachable",
    "SQLITE_PERM": "right",
    "SQLITE_AUTH": "right",
    "SQLITE_READONLY": "right",
    "SQLITE_BUSY": "timeout",
    "SQLITE_LOCKED": "timeout",
    "SQLITE_INTERRUPT": "timeout",
}
"""Primary result code -> kind; all others are ``failed``."""

_SENTENCES: Mapping[str, str] = {
    "SQLITE_NOTADB": "the file is not a SQLite database, or it is encrypted",
    "SQLITE_CORRUPT": "the file is damaged; run PRAGMA integrity_check",
    "SQLITE_BUSY": f"a writer held its lock for more than {BUSY_S:.0f} s",
    "SQLITE_INTERRUPT": "the statement ran longer than statement_timeout_s",
}


@contextmanager
def our_errors() -> Iterator[None]:
    """Translate errors of the driver; its messages may hold values and stay behind.

    Raises:
        SourceError: instead of any sqlite3.Error.
    """
    try:
        yield
    except sqlite3.Error as e:
        name = getattr(e, "sqlite_errorname", type(e).__name__)
        primary = "_".join(name.split("_")[:2])
        sentence = _SENTENCES.get(primary)
        detail = f"{name}: {sentence}" if sentence else str(name)
        raise SourceError(_KINDS.get(primary, "failed"), detail) from None


@contextmanager
def connection(config: Mapping[str, Any]) -> Iterator[sqlite3.Connection]:
    """A read-only connection with one snapshot, held until the block ends.

    Raises:
        SourceError: unreachable or right; failed if it is no database.
    """
    path = Path(str(config["path"]))
    if not path.is_file():
        raise SourceError("unreachable", f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise SourceError("right", f"this user may not read {path}")
    with our_errors():
        db = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode=ro",
            uri=True,
            timeout=BUSY_S,
            isolation_level=None,
            check_same_thread=False,  # a worker's threads take turns
        )
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
