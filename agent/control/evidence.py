# SPDX-License-Identifier: Apache-2.0
"""Judge a batch file or a receipt offline: who signed it, is it whole, where it stands.

Nothing in the file is trusted to say with which key it must be judged: keys come from
directories to which the pinned key of the exchange leads (``agent.control.history``).
A receipt is judged at the moment that it names, so that it stays evidence when its key
is retired or revoked later. A batch file names no moment that counts: its key must not
be revoked to this day.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent.control.history import History
from agent.crypto.jose import PublicKey, Unverified, Verified, split, verify
from agent.errors import FepError, MalformedMessage, NotGenuine
from agent.model.batch import BatchId
from agent.wire import batch, receipt
from agent.wire.batch import Manifest
from agent.wire.grammar import parse_time

CHUNK = 1 << 20


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        check: ``form``, ``signature``, ``payload``, ``before``, ``after``, ``file``,
            of a pack also ``directory``, ``manifest``, ``receipt`` and ``chain``.
        ok: None when there was nothing to compare with.
        detail: what was found.
    """

    check: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What a file is.

    Args:
        kind: ``batch``, ``receipt`` or ``pack``; None if it is none of them.
        digest: message digest of its JWS, or None.
        facts: what it says of itself; only worth something if it is genuine.
        checks: what was looked at, in order.
    """

    kind: str | None
    digest: str | None
    facts: dict[str, object]
    checks: tuple[Check, ...]

    @property
    def genuine(self) -> bool:
        """Whether nothing failed, and a signature was verified."""
        failed = any(c.ok is False for c in self.checks)
        return not failed and any(c.check == "signature" and c.ok for c in self.checks)


def examine(path: Path, history: History) -> Verdict:
    """Judge a file.

    Raises:
        NotGenuine: it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            return _examine(path, file, history)
    except OSError as e:
        raise NotGenuine(f"{path}: {e.strerror}") from e


def _examine(path: Path, file: IO[bytes], history: History) -> Verdict:
    try:
        message = _message(file)
    except MalformedMessage as e:
        return Verdict(None, None, {}, (Check("form", ok=False, detail=e.detail),))
    if message.typ == batch.TYP:
        return _batch(path, file, message, history)
    if message.typ == receipt.TYP:
        return _receipt(message, history)
    detail = f"expected a batch or a receipt, got {message.typ[:64]!r}"
    return Verdict(None, message.digest, {}, (Check("form", ok=False, detail=detail),))


def _message(file: IO[bytes]) -> Unverified:
    """Line 1; a batch's has its LF, and a receipt has nothing behind it.

    Raises:
        MalformedMessage: another form.
    """
    line = file.readline(batch.LINE_CAP)
    message = split(line.removesuffix(b"\n"), cap=batch.MESSAGE_CAP)
    if message.typ == batch.TYP and not line.endswith(b"\n"):
        raise MalformedMessage("line 1: expected an LF, got the end of the file")
    if message.typ == receipt.TYP and file.read(1):
        raise MalformedMessage("receipt: expected nothing behind it")
    return message


def _batch(
    path: Path, file: IO[bytes], message: Unverified, history: History
) -> Verdict:
    try:
        manifest = batch.parse(message.payload)
    except MalformedMessage as e:
        check = Check("form", ok=False, detail=e.detail)
        return Verdict("batch", message.digest, {}, (check,))
    who = manifest.producer
    checks = (
        signature(message, lambda kid: history.node_key(who, kid, "sign", None)),
        _payload(file, manifest),
        _name(path, manifest),
        _before(path, manifest),
        _after(path, manifest, message.digest),
    )
    stream, rows = manifest.stream, manifest.rows
    facts: dict[str, object] = {
        "producer": who,
        "aud": manifest.aud,
        "resource": manifest.resource,
        "epoch": stream.epoch,
        "seq": stream.seq,
        "prev": stream.prev,
        "mode": manifest.mode,
        "rows": {"upsert": rows.upsert, "delete": rows.delete, "keep": rows.keep},
        "as_of": manifest.as_of,
        "sealed_at": manifest.sealed_at,
    }
    return Verdict("batch", message.digest, facts, checks)


def _receipt(message: Unverified, history: History) -> Verdict:
    try:
        found = receipt.parse(message.payload)
    except MalformedMessage as e:
        check = Check("form", ok=False, detail=e.detail)
        return Verdict("receipt", message.digest, {}, (check,))
    aud, at = found.exchange, parse_time(found.at)
    check = signature(message, lambda kid: history.exchange_key(aud, kid, at))
    facts: dict[str, object] = {
        "exchange": aud,
        "producer": found.producer,
        "resource": found.resource,
        "epoch": found.epoch,
        "seq": found.seq,
        "manifest": found.manifest,
        "state": found.state,
        "code": found.code,
        "at": found.at,
    }
    return Verdict("receipt", message.digest, facts, (check,))


def signature(message: Unverified, find: Callable[[str], PublicKey]) -> Check:
    """Whether the key of a message's ``kid`` may sign it and did."""
    try:
        verified: Verified = verify(message, find(message.kid), typ=message.typ)
    except FepError as e:
        return Check("signature", ok=False, detail=f"{e.code}: {e.detail}")
    return Check("signature", ok=True, detail=f"kid {verified.kid}")


def _payload(file: IO[bytes], manifest: Manifest) -> Check:
    digest, size = hashlib.sha256(), 0
    while piece := file.read(CHUNK):
        digest.update(piece)
        size += len(piece)
    expected = manifest.content
    got = "sha256:" + digest.hexdigest()
    if (size, got) == (expected.size, expected.digest):
        return Check("payload", ok=True, detail=f"{size} bytes, {got}")
    detail = f"expected {expected.size} bytes, {expected.digest}; got {size}, {got}"
    return Check("payload", ok=False, detail=detail)


def _name(path: Path, manifest: Manifest) -> Check:
    """The name is for people only; another one is no fault."""
    expected = batch.file_name(manifest.id)
    ok = True if path.name == expected else None
    return Check("file", ok=ok, detail=f"its own name is {expected}")


def _before(path: Path, manifest: Manifest) -> Check:
    stream = manifest.stream
    if stream.seq == 1:
        detail = f"first of its epoch, reason {stream.reason}, prev {stream.prev}"
        return Check("before", ok=None, detail=detail)
    found = _neighbour(path, manifest, -1)
    if found is None:
        return Check("before", ok=None, detail="the batch before it is not here")
    ok = found[1] == stream.prev
    return Check("before", ok=ok, detail=f"expected {stream.prev}, got {found[1]}")


def _after(path: Path, manifest: Manifest, digest: str) -> Check:
    found = _neighbour(path, manifest, +1)
    if found is None:
        return Check("after", ok=None, detail="the batch after it is not here")
    prev = found[0].stream.prev
    return Check("after", ok=prev == digest, detail=f"expected {digest}, got {prev}")


def _neighbour(
    path: Path, manifest: Manifest, step: int
) -> tuple[Manifest, str] | None:
    """Manifest and message digest of the batch beside this one in the same folder."""
    own = manifest.id
    wanted = BatchId(own.producer, own.aud, own.resource, own.epoch, own.seq + step)
    try:
        with (path.parent / batch.file_name(wanted)).open("rb") as file:
            message = split(batch.read_line1(file), cap=batch.MESSAGE_CAP)
        return batch.parse(message.payload), message.digest
    except (OSError, MalformedMessage):
        return None
