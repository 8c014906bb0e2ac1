# SPDX-License-Identifier: Apache-2.0
"""A worker that is ready before it has a job: the next run does not wait for its start.

A start takes half a second, most of it for importing Arrow and the driver. Rules

1. It is a child as any other, started anew for one run. It is told which driver to
   import, and nothing else: settings, passwords and rows come with the job.
2. It is made when a run has ended well and no other run works, for the same connector,
   and ended when nobody wanted it for :data:`KEPT_S`. So runs that follow each other
   begin sooner, and a daemon at rest is as small as before.
3. Before it is made :data:`PAUSE_S` go by: the last batches of the run that has ended
   still leave, and its start would take the processor from them. A run that begins
   meanwhile finds none and starts its own.
4. At most one waits, and none while a run works that did not take it: the memory of two
   is never in use for one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.child.process import Child, Guard
from agent.errors import WorkerDied
from agent.model.job import Prepare, encode

PAUSE_S = 2.0
"""So long after a run the next worker is made, seconds: by then the run's last batches
have left, unless the line is slow; then the processor has time for both."""
KEPT_S = 60.0
"""So long it waits for a job, seconds: a resource read every minute finds it."""


@dataclass(frozen=True)
class Kind:
    """What a worker is made for; another one does not serve.

    Args:
        connector: whose driver it has imported.
        guard: its limits.
    """

    connector: str
    guard: Guard


@dataclass
class _Kept:
    """The one that waits; ``ready`` once it is started, or could not be."""

    kind: Kind
    child: Child
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    life: asyncio.Task[None] | None = None


class Spare:
    """Keeps the worker of the next run; used from one event loop.

    Args:
        pause_s: so long after a run it is made, seconds.
        kept_s: so long it waits, seconds.
        sleep: ``asyncio.sleep``.
    """

    def __init__(
        self,
        *,
        pause_s: float = PAUSE_S,
        kept_s: float = KEPT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pause_s = pause_s
        self._kept_s = kept_s
        self._sleep = sleep
        self._pause: asyncio.Task[None] | None = None
        self._kept: _Kept | None = None
        self._working = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the one that waits, once it is started; None if there is none."""
        kept = self._kept
        return kept.child.pid if kept is not None and kept.ready.is_set() else None

    async def take(self, kind: Kind) -> Child | None:
        """A run begins: the worker that waits, or None; one of another kind ends."""
        self._working += 1
        kept = await self._given_up()
        if kept is None:
            return None
        if kept.kind == kind and kept.child.alive:
            return kept.child
        await kept.child.kill("another one was wanted")
        return None

    def over(self, kind: Kind, make: Callable[[], Child] | None) -> None:
        """A run that had called :meth:`take` has ended.

        Args:
            kind: of its worker.
            make: makes the next one; None where the run did not end well.
        """
        self._working -= 1
        if make is None or self._working or self._kept is not None or self._closed:
            return
        self._pause = asyncio.create_task(self._make_later(kind, make))

    async def close(self) -> None:
        """End the one that waits; no other is made."""
        self._closed = True
        kept = await self._given_up()
        if kept is not None:
            await kept.child.kill("the daemon ends")

    async def _given_up(self) -> _Kept | None:
        """The one that waits, from now on its taker's; none is made any more."""
        if self._pause is not None:
            self._pause.cancel()
            await asyncio.gather(self._pause, return_exceptions=True)
        kept, self._kept = self._kept, None
        if kept is None or kept.life is None:
            return None
        await kept.ready.wait()
        kept.life.cancel()
        await asyncio.gather(kept.life, return_exceptions=True)
        return kept

    async def _make_later(self, kind: Kind, make: Callable[[], Child]) -> None:
        """Make it after the pause, unless a run begins before."""
        await self._sleep(self._pause_s)
        kept = self._kept = _Kept(kind, make())
        kept.life = asyncio.create_task(self._live(kept))

    async def _live(self, kept: _Kept) -> None:
        """From its start to its end, unless somebody takes it."""
        try:
            with contextlib.suppress(WorkerDied):  # the run's own start will tell why
                await kept.child.start()
                await kept.child.write(encode(Prepare(kept.kind.connector)))
        finally:
            kept.ready.set()
        await self._sleep(self._kept_s)
        if self._kept is kept:
            self._kept = None
            await kept.child.kill("nobody wanted it")
