# SPDX-License-Identifier: Apache-2.0
"""Numbers for heartbeats: none is given out twice, whatever the daemon's end was."""

from __future__ import annotations

from agent.state.database import Connection

BLOCK = 1000
"""So many are made durable at a time: a beat costs no sync of the disk."""


class Beats:
    """Gives numbers that grow as long as the state lives.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next = 1
        self._end = 1  # the first number that is not reserved

    def next(self) -> int:
        """The next number; after a restart it begins behind the last reserved one.

        Raises:
            SpoolWriteFailed: a new block could not be made durable.
        """
        if self._next >= self._end:
            self._next = self._reserve()
            self._end = self._next + BLOCK
        self._next += 1
        return self._next - 1

    def _reserve(self) -> int:
        with self._connection.transaction() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES ('beats', '0')")
            found = db.execute("SELECT value FROM meta WHERE name = 'beats'").fetchone()
            last = int(found[0])
            db.execute(
                "UPDATE meta SET value = ? WHERE name = 'beats'", [str(last + BLOCK)]
            )
        return last + 1
