# SPDX-License-Identifier: Apache-2.0
"""What PostgreSQL's catalogue says of a table: columns, rights, indexes, size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from connectors.contract import SourceError, StreamSpec

DEFAULT_SCHEMA = "public"

_TABLE = """
select c.oid, c.relkind, c.reltuples::float8,
       c.relrowsecurity and not pg_catalog.pg_has_role(c.relowner, 'USAGE')
         and not r.rolbypassrls,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_roles r on r.rolname = current_user
where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')
"""

_COLUMNS = """
with recursive base(attnum, type, mod) as (
  select attnum, atttypid, atttypmod from pg_catalog.pg_attribute
  where attrelid = %(oid)s and attnum > 0 and not attisdropped
  union all
  select b.attnum, t.typbasetype,
         case when t.typtypmod >= 0 then t.typtypmod else b.mod end
  from base b join pg_catalog.pg_type t on t.oid = b.type where t.typtype = 'd'
)
select a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
       case when tn.nspname = 'pg_catalog' then t.typname else '' end,
       b.mod, not a.attnotnull, pg_catalog.col_description(a.attrelid, a.attnum),
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       a.attcollation,
       coalesce(pg_catalog.to_jsonb(l) ->> 'collisdeterministic', 'true') = 'true'
from base b
join pg_catalog.pg_attribute a on a.attrelid = %(oid)s and a.attnum = b.attnum
join pg_catalog.pg_type t on t.oid = b.type and t.typtype <> 'd'
join pg_catalog.pg_namespace tn on tn.oid = t.typnamespace
left join pg_catalog.pg_collation l on l.oid = a.attcollation
order by a.attnum
"""

_INDEXES = """
select i.indkey::int2[], i.indoption::int2[], i.indcollation::oid[], i.indisprimary,
       (select bool_and(o.opcdefault) from pg_catalog.pg_opclass o
        where o.oid = any(i.indclass::oid[]))
from pg_catalog.pg_index i
join pg_catalog.pg_class c on c.oid = i.indexrelid
join pg_catalog.pg_am m on m.oid = c.relam and m.amname = 'btree'
where i.indrelid = %s and i.indisvalid and i.indpred is null
order by not i.indisprimary, i.indnatts
"""

FAMILY_OF: Mapping[str, str] = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "numeric": "number",
    "float4": "float",
    "float8": "float",
    "bool": "boolean",
    "date": "date",
    "timestamp": "time",
    "timestamptz": "time",
    "text": "text",
    "varchar": "text",
    "bpchar": "text",
    "bytea": "bytes",
}
"""Base type -> family of ``connectors.sql.FAMILIES``; all others are ``other``."""


@dataclass(frozen=True)
class Column:
    """A column.

    Args:
        number: attnum.
        name: as in the catalogue.
        native: type for people, such as ``numeric(12,2)``.
        base: name of the type in pg_catalog under all domains, or ``""``.
        mod: its modifier (atttypmod), -1 without.
        nullable: no NOT NULL stands on it.
        comment: or None.
        readable: the account may select it.
        collation: oid, 0 without.
        deterministic: equal in this collation means equal bytes.
    """

    number: int
    name: str
    native: str
    base: str
    mod: int
    nullable: bool
    comment: str | None
    readable: bool
    collation: int
    deterministic: bool

    @property
    def family(self) -> str:
        """One of ``connectors.sql.FAMILIES``."""
        return FAMILY_OF.get(self.base, "other")

    @property
    def numeric(self) -> tuple[int, int] | None:
        """Precision and scale of ``numeric(p,s)``; None without (pg numeric.c)."""
        if self.base != "numeric" or self.mod < 4:
            return None
        packed = self.mod - 4
        return packed >> 16, ((packed & 0x7FF) ^ 0x400) - 0x400

    @property
    def length(self) -> int | None:
        """Characters of ``varchar(n)`` and ``char(n)``; None without."""
        sized = self.base in ("varchar", "bpchar") and self.mod >= 4
        return self.mod - 4 if sized else None


@dataclass(frozen=True)
class Index:
    """A btree index over all rows.

    Args:
        columns: attnums, 0 for an expression.
        options: per column; 1 is DESC, 2 is NULLS FIRST.
        collations: oids.
        primary: it is the primary key's.
        plain: only default operator classes.
    """

    columns: tuple[int, ...]
    options: tuple[int, ...]
    collations: tuple[int, ...]
    primary: bool
    plain: bool


@dataclass(frozen=True)
class Table:
    """A table, view, materialised view, partitioned or foreign table.

    Args:
        name: (schema, name).
        kind: relkind.
        rows: estimate, or None.
        filtered: row security hides rows from the account.
        usable: the account may use the schema.
        writable: the account may change the table.
        columns: by name, in order.
        indexes: the primary key's first.
    """

    name: tuple[str, str]
    kind: str
    rows: int | None
    filtered: bool
    usable: bool
    writable: bool
    columns: Mapping[str, Column]
    indexes: tuple[Index, ...]


def name_of(table: Sequence[str], database: str) -> tuple[str, str]:
    """Schema and name of a table; ``public`` and the source's database by default.

    Raises:
        SourceError: missing: the name is qualified otherwise.
    """
    parts = list(table)
    if len(parts) == 3 and parts[0] == database:
        del parts[0]
    if len(parts) == 1:
        parts.insert(0, DEFAULT_SCHEMA)
    if len(parts) != 2:
        raise SourceError("missing", f"expected schema.table, got {'.'.join(table)}")
    return parts[0], parts[1]


def look_up(db: psycopg.Connection[Any], name: tuple[str, str]) -> Table | None:
    """The table of this name, or None."""
    found = db.execute(_TABLE, name).fetchone()
    if found is None:
        return None
    oid, kind, rows, filtered, usable, writable = found
    columns = [
        Column(*row) for row in db.execute(_COLUMNS.encode(), {"oid": oid}).fetchall()
    ]
    indexes = tuple(
        Index(tuple(keys), tuple(options), tuple(collations), primary, bool(plain))
        for keys, options, collations, primary, plain in db.execute(_INDEXES, (oid,))
    )
    return Table(
        name,
        kind,
        int(rows) if rows > 0 else None,
        filtered,
        usable,
        writable,
        {column.name: column for column in columns},
        indexes,
    )


def bound(db: psycopg.Connection[Any], stream: StreamSpec) -> Table:
    """The stream's table, with every column that the stream names.

    Raises:
        SourceError: missing.
    """
    name = name_of(stream.table, db.info.dbname)
    return having(look_up(db, name), name, stream)


def having(table: Table | None, name: tuple[str, str], stream: StreamSpec) -> Table:
    """The table, if it is there and has every column that the stream names.

    Raises:
        SourceError: missing.
    """
    if table is None:
        raise SourceError("missing", f"there is no table {'.'.join(name)}")
    absent = [c.name for c in stream.columns if c.name not in table.columns]
    if absent:
        raise SourceError(
            "missing", f"{'.'.join(name)} has no column {', '.join(absent)}"
        )
    return table
