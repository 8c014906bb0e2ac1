# SPDX-License-Identifier: Apache-2.0
"""What stands in the way of increments, and the statement that removes it."""

from __future__ import annotations

from typing import Any

import psycopg

from connectors import findings
from connectors.contract import Finding, SourceError, StreamSpec
from connectors.postgres import changes, numbers
from connectors.postgres.catalog import Table
from connectors.sql import quoted

_RIGHTS = """
select coalesce(bool_and(pg_catalog.has_column_privilege(c.oid, a, 'SELECT')), true),
  pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace,
  unnest(%s::text[]) a
where n.nspname = %s and c.relname = %s
"""


def check(
    db: psycopg.Connection[Any], table: Table, stream: StreamSpec, user: str
) -> list[Finding]:
    """Findings about increments of a stream whose full read has no error."""
    name = ".".join(table.name)
    try:
        foreign_parts = changes.has_foreign_parts(db, table)
        promised = changes.increments(table, stream.stamp, foreign_parts=foreign_parts)
    except SourceError as e:
        return [findings.from_error(e)]
    if promised is None and stream.number:
        return check_number(db, table, stream.number, user)
    if promised is None:
        return [
            Finding(
                "no-increments",
                "warning" if stream.stamp else "ok",
                f"{name} has no transaction ids: each run reads it in full",
                f"{name} 没有事务标识：每次运行都会全量读取",
            )
        ]
    found = _rights(db, table, stream, user)
    if stream.number:
        found.append(findings.number_unused(name, changes.METHOD))
    return found + (_stamp_index(table, stream.stamp) if stream.stamp else [])


def needed(table: Table, stamp: str | None) -> list[str]:
    """Columns that an increment looks at besides the bound ones."""
    tree = ["tableoid"] if table.kind == "p" else []
    return ["xmin", *tree, *([stamp] if stamp else [])]


def _rights(
    db: psycopg.Connection[Any], table: Table, stream: StreamSpec, user: str
) -> list[Finding]:
    columns = needed(table, stream.stamp)
    row = db.execute(_RIGHTS, (columns, *table.name)).fetchone()
    may_select, may_see = row or (False, False)
    schema, name = table.name
    at, to = f"{quoted(schema)}.{quoted(name)}", quoted(user)
    found = []
    if not may_select:
        listed = ", ".join(quoted(c) for c in columns)
        found.append(
            Finding(
                "increment-grant-missing",
                "warning" if stream.stamp else "ok",
                f"Increments of {schema}.{name} need {', '.join(columns)}",
                f"增量读取 {schema}.{name} 需要字段 {', '.join(columns)}",
                f"GRANT SELECT ({listed}) ON {at} TO {to};",
            )
        )
    if stream.stamp and not may_see:
        found.append(
            Finding(
                "sessions-hidden",
                "warning",
                "The account does not see when other sessions' transactions began, so"
                f" {stream.stamp} cannot narrow an increment: it scans the table",
                "该账号看不到其他会话的事务开始时间，无法用"
                f" {stream.stamp} 缩小增量范围，将扫描全表",
                f"GRANT pg_read_all_stats TO {to};",
            )
        )
    return found


def check_number(
    db: psycopg.Connection[Any], table: Table, number: str, user: str
) -> list[Finding]:
    """Findings about a table whose new rows are known by a growing number."""
    name = ".".join(table.name)
    try:
        numbers.whole(table, number)
    except SourceError as e:
        return [findings.from_error(e)]
    found = [findings.number_index(name, number)]
    if not table.columns[number].readable:
        at = ".".join(map(quoted, table.name))
        grant = f"GRANT SELECT ({quoted(number)}) ON {at} TO {quoted(user)};"
        return [findings.number_grant(name, number, grant)]
    cached = numbers.cached(db, table.name)
    if cached:
        remedy = " ".join(f"ALTER SEQUENCE {one} CACHE 1;" for one in cached)
        found.append(findings.number_cached(name, ", ".join(cached), remedy))
    if numbers.written_elsewhere(db, table.name):
        found.append(findings.writers_elsewhere(name))
    elif changes.oldest_start(db) is None:
        grant = f"GRANT pg_read_all_stats TO {quoted(user)};"
        found.append(findings.writers_hidden(name, grant))
    return found


def _stamp_index(table: Table, stamp: str) -> list[Finding]:
    number = table.columns[stamp].number
    if any(index.columns[0] == number for index in table.indexes):
        return []
    schema, name = table.name
    at = f"{quoted(schema)}.{quoted(name)}"
    return [
        Finding(
            "stamp-not-indexed",
            "warning",
            f"{schema}.{name}: no index begins with {stamp}: each increment scans it",
            f"{schema}.{name}：没有以 {stamp} 开头的索引，每次增量都要扫描全表",
            f"CREATE INDEX CONCURRENTLY ON {at} ({quoted(stamp)});",
            stamp,
        )
    ]
