# SPDX-License-Identifier: Apache-2.0
"""Which rows of a table changed since an earlier frontier: those with a newer xmin.

Rules

1. A frontier is the oldest transaction that its snapshot does not see as ended
   (``xmin`` of the snapshot). Every row version that the snapshot cannot see was or
   will be written by a transaction with this id or a later one: ids are given in order,
   a savepoint's after its transaction's, and a prepared transaction counts as open.
2. An increment is every visible row whose ``xmin`` is in [since, until). A transaction
   that is open at both ends belongs to the next one. If the frontier has not moved at
   all, one transaction has been open for the whole time, and the window is left open
   to the right: rows then come again with the next increment, but nobody waits for
   hours because a session was forgotten.
3. Ids of rows have 32 bits and wrap around; ``age()`` compares them in that ring. The
   frontier has 64 bits, so a window of 2^31 or more is seen and refused. Freezing,
   VACUUM FULL and CLUSTER leave a row's xmin as it is (since 9.4); what rewrites rows
   gives them a new one, and they come again.
4. A partition that was not there at the last frontier is read whole: a table may be
   attached with rows that are older.
5. Ids mean something in one history of one cluster only. Its identifier, its time line,
   the database's and the table's oid are kept with the frontier, and its place in the
   log, which never goes back while it lives.
6. Where the stream names a column that the database sets (``stamp``), rows that are
   older than the oldest transaction open at the last frontier are left out by it, so
   that an index can serve. The start of a prepared transaction cannot be asked for:
   while there is one there is no such floor.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from connectors.contract import Frontier, FrontierLost, Increments, SourceError
from connectors.postgres.catalog import Table
from connectors.postgres.columns import Query
from connectors.sql import literal, quoted

METHOD = "xmin"

HALF_RING = 2**31
"""Transaction ids this far apart cannot be told from each other's order."""

MARGINS = {"timestamptz": timedelta(hours=1), "timestamp": timedelta(hours=26)}
"""Type of a stamp -> how far its floor is lowered: for steps of the server's clock, and
for the unknown zone of times without one."""

_STATEMENT = """
with recursive tree(oid) as (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = {schema} and c.relname = {name}
  union select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid
)
select txid_snapshot_xmin(txid_current_snapshot())::text as xmin,
  txid_snapshot_xmax(txid_current_snapshot())::text as xmax,
  to_char(transaction_timestamp() at time zone 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as as_of,
  (select system_identifier::text from pg_control_system()) as system,
  case when pg_is_in_recovery()
    then (select timeline_id from pg_control_checkpoint())::text
    else 'x' || left(pg_walfile_name(pg_current_wal_lsn()), 8) end as timeline,
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
    else pg_current_wal_lsn() end::text as lsn,
  case when pg_is_in_recovery() then '1' else '' end as standby,
  (select oid::text from pg_database where datname = current_database()) as database,
  (select c.oid::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where n.nspname = {schema} and c.relname = {name}) as tab,
  (select string_agg(oid::text, ',' order by oid) from tree) as tree
"""
"""``transaction_timestamp`` is that of BEGIN, which comes before the snapshot."""

_FOREIGN = """
with recursive tree(oid) as (
  select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = %s and c.relname = %s
  union select i.inhrelid from pg_inherits i join tree t on i.inhparent = t.oid
)
select count(*) from tree t join pg_class c on c.oid = t.oid where c.relkind = 'f'
"""

_ACTIVITY = """
select clock_timestamp(), min(xact_start),
  pg_has_role('pg_read_all_stats', 'USAGE') and not pg_is_in_recovery()
    and current_setting('track_activities')::bool
    and not coalesce(bool_or(state = 'disabled'), false)
from pg_stat_activity where datname = current_database()
"""
"""A session that may not be tracked (``track_activities``) hides its transaction."""

_PREPARED = "select count(*) from pg_prepared_xacts where database = current_database()"


@dataclass(frozen=True)
class Point:
    """A frontier's value.

    Args:
        xmin: oldest transaction that was open, 64 bits.
        xmax: the next id to be given.
        as_of: wire grammar.
        system: identifier of the cluster.
        timeline: of its log, decimal.
        lsn: place in the log, bytes.
        standby: it was read from a replica.
        database: oid.
        table: oid, or 0.
        tree: oids of the table and all its partitions or children.
        floor: ISO instant before which no open transaction began, or None.
    """

    xmin: int
    xmax: int
    as_of: str
    system: str
    timeline: int
    lsn: int
    standby: bool
    database: int
    table: int
    tree: tuple[int, ...]
    floor: str | None = None

    def text(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))


def statement(table: tuple[str, str]) -> str:
    """What gives a frontier in the reader's snapshot."""
    schema, name = map(literal, table)
    return _STATEMENT.format(schema=schema, name=name)


def point_of(row: tuple[Any, ...]) -> Point:
    """The frontier that :func:`statement` gave."""
    xmin, xmax, as_of, system, timeline, lsn, standby, database, table, tree = row
    high, low = (int(half, 16) for half in lsn.split("/"))
    base = 16 if timeline.startswith("x") else 10
    return Point(
        xmin=int(xmin),
        xmax=int(xmax),
        as_of=as_of,
        system=system,
        timeline=int(timeline.removeprefix("x"), base),
        lsn=(high << 32) + low,
        standby=bool(standby),
        database=int(database),
        table=int(table or 0),
        tree=tuple(int(oid) for oid in (tree or "").split(",") if oid),
    )


def frontier_of(point: Point, table: tuple[str, str]) -> Frontier:
    """The contract's frontier; text in two lines would break a status."""
    note = f"{'.'.join(table)}: xmin {point.xmin}, {point.as_of}"
    return Frontier(point.text(), point.as_of, note)


def parsed(value: str) -> Point:
    """The frontier that was stored.

    Raises:
        FrontierLost: unreadable.
    """
    try:
        found = json.loads(value)
        found["tree"] = tuple(found["tree"])
        return Point(**found)
    except (ValueError, TypeError, KeyError) as e:
        raise FrontierLost("unreadable", "the stored frontier cannot be read") from e


def oldest_start(db: psycopg.Connection[Any]) -> str | None:
    """An instant before which no transaction began that is open from now on.

    To be asked before the snapshot is taken: one that is open then is either open now
    or begins later. Sessions are looked at before prepared transactions, lest one be
    missed that is just being prepared.

    Returns:
        ISO 8601 in UTC; None if the account may not see other sessions or one of them
        is not tracked, if those that write are sessions of another server, or if a
        transaction is prepared.
    """
    now, start, allowed = db.execute(_ACTIVITY.encode()).fetchone() or (None, None, 0)
    (prepared,) = db.execute(_PREPARED).fetchone() or (1,)
    if not allowed or prepared or now is None:
        return None
    instant: datetime = now if start is None else min(now, start)
    return instant.astimezone(UTC).isoformat()


def clock(db: psycopg.Connection[Any]) -> str:
    """The server's clock, ISO 8601 in UTC."""
    (now,) = db.execute("select clock_timestamp()").fetchone() or (None,)
    if not isinstance(now, datetime):
        raise SourceError("failed", "the server told no time")
    return now.astimezone(UTC).isoformat()


def changed(query: Query, since: Point, until: Point, stamp: str) -> Query:
    """The query of a stream, reduced to the rows of an increment.

    ``offset 0`` keeps the server from walking the key's index through the whole table
    because it thinks that a third of it has changed.

    Args:
        query: reads the stream.
        since: the last read's frontier.
        until: this session's.
        stamp: a condition that leaves out old rows, or ``""``.
    """
    window = _window(since, until)
    added = sorted(set(until.tree) - set(since.tree))
    where = f"{window} and {stamp}" if stamp else window
    if added:
        where = f"({where}) or t.tableoid in ({', '.join(map(str, added))})"
    return reduced(query, where)


def reduced(query: Query, where: str) -> Query:
    """The query of a stream, reduced to the rows that fulfil a condition."""
    names = ", ".join(f"t.{quoted(reading.name)}" for reading in query.readings)
    rows = f"(select {names} from {query.table} as t where {where} offset 0)"  # noqa: S608
    return replace(query, table=rows)


def _window(since: Point, until: Point) -> str:
    def age(xid: int) -> str:
        return f"age('{xid % 2**32}'::xid)"

    first = f"age(t.xmin) <= {age(since.xmin)}"
    if since.xmin == until.xmin:
        return f"age(t.xmin) >= 0 and {first}"
    return f"age(t.xmin) > {age(until.xmin)} and {first}"


def stamp_floor(table: Table, stamp: str | None, since: Point, until: Point) -> str:
    """A condition that rows changed since then fulfil, for an index; or ``""``.

    Without a floor, and after the server's clock went back, there is none.

    Raises:
        SourceError: missing, type: the stamp cannot be one.
    """
    if stamp is None:
        return ""
    base, nullable = stamp_type(table, stamp)
    if since.floor is None or until.as_of < since.as_of:
        return ""
    floor = datetime.fromisoformat(since.floor) - MARGINS[base]
    at = f"t.{quoted(stamp)}"
    # a time without zone was written in an unknown one: the margin covers all of them
    text = floor.isoformat() if base == "timestamptz" else _naive(floor)
    condition = f"{at} >= {literal(text)}::{base}"
    return f"({condition} or {at} is null)" if nullable else condition


def _naive(instant: datetime) -> str:
    return instant.replace(tzinfo=None).isoformat()


def stamp_type(table: Table, stamp: str) -> tuple[str, bool]:
    """Base type of the stamp's column, and whether it may be NULL.

    Raises:
        SourceError: missing, type.
    """
    name = ".".join(table.name)
    column = table.columns.get(stamp)
    if column is None:
        raise SourceError("missing", f"{name} has no column {stamp}")
    if column.base not in MARGINS:
        raise SourceError(
            "type", f"{name}.{stamp}: expected a timestamp, got {column.native}"
        )
    return column.base, column.nullable


def judge(since: Point, until: Point) -> None:
    """Refuse a frontier that this source cannot continue.

    Raises:
        FrontierLost: with its reason.
        SourceError: failed: a replica is behind the frontier; it will catch up.
    """
    if (since.system, since.database) != (until.system, until.database):
        raise FrontierLost(
            "other-source",
            f"cluster {since.system}, database {since.database} was read; this is"
            f" {until.system}, {until.database}",
        )
    if since.timeline != until.timeline:
        raise FrontierLost(
            "failover",
            f"time line {since.timeline} was read, this is {until.timeline}",
        )
    if until.xmin < since.xmin or until.lsn < since.lsn:
        went = f"xmin {since.xmin} -> {until.xmin}, log {since.lsn} -> {until.lsn}"
        if until.standby:
            raise SourceError("failed", f"the replica is behind the last run: {went}")
        raise FrontierLost("restored", f"the server went back: {went}")
    if until.xmax - since.xmin >= HALF_RING:
        raise FrontierLost(
            "too-old", f"{until.xmax - since.xmin} transactions since the last run"
        )
    if since.table != until.table:
        raise FrontierLost(
            "recreated", f"table {since.table} was read, this is {until.table}"
        )


def has_foreign_parts(db: psycopg.Connection[Any], table: Table) -> bool:
    """Whether a partition or child is a foreign table: its rows have no xmin."""
    found = db.execute(_FOREIGN.encode(), table.name).fetchone()
    return bool(found and found[0])


def increments(
    table: Table, stamp: str | None, *, foreign_parts: bool
) -> Increments | None:
    """What can be promised of a table: rows of views and foreign tables have no xmin.

    Raises:
        SourceError: missing, type: the stamp cannot be one.
    """
    if table.kind not in "rpm" or foreign_parts:
        return None
    if stamp is None:
        return Increments(METHOD)
    base, _ = stamp_type(table, stamp)
    hours = MARGINS[base] // timedelta(hours=1)
    return Increments(METHOD, (f"database-sets={stamp}", f"clock-steps<{hours}h"))
