# SPDX-License-Identifier: Apache-2.0
"""How the lookup side stands, as the local interface tells it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from agent.errors import FepError

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """A way on which lookups come.

    Args:
        enabled: whether the settings want it.
        up: whether it is open now.
        since: since when it is so, wire grammar.
        trouble: code of what is wrong, or None.
        detail: of the trouble.
    """

    enabled: bool
    up: bool
    since: str
    trouble: str | None = None
    detail: str = ""


class Counts(Protocol):
    """What happened today."""

    since: str
    answered: int
    denied: int
    errors: int
    refused: int
    repeated: int


@dataclass(frozen=True)
class Sight:
    """Where the status looks; all of it is cheap.

    Args:
        offered: resources that may be looked up.
        relay: the line to the exchange.
        listener: the door for the exchange.
        counts: of today.
        inside: lookups that are being answered.
        policy: rev and whether the draft differs.
        head: of the audit log, a dataclass.
        witness: ``unknown``, ``agrees`` or ``beyond``.
        troubles: what is wrong.
    """

    offered: int
    relay: Callable[[], Way]
    listener: Callable[[], Way]
    counts: Callable[[], Counts]
    inside: Callable[[], int]
    policy: Callable[[], Mapping[str, Any]]
    head: Callable[[], Any]
    witness: Callable[[], str]
    troubles: Callable[[], Sequence[FepError]]

    def status(self) -> JsonObject:
        """As ``docs/cli-json.md`` describes it."""
        counts = self.counts()
        ways = (self.relay(), self.listener())
        cut = self.offered > 0 and any(w.enabled and w.trouble for w in ways)
        return {
            "healthy": not cut and not self.troubles(),
            "offered": self.offered,
            "relay": asdict(ways[0]),
            "listener": asdict(ways[1]),
            "inside": self.inside(),
            "today": {
                name: getattr(counts, name)
                for name in (
                    "since",
                    "answered",
                    "denied",
                    "errors",
                    "refused",
                    "repeated",
                )
            },
            "policy": dict(self.policy()),
            "audit": {**asdict(self.head()), "witness": self.witness()},
        }
