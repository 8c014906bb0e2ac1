# SPDX-License-Identifier: Apache-2.0
"""A repository whose keys all lie in one folder: for the sandbox, trials and tests.

Every role needs one signature, and every key is at hand, so that a change goes live at
once. It proves nothing about people: a city's repository is not made with this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from agent.central import keys, shapes, standing
from agent.central.change import Change
from agent.central.collect import collect
from agent.central.disk import Disk, RealDisk
from agent.central.publish import Judge, Live, Press
from agent.central.roles import Holders, Terms, delegated, delegator_of, role_of
from agent.central.workspace import Workspace
from agent.wire.repository import (
    BRAKE,
    DIRECTORY,
    RELEASES,
    TOP,
)

_ROLES = (*TOP, DIRECTORY, RELEASES, BRAKE)


@dataclass(frozen=True)
class OwnRepository:
    """A workspace with every key in it.

    Args:
        workspace: where.
        disk: how files change.
        judge: shapes of documents.
    """

    workspace: Workspace
    disk: Disk
    judge: Judge = shapes.faults

    @classmethod
    def at(cls, folder: Path, disk: Disk | None = None) -> OwnRepository:
        """The repository of a folder."""
        return cls(Workspace(folder), RealDisk() if disk is None else disk)

    def begin(self, now: datetime, terms: Terms | None = None) -> None:
        """Make it, unless it is there: all keys, and the first words of every role.

        Raises:
            OSError: it cannot be written.
        """
        if (self.workspace.published / "metadata").exists():
            return
        if not self.workspace.settings.exists():
            self.workspace.make(terms or Terms(), self.disk)
        for role in _ROLES:
            self._key(role)
        signers = self.signers()
        change = Change(None, self.workspace.terms(), now)
        change.begin({role: self._holder(role) for role in _ROLES})
        self._publish(change, signers)

    @property
    def root_sha256(self) -> str:
        """What agents pin: SHA-256 of the first root, lower hex."""
        first = self.workspace.published / "metadata" / "1.root.json"
        return hashlib.sha256(first.read_bytes()).hexdigest()

    def change(self, now: datetime) -> Change:
        """What may be changed, to be given to :meth:`publish`."""
        before = standing.read(self.workspace.published)
        return Change(before, self.workspace.terms(), now)

    def put(
        self,
        files: Mapping[str, bytes],
        now: datetime,
        *,
        remove: Iterable[str] = (),
    ) -> Live | None:
        """Let files say this from now on; None if they say so already.

        Departments that have no role get one.

        Raises:
            UsageFault: a path is nobody's.
            DocumentsInvalid: a file does not fit.
            OSError: it cannot be written; what was served before still is.
        """
        change = self.change(now)
        for path, content in files.items():
            self._member(change, role_of(path))
            change.put(path, content)
        for path in remove:
            change.remove(path)
        return self.publish(change) if change.words else None

    def put_folder(self, folder: Path, now: datetime) -> Live | None:
        """Let the documents of a folder go live; None if nothing changed.

        Raises:
            UsageFault: no such folder, or a file that is nobody's.
            DocumentsInvalid: a file does not fit.
            OSError: it cannot be written; what was served before still is.
        """
        change = self.change(now)
        for path in sorted(folder.glob("nodes/*/*/config.json")):
            self._member(change, role_of(path.relative_to(folder).as_posix()))
        collect(change, folder)
        return self.publish(change) if change.words else None

    def publish(self, change: Change) -> Live:
        """Sign a change with every key, and let it go live.

        Raises:
            CentralBusy, CentralStale: another process publishes here, or did since the
                change was begun; nothing is lost, begin it again.
            DocumentsInvalid: a file does not fit.
            OSError: it cannot be written; what was served before still is.
        """
        return self._publish(change, self.signers())

    def signers(self) -> dict[str, Signer]:
        """Every key, by id."""
        return keys.online(self.workspace.online, {})

    def _publish(self, change: Change, signers: Mapping[str, Signer]) -> Live:
        for role, word in change.words.items():
            for keyid in change.holders(role) & signers.keys():
                word.sign(signers[keyid], append=True)
        press = Press(self.workspace.published, signers, self.disk, self.judge)
        with self.workspace.alone():
            return press.publish(change)

    def _member(self, change: Change, role: str) -> None:
        found = change.newest(delegator_of(role))
        if role in _ROLES or found is None or role in delegated(found.signed):
            return
        self._key(role)
        change.hold(role, self._holder(role))

    def _key(self, role: str) -> None:
        path = self._path(role)
        if not path.exists():
            keys.public_path(path).unlink(missing_ok=True)  # of a first try that died
            keys.generate(path, name=role, passphrase=None, disk=self.disk)

    def _holder(self, role: str) -> Holders:
        signer = keys.load(self._path(role), passphrase=None, environ={})
        return Holders((signer.public_key,), 1)

    def _path(self, role: str) -> Path:
        return self.workspace.online / f"{role}.key"
