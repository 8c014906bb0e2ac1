# SPDX-License-Identifier: Apache-2.0
"""What status shows: the state's numbers and the lanes' signals put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from agent.errors import (
    MassDelete,
    RecallHeld,
    SchemaDrift,
    SecrecyMarker,
    WorkerGivenUp,
)
from agent.pipeline.flow import deaths, report
from agent.pipeline.flow.accounts import Account, of_resource, of_run
from agent.pipeline.flow.forecast import SPAN, Forecast, forecast
from agent.pipeline.flow.lane import Lane, why_halted
from agent.pipeline.flow.seams import Parts
from agent.state import Batch, Complete, KeptFrontier, Run, Stream, Sums
from agent.wire.grammar import format_time, parse_time

Adds = Callable[[str], Sums]
"""Adds up the batches of a run."""
HELD = frozenset(
    {
        MassDelete.code,
        RecallHeld.code,
        SecrecyMarker.code,
        SchemaDrift.code,
        WorkerGivenUp.code,
    }
)
"""Of these a run waits for a person."""


def push_status(
    parts: Parts, lanes: Sequence[Lane], *, paused: bool
) -> report.PushStatus:
    """Everything about the push flow."""
    resources = tuple(resource_status(lane) for lane in lanes)
    blocked = any(lane.blocked is not None for lane in lanes)
    return report.PushStatus(
        paused=paused,
        healthy=not blocked and all(r.healthy for r in resources),
        clock_offset_s=parts.exchange.clock_offset_s,
        spool=report.SpoolStatus(
            used=parts.spool.used,
            quota=parts.spool.quota.bytes,
            free=parts.spool.free,
            blocked=blocked,
            slowed=not blocked and parts.spool.strain(0) > 0,
            forecast=_forecast(parts),
        ),
        resources=resources,
    )


def _forecast(parts: Parts) -> Forecast:
    since = format_time(parts.chance.now() - SPAN)
    spool = parts.spool
    return forecast(
        parts.state.disk(since), free=spool.free, floor=spool.quota.free_floor
    )


def resource_status(lane: Lane) -> report.ResourceStatus:
    """One resource."""
    state = lane.parts.state
    sums = cache(state.sums)  # of one run they are wanted more than once
    stream = state.stream(lane.key)
    newest = state.last_run(stream.id)
    ended = state.last_run(stream.id, ("read",))
    waiting = report.Amount(*state.amount(stream.id, "waiting"))
    stored = report.Amount(*state.amount(stream.id, "stored"))
    receipts = state.receipts(stream.id, limit=1)
    trouble = _trouble(lane, stream)
    complete = None if lane.recalled is not None else state.complete(stream.id)
    return report.ResourceStatus(
        resource=lane.resource,
        state=_state(
            lane, stream, trouble, open_batches=waiting.batches + stored.batches
        ),
        run=None if newest is None else _report(lane, newest, sums),
        progress=lane.progress,
        stream=_stream_status(lane, stream),
        waiting=waiting,
        stored=stored,
        receipt=None
        if not receipts
        else report.ReceiptStatus(
            epoch=receipts[0].epoch,
            seq=receipts[0].seq,
            state=receipts[0].state,
            code=receipts[0].code,
            at=receipts[0].at,
        ),
        trouble=trouble,
        balanced=None if ended is None else _report(lane, ended, sums).balanced,
        last_success=None if complete is None else complete.at,
        complete_to=None if complete is None else complete.as_of,
        lag_s=_lag_s(lane, complete),
        increments=_increments(state.frontier(stream.id)),
        ease=lane.ease,
        accounts=_accounts(lane, ended, sums),
        reconciled=_reconciled(lane),
        recalled=_recalled(lane),
    )


def _accounts(lane: Lane, ended: Run | None, sums: Adds) -> tuple[Account, ...]:
    """Whether the newest run that read everything, and the resource, add up."""
    state = lane.parts.state
    if ended is None:
        return ()
    whole = state.last_whole(lane.stream_id)
    count = None if whole is None else state.count(lane.stream_id)
    if count is not None:
        whole = state.run(count.run) or whole
    of_this = of_run(ended, sums(ended.id))
    of_all = None if whole is None else sums(whole.id)
    return (*of_this, of_resource(whole, of_all, count))


def _reconciled(lane: Lane) -> report.Reconciled | None:
    state = lane.parts.state
    kept = state.reconciles.last(lane.stream_id)
    run = None if kept is None else state.run(kept.run)
    if kept is None or run is None:
        return None
    return report.reconciled(kept, run, state.sums(run.id))


def _recalled(lane: Lane) -> report.Recall | None:
    found = lane.recalled
    if found is None:
        return None
    return report.Recall(found.rows, found.at, found.proven_at)


def _increments(frontier: KeptFrontier | None) -> report.IncrementStatus | None:
    if frontier is None or frontier.method is None:
        return None
    return report.IncrementStatus(frontier.method, frontier.assumes)


def _lag_s(lane: Lane, complete: Complete | None) -> float | None:
    """How old what the exchange has is; not less than nothing if the clocks differ."""
    if complete is None or complete.as_of is None:
        return None
    age = lane.parts.chance.now() - parse_time(complete.as_of)
    return max(age.total_seconds(), 0.0)


def batch_views(lane: Lane, *, limit: int) -> Iterator[report.BatchView]:
    """The newest batches of a resource with their receipts."""
    for batch in lane.parts.state.recent(lane.stream_id, limit):
        yield batch_view(lane, batch)


def batch_view(lane: Lane, batch: Batch) -> report.BatchView:
    """One batch with its receipts."""
    parts = lane.parts
    return report.BatchView(
        resource=lane.resource,
        path=str(parts.spool.path(batch.file)),
        batch=batch,
        receipts=parts.state.receipts_of(batch.stream, batch.epoch, batch.seq),
        line=parts.state.line(batch.stream, batch.epoch, batch.seq),
    )


def _report(lane: Lane, run: Run, sums: Adds) -> report.RunReport:
    return report.run_report(run, lane.resource, sums(run.id))


def _stream_status(lane: Lane, stream: Stream) -> report.StreamStatus:
    state = lane.parts.state
    epoch, seq = state.last_loaded(stream.id)
    opened = state.opened(stream.id, stream.head.epoch)
    return report.StreamStatus(
        epoch=stream.head.epoch,
        seq=stream.head.seq,
        loaded_epoch=epoch,
        loaded_seq=seq,
        halted=stream.halt_code,
        cause=None if opened is None else opened.cause,
        opened_at=None if opened is None else opened.at,
        seen_at=lane.seen_at,
    )


def _trouble(lane: Lane, stream: Stream) -> report.Trouble | None:
    """The worst that is known: a halt, the disk, then reading, then sending."""
    if stream.halt_code is not None:
        why = why_halted(stream)
        return report.Trouble(why.code, why.detail, stream.halt_at or "", None)
    if lane.blocked is not None:
        return lane.blocked
    if lane.deaths is not None and lane.given_up:
        error = deaths.given_up(lane)
        return report.Trouble(error.code, error.detail, lane.deaths.at, None)
    if lane.read_trouble is not None:
        return lane.read_trouble
    newest = lane.parts.state.reconciles.standing(stream.id)
    if newest is not None and newest.state in {"held", "failed"} and newest.code:
        return report.Trouble(
            newest.code, newest.detail or "", newest.ended_at or "", None
        )
    return _of_sending(lane)


def _of_sending(lane: Lane) -> report.Trouble | None:
    """What is wrong with a file, and beside it what keeps it from being mended."""
    damaged, line = lane.damaged, lane.send_trouble
    if damaged is None or line is None:
        return damaged or line
    detail = f"{damaged.detail}; {line.code}: {line.detail}"
    return replace(damaged, detail=detail, next_try=line.next_try)


def _state(
    lane: Lane, stream: Stream, trouble: report.Trouble | None, *, open_batches: int
) -> report.ResourceState:
    if lane.paused:
        return "paused"
    if stream.halt_code is not None or (trouble is not None and trouble.code in HELD):
        return "held"
    if trouble is not None:
        return "trouble"
    if lane.reading is not None:
        return "running"
    busy = open_batches > 0 or lane.wanted is not None or lane.reread
    if busy:
        return "waiting"
    return "idle" if lane.recalled is None else "recalled"
