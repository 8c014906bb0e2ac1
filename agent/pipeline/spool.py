# SPDX-License-Identifier: Apache-2.0
"""Batch files on disk, and nothing else; who may leave is decided elsewhere.

Rules

1. A file is written and fsynced under ``tmp/`` by the worker, renamed into ``out/`` and
   its folder is fsynced; only then may it be registered.
2. A failed write, fsync or rename is never tried again: the kernel may have dropped
   the page and call it clean ("fsyncgate", LWN 2018). The daemon ends instead, and
   reads the source again after its restart.
3. A file that nobody registered is an orphan of a crash; it is deleted at start.
4. Line 1, size and digest of a file are compared with what was registered before a
   byte of it leaves.

::

    <root>/tmp/<run>.<part>.tmp
    <root>/out/<exchange>/<resource_>/<resource_>.<epoch>.<seq>.fepb
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.crypto.jose import message_digest
from agent.errors import MalformedMessage, SpoolDamaged, SpoolWriteFailed
from agent.model.batch import BatchId
from agent.wire.batch import file_name, read_line1
from agent.wire.grammar import resource_file_part

CHUNK = 1 << 20
"""Bytes read at a time while a file is compared with its digest."""


@dataclass(frozen=True)
class Quota:
    """How much disk the spool may take.

    Args:
        bytes: most bytes of batch files.
        free_floor: bytes of the file system that stay free for others.
    """

    bytes: int
    free_floor: int


@dataclass(frozen=True)
class Expected:
    """What was registered about a file.

    Args:
        line: exact text of line 1; None if it was not kept. Its digest alone says
            nothing of the signature.
    """

    file: str
    size: int
    digest: str
    content_size: int
    content_digest: str
    line: str | None = None


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user can still write here."""
    return shutil.disk_usage(folder).free


class Spool:
    """The batch files of one daemon.

    Args:
        root: the spool folder; made if it is not there.
        quota: its limits.
        free: bytes left on the file system of a folder.

    Raises:
        SpoolWriteFailed: the folder cannot be made or read.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota: Quota,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self.quota = quota
        self._tmp = root / "tmp"
        self._out = root / "out"
        self._free = free
        self._lock = threading.Lock()
        try:
            for folder in (root, self._tmp, self._out):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._used = sum(p.stat().st_size for p in self._files())
        except OSError as e:
            raise _failed(root, e) from e

    @property
    def used(self) -> int:
        """Bytes of all batch files."""
        return self._used

    @property
    def free(self) -> int:
        """Bytes left on the file system."""
        return self._free(self._out)

    def room(self, size: int) -> bool:
        """Whether a file of this size may be written now.

        An empty spool takes one file of any size, so that a quota that is smaller than
        a batch slows the agent and does not stop it.
        """
        fits = self._used == 0 or self._used + size <= self.quota.bytes
        return fits and self.free - size >= self.quota.free_floor

    def clean(self, registered: Collection[str]) -> int:
        """Delete what a crash left: everything in ``tmp/`` and unregistered batches.

        Returns:
            how many files were deleted.
        """
        known = frozenset(registered)
        try:
            left = [p for p in self._tmp.iterdir() if p.is_file()]
            left += [p for p in self._files() if self._name(p) not in known]
            for path in left:
                path.unlink()
            self._used = sum(p.stat().st_size for p in self._files())
        except OSError as e:
            raise _failed(self._out, e) from e
        return len(left)

    def tmp(self, run: str, part: int) -> Path:
        """Where the worker writes a part."""
        return self._tmp / f"{run}.{part}.tmp"

    def discard(self, run: str) -> None:
        """Delete what a worker of this run left half-written.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        try:
            for path in self._tmp.glob(f"{run}.*.tmp"):
                path.unlink()
        except OSError as e:
            raise _failed(self._tmp, e) from e

    def name(self, batch: BatchId) -> str:
        """The name of a batch's file, relative to ``out/``."""
        folder = f"{batch.aud}/{resource_file_part(batch.resource)}"
        return f"{folder}/{file_name(batch)}"

    def path(self, name: str) -> Path:
        """Where a batch's file is."""
        return self._out / name

    def publish(self, tmp: Path, name: str, *, size: int) -> None:
        """Give a synced file its name, durably.

        Raises:
            SpoolWriteFailed: it is not there, has another size, or a step failed; the
                same step is not tried again.
        """
        target = self.path(name)
        try:
            found = tmp.stat().st_size
            if found != size:
                raise SpoolWriteFailed(f"{tmp}: expected {size} bytes, got {found}")
            for made in _missing_folders(target.parent):
                made.mkdir(mode=0o700)
                _sync_folder(made.parent)
            tmp.rename(target)
            _sync_folder(target.parent)
        except OSError as e:
            raise _failed(target, e) from e
        with self._lock:
            self._used += size

    def check(self, expected: Expected) -> Path:
        """The file of a registered batch, after comparing every byte.

        Raises:
            SpoolDamaged: it is missing, cannot be read or differs.
        """
        path = self.path(expected.file)
        try:
            with path.open("rb") as file:
                line = read_line1(file)
                content = hashlib.sha256()
                size = 0
                while piece := file.read(CHUNK):
                    content.update(piece)
                    size += len(piece)
        except (OSError, MalformedMessage) as e:
            raise SpoolDamaged(f"{path}: {e}") from e
        got = (
            len(line) + 1 + size,
            _digest_of(line),
            size,
            "sha256:" + content.hexdigest(),
        )
        wanted = (
            expected.size,
            expected.digest,
            expected.content_size,
            expected.content_digest,
        )
        for what, w, g in zip(_COMPARED, wanted, got, strict=True):
            if w != g:
                raise SpoolDamaged(f"{path}: {what}: expected {w}, got {g}")
        if expected.line is not None and line != expected.line.encode("ascii"):
            raise SpoolDamaged(f"{path}: line 1: expected the signature as it was made")
        return path

    def remove(self, names: Iterable[str]) -> None:
        """Delete batch files; one that is gone already is no fault.

        Raises:
            SpoolWriteFailed: a file cannot be deleted.
        """
        for name in names:
            path = self.path(name)
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as e:
                raise _failed(path, e) from e
            with self._lock:
                self._used -= size

    def _files(self) -> list[Path]:
        return [p for p in self._out.rglob("*") if p.is_file()]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()


_COMPARED = ("size of the file", "message digest", "size of the payload", "digest")


def _digest_of(line: bytes) -> str:
    try:
        return message_digest(line.decode("ascii"))
    except UnicodeDecodeError:
        return "not ASCII"


def _missing_folders(folder: Path) -> list[Path]:
    """Folders that must be made, outermost first."""
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    return missing


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failed(path: Path, error: OSError) -> SpoolWriteFailed:
    return SpoolWriteFailed(f"{path}: {error.strerror or error}")
