# SPDX-License-Identifier: Apache-2.0
"""The push flow: from the source's rows to the exchange's signed receipts.

Here the stages meet; they do not know each other. Each resource has a lane with two
loops, one that reads and one that sends; a sweeper deletes what is settled. All of it
survives ``kill -9`` at any moment, because everything that matters is a transaction of
the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

from agent.audit.events import OrphansRemoved, SpoolIncomplete
from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    FepError,
    MalformedMessage,
    ProxyRefused,
    ResourceUnknown,
    RunUnknown,
    UsageFault,
)
from agent.model.run import COMPARING, RunKind
from agent.pipeline.flow import asking, deaths, judge, leftover, reconcile, report, shut
from agent.pipeline.flow.asking import Hindrance
from agent.pipeline.flow.lane import Bell, Lane
from agent.pipeline.flow.reading import Reading
from agent.pipeline.flow.recovering import recover_lane, recover_run
from agent.pipeline.flow.seams import Leaving, Parts, undivided
from agent.pipeline.flow.sending import Sending
from agent.pipeline.flow.slots import Slots
from agent.pipeline.flow.status import (
    batch_view,
    batch_views,
    push_status,
    resource_status,
)
from agent.pipeline.flow.sweep import note_disk, sweep
from agent.pipeline.flow.tools import SpoolTools
from agent.pipeline.spool import Cleaned
from agent.state import ALL, KeptDue, Run
from agent.wire.grammar import format_time

LONGEST_SEND_S = 2 * 3600.0
"""Longest step of a sender that turns; each piece that the exchange has is one."""
LONGEST_SWEEP_S = 600.0
"""The same of the sweeper, which touches only this machine's disk."""

OF_THE_LINE = frozenset(
    cls.code
    for cls in (
        ExchangeRefused,
        ExchangeUnreachable,
        ExchangeUntrusted,
        ProxyRefused,
        MalformedMessage,
    )
)
"""Troubles that another address, or the same one later, may not have."""

ENDED = frozenset({"read", "held", "failed", "interrupted"})


class PushFlow:
    """Pushes resources to one exchange.

    Call :meth:`recover` once, then keep :meth:`serve` running; the other methods may be
    called from the same event loop at any time after ``recover``.

    Args:
        resources: what the gate lets leave.
        parts: what the flow is made of.

    Attributes:
        changes: rings whenever a status may have changed.
    """

    def __init__(self, resources: Sequence[Leaving], parts: Parts) -> None:
        self._parts = parts
        self.changes = Bell()
        self._lanes: dict[str, Lane] = {}
        self._lanes |= {r.resource: self._lane_for(r) for r in resources}
        self._stopped = asyncio.Event()
        self._draining = False
        self._slots = Slots(parts.limits.workers)
        self._turns = Slots(parts.limits.uploads)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, tuple[asyncio.Task[None], asyncio.Task[None]]] = {}
        self._pauses: frozenset[str] = frozenset()
        self._sweeping_since: float | None = None

    def _lane_for(self, leaving: Leaving) -> Lane:
        return Lane(leaving, self._parts, self.changes, every=self._lanes)

    # --- life ---------------------------------------------------------------------

    async def recover(self) -> None:
        """Put right what a crash left; offline.

        Raises:
            SpoolWriteFailed: the disk refused.
            StateDamaged: the state is wrong.
        """
        found = await undivided(self._clean)
        if found.orphans:
            self._parts.tell(OrphansRemoved(found.orphans))
        if found.missing:
            self._parts.tell(SpoolIncomplete(len(found.missing)))
        self._pauses = await undivided(self._parts.state.pauses)
        self._apply_pauses()
        for leaving in await self._shut_recalls():
            self._lanes[leaving.resource] = self._lane_for(leaving)
        for run in await undivided(self._parts.state.unfinished_runs):
            await recover_run(self._parts, run, self._lane_of(run))
        for lane in self._lanes.values():
            await undivided(lane.forget_states)
            await recover_lane(lane)

    def _clean(self) -> Cleaned:
        return self._parts.spool.clean(self._parts.state.files())

    def _lane_of(self, run: Run) -> Lane | None:
        lanes = self._lanes.values()
        return next((x for x in lanes if x.stream_id == run.stream), None)

    async def serve(self) -> None:
        """Read and send until :meth:`drain` has ended, or until cancelled.

        Raises:
            SpoolWriteFailed: the disk refused; end the process, nothing is lost.
            StateDamaged: the state is wrong.
        """
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                sweeping = group.create_task(self._sweep_forever())
                for lane in self._lanes.values():
                    self._start(lane)
                await self._stopped.wait()
                sweeping.cancel()
                for task in (t for pair in self._tasks.values() for t in pair):
                    task.cancel()
        except BaseExceptionGroup as e:
            raise _first(e) from None
        finally:
            self._group = None

    def _start(self, lane: Lane) -> None:
        """Begin the two loops of a lane, if the flow serves and they have not begun."""
        if self._group is None or self._stopped.is_set():
            return
        if lane.resource in self._tasks:
            return
        self._tasks[lane.resource] = (
            self._group.create_task(Sending(lane, self._turns).forever()),
            self._group.create_task(Reading(lane, self._slots).forever()),
        )

    # --- change ---------------------------------------------------------------------

    async def use(self, resources: Sequence[Leaving], parts: Parts) -> None:
        """Go on with other resources and parts; nothing that may go on is dropped.

        What may not leave any more stops at once, a run that reads it too; its batches
        stay and are judged again if it ever comes back. A run whose items may all still
        leave ends with the job that it has, unless it reads where nothing may be read
        any more. A recall that stands goes on though the gate has shut.

        Args:
            resources: what the gate lets leave now.
            parts: the state, the spool and who we are must be the same.
        """
        bounded = self._parts.allowed != parts.allowed
        self._parts = parts
        self._slots.most = parts.limits.workers
        self._turns.most = parts.limits.uploads
        new = {r.resource: r for r in resources}
        gone = [
            lane
            for code, lane in self._lanes.items()
            if code not in new and not (lane.shut and lane.recalled is not None)
        ]
        for lane in gone:
            del self._lanes[lane.resource]
            self._silence(lane)
        for lane in self._lanes.values():
            lane.parts = parts
            if bounded:
                self._bound(lane)
        for lane in list(self._lanes.values()):
            if bounded:
                await self._send_anew(lane)
            if lane.resource in new:
                await self._rebind(lane, new[lane.resource])
        for code in [c for c in new if c not in self._lanes]:
            await self._join(self._lane_for(new[code]))
        await self._end(gone)
        for leaving in await self._shut_recalls():
            await self._join(self._lane_for(leaving))
        self.changes.ring()

    async def _shut_recalls(self) -> Sequence[Leaving]:
        return await undivided(partial(shut.recalled, self._parts, self._lanes))

    def _silence(self, lane: Lane) -> None:
        """Nothing of this lane leaves any more."""
        lane.draining = True
        lane.abort("closed")
        if (tasks := self._tasks.get(lane.resource)) is not None:
            tasks[0].cancel()

    def _bound(self, lane: Lane) -> None:
        """What may be read is not what it was: nothing read elsewhere goes on."""
        if lane.place is not None and not lane.place.within(lane.parts.allowed):
            lane.abort("closed")
        if (tasks := self._tasks.get(lane.resource)) is not None:
            tasks[0].cancel()

    async def _end(self, gone: Sequence[Lane]) -> None:
        """Wait until nothing of these lanes reads, then end them."""
        for lane in gone:
            while lane.reading is not None:
                await self.changes.listen().wait()
            if (tasks := self._tasks.pop(lane.resource, None)) is not None:
                tasks[1].cancel()
                await asyncio.wait(tasks)

    async def _rebind(self, lane: Lane, leaving: Leaving) -> None:
        """Let a lane go on as the gate has its resource now."""
        old, lane.leaving = lane.leaving, leaving
        if (old.version, tuple(old.items)) == (leaving.version, tuple(leaving.items)):
            lane.changed()
            return
        if not judge.still_shared(tuple(old.items), leaving.items):
            lane.abort("closed")
            await self._send_anew(lane)
        if lane.reread and lane.wanted is None and lane.reading is None:
            await lane.read_again()  # what was given up while its gate was shut
        lane.prod()

    async def _send_anew(self, lane: Lane) -> None:
        """What is being sent is judged anew."""
        if (tasks := self._tasks.get(lane.resource)) is None:
            return
        tasks[0].cancel()
        await asyncio.wait({tasks[0]})
        if self._group is not None and not self._stopped.is_set():
            sending = self._group.create_task(Sending(lane, self._turns).forever())
            self._tasks[lane.resource] = (sending, tasks[1])

    async def _join(self, lane: Lane) -> None:
        """A resource that is new, or back: put right what it left, then let it go."""
        self._lanes[lane.resource] = lane
        lane.draining = self._draining
        self._apply_pauses()
        for run in await undivided(self._parts.state.unfinished_runs):
            if run.stream == lane.stream_id:
                await recover_run(self._parts, run, lane)
        await recover_lane(lane)
        self._start(lane)

    async def drain(self, deadline_s: float) -> None:
        """Begin nothing new, let runs and uploads end, then let :meth:`serve` return.

        A run that does not end in time is cut; it begins again at the next start.
        """
        self._draining = True
        lanes = self._lanes.values()
        for lane in lanes:
            lane.draining = True
        try:
            async with asyncio.timeout(deadline_s):
                while any(x.reading is not None or x.sending for x in lanes):
                    await self.changes.listen().wait()
        except TimeoutError:
            pass
        self._stopped.set()

    async def _sweep_forever(self) -> None:
        while True:
            self._sweeping_since = self._parts.chance.clock()
            for event in await undivided(partial(sweep, self._parts)):
                self._parts.tell(event)
            await undivided(partial(note_disk, self._parts))
            self._sweeping_since = None
            self.changes.ring()
            await self._parts.chance.sleep(self._parts.limits.sweep_s)

    def stuck(self) -> str | None:
        """A loop that has not turned for longer than its longest step can take.

        Readers are not judged: a table may take hours, and a worker that falls silent
        is killed by its guard.
        """
        now = self._parts.chance.clock()
        if now - (self._sweeping_since or now) > LONGEST_SWEEP_S:
            return "the sweeper of the spool"
        for lane in self._lanes.values():
            if now - (lane.sender.busy_since or now) > LONGEST_SEND_S:
                return f"sending {lane.resource}"
        return None

    async def forget_all_but(self, known: Collection[str]) -> None:
        """Give up what waits, or is compared with, of resources that are gone.

        A recall that stands goes on.

        Args:
            known: all codes of the catalogue, those too whose gate is shut.

        Raises:
            SpoolWriteFailed: the disk refused.
            StateDamaged: the state is wrong.
            AuditWriteFailed: it could not be recorded.
        """
        await leftover.forget(self._parts, {*known, *self._lanes})

    # --- what people ask for --------------------------------------------------------

    @property
    def resources(self) -> Collection[str]:
        """Codes of what is on its way."""
        return self._lanes.keys()

    def stream_id(self, resource: str) -> int:
        """Number of a resource's stream in the state.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        return self._lane(resource).stream_id

    async def begin(
        self, resource: str, kind: RunKind, *, due: KeptDue
    ) -> Hindrance | None:
        """Put a run down that is due, unless one is on its way; or what is in the way.

        Args:
            resource: code of the resource.
            kind: what to read.
            due: when the next one will be due; kept together with the run.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        lane = self._lane(resource)
        async with lane.turn:
            hindrance = await asking.hindrance(lane, kind)
            if hindrance is None:
                await lane.want(kind=kind, due=due)
        return hindrance

    async def request_pull(
        self,
        resource: str,
        *,
        confirm_deletes: bool = False,
        kind: RunKind = "full",
        report: str | None = None,
    ) -> str:
        """Ask for a run; its id. A run that only waits to be repeated starts now.

        Args:
            resource: code of the resource.
            confirm_deletes: let as many keys go as the newest held run said, or any
                number where the exchange has rejected deletes that it counted itself.
            kind: what to read; what waits already is read as it is, but for a
                comparison, which a full read replaces.
            report: name of a file for the keys that differ, of kinds that compare.

        Raises:
            ResourceUnknown: there is no such resource.
            NothingHeld: there are no deletes to confirm.
            NothingLoaded: the exchange has nothing to compare with, or to recall.
            Busy: it is paused or recalled, or a run of it reads or is queued.
            UsageFault: a comparison that repairs nothing deletes nothing.
        """
        if kind == "compare" and confirm_deletes:
            raise UsageFault("a comparison without a repair deletes nothing")
        lane = await self._lane_to_pull(resource, kind)
        async with lane.turn:
            return await asking.ask(
                lane, kind, confirm_deletes=confirm_deletes, report=report
            )

    async def _lane_to_pull(self, resource: str, kind: RunKind) -> Lane:
        """That of a resource which may leave, or of one that may be recalled.

        Raises:
            ResourceUnknown: it is neither.
        """
        if resource not in self._lanes and kind == "recall":
            found = await undivided(partial(shut.sent, self._parts, resource))
            if found is not None and resource not in self._lanes:
                await self._join(self._lane_for(found))
        lane = self._lane(resource)
        if lane.shut and kind not in {"recall", "compare"}:
            raise ResourceUnknown(resource)
        return lane

    async def wait(self, run: str, *, delivered: bool = False) -> report.RunReport:
        """The report of a run once it has ended, or of the one that it went on in.

        Args:
            run: from :meth:`request_pull`.
            delivered: also wait until its batches are loaded, or never will be.

        Raises:
            RunUnknown: there is no such run.
        """
        while True:
            heard = self.changes.listen()
            found = await self.look(run)
            if found.state == "interrupted" and found.successor is not None:
                run = found.successor
                continue
            done = found.state in ENDED
            if done and delivered and found.state == "read":
                done = found.delivered or await self._lost(found.run)
            if done:
                return found
            await heard.wait()

    async def _lost(self, run: str) -> bool:
        """Whether a batch of a run will never be loaded."""
        sums = await undivided(partial(self._parts.state.sums, run))
        return bool(sums.states.get("rejected") or sums.states.get("dropped"))

    async def look(self, run: str) -> report.RunReport:
        """The report of a run as it is now.

        Raises:
            RunUnknown: there is no such run.
        """
        return await undivided(partial(self._report, run))

    def _report(self, run: str) -> report.RunReport:
        found = self._parts.state.run(run)
        lane = None if found is None else self._lane_of(found)
        if found is None or lane is None:
            raise RunUnknown(run)
        state = self._parts.state
        compared = state.reconciles.of(run) if found.kind in COMPARING else None
        return report.run_report(
            found,
            lane.resource,
            state.sums(run),
            None if compared is None else compared.found,
        )

    def pause(self, resource: str | None = None) -> None:
        """Stop reading and sending one resource, or all; kept over restarts.

        A run that reads is cut and begins again after :meth:`resume`.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        name = ALL if resource is None else self._lane(resource).resource
        self._parts.state.pause(name, at=_at(self._parts))
        self._pauses = self._parts.state.pauses()
        self._apply_pauses()

    def resume(self, resource: str | None = None) -> None:
        """Go on with one resource, or all; waits after failures end too.

        What was given up because its workers died is read again. A recall ends where
        its resource is named: then everything is sent anew.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        name = ALL if resource is None else self._lane(resource).resource
        if resource is not None:
            reconcile.end_recall(self._lane(resource))
        self._parts.state.resume(name)
        self._pauses = self._parts.state.pauses()
        self._apply_pauses()
        for lane in self._lanes.values():
            if resource is None or lane.resource == resource:
                deaths.read_again(lane)
                lane.prod()

    def nudge(self) -> None:
        """The exchange has news: ask for receipts now; waits after failures stay."""
        for lane in self._lanes.values():
            lane.sender.note()

    def reachable(self) -> None:
        """The exchange can be reached again: who waits for that goes on now."""
        for lane in self._lanes.values():
            trouble = lane.send_trouble
            if trouble is not None and trouble.code in OF_THE_LINE:
                lane.sender.prod()

    def _apply_pauses(self) -> None:
        for lane in self._lanes.values():
            lane.paused = ALL in self._pauses or lane.resource in self._pauses
            if lane.paused:
                lane.abort("paused")
            lane.changed()

    def _lane(self, resource: str) -> Lane:
        try:
            return self._lanes[resource]
        except KeyError:
            raise ResourceUnknown(resource) from None

    @property
    def tools(self) -> SpoolTools:
        """What people ask about the spool."""
        return SpoolTools(self._lane, lambda: self._parts)

    # --- what people see ------------------------------------------------------------

    def status(self) -> report.PushStatus:
        """How everything stands; ``dataclasses.asdict`` makes JSON of it."""
        return push_status(
            self._parts,
            tuple(self._lanes.values()),
            paused=ALL in self._pauses,
        )

    def resource(self, resource: str) -> report.ResourceStatus:
        """How one resource stands.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        return resource_status(self._lane(resource))

    def batches(
        self, resource: str | None = None, *, limit: int = 1000
    ) -> tuple[report.BatchView, ...]:
        """Registered batches with their receipts, newest first in each resource.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        lanes = self._lanes.values() if resource is None else [self._lane(resource)]
        return tuple(view for lane in lanes for view in batch_views(lane, limit=limit))

    def batch(self, resource: str, *, epoch: int, seq: int) -> report.BatchView | None:
        """One registered batch with its receipts, or None.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        lane = self._lane(resource)
        found = self._parts.state.batch(lane.stream_id, epoch, seq)
        return None if found is None else batch_view(lane, found)


def _at(parts: Parts) -> str:
    return format_time(parts.chance.now())


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """One exception of a group, ours before others."""
    flat = [
        _first(e) if isinstance(e, BaseExceptionGroup) else e for e in group.exceptions
    ]
    return next((e for e in flat if isinstance(e, FepError)), flat[0])
