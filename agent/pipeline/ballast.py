# SPDX-License-Identifier: Apache-2.0
"""A file that takes up disk until the disk is full, and is given up then.

What the daemon needs to stay alive, to answer and to be asked (state, audit log,
directory) is small, but it needs some. Others fill the disk within milliseconds, so
who writes looks first (:meth:`Ballast.guard`): when less is left than lookups leave to
the records of everything else, the ballast goes, and reading stays stopped by the
free-space floor. A database that finds the disk full all the same has it given up and
writes once more (:meth:`Ballast.give_up`). It is made again when there is room for it
twice.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from agent.audit.log import FLOOR
from agent.errors import DiskFull
from agent.pipeline.disk import free_bytes


class Ballast:
    """The reserve of one state folder.

    Args:
        path: of the file.
        size: its bytes; 0 keeps none.
        free: bytes left on the file system of a folder.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._path = path
        self._folder = path.parent
        self._free = free
        self._lock = threading.Lock()
        self._size = size
        self._held = _allocated(path) == size > 0
        if not self._held:
            _remove(path)

    @property
    def size(self) -> int:
        """Bytes that it should have."""
        return self._size

    @property
    def held(self) -> bool:
        """Whether it is there."""
        return self._held

    @property
    def floor(self) -> int:
        """Free bytes below which no lookup is begun: records of the rest need them."""
        return min(FLOOR, self._size // 2) if self._size else FLOOR

    @property
    def free(self) -> int:
        """Bytes left on the disk."""
        return self._free(self._folder)

    def use(self, size: int) -> None:
        """Have another size from now on; :meth:`renew` makes it."""
        with self._lock:
            if size != self._size:
                self._size, self._held = size, False
                _remove(self._path)

    def guard(self) -> None:
        """Give it up if the disk is nearly full; called before every write."""
        if self._held and self.free < self.floor:
            self.give_up()

    def give_up(self) -> None:
        """Give it up whatever is left; called when the disk has refused a write."""
        with self._lock:
            self._held = False
            _remove(self._path)

    def renew(self) -> None:
        """Make it again if there is room for it twice; no refusal matters."""
        with self._lock:
            if self._held or not self._size or self.free < self._wanted:
                return
            try:
                _make(self._path, self._size)
            except OSError:
                _remove(self._path)
            else:
                self._held = True

    def trouble(self) -> DiskFull | None:
        """What is wrong while it is not there."""
        if self._held or not self._size:
            return None
        return DiskFull(
            f"{self._folder}: {self.free} bytes are free; the reserve of"
            f" {self._size} bytes was given up and is made again from {self._wanted} on"
        )

    @property
    def _wanted(self) -> int:
        return 2 * self._size


def _allocated(path: Path) -> int:
    """Bytes that the file takes of the disk; a hole takes none."""
    try:
        found = path.stat()
    except OSError:
        return 0
    return found.st_size if found.st_blocks * 512 >= found.st_size else 0


def _make(path: Path, size: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
