# SPDX-License-Identifier: Apache-2.0
"""Which role says what, how many keys it needs, and when its word expires."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)

from agent.errors import UsageFault
from agent.wire.grammar import DEPARTMENT, NODE
from agent.wire.repository import (
    BRAKE,
    DIRECTORY,
    EXCHANGE_FILE,
    HALT_FILE,
    LIMITS_FILE,
    ONLINE,
    RELEASES,
    REVOKED_FILE,
    ROLLOUT_FILE,
    TOP,
    department_paths,
    department_role,
    group_file,
)

DAYS: Mapping[str, int] = {
    "root": 365,
    "targets": 365,
    "directory": 365,
    "releases": 365,
    "department": 365,
    "brake": 30,
    "snapshot": 30,
    "timestamp": 7,
}
"""How long a role's word holds, days."""
PATHS: Mapping[str, tuple[str, ...]] = {
    "targets": (EXCHANGE_FILE, LIMITS_FILE, ROLLOUT_FILE, "groups/*/config.json"),
    DIRECTORY: ("directory/*.json",),
    BRAKE: (REVOKED_FILE, HALT_FILE),
    RELEASES: ("releases/*",),
}
"""Path patterns of each role but departments'."""
_DEPARTMENT_ROLE = re.compile(r"department-([0-9A-Z]{18})")


@dataclass(frozen=True)
class Holders:
    """Who holds a role.

    Args:
        keys: public keys.
        threshold: so many of them must sign.
    """

    keys: tuple[Key, ...]
    threshold: int

    def __post_init__(self) -> None:
        if len({key.keyid for key in self.keys}) != len(self.keys):
            raise UsageFault("keys: expected every key once")
        if not 1 <= self.threshold <= len(self.keys):
            raise UsageFault(
                f"threshold: expected 1 to {len(self.keys)} keys, got {self.threshold}"
            )


@dataclass(frozen=True)
class Terms:
    """How long words hold; what is not named holds as :data:`DAYS` says."""

    days: Mapping[str, int] = field(default_factory=dict)

    def until(self, role: str, now: datetime) -> datetime:
        """When what a role says now expires."""
        name = "department" if _DEPARTMENT_ROLE.fullmatch(role) else role
        days = self.days.get(name, DAYS[name])
        return now.replace(microsecond=0) + timedelta(days=days)

    def half_over(self, role: str, expires: datetime, now: datetime) -> bool:
        """Whether less than half of the time is left that a word of now would have."""
        return expires - now < (self.until(role, now) - now) / 2


def role_of(path: str) -> str:
    """The role that signs a target.

    Raises:
        UsageFault: no role may.
    """
    parts = path.split("/")
    if any(p in ("", ".", "..") or p.startswith(".") for p in parts):
        raise UsageFault(f"{path[:200]}: expected a plain path")
    _check_names(path, parts)
    if parts[0] == "nodes" and len(parts) > 1 and DEPARTMENT.fullmatch(parts[1]):
        role = department_role(parts[1])
        if matches(path, (department_paths(parts[1]),)):
            return role
    for role, patterns in PATHS.items():
        if matches(path, patterns):
            return role
    raise UsageFault(
        f"{path[:200]}: expected groups/<group>/config.json, nodes/<department>/"
        "<machine>/config.json, limits.json, exchange.json, rollout.json or"
        " directory/<department>.json"
    )


def _check_names(path: str, parts: Sequence[str]) -> None:
    """What agents would never ask for is not published."""
    if len(parts) == 3 and parts[0] == "groups":
        try:
            group_file(parts[1])
        except ValueError as e:
            raise UsageFault(f"{path[:200]}: {e}") from None
    elif len(parts) == 4 and parts[0] == "nodes":
        if not NODE.fullmatch(f"{parts[1]}/{parts[2]}"):
            raise UsageFault(f"{path[:200]}: expected the name of a node")
    elif len(parts) == 2 and parts[0] == "directory":
        department = parts[1].removesuffix(".json")
        if not DEPARTMENT.fullmatch(department):
            raise UsageFault(f"{path[:200]}: expected a unified social credit code")


def patterns_of(role: str) -> tuple[str, ...]:
    """What a role may sign."""
    if found := _DEPARTMENT_ROLE.fullmatch(role):
        return (department_paths(found[1]),)
    return PATHS.get(role, ())


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path fits one, segment by segment, as the client matches them."""
    parts = path.split("/")
    for pattern in patterns:
        wanted = pattern.split("/")
        if len(wanted) == len(parts) and all(
            fnmatch.fnmatchcase(p, w) for p, w in zip(parts, wanted, strict=True)
        ):
            return True
    return False


def known_role(role: str) -> bool:
    """Whether there may be a role of this name."""
    return role in (*TOP, *PATHS) or _DEPARTMENT_ROLE.fullmatch(role) is not None


def is_online(role: str) -> bool:
    """Whether the publisher signs for it by itself."""
    return role in ONLINE


# --- metadata ---------------------------------------------------------------------


def new_root(holders: Mapping[str, Holders], expires: datetime) -> Metadata[Root]:
    """The first root; ``holders`` of the four top roles."""
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role in TOP:
        hold_top(root, role, holders[role])
    return Metadata(root)


def hold_top(root: Root, role: str, holders: Holders) -> None:
    """Let others hold a top role from this root on."""
    for keyid in tuple(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in holders.keys:
        root.add_key(key, role)
    root.roles[role].threshold = holders.threshold


def new_targets(expires: datetime) -> Metadata[Any]:
    """A first word of a role that says nothing yet."""
    return Metadata(Targets(version=1, expires=expires))


def hold_delegated(targets: Targets, role: str, holders: Holders) -> None:
    """Let others hold a delegated role from this word of ``targets`` on."""
    if targets.delegations is None:
        targets.delegations = Delegations(keys={}, roles={})
    roles = targets.delegations.roles
    if roles is None:
        raise UsageFault("targets: expected delegations by name")
    if role in roles:
        for keyid in tuple(roles[role].keyids):
            targets.revoke_key(keyid, role)
    else:
        roles[role] = DelegatedRole(role, [], 1, True, paths=list(patterns_of(role)))
    for key in holders.keys:
        targets.add_key(key, role)
    roles[role].threshold = holders.threshold


def delegator_of(role: str) -> str:
    """Who says which keys a role has."""
    return "root" if role in TOP else "targets"


def delegated(targets: Targets) -> tuple[str, ...]:
    """Roles to which ``targets`` delegates, in order."""
    found = targets.delegations
    return tuple(found.roles) if found is not None and found.roles is not None else ()


def renew(found: Metadata[Any], role: str, terms: Terms, now: datetime) -> None:
    """The next version, unsigned."""
    signed: Signed = found.signed
    signed.version += 1
    signed.expires = terms.until(role, now)
    found.signatures.clear()


KINDS: Mapping[str, type[Signed]] = {
    "root": Root,
    "snapshot": Snapshot,
    "timestamp": Timestamp,
}


def parse(role: str, data: bytes) -> Metadata[Any]:
    """Metadata of a role.

    Raises:
        tuf.api.exceptions.RepositoryError: no metadata, or of another kind.
    """
    from tuf.api.exceptions import RepositoryError

    found: Metadata[Any] = Metadata.from_bytes(data)
    if not isinstance(found.signed, KINDS.get(role, Targets)):
        raise RepositoryError(f"{role}: got {found.signed.type}")
    return found
