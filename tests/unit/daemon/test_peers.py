# SPDX-License-Identifier: Apache-2.0
"""What is told of other nodes, and what people see of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from agent.audit.events import Event
from agent.control.peers import Peers
from agent.daemon.peers import PeerWatch
from agent.state.peers import Pin
from agent.wire import directory as wire
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeFile,
    NodeEntry,
    Reset,
    RevokedFile,
)

DEPARTMENT = "11990100MB0000027F"
NODE, OTHER = f"{DEPARTMENT}/ybj-fep1", f"{DEPARTMENT}/ybj-fep2"
RESET = Reset("2026-11-22T00:00:00Z", "disc is dead")


class Memory:
    """Of one life."""

    def all(self) -> tuple[Pin, ...]:
        return ()

    def put(self, pins: list[Pin]) -> None:
        del pins


class Known:
    """The directory in use."""

    current: wire.Directory


def directory(*nodes: NodeEntry) -> Directory:
    return Directory(
        iat=0,
        departments={DEPARTMENT: DepartmentFile(DEPARTMENT, nodes, {})},
        exchange=ExchangeFile(()),
        revoked=RevokedFile({}, {}),
    )


async def test_a_node_that_was_reset_before_it_was_ever_seen_is_told_once() -> None:
    """No attack and no break: nothing was known. But nobody takes it silently."""
    told: list[Event] = []
    peers = Peers(Memory(), own="x/y", now=lambda: datetime(2026, 11, 23, tzinfo=UTC))
    known = Known()
    watch = PeerWatch(peers, cast("Any", known), cast("Any", None), tell=told.append)
    anew = NodeEntry(NODE, "active", ("a.b.c",), (), RESET)
    plain = NodeEntry(OTHER, "active", ("d.e.f",), ())
    for _ in range(2):
        known.current = directory(anew, plain)
        await watch.look()
    assert [e.name for e in told] == ["peer.was_reset"]
    assert told[0].members()["at"] == RESET.at
    shown = {p["node"]: (p["reset"], p["waits"]) for p in watch.view()["peers"]}
    reset = {"at": RESET.at, "reason": RESET.reason}
    assert shown == {NODE: (reset, None), OTHER: (None, None)}
    peers.check(known.current, NODE)
