# SPDX-License-Identifier: Apache-2.0
"""Rows that the exchange refuses come back into quarantine, with its reason."""

from __future__ import annotations

from functools import partial

from agent.audit.events import ExchangeTrouble, RowsReturned
from agent.errors import FepError, SpoolDamaged
from agent.model import rejected
from agent.pipeline.flow import files
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided
from agent.state import Batch


async def give_back(lane: Lane, batch: Batch, code: str) -> None:
    """Put the rows of a rejected batch into quarantine, if its code is about rows.

    Before the receipt is kept, so that a crash in between does it again. Where it
    cannot be done the stream is halted all the same.

    Args:
        lane: the stream.
        batch: that was rejected.
        code: the exchange's reason.
    """
    parts = lane.parts
    ops = rejected.OPS.get(code)
    if ops is None:
        return
    path = parts.spool.path(batch.file)
    try:
        items = await undivided(partial(files.sealed_items, lane, batch))
        found = rejected.RejectedBatch(
            file=str(path),
            resource=lane.resource,
            epoch=batch.epoch,
            seq=batch.seq,
            items=items,
            code=code,
            ops=ops,
        )
        rows = await parts.give_back(found)
    except (FepError, OSError) as e:
        error = e if isinstance(e, FepError) else SpoolDamaged(f"{path}: {e.strerror}")
        parts.tell(ExchangeTrouble(lane.resource, error.code, error.detail, 0, 0.0))
    else:
        parts.tell(RowsReturned(lane.resource, batch.epoch, batch.seq, code, rows))
