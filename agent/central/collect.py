# SPDX-License-Identifier: Apache-2.0
"""Documents of a plain folder, and of an exchange's directory, into a change.

Rules

1. The folder is laid out like the repository: ``groups/<group>/config.json``,
   ``nodes/<department>/<machine>/config.json``, ``limits.json``, ``exchange.json``,
   ``rollout.json``, ``directory/<department>.json``. What is not in it stays as it is.
2. A document need not write its ``generation``: all that changed get the next one, the
   same for all. One that does not differ otherwise has not changed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path

from agent.central import brake, roles, shapes
from agent.central.change import Change
from agent.errors import (
    DocumentsInvalid,
    Fault,
    FepError,
    MalformedMessage,
    UsageFault,
)
from agent.wire import directory, strict
from agent.wire.directory import CAP as EXPORT_CAP
from agent.wire.directory import Directory
from agent.wire.repository import (
    BRAKE,
    DIRECTORY_CAP,
    EXCHANGE_FILE,
    FILE_CAP,
    directory_file,
)

_MOST = 100_000
"""Most files of a folder."""


def collect(change: Change, folder: Path) -> tuple[str, ...]:
    """Take every changed document of a folder; their paths.

    Raises:
        UsageFault: no such folder, or a file that no role may sign offline.
        DocumentsInvalid: a file is not JSON; every fault of all files.
        CentralInvalid: what is published is damaged.
    """
    if not folder.is_dir():
        raise UsageFault(f"{folder}: expected a folder")
    generation = next_generation(change)
    taken, faults = [], []
    for path, data in _files(folder):
        try:
            content = _numbered(change, path, data, generation)
        except MalformedMessage as e:
            faults.append(Fault(path, "", e.detail, None))
            continue
        if content is not None and change.put(path, content):
            taken.append(path)
    if faults:
        raise DocumentsInvalid(faults=tuple(faults))
    return tuple(taken)


def _files(folder: Path) -> Iterable[tuple[str, bytes]]:
    found = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    if len(found) > _MOST:
        raise UsageFault(f"{folder}: expected at most {_MOST} files")
    for path in found:
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or "/." in name:
            continue  # what version control keeps beside documents
        if roles.role_of(name) == BRAKE:
            raise UsageFault(f"{name}: only `fep central revoke` and `brake` write it")
        with path.open("rb") as file:
            yield name, file.read(DIRECTORY_CAP + 1)


def _numbered(change: Change, path: str, data: bytes, generation: int) -> bytes | None:
    """A document with its generation; None if nothing else would change."""
    if not shapes.has_generation(path):
        return data
    body = strict.loads(data)
    if "generation" in body:
        return data
    body = {"v": 1} | body
    old = change.as_now(path)
    if old is not None:
        known = strict.loads(old)
        known.pop("generation", None)
        if known == body:
            return None
    head = {"v": body.pop("v"), "generation": generation}
    return shapes.dumps(head | body)


def next_generation(change: Change) -> int:
    """A generation above all that were ever published or are drafted, not stopped.

    Withdrawn documents count too: their files stay under their digests. A number that
    was stopped before its time is passed over, however high; who has stolen the brake
    does not thereby use the numbers up.

    Raises:
        CentralInvalid: what is published is damaged.
    """
    found = [0, *map(_generation, change.files.items())]
    if change.before is not None:
        found += map(_generation, _ever(change.before.folder / "targets"))
    number, halted = max(found) + 1, brake.halted(change)
    while number in halted:
        number += 1
    return number


def _ever(targets: Path) -> Iterable[tuple[str, bytes]]:
    """Every document that was ever published, by its path."""
    for place in targets.rglob("*.json"):
        name = place.name.partition(".")[2]
        path = (place.parent.relative_to(targets) / name).as_posix()
        if shapes.has_generation(path):
            with place.open("rb") as file:
                yield path, file.read(FILE_CAP)


def _generation(document: tuple[str, bytes]) -> int:
    """The generation of a document; 0 if it has none."""
    path, content = document
    if not shapes.has_generation(path):
        return 0
    try:
        return shapes.generation_of(strict.loads(content))
    except MalformedMessage:
        return 0  # damaged, or told when it is judged


def take_directory(change: Change, export: bytes) -> tuple[str, ...]:
    """Who is who, as an exchange says; the paths that change.

    People compare it before they sign: whoever holds the exchange's key could have
    written it.

    Args:
        change: gets ``exchange.json`` and ``directory/*.json``; revocations are the
            brake's.
        export: answer of ``GET /v1/directory``.

    Raises:
        UsageFault: it is none.
    """
    files = {}
    found = _directory(export)
    for department in found.departments.values():
        files[directory_file(department.department)] = department.as_object()
    files[EXCHANGE_FILE] = found.exchange.as_object()
    return tuple(
        path for path, body in files.items() if change.put(path, shapes.dumps(body))
    )


def _directory(export: bytes) -> Directory:
    if len(export) > EXPORT_CAP:
        raise UsageFault(f"directory: expected at most {EXPORT_CAP} bytes")
    parts = export.strip().split(b".")
    try:
        if len(parts) == 3:
            padded = parts[1] + b"=" * (-len(parts[1]) % 4)
            return directory.parse(base64.b64decode(padded, b"-_", validate=True))
        return directory.parse(export)
    except (FepError, binascii.Error) as e:
        raise UsageFault(
            f"directory: expected the answer of GET /v1/directory; {e}"
        ) from None
