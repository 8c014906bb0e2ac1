# SPDX-License-Identifier: Apache-2.0
"""What stops streams, and why an epoch of theirs was begun; SQL only."""

from __future__ import annotations

from sqlite_utils import Database

from agent.state.records import Opened


def halt_all(db: Database, code: str, detail: str, at: str) -> None:
    """Every stream waits for a person; one that does already keeps its reason."""
    db.execute(
        "UPDATE streams SET halt_code = ?, halt_detail = ?, halt_at = ?"
        " WHERE halt_code IS NULL",
        [code, detail, at],
    )


def halt(db: Database, stream: int, code: str, detail: str, *, at: str) -> None:
    """One stream waits for a person; one that does already keeps its reason."""
    db.execute(
        "UPDATE streams SET halt_code = ?, halt_detail = ?, halt_at = ?"
        " WHERE id = ? AND halt_code IS NULL",
        [code, detail, at, stream],
    )


def opened(db: Database, stream: int, epoch: int) -> Opened | None:
    """Why and when an epoch was begun; None if there is no such epoch."""
    found = db.execute(
        "SELECT coalesce(nullif(cause, ''), reason), opened_at FROM epochs"
        " WHERE stream = ? AND epoch = ?",
        [stream, epoch],
    ).fetchone()
    return None if found is None else Opened(str(found[0]), str(found[1]))


def receipted(db: Database, stream: int) -> tuple[int, int]:
    """(epoch, seq) of the newest batch with a receipt, (0, 0) if there is none."""
    found = db.execute(
        "SELECT epoch, seq FROM receipts WHERE stream = ?"
        " ORDER BY epoch DESC, seq DESC LIMIT 1",
        [stream],
    ).fetchone()
    return (0, 0) if found is None else (int(found[0]), int(found[1]))
