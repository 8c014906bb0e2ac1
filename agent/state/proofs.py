# SPDX-License-Identifier: Apache-2.0
"""What proves what was sent: manifests, receipts, the centre's own count; SQL only."""

from __future__ import annotations

from sqlite_utils import Database

from agent.state import rows as row
from agent.state.records import Batch, Count, NewBatch, Place, Proof, StreamKey


def keep_line(db: Database, new: NewBatch) -> None:
    """Keep line 1 of a batch that is registered in the same transaction."""
    if new.line is not None:
        db.execute(
            "INSERT INTO manifests VALUES (?, ?, ?, ?)",
            [new.stream, new.head.epoch, new.head.seq + 1, new.line],
        )


def line(db: Database, stream: int, epoch: int, seq: int) -> str | None:
    """Line 1 of a batch, or None if it was not kept."""
    found = db.execute(
        "SELECT line FROM manifests WHERE stream = ? AND epoch = ? AND seq = ?",
        [stream, epoch, seq],
    ).fetchone()
    return None if found is None else str(found[0])


def proofs(
    db: Database, stream: int, *, since: str, after: Place, limit: int
) -> tuple[Proof, ...]:
    """Receipts that were signed since then, of the next batches, oldest first.

    Times of the wire sort as texts to the second; one with a fraction of the first
    second may be given though it is too early, none is left out.
    """
    found = db.execute(
        "SELECT r.*, m.line FROM receipts r"
        " JOIN (SELECT DISTINCT epoch, seq FROM receipts WHERE stream = ?1"
        "  AND substr(at, 1, 19) >= substr(?2, 1, 19) AND (epoch, seq) > (?3, ?4)"
        "  ORDER BY epoch, seq LIMIT ?5) b ON b.epoch = r.epoch AND b.seq = r.seq"
        " LEFT JOIN manifests m ON m.stream = r.stream"
        "  AND m.epoch = r.epoch AND m.seq = r.seq"
        " WHERE r.stream = ?1 AND substr(r.at, 1, 19) >= substr(?2, 1, 19)"
        " ORDER BY r.epoch, r.seq, r.rowid",
        [stream, since, *after, limit],
    )
    return tuple(Proof(row.kept_receipt(r), r["line"]) for r in row.many(found))


def vouchers(db: Database, after: int, limit: int) -> tuple[frozenset[str], int | None]:
    """Digests that the next receipts name, and where to go on, or None."""
    found = db.execute(
        "SELECT rowid, voucher FROM receipts WHERE rowid > ? ORDER BY rowid LIMIT ?",
        [after, limit],
    ).fetchall()
    more = int(found[-1][0]) if len(found) == limit else None
    return frozenset(str(v) for _, v in found if v is not None), more


def stream_of(db: Database, key: StreamKey) -> int | None:
    """Number of a stream that there is, though its resource may be gone."""
    found = db.execute(
        "SELECT id FROM streams WHERE producer = ? AND aud = ? AND resource = ?",
        [key.producer, key.aud, key.resource],
    ).fetchone()
    return None if found is None else int(found[0])


def resources(db: Database, producer: str, aud: str) -> tuple[str, ...]:
    """What was ever to be sent, in order of its code."""
    found = db.execute(
        "SELECT resource FROM streams WHERE producer = ? AND aud = ? ORDER BY resource",
        [producer, aud],
    )
    return tuple(str(r[0]) for r in found.fetchall())


def kept_files(
    db: Database, stream: int, *, after: Place, limit: int
) -> tuple[Batch, ...]:
    """Batches behind a place whose files must be there, in chain order.

    Those that were given up are about to go.
    """
    found = db.execute(
        "SELECT * FROM batches WHERE stream = ? AND (epoch, seq) > (?, ?)"
        " AND gone = 0 AND state <> 'dropped' ORDER BY epoch, seq LIMIT ?",
        [stream, *after, limit],
    )
    return tuple(row.batch(r) for r in row.many(found))


def offered(db: Database, stream: int, *, after: Place) -> tuple[Batch, ...]:
    """Batches behind a place that were not given up, in chain order."""
    found = db.execute(
        "SELECT * FROM batches WHERE stream = ? AND (epoch, seq) > (?, ?)"
        " AND state IN ('waiting', 'stored', 'loaded') ORDER BY epoch, seq",
        [stream, *after],
    )
    return tuple(row.batch(r) for r in row.many(found))


def sealed_since(
    db: Database, stream: int, *, since: str, limit: int
) -> tuple[Batch, ...]:
    """Batches that were sealed since then and not given up, in chain order."""
    found = db.execute(
        "SELECT * FROM batches WHERE stream = ?"
        " AND substr(sealed_at, 1, 19) >= substr(?, 1, 19)"
        " AND state IN ('waiting', 'stored', 'loaded')"
        " ORDER BY epoch, seq LIMIT ?",
        [stream, since, limit],
    )
    return tuple(row.batch(r) for r in row.many(found))


def wait_again(db: Database, stream: int, after: Place) -> int:
    """Let batches behind a place wait to be sent; how many did not wait already.

    A file that is gone stays settled: who calls has looked that none is.
    """
    changed = db.execute(
        "UPDATE batches SET state = 'waiting', settled_at = NULL WHERE stream = ?"
        " AND (epoch, seq) > (?, ?) AND state IN ('stored', 'loaded') AND gone = 0",
        [stream, *after],
    )
    return int(changed.rowcount)


def count(db: Database, stream: int) -> Count | None:
    """What the centre counted last, or None."""
    found = db.execute(
        "SELECT run, rows, at FROM counts WHERE stream = ?", [stream]
    ).fetchone()
    return None if found is None else Count(*found)


def keep_count(db: Database, stream: int, new: Count) -> None:
    """What the centre counted, in place of what was kept."""
    db.execute(
        "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?)",
        [stream, new.run, new.rows, new.at],
    )
