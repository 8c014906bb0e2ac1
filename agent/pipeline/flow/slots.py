# SPDX-License-Identifier: Apache-2.0
"""How many do something at the same time, in the order of asking."""

from __future__ import annotations

from agent.pipeline.flow.lane import Bell


class Slots:
    """So many at the same time; the number may change meanwhile.

    Who has just left stands behind all who wait, so none of them is passed over.

    Args:
        most: that many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._queue: list[object] = []
        self._bell = Bell()

    @property
    def most(self) -> int:
        """That many at the same time."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        self._bell.ring()

    async def __aenter__(self) -> None:
        """Wait for one that is free."""
        ticket = object()
        self._queue.append(ticket)
        try:
            while self._inside >= self._most or self._queue[0] is not ticket:
                await self._bell.listen().wait()
            self._inside += 1
        finally:
            self._queue.remove(ticket)
            self._bell.ring()

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self._inside -= 1
        self._bell.ring()
