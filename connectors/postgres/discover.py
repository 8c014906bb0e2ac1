# SPDX-License-Identifier: Apache-2.0
"""``fep source discover``: the tables that the account may read, as drafts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import FoundColumn, FoundTable, Limits
from connectors.postgres.catalog import Column, Table, look_up
from connectors.postgres.login import connection, our_errors

_TABLES = """
select n.nspname, c.relname, pg_catalog.obj_description(c.oid, 'pg_class')
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
  and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
  and pg_catalog.has_schema_privilege(n.oid, 'USAGE')
  and pg_catalog.has_any_column_privilege(c.oid, 'SELECT')
order by 1, 2
"""

LONGEST_TEXT = 4000
"""Most code points of a C item."""


def discover(config: Mapping[str, Any]) -> list[FoundTable]:
    """See the contract; columns that may not be selected are left out."""
    with connection(config, Limits(statement_timeout_s=60)) as db, our_errors():
        found = []
        for schema, name, comment in db.execute(_TABLES).fetchall():
            table = look_up(db, (schema, name))
            if table is not None:
                found.append(draft(table, comment))
        return found


def draft(table: Table, comment: str | None = None) -> FoundTable:
    """A table with the item types that would fit its readable columns."""
    primary = next((i.columns for i in table.indexes if i.primary), ())
    columns = tuple(
        _column(column, key=column.number in primary)
        for column in table.columns.values()
        if column.readable
    )
    return FoundTable(table.name, comment, table.rows, columns)


def _column(column: Column, *, key: bool) -> FoundColumn:
    letter, length, scale = _item_type(column, key=key)
    return FoundColumn(
        column.name,
        column.native,
        letter,
        length,
        scale,
        column.nullable,
        key,
        column.comment,
    )


def _item_type(column: Column, *, key: bool) -> tuple[str, int | None, int | None]:
    simple = {
        "integer": "I",
        "float": "B",
        "boolean": "L",
        "date": "D",
        "time": "T",
        "bytes": "G",
    }
    if column.family in simple:
        return simple[column.family], None, None
    if column.family == "number":
        precision, scale = column.numeric or (38, 10)
        fits = 0 <= scale <= precision <= 38
        return ("N", precision, scale) if fits else ("N", 38, 10)
    if column.length is not None and column.length <= LONGEST_TEXT:
        return "C", column.length, None
    if column.base == "uuid":
        return "C", 36, None
    return ("C", LONGEST_TEXT, None) if key else ("M", None, None)
