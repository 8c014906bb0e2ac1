# SPDX-License-Identifier: Apache-2.0
"""A signed change goes live: checked, proven, written, and turned over at once.

Rules

1. What is signed offline is the next version of its role, signed by as many as must,
   not expired, speaks only of its own paths, and every file is there as it says.
2. Documents fit their shapes, and a changed one has a higher generation.
3. The publisher signs snapshot, timestamp and brake with the keys that lie online.
4. Everything is proven by the client's rules (:mod:`agent.central.prove`) first.
5. Files are written and synced before the link to the metadata is turned over; what
   was served stays whole until then and afterwards.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Timestamp

from agent.central import brake, powers, roles, shapes, standing, together
from agent.central.change import Change
from agent.central.disk import Disk
from agent.central.prove import Candidate, prove
from agent.central.standing import digest_name
from agent.errors import (
    CentralInvalid,
    CentralStale,
    CentralUnsigned,
    DocumentsInvalid,
    Fault,
    UsageFault,
)
from agent.wire.repository import BRAKE

_HASHES = ["sha256"]
KEPT = 20
"""So many versions of a role are served."""
Judge = Callable[[str, bytes], Iterable[Fault]]
"""The faults of a document, by path and content."""


@dataclass(frozen=True)
class Live:
    """What is served now.

    Args:
        versions: by role.
        expires: by role, aware UTC.
    """

    versions: Mapping[str, int]
    expires: Mapping[str, datetime]


@dataclass(frozen=True)
class Press:
    """What publishing needs.

    Args:
        folder: ``published``.
        signers: keys that lie online, by key id.
        disk: how files change.
        judge: shapes of the documents that only the agent knows.
    """

    folder: Path
    signers: Mapping[str, Signer]
    disk: Disk
    judge: Judge = shapes.faults

    def publish(self, change: Change) -> Live:
        """Check a change and let it go live; the caller holds the workspace.

        Raises:
            CentralStale: a word is expired, or not the next version, or somebody else
                has published since the change was begun.
            CentralUnsigned: signatures are missing.
            DocumentsInvalid: files do not fit; every fault of all of them.
            CentralInvalid: a client would refuse it, or what is served is damaged.
            OSError: it cannot be written; what was served before still is.
        """
        self._check_unmoved(change)
        if change.newest(BRAKE) is None:
            brake.begin(change)
        check_versions(change)
        check_signatures(change)
        check_files(change, self.judge)
        raw = self._online(change)
        roots = change.before.roots if change.before is not None else ()
        if "root" in change.words:
            roots = (*roots, raw["root"])
        prove(Candidate(roots, raw), change.before, change.now)
        self._write(change, raw, roots)
        found = {role: roles.parse(role, data).signed for role, data in raw.items()}
        return Live(
            {role: word.version for role, word in found.items()},
            {role: word.expires for role, word in found.items()},
        )

    def _check_unmoved(self, change: Change) -> None:
        """What was published meanwhile, a revocation perhaps, is never lost."""
        found = standing.read(self.folder)
        served = None if found is None else found.raw["timestamp"]
        known = None if change.before is None else change.before.raw["timestamp"]
        if served != known:
            raise CentralStale("somebody else published meanwhile")

    # --- the roles that lie online ---------------------------------------------------

    def _online(self, change: Change) -> dict[str, bytes]:
        """The newest word of every role, with those of the online roles made."""
        if change.words.get(BRAKE) or not self._brake_holds(change):
            self._sign(change, BRAKE, change.word(BRAKE))
        raw = {} if change.before is None else dict(change.before.raw)
        raw.update({role: word.to_bytes() for role, word in change.words.items()})
        snapshot = self._snapshot(change, raw)
        raw["snapshot"] = self._sign(change, "snapshot", snapshot)
        stamp = self._next(change, "timestamp", Timestamp())
        stamp.signed.snapshot_meta = _meta(snapshot.signed.version, raw["snapshot"])
        raw["timestamp"] = self._sign(change, "timestamp", stamp)
        return raw

    def _brake_holds(self, change: Change) -> bool:
        found, targets = change.newest(BRAKE), change.newest("targets")
        if found is None or targets is None:
            return False
        if change.terms.half_over(BRAKE, found.signed.expires, change.now):
            return False
        payload = found.signed_bytes
        return bool(
            targets.signed.get_verification_result(BRAKE, payload, found.signatures)
        )

    def _snapshot(self, change: Change, raw: Mapping[str, bytes]) -> Metadata[Any]:
        found = self._next(change, "snapshot", Snapshot(meta={}))
        for role, word in change.words.items():
            if role != "root":
                meta = _meta(word.signed.version, raw[role])
                found.signed.meta[f"{role}.json"] = meta
        return found

    def _next(self, change: Change, role: str, empty: Any) -> Metadata[Any]:
        known = None if change.before is None else change.before.metadata[role]
        if known is None:
            empty.expires = change.terms.until(role, change.now)
            return Metadata(empty)
        found = copy.deepcopy(known)
        roles.renew(found, role, change.terms, change.now)
        return found

    def _sign(self, change: Change, role: str, word: Metadata[Any]) -> bytes:
        above = change.newest(roles.delegator_of(role))
        if above is None:
            raise CentralUnsigned(f"{role}: nobody says who holds it")
        for keyid in above.signed.get_delegated_role(role).keyids:
            if keyid in self.signers:
                word.sign(self.signers[keyid], append=True)
        found = standing.verified(role, word, old=None, delegator=above.signed)
        if found.missing:
            raise CentralUnsigned(f"{role}: its key does not lie in the online folder")
        return word.to_bytes()

    # --- files -----------------------------------------------------------------------

    def _write(
        self, change: Change, raw: Mapping[str, bytes], roots: tuple[bytes, ...]
    ) -> None:
        self._put(self.folder / "targets", change.files)
        names = {"timestamp.json": raw["timestamp"]}
        for role in ("snapshot", *change.words):
            data = roots[-1] if role == "root" else raw[role]
            names[f"{roles.parse(role, data).signed.version}.{role}.json"] = data
        self._turn(roles.parse("timestamp", raw["timestamp"]).signed.version, names)

    def _put(self, targets: Path, files: Mapping[str, bytes]) -> None:
        """Write targets under their digests, then make all names durable."""
        folders: set[Path] = set()
        for path, content in sorted(files.items()):
            place = targets / digest_name(TargetFile.from_data(path, content, _HASHES))
            place.parent.mkdir(parents=True, exist_ok=True)
            if not _whole(place, content):  # missing, or damaged since
                self.disk.write(place, content)
            within = [p for p in place.parents if p.is_relative_to(targets)]
            folders.update(within)  # the names may be another death's
        for folder in sorted(folders, reverse=True):
            self.disk.sync(folder)

    def _turn(self, number: int, names: Mapping[str, bytes]) -> None:
        """Make the next metadata folder, then let the link lead there."""
        folder, link = self.folder / f".metadata-{number}", self.folder / "metadata"
        old = link.resolve() if link.exists() else None
        if old == folder.resolve():
            raise CentralInvalid(f"{folder.name}: is served already")
        if folder.exists():  # of a publication that did not come to its end
            shutil.rmtree(folder)
        folder.mkdir()
        for each in sorted(old.iterdir()) if old is not None else ():
            if each.name not in names and wanted(each.name, names):
                self.disk.link(each, folder / each.name)
        for name, data in names.items():
            self.disk.write(folder / name, data)
        self.disk.sync(folder)
        self.disk.sync(self.folder)
        self.disk.point(link, folder.name)
        self.disk.sync(self.folder)
        for each in self.folder.glob(".metadata-*"):
            if each != folder and each.is_dir():
                shutil.rmtree(each)


def _whole(place: Path, content: bytes) -> bool:
    """Whether a file is there and says this."""
    try:
        return place.stat().st_size == len(content) and place.read_bytes() == content
    except OSError:
        return False


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile.from_data(version, data, _HASHES)


def wanted(name: str, newest: Iterable[str]) -> bool:
    """Whether a file of metadata is still served beside the newest ones.

    Every root is: a client that was away follows them one by one. Of other roles the
    newest :data:`KEPT` versions are, for clients that are just reading.
    """
    version, _, role = name.partition(".")
    if not version.isdigit():
        return False
    if role == "root.json":
        return True
    now = [int(n.partition(".")[0]) for n in newest if n.partition(".")[2] == role]
    return not now or int(version) > max(now) - KEPT


# --- checks -----------------------------------------------------------------------


def check_versions(change: Change) -> None:
    """Every word is the next of its role, and not expired.

    Raises:
        CentralStale: one is not.
    """
    for role, word in change.words.items():
        known = None if change.before is None else change.before.metadata.get(role)
        wanted = 1 if known is None else known.signed.version + 1
        if word.signed.version != wanted:
            raise CentralStale(
                f"{role}: expected version {wanted}, got {word.signed.version}"
            )
        if word.signed.is_expired(change.now):
            raise CentralStale(f"{role}: expired on {word.signed.expires:%Y-%m-%d}")


def check_signatures(change: Change) -> None:
    """Those who must have signed.

    Raises:
        CentralUnsigned: it lists every role that needs more.
    """
    faults = [
        f"{s.role} version {s.version}: {s.missing} more of {', '.join(s.open)}"
        for s in change.signed()
        if s.missing and not roles.is_online(s.role)
    ]
    if faults:
        raise CentralUnsigned("\n".join(faults))


def check_files(change: Change, judge: Judge) -> None:
    """Words give and take what they may; files are there, and fit their shapes.

    Raises:
        DocumentsInvalid: every fault of all files.
        CentralInvalid: a published file is damaged.
    """
    faults = list(powers.faults(change))
    for role in change.words:
        for path, file in change.targets_of(role).items():
            faults += _paths(role, path)
            if path in change.files:
                faults += _content(file, change.files[path])
            elif change.before is None or change.before.files.get(path) != file:
                faults.append(Fault(path, "", "it in the draft, got nothing", None))
    spoken = {p for role in change.words for p in change.targets_of(role)}
    for path, content in change.files.items():
        if path not in spoken:
            faults.append(Fault(path, "", "no role speaks of it", None))
            continue
        faults += judge(path, content)
        if not change.published(path):
            old = change.as_before(path)
            faults += shapes.generation_faults(path, content, old)
    faults += together.faults(change)
    if faults:
        raise DocumentsInvalid(faults=tuple(faults))


def _paths(role: str, path: str) -> list[Fault]:
    try:
        if roles.role_of(path) == role:
            return []
    except UsageFault:
        pass  # nobody's
    return [Fault(path, "", f"a path that {role} may sign", "another")]


def _content(file: TargetFile, content: bytes) -> list[Fault]:
    try:
        file.verify_length_and_hashes(content)
    except RepositoryError:
        return [Fault(file.path, "", "the content that was signed", "another")]
    return []
