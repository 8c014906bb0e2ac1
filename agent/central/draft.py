# SPDX-License-Identifier: Apache-2.0
"""The draft's folder: what would change, and what it changes, to be carried and signed.

::

    draft/
      new/metadata/<role>.json    words to sign
      new/targets/<path>          content of new and changed files
      old/metadata/<role>.json    what is published, to compare with
      old/targets/<path>
      old/roots/<n>.json          every root, the first first

It is read again on a machine without a line, where nothing else is known, so everything
is checked before a signature: a person signs what was shown. ``old`` is only compared
with, but it hides whatever it claims to run already: its words are signed by those who
held them, from the first root on, whose digest people compare with their slip or give.
The publisher compares with what it has published itself.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from agent.central import publish, roles, shapes, standing
from agent.central.change import Change
from agent.central.disk import Disk
from agent.central.publish import Judge
from agent.central.roles import Terms
from agent.central.standing import Standing
from agent.errors import CentralInvalid, CentralKeyForeign, UsageFault
from agent.wire.repository import RELEASES

_MOST = 100_000
"""Most files of a draft."""


@dataclass(frozen=True)
class CarriedStanding(Standing):
    """What was published, as a draft carries it: files lie under their own names."""

    def content(self, path: str) -> bytes:
        """What a file says.

        Raises:
            CentralInvalid: it is not what its role says.
        """
        file = self.files[path]
        data = _content(self.folder / "targets", path)
        try:
            file.verify_length_and_hashes(data)
        except RepositoryError as e:
            raise CentralInvalid(f"{path}: {e}") from e
        return data


def save(change: Change, folder: Path, disk: Disk) -> None:
    """Write a draft; one that is there is replaced.

    Raises:
        OSError: it cannot be written.
    """
    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    words = {role: word.to_bytes() for role, word in change.words.items()}
    _write(making / "new", words, change.files, disk)
    if change.before is not None:
        _write(making / "old", change.before.raw, _carried(change.before), disk)
        for i, data in enumerate(change.before.roots, 1):
            disk.write(making / "old" / "roots" / f"{i}.json", data)
    disk.sync(making)
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)
    disk.sync(folder.parent)


def _carried(before: Standing) -> dict[str, bytes]:
    """Everything that is published but programs."""
    return {
        path: before.content(path)
        for path in before.files
        if roles.role_of(path) != RELEASES
    }


def _write(
    folder: Path, words: Mapping[str, bytes], files: Mapping[str, bytes], disk: Disk
) -> None:
    for sub in ("metadata", "targets", "roots"):
        (folder / sub).mkdir(parents=True)
    for role, data in words.items():
        disk.write(folder / "metadata" / f"{role}.json", data)
    for path, data in files.items():
        place = folder / "targets" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        disk.write(place, data)


def load(
    folder: Path, *, before: Standing | None, terms: Terms, now: datetime
) -> Change:
    """A draft as the publisher sees it: beside what it has published itself.

    Raises:
        UsageFault: there is no draft, or a file's name cannot be one.
        CentralInvalid: a file cannot be read.
    """
    if not (folder / "new").is_dir():
        raise UsageFault(f"{folder}: no draft here; `fep central draft` makes one")
    words = _metadata(folder / "new" / "metadata")
    if online := sorted(filter(roles.is_online, words)):
        raise UsageFault(f"{online[0]}: is never drafted")
    files = _files(folder / "new" / "targets")
    return Change(before, terms, now, words, files)


def load_carried(
    folder: Path, *, now: datetime, root_sha256: str | None = None
) -> Change:
    """A draft where nothing but it is known.

    Args:
        folder: the draft's.
        now: aware UTC.
        root_sha256: of the first root, as the reader knows it from elsewhere.

    Raises:
        UsageFault: there is no draft, or a file's name cannot be one.
        CentralInvalid: a file cannot be read, or what it compares with does not follow
            from this root, or was not signed by those who held it.
    """
    before = None
    if (folder / "old").is_dir():
        raw: dict[str, bytes] = {}
        found = _metadata(folder / "old" / "metadata", raw)
        roots = tuple(_roots(folder / "old" / "roots"))
        before = CarriedStanding(found, raw, roots, folder / "old")
        _check_old(before)
    change = load(folder, before=before, terms=Terms(), now=now)
    if root_sha256 is not None and first_root_sha256(change) != root_sha256:
        raise CentralInvalid(f"old/roots: expected a first root {root_sha256}")
    return change


def first_root_sha256(change: Change) -> str | None:
    """What agents pin, by what a draft compares with; None before the first root."""
    if change.before is None:
        return None
    return hashlib.sha256(change.before.roots[0]).hexdigest()


def _roots(folder: Path) -> Sequence[bytes]:
    found: list[bytes] = []
    while (path := folder / f"{len(found) + 1}.json").exists():
        found.append(standing.read_metadata(path))
    if not found:
        raise CentralInvalid(f"{folder}: expected every root, got none")
    return found


def _metadata(folder: Path, raw: dict[str, bytes] | None = None) -> dict[str, Any]:
    found: dict[str, Metadata[Any]] = {}
    for path in sorted(folder.glob("*.json")):
        role = path.name.removesuffix(".json")
        if not roles.known_role(role):
            raise UsageFault(f"{path}: no role of this name")
        try:
            with path.open("rb") as file:
                data = file.read(standing.METADATA_CAP)
            found[role] = roles.parse(role, data)
        except (OSError, RepositoryError) as e:
            raise CentralInvalid(f"{path}: {e}") from e
        if raw is not None:
            raw[role] = data
    return found


def _files(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UsageFault(f"{path}: expected a plain file")
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            roles.role_of(name)
            found[name] = _content(folder, name)
        if len(found) > _MOST:
            raise UsageFault(f"{folder}: expected at most {_MOST} files")
    return found


def _content(folder: Path, name: str) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            data = file.read(standing.TARGET_CAP + 1)
    except OSError as e:
        raise CentralInvalid(f"{name}: {e.strerror}") from e
    if len(data) > standing.TARGET_CAP:
        raise CentralInvalid(f"{name}: expected at most {standing.TARGET_CAP} bytes")
    return data


def sign(
    folder: Path,
    change: Change,
    signer: Signer,
    *,
    disk: Disk,
    judge: Judge = shapes.faults,
) -> tuple[str, ...]:
    """Sign every drafted word in which a key has a part; the roles.

    Args:
        folder: the draft's.
        change: of :func:`load_carried`, as it was shown.
        signer: the key.
        disk: how files change.
        judge: shapes of the documents.

    Raises:
        CentralKeyForeign: it has no part in any.
        CentralStale: a word is expired, or not the next version.
        CentralInvalid: a file that it compares with is not what its role says.
        DocumentsInvalid: files are not what the words say, or do not fit.
        OSError: the draft cannot be written.
    """
    publish.check_versions(change)
    publish.check_files(change, judge)
    keyid = signer.public_key.keyid
    mine = tuple(role for role in change.words if keyid in change.holders(role))
    if not mine:
        raise CentralKeyForeign(
            f"{keyid[:12]}: has no part in {', '.join(change.words)}"
        )
    for role in mine:
        change.words[role].sign(signer, append=True)
        path = folder / "new" / "metadata" / f"{role}.json"
        disk.write(path, change.words[role].to_bytes())
        disk.sync(path.parent)
    return mine


def _check_old(before: Standing) -> None:
    """Every word that people compare with was signed by those who held it."""
    roots = [roles.parse("root", data) for data in before.roots]
    for above, root in zip([roots[0], *roots], roots, strict=False):
        _signed("root", root, above.signed)
        _signed("root", root, root.signed)
    if before.roots[-1] != before.raw.get("root"):
        raise CentralInvalid("old/root: expected the last of old/roots")
    _signed("targets", before.metadata["targets"], before.root)
    for role in roles.delegated(before.targets):
        if role in before.metadata:
            _signed(role, before.metadata[role], before.targets)


def _signed(role: str, word: Metadata[Any], above: Root | Targets) -> None:
    if not above.get_verification_result(role, word.signed_bytes, word.signatures):
        raise CentralInvalid(f"old/{role}: is not signed by those who held it")
