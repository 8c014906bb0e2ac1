# SPDX-License-Identifier: Apache-2.0
"""Where the city's repository lies as far as it was verified, and that it lasts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TrustFiles:
    """Where what was verified lies.

    Args:
        folder: for its owner alone.
    """

    folder: Path

    @property
    def root(self) -> Path:
        """The pinned root, as its SHA-256 was given."""
        return self.folder / "pinned.root.json"

    @property
    def metadata(self) -> Path:
        """python-tuf's own folder."""
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        """Files, each under the SHA-256 of its content."""
        return self.folder / "targets"


def sweep(places: TrustFiles) -> None:
    """Delete what a walk that was killed left half done."""
    half = [p for p in places.metadata.glob("tmp*") if not p.suffix]
    for path in (*half, *places.targets.glob("*.part")):
        path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Make a folder durable with all that is in it."""
    for base, _, names in os.walk(folder):
        for path in (*(Path(base, name) for name in names), Path(base)):
            if not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
