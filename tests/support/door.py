# SPDX-License-Identifier: Apache-2.0
"""The door as the daemon opens it: a process of its own, on a free port.

::

    async with opened(Answers(decided, refused), node, ca=ca.cert) as port:
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.crypto.jwe import Parcel, Sealed
from agent.errors import FepError
from agent.lookup.door.process import Door, Hooks, Seams, Watch
from agent.lookup.door.talk import Opening
from agent.retry import Backoff
from agent.wire.problem import Problem
from tests.support.tls import Pair

AUD = "yunxi.exchange"
PATIENCE_S = 60.0


@dataclass
class Daemon:
    """What stands behind a door, and what it heard.

    Args:
        answer: decides on a sealed request.
        refused: called with each code that the door refused with.
    """

    answer: Callable[[Sealed], Awaitable[Parcel | Problem]]
    refused: Callable[[str], None] = lambda _: None
    ports: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    faults: asyncio.Queue[FepError] = field(default_factory=asyncio.Queue)

    def hooks(self) -> Hooks:
        """For the door."""
        return Hooks(
            self.answer, self.refused, self.ports.put_nowait, self.faults.put_nowait
        )


def opening_of(ca: Path, node: Pair, *, port: int = 0, body_s: float = 30.0) -> Opening:
    """How to listen on this machine."""
    return Opening(
        host="127.0.0.1",
        port=port,
        ca=str(ca),
        certificate=str(node.cert),
        key=str(node.key),
        aud=AUD,
        most=256,
        body_s=body_s,
    )


def door_of(opening: Opening, daemon: Daemon, **watch: float) -> Door:
    """A door that is started again at once."""
    limits = Watch(restart=Backoff(0.01, 0.01), **watch)  # type: ignore[arg-type]
    return Door(opening, daemon.hooks(), Seams(uniform=lambda a, _: a, watch=limits))


@asynccontextmanager
async def listening(door: Door, daemon: Daemon) -> AsyncIterator[int]:
    """The door, open; gives the port."""
    task = asyncio.create_task(door.forever())
    try:
        yield await asyncio.wait_for(daemon.ports.get(), PATIENCE_S)
    finally:
        task.cancel()
        await asyncio.wait({task})
