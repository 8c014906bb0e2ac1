# SPDX-License-Identifier: Apache-2.0
"""How the server feels: threads at work, waits for row locks, how far a replica is.

What is asked first everybody may see. How far a replica is only a right tells (REPLICA
MONITOR, REPLICATION CLIENT), which is not asked for where nothing is replicated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymysql.connections import Connection
from pymysql.cursors import DictCursor

from connectors.contract import Finding, Health, Limits
from connectors.mysql.login import ServerError, connection, our_errors, rows

TIMEOUT_S = 5
"""A look that takes longer is itself a bad sign, seconds."""

_STATUS = (
    "show global status where variable_name in"
    " ('Threads_running', 'Innodb_row_lock_current_waits', 'Slave_running')"
)
_MOST = "select @@global.max_connections, @@global.read_only"
_REPLICA = ("show replica status", "show slave status")
_BEHIND = ("Seconds_Behind_Source", "Seconds_Behind_Master")

_SYNTAX = 1064
"""The server's number for a statement that it does not know."""


def health(config: Mapping[str, Any]) -> Health:
    """See the contract."""
    limits = Limits(statement_timeout_s=TIMEOUT_S, lock_timeout_s=TIMEOUT_S)
    with connection(config, limits) as db:
        told = {str(name).lower(): value for name, value in rows(db, _STATUS)}
        ((most, read_only),) = rows(db, _MOST)
        replica = told.get("slave_running") == "ON" or read_only not in ("0", "OFF")
        lag, seen = _lag(db) if replica else (None, True)
    running = int(told.get("threads_running") or 0) - 1  # this one
    waits = told.get("innodb_row_lock_current_waits")
    return Health(
        busy=max(running, 0) / max(int(most or 1), 1),
        lock_waits=None if waits is None else int(waits),
        replica_lag_s=lag,
        hidden=() if seen else ("replica_lag_s",),
    )


def _lag(db: Connection[Any]) -> tuple[float | None, bool]:
    """Seconds behind, the worst of all lines; and whether we may see them."""
    for statement in _REPLICA:
        try:
            with our_errors(), db.cursor(DictCursor) as cursor:
                cursor.execute(statement)
                lines = cursor.fetchall()
        except ServerError as e:
            if e.code == _SYNTAX:
                continue  # an older server calls it by its older name
            if e.kind == "right":
                return None, False
            raise
        values = [line.get(name) for line in lines for name in _BEHIND if name in line]
        behind = [float(v) for v in values if v is not None]
        return (max(behind) if behind else None), True
    return None, True


def hidden(config: Mapping[str, Any], account: str) -> list[Finding]:
    """What the account does not see of that, with the right that it lacks."""
    if not health(config).hidden:
        return []
    return [
        Finding(
            "health-hidden",
            "ok",
            "The account does not see how far this replica is behind, so reading does"
            " not slow down for it",
            "该账号看不到本副本的复制延迟，因此无法据此放慢读取",
            f"GRANT SLAVE MONITOR ON *.* TO {account};"
            f" -- MySQL: GRANT REPLICATION CLIENT ON *.* TO {account};",
        )
    ]
