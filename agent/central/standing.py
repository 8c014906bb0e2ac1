# SPDX-License-Identifier: Apache-2.0
"""A repository's metadata at one moment, and who has signed what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from agent.central import roles
from agent.errors import CentralInvalid
from agent.wire.repository import DIRECTORY_CAP, RELEASES

METADATA_CAP = 16 * 1024 * 1024
"""Longest metadata that is read, bytes."""
TARGET_CAP = 512 * 1024 * 1024
"""Longest target that is read, bytes; programs may be large."""
SMALL_CAP = DIRECTORY_CAP


@dataclass(frozen=True)
class Standing:
    """The newest word of every role.

    Args:
        metadata: by role.
        raw: the bytes of each, as they were published.
        roots: bytes of every root, the first first.
        folder: with the files under their digests in ``targets``.
    """

    metadata: Mapping[str, Metadata[Any]]
    raw: Mapping[str, bytes]
    roots: tuple[bytes, ...]
    folder: Path

    @property
    def root(self) -> Root:
        """The newest root."""
        found: Root = self.metadata["root"].signed
        return found

    @property
    def targets(self) -> Targets:
        """The newest word of the top role of files."""
        found: Targets = self.metadata["targets"].signed
        return found

    @cached_property
    def files(self) -> Mapping[str, TargetFile]:
        """Every file that some delegated role or ``targets`` speaks of."""
        found: dict[str, TargetFile] = {}
        for role in ("targets", *roles.delegated(self.targets)):
            if role in self.metadata:
                found.update(self.metadata[role].signed.targets)
        return found

    def content(self, path: str) -> bytes:
        """What a file says.

        Raises:
            KeyError: no role speaks of it.
            CentralInvalid: it is missing, or not what its role says.
        """
        file = self.files[path]
        return read_target(self.folder, file)


def damaged(found: Standing) -> tuple[str, ...]:
    """Published files that agents need and cannot read: all but programs."""
    bad = []
    for path in sorted(found.files):
        try:
            if roles.role_of(path) != RELEASES:
                found.content(path)
        except CentralInvalid:
            bad.append(path)
    return tuple(bad)


def digest_name(file: TargetFile) -> str:
    """Path of a target under its digest (consistent snapshots)."""
    head, _, name = file.path.rpartition("/")
    named = f"{file.hashes['sha256']}.{name}"
    return f"{head}/{named}" if head else named


def read_target(folder: Path, file: TargetFile) -> bytes:
    """A published file.

    Raises:
        CentralInvalid: it is missing, or not what its role says.
    """
    path = folder / "targets" / digest_name(file)
    try:
        with path.open("rb") as opened:
            data = opened.read(file.length + 1)
        file.verify_length_and_hashes(data)
    except (OSError, RepositoryError) as e:
        raise CentralInvalid(f"{file.path}: {_why(e)}") from e
    return data


def read(folder: Path) -> Standing | None:
    """What is published; None before the first publication.

    Raises:
        CentralInvalid: files are missing or cannot be read as metadata.
    """
    at = folder / "metadata"
    if not at.exists():
        return None
    try:
        return _read(folder, at)
    except (OSError, RepositoryError, KeyError) as e:
        raise CentralInvalid(f"{folder}: {_why(e)}") from e


def _read(folder: Path, at: Path) -> Standing:
    roots: list[bytes] = []
    while (path := at / f"{len(roots) + 1}.root.json").exists():
        roots.append(read_metadata(path))
    raw = {"root": roots[-1] if roots else read_metadata(at / "1.root.json")}
    raw["timestamp"] = read_metadata(at / "timestamp.json")
    stamp = roles.parse("timestamp", raw["timestamp"]).signed
    raw["snapshot"] = read_metadata(at / f"{stamp.snapshot_meta.version}.snapshot.json")
    snapshot = roles.parse("snapshot", raw["snapshot"]).signed
    for name, meta in snapshot.meta.items():
        raw[name.removesuffix(".json")] = read_metadata(at / f"{meta.version}.{name}")
    metadata = {role: roles.parse(role, data) for role, data in raw.items()}
    return Standing(metadata, raw, tuple(roots), folder)


def read_metadata(path: Path) -> bytes:
    """A file of metadata.

    Raises:
        CentralInvalid: it is too long.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(METADATA_CAP + 1)
    if len(data) > METADATA_CAP:
        raise CentralInvalid(f"{path.name}: expected at most {METADATA_CAP} bytes")
    return data


def _why(e: Exception) -> str:
    if isinstance(e, OSError):
        return f"{e.filename}: {e.strerror}"
    return str(e) or type(e).__name__


@dataclass(frozen=True)
class Signed:
    """Who has signed a word of a role.

    Args:
        by: labels of keys that have.
        open: labels of keys that may yet.
        missing: so many are still needed.
    """

    role: str
    version: int
    expires: datetime
    by: tuple[str, ...]
    open: tuple[str, ...]
    missing: int


def verified(
    role: str, found: Metadata[Any], *, old: Root | None, delegator: Root | Targets
) -> Signed:
    """How far a role's word is signed.

    Args:
        role: its name.
        found: the word.
        old: for ``root``, the one before it, which must sign too.
        delegator: who says which keys the role has; for ``root`` itself.
    """
    payload, signatures = found.signed_bytes, found.signatures
    signed, unsigned, missing = {}, {}, 0
    if role == "root" and old is not None:
        both = found.signed.get_root_verification_result(old, payload, signatures)
        results = [both.first, both.second]
    else:
        results = [delegator.get_verification_result(role, payload, signatures)]
    for result in results:
        signed.update(result.signed)
        unsigned.update(result.unsigned)
        missing = max(missing, result.missing)
    return Signed(
        role,
        found.signed.version,
        found.signed.expires,
        tuple(_label(key) for key in signed.values()),
        tuple(_label(key) for key in unsigned.values()),
        missing,
    )


def _label(key: Any) -> str:
    from agent.central.keys import label

    return label(key)
