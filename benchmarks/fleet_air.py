# SPDX-License-Identifier: Apache-2.0
"""The client of the exchange without a network, for nodes that are too many.

Addresses and circuit are the real ones (``Ways``); what goes out is answered at once
while the exchange is there, and refused at once while it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from agent.errors import ExchangeUnreachable
from agent.pipeline.uplink.ways import Ways
from agent.wire import command, heartbeat


class There:
    """Whether the exchange is there; all lines are cut when it goes."""

    def __init__(self) -> None:
        self.up = True
        self.gone = asyncio.Event()

    def go(self) -> None:
        """It is killed."""
        self.up = False
        self.gone.set()

    def come(self) -> None:
        """It is there again, and remembers nobody."""
        self.up, self.gone = True, asyncio.Event()


class Nowhere:
    """An exchange without a process."""

    url, aud, ca = "https://exchange.example", "yunxi.exchange", Path("ca.pem")

    def kill(self) -> None:
        """There is nothing to end."""

    def start(self) -> None:
        """Nor to start."""


class Air:
    """What a node asks of ``Exchange``.

    Args:
        url: its address.
        there: see there.
        clock: seconds.
        base_s: how long a circuit is open at first.
    """

    def __init__(
        self, url: str, there: There, *, clock: Callable[[], float], base_s: float
    ) -> None:
        self._there = there
        self._clock = clock
        self.ways = Ways((url,), clock=clock, base_s=base_s)

    async def __aenter__(self) -> Self:
        """Nothing is opened."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is closed."""

    async def heartbeat(self, _beat: str) -> bytes:
        """As an exchange answers whose directory changed; the node knows better."""
        self._asked()
        return heartbeat.answer(("directory",))

    async def commands(self) -> bytes:
        """None waits."""
        self._asked()
        return command.listed(())

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[_Line]:
        """A line over which nothing comes until it is cut."""
        self._asked()
        yield _Line(self._there.gone)

    def look(self) -> None:
        """A file of the repository, by a way that no circuit guards."""
        if not self._there.up:
            raise ExchangeUnreachable("refused")

    def _asked(self) -> None:
        way, began = self.ways.choose(), self._clock()
        if self._there.up:
            self.ways.succeeded(way)
            return
        why = ExchangeUnreachable("refused")
        self.ways.failed(way, began=began, why=why)
        raise why


class _Line:
    def __init__(self, gone: asyncio.Event) -> None:
        self._gone = gone

    async def receive(self) -> str | None:
        """Until the exchange is killed."""
        await self._gone.wait()
        raise ExchangeUnreachable("channel: cut")

    async def send(self, _text: str) -> None:
        """Nobody reads."""
