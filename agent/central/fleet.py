# SPDX-License-Identifier: Apache-2.0
"""How all nodes stand, and when a rollout has to stop. Pure.

A node *reverted* when the configuration that it failed with is the one that the centre
wants of it now (heartbeat ``config.failed`` and ``config.desired``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.errors import UsageFault
from agent.wire.rollout import Rollout

MOST_PERCENT = 5
"""So much of a ring may revert before its generation is stopped."""
STANDS = ("healthy", "stuck", "late", "silent", "doubted")
"""How the exchange says that a node stands."""


@dataclass(frozen=True)
class Node:
    """A node as the exchange heard of it last.

    Args:
        node: its name.
        stands: one of :data:`STANDS`.
        at: time of its last heartbeat, wire grammar, or None.
        agent: name and version of its program, or None.
        desired: digest of what the centre wants, None while it wants nothing.
        running: digest of what runs, or None if it never beat.
        failed: digest of what was given up, or None.
        reason: code why not everything that is wanted runs, or None.
        why: codes of what is wrong otherwise.
        ring: of the rollout, or None.
    """

    node: str
    stands: str
    at: str | None = None
    agent: str | None = None
    desired: str | None = None
    running: str | None = None
    failed: str | None = None
    reason: str | None = None
    why: tuple[str, ...] = ()
    ring: str | None = None

    @property
    def department(self) -> str:
        """Whose it is."""
        return self.node.partition("/")[0]

    @property
    def reverted(self) -> bool:
        """Whether it gave up what the centre wants now."""
        return self.failed is not None and self.failed == self.desired

    @property
    def needs_somebody(self) -> bool:
        """Whether a person has to look."""
        return self.stands != "healthy" or self.failed is not None


def read(body: object, rollout: Rollout | None) -> tuple[Node, ...]:
    """The nodes of an exchange's view, ``{"nodes": [...]}``.

    Raises:
        UsageFault: it is no such document.
    """
    try:
        return tuple(_node(each, rollout) for each in body["nodes"])  # type: ignore[index]
    except (KeyError, TypeError, AttributeError) as e:
        raise UsageFault(
            f'nodes: expected the exchange\'s view, {{"nodes": [...]}}; {e!r}'[:200]
        ) from None


def _node(seen: Mapping[str, Any], rollout: Rollout | None) -> Node:
    name, stands = str(seen["node"]), str(seen["stands"])
    if stands not in STANDS:
        raise UsageFault(f"stands: expected {' or '.join(STANDS)}, got {stands[:32]}")
    ring = None if rollout is None else rollout.ring(name)
    found = Node(name, stands, seen["at"], ring=None if ring is None else ring.name)
    beat = seen["beat"]
    if beat is None:
        return found
    config = beat["config"]
    return Node(
        name,
        stands,
        seen["at"],
        beat["agent"],
        config["desired"],
        config["running"],
        config["failed"],
        config["reason"],
        tuple(_why(seen, beat)),
        found.ring,
    )


def _why(seen: Mapping[str, Any], beat: Mapping[str, Any]) -> Iterable[str]:
    if seen["doubt"] is not None:
        yield str(seen["doubt"]["kind"])
    for stream in beat["worst"]:
        if stream["code"] is not None:
            yield f"{stream['resource']} {stream['code']}"
    if beat["spool"]["blocked"]:
        yield "spool-full"
    yield from beat["troubles"]


@dataclass(frozen=True)
class Wanted:
    """Which nodes to show; what is empty asks for nothing.

    Args:
        stands: any of these.
        failed: only those that gave a configuration up.
        ring: only those of this ring.
        department: only those of this department.
        node: only those whose name begins so.
    """

    stands: frozenset[str] = field(default_factory=frozenset)
    failed: bool = False
    ring: str = ""
    department: str = ""
    node: str = ""

    def takes(self, found: Node) -> bool:
        """Whether to show a node. States and ``failed`` widen, all else narrows."""
        states = bool(self.stands) or self.failed
        if states and not (
            found.stands in self.stands or (self.failed and found.failed is not None)
        ):
            return False
        return (
            self.ring in ("", found.ring)
            and self.department in ("", found.department)
            and found.node.startswith(self.node)
        )


@dataclass(frozen=True)
class RingStand:
    """How far a ring is.

    Args:
        started: whether its time has come.
        nodes: that belong to it and were ever heard.
        running: that run what the centre wants.
        reverted: that gave it up.
    """

    name: str
    started: bool
    nodes: int
    running: int
    reverted: int

    @property
    def percent(self) -> float:
        """How many reverted."""
        return 100 * self.reverted / self.nodes if self.nodes else 0.0


def rings(
    rollout: Rollout, nodes: Sequence[Node], now: datetime
) -> tuple[RingStand, ...]:
    """The rings of a rollout, in order."""
    found = []
    for ring in rollout.rings:
        heard = [n for n in nodes if n.ring == ring.name and n.running is not None]
        found.append(
            RingStand(
                ring.name,
                ring.start <= now,
                len(heard),
                sum(n.desired is not None and n.desired == n.running for n in heard),
                sum(n.reverted for n in heard),
            )
        )
    return tuple(found)


def to_stop(found: Iterable[RingStand], most_percent: float) -> RingStand | None:
    """The first ring of which too many reverted, None if none is so."""
    for ring in found:
        if ring.started and ring.percent > most_percent:
            return ring
    return None
