# SPDX-License-Identifier: Apache-2.0
"""What a draft changes, for the people who are asked to sign it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tuf.api.metadata import Root, Targets

from agent.central import keys, roles
from agent.central.change import Change
from agent.central.standing import Signed
from agent.errors import MalformedMessage
from agent.wire import strict

Kind = Literal["new", "changed", "gone"]
_TEXT = 120
"""Longest value that is shown."""
_MOST = 200
"""Most members of a file that are shown one by one."""


@dataclass(frozen=True)
class Member:
    """One value of a document; None where there is none."""

    key: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class FileChange:
    """What happens to one file."""

    path: str
    kind: Kind
    role: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Holding:
    """Who holds a role, before and after; empty where there was or is none.

    Everybody by label and begin of the key's id.
    """

    role: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    old_threshold: int
    new_threshold: int


@dataclass(frozen=True)
class Difference:
    """Everything that is to be signed.

    Args:
        signed: how far each word is signed.
        holdings: roles that others are to hold, or with another threshold.
        files: files that change.
        nodes: nodes that the changes reach.
        everybody: whether they reach every node.
    """

    signed: tuple[Signed, ...]
    holdings: tuple[Holding, ...]
    files: tuple[FileChange, ...]
    nodes: tuple[str, ...]
    everybody: bool


def difference(change: Change) -> Difference:
    """What a draft changes.

    Raises:
        CentralInvalid: a file is damaged.
    """
    files = tuple(_files(change))
    reached = {n for file in files for n in _reach(change, file.path)}
    return Difference(
        change.signed(),
        tuple(_holdings(change)),
        files,
        tuple(sorted(reached - {"*"})),
        "*" in reached,
    )


def _files(change: Change) -> Iterable[FileChange]:
    for role in sorted(change.words):
        before = None if change.before is None else change.before.metadata.get(role)
        old = {}
        if before is not None and isinstance(before.signed, Targets):
            old = before.signed.targets
        new = change.targets_of(role)
        for path in sorted(old.keys() | new.keys()):
            if path not in new:
                yield FileChange(path, "gone", role, ())
            elif path not in old or old[path] != new[path]:
                kind: Kind = "changed" if path in old else "new"
                members = tuple(_members(change, path))[:_MOST]
                yield FileChange(path, kind, role, members)


def _members(change: Change, path: str) -> Iterable[Member]:
    if path.startswith("releases/"):
        return
    old = _flat(change.as_before(path))
    new = _flat(change.files.get(path))
    for key in [*new, *(k for k in old if k not in new)]:
        if old.get(key) != new.get(key):
            yield Member(key, old.get(key), new.get(key))


def _flat(content: bytes | None) -> dict[str, str]:
    """Values of a document by dotted key; statements of keys stay whole."""
    if content is None:
        return {}
    try:
        body = strict.loads(content)
    except MalformedMessage as e:
        return {"": e.detail}
    found: dict[str, str] = {}
    _walk(body, "", found)
    return found


def _walk(value: Any, at: str, found: dict[str, str]) -> None:
    if isinstance(value, dict):
        for name, member in value.items():
            _walk(member, f"{at}.{name}" if at else name, found)
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for i, member in enumerate(value):
            _walk(member, f"{at}[{i}]", found)
    else:
        text = json.dumps(value, ensure_ascii=False)
        found[at] = text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def _reach(change: Change, path: str) -> Iterable[str]:
    parts = path.split("/")
    if parts[0] == "nodes":
        return (f"{parts[1]}/{parts[2]}",)
    if parts[0] == "groups":
        return members(change, parts[1])
    return () if parts[0] == "releases" else ("*",)


def members(change: Change, group: str) -> tuple[str, ...]:
    """Nodes whose document lists a group."""
    found = []
    paths = {} if change.before is None else dict(change.before.files)
    for role in change.words:
        paths.update(change.targets_of(role))
    for path in paths:
        parts = path.split("/")
        if parts[0] != "nodes":
            continue
        content = change.as_now(path)
        try:
            listed = strict.loads(content or b"{}").get("groups", [])
        except MalformedMessage:
            continue  # told when it is signed
        if isinstance(listed, list) and group in listed:
            found.append(f"{parts[1]}/{parts[2]}")
    return tuple(found)


def _holdings(change: Change) -> Iterable[Holding]:
    for above in ("root", "targets"):
        if above not in change.words:
            continue
        old = _held(None if change.before is None else change.before.metadata[above])
        new = _held(change.words[above])
        for role in sorted(old.keys() | new.keys()):
            was, now = old.get(role, ((), 0)), new.get(role, ((), 0))
            if was != now:
                yield Holding(role, was[0], now[0], was[1], now[1])


def _held(found: Any) -> dict[str, tuple[tuple[str, ...], int]]:
    if found is None:
        return {}
    signed: Root | Targets = found.signed
    if isinstance(signed, Targets):
        names, known = roles.delegated(signed), signed.delegations
        public = {} if known is None else known.keys
    else:
        names, public = tuple(signed.roles), signed.keys
    held = {}
    for role in names:
        kept = signed.get_delegated_role(role)
        held[role] = (
            tuple(sorted(keys.named(public[k]) for k in kept.keyids)),
            kept.threshold,
        )
    return held
