# SPDX-License-Identifier: Apache-2.0
"""Which commands of the exchange were taken: none is carried out twice; SQL only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from agent.state.again import each_once_more
from agent.state.database import Connection

_COLUMNS = "jti, digest, exp, status, code, at, bundle, told"


@dataclass(frozen=True)
class KeptCommand:
    """A command that was taken, or refused for good.

    Args:
        jti: its id.
        digest: its message digest.
        exp: NumericDate until which it was good.
        status: what became of it; None: it was begun.
        code: why it was not done, or None.
        at: when that was known, wire grammar, or None.
        bundle: digest of the bundle that was handed over, or None.
        told: whether the exchange has the result.
    """

    jti: str
    digest: str
    exp: int
    status: str | None = None
    code: str | None = None
    at: str | None = None
    bundle: str | None = None
    told: bool = False


@each_once_more
class Commands:
    """Commands in the state.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, found: KeptCommand) -> KeptCommand | None:
        """Put a command down; what was known of its ``jti``, None if nothing."""
        with self._connection.transaction() as db:
            known = _one(db, found.jti)
            if known is None:
                _put(db, found)
            return known

    def find(self, found: KeptCommand) -> KeptCommand | None:
        """What is known of its ``jti``, None if nothing."""
        with self._connection.transaction() as db:
            return _one(db, found.jti)

    def put(self, found: KeptCommand) -> None:
        """What became of a command."""
        with self._connection.transaction() as db:
            _put(db, found)

    def untold(self) -> tuple[KeptCommand, ...]:
        """Those whose result the exchange does not have, the oldest first."""
        with self._connection.transaction() as db:
            return _all(db, "WHERE told = 0 ORDER BY jti")

    def purge(self, before: int) -> None:
        """Forget those that were good until before this NumericDate."""
        with self._connection.transaction() as db:
            db.execute("DELETE FROM commands WHERE exp < ?", [before])


def _put(db: Database, found: KeptCommand) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO commands ({_COLUMNS})"  # noqa: S608 - our own text
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            found.jti,
            found.digest,
            found.exp,
            found.status,
            found.code,
            found.at,
            found.bundle,
            int(found.told),
        ],
    )


def _one(db: Database, jti: str) -> KeptCommand | None:
    rows = _all(db, "WHERE jti = ?", [jti])
    return rows[0] if rows else None


def _all(
    db: Database, rest: str, values: list[Any] | None = None
) -> tuple[KeptCommand, ...]:
    found = db.execute(f"SELECT {_COLUMNS} FROM commands {rest}", values or [])  # noqa: S608
    kept: list[KeptCommand] = []
    for jti, digest, exp, status, code, at, bundle, told in found.fetchall():
        end = (status, code, at, bundle)
        kept.append(KeptCommand(jti, digest, exp, *end, told=bool(told)))
    return tuple(kept)
