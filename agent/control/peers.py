# SPDX-License-Identifier: Apache-2.0
"""Whether other nodes' keys follow from those that we knew (wire.md §1, Keys).

Rules

1. A chain that is seen for the first time is remembered: its first statement, how many
   there are, and the last. A chain that goes on from there is followed silently: each
   statement is signed by the one before it. That a node was reset before it was seen
   here is no break, for nothing was known of it; it is told, and shown ever after.
2. Any other chain of a known node is a break, whether the directory calls it a reset or
   not. Lookups of that node stop with the very directory that brings it, before anybody
   has been told; then it is told, put into the audit log, and shown until a person
   accepts it.
3. Accepting is a person's word on this machine. The directory cannot say it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from agent.errors import PeerReset, PeerUnknown
from agent.state.peers import Pin
from agent.wire.directory import Directory, NodeEntry, Reset
from agent.wire.grammar import format_time

MOST_SHOWN = 5
"""Nodes that a trouble names."""


class Memory(Protocol):
    """Where chains are remembered."""

    def all(self) -> tuple[Pin, ...]:
        """Every node's."""
        ...

    def put(self, pins: list[Pin]) -> None:
        """Remember these."""
        ...


@dataclass(frozen=True)
class Break:
    """A chain that does not follow from the one we knew.

    Args:
        node: whose it is.
        known: message digest of statement 1, as we know it.
        found: that of the directory.
        reason: of the reset, as the directory has it; None: it has none.
        at: of the reset, wire grammar.
    """

    node: str
    known: str
    found: str
    reason: str | None
    at: str | None


class Peers:
    """The other nodes as we know them.

    Args:
        memory: see there; read once, at the start.
        own: our node, which is judged elsewhere.
        now: aware UTC.
    """

    def __init__(
        self, memory: Memory, *, own: str, now: Callable[[], datetime]
    ) -> None:
        self._memory = memory
        self._own = own
        self._now = now
        self._changing = threading.Lock()
        self._pins = {pin.node: pin for pin in memory.all()}

    def check(self, directory: Directory, node: str) -> None:
        """Refuse a node whose chain is broken in this directory.

        Raises:
            PeerReset: it is.
        """
        if (found := self._broken(directory.node(node))) is not None:
            raise PeerReset(_said(found))

    def begun_anew(self, directory: Directory) -> list[tuple[NodeEntry, Reset]]:
        """Nodes that are not known yet, and were reset before."""
        return [
            (entry, entry.reset)
            for entry in _entries(directory)
            if entry.reset is not None and entry.digests
            if entry.node not in self._pins and entry.node != self._own
        ]

    def note(self, directory: Directory) -> list[Break]:
        """Remember new chains, and those that went on; breaks not told before."""
        fresh: list[Pin] = []
        untold: list[Break] = []
        for entry in _entries(directory):
            if entry.node == self._own or not entry.digests:
                continue
            known, found = self._pins.get(entry.node), self._broken(entry)
            if found is not None and known is not None:
                untold += [found] if known.alarm != found.found else []
            elif known is None or known.n != len(entry.digests):
                fresh.append(self._pin(entry))
        self._remember(fresh)
        return untold

    def told(self, found: Break) -> None:
        """It is on record, and not told again."""
        if (known := self._pins.get(found.node)) is not None:
            self._remember([replace(known, alarm=found.found)])

    def _remember(self, pins: list[Pin]) -> None:
        with self._changing:
            if pins:
                self._memory.put(pins)
                self._pins = {**self._pins, **{pin.node: pin for pin in pins}}

    def waiting(self, directory: Directory) -> list[Break]:
        """Every break of this directory."""
        found = [self._broken(directory.node(node)) for node in self._pins]
        return [one for one in found if one is not None]

    def known(self) -> list[Pin]:
        """Every node that we know, by name."""
        return sorted(self._pins.values(), key=lambda pin: pin.node)

    def accept(self, directory: Directory, node: str) -> Break:
        """Take a node's new chain for what we know of it; the break that was.

        Raises:
            PeerUnknown: it does not wait for that.
        """
        entry = directory.node(node)
        found = self._broken(entry)
        if entry is None or found is None:
            raise PeerUnknown(node[:64])
        self._remember([self._pin(entry)])
        return found

    def trouble(self, directory: Directory) -> PeerReset | None:
        """What status shows."""
        found = self.waiting(directory)
        if not found:
            return None
        said = "; ".join(_said(one) for one in found[:MOST_SHOWN])
        more = len(found) - MOST_SHOWN
        return PeerReset(said if more <= 0 else f"{said}; and {more} more")

    def _broken(self, entry: NodeEntry | None) -> Break | None:
        known = None if entry is None else self._pins.get(entry.node)
        if entry is None or known is None or not entry.digests:
            return None
        digests = entry.digests
        follows = len(digests) >= known.n and digests[known.n - 1] == known.last
        if follows and digests[0] == known.first:
            return None
        reset = entry.reset
        return Break(
            node=entry.node,
            known=known.first,
            found=digests[0],
            reason=None if reset is None else reset.reason,
            at=None if reset is None else reset.at,
        )

    def _pin(self, entry: NodeEntry) -> Pin:
        digests = entry.digests
        at = format_time(self._now())
        return Pin(entry.node, digests[0], len(digests), digests[-1], at)


def _entries(directory: Directory) -> list[NodeEntry]:
    return [
        entry
        for name, department in directory.departments.items()
        for entry in department.nodes
        if entry.node.partition("/")[0] == name
    ]


def _said(found: Break) -> str:
    why = "without a reset" if found.reason is None else f"reset at {found.at}"
    return f"{found.node}: its keys do not follow from those we knew ({why})"
