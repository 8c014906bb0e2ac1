# SPDX-License-Identifier: Apache-2.0
"""Which rows changed since an earlier frontier: by a time that the database sets.

Rules

1. The stream has a column that the database sets to its clock with every insert and
   update (``DEFAULT`` and ``ON UPDATE CURRENT_TIMESTAMP``). Its value is the start of
   the statement, which may be long before the row can be seen.
2. So a frontier is the earliest moment that any row may still bear which the snapshot
   does not see: the oldest start of a transaction (``innodb_trx``) and of a running
   statement (one that waits for a lock has no transaction yet), less a margin. They are
   asked for before the snapshot is taken, statements first: what runs in between is
   seen in one of the two.
3. The server may answer from a copy of ``innodb_trx`` that is a tenth of a second old,
   or much older if somebody asks all the time. Our own transaction must be in it.
4. An increment is every row of the snapshot with a time from the last frontier on. Rows
   of the last seconds come again with the next one. So do rows without a time: MySQL
   (seen in 9.7) leaves an INVISIBLE column at ``0000-00-00`` where an INSERT names no
   columns.
5. Without the right PROCESS nobody tells about transactions: then they are assumed to
   end within ``BLIND_S``, and that is said.
6. A table whose definition was written anew (restored, altered), another server, a log
   that went back, a clock that went back or changed its zone: not to be continued.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from pymysql.connections import Connection

from connectors.contract import Frontier, FrontierLost, Increments, SourceError
from connectors.mysql.catalog import Column, Table, quoted
from connectors.mysql.login import ServerError, our_errors, rows
from connectors.sql import literal

METHOD = "clamp"

MARGIN_S = 5
"""Rounding of starts (2 s) and small steps of the server's clock."""

BLIND_S = 600
"""How long a transaction may be open where nobody tells."""

REPLICA_S = 600
"""How far a replica may be behind: its rows bear the primary's times."""

PREPARED_S = 86_400
"""How much older than it looks a transaction may be that was prepared (XA)."""

UNSET = "1970-01-02 00:00:00"
"""A time before this is none that the database has set."""

TRIES = 40
_PAUSE_S = 0.11
"""``innodb_trx`` is not renewed more often than every 0.1 s."""

_QUARTER_S = 900
"""Zones differ by quarters of an hour."""

_THREADS = """
select id, time from information_schema.processlist
where id <> connection_id() and command not in ('Sleep', 'Daemon', 'Binlog Dump',
  'Binlog Dump GTID', 'Slave_IO', 'Slave_SQL', 'Slave_worker', 'Connect')
"""

_TRANSACTIONS = """
select trx_mysql_thread_id, trx_started, connection_id(),
  trx_is_read_only or trx_autocommit_non_locking
from information_schema.innodb_trx
"""

_ASK = """
select @@global.read_only, version(),
  timestampdiff(second, utc_timestamp(), convert_tz(utc_timestamp(), '+00:00',
    @@global.time_zone))
"""

_IDENTITY = "show global variables where variable_name in ('server_uuid', 'server_uid')"
_CLUSTER = "show global variables where variable_name = 'wsrep_on'"

_REPLICATION = """
select count(*) from information_schema.processlist
where command like 'Slave%' or (user = 'system user' and command <> 'Daemon')
"""
"""Threads that bring rows of another server; a replica need not be read only."""

_RUNNING = """
show global status where variable_name in ('Slave_running', 'Slaves_running')
"""
"""Everybody is told this, but not by MySQL 8."""

_LOG = """
show global status where variable_name in
  ('Innodb_lsn_current', 'Innodb_redo_log_current_lsn')
"""


@dataclass(frozen=True)
class Activity:
    """What the server was doing before a snapshot.

    Args:
        now: its clock, UTC.
        oldest: start of the oldest statement or transaction that may write, UTC, or
            None if there is none.
        told: the account may see transactions.
        prepared: a transaction has no session any more (XA PREPARE).
        replica: the server is written to by another one.
        offset_s: of its zone from UTC.
        server: its identity, or ``""``.
        log: place in its log, or None.
    """

    now: datetime
    oldest: datetime | None
    told: bool
    prepared: bool
    replica: bool
    offset_s: int
    server: str
    log: int | None


@dataclass(frozen=True)
class Point:
    """A frontier's value.

    Args:
        at: earliest time that a row may bear which was not read, UTC.
        now: the server's clock, UTC.
        offset_s: of its zone from UTC.
        server: its identity, or ``""``.
        log: place in its log, or None.
        made: when the table's definition was written, or None.
        stamp: the column, or None.
    """

    at: str
    now: str
    offset_s: int
    server: str
    log: int | None
    made: int | None
    stamp: str | None

    def text(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)


def parsed(value: str) -> Point:
    """The frontier that was stored.

    Raises:
        FrontierLost: unreadable.
    """
    try:
        point = Point(**json.loads(value))
        datetime.fromisoformat(point.at)
        datetime.fromisoformat(point.now)
    except (ValueError, TypeError) as e:
        raise FrontierLost("unreadable", "the stored frontier cannot be read") from e
    return point


def activity(
    db: Connection[Any], *, sleep: Callable[[float], None] = time.sleep
) -> Activity:
    """What is going on; to be asked on a connection of its own before a snapshot.

    Raises:
        SourceError: the server does not tell; but without PROCESS ``told`` is false.
    """
    with our_errors():
        now = _instant(rows(db, "select utc_timestamp(6)")[0][0])
        (read_only, _, offset) = rows(db, _ASK)[0]
        written = read_only not in ("0", "OFF") or _written_elsewhere(db)
        server = rows(db, _IDENTITY)
        log = rows(db, _LOG)
        threads = rows(db, _THREADS)
    try:
        with our_errors():
            transactions = _transactions(db, sleep)
    except ServerError as e:
        if e.kind != "right":
            raise
        transactions = None
    oldest, prepared = None, False
    if transactions is not None:
        oldest, prepared = _oldest(now, threads, transactions)
    return Activity(
        now=now,
        oldest=oldest,
        told=transactions is not None,
        prepared=prepared,
        replica=written,
        offset_s=int(float(offset or 0)),
        server=str(server[0][1]) if server else "",
        log=int(str(log[0][1])) if log and log[0][1] else None,
    )


def _written_elsewhere(db: Connection[Any]) -> bool:
    """Whether rows come from another server although this one may be written to."""
    told = [*rows(db, _CLUSTER), *rows(db, _RUNNING)]
    ((threads,),) = rows(db, _REPLICATION)
    return threads != "0" or any(r[1] not in ("OFF", "0", "") for r in told)


def _transactions(
    db: Connection[Any], sleep: Callable[[float], None]
) -> list[tuple[str | None, ...]]:
    """A list of open transactions that is not older than this call.

    Raises:
        pymysql.err.Error: the account may not ask.
        SourceError: failed: the server's copy is not renewed.
    """
    for _ in range(TRIES):
        rows(db, "start transaction with consistent snapshot, read only")
        found = rows(db, _TRANSACTIONS)
        rows(db, "commit")
        if any(r[0] == r[2] for r in found):
            return found
        sleep(_PAUSE_S)
    raise SourceError("failed", "information_schema.innodb_trx is not renewed")


def _oldest(
    now: datetime,
    threads: Sequence[tuple[str | None, ...]],
    transactions: Sequence[tuple[str | None, ...]],
) -> tuple[datetime | None, bool]:
    """The earliest start among those that may write, and whether one is prepared."""
    (own,) = (r for r in transactions if r[0] == r[2])
    # starts are in the server's system zone: our own tells which it is
    shift = round((_instant(own[1]) - now).total_seconds() / _QUARTER_S) * _QUARTER_S
    readers = {r[0] for r in transactions if r[3] == "1"}
    writers = [r for r in transactions if r[3] != "1"]
    starts = [_instant(r[1]) - timedelta(seconds=shift) for r in writers]
    starts += [
        now - timedelta(seconds=float(t[1] or 0) + 1)
        for t in threads
        if t[0] not in readers
    ]
    return min(starts, default=None), any(r[0] == "0" for r in writers)


def _instant(text: str | None) -> datetime:
    return datetime.fromisoformat(str(text))


def oldest_start(found: Activity) -> str | None:
    """An instant before which no writer began that is open from now on, or None."""
    if not found.told or found.prepared or found.replica:
        return None
    start = found.now if found.oldest is None else min(found.now, found.oldest)
    start -= timedelta(seconds=MARGIN_S)
    return start.isoformat() + "+00:00"


def clock(db: Connection[Any]) -> str:
    """The server's clock, ISO 8601 in UTC."""
    with our_errors():
        return (
            _instant(rows(db, "select utc_timestamp(6)")[0][0]).isoformat() + "+00:00"
        )


def point_of(found: Activity, table: Table | None, stamp: str | None) -> Point:
    """The frontier of a stream.

    Args:
        found: what was going on before the snapshot.
        table: the stream's, or None if there is none.
        stamp: the column that increments go by, or None.
    """
    back = MARGIN_S
    if not found.told:
        back += BLIND_S
    if found.replica:
        back += REPLICA_S
    if found.prepared:
        back += PREPARED_S
    start = found.now if found.oldest is None else min(found.now, found.oldest)
    at = start - timedelta(seconds=back)
    return Point(
        at=at.isoformat(" "),
        now=found.now.isoformat(" "),
        offset_s=found.offset_s,
        server=found.server,
        log=found.log,
        made=table.made if table else None,
        stamp=stamp,
    )


def frontier_of(point: Point, name: str) -> Frontier:
    """The contract's frontier."""
    as_of = point.now.replace(" ", "T") + "Z"
    return Frontier(point.text(), as_of, f"{name}: times from {point.at} on, UTC")


def stamp_of(table: Table, named: str | None) -> Column | None:
    """The column that increments go by: as named, else the one that qualifies.

    Raises:
        SourceError: missing, type: what was named cannot be one.
    """
    if named is None:
        kept = [c for c in table.columns.values() if c.kept]
        return kept[0] if len(kept) == 1 else None
    column = table.columns.get(named)
    if column is None:
        raise SourceError("missing", f"{'.'.join(table.name)} has no column {named}")
    if column.base not in ("timestamp", "datetime"):
        raise SourceError(
            "type",
            f"{'.'.join(table.name)}.{named}: expected a timestamp, got"
            f" {column.native}",
        )
    return column


def increments(
    table: Table, stamp: Column | None, found: Activity
) -> Increments | None:
    """What can be promised of a table, and on which assumptions."""
    if stamp is None or not table.transactional:
        return None
    assumes = [f"database-sets={stamp.name}", f"clock-steps<{MARGIN_S - 2}s"]
    if stamp.base == "datetime":
        assumes.append("writers-zone=server")
    if not found.told:
        assumes.append(f"max-transaction={BLIND_S}s")
    if found.replica:
        assumes.append(f"replica-lag<{REPLICA_S}s")
    if found.prepared:
        assumes.append(f"xa-prepared<{PREPARED_S}s")
    return Increments(METHOD, tuple(assumes))


def condition(stamp: Column, since: Point) -> str:
    """What rows of an increment fulfil."""
    at = _instant(since.at)
    if stamp.base == "datetime":
        at += timedelta(seconds=since.offset_s)
    column = f"t.{quoted(stamp.name)}"
    found = f"{column} >= {literal(at.replace(microsecond=0).isoformat(' '))}"
    found += f" or {column} < {literal(UNSET)}"
    return f"{found} or {column} is null" if stamp.nullable else found


def judge(since: Point, until: Point) -> None:
    """Refuse a frontier that this source cannot continue.

    Raises:
        FrontierLost: with its reason.
    """
    if since.server != until.server:
        raise FrontierLost(
            "other-source", f"server {since.server!r} was read, not {until.server!r}"
        )
    if until.log is not None and since.log is not None and until.log < since.log:
        raise FrontierLost("restored", f"the log went back: {since.log} -> {until.log}")
    if since.made != until.made:
        raise FrontierLost("recreated", "the table's definition was written anew")
    if since.stamp != until.stamp:
        raise FrontierLost(
            "rebound", f"increments went by {since.stamp}, now by {until.stamp}"
        )
    if until.now < since.now:
        raise FrontierLost("clock", f"it was {since.now}, now it is {until.now}")
    if since.offset_s != until.offset_s:
        raise FrontierLost(
            "clock",
            f"the zone was {since.offset_s} s from UTC, now it is {until.offset_s} s",
        )
