# SPDX-License-Identifier: Apache-2.0
"""Watches a probation: what the flow shows and the heart hears, as what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from agent.audit.events import Event, RunFailed, RunHeld
from agent.control.probation import Failed, Gone, Sent, Trial
from agent.errors import (
    Busy,
    FrontierLost,
    Interrupted,
    MassDelete,
    NothingLoaded,
    QualityHalt,
    RecallHeld,
    ResourceUnknown,
    SchemaDrift,
    SecrecyMarker,
    SourceLogin,
    SourceMissing,
    SourceRight,
    SourceTypeChanged,
    SourceUnreachable,
)
from agent.model.run import ScheduledKind
from agent.pipeline.flow.push import OF_THE_LINE
from agent.schedule import Plan

CHEAPEST: tuple[ScheduledKind, ...] = ("incremental", "deletes", "reconcile", "full")
"""Which of the usual kinds is asked for first."""

AT_A_LOOK = 16
"""So many streams are looked at in one go: a look is some queries of the state."""

UNSENT = frozenset({"paused", "recalled"})
"""States of a stream that a person has stopped."""

BLAMELESS = OF_THE_LINE | {
    cls.code
    for cls in (
        Busy,
        FrontierLost,
        Interrupted,
        MassDelete,
        QualityHalt,
        RecallHeld,
        SchemaDrift,
        SecrecyMarker,
        SourceLogin,
        SourceMissing,
        SourceRight,
        SourceTypeChanged,
        SourceUnreachable,
    )
}
"""Troubles that no configuration of the centre can make: of the source, of the rows, or
of the line, which heartbeats tell. They put the end of a probation off."""


class Flow(Protocol):
    """The push flow, as far as a probation looks at it."""

    async def request_pull(self, resource: str, *, kind: ScheduledKind) -> str:
        """Ask for a run. Raises Busy, NothingLoaded, ResourceUnknown."""
        ...

    def resource(self, resource: str) -> Any:
        """How one resource stands. Raises ResourceUnknown."""
        ...


Plans = Callable[[str], Mapping[ScheduledKind, Plan]]
"""The times of a resource."""


class Watch:
    """Looks at the streams of one probation.

    Args:
        flow: see there.
        plans: the times that hold.
        now: aware UTC.
    """

    def __init__(self, flow: Flow, plans: Plans, now: Callable[[], datetime]) -> None:
        self._flow = flow
        self._plans = plans
        self._now = now
        self._before: dict[str, str | None] = {}
        self._heard: list[Failed] = []
        self._asked: set[str] = set()
        self._last = ""

    async def working(self, resources: Collection[str]) -> frozenset[str]:
        """Those that nothing is wrong with now."""
        found = set[str]()
        for resource in resources:
            if self._works(resource):
                found.add(resource)
            await asyncio.sleep(0)  # a look is some queries; lookups go between them
        return frozenset(found)

    def awaited(self, resources: Collection[str]) -> frozenset[str]:
        """Those that have times of their own."""
        return frozenset(r for r in resources if self._plans(r))

    def _works(self, resource: str) -> bool:
        try:
            found = self._flow.resource(resource)
        except ResourceUnknown:  # it has only just been opened
            return False
        return found.state not in UNSENT and found.trouble is None

    async def begin(self, resources: Collection[str]) -> None:
        """What runs that there are now bring proves nothing."""
        self._heard.clear()
        self._asked.clear()
        self._before = {}
        for resource in resources:
            self._before[resource] = self._newest(resource)
            await asyncio.sleep(0)

    def _newest(self, resource: str) -> str | None:
        try:
            run = self._flow.resource(resource).run
        except ResourceUnknown:
            return None
        return None if run is None else str(run.run)

    def hear(self, event: Event) -> None:
        """An event of the flow; a run that fails is one."""
        if not isinstance(event, RunFailed | RunHeld):
            return
        told = self._before.get(event.resource, event.run)
        if told != event.run and event.code not in BLAMELESS:
            self._heard.append(
                Failed(event.resource, event.run, event.code, event.detail)
            )

    def look(self, trial: Trial) -> Iterator[Sent | Gone | Failed]:
        """What has happened since the last look."""
        heard, self._heard = self._heard, []
        yield from heard
        for resource in self._turn(sorted(trial.watched - trial.sent)):
            try:
                found = self._flow.resource(resource)
            except ResourceUnknown:
                yield Gone(resource)
                continue
            yield from self._shown(resource, found)
            if found.state in UNSENT or not self._plans(resource):
                yield Gone(resource)

    def _turn(self, resources: Sequence[str]) -> Sequence[str]:
        """Those that it is the turn of: a few at each look, one after the other."""
        after = [r for r in resources if r > self._last]
        found = (after or resources)[:AT_A_LOOK]
        self._last = found[-1] if len(found) < len(resources) else ""
        return found

    def _shown(self, resource: str, found: Any) -> Iterator[Sent | Failed]:
        run, trouble = found.run, found.trouble
        new = run is not None and run.run != self._before.get(resource)
        if new and trouble is not None and trouble.code not in BLAMELESS:
            if run.state in {"read", "held", "failed"}:
                yield Failed(resource, run.run, trouble.code, trouble.detail)
        elif new and run.state == "read" and run.delivered:
            yield Sent(resource)

    async def ask(self, trial: Trial) -> None:
        """Ask each stream once for a run of its cheapest usual kind, when it may."""
        for resource in sorted(trial.waits_for - self._asked):
            for kind in CHEAPEST:
                plan = self._plans(resource).get(kind)
                now = self._now()
                if plan is None or plan.opening(now) > now:
                    continue
                try:
                    run = await self._flow.request_pull(resource, kind=kind)
                except NothingLoaded:
                    continue
                except (Busy, ResourceUnknown):
                    break
                if run != self._before.get(resource):  # that one waited already
                    self._asked.add(resource)
                break
