# SPDX-License-Identifier: Apache-2.0
"""Where an unfinished upload goes on after a restart; SQL only.

One place for each stream, as one batch of it is on its way at a time; that of the next
batch takes its place.
"""

from __future__ import annotations

from agent.model.batch import BatchId
from agent.state.again import each_once_more
from agent.state.database import Connection


@each_once_more
class Uploads:
    """Locations that the exchange gave.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, batch: BatchId) -> str | None:
        """Where an upload of this batch was begun, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT location FROM uploads WHERE producer = ? AND aud = ?"
                " AND resource = ? AND epoch = ? AND seq = ?",
                _values(batch),
            ).fetchone()
            return None if found is None else str(found[0])

    def keep(self, batch: BatchId, location: str) -> None:
        """An upload of this batch was begun there."""
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO uploads"
                " (producer, aud, resource, epoch, seq, location)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [*_values(batch), location],
            )


def _values(batch: BatchId) -> list[str | int]:
    return [batch.producer, batch.aud, batch.resource, batch.epoch, batch.seq]
