# SPDX-License-Identifier: Apache-2.0
"""Names and ages of quarantine files, for the daemon, which never loads Arrow."""

from __future__ import annotations

from pathlib import Path

from agent.errors import SpoolWriteFailed

SUFFIX = ".jsonl"


def file_name(resource: str, run: str) -> str:
    """Name of a run's file: ``101001_000001.<uuid7>.jsonl``."""
    return f"{resource.replace('/', '_')}.{run}{SUFFIX}"


def purge(folder: Path, *, before: float) -> int:
    """Delete files last changed before a moment (seconds since 1970).

    Returns:
        Files deleted.

    Raises:
        SpoolWriteFailed: the folder cannot be read or changed.
    """
    gone = 0
    try:
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
                gone += 1
    except OSError as e:
        raise SpoolWriteFailed(f"{folder}: {e.strerror}") from e
    return gone
