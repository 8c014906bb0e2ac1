# SPDX-License-Identifier: Apache-2.0
"""The lookup side's own memory: the audit log, open requests, evidence, policies.

Rules

1. It has a file of its own, so that a push that commits never holds up a lookup.
2. Whatever must not be seen half is written in one :meth:`Ledger.writing` block, and
   any number of requests share a block: one transaction, one sync.
3. A leaf is never changed and never deleted. Requests go when their time has passed,
   evidence when its day is erased; what goes is overwritten, and :meth:`Ledger.fold`
   with ``emptied`` leaves none of it in the journal.
4. A reader takes a bounded page at a time, so that writers never wait for long.

All methods raise ``AuditWriteFailed`` when the disk refuses and ``AuditDamaged`` when
the database does not do what it must.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agent.state.database import Connection
from agent.state.ledger_schema import LEDGER

PAGE = 2_000
"""Most leaves that one read takes."""
GONE_AT_ONCE = 500
"""Most rows that one transaction deletes."""


@dataclass(frozen=True)
class KeptRequest:
    """A request that was begun.

    Args:
        iss: node that asked.
        jti: of the request.
        digest: its message digest.
        exp: when it ends, NumericDate.
        leaf: number of the record of its answer; None while there is none.
    """

    iss: str
    jti: str
    digest: str
    exp: int
    leaf: int | None = None


@dataclass(frozen=True)
class Tile:
    """256 neighbours of one level of the tree, 32 bytes each; full, so for ever.

    Args:
        level: tile level; its hashes are the tree's nodes of level 8 * ``level``.
        number: place in its level.
        hashes: 8,192 bytes.
    """

    level: int
    number: int
    hashes: bytes = field(repr=False)


@dataclass(frozen=True)
class KeptBox:
    """The evidence of one record, encrypted with its day's key."""

    leaf: int
    day: str
    box: bytes = field(repr=False)


@dataclass(frozen=True)
class KeptCheckpoint:
    """A signed head of the log.

    Args:
        size: leaves that it covers.
        at: when it was signed.
        note: the signed note.
        cosignatures: further signature lines of the note, each with its LF.
    """

    size: int
    at: str
    note: str
    cosignatures: str = ""


@dataclass(frozen=True)
class KeptPolicy:
    """A policy that was activated; ``leaf`` is the record of it."""

    rev: int
    digest: str
    text: str = field(repr=False)
    activated_at: str
    uid: int
    leaf: int


class Writing:
    """What one transaction does; made by :meth:`Ledger.writing`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add_leaves(self, leaves: Sequence[tuple[int, str]]) -> None:
        """Append lines under their numbers."""
        self._db.conn.executemany("INSERT INTO leaves VALUES (?, ?)", leaves)

    def add_tiles(self, tiles: Iterable[Tile]) -> None:
        """Keep tiles that are full now."""
        for tile in tiles:
            self._db.execute(
                "INSERT INTO tiles VALUES (?, ?, ?)",
                [tile.level, tile.number, tile.hashes],
            )

    def add_evidence(self, boxes: Sequence[KeptBox]) -> None:
        """Keep encrypted evidence."""
        self._db.conn.executemany(
            "INSERT INTO evidence VALUES (?, ?, ?)",
            [(b.leaf, b.day, b.box) for b in boxes],
        )

    def request(self, iss: str, jti: str) -> KeptRequest | None:
        """The request that was begun under these names."""
        found = self._db.execute(
            "SELECT * FROM requests WHERE iss = ? AND jti = ?", [iss, jti]
        ).fetchone()
        return None if found is None else KeptRequest(*found)

    def begin(self, request: KeptRequest) -> None:
        """Remember a request before anything is done for it."""
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, NULL)",
            [request.iss, request.jti, request.digest, request.exp],
        )

    def answer(self, iss: str, jti: str, *, leaf: int) -> None:
        """A request has its answer."""
        self._db.execute(
            "UPDATE requests SET leaf = ? WHERE iss = ? AND jti = ?", [leaf, iss, jti]
        )

    def box(self, leaf: int) -> KeptBox | None:
        """The evidence of a record."""
        return _box(self._db, leaf)

    def add_pushed(self, resource: str, epoch: int, seq: int, *, leaf: int) -> None:
        """The record of a batch that leaves."""
        self._db.execute(
            "INSERT INTO pushed VALUES (?, ?, ?, ?)", [resource, epoch, seq, leaf]
        )

    def pushed(self, resource: str, epoch: int, seq: int) -> bool:
        """Whether a batch has its record."""
        return _pushed(self._db, resource, epoch, seq)

    def newest_rev(self) -> int:
        """Number of the newest policy, 0 for none."""
        found = self._db.execute("SELECT max(rev) FROM policies").fetchone()[0]
        return int(found or 0)

    def add_policy(self, policy: KeptPolicy) -> None:
        """Keep a policy; the newest one is active."""
        self._db.execute(
            "INSERT INTO policies VALUES (?, ?, ?, ?, ?, ?)",
            [
                policy.rev,
                policy.digest,
                policy.text,
                policy.activated_at,
                policy.uid,
                policy.leaf,
            ],
        )

    def checkpoint_size(self) -> int:
        """Size of the newest signed head, 0 for none."""
        found = self._db.execute("SELECT max(size) FROM checkpoints").fetchone()[0]
        return int(found or 0)

    def add_checkpoint(self, checkpoint: KeptCheckpoint) -> None:
        """Keep a signed head."""
        self._db.execute(
            "INSERT INTO checkpoints VALUES (?, ?, ?, '')",
            [checkpoint.size, checkpoint.at, checkpoint.note],
        )

    def add_cosignature(self, size: int, line: str) -> None:
        """Add a signature line (with its LF) to the head of this size, once."""
        self._db.execute(
            "UPDATE checkpoints SET cosignatures = cosignatures || ?"
            " WHERE size = ? AND instr(cosignatures, ?) = 0",
            [line, size, line],
        )

    def add_erased(self, day: str, *, leaf: int) -> None:
        """A day's key must go; the record says so."""
        self._db.execute("INSERT INTO erased VALUES (?, ?)", [day, leaf])

    def erased(self, day: str) -> bool:
        """Whether a day's key must be gone."""
        return _erased(self._db, day)

    def boxes_of(self, day: str) -> int:
        """Records of a day that have evidence."""
        found = self._db.execute("SELECT count(*) FROM evidence WHERE day = ?", [day])
        return int(found.fetchone()[0])

    def forget_requests(self, before: int) -> int | None:
        """Delete some answered requests whose ``exp`` lies before.

        Returns:
            The latest ``exp`` of those that are gone, None if there were none.
        """
        oldest = "FROM requests WHERE exp < ? AND leaf IS NOT NULL ORDER BY exp LIMIT ?"
        bounds = [before, GONE_AT_ONCE]
        latest = self._db.execute(
            f"SELECT max(exp) FROM (SELECT exp {oldest})",  # noqa: S608 - our own text
            bounds,
        ).fetchone()[0]
        self._db.execute(
            f"DELETE FROM requests WHERE (iss, jti) IN (SELECT iss, jti {oldest})",  # noqa: S608
            bounds,
        )
        return None if latest is None else int(latest)

    def forget_boxes(self, day: str) -> int:
        """Delete some evidence of an erased day; how many."""
        found = self._db.execute(
            "DELETE FROM evidence WHERE leaf IN (SELECT leaf FROM evidence"
            " WHERE day = ? AND day IN (SELECT day FROM erased) LIMIT ?)",
            [day, GONE_AT_ONCE],
        )
        return int(found.rowcount)

    def meta(self, name: str) -> str | None:
        """A named value."""
        found = self._db.execute("SELECT value FROM meta WHERE name = ?", [name])
        row = found.fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Set a named value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, value])


class Ledger:
    """The ledger of one node.

    Args:
        path: the database file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = Connection(path, LEDGER)

    def close(self) -> None:
        """Close the database; the ledger cannot be used afterwards."""
        self._connection.close()

    def fold(self, *, emptied: bool = False) -> None:
        """Bring the write-ahead journal into the file; two syncs.

        Args:
            emptied: leave nothing of what was deleted in the journal.
        """
        self._connection.fold(emptied=emptied)

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """One transaction: durable when the block has ended, or undone."""
        with self._connection.transaction() as db:
            yield Writing(db)

    # --- the log ------------------------------------------------------------------

    def size(self) -> int:
        """Number of leaves."""
        with self._connection.transaction() as db:
            newest = db.execute("SELECT max(n) FROM leaves").fetchone()[0]
            return 0 if newest is None else int(newest) + 1

    def leaves(self, start: int, stop: int) -> tuple[str, ...]:
        """Lines ``start`` to ``stop``, at most :data:`PAGE` of them."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT line FROM leaves WHERE n >= ? AND n < ? ORDER BY n LIMIT ?",
                [start, stop, PAGE],
            )
            return tuple(str(r[0]) for r in found.fetchall())

    def tile(self, level: int, number: int) -> bytes | None:
        """The hashes of a full tile."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT hashes FROM tiles WHERE level = ? AND number = ?",
                [level, number],
            ).fetchone()
            return None if found is None else bytes(found[0])

    def clear_tiles(self) -> None:
        """Forget what is derived, to make it anew."""
        with self._connection.transaction() as db:
            db.execute("DELETE FROM tiles")

    def checkpoints(
        self, since: int = 0, *, most: int = PAGE
    ) -> tuple[KeptCheckpoint, ...]:
        """Signed heads of at least ``since`` leaves, smallest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM checkpoints WHERE size >= ? ORDER BY size LIMIT ?",
                [since, most],
            )
            return tuple(KeptCheckpoint(*r) for r in found.fetchall())

    def newest_checkpoint(self, *, cosigned: bool = False) -> KeptCheckpoint | None:
        """The newest signed head, or the newest that the witness signed too."""
        where = "WHERE cosignatures <> ''" if cosigned else ""
        with self._connection.transaction() as db:
            found = db.execute(
                f"SELECT * FROM checkpoints {where}"  # noqa: S608 - one of two texts
                " ORDER BY size DESC LIMIT 1"
            ).fetchone()
            return None if found is None else KeptCheckpoint(*found)

    def checkpoint_after(self, leaf: int) -> KeptCheckpoint | None:
        """The smallest head that covers a leaf; a cosigned one if there is any."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM checkpoints WHERE size > ?"
                " ORDER BY cosignatures = '', size LIMIT 1",
                [leaf],
            ).fetchone()
            return None if found is None else KeptCheckpoint(*found)

    # --- requests and evidence ----------------------------------------------------

    def open_requests(self) -> tuple[KeptRequest, ...]:
        """Requests that were begun and have no answer; looks at all that are kept."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM requests WHERE leaf IS NULL ORDER BY iss, jti"
            )
            return tuple(KeptRequest(*r) for r in found.fetchall())

    def box(self, leaf: int) -> KeptBox | None:
        """The evidence of a record."""
        with self._connection.transaction() as db:
            return _box(db, leaf)

    def days(self) -> tuple[str, ...]:
        """Days of which there is evidence, oldest first."""
        with self._connection.transaction() as db:
            found = db.execute(  # from day to day by the index, not row by row
                "WITH RECURSIVE days (day) AS (SELECT min(day) FROM evidence UNION ALL"
                " SELECT (SELECT min(day) FROM evidence e WHERE e.day > days.day)"
                " FROM days WHERE day IS NOT NULL)"
                " SELECT day FROM days WHERE day IS NOT NULL"
            )
            return tuple(str(r[0]) for r in found.fetchall())

    def erased_days(self) -> frozenset[str]:
        """Days whose key must be gone."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT day FROM erased").fetchall()
            return frozenset(str(r[0]) for r in found)

    # --- policies, batches, meta --------------------------------------------------

    def policies(self) -> tuple[KeptPolicy, ...]:
        """Every policy that was activated, newest first."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT * FROM policies ORDER BY rev DESC LIMIT 1000")
            return tuple(KeptPolicy(*r) for r in found.fetchall())

    def active_policy(self) -> KeptPolicy | None:
        """The policy that judges."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM policies ORDER BY rev DESC LIMIT 1"
            ).fetchone()
            return None if found is None else KeptPolicy(*found)

    def pushed(self, resource: str, epoch: int, seq: int) -> bool:
        """Whether a batch has its record."""
        with self._connection.transaction() as db:
            return _pushed(db, resource, epoch, seq)

    def meta(self, name: str, otherwise: str) -> str:
        """A named value; it is set if there is none."""
        with self._connection.transaction() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", [name, otherwise])
            found = db.execute("SELECT value FROM meta WHERE name = ?", [name])
            return str(found.fetchone()[0])


def _box(db: Database, leaf: int) -> KeptBox | None:
    found: Any = db.execute("SELECT * FROM evidence WHERE leaf = ?", [leaf]).fetchone()
    return None if found is None else KeptBox(*found)


def _pushed(db: Database, resource: str, epoch: int, seq: int) -> bool:
    found = db.execute(
        "SELECT 1 FROM pushed WHERE resource = ? AND epoch = ? AND seq = ?",
        [resource, epoch, seq],
    )
    return found.fetchone() is not None


def _erased(db: Database, day: str) -> bool:
    found = db.execute("SELECT 1 FROM erased WHERE day = ?", [day])
    return found.fetchone() is not None
