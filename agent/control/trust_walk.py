# SPDX-License-Identifier: Apache-2.0
"""One walk through the city's TUF repository with python-tuf's client.

Rules

1. The root that all begins with is known by the SHA-256 of its exact bytes.
2. Every signature, threshold, version, length, hash and time is judged by python-tuf;
   here is only which files a node needs, and how long they may be.
3. A department whose own role expired, or is damaged, keeps its nodes from no
   revocation and no directory: their configuration stays as it was, and that is told.
4. python-tuf renames its files into place and leaves the rest to chance: what a walk
   leaves behind is synced before anybody relies on it, also after a walk that failed,
   for the newer versions that it did see bar the older ones from then on.

It blocks: it runs in a thread beside the loop.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from agent.control.identity import make_folder, write_file, writing
from agent.control.trust_fetch import Absent, Source
from agent.control.trust_files import TrustFiles, sweep, sync
from agent.errors import (
    ExchangeRefused,
    FepError,
    MalformedMessage,
    TrustExpired,
    TrustRefused,
)
from agent.state import KeptRole, KeptTrust
from agent.wire import repository, strict
from agent.wire.grammar import DEPARTMENT, format_time

ROOT_CAP = 512 * 1024
"""Longest root metadata, bytes."""
ROOTS = 256
"""Most versions of root that are looked at."""
TOTAL_CAP = 64 * 1024 * 1024
"""Most bytes of all files of a node together."""
GROUPS = 32
"""Most groups of a node."""
ROLES = 64
"""Most delegated roles that are asked for one file."""

_CONFIG = UpdaterConfig(
    max_root_rotations=ROOTS,
    max_delegations=ROLES,
    root_max_length=ROOT_CAP,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=2 * 1024 * 1024,
    targets_max_length=16 * 1024 * 1024,
    app_user_agent="fep",
)
_DIRECTORY_FILE = re.compile(rf"directory/{DEPARTMENT.pattern}\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CENTRAL = (
    repository.EXCHANGE_FILE,
    repository.LIMITS_FILE,
    repository.ROLLOUT_FILE,
    repository.REVOKED_FILE,
    repository.HALT_FILE,
)


@dataclass(frozen=True)
class Walked:
    """What a walk verified.

    Args:
        roles: metadata of each role.
        files: target path -> content.
        trouble: why the node's own file is the one of before, or None.
    """

    roles: tuple[KeptRole, ...]
    files: Mapping[str, bytes]
    trouble: FepError | None = None


@dataclass(frozen=True)
class Asking:
    """For whom a walk is made.

    Args:
        pin: SHA-256 of a root's bytes, lower hex.
        node: ``<department>/<machine>``.
        kept: what was verified before, or None.
        now: aware UTC.
    """

    pin: str
    node: str
    kept: KeptTrust | None
    now: datetime


def walk(places: TrustFiles, source: Source, asking: Asking) -> Walked:
    """Everything that the repository says to a node, verified anew.

    Args:
        places: what was there before, and gets what is newer.
        source: where new files come from.
        asking: see there.

    Raises:
        TrustRefused: something does not verify.
        TrustExpired: it verifies, but is too old.
        SpoolWriteFailed: the disk refused.
        ExchangeUnreachable, ExchangeUntrusted, ExchangeRefused, ProxyRefused,
        MalformedMessage, SecretUnreadable: a file could not be had.
    """
    with judged(places.metadata):
        for folder in (places.metadata, places.targets):
            make_folder(folder)
        sweep(places)
        root = pinned(places, source, asking.pin)
        client = Client(places.metadata, source, root, asking.now)
        return _Walk(places, client, asking).all()


def pinned(places: TrustFiles, source: Source, pin: str) -> bytes:
    """The root whose bytes have this SHA-256: the kept one, or the first found.

    Raises:
        TrustRefused: none of the source's has it.
        SpoolWriteFailed: it could not be kept.
    """
    if places.root.exists() and _digest(kept := places.root.read_bytes()) == pin:
        return kept
    for version in range(1, ROOTS + 1):
        data = _bounded(source, f"{repository.METADATA}/{version}.root.json")
        if data is None:
            break
        if _digest(data) == pin:
            write_file(places.root, data)
            return data
    raise TrustRefused(f"expected a root with SHA-256 {pin}, got none")


class Client(Updater):
    """python-tuf's client with a clock given, and what it trusts to be looked at.

    Args:
        metadata: its own folder.
        source: where new files come from.
        root: trusted, bytes.
        now: aware UTC.
        metadata_url: before the names of metadata.
    """

    def __init__(
        self,
        metadata: Path,
        source: Source,
        root: bytes,
        now: datetime,
        *,
        metadata_url: str = repository.METADATA,
    ) -> None:
        super().__init__(
            str(metadata),
            metadata_url,
            target_base_url=repository.TARGETS,
            fetcher=_Fetcher(source),
            config=_CONFIG,
            bootstrap=root,
        )
        self._trusted_set.reference_time = now

    @property
    def trusted(self) -> Mapping[str, Signed]:
        """Role -> its verified metadata."""
        return self._trusted_set


class _Fetcher(FetcherInterface):
    """A source as python-tuf asks for one; our errors go through it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield from self._source.get(url)
        except Absent as e:
            raise DownloadHTTPError(str(e), e.status) from e


class _Walk:
    """One walk; see :func:`walk`."""

    def __init__(self, places: TrustFiles, client: Client, asking: Asking) -> None:
        self._places = places
        self._client = client
        self._asking = asking
        self._files: dict[str, bytes] = {}
        self._left = TOTAL_CAP

    def all(self) -> Walked:
        """Refresh, and take every file that the node needs."""
        department, _, _ = self._asking.node.partition("/")
        self._client.refresh()
        for path in _CENTRAL:
            self._take(path)
        self._take(repository.directory_file(department))
        for path in self._directory():
            self._take(path)
        own = repository.department_role(department)
        trouble = self._own(own)
        path = repository.node_file(self._asking.node)
        for group in _groups(self._files.get(path)):
            self._take(group)
        roles = list(self._roles(own if trouble is not None else ""))
        if trouble is not None and self._asking.kept is not None:
            roles += [role for role in self._asking.kept.roles if role.role == own]
        return Walked(tuple(roles), self._files, trouble)

    def _own(self, role: str) -> FepError | None:
        """Take the node's own file; rule 3: why it is the one of before, or None."""
        path, kept = repository.node_file(self._asking.node), self._asking.kept
        try:
            with judged(self._places.metadata):
                self._take(path)
                _check_version(role, self._client.trusted.get(role))
        except (TrustExpired, TrustRefused, ExchangeRefused) as e:
            digest = None if kept is None else kept.files.get(path)
            data = None if digest is None else _read(self._places.targets / digest)
            if data is not None and _digest(data) == digest:
                self._files[path] = data
            return e
        return None

    def _directory(self) -> list[str]:
        """Every department's file; their role is loaded once one was asked for."""
        found: set[str] = set()
        for name in (Targets.type, repository.DIRECTORY):
            signed = self._client.trusted.get(name)
            if isinstance(signed, Targets):
                found.update(filter(_DIRECTORY_FILE.fullmatch, signed.targets))
        return sorted(found)

    def _take(self, path: str) -> None:
        """Take a file if there is one."""
        if path in self._files:
            return
        info = self._client.get_targetinfo(path)
        if info is None:
            return
        cap = (
            repository.DIRECTORY_CAP
            if path.startswith("directory/")
            else repository.FILE_CAP
        )
        if info.length > min(cap, self._left):
            raise TrustRefused(f"{path}: {info.length} bytes are too many")
        self._left -= info.length
        self._files[path] = self._content(path, info)

    def _content(self, path: str, info: TargetFile) -> bytes:
        digest = info.hashes.get("sha256", "")
        if not _SHA256.fullmatch(digest):
            raise TrustRefused(f"{path}: expected a SHA-256 of it")
        kept = self._places.targets / digest
        if self._client.find_cached_target(info, str(kept)) is not None:
            return kept.read_bytes()
        part = kept.with_suffix(".part")
        self._client.download_target(info, str(part))
        data = part.read_bytes()
        write_file(kept, data)
        part.unlink()
        return data

    def _roles(self, broken: str) -> Iterator[KeptRole]:
        """What this walk relied on; whom a fall of its version must have to do with.

        Args:
            broken: the role that it did not rely on.

        Raises:
            TrustRefused: a version is too high.
        """
        trusted = self._client.trusted
        root, snapshot = trusted[Root.type], trusted[Snapshot.type]
        if not isinstance(root, Root) or not isinstance(snapshot, Snapshot):
            raise TypeError("expected python-tuf's own types")
        keys: dict[str, tuple[str, ...]] = {
            Root.type: (),
            Timestamp.type: tuple(sorted(root.roles[Timestamp.type].keyids)),
        }
        others = tuple(sorted(root.roles[Snapshot.type].keyids))
        listed = (name.removesuffix(".json") for name in snapshot.meta)
        for name in (Root.type, Timestamp.type, Snapshot.type, *listed):
            signed = trusted.get(name)
            if signed is not None and name != broken:
                _check_version(name, signed)
                ends = format_time(signed.expires)
                who = keys.get(name, others)
                yield KeptRole(name, signed.version, who, ends)


def _check_version(role: str, signed: Signed | None) -> None:
    """Refuse a version that no number of ours holds.

    Raises:
        TrustRefused: it is.
    """
    if signed is not None and signed.version >= strict.LIMIT:
        raise TrustRefused(f"{role}: expected a version below {strict.LIMIT}")


def _groups(text: bytes | None) -> list[str]:
    """Files of the groups that a node's document lists; who reads it judges it."""
    try:
        listed = [] if text is None else strict.loads(text).get("groups", [])
    except MalformedMessage:
        return []
    found = []
    for group in listed[:GROUPS] if isinstance(listed, list) else ():
        try:
            found.append(repository.group_file(str(group)))
        except ValueError:
            continue
    return found


@contextmanager
def judged(metadata: Path) -> Iterator[None]:
    """Translate what python-tuf says, and sync what it wrote, whatever it says.

    Raises:
        TrustRefused, TrustExpired, ExchangeRefused: as :func:`walk`.
        SpoolWriteFailed: the disk refused.
    """
    try:
        with writing(metadata):
            try:
                yield
            finally:
                sync(metadata)
    except ExpiredMetadataError as e:
        raise TrustExpired(_said(e)) from e
    except (RepositoryError, OverflowError, ValueError, TypeError) as e:
        raise TrustRefused(_said(e)) from e
    except DownloadHTTPError as e:
        problem = f"http-{e.status_code}"
        raise ExchangeRefused(_said(e), problem=problem) from e
    except DownloadError as e:
        if isinstance(e.__cause__, FepError):
            raise e.__cause__ from None
        raise TrustRefused(_said(e)) from e


def _said(fault: Exception) -> str:
    """The words of a fault; whoever wrote the metadata wrote some of them."""
    text = "".join(c if c.isprintable() else "?" for c in str(fault))
    return text[:300]


def _read(path: Path) -> bytes | None:
    """A kept file; None if it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bounded(source: Source, path: str) -> bytes | None:
    """A root's bytes, None if there is no such version."""
    data = b""
    try:
        for chunk in source.get(path):
            data += chunk
            if len(data) > ROOT_CAP:
                raise TrustRefused(f"{path}: expected at most {ROOT_CAP} bytes")
    except Absent:
        return None
    return data
