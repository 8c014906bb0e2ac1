# SPDX-License-Identifier: Apache-2.0
"""Delete payloads that are not needed any more; receipts and counts stay.

Rules

1. A file goes first, its mark in the state second: a crash between the two leaves a
   row without a file, and the next sweep marks it.
2. What waits for its first receipt never goes.
3. When the spool is nearly full, what is loaded goes early, oldest first and no more
   than is needed, then what the exchange signed as stored: without that, a snapshot
   larger than the quota would never end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from agent.audit.events import BatchPurged
from agent.pipeline.flow import forecast
from agent.pipeline.flow.seams import Parts
from agent.state import DiskSample
from agent.wire.grammar import format_time

_NEVER = ""
"""Sorts before every time."""
_AT_ONCE = 256
"""Most files of one step."""


Purged = tuple[BatchPurged, ...]


def sweep(parts: Parts) -> Purged:
    """Delete what its keep period has passed for; what went."""
    now, limits = parts.chance.now(), parts.limits
    return _purge(
        parts,
        loaded_before=_ago(now, limits.keep_loaded_s),
        stored_before=_ago(now, limits.keep_stored_s),
        enough=lambda: False,
    )


def note_disk(parts: Parts) -> None:
    """Remember how full the disk is, once an hour."""
    now = parts.chance.now()
    if parts.state.disk(format_time(now - forecast.EVERY)):
        return
    spool = parts.spool
    sample = DiskSample(format_time(now), free=spool.free, used=spool.used)
    parts.state.note_disk(sample, oldest=format_time(now - forecast.SPAN))


def make_room(parts: Parts, size: int) -> tuple[bool, Purged]:
    """Whether the spool takes a file of this size, and what went to make it so."""

    def enough() -> bool:
        return parts.spool.excess(size) <= 0

    if enough():
        return True, ()
    now = format_time(parts.chance.now())
    gone = _purge(parts, loaded_before=now, stored_before=_NEVER, enough=enough)
    gone += _purge(parts, loaded_before=now, stored_before=now, enough=enough)
    return parts.spool.room(size), gone


def _purge(
    parts: Parts,
    *,
    loaded_before: str,
    stored_before: str,
    enough: Callable[[], bool],
) -> Purged:
    gone: list[BatchPurged] = []
    while not enough():
        found = parts.state.purgeable(
            loaded_before=loaded_before, stored_before=stored_before, limit=_AT_ONCE
        )
        if not found:
            break
        taken = []
        for resource, batch in found:
            if enough():
                break
            parts.spool.remove([batch.file])
            taken.append(batch)
            gone.append(BatchPurged(resource, batch.epoch, batch.seq))
        parts.state.mark_gone(taken)
    return tuple(gone)


def _ago(now: datetime, seconds: float) -> str:
    return format_time(now - timedelta(seconds=seconds))
