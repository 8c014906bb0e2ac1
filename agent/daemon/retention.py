# SPDX-License-Identifier: Apache-2.0
"""What stays on this machine's disk, for how long, and how much it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.settings import Settings

HOUR_S, DAY_S = 3600.0, 86_400.0


def table(found: Settings, *, spool: int) -> list[dict[str, Any]]:
    """One object for each kind of thing; ``keep_s`` null: for ever, or not ours.

    Args:
        found: the settings of now.
        spool: bytes of batch files.

    ``setting`` names what says how long; ``bytes`` is null where nobody counts.
    """
    keep, paths = found.keep, found.paths
    rows: tuple[tuple[str, str | None, float | None, int | None], ...] = (
        ("loaded", "keep.loaded_hours", keep.loaded_hours * HOUR_S, spool),
        ("stored", "keep.stored_days", keep.stored_days * DAY_S, None),
        ("receipts", None, None, _size(paths.database)),
        (
            "quarantine",
            "keep.quarantine_days",
            keep.quarantine_days * DAY_S,
            _size(paths.quarantine),
        ),
        (
            "evidence",
            "keep.evidence_days",
            keep.evidence_days * DAY_S,
            _size(paths.ledger),
        ),
        ("log", None, None, None),
    )
    names = ("what", "setting", "keep_s", "bytes")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _size(path: Path) -> int:
    """Bytes of a file with its journal, or of all files of a folder."""
    return sum(_sizes(path))


def _sizes(path: Path) -> Iterator[int]:
    inside = (
        path.iterdir() if path.is_dir() else (path, path.with_name(f"{path.name}-wal"))
    )
    for one in inside:
        with suppress(OSError):
            yield one.stat().st_size
