# SPDX-License-Identifier: Apache-2.0
"""What waits for the exchange of resources that nobody sends any more; SQL only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.state import cuts
from agent.state.again import each_once_more
from agent.state.database import Connection
from agent.state.records import Place


@dataclass(frozen=True)
class Leftover:
    """Batches of one stream that wait to be sent.

    Args:
        stream: number of the stream.
        resource: its code.
        batches: how many wait.
        size: bytes of their files.
        first: place of the first of them.
        last: place of the last.
    """

    stream: int
    resource: str
    batches: int
    size: int
    first: Place
    last: Place


@each_once_more
class Leftovers:
    """Batches of resources that are gone.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def waiting(
        self, producer: str, aud: str, *, known: Collection[str]
    ) -> tuple[Leftover, ...]:
        """What waits of all streams but those of known resources, by resource."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT s.id, s.resource, count(*), sum(b.size),"
                " min(b.epoch), min(b.seq), max(b.epoch), max(b.seq)"
                " FROM batches b JOIN streams s ON s.id = b.stream"
                # in just these words SQLite takes the index of what is open
                " WHERE b.state IN ('waiting', 'stored') AND b.state = 'waiting'"
                " AND s.producer = ? AND s.aud = ? GROUP BY s.id ORDER BY s.resource",
                [producer, aud],
            ).fetchall()
        gone = [r for r in found if r[1] not in known]
        return tuple(Leftover(*r[:4], (r[4], r[5]), (r[6], r[7])) for r in gone)

    def give_up(self, stream: int, *, at: str) -> None:
        """Drop what waits of a stream; if it ever comes back, it is read in full."""
        with self._connection.transaction() as db:
            cuts.forget(db, stream)
            db.execute(
                "UPDATE batches SET state = 'dropped', settled_at = ?"
                " WHERE stream = ? AND state = 'waiting'",
                [at, stream],
            )
