# SPDX-License-Identifier: Apache-2.0
"""What one transaction of the ledger writes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlite_utils import Database

from agent.state.ledger_records import (
    KeptBox,
    KeptCheckpoint,
    KeptPolicy,
    KeptRequest,
    Tile,
)

GONE_AT_ONCE = 500
"""Most rows that one transaction deletes."""
TOGETHER = 64
"""Most rows of one statement."""

_FIND = (
    "WITH names (i, j) AS (VALUES {})"
    " SELECT json_group_array(json_array(iss, jti, digest, exp, leaf))"
    " FROM names CROSS JOIN requests ON iss = i AND jti = j"
)
_ANSWER = (
    "WITH found (i, j, n) AS (VALUES {})"
    " UPDATE requests SET leaf = n FROM found WHERE iss = i AND jti = j"
)

Row = TypeVar("Row", bound=tuple[Any, ...])


class Writing:
    """What one transaction does; made by ``Ledger.writing``.

    Rows that lookups write are gathered: a transaction of many lookups has as few
    statements as one of a single lookup. (Python's SQLite lets go of the interpreter's
    lock in each step, and gets it back when the event loop next waits for something;
    with some statements for each lookup a busy loop starved the writer.)
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[tuple[str, str], KeptRequest | None] = {}
        self._begun: list[KeptRequest] = []
        self._answered: dict[tuple[str, str], int] = {}

    def add_leaves(self, leaves: Sequence[tuple[int, str]]) -> None:
        """Append lines under their numbers."""
        self._insert("leaves", leaves)

    def add_tiles(self, tiles: Iterable[Tile]) -> None:
        """Keep tiles that are full now."""
        self._insert("tiles", [(t.level, t.number, t.hashes) for t in tiles])

    def add_evidence(self, boxes: Sequence[KeptBox]) -> None:
        """Keep encrypted evidence."""
        self._insert("evidence", [(b.leaf, b.day, b.box) for b in boxes])

    def box(self, leaf: int) -> KeptBox | None:
        """The evidence of a record."""
        return box_of(self._db, leaf)

    # --- requests -----------------------------------------------------------------

    def look_up(self, names: Sequence[tuple[str, str]]) -> None:
        """Find the requests of these ``(iss, jti)`` at once, for :meth:`request`."""
        for part in _parts([name for name in names if name not in self._known]):
            rows, values = _values(part)
            found = self._db.execute(_FIND.format(rows), values).fetchone()[0]
            self._known |= dict.fromkeys(part)
            self._known |= {(k[0], k[1]): KeptRequest(*k) for k in json.loads(found)}

    def request(self, iss: str, jti: str) -> KeptRequest | None:
        """The request that was begun under these names."""
        if (iss, jti) not in self._known:
            self.look_up([(iss, jti)])
        return self._known[iss, jti]

    def begin(self, request: KeptRequest) -> None:
        """Remember a request before anything is done for it."""
        self._known[request.iss, request.jti] = request
        self._begun.append(request)

    def answer(self, iss: str, jti: str, *, leaf: int) -> None:
        """A request, which was begun, has its answer."""
        kept = self.request(iss, jti)
        if kept is not None:
            self._known[iss, jti] = replace(kept, leaf=leaf)
            self._answered[iss, jti] = leaf

    def flush(self) -> None:
        """Write what was gathered of requests; the end of the block does it."""
        begun, self._begun = self._begun, []
        answered, self._answered = self._answered, {}
        self._insert("requests", [(*_names(r), r.digest, r.exp, None) for r in begun])
        for part in _parts([(*name, leaf) for name, leaf in answered.items()]):
            rows, values = _values(part)
            self._db.execute(_ANSWER.format(rows), values)

    def _insert(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for part in _parts(rows):
            marks, values = _values(part)
            self._db.execute(f"INSERT INTO {table} VALUES {marks}", values)  # noqa: S608 - marks

    def add_pushed(self, resource: str, epoch: int, seq: int, *, leaf: int) -> None:
        """The record of a batch that leaves."""
        self._db.execute(
            "INSERT INTO pushed VALUES (?, ?, ?, ?)", [resource, epoch, seq, leaf]
        )

    def pushed(self, resource: str, epoch: int, seq: int) -> bool:
        """Whether a batch has its record."""
        return was_pushed(self._db, resource, epoch, seq)

    def left_as(self, resource: str, epoch: int, seq: int) -> str | None:
        """The record of a batch that left; None if no earlier transaction has it."""
        found = self._db.execute(
            "SELECT line FROM pushed JOIN leaves ON leaves.n = pushed.leaf"
            " WHERE resource = ? AND epoch = ? AND seq = ?",
            [resource, epoch, seq],
        ).fetchone()
        return None if found is None else str(found[0])

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
        return was_erased(self._db, day)

    def boxes_of(self, day: str) -> int:
        """Records of a day that have evidence."""
        found = self._db.execute("SELECT count(*) FROM evidence WHERE day = ?", [day])
        return int(found.fetchone()[0])

    def forget_requests(self, before: int) -> int | None:
        """Delete some answered requests whose ``exp`` lies before.

        Returns:
            The latest ``exp`` of those that are gone, None if there were none.
        """
        self.flush()
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


def box_of(db: Database, leaf: int) -> KeptBox | None:
    """The evidence of a record."""
    found: Any = db.execute("SELECT * FROM evidence WHERE leaf = ?", [leaf]).fetchone()
    return None if found is None else KeptBox(*found)


def was_pushed(db: Database, resource: str, epoch: int, seq: int) -> bool:
    """Whether a batch has its record."""
    found = db.execute(
        "SELECT 1 FROM pushed WHERE resource = ? AND epoch = ? AND seq = ?",
        [resource, epoch, seq],
    )
    return found.fetchone() is not None


def was_erased(db: Database, day: str) -> bool:
    """Whether a day's key must be gone."""
    found = db.execute("SELECT 1 FROM erased WHERE day = ?", [day])
    return found.fetchone() is not None


def _names(request: KeptRequest) -> tuple[str, str]:
    return request.iss, request.jti


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for at in range(0, len(rows), TOGETHER):
        yield rows[at : at + TOGETHER]


def _values(rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """``(?, ?), (?, ?)`` for the rows, and their values."""
    row = "(" + ", ".join("?" * len(rows[0])) + ")"
    return ", ".join([row] * len(rows)), [value for row in rows for value in row]
