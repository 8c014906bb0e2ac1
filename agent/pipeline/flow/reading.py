# SPDX-License-Identifier: Apache-2.0
"""The reading loop of one stream: runs, the worker's offers, what becomes of them.

Rules

1. A worker's Packed is answered only when the spool has room: that is all the
   backpressure there is, and it reaches the database.
2. The brake is looked at before the final part is sealed: up to then nothing at the
   centre changes.
3. A file is renamed, its folder synced and the batch registered in one undivided step;
   a refusal of the disk ends the daemon.
4. A run that failed is repeated with growing waits; a full read that was cut goes on
   where it was. One that needs a person is held or waits for a pull.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from functools import partial

from agent.audit.events import (
    BatchRegistered,
    ColumnsChanged,
    FrontierGone,
    RowsQuarantined,
    RunEnded,
    RunFailed,
    RunHeld,
    RunStarted,
    SpoolBlocked,
)
from agent.crypto.jose import message_digest
from agent.errors import (
    BatchRejected,
    CatalogInvalid,
    ChainMoved,
    ConfigInvalid,
    FepError,
    GateClosed,
    InternalFault,
    Interrupted,
    MassDelete,
    SchemaDrift,
    SecrecyMarker,
    SecretUnreadable,
    SourceLogin,
    SourceMissing,
    SourceTypeChanged,
    SpoolFull,
    SpoolWriteFailed,
    StateDamaged,
    WorkerDied,
    WorkerGivenUp,
    all_errors,
)
from agent.model.job import (
    AskKeys,
    CentreKeys,
    Columns,
    Ended,
    Failed,
    Gone,
    Job,
    Line,
    Packed,
    Progress,
    Slowed,
    Way,
    Written,
)
from agent.model.stream import Head
from agent.pipeline import seal
from agent.pipeline.flow import deaths, judge, report, start, strain
from agent.pipeline.flow.centre import Centre
from agent.pipeline.flow.drift import Change, changes
from agent.pipeline.flow.lane import Again, Bell, Lane, Wanted, defect
from agent.pipeline.flow.pace import Pace
from agent.pipeline.flow.seams import Parts, Worker, undivided
from agent.pipeline.flow.sweep import make_room
from agent.pipeline.seal import RunFacts, Sealed
from agent.state import Catalog, NewBatch, RunTotals, SeenColumns
from agent.wire import catalog as wire_catalog
from agent.wire.batch import LINE_CAP, CatalogRef, DeletesConfirmed

_ERRORS = {cls.code: cls for cls in all_errors()}
HELD = (MassDelete, SecrecyMarker, SchemaDrift, WorkerGivenUp)
"""After these a person has to look first."""

_BY_DIFFERENCE = (SourceMissing, SourceTypeChanged)
"""What is told together with how the table differs from what the last run saw."""


class Slots:
    """How many runs read at the same time; the number may change meanwhile.

    Args:
        most: that many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._bell = Bell()

    @property
    def most(self) -> int:
        """That many at the same time."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        self._bell.ring()

    async def __aenter__(self) -> None:
        """Wait for one that is free."""
        while self._inside >= self._most:
            await self._bell.listen().wait()
        self._inside += 1

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self._inside -= 1
        self._bell.ring()


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
            if wanted is None or not lane.may_read:
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
        if not lane.may_read:
            return
        lane.wanted = None
        lane.aborted = None
        lane.reread = False
        lane.reading = asyncio.ensure_future(_Run(lane, wanted).go())
        lane.changed()
        task = lane.reading
        try:
            await asyncio.wait({task})
            await self._outcome(wanted, task)
            if lane.reread and lane.wanted is None:
                await lane.want()
        finally:
            await _ended(task)
            lane.reading = None
            lane.progress = lane.ease = None
            lane.changed()

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
                again = Again(wanted.deletes_confirmed, wanted.kind)
                await lane.stop(wanted.run, "interrupted", error, again=again)
            case FepError():
                await self._failed(wanted, error)
            case Exception():
                await self._failed(wanted, defect("reading", error))
            case _:
                raise error

    async def _aborted(self, wanted: Wanted) -> None:
        """The sending loop or a pause cut it; nothing was wrong with the source."""
        lane = self._lane
        if lane.aborted == "halted":
            error = BatchRejected("a batch of this stream was rejected meanwhile")
            await lane.stop(wanted.run, "failed", error)
        else:
            again = Again(wanted.deletes_confirmed, wanted.kind, goes_on=True)
            cut = Interrupted(lane.aborted or "stopped")
            await lane.stop(wanted.run, "interrupted", cut, again=again)

    async def _failed(self, wanted: Wanted, error: FepError) -> None:
        lane, parts = self._lane, self._parts
        if isinstance(error, WorkerDied):
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
        if _repeats(error):
            self._failures += 1
            # A wrong password, repeated fast, locks accounts.
            attempt = 32 if isinstance(error, SourceLogin) else self._failures
            wait_s = parts.backoff.wait_s(attempt, parts.chance.uniform)
            on = start.goes_on(error)
            again = Again(wanted.deletes_confirmed, wanted.kind, wait_s, goes_on=on)
        lane.read_trouble = lane.trouble(error, lane.read_trouble, wait_s)
        await lane.stop(wanted.run, "failed", error, again=again)
        parts.tell(RunFailed(*told))

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


def _repeats(error: FepError) -> bool:
    """Whether trying again by itself can help."""
    if isinstance(error, SecretUnreadable):
        return True
    return not isinstance(error, ConfigInvalid | CatalogInvalid | GateClosed)


class _Run:
    """One conversation with one worker."""

    def __init__(self, lane: Lane, wanted: Wanted) -> None:
        self._lane = lane
        self._parts = lane.parts
        self._wanted = wanted
        self._blocked = False
        self._difference: tuple[str, ...] = ()
        self._way: Way | None = None
        self._pace = Pace(self._parts.chance.now())

    async def go(self) -> None:
        """Read everything, or raise."""
        lane, parts = self._lane, self._parts
        run = self._wanted.run
        began = parts.chance.now()
        await undivided(partial(parts.state.start_run, run, at=lane.stamp()))
        parts.tell(RunStarted(lane.resource, run))
        facts = await self._facts()
        make = partial(parts.make_job, lane.resource, run, self._wanted.kind)
        job = await self._prepared(await undivided(make), facts.catalog.version)
        head = (await lane.stream()).head
        self._job, self._version = job, facts.catalog.version
        self._centre = Centre(lane, facts.catalog)
        if job.mode == "deletes":
            job = replace(job, centre=await self._centre.counts())
        async with parts.worker() as worker:
            await worker.start(job)
            ended = await self._talk(worker, facts, head)
        await self._end(ended, (parts.chance.now() - began).total_seconds())

    async def _prepared(self, job: Job, version: int) -> Job:
        """The job with what the state knows of its stream; the state knows it then.

        Raises:
            ChainMoved: it was cut while it read something else.
        """
        state, run = self._parts.state, self._wanted.run

        def prepared() -> Job:
            frontier = state.frontier(self._lane.stream_id)
            ready = start.prepared(job, version, frontier, state.resume_point(run))
            base = start.basis(job, version)
            state.settle_run(run, kind=ready.mode, basis=base)
            self._parts.spool.discard(run)
            return ready

        return await undivided(prepared)

    async def _talk(self, worker: Worker, facts: RunFacts, head: Head) -> Ended:
        sealed: Sealed | None = None
        async for message in worker.messages():
            match message:
                case Progress(read=read, estimate=estimate):
                    parts = 0 if sealed is None else sealed.packed.part
                    self._progress(read, estimate, parts)
                case Columns() | Way() | Gone():
                    await self._learn(message)
                case Slowed() as slowed:
                    strain.heard(self._lane, self._wanted.run, slowed)
                case AskKeys(buckets=buckets):
                    await worker.send(CentreKeys(await self._centre.keys(buckets)))
                case Packed() as packed:
                    sealed = await self._seal(packed, facts, head)
                    tmp = self._parts.spool.tmp(facts.run, packed.part)
                    await worker.send(Line(packed.part, sealed.text, str(tmp)))
                case Written(part=part) if sealed and part == sealed.packed.part:
                    await self._commit(sealed)
                    await self._registered(sealed.packed)
                    head = sealed.after
                case Ended() as ended:
                    return ended
                case Failed() as failed:
                    raise await self._error(failed)
                case _:
                    raise WorkerDied(f"unexpected {type(message).__name__}")
        raise WorkerDied("the worker ended without a last word")

    async def _learn(self, said: Columns | Way | Gone) -> None:
        """What the worker found of the source.

        Raises:
            SchemaDrift, MassDelete: a person has to look at it first.
        """
        match said:
            case Columns() as columns:
                await self._compare(columns)
            case Way() as way:
                self._way = way
            case Gone() as gone:
                self._check_deletes(gone)

    async def _compare(self, seen: Columns) -> None:
        """Go on if the table is as the last run saw it, or holds no less.

        A table that cannot be read at all ends the run by the source's own word, with
        the difference, and is tried again: only what can be read needs a person.

        Raises:
            SchemaDrift: it may hold less, or something else.
        """
        lane, state, job = self._lane, self._parts.state, self._job
        now = SeenColumns(
            self._version,
            f"{job.connector} {'.'.join(job.table)}",
            seen.columns,
        )
        before = await undivided(partial(state.columns, lane.stream_id))
        found: tuple[Change, ...] = ()
        if before is not None and replace(before, columns=now.columns) == now:
            bound = {b.column for b in job.items}
            found = changes(before.columns, now.columns, bound=bound)
        told = tuple(str(change) for change in found)
        if not seen.fit:
            self._difference = told
            return
        if not all(change.safe for change in found):
            raise SchemaDrift("\n".join([lane.resource, *told]))
        if told:
            self._parts.tell(ColumnsChanged(lane.resource, told))
        await undivided(partial(state.keep_columns, lane.stream_id, now))

    def _progress(self, read: int, estimate: int | None, parts: int) -> None:
        pace = self._pace
        pace.note(self._parts.chance.now(), read)
        self._lane.progress = report.Progress(
            read, estimate, parts, rate=pace.rate(), eta_s=pace.eta_s(estimate)
        )
        self._lane.bell.ring()

    async def _facts(self) -> RunFacts:
        """What all batches have in common; signs the catalog statement if it is new."""
        lane, parts = self._lane, self._parts
        leaving = lane.leaving
        items = tuple(leaving.items)
        payload = wire_catalog.Statement(
            producer=parts.sender.producer,
            resource=leaving.resource,
            version=leaving.version,
            items=items,
        ).payload()
        known = await undivided(
            partial(parts.state.catalog, lane.stream_id, leaving.version)
        )
        if known is None:
            text = parts.signer.sign(wire_catalog.TYP, payload)
            known = Catalog(leaving.version, message_digest(text), text, False)
            await undivided(partial(parts.state.add_catalog, lane.stream_id, known))
        elif seal.payload_of(known.jws) != payload:
            raise CatalogInvalid(
                f"{leaving.resource}: the items differ from those sent as version"
                f" {leaving.version}; give the document a higher version"
            )
        return RunFacts(
            resource=leaving.resource,
            run=self._wanted.run,
            catalog=CatalogRef(known.version, known.digest),
            confirmed=None,
        )

    async def _seal(self, packed: Packed, facts: RunFacts, head: Head) -> Sealed:
        parts = self._parts
        if packed.final and packed.mode == "full":
            facts = await self._brake(packed, facts)
        elif packed.rows.delete and self._wanted.deletes_confirmed is not None:
            facts = await self._confirmed(facts, packed.rows.delete)
        await self._room(packed.size + LINE_CAP)
        manifest = seal.compose(
            head, packed, facts, sender=parts.sender, now=parts.chance.now()
        )
        return seal.sign(head, packed, manifest, signer=parts.signer)

    async def _brake(self, packed: Packed, facts: RunFacts) -> RunFacts:
        """Hold a swap that deletes too much, unless a person agreed to so many.

        Raises:
            MassDelete: it would, and nobody did.
        """
        lane, state = self._lane, self._parts.state
        before = await undivided(partial(state.last_distinct, lane.stream_id))
        confirmed = self._wanted.deletes_confirmed
        check = judge.too_many_deletes(before, packed.distinct or 0, confirmed or 0)
        if check is not None:
            gone, reason = check
            raise MassDelete(f"{lane.resource}: {reason}", keys_gone=gone)
        return facts if confirmed is None else await self._confirmed(facts, confirmed)

    def _check_deletes(self, gone: Gone) -> None:
        """The same before the first row of a run that deletes key by key.

        Raises:
            MassDelete: it would delete too much, and nobody agreed.
        """
        check = judge.too_many_deletes(
            gone.known, gone.known - gone.keys, self._wanted.deletes_confirmed or 0
        )
        if check is not None:
            keys, reason = check
            raise MassDelete(f"{self._lane.resource}: {reason}", keys_gone=keys)

    async def _confirmed(self, facts: RunFacts, count: int) -> RunFacts:
        """A batch, or a swap, may delete so many: a person agreed when asking."""
        lane = self._lane
        asked = await undivided(partial(self._parts.state.run, facts.run))
        at = lane.stamp() if asked is None else asked.asked_at
        return replace(facts, confirmed=DeletesConfirmed(at, count))

    async def _room(self, size: int) -> None:
        """Wait until the spool has room; the worker waits meanwhile."""
        parts = self._parts
        try:
            while not await self._make_room(size):
                self._tell_blocked()
                await parts.chance.sleep(parts.limits.room_s)
        finally:
            self._lane.blocked = None

    async def _make_room(self, size: int) -> bool:
        room, purged = await undivided(partial(make_room, self._parts, size))
        for event in purged:
            self._parts.tell(event)
        return room

    def _tell_blocked(self) -> None:
        lane, spool, limits = self._lane, self._parts.spool, self._parts.limits
        error = SpoolFull(
            f"{spool.used} of {spool.quota.bytes} bytes used; the disk has {spool.free}"
            f" left, of which {spool.quota.free_floor} stay free"
        )
        lane.blocked = lane.trouble(error, lane.blocked, limits.room_s)
        if not self._blocked:
            self._blocked = True
            self._parts.tell(SpoolBlocked(spool.used, spool.quota.bytes))
        lane.bell.ring()

    async def _commit(self, sealed: Sealed) -> None:
        """Name the synced file and register it."""
        lane, parts = self._lane, self._parts
        packed, stream = sealed.packed, sealed.manifest.stream
        name = parts.spool.name(lane.batch_id(stream.epoch, stream.seq))
        new = NewBatch(
            stream=lane.stream_id,
            head=sealed.head,
            digest=sealed.digest,
            run=self._wanted.run,
            file=name,
            size=sealed.size,
            content_size=packed.size,
            content_digest=packed.digest,
            mode=sealed.manifest.mode,
            part=packed.part,
            rows=packed.rows,
            quality=packed.quality,
            distinct=packed.distinct,
            token=packed.token,
            final=packed.final,
            frontier=packed.frontier,
            as_of=packed.as_of,
            at=sealed.manifest.sealed_at,
            basis=start.basis(self._job, self._version),
            base=packed.base,
            last=packed.last,
            method=None if self._way is None else self._way.method,
            assumes=() if self._way is None else self._way.assumes,
            reasons=packed.reasons,
            warnings=packed.warnings,
        )
        tmp = parts.spool.tmp(self._wanted.run, packed.part)

        def durable() -> None:
            parts.spool.publish(tmp, name, size=sealed.size)
            try:
                parts.state.register(new)
            except ChainMoved:
                parts.spool.remove([name])
                raise

        await undivided(durable)
        rows = packed.rows
        counts = (rows.upsert, rows.delete, rows.keep, sealed.size)
        parts.tell(BatchRegistered(lane.resource, stream.epoch, stream.seq, *counts))
        lane.changed()

    async def _registered(self, packed: Packed) -> None:
        """What follows from a batch that is registered, once it is."""
        if packed.final and packed.frontier is not None:
            await undivided(self._lane.forget_states)

    async def _end(self, ended: Ended, seconds: float) -> None:
        lane, parts = self._lane, self._parts
        totals = RunTotals(ended.rows, ended.quality, ended.reasons, ended.warnings)
        run = self._wanted.run
        await undivided(partial(parts.state.end_run, run, totals, at=lane.stamp()))
        quality = ended.quality
        self._tell_quarantined(dict(ended.reasons))
        parts.tell(
            RunEnded(
                resource=lane.resource,
                run=run,
                read=quality.read,
                upsert=ended.rows.upsert,
                quarantined=quality.quarantined,
                seconds=seconds,
            )
        )

    async def _error(self, failed: Failed) -> FepError:
        self._tell_quarantined(dict(failed.reasons))
        cls = _ERRORS.get(failed.code, InternalFault)
        shown = self._difference if cls in _BY_DIFFERENCE else ()
        try:
            return cls("\n".join([failed.detail, *shown]))
        except TypeError:
            return InternalFault(f"{failed.code}: {failed.detail}")

    def _tell_quarantined(self, reasons: dict[str, int]) -> None:
        if reasons:
            told = RowsQuarantined(self._lane.resource, self._wanted.run, reasons)
            self._parts.tell(told)
