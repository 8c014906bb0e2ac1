# SPDX-License-Identifier: Apache-2.0
"""What people see of the centre's configuration, and their hold on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.control.probation import Trial
from agent.errors import UsageFault
from agent.state.central import CentralRows, Turn
from agent.wire.grammar import format_time, parse_time

LONGEST_HOLD = timedelta(days=366)

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Sight:
    """How it stands now.

    Args:
        pinned: a TUF root is pinned, so that there is a centre to listen to.
        wanted: what the centre wants, None before it was ever heard.
        reason: code of the error why that does not run, None if it does.
        detail: of that error.
        trial: the probation, None if none is open.
        length_s: its least length, seconds.
    """

    pinned: bool
    wanted: Overlay | None = None
    reason: str | None = None
    detail: str = ""
    trial: Trial | None = None
    length_s: float = 0.0


class CentralDesk:
    """The :class:`agent.local.server.ConfigDesk` of a running daemon.

    Args:
        rows: what is remembered.
        applied: what is on disk.
        look: how it stands.
        hint: what holds has changed: look again.
        now: aware UTC.
    """

    def __init__(
        self,
        rows: CentralRows,
        applied: Applied,
        *,
        look: Callable[[], Sight],
        hint: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._rows = rows
        self._applied = applied
        self._look = look
        self._hint = hint
        self._now = now

    def view(self) -> JsonObject:
        """What is wanted, runs, ran well and failed; a probation; a hold."""
        sight = self._look()
        return {
            "pinned": sight.pinned,
            "desired": _overlay(sight.wanted),
            "running": _overlay(self._applied.running()),
            "good": _named(self._applied.good()),
            "failed": self._rows.find("failed"),
            "reason": sight.reason,
            "detail": sight.detail,
            "floor": self._rows.find("floor") or 0,
            "hold": self.holding(),
            "probation": _trial(sight.trial, sight.length_s),
        }

    def history(self, limit: int) -> JsonObject:
        """What became of each configuration, the newest first."""
        return {"history": [asdict(turn) for turn in self._rows.turns(limit)]}

    def holding(self) -> JsonObject | None:
        """Who holds until when; None if nobody does any more."""
        found: JsonObject | None = self._rows.find("hold")
        if found is None or parse_time(found["until"]) <= self._now():
            return None
        return found

    async def hold(self, until: str | None, *, reason: str, uid: int) -> JsonObject:
        """Take nothing new until then, None to take it again.

        Raises:
            UsageFault: it is over already, or too far away.
        """
        now = self._now()
        at = format_time(now)
        if until is None:
            turn, value = Turn(at, "released"), None
        else:
            if not now < parse_time(until) <= now + LONGEST_HOLD:
                raise UsageFault(
                    "until: expected a time to come, at most"
                    f" {LONGEST_HOLD.days} days from now, got {until}"
                )
            turn = Turn(at, "held", detail=f"{until} {reason}".rstrip())
            value = {"until": until, "uid": uid, "reason": reason}
        await asyncio.to_thread(self._rows.keep, "hold", value, turn)
        self._hint()
        return {"hold": value}


def _named(overlay: Overlay | None) -> JsonObject | None:
    if overlay is None:
        return None
    return {"generation": overlay.generation, "digest": overlay.digest}


def _overlay(overlay: Overlay | None) -> JsonObject | None:
    """An overlay with all that it says."""
    if overlay is None:
        return None
    found: JsonObject = json.loads(overlay.as_json())
    return found


def _trial(trial: Trial | None, length_s: float) -> JsonObject | None:
    if trial is None:
        return None
    return {
        "generation": trial.generation,
        "digest": trial.digest,
        "waits_for": sorted(trial.waits_for),
        "sent": sorted(trial.sent),
        "failing": sorted(trial.failures),
        "heartbeat": trial.taken,
        "passed_s": trial.passed_s,
        "length_s": length_s,
        "deaths": trial.deaths,
    }
