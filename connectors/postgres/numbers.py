# SPDX-License-Identifier: Apache-2.0
"""Rows with a growing number: the highest one, and who may still write."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import psycopg

from connectors.contract import Highest
from connectors.postgres.catalog import Table
from connectors.postgres.changes import oldest_start
from connectors.sql import check_whole, quoted

MARGIN = timedelta(seconds=3)
"""Small steps of the server's clock."""

SEQUENCES = SUBSCRIPTIONS = 100_000
"""The first version whose catalogue tells of sequences, and that has subscriptions."""

BENEATH = """
with recursive tree(oid) as (
  select c.oid from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = %s and c.relname = %s
  union
  select found.oid from tree t cross join lateral (
    select i.inhrelid as oid from pg_catalog.pg_inherits i where i.inhparent = t.oid
    union all
    select d.refobjid from pg_catalog.pg_rewrite r
    join pg_catalog.pg_depend d on d.objid = r.oid
      and d.classid = 'pg_catalog.pg_rewrite'::regclass
      and d.refclassid = 'pg_catalog.pg_class'::regclass
    where r.ev_class = t.oid
  ) found
)
"""
"""A table or view, with all partitions, children, and what views are made of."""

_ELSEWHERE = (
    BENEATH
    + """
select count(*) from tree t join pg_catalog.pg_class c on c.oid = t.oid
where c.relkind in ('f', 'm')
"""
)

_SUBSCRIBED = (
    BENEATH
    + """
select count(*) from tree t
join pg_catalog.pg_subscription_rel r on r.srrelid = t.oid
"""
)

_TELLS = """
select pg_catalog.has_table_privilege(
  pg_catalog.to_regclass('pg_catalog.pg_subscription_rel')::oid, 'SELECT')
"""

_CACHED = (
    BENEATH
    + """
select s.seqrelid::pg_catalog.regclass::text
from tree t join pg_catalog.pg_depend d on d.refobjid = t.oid
  and d.refclassid = 'pg_catalog.pg_class'::regclass and d.deptype in ('a', 'i')
join pg_catalog.pg_sequence s on s.seqrelid = d.objid
where s.seqcache > 1 order by 1
"""
)


def whole(table: Table, name: str) -> str:
    """SQL of a column of whole numbers.

    Raises:
        SourceError: missing, type.
    """
    column = table.columns.get(name)
    found = None if column is None else (column.family, column.native)
    check_whole(table.name, name, found)
    return f"t.{quoted(name)}"


def highest(db: psycopg.Connection[Any], table: Table, name: str) -> Highest:
    """See the contract.

    Raises:
        SourceError: missing, type.
    """
    column, rows = whole(table, name), ".".join(map(quoted, table.name))
    found = db.execute(
        f"select (select max({column}) from {rows} t),"  # noqa: S608
        f" exists (select 1 from {rows} t where {column} is null)".encode()
    ).fetchone()
    number, nulls = found or (None, False)
    return Highest(number, bool(nulls))


def written_elsewhere(db: psycopg.Connection[Any], name: tuple[str, str]) -> bool:
    """Whether rows come from a foreign table, a publisher, or what a view was once.

    Their writers are sessions of another database, or have ended long before.
    """
    (count,) = db.execute(_ELSEWHERE.encode(), name).fetchone() or (1,)
    return bool(count) or _subscribed(db, name)


def _subscribed(db: psycopg.Connection[Any], name: tuple[str, str]) -> bool:
    """Whether a subscription fills the table, or may do so."""
    if db.info.server_version < SUBSCRIPTIONS:
        return False
    (tells,) = db.execute(_TELLS.encode()).fetchone() or (False,)
    if not tells:
        return True
    (count,) = db.execute(_SUBSCRIBED.encode(), name).fetchone() or (1,)
    return bool(count)


def oldest_writer(db: psycopg.Connection[Any], name: tuple[str, str]) -> str | None:
    """See the contract."""
    if written_elsewhere(db, name):
        return None
    start = oldest_start(db)
    if start is None:
        return None
    return (datetime.fromisoformat(start) - MARGIN).isoformat()


def cached(db: psycopg.Connection[Any], name: tuple[str, str]) -> list[str]:
    """Sequences of the table, or of those beneath it, that sessions take in advance.

    Such a number may be used hours after it was taken.
    """
    if db.info.server_version < SEQUENCES:
        return []
    return [str(one) for (one,) in db.execute(_CACHED.encode(), name)]
