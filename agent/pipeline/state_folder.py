# SPDX-License-Identifier: Apache-2.0
"""Names of the files of a diff, for the daemon, which never loads Arrow.

A file belongs to one run. Which of them counts is said by the stream's frontier alone;
every other one may be deleted at any time that no run of the resource reads.
"""

from __future__ import annotations

import re
from pathlib import Path

from agent.errors import SpoolWriteFailed
from agent.wire.grammar import resource_file_part

SUFFIX = ".diff"

_NAME = re.compile(r"([0-9A-Za-z]+(?:_[0-9A-Za-z]+)+)\.[0-9a-f-]{36}\.diff")


def file(folder: Path, resource: str, run: str) -> Path:
    """Of a run: ``101001_000001.<uuid7>.diff``."""
    return folder / f"{resource_file_part(resource)}.{run}{SUFFIX}"


def resources(folder: Path) -> frozenset[str]:
    """Codes of the resources that have a file; foreign names are left alone.

    Raises:
        SpoolWriteFailed: the folder cannot be read.
    """
    try:
        names = [path.name for path in folder.glob(f"*{SUFFIX}")]
    except OSError as e:
        raise SpoolWriteFailed(f"{folder}: {e.strerror}") from e
    found = filter(None, map(_NAME.fullmatch, names))
    return frozenset(name[1].replace("_", "/") for name in found)


def keep(folder: Path, resource: str, run: str | None) -> int:
    """Delete the files of all other runs of a resource.

    Args:
        folder: where they are; it need not be there.
        resource: its code.
        run: at which its frontier is, or None: nothing counts.

    Returns:
        Files deleted.

    Raises:
        SpoolWriteFailed: the folder cannot be read or changed.
    """
    gone = 0
    try:
        for path in sorted(folder.glob(f"{resource_file_part(resource)}.*{SUFFIX}")):
            if run is None or path != file(folder, resource, run):
                path.unlink(missing_ok=True)
                gone += 1
    except OSError as e:
        raise SpoolWriteFailed(f"{folder}: {e.strerror}") from e
    return gone
