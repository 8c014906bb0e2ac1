# SPDX-License-Identifier: Apache-2.0
"""Which key chains of other nodes we have seen; SQL only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.state.database import Connection


@dataclass(frozen=True)
class Pin:
    """The chain of a node's key statements, as far as we know it.

    Args:
        node: whose it is.
        first: message digest of statement 1.
        n: so many statements.
        last: message digest of statement n.
        at: since when it is known so, wire grammar.
        alarm: digest of the foreign statement 1 that was told last, or None.
    """

    node: str
    first: str
    n: int
    last: str
    at: str
    alarm: str | None = None


class Pins:
    """What is known of other nodes, in the state.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[Pin, ...]:
        """Every node's."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT node, first, n, last, at, alarm FROM peers ORDER BY node"
            )
            return tuple(Pin(*row) for row in found.fetchall())

    def put(self, pins: Iterable[Pin]) -> None:
        """Remember these, in one transaction."""
        with self._connection.transaction() as db:
            for pin in pins:
                db.execute(
                    "INSERT OR REPLACE INTO peers (node, first, n, last, at, alarm)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    [pin.node, pin.first, pin.n, pin.last, pin.at, pin.alarm],
                )
