# SPDX-License-Identifier: Apache-2.0
"""Looking at a file of SQLite without reading its rows: check, discover, promises."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors import findings
from connectors.contract import (
    Caps,
    ColumnSpec,
    Finding,
    FoundColumn,
    FoundTable,
    SourceError,
    StreamSpec,
)
from connectors.sql import quoted
from connectors.sqlite.errors import our_errors
from connectors.sqlite.file import (
    Column,
    bound,
    columns,
    connection,
    name_of,
    tables,
)

_SIZED = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_TEXTS = re.compile("CHAR|CLOB|TEXT")


def check(config: Mapping[str, Any], streams: Sequence[StreamSpec]) -> list[Finding]:
    """Findings about the file and each stream; see the contract."""
    try:
        with connection(config) as db, our_errors():
            found = [findings.connected(f"SQLite {sqlite3.sqlite_version}")]
            found += findings.reader()
            found += _file(db, Path(str(config["path"])))
            for stream in streams:
                found += _stream(db, stream)
            return found
    except SourceError as e:
        return [findings.from_error(e)]


def _file(db: sqlite3.Connection, path: Path) -> list[Finding]:
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    if mode == "wal":
        return []
    found = [
        Finding(
            "journal-mode",
            "warning",
            f"{path}: journal_mode is {mode}, so a run holds writers back",
            f"{path}：journal_mode 为 {mode}，读取期间会阻塞写入",
            "PRAGMA journal_mode = WAL;",
        )
    ]
    if os.access(path, os.W_OK):
        remedy = f"setfacl -m u:fep:r-- {path}"
        found.append(findings.can_write(str(path), remedy))
    return found


def _stream(db: sqlite3.Connection, stream: StreamSpec) -> list[Finding]:
    try:
        table = name_of(stream)
    except SourceError as e:
        return [findings.from_error(e)]
    known = columns(db, table)
    if not known:
        return [findings.table_missing(table, tables(db))]
    absent = [c.name for c in stream.columns if c.name not in known]
    if absent:
        return [findings.column_missing(table, name, known) for name in absent]
    found = [findings.readable(table, len(stream.columns))]
    found += [
        findings.path(c.name, known[c.name].declared, c.type, _way(c, known[c.name]))
        for c in stream.columns
    ]
    keys = [c.name for c in stream.columns if c.key]
    if not _indexed(db, table, keys):
        listed = ", ".join(quoted(k) for k in keys)
        name = quoted(f"{table}_fep_key")
        create = f"CREATE INDEX {name} ON {quoted(table)} ({listed});"
        found.append(findings.key_not_indexed(table, ", ".join(keys), create))
    return found


def _indexed(db: sqlite3.Connection, table: str, keys: list[str]) -> bool:
    """Whether SQLite can give the key's order without sorting."""
    listed = ", ".join(f"{quoted(k)} collate binary" for k in keys)
    plan = db.execute(
        f"explain query plan select 1 from main.{quoted(table)} order by {listed}"  # noqa: S608
    )
    return not any("TEMP B-TREE" in str(row[3]) for row in plan)


def discover(config: Mapping[str, Any]) -> list[FoundTable]:
    """Tables and views with the item types that would fit; see the contract."""
    with connection(config) as db, our_errors():
        return [
            FoundTable((name,), None, None, tuple(map(draft, found)))
            for name in tables(db)
            if (found := list(columns(db, name).values()))
        ]


def draft(column: Column) -> FoundColumn:
    """A column with the item type that would fit."""
    letter, length, scale = _item_type(column.declared.upper())
    return FoundColumn(
        column.name,
        column.declared,
        letter,
        length,
        scale,
        column.nullable and not column.primary,
        bool(column.primary),
        None,
    )


def _item_type(declared: str) -> tuple[str, int | None, int | None]:
    """Item type, length and scale that fit a declared type.

    Source: SQLite's rules of affinity (datatype3.html), dates and booleans before.
    """
    size = _SIZED.search(declared)
    length = int(size[1]) if size else None
    scale = int(size[2]) if size and size[2] else 0
    simple = {
        "BOOL": "L",
        "DATETIME": "T",
        "TIMESTAMP": "T",
        "DATE": "D",
        "INT": "I",
        "BLOB": "G",
        "REAL": "B",
        "FLOA": "B",
        "DOUB": "B",
    }
    for word, letter in simple.items():
        if word in declared:
            return letter, None, None
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        fits = length is None or length <= 4000
        return ("C", length or 4000, None) if fits else ("M", None, None)
    if length is not None and scale <= length <= 38:
        return "N", length, scale
    number = "NUM" in declared or "DEC" in declared
    return ("N", 38, 10) if number else ("M", None, None)


def capabilities(config: Mapping[str, Any], stream: StreamSpec) -> Caps:
    """See the contract; whether a column is native is decided page by page."""
    with connection(config) as db, our_errors():
        found = bound(db, stream)
    ways = {c.name: _way(c, found[c.name]) for c in stream.columns}
    paths = {name: "text" if way == "text" else "native" for name, way in ways.items()}
    return Caps(snapshot=True, ordered=True, paths=paths)


def _way(spec: ColumnSpec, column: Column) -> findings.Way:
    """How the values of a column come that is bound to this item.

    A column of text affinity turns numbers into texts (datatype3.html, section 3.1).
    """
    if spec.type in "CMG":
        return "native"
    declared = column.declared.upper()
    texts = "INT" not in declared and _TEXTS.search(declared)
    return "paged" if spec.type in "ILBFNY" and not texts else "text"
