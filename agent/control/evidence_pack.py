# SPDX-License-Identifier: Apache-2.0
"""Judge an evidence pack offline: all of it holds, or what does not is named.

Each receipt is judged at the moment that it names, each manifest at that of its first
receipt that holds: that is when the exchange accepted it. A manifest without a receipt
is only worth something while its key is not revoked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from agent.control.evidence import Check, Verdict, signature
from agent.control.history import History, trusted
from agent.crypto.jose import Unverified, split
from agent.errors import MalformedMessage, NotGenuine
from agent.model.batch import BatchId
from agent.wire import batch, pack, receipt
from agent.wire.batch import Manifest
from agent.wire.grammar import format_time, parse_time
from agent.wire.receipt import Receipt


@dataclass(frozen=True)
class Trust:
    """What the pack is judged by.

    Args:
        aud: the exchange; None: the one that has the pinned key.
        kid: pinned thumbprint of its receipt key, from the slip.
        directories: what else is known, such as the agent's own: it has what was
            revoked since.
    """

    aud: str | None
    kid: str
    directories: tuple[bytes, ...] = ()


@dataclass
class _Found:
    """The texts of a pack by what they are, each under its name."""

    manifests: dict[str, tuple[Unverified, Manifest]] = field(default_factory=dict)
    receipts: dict[str, tuple[Unverified, Receipt]] = field(default_factory=dict)
    directories: list[bytes] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def is_pack(path: Path) -> bool:
    """Whether a file begins as a pack does.

    Raises:
        NotGenuine: it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(pack.MAGIC)) == pack.MAGIC
    except OSError as e:
        raise NotGenuine(f"{path}: {e.strerror}") from e


def examine_pack(path: Path, trust: Trust) -> Verdict:
    """Judge a pack.

    Raises:
        NotGenuine: it cannot be read at all.
    """
    found = _Found()
    try:
        with path.open("rb") as file:
            for place, name, text in pack.entries(file):
                _take(found, place, name, text)
    except OSError as e:
        raise NotGenuine(f"{path}: {e.strerror}") from e
    except MalformedMessage as e:
        return Verdict("pack", None, {}, (Check("form", ok=False, detail=e.detail),))
    texts = (*found.directories, *trust.directories)
    history, faults = trusted(texts, aud=trust.aud, kid=trust.kid)
    checks = found.checks
    for fault in faults[: len(found.directories)]:
        if fault is not None:
            checks.append(Check("directory", ok=False, detail=fault))
    accepted = _receipts(found, history)
    _manifests(found, history, accepted)
    _chain(found)
    if checks and all(c.ok is not False for c in checks):
        detail = f"{len(found.receipts)} receipts, {len(found.manifests)} manifests"
        checks.append(Check("signature", ok=True, detail=detail))
    return Verdict("pack", None, _facts(found, history), tuple(checks))


def _take(found: _Found, place: str, name: str, text: bytes) -> None:
    """Sort one text in; one that breaks its format is a check that fails."""
    try:
        match place:
            case "manifests":
                message = split(text, cap=batch.MESSAGE_CAP)
                found.manifests[name] = message, batch.parse(message.payload)
            case "receipts":
                message = split(text, cap=receipt.CAP)
                found.receipts[name] = message, receipt.parse(message.payload)
            case _:
                found.directories.append(text)
    except MalformedMessage as e:
        detail = f"{name}: {e.detail}"
        found.checks.append(Check("form", ok=False, detail=detail))


def _receipts(found: _Found, history: History) -> Mapping[str, datetime]:
    """Judge the receipts; message digest of a manifest -> when it was accepted."""
    accepted: dict[str, datetime] = {}
    ours = {m.digest: manifest.id for m, manifest in found.manifests.values()}
    good = 0
    for name, (message, one) in found.receipts.items():
        at, aud = parse_time(one.at), one.exchange
        check = _by_exchange(message, history, aud, at)
        if check.ok and ours.get(one.manifest, one.id) != one.id:
            check = Check(
                "receipt", ok=False, detail="its manifest is of another batch"
            )
        if not check.ok:
            found.checks.append(Check("receipt", ok=False, detail=_of(name, check)))
            continue
        good += 1
        accepted[one.manifest] = min(at, accepted.get(one.manifest, at))
    alone = sum(one.manifest not in ours for _, one in found.receipts.values())
    if good:
        found.checks.append(Check("receipt", ok=True, detail=f"{good} hold"))
    if alone:
        detail = f"{alone} speak of a manifest that is not here"
        found.checks.append(Check("receipt", ok=None, detail=detail))
    return accepted


def _by_exchange(
    message: Unverified, history: History, aud: str, at: datetime
) -> Check:
    if message.typ != receipt.TYP:
        return Check("receipt", ok=False, detail=f"typ {message.typ[:64]!r}")
    return signature(message, lambda kid: history.exchange_key(aud, kid, at))


def _manifests(
    found: _Found, history: History, accepted: Mapping[str, datetime]
) -> None:
    good = 0
    for name, (message, one) in found.manifests.items():
        check = _by_node(message, history, one.producer, accepted.get(message.digest))
        if check.ok:
            good += 1
        else:
            found.checks.append(Check("manifest", ok=False, detail=_of(name, check)))
    if good:
        found.checks.append(Check("manifest", ok=True, detail=f"{good} hold"))


def _by_node(
    message: Unverified, history: History, who: str, at: datetime | None
) -> Check:
    if message.typ != batch.TYP:
        return Check("manifest", ok=False, detail=f"typ {message.typ[:64]!r}")
    return signature(message, lambda kid: history.node_key(who, kid, "sign", at))


def _of(name: str, check: Check) -> str:
    return f"{name}: {check.detail}"


def _chain(found: _Found) -> None:
    """Manifests that follow each other name each other."""
    by_id: dict[BatchId, tuple[str, Manifest]] = {}
    for message, one in found.manifests.values():
        if one.id in by_id and by_id[one.id][0] != message.digest:
            detail = f"{_named(one.id)}: two manifests of one identity"
            found.checks.append(Check("chain", ok=False, detail=detail))
        by_id[one.id] = message.digest, one
    links = holes = 0
    for before, after in pairwise(sorted(by_id)):
        if not _follows(before, after):
            holes += _same_epoch(before, after)
        elif by_id[after][1].stream.prev == by_id[before][0]:
            links += 1
        else:
            detail = f"{_named(after)}: does not chain to the one before it"
            found.checks.append(Check("chain", ok=False, detail=detail))
    if links:
        found.checks.append(Check("chain", ok=True, detail=f"{links} links hold"))
    if holes:
        detail = f"{holes} times batches in between are not here"
        found.checks.append(Check("chain", ok=None, detail=detail))


def _same_epoch(one: BatchId, other: BatchId) -> bool:
    first, second = ((b.producer, b.aud, b.resource, b.epoch) for b in (one, other))
    return first == second


def _follows(before: BatchId, after: BatchId) -> bool:
    return _same_epoch(before, after) and after.seq == before.seq + 1


def _named(one: BatchId) -> str:
    return f"{one.resource} {one.epoch}/{one.seq}"


def _facts(found: _Found, history: History) -> dict[str, object]:
    receipts = [one for _, one in found.receipts.values()]
    times = sorted(receipts, key=lambda one: parse_time(one.at))
    known = history.known_to
    return {
        "exchange": _one({r.exchange for r in receipts}),
        "producer": _one({r.producer for r in receipts}),
        "resources": sorted({r.resource for r in receipts}),
        "manifests": len(found.manifests),
        "receipts": dict(sorted(Counter(r.state for r in receipts).items())),
        "first": times[0].at if times else None,
        "last": times[-1].at if times else None,
        "revocations_known_to": None if known is None else format_time(known),
    }


def _one(names: Iterable[str]) -> str | None:
    found = sorted(names)
    return ", ".join(found) or None
