# SPDX-License-Identifier: Apache-2.0
"""Comparing with the centre, and recalling what it has: the daemon's side (对账, 撤回).

Rules

1. The centre is asked once everything registered is loaded: what is on its way would
   look missing. While the run goes on nothing else of the stream is sealed, so the
   answers and the source's snapshot speak of the same rows.
2. What a run found is kept and recorded before anything of it leaves. It holds counts;
   keys stand in a file of our own, if a person asked for one.
3. A recall takes everything by one snapshot without rows: also rows that nobody here
   knows of, and all or nothing. A person agrees to the number that the centre signs;
   if there are more by then, the new number is asked about.
4. From that word on nothing else of the resource is read, until it is resumed. The
   frontier is forgotten: whoever resumes sends everything anew, at once.
5. After the receipt the centre is asked once more. Only its signed "no rows" proves
   the recall; that message is kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from agent.audit.events import ResourceRecalled, RowsCompared
from agent.errors import (
    ExchangeRefused,
    InternalFault,
    Interrupted,
    NothingHeld,
    RecallHeld,
)
from agent.model.batch import Quality, Rows
from agent.model.job import Compared, Ended
from agent.model.run import COMPARING
from agent.pipeline.flow.centre import Centre, settled
from agent.pipeline.flow.seams import undivided
from agent.state import KeptComparison, KeptRecall, RunEnd
from agent.wire.batch import CatalogRef

if TYPE_CHECKING:
    from agent.model.job import Job
    from agent.model.run import RunKind
    from agent.pipeline.flow.lane import Lane, Wanted


CATALOGS = 100
"""Most versions back that are tried."""


async def informed(job: Job, wanted: Wanted, lane: Lane, centre: Centre) -> Job:
    """The job with what the centre says, if it needs that.

    Raises:
        PeerFault: there is no answer now, or a false one.
        RecallHeld: nobody agreed to delete what the centre has.
    """
    if job.mode == "deletes":
        return replace(job, centre=(await centre.holds()).counts)
    if job.mode in COMPARING:
        await settled(lane)
        holds = await centre.holds()
        report = await undivided(partial(_report, lane, wanted.run))
        return replace(job, centre=holds.counts, sums=holds.sums, report=report)
    if job.mode == "recall":
        return await _agreed(job, wanted, lane)
    return job


def _report(lane: Lane, run: str) -> str | None:
    """Path of the file that was asked for."""
    name = lane.parts.state.reconciles.report(run)
    if name is None:
        return None
    if lane.parts.reports is None:
        raise InternalFault("there is no folder for reports")
    return str(lane.parts.reports / name)


async def _agreed(job: Job, wanted: Wanted, lane: Lane) -> Job:
    """A recall of as many rows as a person agreed to, or fewer."""
    await settled(lane)
    rows = await _rows_there(lane)
    agreed = wanted.deletes_confirmed
    if lane.recalled is None or agreed is None or rows > agreed:
        told = f"{lane.resource}: the centre has {rows} rows, all of them would go"
        raise RecallHeld(told, keys_gone=rows)
    await undivided(partial(lane.parts.state.forget_frontier, lane.stream_id))
    await undivided(lane.forget_states)
    return replace(job, centre=(rows,), as_of=lane.stamp())


async def _rows_there(lane: Lane) -> int:
    """Rows of the centre, whose table may follow an older catalog than ours."""
    state, newest = lane.parts.state, lane.leaving.version
    refused = ExchangeRefused("it knows no catalog of ours", problem="catalog-unknown")
    for version in range(newest, max(newest - CATALOGS, 0), -1):
        catalog = await undivided(partial(state.catalog, lane.stream_id, version))
        if catalog is None:
            continue
        centre = Centre(lane, CatalogRef(catalog.version, catalog.digest))
        try:
            return (await centre.holds(whole=True)).rows
        except ExchangeRefused as e:
            if e.problem != refused.problem:
                raise
            refused = e
    raise refused


async def keep(lane: Lane, run: str, found: Compared, reply: str | None = None) -> None:
    """Put down what a run found.

    Raises:
        AuditWriteFailed: it cannot be recorded; then nothing may follow from it.
    """
    await lane.parts.record(
        RowsCompared(
            resource=lane.resource,
            run=run,
            rows=found.rows,
            centre=found.centre,
            missing=found.missing,
            stale=found.stale,
            extra=found.extra,
            late=found.late,
            withheld=found.withheld,
            left=found.left,
        )
    )
    kept = KeptComparison(run, lane.stamp(), found)
    reconciles = lane.parts.state.reconciles
    await undivided(partial(reconciles.keep, lane.stream_id, kept, reply=reply))


async def prove(lane: Lane, run: str, recall: KeptRecall, centre: Centre) -> None:
    """Compare a recalled resource with nothing.

    Raises:
        PeerFault: there is no answer now, or a false one.
    """
    state = lane.parts.state
    await settled(lane)
    holds = await centre.holds(whole=True)
    found = Compared(rows=0, centre=holds.rows, extra=holds.rows)
    await keep(lane, run, found, holds.reply)
    if found.clean and recall.proven_at is None:
        await lane.parts.record(ResourceRecalled(lane.resource, run, recall.rows))
        at = lane.stamp()
        await undivided(partial(state.reconciles.prove_recall, lane.stream_id, at=at))
        lane.recalled = replace(recall, proven_at=at)


def nothing_read(at: str) -> Ended:
    """How a run ends that had nothing to read."""
    none = Quality(0, 0, 0)
    return Ended(Rows(0, 0, 0), none, {}, {}, digest=None, as_of=at, frontier="")


def held_recall(lane: Lane) -> tuple[str, int]:
    """The run that waits for a word, and how many rows it would take.

    Raises:
        NothingHeld: none does.
    """
    held = lane.parts.state.reconciles.held_recall(lane.stream_id)
    if held is None:
        raise NothingHeld(f"{lane.resource}: no recall waits to be confirmed")
    return held


async def begin_recall(lane: Lane, run: str, rows: int) -> None:
    """A person agreed: from now on nothing else of the resource is read."""
    recall = KeptRecall(run, rows, lane.stamp())
    reconciles = lane.parts.state.reconciles
    await undivided(partial(reconciles.begin_recall, lane.stream_id, recall))
    lane.recalled = recall


async def make_way(lane: Lane, kind: RunKind) -> None:
    """A run that waits to be read, maybe for ever, is not what is wanted now."""
    waits, lane.wanted = lane.wanted, None
    if waits is not None:
        error = Interrupted(f"a {kind} took its place")
        await lane.stop(waits.run, "interrupted", error)


def end_recall(lane: Lane) -> None:
    """The resource may be read again, and is if its gate is open."""
    if lane.recalled is None:
        return
    state, waits = lane.parts.state, lane.wanted
    state.reconciles.end_recall(lane.stream_id)
    lane.recalled = None
    if lane.reading is not None:
        lane.reread = True
        return
    if lane.shut:
        lane.wanted = None
        if waits is not None:
            state.stop_run(waits.run, _ended(lane))
        return
    run = lane.new_run(None, "full")
    if waits is None:
        state.add_run(run)
    else:
        state.stop_run(waits.run, _ended(lane), successor=run)
    lane.take(run)


def _ended(lane: Lane) -> RunEnd:
    why = Interrupted("its recall was ended")
    return RunEnd("interrupted", why.code, why.detail, lane.stamp())
