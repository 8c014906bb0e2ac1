# SPDX-License-Identifier: Apache-2.0
"""Who may wait at a provider's door: so many at a time, and no consumer takes them all.

Rules

1. A provider has so many places. A consumer may have more than half of them only while
   nobody waits for one.
2. Who comes when all are taken, and has not got half of them itself, waits for one; the
   next that is free goes to the consumer that has the fewest.
3. Everybody else is told to come again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Full(Exception):
    """There is no place."""


class Places:
    """The places of one provider.

    Args:
        most: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @property
    def taken(self) -> int:
        """Places in use."""
        return self._inside.total()

    @asynccontextmanager
    async def one(self, consumer: str) -> AsyncIterator[None]:
        """Have a place until the block ends; it may have to be waited for.

        Raises:
            Full: there is none, and this consumer has its share.
        """
        await self._enter(consumer)
        try:
            yield
        finally:
            self._leave(consumer)

    async def _enter(self, consumer: str) -> None:
        if self.taken < self._most and not self._waiting:
            self._inside[consumer] += 1
            return
        queued = sum(who == consumer for who, _ in self._waiting)
        if self._inside[consumer] + queued >= self._most // 2:
            raise Full
        if len(self._waiting) >= self._most:
            raise Full
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((consumer, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place came all the same
                self._leave(consumer)
            raise
        finally:
            self._waiting = [each for each in self._waiting if each[1] is not turn]

    def _leave(self, consumer: str) -> None:
        self._inside[consumer] -= 1
        if not self._inside[consumer]:
            del self._inside[consumer]
        waiting = [each for each in self._waiting if not each[1].done()]
        if waiting:
            who, turn = min(waiting, key=lambda each: self._inside[each[0]])
            self._inside[who] += 1
            turn.set_result(None)
