# SPDX-License-Identifier: Apache-2.0
"""``fep source discover``: the tables that the account may read, as drafts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import FoundColumn, FoundTable, Limits
from connectors.mysql.catalog import Column, Table, look_up
from connectors.mysql.login import connection, rows

LONGEST_TEXT = 4000
"""Most code points of a C item."""

Draft = tuple[str, int | None, int | None]
"""Item type, length and scale."""

_TABLES = """
select table_schema, table_name from information_schema.tables
where table_schema not in ('information_schema', 'mysql', 'performance_schema', 'sys')
  and table_type in ('BASE TABLE', 'VIEW')
order by 1, 2
"""


def discover(config: Mapping[str, Any]) -> list[FoundTable]:
    """See the contract; columns that may not be selected are left out."""
    with connection(config, Limits(statement_timeout_s=60)) as db:
        found = []
        for schema, name in rows(db, _TABLES):
            table = look_up(db, (str(schema), str(name)))
            if table is not None and any(c.readable for c in table.columns.values()):
                found.append(draft(table))
        return found


def draft(table: Table) -> FoundTable:
    """A table with the item types that would fit its readable columns."""
    columns = tuple(
        _column(column, key=column.name in table.primary)
        for column in table.columns.values()
        if column.readable
    )
    return FoundTable(table.name, table.comment or None, table.rows, columns)


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


_SIMPLE: Mapping[str, Draft] = {
    "integer": ("I", None, None),
    "float": ("B", None, None),
    "date": ("D", None, None),
    "time": ("T", None, None),
    "bytes": ("G", None, None),
}


def _item_type(column: Column, *, key: bool) -> Draft:
    if column.native == "tinyint(1)" or column.native == "bit(1)":
        return "L", None, None
    unsigned = column.native.startswith("bigint") and "unsigned" in column.native
    if unsigned or column.family == "bit":
        return "N", 20, 0
    return _SIMPLE.get(column.family) or _sized(column, key=key)


def _sized(column: Column, *, key: bool) -> Draft:
    size = column.size
    if column.family == "number":
        return ("N", *size) if size and size[0] <= 38 else ("N", 38, 10)
    if column.base in ("char", "varchar") and size and size[0] <= LONGEST_TEXT:
        return "C", size[0], None
    if column.base in ("enum", "set", "time", "uuid", "inet6", "inet4"):
        return "C", 255, None
    return ("C", LONGEST_TEXT, None) if key else ("M", None, None)
