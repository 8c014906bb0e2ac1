# SPDX-License-Identifier: Apache-2.0
"""Begins what is due; ``agent.schedule`` says when that is.

Rules

1. One look at a time, every :data:`LOOK_S` seconds and whenever something changed: the
   clock is compared anew each time, so setting it is noticed at the next look.
2. A resource has one run at a time. What is due while one waits or reads begins after
   it, once.
3. That a run has begun and when the next is due are one transaction of the state: a
   crash between them neither repeats nor forgets one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from agent import schedule
from agent.model.run import SCHEDULED, ScheduledKind
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.seams import Chance, undivided
from agent.schedule import Due, Plan
from agent.state import KeptDue, State
from agent.wire.grammar import format_time, parse_time

LOOK_S = 30.0
"""Longest pause between two looks at the clock, seconds."""
PAUSE_S = 1.0
"""Least pause, however often something changes."""

Plans = Mapping[str, Mapping[ScheduledKind, Plan]]
"""Resource -> kind -> its times."""
Key = tuple[str, ScheduledKind]


class Scheduler:
    """Begins runs of one flow.

    Args:
        flow: a recovered one, where runs begin.
        state: remembers what is due.
        plans: the times that hold.
        chance: time and randomness.
    """

    def __init__(
        self, flow: PushFlow, state: State, plans: Plans, chance: Chance
    ) -> None:
        self._flow = flow
        self._state = state
        self._plans = plans
        self._chance = chance
        self._dues: dict[Key, Due] = {}
        self._waits: dict[Key, str] = {}
        self._loaded = False

    def use(self, plans: Plans) -> None:
        """Other times hold from the next look on."""
        self._plans = plans
        self._flow.changes.ring()

    async def forever(self) -> None:
        """Look until cancelled.

        Raises:
            SpoolWriteFailed, StateDamaged: the state refused.
        """
        while True:
            heard = self._flow.changes.listen()
            wait_s = await self.look()
            waits = {
                asyncio.ensure_future(heard.wait()),
                asyncio.ensure_future(self._chance.sleep(wait_s)),
            }
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
            await self._chance.sleep(PAUSE_S)

    async def look(self) -> float:
        """Begin what is due; seconds until the next look."""
        if not self._loaded:
            await self._load()
        await self._forget()
        wait_s = LOOK_S
        for resource in self._flow.resources:
            plans = self._plans.get(resource, {})
            for kind in SCHEDULED:
                plan = plans.get(kind)
                if plan is not None:
                    wait_s = min(wait_s, await self._one((resource, kind), plan))
        return max(wait_s, 0.0)

    async def _load(self) -> None:
        """What was kept when the last process ended."""
        names = {self._flow.stream_id(r): r for r in self._flow.resources}
        for kept in await undivided(self._state.dues):
            if (resource := names.get(kept.stream)) is not None:
                begun = None if kept.begun is None else parse_time(kept.begun)
                due = Due(kept.plan, parse_time(kept.at), begun)
                self._dues[resource, kept.kind] = due
        self._loaded = True

    async def _forget(self) -> None:
        """Kinds that have been switched off begin anew when they are on again."""
        here = self._flow.resources
        for resource, kind in list(self._dues):
            if resource in here and kind in self._plans.get(resource, {}):
                continue
            del self._dues[resource, kind]
            self._waits.pop((resource, kind), None)
            if resource in here:
                stream = self._flow.stream_id(resource)
                await undivided(partial(self._state.forget_due, stream, kind))

    async def _one(self, key: Key, plan: Plan) -> float:
        """Begin it if it is due; seconds until it may be."""
        now = self._chance.now()
        due = await self._due(key, plan, now)
        self._waits.pop(key, None)
        if due.at > now:
            return (due.at - now).total_seconds()
        opening = plan.opening(now)
        if opening > now:
            self._waits[key] = "window"
            return (opening - now).total_seconds()
        hindered = await self._begin(key, plan, now)
        if hindered is not None:
            self._waits[key] = hindered
        return LOOK_S

    async def _due(self, key: Key, plan: Plan, now: datetime) -> Due:
        kept, draw = self._dues.get(key), self._chance.uniform
        if kept is not None:
            due = schedule.looked(plan, kept, now=now, draw=draw)
        else:
            stream = self._flow.stream_id(key[0])
            ran = await undivided(partial(self._state.last_begun, stream, key[1]))
            begun = None if ran is None else parse_time(ran)
            due = schedule.first(plan, now=now, begun=begun, draw=draw)
        if due != kept:
            await undivided(partial(self._state.keep_due, self._kept(key, due)))
            self._dues[key] = due
        return due

    async def _begin(self, key: Key, plan: Plan, now: datetime) -> str | None:
        """Begin a run and count the next moment; or why it cannot begin yet."""
        after = schedule.begun(plan, now=now, draw=self._chance.uniform)
        resource, kind = key
        hindered = await self._flow.begin(resource, kind, due=self._kept(key, after))
        if hindered is None:
            self._dues[key] = after
        return hindered

    def _kept(self, key: Key, due: Due) -> KeptDue:
        begun = None if due.begun is None else format_time(due.begun)
        stream = self._flow.stream_id(key[0])
        return KeptDue(stream, key[1], due.plan, format_time(due.at), begun)

    def view(self, resource: str) -> list[dict[str, Any]]:
        """The kinds of run that a resource has times for, for the status."""
        plans = self._plans.get(resource, {})
        return [
            self._shown((resource, kind), plans[kind])
            for kind in SCHEDULED
            if kind in plans
        ]

    def _shown(self, key: Key, plan: Plan) -> dict[str, Any]:
        due, now = self._dues.get(key), self._chance.now()
        at = None if due is None else plan.opening(max(due.at, now))
        return {
            "kind": key[1],
            "times": plan.times,
            "next": None if at is None else format_time(at),
            "waits": self._waits.get(key),
        }
