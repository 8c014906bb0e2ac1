# SPDX-License-Identifier: Apache-2.0
"""Batch files on disk, and nothing else; who may leave is decided elsewhere.

Rules

1. A file is written and fsynced under ``tmp/`` by the worker, renamed into ``out/`` and
   its folder is fsynced; only then may it be registered.
2. A failed write, fsync or rename is never tried again: the kernel may have dropped
   the page and call it clean ("fsyncgate", LWN 2018). The spool takes nothing from then
   on; the daemon ends, and reads the source again after its restart.
3. A file that nobody registered is an orphan of a crash; it is deleted at start.
4. Line 1, size and digest of a file are compared with what was registered before a
   byte of it leaves.
5. A folder that a newer version wrote is not touched.
6. Opening it looks at names and sizes only: no file is opened, none is synced, so that
   100,000 that wait cost a second.

::

    <root>/VERSION
    <root>/tmp/<run>.<part>.tmp
    <root>/out/<exchange>/<resource_>/<resource_>.<epoch>.<seq>.fepb
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.crypto.jose import message_digest
from agent.errors import (
    MalformedMessage,
    SpoolDamaged,
    SpoolVersion,
    SpoolWriteFailed,
)
from agent.model.batch import BatchId
from agent.pipeline.disk import free_bytes
from agent.wire.batch import file_name, read_line1
from agent.wire.grammar import resource_file_part

VERSION = 1
"""Of the folder's layout; a folder without a version file is of the first."""
CHUNK = 1 << 20
"""Bytes read at a time while a file is compared with its digest."""
SOFT = 0.8
"""From this part of the quota on room is made early, and reading slows down."""
NEAR = 1.25
"""So many times the free-space floor is near to it: reading slows down."""


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


@dataclass(frozen=True)
class Cleaned:
    """What was found at start.

    Args:
        orphans: files that nobody registered; they are deleted.
        missing: names that are registered and not there.
    """

    orphans: int
    missing: tuple[str, ...]


class Spool:
    """The batch files of one daemon.

    Args:
        root: the spool folder; made if it is not there.
        quota: its limits.
        free: bytes left on the file system of a folder.

    Raises:
        SpoolWriteFailed: the folder cannot be made or read.
        SpoolVersion: it is not ours to write.
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
        self._making = threading.Lock()
        self._broken: SpoolWriteFailed | None = None
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_version(root / "VERSION")
            for folder in (self._tmp, self._out):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._used = sum(size for _, size in _files(self._out))
        except OSError as e:
            raise self._failed(root, e) from e

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

    def excess(self, size: int) -> int:
        """Bytes that should go before a file of this size comes; 0 or less for none."""
        over = self._used + size - int(self.quota.bytes * SOFT)
        return max(over, self.quota.free_floor + size - self.free)

    def strain(self, size: int) -> float:
        """How near the limits are with a file of this size: 0 not at all, 1 reached."""
        soft, near = int(self.quota.bytes * SOFT), int(self.quota.free_floor * NEAR)
        over = self._used + size - soft if self._used else 0
        short = near + size - self.free
        return min(
            max(
                over / max(self.quota.bytes - soft, 1),
                short / max(near - self.quota.free_floor, 1),
                0.0,
            ),
            1.0,
        )

    def clean(self, registered: Collection[str]) -> Cleaned:
        """Delete what a crash left: everything in ``tmp/`` and unregistered batches."""
        self._check_sound()
        missing = set(registered)
        orphans, used = 0, 0
        try:
            for name, size in list(_files(self._out)):
                if name in missing:
                    missing.discard(name)
                    used += size
                else:
                    self.path(name).unlink()
                    orphans += 1
            for name, _ in list(_files(self._tmp)):
                (self._tmp / name).unlink()
                orphans += 1
        except OSError as e:
            raise self._failed(self._out, e) from e
        self._used = used
        return Cleaned(orphans, tuple(sorted(missing)))

    def tmp(self, run: str, part: int) -> Path:
        """Where the worker writes a part."""
        return self._tmp / f"{run}.{part}.tmp"

    def discard(self, run: str) -> None:
        """Delete what a worker of this run left half-written.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        self._check_sound()
        try:
            for path in self._tmp.glob(f"{run}.*.tmp"):
                path.unlink()
        except OSError as e:
            raise self._failed(self._tmp, e) from e

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
        self._check_sound()
        target = self.path(name)
        try:
            found = tmp.stat().st_size
            if found != size:
                raise SpoolWriteFailed(f"{tmp}: expected {size} bytes, got {found}")
            with self._making:  # streams share a folder, and none may miss its sync
                for made in _missing_folders(target.parent):
                    made.mkdir(mode=0o700)
                    _sync_folder(made.parent)
            tmp.rename(target)
            _sync_folder(target.parent)
        except OSError as e:
            raise self._failed(target, e) from e
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
        self._check_sound()
        for name in names:
            path = self.path(name)
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError as e:
                raise self._failed(path, e) from e
            with self._lock:
                self._used -= size

    def _check_sound(self) -> None:
        """Refuse what comes after a step that failed.

        Raises:
            SpoolWriteFailed: the same as then.
        """
        if self._broken is not None:
            raise self._broken

    def _failed(self, path: Path, error: OSError) -> SpoolWriteFailed:
        found = SpoolWriteFailed(f"{path}: {error.strerror or error}")
        self._broken = self._broken or found
        return found


def _check_version(path: Path) -> None:
    """Make the version file if there is none.

    Raises:
        SpoolVersion: it names another version.
    """
    try:
        text = path.read_bytes()[:64]
    except FileNotFoundError:
        _write_version(path)
        return
    if text != b"%d\n" % VERSION:
        raise SpoolVersion(f"{path}: expected {VERSION}, got {_shown(text)}")


def _write_version(path: Path) -> None:
    tmp = path.with_name(path.name + ".tmp")
    with tmp.open("wb") as file:
        file.write(b"%d\n" % VERSION)
        file.flush()
        os.fsync(file.fileno())
    tmp.rename(path)
    _sync_folder(path.parent)


def _shown(text: bytes) -> str:
    number = text.strip()
    return number.decode() if number.isdigit() else repr(text)


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """(name below the folder, bytes) of every file; looks at each entry once."""
    stack = [("", os.fspath(folder))]
    while stack:
        prefix, place = stack.pop()
        with os.scandir(place) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    stack.append((f"{prefix}{entry.name}/", entry.path))
                else:
                    size = entry.stat(follow_symlinks=False).st_size
                    yield prefix + entry.name, size


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
