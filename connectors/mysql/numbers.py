# SPDX-License-Identifier: Apache-2.0
"""Rows with a growing number: the highest one, and who may still write."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from connectors.contract import Highest
from connectors.mysql import changes
from connectors.mysql.catalog import Table, quoted
from connectors.mysql.login import our_errors, rows
from connectors.sql import check_whole

LOCAL = frozenset({"innodb", "myisam", "aria", "memory"})
"""Engines whose rows are written by sessions of this server alone."""


def whole(table: Table, name: str) -> str:
    """SQL of a column of whole numbers.

    Raises:
        SourceError: missing, type.
    """
    column = table.columns.get(name)
    found = None if column is None else (column.family, column.native)
    check_whole(table.name, name, found)
    return f"t.{quoted(name)}"


def highest(db: Connection[Any], table: Table, name: str) -> Highest:
    """See the contract.

    Raises:
        SourceError: missing, type.
    """
    column = whole(table, name)
    with our_errors():
        ((number, nulls),) = rows(
            db,
            f"select (select max({column}) from {table.quoted} t),"  # noqa: S608
            f" exists (select 1 from {table.quoted} t where {column} is null)",
        )
    return Highest(None if number is None else int(number), nulls == "1")


def written_elsewhere(
    db: Connection[Any], table: Table, told: changes.Activity
) -> bool:
    """Whether sessions of other servers write the table or take its numbers."""
    if table.engine is not None and table.engine.lower() not in LOCAL:
        return True
    with our_errors():
        ((step,),) = rows(db, "select @@global.auto_increment_increment")
    return told.replica or step != "1"


def oldest_writer(db: Connection[Any], table: Table) -> str | None:
    """See the contract; nobody tells of the sessions of other servers."""
    found = changes.activity(db)
    elsewhere = written_elsewhere(db, table, found)
    return None if elsewhere else changes.oldest_start(found)
