# SPDX-License-Identifier: Apache-2.0
"""Lookups: each decision, what was refused, and the processes that answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.audit.events.event import Event, Level, Recorded


@dataclass(frozen=True)
class LookupDecided(Recorded):
    """A signed request was answered; the record is durable before the reply leaves.

    Args:
        day: whose key made ``subjects`` and the commitments, ``YYYY-MM-DD``.
        decision_id: uuid7, in the reply too.
        consumer: node that asked, and signed.
        jti: commitment to the id of its request.
        op: ``get``, ``verify`` or ``exists``.
        resource: as this agent knows it; None if the request names one it does not.
        purpose: of the closed list.
        fields: item names that the catalog knows; others are left out.
        items: how many were asked for.
        subjects: HMAC of each item's canonical key under the day's key.
        basis: commitment to the legal basis.
        matter: commitment to the matter, if one was named.
        officer: commitment to the officer's id.
        status: of the reply.
        reasons: of the reply, public codes.
        found: items with a row.
        rev: number of the policy that judged, 0 for none.
        rule: id of the grant that allowed it.
        request: message digest of the request.
        reply: message digest of the reply.
        ms: time that it took, milliseconds.
    """

    name = "lookup.decided"
    quiet = frozenset({"day", "jti", "subjects", "basis", "matter", "officer"})
    day: str
    decision_id: str
    consumer: str
    jti: str
    op: str
    resource: str | None
    purpose: str
    fields: tuple[str, ...]
    items: int
    subjects: tuple[str, ...]
    basis: str
    matter: str | None
    officer: str
    status: str
    reasons: tuple[str, ...]
    found: int
    rev: int
    rule: str | None
    request: str
    reply: str
    ms: int

    def heard(self) -> Literal["debug"] | Level:
        """What went well is in the audit log, and too much for a journal."""
        return "debug" if self.status == "ok" else self.level


@dataclass(frozen=True)
class LookupRefused(Recorded):
    """Requests of a minute that were refused before their signature was known.

    Args:
        since: when the minute began, wire grammar.
        codes: problem code -> requests.
    """

    name = "lookup.refused"
    level = "warning"
    since: str
    codes: Mapping[str, int]


@dataclass(frozen=True)
class PolicyActivated(Recorded):
    """A policy judges from now on.

    Args:
        rev: its number, counting from 1.
        digest: ``sha256:<hex>`` of its text.
        uid: who activated it.
    """

    name = "policy.activated"
    rev: int
    digest: str
    uid: int


@dataclass(frozen=True)
class LookupRepeated(Event):
    """A request came again and gets the reply that it got before."""

    name = "lookup.repeated"
    consumer: str


@dataclass(frozen=True)
class LookupFailed(Event):
    """A lookup could not be answered: its source, or ``None`` the agent itself."""

    name = "lookup.failed"
    level = "warning"
    resource: str | None
    code: str


@dataclass(frozen=True)
class ReplayAttempt(Event):
    """Another request came under an id that was used: somebody may be forging."""

    name = "lookup.replay"
    level = "error"
    consumer: str


@dataclass(frozen=True)
class ChannelUp(Event):
    """The line over which lookups come is open."""

    name = "channel.up"


@dataclass(frozen=True)
class ChannelDown(Event):
    """The line over which lookups come is cut, and will be opened again."""

    name = "channel.down"
    level = "warning"
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class ListenerUp(Event):
    """The listener for the exchange is open."""

    name = "listener.up"
    port: int


@dataclass(frozen=True)
class ListenerDown(Event):
    """The listener could not be opened, or its process ended; the rest goes on."""

    name = "listener.down"
    level = "error"
    code: str
    detail: str


@dataclass(frozen=True)
class LookupLoopFailed(Event):
    """A loop of the lookup side failed and is begun again; pushes go on."""

    name = "lookup.loop"
    level = "error"
    part: str
    code: str
    detail: str
