# SPDX-License-Identifier: Apache-2.0
"""How the nodes stand, as their heartbeats say, and whom a person has to look at.

Rules (wire.md §6)

1. ``n`` grows with every beat of an incarnation. One that does not is dropped, and the
   node is flagged: somebody replays a beat, or two copies of one machine run.
2. A new incarnation is not taken while the old one's last beat is under
   :data:`FRESH` old: two machines may have one identity. Once the old one is silent for
   so long, or a person accepts the new one, it is taken.
3. A flag stays until a person has looked, whatever comes after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from agent.crypto.jose import split
from agent.wire import heartbeat
from agent.wire.grammar import format_time, parse_time
from agent.wire.heartbeat import Heartbeat
from sandbox.accept import Refused, authentic, check_status
from sandbox.store import Registry, Store
from sandbox.tls import Client

FRESH = timedelta(minutes=15)
"""So long an incarnation keeps another one out after its last beat."""
STUCK = frozenset({"held", "trouble"})
"""States of a stream that needs somebody."""


@dataclass(frozen=True)
class Doubt:
    """Why a person has to look at a node.

    Args:
        kind: ``clone``, another incarnation beats beside the one that is known, or
            ``replay``, a beat that is not newer than the last.
        since: when it was first seen, wire grammar.
        times: beats that were dropped for it.
        incarnation: of the newest of them.
    """

    kind: str
    since: str
    times: int
    incarnation: str


@dataclass(frozen=True)
class Heard:
    """The last beat of a node that was taken.

    Args:
        beat: None if a person has just accepted whatever comes next.
        at: when it came, by the exchange's clock.
        doubt: None if there is none.
    """

    beat: Heartbeat | None
    at: datetime
    doubt: Doubt | None = None


def judge(known: Heard | None, found: Heartbeat, now: datetime) -> Heard:
    """What is known of a node after a beat; unchanged ``beat`` means that it dropped.

    Args:
        known: before it.
        found: the beat, its signature and its sender verified.
        now: the exchange's clock.
    """
    last = None if known is None else known.beat
    if known is None or last is None:
        return Heard(found, now, None if known is None else known.doubt)
    if found.incarnation == last.incarnation:
        if found.n > last.n:
            return Heard(found, now, known.doubt)
        return _doubted(known, "replay", found, now)
    doubted = _doubted(known, "clone", found, now)
    return doubted if now - known.at < FRESH else Heard(found, now, known.doubt)


def _doubted(known: Heard, kind: str, found: Heartbeat, now: datetime) -> Heard:
    before = known.doubt or Doubt(kind, format_time(now), 0, found.incarnation)
    worse = "clone" if "clone" in {kind, before.kind} else kind
    times = before.times + 1
    doubt = Doubt(worse, before.since, times, found.incarnation)
    return replace(known, doubt=doubt)


class Changes:
    """Which nodes have not fetched the directory since it last changed."""

    def __init__(self) -> None:
        self._now = 0
        self._seen: dict[str, int] = {}

    def moved(self) -> None:
        """The directory is not what it was."""
        self._now += 1

    def fetched(self, node: str) -> None:
        """A node has the directory of now."""
        self._seen[node] = self._now

    def behind(self, node: str) -> bool:
        """Whether a node should fetch it; also if we were restarted meanwhile."""
        return self._seen.get(node) != self._now


class Nodes:
    """The heartbeats in the registry; the writer's thread changes them.

    Args:
        store: the registry's writer.
        aud: the exchange.
        now: its clock, aware UTC.
    """

    def __init__(self, store: Store, aud: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._aud = aud
        self._now = now

    def take(self, client: Client, text: bytes) -> None:
        """A heartbeat as it came.

        Raises:
            Refused: too-large, malformed, bad-signature, wrong-exchange, forbidden,
                key-revoked; ``fork`` its number does not grow, ``held`` another
                incarnation is alive.
            MalformedMessage: no heartbeat.
        """
        store, now = self._store, self._now()
        unverified = split(text, cap=heartbeat.CAP)
        message, key = authentic(unverified, store, typ=heartbeat.TYP)
        found = heartbeat.parse(message.payload)
        if found.aud != self._aud:
            raise Refused("wrong-exchange", f"this is {self._aud}")
        if found.iss != client.node or key.node != client.node:
            raise Refused("forbidden", f"the certificate is not {found.iss}'s")
        check_status(key, now)
        with store.transaction():
            known = heard(store, client.node)
            after = judge(known, found, now)
            self._keep(client.node, after)
        if after.beat is not found:
            _refuse(known, found)

    def accept(self, node: str) -> None:
        """A person has looked: whatever this node beats next is taken.

        Raises:
            Refused: not-found; it never beat.
        """
        with self._store.transaction():
            if heard(self._store, node) is None:
                raise Refused("not-found", "no heartbeat of this node")
            self._keep(node, Heard(None, self._now()))

    def _keep(self, node: str, found: Heard) -> None:
        beat, doubt = found.beat, found.doubt
        self._store.connection.execute(
            "insert or replace into heartbeat values (?, ?, ?, ?)",
            (
                node,
                format_time(found.at),
                None if beat is None else beat.payload().decode("utf-8"),
                None if doubt is None else json.dumps(asdict(doubt)),
            ),
        )


def _refuse(known: Heard | None, found: Heartbeat) -> None:
    last = None if known is None else known.beat
    if last is not None and found.incarnation == last.incarnation:
        raise Refused("fork", f"expected n above {last.n}, got {found.n}")
    raise Refused("held", "another incarnation of this node is alive")


def heard(registry: Registry, node: str) -> Heard | None:
    """What is known of a node; None if it never beat."""
    row = registry.connection.execute(
        "select at, payload, doubt from heartbeat where node = ?", (node,)
    ).fetchone()
    if row is None:
        return None
    at, payload, doubt = row
    return Heard(
        None if payload is None else heartbeat.parse(payload.encode("utf-8")),
        parse_time(at),
        None if doubt is None else Doubt(**json.loads(doubt)),
    )


def view(registry: Registry, *, now: datetime, late_s: float) -> list[dict[str, Any]]:
    """Every enrolled node as people see it, in order of its name.

    Args:
        registry: what is known.
        now: the exchange's clock.
        late_s: without a beat for so long a node is late, seconds.
    """
    return [
        _seen(node, heard(registry, node), now, late_s) for node in registry.nodes()
    ]


def _seen(
    node: str, found: Heard | None, now: datetime, late_s: float
) -> dict[str, Any]:
    beat = None if found is None else found.beat
    shown: dict[str, Any] = {
        "node": node,
        "stands": _stands(found, now, late_s),
        "at": None,
        "doubt": None,
        "beat": None,
        "clock_offset_s": None,
    }
    if found is not None:
        shown["at"] = format_time(found.at)
        shown["doubt"] = None if found.doubt is None else asdict(found.doubt)
    if found is not None and beat is not None:
        shown["beat"] = asdict(beat)
        offset = found.at.timestamp() - beat.iat
        shown["clock_offset_s"] = round(offset)
    return shown


def _stands(found: Heard | None, now: datetime, late_s: float) -> str:
    """One word: the worst that is known."""
    if found is None:
        return "silent"
    if found.doubt is not None:
        return "doubted"
    if found.beat is None or (now - found.at).total_seconds() > late_s:
        return "late"
    beat = found.beat
    stuck = beat.totals.stuck > 0 or beat.spool.blocked or bool(beat.troubles)
    return "stuck" if stuck else "healthy"
