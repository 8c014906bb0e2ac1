# SPDX-License-Identifier: Apache-2.0
"""How the server feels: sessions at work, waits for locks, how far a standby is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import Finding, Health, Limits
from connectors.postgres.login import connection, our_errors
from connectors.sql import quoted

TIMEOUT_S = 5
"""A look that takes longer is itself a bad sign, seconds."""

_ASK = """
select
  count(*) filter (where state = 'active'),
  count(*) filter (where query = '<insufficient privilege>'),
  pg_catalog.current_setting('max_connections')::int,
  (select count(distinct pid) from pg_catalog.pg_locks where not granted),
  pg_catalog.pg_is_in_recovery(),
  case
    when not pg_catalog.pg_is_in_recovery()
      or pg_catalog.pg_last_wal_receive_lsn() is null then null
    when pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn()
      then 0
    else extract(epoch from pg_catalog.clock_timestamp()
      - pg_catalog.pg_last_xact_replay_timestamp())
  end::float8
from pg_catalog.pg_stat_activity
where datid is not null and usesysid is not null
  and pid <> pg_catalog.pg_backend_pid()
"""
"""Waits for locks and the place of a standby everybody may see; what sessions of others
do, only ``pg_read_all_stats``. A standby that is fed from an archive receives nothing:
how old its last transaction is says nothing where the primary is quiet."""


def health(config: Mapping[str, Any]) -> Health:
    """See the contract."""
    limits = Limits(statement_timeout_s=TIMEOUT_S, lock_timeout_s=TIMEOUT_S)
    with connection(config, limits) as db, our_errors():
        row = db.execute(_ASK.encode()).fetchone() or (0, 0, 1, 0, False, None)
    active, closed, most, waits, standby, lag = row
    hidden = ["busy"] if closed else []
    if standby and lag is None:
        hidden.append("replica_lag_s")
    return Health(
        busy=None if closed else active / max(most, 1),
        lock_waits=waits,
        replica_lag_s=None if lag is None else max(float(lag), 0.0),
        hidden=tuple(hidden),
    )


def hidden(config: Mapping[str, Any]) -> list[Finding]:
    """What the account does not see of that, with the right that it lacks."""
    if "busy" not in health(config).hidden:
        return []
    return [
        Finding(
            "health-hidden",
            "ok",
            "The account does not see what other sessions do, so reading does not slow"
            " down when the server is busy; it does for lock waits and replica lag",
            "该账号看不到其他会话的活动，服务器繁忙时无法据此放慢读取；锁等待与"
            "复制延迟仍会监测",
            f"GRANT pg_read_all_stats TO {quoted(str(config['user']))};",
        )
    ]
