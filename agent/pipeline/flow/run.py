# SPDX-License-Identifier: Apache-2.0
"""One run: the conversation with its worker, from the job to the last word."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from agent.audit.events import (
    ColumnsChanged,
    NumberUnfit,
    RowsQuarantined,
    RunEnded,
    RunStarted,
)
from agent.crypto.jose import message_digest
from agent.errors import (
    CatalogInvalid,
    ChainMoved,
    FepError,
    InternalFault,
    SchemaDrift,
    SourceMissing,
    SourceTypeChanged,
    WorkerDied,
    all_errors,
)
from agent.model.job import (
    AskKeys,
    Columns,
    Compared,
    Ended,
    Failed,
    Gone,
    Job,
    Line,
    Packed,
    Progress,
    Slowed,
    Unfit,
    Way,
    Written,
)
from agent.model.place import place_of
from agent.model.run import COMPARING
from agent.model.stream import Head
from agent.pipeline import seal
from agent.pipeline.flow import reconcile, report, shut, start, strain
from agent.pipeline.flow.centre import Centre
from agent.pipeline.flow.drift import Change, changes
from agent.pipeline.flow.lane import Lane, Wanted
from agent.pipeline.flow.pace import Pace
from agent.pipeline.flow.room import Room
from agent.pipeline.flow.sealing import Sealing
from agent.pipeline.flow.seams import Worker, undivided
from agent.pipeline.flow.shut import Shut
from agent.pipeline.seal import RunFacts, Sealed
from agent.state import Catalog, RunTotals, SeenColumns
from agent.wire import catalog as wire_catalog
from agent.wire.batch import LINE_CAP, CatalogRef

_ERRORS = {cls.code: cls for cls in all_errors()}
_BY_DIFFERENCE = (SourceMissing, SourceTypeChanged)
"""What is told together with how the table differs from what the last run saw."""


class Run:
    """One conversation with one worker.

    Args:
        lane: the stream.
        wanted: the run.
    """

    def __init__(self, lane: Lane, wanted: Wanted) -> None:
        self._lane = lane
        self._parts = lane.parts
        self._wanted = wanted
        self._difference: tuple[str, ...] = ()
        self._room = Room(lane)
        self._pace = Pace(self._parts.chance.now())

    async def go(self) -> None:
        """Read everything, or raise; nothing begins without room for anything."""
        lane, parts = self._lane, self._parts
        run = self._wanted.run
        began = parts.chance.now()
        await undivided(partial(parts.state.start_run, run, at=lane.stamp()))
        parts.tell(RunStarted(lane.resource, run))
        await self._room.wait(LINE_CAP)
        facts = await self._facts()
        make = partial(self._made, run)
        job = await self._prepared(await undivided(make), facts.catalog.version)
        self._stand(job)
        head = (await lane.stream()).head
        self._job, self._version = job, facts.catalog.version
        self._centre = Centre(lane, facts.catalog)
        if job.mode == "compare" and lane.recalled is not None:
            await reconcile.prove(lane, run, lane.recalled, self._centre)
            ended = reconcile.nothing_read(lane.stamp())
        else:
            job = await reconcile.informed(job, self._wanted, lane, self._centre)
            self._sealing = self._to_seal(job)
            async with parts.worker() as worker:
                await worker.start(job)
                ended = await self._talk(worker, facts, head)
        await self._end(ended, (parts.chance.now() - began).total_seconds())
        if job.mode == "recall":
            await lane.want(kind="compare")

    def _made(self, run: str) -> Job:
        """The job as the settings have it, or as a shut resource's recall needs it."""
        lane, kind = self._lane, self._wanted.kind
        if isinstance(lane.leaving, Shut):
            return shut.job(lane.leaving, run, kind)
        return self._parts.make_job(lane.resource, run, kind)

    async def _prepared(self, job: Job, version: int) -> Job:
        """The job with what the state knows of its stream; the state knows it then.

        Raises:
            ChainMoved: it was cut while it read something else, or somewhere else.
        """
        state, run = self._parts.state, self._wanted.run
        place = place_of(job)

        def prepared() -> Job:
            if state.places.of(run) not in (None, place):
                raise ChainMoved("its columns are others than when it was cut")
            frontier = state.frontier(self._lane.stream_id)
            if self._lane.recalled is not None:
                frontier = None  # whatever the centre has, nothing is read in full
            ready = start.prepared(job, version, frontier, state.resume_point(run))
            base = start.basis(job, version)
            if place is not None:
                state.places.keep(run, place)
            state.settle_run(run, kind=ready.mode, basis=base)
            self._parts.spool.discard(run)
            return ready

        return await undivided(prepared)

    def _stand(self, job: Job) -> None:
        """From here on, the run ends when its place may not be read any more.

        Raises:
            ChainMoved: that was while its job was made; it is made again.
        """
        place = self._lane.place = place_of(job)
        if place is not None and not place.within(self._lane.parts.allowed):
            raise ChainMoved(f"{place}: what may be read there has just changed")

    def _to_seal(self, job: Job) -> Sealing:
        basis = start.basis(job, self._version)
        recalled = sum(job.centre or ()) if job.mode == "recall" else None
        return Sealing(self._lane, self._wanted, basis, self._room, recalled)

    async def _talk(self, worker: Worker, facts: RunFacts, head: Head) -> Ended:
        sealed: Sealed | None = None
        async for message in worker.messages():
            match message:
                case Progress(read=read, estimate=estimate):
                    parts = 0 if sealed is None else sealed.packed.part
                    self._progress(read, estimate, parts)
                case Columns() | Way() | Unfit() | Gone() | Compared():
                    await self._learn(message)
                case Slowed() as slowed:
                    strain.heard(self._lane, self._wanted.run, slowed)
                case AskKeys(buckets=buckets):
                    await worker.send(await self._centre.keys(buckets))
                case Packed() as packed:
                    sealed = await self._sealing.seal(packed, facts, head)
                    tmp = self._parts.spool.tmp(facts.run, packed.part)
                    await worker.send(Line(packed.part, sealed.text, str(tmp)))
                case Written(part=part) if sealed and part == sealed.packed.part:
                    await self._sealing.commit(sealed)
                    head = sealed.after
                case Ended() as ended:
                    return ended
                case Failed() as failed:
                    raise await self._error(failed)
                case _:
                    raise WorkerDied(f"unexpected {type(message).__name__}")
        raise WorkerDied("the worker ended without a last word")

    async def _learn(self, said: Columns | Way | Unfit | Gone | Compared) -> None:
        """What the worker found of the source.

        Raises:
            SchemaDrift, MassDelete: a person has to look at it first.
        """
        match said:
            case Columns() as columns:
                await self._compare(columns)
            case Way() as way:
                self._sealing.way = way
            case Unfit(reason=reason):
                lane, run = self._lane, self._wanted.run
                self._parts.tell(NumberUnfit(lane.resource, run, reason))
            case Gone() as gone:
                self._sealing.check_deletes(gone)
            case Compared() as found:
                await reconcile.keep(self._lane, self._wanted.run, found)

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
        items = tuple(leaving.sealed if isinstance(leaving, Shut) else leaving.items)
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
        if reasons and self._job.mode not in COMPARING:  # which quarantine nothing
            told = RowsQuarantined(self._lane.resource, self._wanted.run, reasons)
            self._parts.tell(told)
