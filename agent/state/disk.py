# SPDX-License-Identifier: Apache-2.0
"""How full the disk was from time to time; SQL only."""

from __future__ import annotations

from sqlite_utils import Database

from agent.state.records import DiskSample


def add(db: Database, sample: DiskSample, *, oldest: str) -> None:
    """Keep a sample, and none that is older than ``oldest``."""
    db.execute(
        "INSERT OR REPLACE INTO disk VALUES (?, ?, ?)",
        [sample.at, sample.free, sample.used],
    )
    db.execute("DELETE FROM disk WHERE at < ?", [oldest])


def samples(db: Database, since: str) -> tuple[DiskSample, ...]:
    """Samples from a moment on, oldest first."""
    found = db.execute("SELECT * FROM disk WHERE at >= ? ORDER BY at", [since])
    return tuple(DiskSample(*row) for row in found.fetchall())
