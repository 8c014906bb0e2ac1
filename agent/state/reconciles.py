# SPDX-License-Identifier: Apache-2.0
"""What comparisons with the centre found, and which resources are recalled; SQL only.

A recall stands from the moment at which a person confirms it: from then on nothing of
the resource is read, whatever becomes of the run. It ends when a person resumes the
resource. What the exchange signed of it stays with its run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from agent.model.job import Compared
from agent.state import rows as row
from agent.state.again import each_once_more
from agent.state.database import Connection
from agent.state.records import Run, RunState

_ALONE = "kind = 'compare'"
_QUIET = (
    "(kind = 'compare' OR kind = 'reconcile' AND state <> 'held')"
    " AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.run = runs.id)"
)


@dataclass(frozen=True)
class KeptComparison:
    """What a run found.

    Args:
        run: that compared.
        at: when, wire grammar.
        found: how many rows differ, and how.
    """

    run: str
    at: str
    found: Compared


@dataclass(frozen=True)
class KeptRecall:
    """A resource that is recalled.

    Args:
        run: that deletes, or the one that it began as.
        rows: that a person agreed to delete.
        at: when that was, wire grammar.
        proven_at: when the exchange signed that it has no rows of it, or None.
    """

    run: str
    rows: int
    at: str
    proven_at: str | None = None


@each_once_more
class Reconciles:
    """Comparisons and recalls in the state.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- comparisons ----------------------------------------------------------------

    def ask(self, run: str, stream: int, *, report: str | None) -> None:
        """A comparison is wanted, and its keys in a file of that name or in none."""
        with self._connection.transaction() as db:
            db.execute(
                "INSERT INTO reconciles (run, stream, report) VALUES (?, ?, ?)",
                [run, stream, report],
            )

    def report(self, run: str) -> str | None:
        """Name of the file that was asked for with a run, or with one it repeats."""
        with self._connection.transaction() as db:
            found = db.execute(
                "WITH RECURSIVE asked (run) AS (SELECT ?1 UNION SELECT r.id FROM runs r"
                " JOIN asked a ON r.successor = a.run)"
                " SELECT c.report FROM reconciles c JOIN asked a ON a.run = c.run"
                " WHERE c.report IS NOT NULL LIMIT 1",
                [run],
            ).fetchone()
            return None if found is None else str(found[0])

    def keep(
        self, stream: int, kept: KeptComparison, *, reply: str | None = None
    ) -> None:
        """What a run found; ``reply`` is a message of the exchange to be kept."""
        body = json.dumps(asdict(kept.found))
        with self._connection.transaction() as db:
            db.execute(
                "INSERT INTO reconciles (run, stream, at, found, reply)"
                " VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (run) DO UPDATE"
                " SET at = ?3, found = ?4, reply = ?5",
                [kept.run, stream, kept.at, body, reply],
            )

    def last(self, stream: int) -> KeptComparison | None:
        """The newest comparison of a stream that came to an end, or None."""
        return self._kept("stream = ? ORDER BY rowid DESC LIMIT 1", stream)

    def standing(self, stream: int, states: Sequence[RunState] = ()) -> Run | None:
        """The newest run that says how a stream stands, of these states if any.

        A comparison that sent nothing leaves everything as it was, also a hold: it is
        passed over. Only a hold of a comparison ends with a later one.
        """
        found = self._newest(stream, states, _QUIET)
        if found is not None and found.kind == "reconcile":
            return self._newest(stream, states, _ALONE)
        return found

    def _newest(self, stream: int, states: Sequence[RunState], but: str) -> Run | None:
        marks = ", ".join("?" * len(states))
        wanted = f" AND state IN ({marks})" if states else ""
        with self._connection.transaction() as db:
            found = db.execute(
                # Only question marks and the constants below are put in.
                f"SELECT * FROM runs WHERE stream = ?{wanted}"  # noqa: S608
                f" AND NOT ({but}) ORDER BY rowid DESC LIMIT 1",
                [stream, *states],
            )
            records = row.many(found)
            return row.run(records[0]) if records else None

    def of(self, run: str) -> KeptComparison | None:
        """What a run found, or None."""
        return self._kept("run = ?", run)

    def _kept(self, where: str, value: int | str) -> KeptComparison | None:
        with self._connection.transaction() as db:
            found = db.execute(
                # Only the constants above are put in.
                "SELECT run, at, found FROM reconciles"  # noqa: S608
                f" WHERE found IS NOT NULL AND {where}",
                [value],
            ).fetchone()
        if found is None:
            return None
        run, at, body = found
        return KeptComparison(run, at, Compared(**json.loads(body)))

    # --- recalls --------------------------------------------------------------------

    def held_recall(self, stream: int) -> tuple[str, int] | None:
        """The newest run that was to recall, if it is held, and its keys."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT id, state, keys_gone FROM runs"
                " WHERE stream = ? AND kind = 'recall' ORDER BY rowid DESC LIMIT 1",
                [stream],
            ).fetchone()
        if found is None or found[1] != "held" or found[2] is None:
            return None
        return str(found[0]), int(found[2])

    def recall(self, stream: int) -> KeptRecall | None:
        """The recall of a stream, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT run, rows, at, proven_at FROM recalls WHERE stream = ?",
                [stream],
            ).fetchone()
            return None if found is None else KeptRecall(*found)

    def begin_recall(self, stream: int, recall: KeptRecall) -> None:
        """From now on the resource is recalled; what the centre counted is over."""
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO recalls (stream, run, rows, at)"
                " VALUES (?, ?, ?, ?)",
                [stream, recall.run, recall.rows, recall.at],
            )
            db.execute("DELETE FROM counts WHERE stream = ?", [stream])

    def prove_recall(self, stream: int, *, at: str) -> None:
        """The exchange signed that it has no rows of the resource."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE recalls SET proven_at = ? WHERE stream = ?", [at, stream]
            )

    def end_recall(self, stream: int) -> None:
        """The resource may be read again."""
        with self._connection.transaction() as db:
            db.execute("DELETE FROM recalls WHERE stream = ?", [stream])
