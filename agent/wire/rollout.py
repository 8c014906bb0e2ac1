# SPDX-License-Identifier: Apache-2.0
"""When which nodes take a generation of configuration: ``rollout.json``, ``halt.json``.

Rules (wire.md §6)

1. A rollout names one generation and rings. A node belongs to the first ring that
   matches it; before that ring starts it keeps what runs.
2. A ring of less than 100 percent takes a node by SHA-256(``generation:node``), so that
   everybody computes the same and another generation begins with others.
3. A node that no ring takes keeps what runs. Percents are of one lot and do not add
   up: 50 after 50 takes nobody, and a ring that takes nobody is refused.
4. A generation that ``halt.json`` lists is not newly applied; what runs stays.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import format_time, parse_time
from agent.wire.members import Members, read

MOST_RINGS = 16
MOST_NODES = 20_000
"""Most entries of a ring."""
MOST_HALTS = 1000
"""Most generations that are listed as halted."""
_ENTRY = re.compile(r"\*|[0-9A-Z]{18}/(?:\*|[a-z0-9][a-z0-9-]{0,31})")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class Ring:
    """One step of a rollout.

    Args:
        name: for people, of the grammar of groups.
        start: aware; nodes of the ring apply the generation from then on.
        nodes: nodes, ``<department>/*`` or ``*``.
        percent: 1-100, how many of those that match, earlier rings' nodes counted.
    """

    name: str
    start: datetime
    nodes: tuple[str, ...]
    percent: int = 100

    def takes(self, node: str, generation: int) -> bool:
        """Whether a node belongs here, if no earlier ring took it."""
        department = node.partition("/")[0]
        named = {node, f"{department}/*", "*"}
        if named.isdisjoint(self.nodes):
            return False
        lot = hashlib.sha256(f"{generation}:{node}".encode()).digest()
        return int.from_bytes(lot[:8], "big") % 100 < self.percent


@dataclass(frozen=True)
class Rollout:
    """``rollout.json``.

    Args:
        generation: which the rings are about; those below it are open to everybody.
        rings: in order.
    """

    generation: int
    rings: tuple[Ring, ...]

    def ring(self, node: str) -> Ring | None:
        """The ring of a node, None if none takes it."""
        for ring in self.rings:
            if ring.takes(node, self.generation):
                return ring
        return None

    def open_to(self, node: str, now: datetime) -> bool:
        """Whether a node may apply the generation now."""
        ring = self.ring(node)
        return ring is not None and ring.start <= now

    def as_object(self) -> dict[str, Any]:
        """The JSON of the file."""
        rings = [
            {
                "name": r.name,
                "start": format_time(r.start),
                "nodes": list(r.nodes),
                "percent": r.percent,
            }
            for r in self.rings
        ]
        return {"v": 1, "generation": self.generation, "rings": rings}


def parse_rollout(data: bytes) -> Rollout:
    """``rollout.json``; unknown members are refused.

    Raises:
        MalformedMessage: a member is missing, unknown or does not fit.
    """
    m = read(data, "rollout.json", "generation rings")
    rings = tuple(
        _ring(value, f"rollout.json.rings[{i}]")
        for i, value in enumerate(m.array("rings", least=1, most=MOST_RINGS))
    )
    if len({ring.name for ring in rings}) != len(rings):
        raise MalformedMessage("rollout.json.rings: expected every name once")
    for number, ring in enumerate(rings):
        if all(_taken(entry, ring, rings[:number]) for entry in ring.nodes):
            raise MalformedMessage(
                f"rollout.json.rings[{number}]: expected nodes, or more percent of them"
                " than the rings before take; percents do not add up"
            )
    return Rollout(m.integer("generation", least=1), rings)


def _taken(entry: str, ring: Ring, before: Sequence[Ring]) -> bool:
    """Whether every node of an entry belongs to an earlier ring."""
    wider = {entry, f"{entry.partition('/')[0]}/*", "*"}
    return any(
        one.percent >= ring.percent and not wider.isdisjoint(one.nodes)
        for one in before
    )


def _ring(value: object, at: str) -> Ring:
    m = Members(value, at, "name start nodes", optional="percent")
    nodes = m.array("nodes", least=1, most=MOST_NODES)
    if not all(isinstance(n, str) and _ENTRY.fullmatch(n) for n in nodes):
        m.fail("nodes", "nodes, <department>/* or *")
    percent = m.integer("percent", least=1, most=100) if m.has("percent") else 100
    start = parse_time(m.time("start"))
    return Ring(m.match("name", _NAME), start, tuple(nodes), percent)


def parse_halt(data: bytes) -> frozenset[int]:
    """Generations that ``halt.json`` stops.

    Raises:
        MalformedMessage: a member is missing, unknown or does not fit.
    """
    m = read(data, "halt.json", "generations")
    found = m.array("generations", most=MOST_HALTS)
    if not all(type(n) is int and 1 <= n < strict.LIMIT for n in found):
        m.fail("generations", "integers from 1")
    return frozenset(found)


def halt_file(generations: Sequence[int] | frozenset[int]) -> bytes:
    """``halt.json`` that stops these."""
    return strict.dumps({"v": 1, "generations": sorted(generations)})
