# SPDX-License-Identifier: Apache-2.0
"""The folder of day keys: one file a day, ``YYYY-MM-DD.key``, mode 0400.

Rules

1. A key is durable before anything is encrypted with it. If that could not be made
   sure of, no key is made until a restart.
2. A day that was erased never gets a key again.
3. Destroying overwrites, removes and syncs. On file systems that write elsewhere
   (copy on write, flash) the old bytes may stay for a while; whoever needs more keeps
   the folder on an encrypted volume (docs/audit.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.crypto.daykey import SIZE, DayKey
from agent.errors import AuditWriteFailed, SecretUnreadable

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
"""For ``fullmatch``; UTC days."""


class DayKeys:
    """The keys in a folder.

    Args:
        folder: made with mode 0700 if it is not there.
        generate: makes a new key.

    Raises:
        AuditWriteFailed: the folder cannot be made.
    """

    def __init__(
        self, folder: Path, *, generate: Callable[[], DayKey] = DayKey.generate
    ) -> None:
        self.folder = folder
        self._generate = generate
        self._known: dict[str, DayKey] = {}
        self._lock = threading.Lock()
        self._lost = False
        with _faults(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, day: str) -> Path:
        """The file of a day."""
        if not DAY.fullmatch(day):
            raise ValueError("expected a day like 2026-11-21")
        return self.folder / f"{day}.key"

    def find(self, day: str) -> DayKey | None:
        """The key of a day; None if it was never made or is destroyed.

        Raises:
            SecretUnreadable: the file is there, but no key or open to others.
        """
        with self._lock:
            if day in self._known:
                return self._known[day]
            secret = _read(self.path(day))
            return None if secret is None else DayKey(secret)

    def make(self, day: str) -> DayKey:
        """The key of a day, made durable first if it is new.

        Raises:
            SecretUnreadable: as :meth:`find`.
            AuditWriteFailed: the disk refuses.
        """
        with self._lock:
            if day not in self._known:
                self._known[day] = self._durable(day)
            return self._known[day]

    def destroy(self, day: str) -> None:
        """Overwrite and remove the key of a day, if it is there.

        Raises:
            AuditWriteFailed: the disk refuses.
        """
        path = self.path(day)
        with self._lock, _faults(path):
            self._known.pop(day, None)
            with contextlib.suppress(FileNotFoundError):
                path.chmod(0o600)
                with path.open("r+b", buffering=0) as file:
                    file.write(os.urandom(SIZE))
                    os.fsync(file.fileno())
                path.unlink()
            self._sync()

    def days(self) -> tuple[str, ...]:
        """Days that have a key, oldest first."""
        with _faults(self.folder):
            names = [p.stem for p in self.folder.iterdir() if p.suffix == ".key"]
        return tuple(sorted(n for n in names if DAY.fullmatch(n)))

    def _durable(self, day: str) -> DayKey:
        secret = _read(self.path(day))
        found = self._generate() if secret is None else DayKey(secret)
        with _faults(self.folder):
            if secret is None:
                self._write(self.path(day), found.secret)
            self._sync()  # also where another life made it: it may have died before
        return found

    def _write(self, path: Path, secret: bytes) -> None:
        draft = path.with_suffix(".tmp")
        draft.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(draft, flags, 0o400), "wb") as file:
                file.write(secret)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)

    def _sync(self) -> None:
        if self._lost:
            raise OSError(errno.EIO, "a sync failed before; restart")
        self._lost = True
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
            self._lost = False
        finally:
            os.close(handle)


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            secret = file.read(SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise SecretUnreadable(f"{path}: {e.strerror}") from e
    if mode & ~0o600:
        raise SecretUnreadable(f"{path}: expected mode 0400, got {mode:04o}")
    if len(secret) != SIZE:
        raise SecretUnreadable(f"{path}: expected {SIZE} bytes")
    return secret


@contextlib.contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise AuditWriteFailed(f"{path}: {e.strerror}") from e
