# SPDX-License-Identifier: Apache-2.0
"""Delete payloads that are not needed any more; receipts and counts stay.

Rules

1. A file goes first, its mark in the state second: a crash between the two leaves a
   row without a file, and the next sweep marks it.
2. What waits for its first receipt never goes.
3. When the spool is full, what is loaded goes at once, then what the exchange signed as
   stored: without that, a snapshot larger than the quota would never end.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.audit.events import BatchPurged
from agent.pipeline.seams import Parts
from agent.state import Batch
from agent.wire.grammar import format_time

_NEVER = ""
"""Sorts before every time."""


def sweep(parts: Parts) -> int:
    """Delete what its keep period has passed for; how many files went."""
    now, limits = parts.chance.now(), parts.limits
    return _purge(
        parts,
        loaded_before=_ago(now, limits.keep_loaded_s),
        stored_before=_ago(now, limits.keep_stored_s),
    )


def make_room(parts: Parts, size: int) -> bool:
    """Whether the spool takes a file of this size, if need be after a purge."""
    if parts.spool.room(size):
        return True
    now = format_time(parts.chance.now())
    _purge(parts, loaded_before=now, stored_before=_NEVER)
    if parts.spool.room(size):
        return True
    _purge(parts, loaded_before=now, stored_before=now)
    return parts.spool.room(size)


def _purge(parts: Parts, *, loaded_before: str, stored_before: str) -> int:
    found = parts.state.purgeable(
        loaded_before=loaded_before, stored_before=stored_before
    )
    if not found:
        return 0
    batches: list[Batch] = [batch for _, batch in found]
    parts.spool.remove(batch.file for batch in batches)
    parts.state.mark_gone(batches)
    for resource, batch in found:
        parts.tell(BatchPurged(resource, batch.epoch, batch.seq))
    return len(found)


def _ago(now: datetime, seconds: float) -> str:
    return format_time(now - timedelta(seconds=seconds))
