# SPDX-License-Identifier: Apache-2.0
"""Every step by which the publisher changes a disk, so that a test can stop at each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """Steps that either happened or did not, even if the machine dies meanwhile.

    Each raises OSError. What only has a name is durable after :meth:`sync` of the
    folder it stands in.
    """

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """Make a new file with this content, synced; one that is there is replaced."""

    def link(self, old: Path, new: Path) -> None:
        """Give a file a second name; one that is there already may be the same."""

    def point(self, name: Path, target: str) -> None:
        """Let a symbolic link lead elsewhere, at once."""

    def sync(self, folder: Path) -> None:
        """Make the names in a folder durable."""


class RealDisk:
    """The file system."""

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        """By a file beside it, synced and renamed."""
        draft = path.with_name(f".{path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, flags | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)

    def link(self, old: Path, new: Path) -> None:
        """A hard link."""
        new.hardlink_to(old)

    def point(self, name: Path, target: str) -> None:
        """By a link beside it that is renamed."""
        draft = name.with_name(f".{name.name}.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.rename(name)

    def sync(self, folder: Path) -> None:
        """``fsync`` of the folder."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
