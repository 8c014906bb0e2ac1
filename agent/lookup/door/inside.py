# SPDX-License-Identifier: Apache-2.0
"""The door's process: between HTTP and the daemon.

Rules

1. It has the TLS key and certificate, whose paths come through its socket, and public
   keys; no key that signs, decrypts or records, no database, no settings.
2. A signed reply is sealed here, by the public key that comes with it.
3. Without the daemon it ends at once.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from itertools import count
from typing import Any

from agent.child.frames import Frame, Frames, Outbox, read_pieces
from agent.child.heap import settle_heap
from agent.child.inside import settle
from agent.crypto.jwe import Parcel, Sealed
from agent.errors import ConfigInvalid
from agent.lookup.door.talk import (
    BEAT_S,
    TO_DOOR_CAP,
    Kind,
    Opening,
    opening_of,
    parcel_of,
    problem_of,
)
from agent.lookup.door.threshold import Hooks, Threshold, listening
from agent.wire.problem import Problem

FILES = 1024
"""Most descriptors, so most connections too."""


class Daemon(asyncio.Protocol):
    """The line to the daemon.

    Args:
        loop: it runs in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._frames = Frames(TO_DOOR_CAP)
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Parcel | Problem]] = {}
        self.opening: asyncio.Future[Opening] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The line is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the types
        self._transport = transport
        read_pieces(transport)
        self._outbox = Outbox(transport.write, self._loop.call_soon)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The daemon is gone."""
        _cancel(self.opening, self.ended, *self._waiting.values())

    def data_received(self, data: bytes) -> None:
        """Frames of the daemon."""
        try:
            for frame in self._frames.of(data):
                self._take(frame)
        except ValueError:
            self._transport.abort()

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.SIGNED | Kind.PROBLEM:
                waiting = self._waiting.pop(frame.number, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(_answer(frame))
            case Kind.END if not self.ended.done():
                self.ended.set_result(None)
            case Kind.OPENING if not self.opening.done():
                self.opening.set_result(opening_of(frame.body))

    async def ask(self, sealed: Sealed) -> str | Problem:
        """The sealed reply to a sealed request, or why there is none."""
        number = next(self._numbers) & 0xFFFFFFFF
        waiting = self._waiting[number] = self._loop.create_future()
        self._outbox.put(Kind.ASK, number, sealed.packed())
        found = await waiting
        return found if isinstance(found, Problem) else found.seal()

    def tell(self, kind: int, text: str = "") -> None:
        """Send a frame about no request."""
        self._outbox.put(kind, 0, text.encode())

    def refused(self, code: str) -> None:
        """Something was refused here."""
        self.tell(Kind.REFUSED, code)

    async def beat(self) -> None:
        """Give signs of life until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            self.tell(Kind.BEAT)

    def leave(self) -> None:
        """Send what is left, and close."""
        self._outbox.flush()
        self._transport.close()


def _answer(frame: Frame) -> Parcel | Problem:
    if frame.kind == Kind.SIGNED:
        return parcel_of(frame.body)
    return problem_of(frame.body)


def _cancel(*futures: asyncio.Future[Any]) -> None:
    for future in futures:
        future.cancel()


async def serve(sock: socket.socket) -> int:
    """Listen until the daemon wants an end, or is gone; the exit code."""
    loop = asyncio.get_running_loop()
    _, daemon = await loop.create_connection(lambda: Daemon(loop), sock=sock)
    try:
        opening = await daemon.opening
        hooks = Hooks(ask=daemon.ask, refused=daemon.refused)
        answer = Threshold(
            hooks, aud=opening.aud, most=opening.most, body_s=opening.body_s
        )
        async with listening(answer, opening) as port:
            settle_heap()
            daemon.tell(Kind.OPENED, str(port))
            beat = asyncio.create_task(daemon.beat())
            await daemon.ended
    except ConfigInvalid as e:
        daemon.tell(Kind.UNUSABLE, e.detail)
        return 3
    except asyncio.CancelledError:
        return 3
    else:
        beat.cancel()
        return 0
    finally:
        daemon.leave()


def main(argv: list[str]) -> int:
    """Listen, and speak through descriptor ``argv[1]``, until the daemon is gone."""
    settle()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    with socket.socket(fileno=int(argv[1])) as sock:
        return asyncio.run(serve(sock))
