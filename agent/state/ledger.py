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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from agent.state.database import Connection
from agent.state.ledger_records import KeptBox, KeptCheckpoint, KeptPolicy, KeptRequest
from agent.state.ledger_schema import LEDGER
from agent.state.ledger_writing import Writing, box_of, was_pushed

T = TypeVar("T")

PAGE = 2_000
"""Most leaves that one read takes."""


class Ledger:
    """The ledger of one node.

    Args:
        path: the database file; made if it is not there.
        before: called before each transaction; may make room on the disk.
        full: called after one that the full disk refused; makes what room it can.
    """

    def __init__(
        self,
        path: Path,
        *,
        before: Callable[[], None] = lambda: None,
        full: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._connection = Connection(path, LEDGER, before=before, full=full)

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
            tx = Writing(db)
            yield tx
            tx.flush()

    def once_more(self, work: Callable[[], T]) -> T:
        """Do work of one :meth:`writing` block, twice if the full disk refused it.

        See ``Connection.once_more``: the first time was undone then.
        """
        return self._connection.once_more(work)

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
            return box_of(db, leaf)

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
            return was_pushed(db, resource, epoch, seq)

    def meta(self, name: str, otherwise: str) -> str:
        """A named value; it is set if there is none."""
        with self._connection.transaction() as db:
            db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", [name, otherwise])
            found = db.execute("SELECT value FROM meta WHERE name = ?", [name])
            return str(found.fetchone()[0])
