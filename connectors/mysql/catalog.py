# SPDX-License-Identifier: Apache-2.0
"""What the server's catalogue says of a table: columns, rights, keys, size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from connectors.contract import SourceError, StreamSpec
from connectors.mysql.login import ServerError, our_errors, rows
from connectors.sql import literal

FAMILY_OF: Mapping[str, str] = {
    **dict.fromkeys(
        ("tinyint", "smallint", "mediumint", "int", "bigint", "year"), "integer"
    ),
    "decimal": "number",
    "float": "float",
    "double": "float",
    "bit": "bit",
    "date": "date",
    "datetime": "time",
    "timestamp": "time",
    **dict.fromkeys(
        ("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "text"
    ),
    **dict.fromkeys(("enum", "set"), "text"),
    **dict.fromkeys(
        ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "bytes"
    ),
}
"""Type -> family of ``connectors.sql.FAMILIES`` or ``bit``; all others ``other``."""

_TABLE = """
select engine, table_rows, data_length, unix_timestamp(create_time), table_comment
from information_schema.tables where table_schema = {schema} and table_name = {table}
"""

_COLUMNS = """
select column_name, data_type, column_type, is_nullable, character_set_name,
  privileges, column_default, extra, column_comment
from information_schema.columns
where table_schema = {schema} and table_name = {table} order by ordinal_position
"""

_INDEXES = """
select index_name, non_unique, column_name, sub_part
from information_schema.statistics
where table_schema = {schema} and table_name = {table}
order by index_name, seq_in_index
"""

_SIZE = re.compile(r"\((\d+)(?:,(\d+))?\)")


def quoted(name: str) -> str:
    """A name in backticks.

    Raises:
        SourceError: missing: no database has a name with U+0000 in it.
    """
    if "\0" in name:
        raise SourceError("missing", "a table or column name holds U+0000")
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        name: as in the catalogue.
        base: type without size, such as ``varchar``.
        native: type for people, such as ``int(10) unsigned``.
        nullable: NULL may stand in it.
        charset: of a text, or None.
        readable: the account may select it.
        kept: the database sets it with every insert and update.
        comment: or None.
    """

    name: str
    base: str
    native: str
    nullable: bool
    charset: str | None
    readable: bool
    kept: bool
    comment: str | None

    @property
    def family(self) -> str:
        """See :data:`FAMILY_OF`."""
        return FAMILY_OF.get(self.base, "other")

    @property
    def size(self) -> tuple[int, int] | None:
        """The numbers in brackets: length, or precision and scale."""
        found = _SIZE.search(self.native)
        return (int(found[1]), int(found[2] or 0)) if found else None


@dataclass(frozen=True)
class Table:
    """A table or view.

    Args:
        name: (database, name).
        engine: such as ``InnoDB``; None of a view.
        rows: estimate, or None.
        width: bytes of a row, or None.
        made: when its definition was last written, seconds; None if unknown.
        columns: by name, in order.
        unique: sets of columns in which no two rows are equal, none of them NULL.
        firsts: columns that an index begins with.
        primary: the primary key's columns.
        comment: or None.
    """

    name: tuple[str, str]
    engine: str | None
    rows: int | None
    width: float | None
    made: int | None
    columns: Mapping[str, Column]
    unique: tuple[tuple[str, ...], ...]
    firsts: frozenset[str]
    primary: tuple[str, ...]
    comment: str | None

    @property
    def quoted(self) -> str:
        """Its qualified name in backticks."""
        return ".".join(map(quoted, self.name))

    @property
    def transactional(self) -> bool:
        """Its rows are read in a snapshot and written in transactions."""
        return (self.engine or "").lower() == "innodb"


def name_of(table: Sequence[str], database: str) -> tuple[str, str]:
    """Database and name of a table; the source's database by default.

    Raises:
        SourceError: missing: the name is qualified otherwise.
    """
    parts = [database, *table] if len(table) == 1 else list(table)
    if len(parts) != 2:
        raise SourceError("missing", f"expected database.table, got {'.'.join(table)}")
    return parts[0], parts[1]


def look_up(db: Connection[Any], name: tuple[str, str]) -> Table | None:
    """The table of this name, or None if there is none or it may not be seen."""
    schema, table = map(literal, name)
    found = rows(
        db,
        _TABLE.format(schema=schema, table=table),
    )
    if not found:
        return None
    engine, count, size, made, comment = found[0]
    unique, firsts, primary = _indexes(db, schema, table)
    columns = _columns(db, schema, table)
    number = int(count) if count else 0
    return Table(
        name,
        engine,
        number or None,
        int(size or 0) / number if number and size else None,
        int(float(made)) if made else None,
        columns,
        tuple(
            u
            for u in unique
            if all(c in columns and not columns[c].nullable for c in u)
        ),
        firsts,
        primary,
        comment if engine else None,
    )


def _columns(db: Connection[Any], schema: str, table: str) -> dict[str, Column]:
    found = {}
    for name, base, native, nullable, charset, rights, default, extra, comment in rows(
        db,
        _COLUMNS.format(schema=schema, table=table),
    ):
        now = "current_timestamp"
        kept = f"on update {now}" in (extra or "").lower()
        kept = kept and (default or "").lower().startswith(now)
        base = (base or "").lower()
        found[str(name)] = Column(
            str(name),
            base,
            native or "",
            nullable == "YES",
            charset,
            "select" in (rights or "").lower().split(","),
            kept,
            comment or None,
        )
    return found


def _indexes(
    db: Connection[Any], schema: str, table: str
) -> tuple[list[tuple[str, ...]], frozenset[str], tuple[str, ...]]:
    indexes: dict[str, list[tuple[str, bool]]] = {}
    for index, not_unique, column, part in rows(
        db,
        _INDEXES.format(schema=schema, table=table),
    ):
        whole = not_unique == "0" and part is None and column is not None
        indexes.setdefault(str(index), []).append((column or "", whole))
    unique = [
        tuple(column for column, _ in parts)
        for parts in indexes.values()
        if all(whole for _, whole in parts)
    ]
    firsts = frozenset(parts[0][0] for parts in indexes.values())
    return unique, firsts, tuple(c for c, _ in indexes.get("PRIMARY", []))


def bound(
    db: Connection[Any], stream: StreamSpec, database: str, extra: Iterable[str] = ()
) -> Table:
    """The stream's table, after the server agreed to give the columns.

    Args:
        db: a short connection.
        stream: what is read.
        database: of the source.
        extra: columns that are needed besides.

    Raises:
        SourceError: missing, right.
    """
    name = name_of(stream.table, database)
    dotted = ".".join(name)
    listed = ", ".join(
        quoted(c) for c in [*(c.name for c in stream.columns), *extra] or ["1"]
    )
    try:
        with our_errors():
            rows(db, f"select {listed} from {'.'.join(map(quoted, name))} limit 0")  # noqa: S608
            table = look_up(db, name)
    except ServerError as e:
        if e.kind == "missing":
            raise _missing(db, stream, name) from None
        raise SourceError(
            e.kind, f"the columns of {dotted}: error {e.code} of the server"
        ) from None
    if table is None:
        raise SourceError("missing", f"there is no table {dotted}")
    return table


def _missing(
    db: Connection[Any], stream: StreamSpec, name: tuple[str, str]
) -> SourceError:
    with our_errors():
        table = look_up(db, name)
    dotted = ".".join(name)
    if table is None:
        return SourceError("missing", f"there is no table {dotted}")
    absent = [c.name for c in stream.columns if c.name not in table.columns]
    return SourceError("missing", f"{dotted} has no column {', '.join(absent)}")
