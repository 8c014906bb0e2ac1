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
from agent.pipeline.flow.seams import Parts
from agent.wire.grammar import format_time

_NEVER = ""
"""Sorts before every time."""


Purged = tuple[BatchPurged, ...]


def sweep(parts: Parts) -> Purged:
    """Delete what its keep period has passed for; what went."""
    now, limits = parts.chance.now(), parts.limits
    return _purge(
        parts,
        loaded_before=_ago(now, limits.keep_loaded_s),
        stored_before=_ago(now, limits.keep_stored_s),
    )


def make_room(parts: Parts, size: int) -> tuple[bool, Purged]:
    """Whether the spool takes a file of this size, and what went to make it so."""
    if parts.spool.room(size):
        return True, ()
    now = format_time(parts.chance.now())
    loaded = _purge(parts, loaded_before=now, stored_before=_NEVER)
    if parts.spool.room(size):
        return True, loaded
    stored = _purge(parts, loaded_before=now, stored_before=now)
    return parts.spool.room(size), loaded + stored


def _purge(parts: Parts, *, loaded_before: str, stored_before: str) -> Purged:
    found = parts.state.purgeable(
        loaded_before=loaded_before, stored_before=stored_before
    )
    if found:
        parts.spool.remove(batch.file for _, batch in found)
        parts.state.mark_gone([batch for _, batch in found])
    return tuple(BatchPurged(resource, b.epoch, b.seq) for resource, b in found)


def _ago(now: datetime, seconds: float) -> str:
    return format_time(now - timedelta(seconds=seconds))
