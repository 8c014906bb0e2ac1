# SPDX-License-Identifier: Apache-2.0
"""How often the worker of a stream died in a row; SQL only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database


@dataclass(frozen=True)
class Deaths:
    """Workers of one stream that died in a row.

    Args:
        times: so many.
        detail: how the last one died.
        at: when, wire grammar.
    """

    times: int
    detail: str
    at: str


def known(db: Database, stream: int) -> Deaths | None:
    """Those since the last run that was read, or since a person came; None: none."""
    found = db.execute(
        "SELECT times, detail, at FROM deaths WHERE stream = ?", [stream]
    ).fetchone()
    return None if found is None else Deaths(*found)


def count(db: Database, stream: int, *, detail: str, at: str) -> Deaths:
    """One more."""
    db.execute(
        "INSERT INTO deaths (stream, times, detail, at) VALUES (?, 1, ?, ?)"
        " ON CONFLICT (stream) DO UPDATE SET times = times + 1,"
        " detail = excluded.detail, at = excluded.at",
        [stream, detail, at],
    )
    found = known(db, stream)
    return Deaths(1, detail, at) if found is None else found


def forget(db: Database, stream: int) -> None:
    """None any more."""
    db.execute("DELETE FROM deaths WHERE stream = ?", [stream])
