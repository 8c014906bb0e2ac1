# SPDX-License-Identifier: Apache-2.0
"""A city's TUF repository on disk, and everything wrong that can be done with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from agent.wire import repository

YEAR = timedelta(days=365)
DEPARTMENT = "11990100MB0000018H"
NODE = f"{DEPARTMENT}/fep1"
OTHER = "11330100MB0000000A"


def signers(count: int) -> list[CryptoSigner]:
    """New keys."""
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


@dataclass
class City:
    """A repository: root and targets 2 of 3, directory 2 of 3, the rest one key.

    Args:
        folder: where it is published, with ``metadata`` and ``targets`` in it.
        now: expiries count from here.
    """

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    keys: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    signed: dict[str, Metadata[Any]] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        two = ("root", "targets", repository.DIRECTORY)
        online = ("snapshot", "timestamp", repository.BRAKE)
        department = repository.department_role(DEPARTMENT)
        for role in (*two, *online, department):
            self.keys[role] = signers(3 if role in two else 1)
        ends = (self.now + YEAR).replace(microsecond=0)
        root = Root(expires=ends, consistent_snapshot=True)
        for role in repository.TOP:
            self._trust(root, role)
        targets = Targets(expires=ends)
        targets.delegations = Delegations({}, {})
        for role, path in (
            (repository.DIRECTORY, "directory/*.json"),
            (repository.BRAKE, repository.REVOKED_FILE),
            (department, repository.department_paths(DEPARTMENT)),
        ):
            paths = [path]
            if role == repository.BRAKE:
                paths.append(repository.HALT_FILE)
            assert targets.delegations.roles is not None
            targets.delegations.roles[role] = DelegatedRole(
                role, [], 1, terminating=True, paths=paths
            )
            self._trust(targets, role)
            self.signed[role] = Metadata(Targets(expires=ends))
        self.signed |= {
            "root": Metadata(root),
            "targets": Metadata(targets),
            "snapshot": Metadata(Snapshot(expires=ends)),
            "timestamp": Metadata(Timestamp(expires=ends)),
        }
        for folder in (repository.METADATA, repository.TARGETS):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)

    def _trust(self, by: Root | Targets, role: str) -> None:
        for signer in self.keys[role]:
            by.add_key(signer.public_key, role)
        found = by.get_delegated_role(role)
        found.threshold = 2 if len(self.keys[role]) == 3 else 1

    # --- what is said -----------------------------------------------------------------

    def role_of(self, path: str) -> str:
        """Who signs for a file."""
        if path in (repository.REVOKED_FILE, repository.HALT_FILE):
            return repository.BRAKE
        if path.startswith("directory/"):
            return repository.DIRECTORY
        if path.startswith("nodes/"):
            return repository.department_role(path.split("/")[1])
        return "targets"

    def put(self, path: str, data: bytes | dict[str, Any], *, role: str = "") -> None:
        """Say a file; published with :meth:`publish`."""
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        targets = self.signed[role or self.role_of(path)].signed
        targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
        self.content[path] = data
        folder, _, name = path.rpartition("/")
        digest = hashlib.sha256(data).hexdigest()
        place = self.folder / repository.TARGETS / folder / f"{digest}.{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def publish(self, *roles: str) -> City:
        """The next version of these roles (without root), of snapshot and timestamp."""
        for role in roles:
            self.write(role)
        self.write("snapshot")
        self.write("timestamp")
        return self

    def first(self) -> City:
        """Version 1 of everything."""
        for found in self.signed.values():
            found.signed.version = 0
        for role in ("root", *self._delegating):
            self.write(role)
        self.write("snapshot")
        self.write("timestamp")
        return self

    @property
    def _delegating(self) -> list[str]:
        return [r for r in self.signed if r not in ("root", "snapshot", "timestamp")]

    def write(
        self,
        role: str,
        *,
        by: Iterable[CryptoSigner] | None = None,
        version: int | None = None,
    ) -> bytes:
        """The next version of a role, signed by its keys or by others."""
        found = self.signed[role]
        found.signed.version = version or found.signed.version + 1
        self._list(role)
        found.signatures.clear()
        for signer in self.keys[role] if by is None else by:
            found.sign(signer, append=True)
        data = found.to_bytes()
        self.place(role, found.signed.version).write_bytes(data)
        return data

    def place(self, role: str, version: int) -> Path:
        """Where the metadata of a role is published."""
        name = f"{role}.json" if role == "timestamp" else f"{version}.{role}.json"
        return self.folder / repository.METADATA / name

    def _list(self, role: str) -> None:
        """Snapshot lists the roles, timestamp the snapshot."""
        if role == "snapshot":
            for name in self._delegating:
                version = self.signed[name].signed.version
                self.signed[role].signed.meta[f"{name}.json"] = MetaFile(version)
        if role == "timestamp":
            version = self.signed["snapshot"].signed.version
            self.signed[role].signed.snapshot_meta = MetaFile(version)

    def expire(self, role: str, ends: datetime) -> None:
        """The role's next version ends then."""
        self.signed[role].signed.expires = ends.replace(microsecond=0)

    def pin(self, version: int = 1) -> str:
        """SHA-256 of a version of root."""
        return hashlib.sha256(self.place("root", version).read_bytes()).hexdigest()
