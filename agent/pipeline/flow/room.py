# SPDX-License-Identifier: Apache-2.0
"""Room in the spool: what makes a run wait, and through its worker the database."""

from __future__ import annotations

from functools import partial

from agent.audit.events import SpoolBlocked
from agent.errors import SpoolFull
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided
from agent.pipeline.flow.sweep import make_room


class Room:
    """Waits for room in the spool for one run.

    Args:
        lane: of its stream.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._parts = lane.parts
        self._blocked = False

    async def wait(self, size: int) -> None:
        """Wait until there is room for so many bytes, and a while if there is little.

        The worker waits meanwhile.
        """
        parts = self._parts
        try:
            while not await self._make_room(size):
                self._tell_blocked()
                await parts.chance.sleep(parts.limits.room_s)
            if (strain := parts.spool.strain(size)) > 0:
                await parts.chance.sleep(strain * parts.limits.slow_s)
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
