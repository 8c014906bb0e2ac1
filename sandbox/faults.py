# SPDX-License-Identifier: Apache-2.0
"""Fault switches: how the exchange misbehaves when a test or a person asks it to.

``PUT /faults`` on the admin socket takes ``{"faults": [...]}`` and replaces what was
set before. Each fault is an object with ``kind`` and, where they apply:

- ``count``: how often it strikes; absent or null: until it is replaced
- ``skip``: how many matching requests it lets pass first
- ``route``: begin of ``METHOD /path``; absent: every route

=========== =========================================================================
kind        what happens
=========== =========================================================================
drop        the connection is cut; ``when`` = ``before`` (default) the request is
            handled, or ``after``, so that the answer is lost
delay       ``seconds`` pass before the request is handled
slow        an upload is read at ``bytes_per_s``
cut         an upload's connection is cut after ``bytes`` of a request's body
status      the answer is the plain HTTP ``status`` (500-599)
busy        503 with the problem ``busy`` and ``Retry-After: retry_after``
redirect    307 to ``location``
receipt     receipts are false: ``lie`` = ``other-batch``, ``bad-signature``,
            ``wrong-exchange`` or ``unknown-key``
position    positions are false: ``lie`` = ``bad-signature`` or ``wrong-nonce``
clock       the exchange's clock is off by ``seconds``; ``count`` does not apply
tls         the server shows a certificate that is ``expired`` or ``wrong-ca``
            (``lie``)
pending     EST answers 202 with ``Retry-After: retry_after``
relay       what a relay can do to a lookup, ``act`` below
=========== =========================================================================

Where ``when`` applies, ``before`` (default) means the request and ``after`` the reply:

=========== =========================================================================
act         what happens to a request that a switch of kind ``relay`` strikes
=========== =========================================================================
drop        it is lost, so that the consumer gets 504; ``when``
delay       it is late by ``seconds``; ``when``
duplicate   the provider gets it twice, the second time ``seconds`` later
reorder     it waits until a later request has been answered
swap        its reply and the next reply that comes are exchanged
cut         the provider's channel breaks; ``when`` = ``before``: ``seconds`` after the
            request was handed over, ``after``: when the reply is in
alter       a byte of the sealed body is changed; ``when``
=========== =========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from agent.wire.members import Members

_OPTIONAL = (
    "count skip route when seconds bytes_per_s bytes status retry_after location lie"
    " act"
)
ACTS = ("drop", "delay", "duplicate", "reorder", "swap", "cut", "alter")
"""What a fault of kind ``relay`` can do."""
_LIES = {
    "receipt": ("other-batch", "bad-signature", "wrong-exchange", "unknown-key"),
    "position": ("bad-signature", "wrong-nonce"),
    "tls": ("expired", "wrong-ca"),
}
_NEEDS = {
    "drop": "",
    "delay": "seconds",
    "slow": "bytes_per_s",
    "cut": "bytes",
    "status": "status",
    "busy": "",
    "redirect": "location",
    "receipt": "lie",
    "position": "lie",
    "clock": "seconds",
    "tls": "lie",
    "pending": "",
    "relay": "act",
}


@dataclass(frozen=True)
class Fault:
    """One switch; see the table above."""

    kind: str
    count: int | None = None
    skip: int = 0
    route: str = ""
    when: str = "before"
    seconds: int = 0
    bytes_per_s: int = 0
    bytes: int = 0
    status: int = 503
    retry_after: int = 1
    location: str = ""
    lie: str = ""
    act: str = ""


class Faults:
    """The switches that are on."""

    def __init__(self) -> None:
        self._on: list[Fault] = []

    def put(self, body: dict[str, Any]) -> None:
        """Replace all switches.

        Raises:
            MalformedMessage: an unknown kind or member, or another type.
        """
        entries = Members(body, "faults", "faults").array("faults")
        self._on = [parse(entry) for entry in entries]

    def shown(self) -> list[dict[str, Any]]:
        """What is on, for people."""
        return [dict(vars(fault)) for fault in self._on]

    def strike(self, kind: str, route: str = "") -> Fault | None:
        """The fault of a kind that hits this request, which it then has used up."""
        for i, fault in enumerate(self._on):
            if fault.kind != kind or not route.startswith(fault.route):
                continue
            if fault.skip:
                self._on[i] = replace(fault, skip=fault.skip - 1)
                continue
            if fault.count is not None:
                self._on[i] = replace(fault, count=fault.count - 1)
                if fault.count <= 1:
                    del self._on[i]
            return fault
        return None

    @property
    def clock_offset_s(self) -> int:
        """Seconds that the clock is off."""
        return sum(f.seconds for f in self._on if f.kind == "clock")


def parse(entry: object) -> Fault:
    """One switch.

    Raises:
        MalformedMessage: an unknown kind or member, or another type.
    """
    m = Members(entry, "fault", "kind", optional=_OPTIONAL)
    kind = m.choice("kind", *_NEEDS)
    if _NEEDS[kind] and not m.has(_NEEDS[kind]):
        m.fail("kind", f"{_NEEDS[kind]} beside it")
    given: dict[str, Any] = {}
    for name in ("skip", "bytes_per_s", "bytes", "status", "retry_after"):
        if m.has(name):
            given[name] = m.integer(name)
    if m.has("count") and not m.null("count"):
        given["count"] = m.integer("count", least=1)
    if m.has("seconds"):
        given["seconds"] = m.integer("seconds", least=-(10**9))
    for name in ("route", "location"):
        if m.has(name):
            given[name] = m.text(name)
    choices = {
        "when": ("before", "after"),
        "act": ACTS if kind == "relay" else ("",),
        "lie": _LIES.get(kind, ("",)),
    }
    for name, options in choices.items():
        if m.has(name):
            given[name] = m.choice(name, *options)
    return Fault(kind, **given)
