# SPDX-License-Identifier: Apache-2.0
"""What the two loops of one stream, sending and reading, know of each other.

Only the event loop's thread touches a lane. What must survive is in the state; a lane
holds signals, the run that is wanted, and what status shows of this moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from agent.errors import (
    BatchRejected,
    FepError,
    InternalFault,
    MassDelete,
    NodeCloned,
    NotOwner,
)
from agent.model.batch import ANY_NUMBER, BatchId
from agent.model.place import Place
from agent.model.run import COMPARING, RunKind
from agent.pipeline import state_folder
from agent.pipeline.flow import start
from agent.pipeline.flow.report import Ease, Progress, RunOutcome, Trouble
from agent.pipeline.flow.seams import Leaving, Parts, undivided
from agent.pipeline.flow.shut import is_shut
from agent.state import Deaths, KeptDue, Run, RunEnd, Stream, StreamKey
from agent.wire.grammar import format_time

MOST_DEATHS = 3
"""So many workers of a resource may die in a row."""

Abort = Literal["epoch", "halted", "paused", "closed"]


class Bell:
    """Wakes everybody who waits for a change of anything."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Something changed."""
        self._event.set()
        self._event = asyncio.Event()

    def listen(self) -> asyncio.Event:
        """Set at the next :meth:`ring`; take it before looking."""
        return self._event


class Signals:
    """Two ways to end one loop's wait: there is work, or a person wants it now.

    Attributes:
        busy_since: when the loop last began a step, or came forward in it; None while
            it rests.
    """

    def __init__(
        self,
        sleep: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self.busy_since: float | None = None
        self._work = asyncio.Event()
        self._kick = asyncio.Event()

    def note(self) -> None:
        """There may be work."""
        self._work.set()

    def prod(self) -> None:
        """A person wants it now: even a wait after a failure ends."""
        self._work.set()
        self._kick.set()

    def begin(self) -> None:
        """The loop is about to look; later signals count."""
        self.busy_since = self._clock()
        self._work.clear()
        self._kick.clear()

    def moved(self) -> None:
        """The step that the loop is in has come forward."""
        self.busy_since = self._clock()

    def pause(self) -> None:
        """The loop waits for others, which is no step of its own."""
        self.busy_since = None

    async def rest(self, seconds: float | None, *, patient: bool = False) -> None:
        """Wait for a signal, at most so long.

        Args:
            seconds: None waits for a signal only.
            patient: work does not end the wait, only a person does.
        """
        self.busy_since = None
        signal = self._kick if patient else self._work
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(signal.wait())}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


@dataclass(frozen=True)
class Wanted:
    """A run that waits to be read, not before a certain moment."""

    run: str
    deletes_confirmed: int | None
    kind: RunKind = "full"
    not_before: datetime | None = None


@dataclass(frozen=True)
class Again:
    """A run is to be repeated, after some seconds; a confirmed number goes with it.

    ``goes_on``: where it was cut, if it can; else it begins anew as another run.
    """

    deletes_confirmed: int | None
    kind: RunKind
    wait_s: float = 0.0
    goes_on: bool = False


@dataclass(frozen=True)
class Errand:
    """What a person asks of the sending loop, and who waits for the answer."""

    run: Callable[[Any], Awaitable[object]]
    answer: asyncio.Future[Any]


class Lane:
    """One resource on its way.

    Args:
        leaving: the resource, as the gate lets it leave.
        parts: what the flow is made of.
        bell: rung at every change.
        every: all lanes by resource, as they are at any time.

    Attributes:
        turn: held by who asks for a run, so that two who ask make one.
        recalled: what a person agreed to recall; nothing else is read then.
        damaged: a file that cannot leave, until a new epoch reads its rows again.
        seen_at: when a position of the exchange fitted last, in this life of ours.
        place: where the run reads that reads now; None until it knows.
        halted_by: what ended the run that reads, if :attr:`aborted` is ``halted``.
    """

    def __init__(
        self,
        leaving: Leaving,
        parts: Parts,
        bell: Bell,
        *,
        every: Mapping[str, Lane] | None = None,
    ) -> None:
        self.every = {leaving.resource: self} if every is None else every
        self.seen_at: str | None = None
        self.halted_by: FepError = BatchRejected("a batch of it was rejected meanwhile")
        self.leaving = leaving
        self.parts = parts
        self.bell = bell
        self.key = StreamKey(parts.sender.producer, parts.sender.aud, leaving.resource)
        self.stream_id = parts.state.stream(self.key).id
        self.paused = False
        self.draining = False
        self.ready = False
        self.sending = False
        self.blocked: Trouble | None = None
        self.reread = False
        self.wanted: Wanted | None = None
        self.reading: asyncio.Task[None] | None = None
        self.aborted: Abort | None = None
        self.place: Place | None = None
        self.progress: Progress | None = None
        self.ease: Ease | None = None
        self.hidden: tuple[str, ...] = ()
        self.send_trouble: Trouble | None = None
        self.damaged: Trouble | None = None
        self.read_trouble: Trouble | None = None
        self.deaths: Deaths | None = parts.state.deaths(self.stream_id)
        self.recalled = parts.state.reconciles.recall(self.stream_id)
        self.turn = asyncio.Lock()
        self.errand: Errand | None = None
        self.sender = Signals(parts.chance.sleep, parts.chance.clock)
        self.reader = Signals(parts.chance.sleep, parts.chance.clock)

    @property
    def resource(self) -> str:
        """Code of the resource."""
        return self.leaving.resource

    def may_read(self, kind: RunKind) -> bool:
        """Whether nothing but the time stands in the way of a run of a kind."""
        shut = self.paused or self.draining or self.given_up
        return self.ready and not shut and not self.barred(kind)

    @property
    def given_up(self) -> bool:
        """Whether its worker died so often that a person has to look first."""
        return self.deaths is not None and self.deaths.times >= MOST_DEATHS

    def forget_states(self) -> None:
        """Delete what stood in files of runs that the frontier is not of."""
        if self.parts.states is None:
            return
        frontier = self.parts.state.frontier(self.stream_id)
        of_one = frontier is not None and frontier.method == start.DIFF
        run = frontier.run if frontier is not None and of_one else None
        state_folder.keep(self.parts.states, self.resource, run)

    def stamp(self) -> str:
        """Now, in the wire's grammar."""
        return format_time(self.parts.chance.now())

    def batch_id(self, epoch: int, seq: int) -> BatchId:
        """The identity of one of our batches."""
        key = self.key
        return BatchId(key.producer, key.aud, key.resource, epoch, seq)

    async def stream(self) -> Stream:
        """The stream as the state has it now."""
        return await undivided(partial(self.parts.state.stream, self.key))

    def changed(self) -> None:
        """There may be something to do for either loop."""
        self.sender.note()
        self.reader.note()
        self.bell.ring()

    def prod(self) -> None:
        """A person wants it now: waits end."""
        self.sender.prod()
        self.reader.prod()
        self.bell.ring()

    async def want(
        self,
        *,
        deletes_confirmed: int | None = None,
        kind: RunKind = "full",
        due: KeptDue | None = None,
        report: str | None = None,
    ) -> str:
        """Put a run down to be read; after a restart it is still wanted.

        Args:
            deletes_confirmed: so many keys may go by a person's word.
            kind: what to read.
            due: for a run that was due, when the next one will be.
            report: name of the file that a comparison is to write.
        """
        run = self.new_run(deletes_confirmed, kind)
        if report is not None:
            ask = self.parts.state.reconciles.ask
            await undivided(partial(ask, run.id, self.stream_id, report=report))
        await undivided(partial(self.parts.state.add_run, run, due=due))
        self.take(run)
        return run.id

    async def stop(
        self,
        run: str,
        state: RunOutcome,
        error: FepError,
        *,
        again: Again | None = None,
    ) -> None:
        """Put down how a run ended and, in the same step, the one that repeats it.

        Nothing is repeated where a run is wanted already. A confirmation without a
        number was for this run alone: who gave it did not see a repetition coming.
        """
        if again is not None and again.goes_on and self.wanted is None:
            suspend = partial(
                self.parts.state.suspend_run, run, code=error.code, detail=error.detail
            )
            if (cut := await undivided(suspend)) is not None:
                self.take(cut, wait_s=again.wait_s)
                return
        successor = None
        if again is not None and self.wanted is None:
            confirmed = again.deletes_confirmed
            confirmed = None if confirmed == ANY_NUMBER else confirmed
            successor = self.new_run(confirmed, again.kind)
        gone = error.keys_gone if isinstance(error, MassDelete) else None
        end = RunEnd(state, error.code, error.detail, self.stamp(), gone)
        stop = partial(self.parts.state.stop_run, run, end, successor=successor)
        await undivided(stop)
        if successor is not None and again is not None:
            self.take(successor, wait_s=again.wait_s)

    def new_run(self, deletes_confirmed: int | None, kind: RunKind) -> Run:
        """A run that nobody knows yet; of what is recalled nothing else is read."""
        if self.recalled is not None and kind not in COMPARING:
            deletes_confirmed, kind = self.recalled.rows, "recall"
        return Run(
            id=self.parts.chance.new_id(),
            stream=self.stream_id,
            state="queued",
            deletes_confirmed=deletes_confirmed,
            asked_at=self.stamp(),
            kind=kind,
        )

    def take(self, run: Run, *, wait_s: float = 0.0) -> None:
        """Read this run next; the state has it as queued."""
        begin = self.parts.chance.now() + timedelta(seconds=wait_s)
        not_before = begin if wait_s > 0 else None
        self.wanted = Wanted(run.id, run.deletes_confirmed, run.kind, not_before)
        self.changed()

    def barred(self, kind: RunKind) -> bool:
        """Whether a recall, or a shut gate, lets no run of a kind be read."""
        alone = self.recalled is not None or self.shut
        return alone and kind not in {"recall", "compare"}

    @property
    def shut(self) -> bool:
        """Whether nothing of it may leave but its recall."""
        return is_shut(self.leaving)

    async def read_again(self) -> None:
        """What was given up is read again; of a shut resource only its recall is."""
        if not self.shut or self.recalled is not None:
            await self.want()

    async def halt(self, error: FepError) -> None:
        """Nothing is read or sent any more until a person pulls."""
        self.ready = False
        self.halted_by = error
        self.abort("halted")
        wanted, self.wanted = self.wanted, None
        if wanted is not None:
            await self.stop(wanted.run, "failed", error)
        self.changed()

    def abort(self, reason: Abort) -> None:
        """End the run that reads now, if there is one."""
        if self.reading is not None and self.aborted is None:
            self.aborted = reason
            self.reading.cancel()

    def trouble(
        self, error: FepError, before: Trouble | None, wait_s: float | None
    ) -> Trouble:
        """What status shows of an error; the same trouble keeps its beginning."""
        now = self.parts.chance.now()
        same = before is not None and before.code == error.code
        next_try = None if wait_s is None else now + timedelta(seconds=wait_s)
        return Trouble(
            code=error.code,
            detail=error.detail,
            since=before.since if before is not None and same else format_time(now),
            next_try=None if next_try is None else format_time(next_try),
        )


def why_halted(stream: Stream) -> FepError:
    """What a halted stream waits on."""
    for kind in (NodeCloned, NotOwner):
        if stream.halt_code == kind.code:
            return kind(stream.halt_detail or "")
    return BatchRejected(f"{stream.halt_code}: {stream.halt_detail}")


def defect(doing: str, error: BaseException) -> InternalFault:
    """An exception that nobody foresaw, by its class and place, without its text."""
    where, trace = "?", error.__traceback__
    while trace is not None:
        where = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return InternalFault(f"{doing}: {type(error).__name__} at {where}")
