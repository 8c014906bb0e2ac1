# SPDX-License-Identifier: Apache-2.0
"""Batches that wait and were sealed anew under another key; SQL only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from agent.errors import ChainMoved
from agent.model.stream import Head
from agent.state.database import Connection
from agent.state.records import Epoch, Place


@dataclass(frozen=True)
class Resealed:
    """A batch as it waits now.

    Args:
        old: (epoch, seq) that it had.
        head: the head that it stands on now.
        line: its new line 1.
        digest: message digest of that.
        file: its new file, relative to ``out/``.
        size: of that, bytes.
        at: when it was sealed, wire grammar.
    """

    old: Place
    head: Head
    line: str
    digest: str
    file: str
    size: int
    at: str


class Rekeys:
    """Sealing anew, in the state.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def restate(self, stream: int, version: int, *, jws: str, digest: str) -> None:
        """A catalog statement that has not been sent is signed anew."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE catalogs SET jws = ?, digest = ?"
                " WHERE stream = ? AND version = ? AND sent_at IS NULL",
                [jws, digest, stream, version],
            )

    def sealed_anew(
        self, stream: int, epoch: Epoch, batches: Sequence[Resealed], *, on: Head
    ) -> None:
        """Begin an epoch with what waits; nothing else of the stream changes.

        Args:
            stream: its number.
            epoch: that is begun.
            batches: at least one, in chain order.
            on: the head of the stream before.

        Raises:
            ChainMoved: the stream, or a batch, is not as it was when they were sealed.
        """
        last = batches[-1]
        after = last.head.after(last.digest)
        with self._connection.transaction() as db:
            moved = db.execute(
                "UPDATE streams SET epoch = ?, seq = ?, prev = ?, incarnation = ?,"
                " reason = NULL WHERE id = ? AND halt_code IS NULL"
                " AND epoch = ? AND seq = ? AND prev IS ?",
                [
                    *(after.epoch, after.seq, after.prev, after.incarnation),
                    *(stream, on.epoch, on.seq, on.prev),
                ],
            )
            if moved.rowcount != 1:
                raise ChainMoved("the stream went on, or was halted, meanwhile")
            head = epoch.head
            db.execute(
                "INSERT INTO epochs (stream, epoch, reason, prev, incarnation,"
                " position, opened_at, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    *(stream, head.epoch, head.reason, head.prev, head.incarnation),
                    *(epoch.position, epoch.at, epoch.cause),
                ],
            )
            for new in batches:
                _move(db, stream, new)


def _move(db: Database, stream: int, new: Resealed) -> None:
    """A batch takes its place in the new epoch."""
    place = [new.head.epoch, new.head.seq + 1]
    db.execute(
        "DELETE FROM manifests WHERE stream = ? AND epoch = ? AND seq = ?",
        [stream, *new.old],
    )
    moved = db.execute(
        "UPDATE batches SET epoch = ?, seq = ?, digest = ?, file = ?, size = ?,"
        " sealed_at = ? WHERE stream = ? AND epoch = ? AND seq = ?"
        " AND state = 'waiting' AND gone = 0",
        [*place, new.digest, new.file, new.size, new.at, stream, *new.old],
    )
    if moved.rowcount != 1:
        raise ChainMoved(f"{new.file}: it waits no more")
    db.execute("INSERT INTO manifests VALUES (?, ?, ?, ?)", [stream, *place, new.line])
