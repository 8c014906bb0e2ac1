# SPDX-License-Identifier: Apache-2.0
"""Where runs read, so that what waits can be judged after a restart, too; SQL only."""

from __future__ import annotations

from agent.model.place import Place
from agent.state.again import each_once_more
from agent.state.database import Connection


@each_once_more
class Places:
    """The place of each run.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, run: str) -> Place | None:
        """Where a run reads, or has read; None: nobody knows, or nowhere."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT place FROM runs WHERE id = ?", [run]).fetchone()
        if found is None or found[0] is None:
            return None
        return Place.from_text(found[0])

    def keep(self, run: str, place: Place) -> None:
        """A run is about to read there."""
        with self._connection.transaction() as db:
            db.execute("UPDATE runs SET place = ? WHERE id = ?", [place.as_text(), run])
