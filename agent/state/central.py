# SPDX-License-Identifier: Apache-2.0
"""What is remembered of the centre's configuration, and what became of it; SQL only."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlite_utils import Database

from agent.state.again import each_once_more
from agent.state.database import Connection

KEPT = 500
"""So many entries of the history stay."""


@dataclass(frozen=True)
class Turn:
    """Something that became of a configuration of the centre.

    Args:
        at: when, wire grammar.
        what: ``applied``, ``good``, ``reverted``, ``refused``, ``held``, ``released``.
        generation: of the overlay, 0 if there is none.
        digest: of the overlay, empty if there is none.
        reason: code of the error, empty if nothing was wrong.
        detail: of the error.
    """

    at: str
    what: str
    generation: int = 0
    digest: str = ""
    reason: str = ""
    detail: str = ""


@each_once_more
class CentralRows:
    """Named values, and the history.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, name: str) -> Any:
        """The JSON value of a name, None if there is none."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT value FROM central WHERE name = ?", [name]
            ).fetchone()
            return None if found is None else json.loads(found[0])

    def keep(self, name: str, value: object, *turns: Turn) -> None:
        """Remember a JSON value, None to forget it, and what happened; together."""
        with self._connection.transaction() as db:
            if value is None:
                db.execute("DELETE FROM central WHERE name = ?", [name])
            else:
                db.execute(
                    "INSERT OR REPLACE INTO central (name, value) VALUES (?, ?)",
                    [name, json.dumps(value, sort_keys=True)],
                )
            _note(db, turns)

    def note(self, *turns: Turn) -> None:
        """Remember what happened."""
        with self._connection.transaction() as db:
            _note(db, turns)

    def raise_floor(self, generation: int) -> int:
        """The highest generation that was ever wanted, this one counted; durable."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT value FROM central WHERE name = 'floor'"
            ).fetchone()
            floor = 0 if found is None else int(found[0])
            if generation > floor:
                floor = generation
                db.execute(
                    "INSERT OR REPLACE INTO central (name, value) VALUES ('floor', ?)",
                    [str(floor)],
                )
            return floor

    def turns(self, limit: int) -> tuple[Turn, ...]:
        """What happened, the newest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT at, what, generation, digest, reason, detail"
                " FROM central_turns ORDER BY n DESC LIMIT ?",
                [limit],
            )
            return tuple(Turn(*row) for row in found.fetchall())


def _note(db: Database, turns: Iterable[Turn]) -> None:
    for turn in turns:
        db.execute(
            "INSERT INTO central_turns (at, what, generation, digest, reason, detail)"
            " VALUES (:at, :what, :generation, :digest, :reason, :detail)",
            asdict(turn),
        )
    db.execute(
        "DELETE FROM central_turns WHERE n <= (SELECT max(n) FROM central_turns) - ?",
        [KEPT],
    )
