# SPDX-License-Identifier: Apache-2.0
"""What is left of resources that nobody sends any more; SQL only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlite_utils import Database

from agent.state import cuts
from agent.state import rows as row
from agent.state.again import each_once_more
from agent.state.database import Connection
from agent.state.records import Catalog, Place


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
            streams = db.execute(
                "SELECT id, resource FROM streams WHERE producer = ? AND aud = ?"
                " ORDER BY resource",
                [producer, aud],
            ).fetchall()
            gone = [_waiting(db, *found) for found in streams if found[1] not in known]
        return tuple(found for found in gone if found is not None)

    def give_up(self, stream: int, *, at: str) -> None:
        """Drop what waits of a stream; if it ever comes back, it is read in full."""
        with self._connection.transaction() as db:
            cuts.forget(db, stream)
            db.execute(
                "UPDATE batches SET state = 'dropped', settled_at = ?"
                " WHERE stream = ? AND state = 'waiting'",
                [at, stream],
            )

    def newest_sent(self, stream: int) -> Catalog | None:
        """The newest statement of a stream that the exchange has taken, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM catalogs WHERE stream = ? AND sent_at IS NOT NULL"
                " ORDER BY version DESC LIMIT 1",
                [stream],
            )
            records = row.many(found)
            return row.catalog(records[0]) if records else None

    def recalled(self, producer: str, aud: str) -> tuple[str, ...]:
        """Resources whose recall stands, in order of their code."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT s.resource FROM recalls r JOIN streams s ON s.id = r.stream"
                " WHERE s.producer = ? AND s.aud = ? ORDER BY s.resource",
                [producer, aud],
            ).fetchall()
            return tuple(str(r[0]) for r in found)


def _waiting(db: Database, stream: int, resource: str) -> Leftover | None:
    found = db.execute(
        # "state IN ('waiting', 'stored')": SQLite takes the index of what is open
        "SELECT epoch, seq, size FROM batches WHERE stream = ? AND state = 'waiting'"
        " AND state IN ('waiting', 'stored') ORDER BY epoch, seq",
        [stream],
    ).fetchall()
    if not found:
        return None
    first, last = found[0], found[-1]
    return Leftover(
        stream=stream,
        resource=resource,
        batches=len(found),
        size=sum(size for _, _, size in found),
        first=(first[0], first[1]),
        last=(last[0], last[1]),
    )
