# SPDX-License-Identifier: Apache-2.0
"""What status shows: the state's numbers and the lanes' signals put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.errors import (
    BatchRejected,
    MassDelete,
    SchemaDrift,
    SecrecyMarker,
    WorkerGivenUp,
)
from agent.pipeline.flow import deaths, report
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import Parts
from agent.state import Batch, Complete, KeptFrontier, Run, Stream
from agent.wire.grammar import parse_time

HELD = frozenset(
    {MassDelete.code, SecrecyMarker.code, SchemaDrift.code, WorkerGivenUp.code}
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
        ),
        resources=resources,
    )


def resource_status(lane: Lane) -> report.ResourceStatus:
    """One resource."""
    state = lane.parts.state
    stream = state.stream(lane.key)
    newest = state.last_run(stream.id)
    ended = state.last_run(stream.id, ("read",))
    waiting = report.Amount(*state.amount(stream.id, "waiting"))
    stored = report.Amount(*state.amount(stream.id, "stored"))
    receipts = state.receipts(stream.id, limit=1)
    trouble = _trouble(lane, stream, newest)
    complete = state.complete(stream.id)
    return report.ResourceStatus(
        resource=lane.resource,
        state=_state(
            lane, stream, trouble, open_batches=waiting.batches + stored.batches
        ),
        run=None if newest is None else _report(lane, newest),
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
        balanced=None if ended is None else _report(lane, ended).balanced,
        last_success=None if complete is None else complete.at,
        complete_to=None if complete is None else complete.as_of,
        lag_s=_lag_s(lane, complete),
        increments=_increments(state.frontier(stream.id)),
        ease=lane.ease,
    )


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
    )


def _report(lane: Lane, run: Run) -> report.RunReport:
    return report.run_report(run, lane.resource, lane.parts.state.sums(run.id))


def _stream_status(lane: Lane, stream: Stream) -> report.StreamStatus:
    epoch, seq = lane.parts.state.last_loaded(stream.id)
    return report.StreamStatus(
        epoch=stream.head.epoch,
        seq=stream.head.seq,
        loaded_epoch=epoch,
        loaded_seq=seq,
        halted=stream.halt_code,
    )


def _trouble(lane: Lane, stream: Stream, newest: Run | None) -> report.Trouble | None:
    """The worst that is known: a halt, the disk, then reading, then sending."""
    if stream.halt_code is not None:
        return report.Trouble(
            code=BatchRejected.code,
            detail=f"{stream.halt_code}: {stream.halt_detail}",
            since=stream.halt_at or "",
            next_try=None,
        )
    if lane.blocked is not None:
        return lane.blocked
    if lane.deaths is not None and lane.given_up:
        error = deaths.given_up(lane)
        return report.Trouble(error.code, error.detail, lane.deaths.at, None)
    if lane.read_trouble is not None:
        return lane.read_trouble
    if newest is not None and newest.state in {"held", "failed"} and newest.code:
        return report.Trouble(
            newest.code, newest.detail or "", newest.ended_at or "", None
        )
    return lane.send_trouble


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
    return "waiting" if busy else "idle"
