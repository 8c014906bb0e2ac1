# SPDX-License-Identifier: Apache-2.0
"""What becomes of runs that a restart, or a shut gate, has cut."""

from __future__ import annotations

from functools import partial

from agent.audit.events import RowsQuarantined, RunEnded
from agent.errors import Interrupted
from agent.model.run import COMPARING
from agent.pipeline.flow.lane import Again, Lane, why_halted
from agent.pipeline.flow.seams import Parts, undivided
from agent.state import Run, RunEnd, RunTotals, Stream
from agent.wire.grammar import format_time, parse_time


async def recover_run(parts: Parts, run: Run, lane: Lane | None) -> None:
    """A run of the last process: done, given up, or wanted again.

    One that was done is told as ended, as the last process would have, unless its
    resource is gone; its seconds count from its first beginning to now.

    Args:
        parts: of the flow.
        run: queued or reading, as the state has it.
        lane: of its stream; None if the resource is gone.
    """
    state = parts.state
    if await undivided(partial(state.final_of, run.id)) is not None:
        totals = await undivided(partial(_complete, parts, run))
        if lane is not None:
            _tell(parts, run, lane.resource, totals)
    elif lane is None:
        end = RunEnd(
            "failed", "gone", "no such resource now", format_time(parts.chance.now())
        )
        await undivided(partial(state.stop_run, run.id, end))
    elif _rejected_since(run, await lane.stream()):
        await lane.stop(run.id, "failed", why_halted(await lane.stream()))
    elif run.state == "queued" and lane.wanted is None:
        lane.take(run)
    else:
        again = Again(run.deletes_confirmed, run.kind, goes_on=True)
        cut = Interrupted("the daemon was restarted")
        await lane.stop(run.id, "interrupted", cut, again=again)


async def recover_lane(lane: Lane) -> None:
    """What a new epoch dropped is read again, if nobody got round to ask for it."""
    state = lane.parts.state
    newest = await undivided(partial(state.last_run, lane.stream_id))
    if newest is None or newest.state != "read" or lane.wanted is not None:
        return
    sums = await undivided(partial(state.sums, newest.id))
    if sums.states.get("dropped") and (await lane.stream()).halt_code is None:
        await lane.read_again()
    elif newest.kind == "recall" and lane.recalled is not None:
        await lane.want(kind="compare")  # the proof was not asked for any more


def _complete(parts: Parts, run: Run) -> RunTotals:
    """Its last batch was registered, only its totals were not."""
    state = parts.state
    sums = state.sums(run.id)
    reasons, warnings = state.counted(run.id)
    totals = RunTotals(sums.rows, sums.quality, reasons, warnings)
    state.end_run(run.id, totals, at=format_time(parts.chance.now()))
    return totals


def _tell(parts: Parts, run: Run, resource: str, totals: RunTotals) -> None:
    """What the last process would have told, had it lived a moment longer."""
    if totals.reasons and run.kind not in COMPARING:  # which quarantine nothing
        parts.tell(RowsQuarantined(resource, run.id, dict(totals.reasons)))
    began = parse_time(run.started_at or run.asked_at)
    parts.tell(
        RunEnded(
            resource=resource,
            run=run.id,
            read=totals.quality.read,
            upsert=totals.rows.upsert,
            quarantined=totals.quality.quarantined,
            seconds=max((parts.chance.now() - began).total_seconds(), 0.0),
        )
    )


def _rejected_since(run: Run, stream: Stream) -> bool:
    """Whether a batch was rejected after the run had been asked for."""
    if stream.halt_code is None or stream.halt_at is None:
        return False
    return parse_time(run.asked_at) <= parse_time(stream.halt_at)
