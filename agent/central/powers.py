# SPDX-License-Identifier: Apache-2.0
"""Whether new words give roles the power that is agreed, and no other.

People are shown who holds a role; that nothing else about it may change is held here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuf.api.metadata import DelegatedRole, Root, Targets

from agent.central import keys, roles
from agent.central.change import Change
from agent.errors import Fault
from agent.wire.repository import TOP


def faults(change: Change) -> Iterable[Fault]:
    """What new words say about roles and keys beyond who holds what."""
    for role, word in change.words.items():
        signed = word.signed
        if isinstance(signed, Root):
            yield from _root(signed)
        elif role == "targets":
            yield from _delegations(signed)
        elif isinstance(signed, Targets) and signed.delegations is not None:
            yield Fault(role, "delegations", "none", "some")


def _root(root: Root) -> Iterable[Fault]:
    if not root.consistent_snapshot:
        yield Fault("root", "consistent_snapshot", "true", "false")
    if set(root.roles) != set(TOP):
        yield Fault("root", "roles", ", ".join(TOP), ", ".join(sorted(root.roles)))
    yield from _keys("root", root.keys)


def _delegations(targets: Targets) -> Iterable[Fault]:
    found = targets.delegations
    if found is None:
        return
    if found.roles is None:
        yield Fault("targets", "delegations", "roles by name", "another kind")
        return
    for name, role in found.roles.items():
        if name in TOP or not roles.known_role(name):
            yield Fault("targets", f"delegations.{name[:64]}", "a known role", None)
        elif role != _agreed(role):
            yield Fault("targets", f"delegations.{name}", "its own paths only", "more")
    yield from _keys("targets", found.keys)


def _agreed(role: DelegatedRole) -> DelegatedRole:
    """What a role of this name is, held by these."""
    paths = list(roles.patterns_of(role.name))
    return DelegatedRole(role.name, role.keyids, role.threshold, True, paths)


def _keys(role: str, found: dict[str, Any]) -> Iterable[Fault]:
    for keyid, key in found.items():
        if keys.true_id(key) != keyid:
            yield Fault(role, f"keys.{keyid[:12]}", "a key under its own id", None)
