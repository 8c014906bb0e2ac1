# SPDX-License-Identifier: Apache-2.0
"""The line that the agent opens to the exchange, over which lookups come (wire.md §4).

Rules

1. The agent connects, the exchange asks: no port of this machine is open.
2. A frame that breaks the format ends the connection; a new one is opened after a wait.
3. Each request is answered by a task of its own; at most 64 at a time, the next is told
   ``busy``. Replies go out in the order in which they are ready.
4. A line that held and was cut is opened again at once; one that was refused, or closed
   by the exchange, after a wait that grows.
5. A connection that is lost takes its unsent replies with it: the consumer asks again
   with the same text and gets the same reply.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from agent.errors import ExchangeUnreachable, FepError
from agent.retry import Backoff
from agent.wire.channel import IN_FLIGHT, Frame, parse
from agent.wire.problem import Problem

STEADY_S = 60.0
"""A connection that lasted so long was a good one: waits begin anew, seconds."""
HELD_S = 0.25
"""One that lasted so long and was cut is opened again at once, seconds."""
AT_ONCE_S = (0.05, 0.25, 1.0)
"""Longest waits before the first tries then, so that not every node comes back in the
same instant, seconds."""


class Channel(Protocol):
    """An open connection."""

    async def receive(self) -> str | None:
        """The next text frame; None when the other side has ended. Raises PeerFault."""
        ...

    async def send(self, text: str) -> None:
        """Send a text frame. Raises PeerFault."""
        ...


class _Closed(ExchangeUnreachable):
    """The exchange has said goodbye: it goes, or another of our name has come."""


Answer = Callable[[str], Awaitable[str | Problem]]
"""Answers a sealed request."""


@dataclass(frozen=True)
class Hooks:
    """What the line calls.

    Args:
        answer: answers a sealed request; never raises for what the peer did.
        nudged: the exchange asks to look at position and directory.
        opened: the line is up.
        closed: the line is down: why, number of tries in a row, seconds until the next.
    """

    answer: Answer
    nudged: Callable[[], None]
    opened: Callable[[], None]
    closed: Callable[[FepError, int, float], None]


@dataclass(frozen=True)
class Waits:
    """How waits between two connections are made.

    Args:
        backoff: their length.
        uniform: ``random.uniform``.
        sleep: ``asyncio.sleep``.
        clock: monotonic seconds.
    """

    backoff: Backoff
    uniform: Callable[[float, float], float]
    sleep: Callable[[float], Awaitable[None]]
    clock: Callable[[], float]


class Relay:
    """Keeps the line open.

    Args:
        connect: opens a connection; leaving the context closes it. Raises PeerFault.
        hooks: see there.
        waits: see there.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[Channel]],
        hooks: Hooks,
        waits: Waits,
    ) -> None:
        self._connect = connect
        self._hooks = hooks
        self._waits = waits
        self._at_work: set[asyncio.Task[None]] = set()
        self._up = False
        self._back = asyncio.Event()

    async def settled(self, deadline_s: float) -> None:
        """Wait until every request of the line has its answer sent, or lost.

        Args:
            deadline_s: no longer than so: the exchange may not read, or ask on and on.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                while self._at_work:
                    await asyncio.wait(self._at_work)

    async def forever(self) -> None:
        """Connect, serve, wait, connect again; until cancelled."""
        pauses = _Pauses(self._waits)
        while True:
            began, self._up = self._waits.clock(), False
            try:
                await self._once()
            except FepError as e:
                held_s = self._waits.clock() - began if self._up else 0.0
                cut = isinstance(e, ExchangeUnreachable) and not isinstance(e, _Closed)
                wait_s = pauses.after(held_s=held_s, up=self._up, cut=cut)
                self._hooks.closed(e, pauses.attempt, wait_s)
                await self._rest(wait_s)

    def hurry(self) -> None:
        """The exchange can be reached again: a wait ends now."""
        self._back.set()

    async def _rest(self, seconds: float) -> None:
        self._back.clear()
        waits: set[asyncio.Future[object]] = {
            asyncio.ensure_future(self._back.wait()),
            asyncio.ensure_future(self._waits.sleep(seconds)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _once(self) -> None:
        """One connection, from its opening to its end, which is always an error."""
        async with self._connect() as channel:
            self._up = True
            self._hooks.opened()
            try:
                await self._serve(channel)
            finally:
                lost, self._at_work = self._at_work, set()
                for task in lost:
                    task.cancel()
                await asyncio.gather(*lost, return_exceptions=True)

    async def _serve(self, channel: Channel) -> None:
        at_work = self._at_work
        while (text := await channel.receive()) is not None:
            frame = parse(text)
            if frame.t == "nudge":
                self._hooks.nudged()
            elif frame.t == "req" and len(at_work) >= IN_FLIGHT:
                busy = Problem.of("busy", "too many lookups at a time")
                await channel.send(_answer(frame, busy))
            elif frame.t == "req":
                task = asyncio.create_task(self._one(channel, frame))
                at_work.add(task)
                task.add_done_callback(at_work.discard)
        raise _Closed("channel: the exchange has closed it")

    async def _one(self, channel: Channel, frame: Frame) -> None:
        answer = await self._hooks.answer(str(frame.body))
        try:
            await channel.send(_answer(frame, answer))
        except FepError:
            return  # the reading side sees the same end, and tells it


class _Pauses:
    """How long to wait after one connection and before the next.

    Attributes:
        attempt: how many in a row have failed.
    """

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._soon: Iterator[float] | None = None
        self.attempt = 0

    def after(self, *, held_s: float, up: bool, cut: bool) -> float:
        """Seconds to wait.

        Args:
            held_s: how long the connection was open.
            up: whether it was.
            cut: whether the line broke; else somebody ended it.
        """
        if not cut:
            self._soon = iter(())
        elif up and (self._soon is None or held_s > HELD_S):
            self._soon, self.attempt = iter(AT_ONCE_S), 0
        self.attempt = 1 if held_s > STEADY_S else self.attempt + 1
        soon_s = None if self._soon is None else next(self._soon, None)
        if soon_s is not None:
            return self._waits.uniform(0.0, soon_s)
        return self._waits.backoff.wait_s(self.attempt, self._waits.uniform)


def _answer(frame: Frame, answer: str | Problem) -> str:
    if isinstance(answer, Problem):
        return Frame.error(str(frame.id), answer).format()
    return Frame("res", frame.id, answer).format()
