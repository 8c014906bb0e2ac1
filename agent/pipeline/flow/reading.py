# SPDX-License-Identifier: Apache-2.0
"""The reading loop of one stream: which run is read, and what becomes of it.

Rules

1. A run that failed is repeated with growing waits; a full read that was cut goes on
   where it was. One that needs a person is held or waits for a pull.
2. A refusal of the disk ends the daemon.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from functools import partial

from agent.audit.events import FrontierGone, RunFailed, RunHeld
from agent.errors import (
    CatalogInvalid,
    ChainMoved,
    ConfigInvalid,
    FepError,
    GateClosed,
    Interrupted,
    MassDelete,
    SchemaDrift,
    SecrecyMarker,
    SecretUnreadable,
    SourceLogin,
    SpoolFull,
    SpoolWriteFailed,
    StateDamaged,
    WorkerDied,
    WorkerGivenUp,
)
from agent.model.run import COMPARING, RunKind
from agent.pipeline.flow import deaths, start
from agent.pipeline.flow.lane import Again, Lane, Wanted, defect, why_halted
from agent.pipeline.flow.run import Run
from agent.pipeline.flow.seams import Parts, undivided
from agent.pipeline.flow.slots import Slots

HELD = (MassDelete, SecrecyMarker, SchemaDrift, WorkerGivenUp)
"""After these a person has to look first."""

FULL_S = 5.0
"""Pause before a run goes on that found no byte left on the disk, seconds."""


class Reading:
    """Reads one stream.

    Args:
        lane: the stream.
        slots: how many runs may read at the same time, shared by all streams.
    """

    def __init__(self, lane: Lane, slots: Slots) -> None:
        self._lane = lane
        self._slots = slots
        self._failures = 0

    @property
    def _parts(self) -> Parts:
        """Those of now: they may be exchanged while the loop runs."""
        return self._lane.parts

    async def forever(self) -> None:
        """Read what is wanted until cancelled.

        Raises:
            SpoolWriteFailed: the disk refused; the daemon must end.
            StateDamaged: so must it when its memory is wrong.
        """
        lane = self._lane
        while True:
            lane.reader.begin()
            wanted = lane.wanted
            if wanted is None or not lane.may_read(wanted.kind):
                await lane.reader.rest(None)
            elif (wait_s := self._wait_s(wanted.not_before)) > 0:
                await lane.reader.rest(wait_s, patient=True)
                self._hurry()
            else:
                async with self._slots:
                    await self._run(wanted)

    def _wait_s(self, moment: datetime | None) -> float:
        if moment is None:
            return 0.0
        return (moment - self._parts.chance.now()).total_seconds()

    def _hurry(self) -> None:
        """After a wait, however it ended, the run is due."""
        if (wanted := self._lane.wanted) is not None:
            self._lane.wanted = replace(wanted, not_before=None)

    async def _run(self, wanted: Wanted) -> None:
        """One run, and what follows from how it ended."""
        lane = self._lane
        if lane.wanted is not wanted or not lane.may_read(wanted.kind):
            return  # it waited for its slot, and another one is wanted by now
        lane.wanted = None
        lane.aborted = None
        if _brings_all(wanted.kind, recalled=lane.recalled is not None):
            lane.reread = False
        lane.reading = asyncio.ensure_future(Run(lane, wanted).go())
        lane.changed()
        task = lane.reading
        try:
            await asyncio.wait({task})
            async with lane.turn:  # who asks now, knowing the end, finds nobody reading
                await self._outcome(wanted, task)
                await self._read_again()
        finally:
            await _ended(task)
            lane.reading = None
            lane.progress = lane.ease = lane.place = None
            lane.changed()

    async def _read_again(self) -> None:
        """An epoch was begun that this run did not make up for."""
        lane = self._lane
        if lane.reread and lane.wanted is None and not await self._halted():
            await lane.read_again()

    async def _halted(self) -> bool:
        """Only a person may want something then."""
        return (await self._lane.stream()).halt_code is not None

    async def _outcome(self, wanted: Wanted, task: asyncio.Task[None]) -> None:
        lane = self._lane
        if task.cancelled():
            await self._aborted(wanted)
            return
        error = task.exception()
        match error:
            case None:
                self._failures = 0
                lane.read_trouble = None
                await deaths.ended_well(lane)
            case SpoolWriteFailed() | StateDamaged():
                raise error
            case ChainMoved():
                await self._overtaken(wanted, error)
            case FepError():
                await self._failed(wanted, error)
            case Exception():
                await self._failed(wanted, defect("reading", error))
            case _:
                raise error

    async def _overtaken(self, wanted: Wanted, error: ChainMoved) -> None:
        """The chain went on, or was halted, before the run could be told."""
        lane = self._lane
        stream = await lane.stream()
        if stream.halt_code is not None:
            # Nothing is repeated: what is wanted on a halted stream is a person's word.
            await lane.stop(wanted.run, "failed", why_halted(stream))
        else:
            again = Again(wanted.deletes_confirmed, wanted.kind)
            await lane.stop(wanted.run, "interrupted", error, again=again)

    async def _aborted(self, wanted: Wanted) -> None:
        """The sending loop or a pause cut it; nothing was wrong with the source."""
        lane = self._lane
        if lane.aborted == "halted" or await self._halted():
            await lane.stop(wanted.run, "failed", lane.halted_by)
        else:
            again: Again | None = None
            if not (lane.reread and wanted.kind in COMPARING):  # that is in vain now
                again = Again(wanted.deletes_confirmed, wanted.kind, goes_on=True)
            cut = Interrupted(lane.aborted or "stopped")
            await lane.stop(wanted.run, "interrupted", cut, again=again)

    async def _failed(self, wanted: Wanted, error: FepError) -> None:
        lane, parts = self._lane, self._parts
        if isinstance(error, WorkerDied) and lane.progress is not None:
            error = await deaths.died(lane, wanted.run, error)
        told = (lane.resource, wanted.run, error.code, error.detail)
        if isinstance(error, HELD):
            lane.read_trouble = lane.trouble(error, lane.read_trouble, None)
            await lane.stop(wanted.run, "held", error)
            parts.tell(RunHeld(*told))
            return
        if isinstance(error, start.READ_IN_FULL):
            await self._in_full(wanted, error)
            return
        again, wait_s = None, None
        refused = start.refused_for_good(wanted.kind, error)
        if refused is not None and lane.recalled is None:
            # a word for a repair is none for the read that follows
            again = Again(None, "full") if refused == "catalog-unknown" else None
        elif _repeats(error):
            self._failures += 1
            wait_s = self._pause_s(error)
            on = start.goes_on(error)
            again = Again(wanted.deletes_confirmed, wanted.kind, wait_s, goes_on=on)
        lane.read_trouble = lane.trouble(error, lane.read_trouble, wait_s)
        await lane.stop(wanted.run, "failed", error, again=again)
        parts.tell(RunFailed(*told))

    def _pause_s(self, error: FepError) -> float:
        """How long to wait before a run that failed is repeated."""
        if isinstance(error, SpoolFull):
            return FULL_S
        # A wrong password, repeated fast, locks accounts.
        attempt = 32 if isinstance(error, SourceLogin) else self._failures
        return self._parts.backoff.wait_s(attempt, self._parts.chance.uniform)

    async def _in_full(self, wanted: Wanted, error: FepError) -> None:
        """Nothing but a full read helps; it follows at once."""
        lane, parts = self._lane, self._parts
        lane.read_trouble = lane.trouble(error, lane.read_trouble, 0.0)
        await undivided(partial(parts.state.forget_frontier, lane.stream_id))
        again = Again(wanted.deletes_confirmed, "full")
        await lane.stop(wanted.run, "failed", error, again=again)
        parts.tell(RunFailed(lane.resource, wanted.run, error.code, error.detail))
        parts.tell(FrontierGone(lane.resource, wanted.run, error.detail))


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel a run that is left behind, and look at what it may have raised."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def _brings_all(kind: RunKind, *, recalled: bool) -> bool:
    """Whether a run gives the centre what it lost; of what is recalled: nothing."""
    return kind not in COMPARING and (kind != "recall" or recalled)


def _repeats(error: FepError) -> bool:
    """Whether trying again by itself can help."""
    if isinstance(error, SecretUnreadable):
        return True
    return not isinstance(error, ConfigInvalid | CatalogInvalid | GateClosed)
