# SPDX-License-Identifier: Apache-2.0
"""Runs of one source that has a limit take turns: two would read twice as much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.model.pacing import Pacing


class Turns:
    """Who reads which limited source now; used from one event loop."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def turn(self, pacing: Pacing | None) -> AsyncIterator[None]:
        """Wait until no other run reads the source; at once where it has no limit."""
        if pacing is None or not pacing.limited:
            yield
            return
        async with self._locks.setdefault(pacing.source, asyncio.Lock()):
            yield
