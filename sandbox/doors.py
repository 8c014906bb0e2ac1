# SPDX-License-Identifier: Apache-2.0
"""Where a provider is reached: the WebSocket that it holds, or its own listener.

Rules

1. A node has one channel: a newer connection closes the older, whose requests are lost.
2. At most ``IN_FLIGHT`` requests wait for a node's replies, whichever its door, and no
   consumer keeps the others out (``places``).
3. Bodies pass through. Nothing here keeps one, logs one or looks into one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.errors import MalformedMessage
from agent.wire import channel
from agent.wire.channel import IN_FLIGHT, Frame
from agent.wire.problem import CODES, Problem
from sandbox.places import Full, Places

Answer = str | Problem
"""A reply's body as the provider gave it, or why it gave none."""

REPLACED = 4001
"""Close code: the node has connected anew."""
REVOKED = 4003
"""Close code: the key of the connection's certificate was revoked."""
GOING = 1001
"""Close code: the exchange stops."""
GARBAGE = 1007
"""Close code: a frame that is none of ``fep.v1``."""


class Unreached(Exception):
    """A provider gave no answer.

    Args:
        code: ``busy`` too many wait, ``no-channel`` it is not there, ``no-answer`` it
            is silent.
        detail: for people.
    """

    def __init__(self, code: str, detail: str) -> None:
        status = 429 if code == "busy" else CODES[code]
        self.problem = Problem(code, status, detail)
        super().__init__(detail)


class Door(Protocol):
    """One way to a provider."""

    async def ask(self, body: str) -> Answer:
        """Hand a request over and wait for its answer, however long that takes.

        Raises:
            Unreached: the provider cannot be reached, or went away meanwhile.
        """
        ...


class Line(Protocol):
    """A WebSocket as :class:`Channel` needs it."""

    async def send_str(self, data: str) -> None:
        """Send a text message; ``ConnectionError`` when the line is gone."""
        ...

    async def close(self, *, code: int, message: bytes) -> object:
        """Say goodbye."""
        ...

    def abort(self) -> None:
        """Break the connection without a word."""
        ...


@dataclass(frozen=True)
class Peer:
    """Who holds a channel.

    Args:
        node: of its certificate.
        kid: thumbprint of the certificate's key.
    """

    node: str
    kid: str


class Channel:
    """One WebSocket of a provider: requests go out, replies come in any order."""

    def __init__(self, peer: Peer, line: Line) -> None:
        self.peer = peer
        self._line = line
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Answer | None]] = {}

    async def ask(self, body: str) -> Answer:
        """See :class:`Door`."""
        key = str(next(self._numbers))
        answer: asyncio.Future[Answer | None]
        answer = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            await self._send(Frame("req", key, body))
            found = await answer
        finally:
            del self._waiting[key]
        if found is None:
            raise Unreached("no-channel", "the provider's channel closed meanwhile")
        return found

    async def nudge(self) -> None:
        """Tell the provider to poll its positions and the directory."""
        await self._send(Frame("nudge"))

    async def _send(self, frame: Frame) -> None:
        try:
            await self._line.send_str(frame.format())
        except ConnectionError as e:
            raise Unreached("no-channel", "the provider's channel is closed") from e

    def take(self, text: str) -> None:
        """A text message of the provider; one that nobody waits for is too late.

        Raises:
            MalformedMessage: no reply frame.
        """
        key, answer = _answer(text)
        waiting = self._waiting.get(key)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def end(self) -> None:
        """The line is gone: whoever waits is told."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)

    def cut(self) -> None:
        """Break the connection, as a network does."""
        self._line.abort()

    async def close(self, code: int, reason: str) -> None:
        """End it with a close code."""
        self.end()
        await self._line.close(code=code, message=reason.encode())


def _answer(text: str) -> tuple[str, Answer]:
    frame = channel.parse(text)
    if frame.id is not None and frame.t == "err":
        return frame.id, frame.problem()
    if frame.id is not None and frame.t == "res" and isinstance(frame.body, str):
        return frame.id, frame.body
    raise MalformedMessage(f"channel: expected res or err, got {frame.t}")


class Doors:
    """The doors of all providers, and who waits at them.

    Args:
        timeout_s: so long a provider may take for an answer.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._channels: dict[str, Channel] = {}
        self._listeners: dict[str, Door] = {}
        self._places: defaultdict[str, Places] = defaultdict(lambda: Places(IN_FLIGHT))
        self._farewells: set[asyncio.Task[None]] = set()

    async def ask(self, node: str, body: str, *, of: str) -> Answer:
        """Ask a provider; its own listener goes before its channel.

        Args:
            node: the provider.
            body: of the request.
            of: the consumer.

        Raises:
            Unreached: as its codes say.
        """
        self._door(node)
        try:
            async with asyncio.timeout(self._timeout_s), self._places[node].one(of):
                return await self._door(node).ask(body)
        except Full:
            detail = f"{IN_FLIGHT} requests wait for {node} already"
            raise Unreached("busy", detail) from None
        except TimeoutError as e:
            detail = f"no answer within {self._timeout_s:g} s"
            raise Unreached("no-answer", detail) from e

    def _door(self, node: str) -> Door:
        door = self._listeners.get(node) or self._channels.get(node)
        if door is None:
            raise Unreached("no-channel", f"{node} holds no channel")
        return door

    def enter(self, found: Channel) -> None:
        """A node has connected; its older connection is closed."""
        older = self._channels.get(found.peer.node)
        self._channels[found.peer.node] = found
        if older is not None:
            self._bid_farewell(older, REPLACED, "replaced by a newer connection")

    def leave(self, found: Channel) -> None:
        """A connection is gone."""
        found.end()
        if self._channels.get(found.peer.node) is found:
            del self._channels[found.peer.node]

    def listens(self, node: str, door: Door | None) -> None:
        """A node has a listener of its own, or has none any more."""
        if door is None:
            self._listeners.pop(node, None)
        else:
            self._listeners[node] = door

    def waiting(self) -> dict[str, int]:
        """Node with a channel -> requests that wait for its replies."""
        return {node: self._places[node].taken for node in sorted(self._channels)}

    def close(self, whom: Callable[[Peer], bool], code: int, reason: str) -> None:
        """End some channels."""
        for found in list(self._channels.values()):
            if whom(found.peer):
                self.leave(found)
                self._bid_farewell(found, code, reason)

    def cut(self, node: str) -> None:
        """Break a node's channel, if it has one."""
        if (found := self._channels.get(node)) is not None:
            found.cut()

    async def nudge(self) -> None:
        """Tell every provider to poll."""
        for found in list(self._channels.values()):
            try:
                await found.nudge()
            except Unreached:
                self.leave(found)

    async def shut(self) -> None:
        """The exchange stops: every channel is closed."""
        self.close(lambda _: True, GOING, "the exchange stops")
        if self._farewells:
            await asyncio.wait(self._farewells)

    def _bid_farewell(self, found: Channel, code: int, reason: str) -> None:
        """Close in the background: the other side may be slow to answer."""
        task = asyncio.create_task(found.close(code, reason))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
