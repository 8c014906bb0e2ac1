# SPDX-License-Identifier: Apache-2.0
"""Connections to the listener, watched from outside the library that serves them.

Rules

1. A connection on which nothing is being answered ends after a while: also one whose
   first request, or its headers, never come to an end.
2. Those who are not the friend have few connections, and short ones: whoever has a
   certificate of the CA could else use up the files of the process.
3. TLS itself has its time, before anything is known of who is there.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)

HANDSHAKE_S = 10.0
"""How long TLS may take to begin, seconds."""
IDLE_S = 75.0
"""How long a connection may be open without a request that is being answered."""
STRANGERS = 16
"""Most connections of others than the friend, together."""
STRANGER_S = 10.0
"""How long each of them may last, seconds."""
SWEEP_S = 1.0
"""Pause between two looks at the connections, seconds."""


class Lines:
    """The connections of one listener.

    Args:
        friend: whether a connection, whose TLS is up, is of the one who may ask.
        idle_s: see :data:`IDLE_S`.
        stranger_s: see :data:`STRANGER_S`.
    """

    def __init__(
        self,
        friend: Callable[[asyncio.BaseTransport], bool],
        *,
        idle_s: float = IDLE_S,
        stranger_s: float = STRANGER_S,
    ) -> None:
        self._friend = friend
        self._idle_s = idle_s
        self._stranger_s = stranger_s
        self._open: set[Line] = set()

    async def listen(
        self,
        inner: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext,
        *,
        host: str,
        port: int,
    ) -> asyncio.Server:
        """Accept connections for a library; see :meth:`watched`.

        Args:
            inner: makes the library's protocol of a connection.
            tls: of the listener.
            host: address to listen on.
            port: of it; 0 for any.

        Raises:
            OSError: the address cannot be listened on.
        """
        return await asyncio.get_running_loop().create_server(
            lambda: Line(inner(), self),
            host,
            port,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_S,
            backlog=128,
        )

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """End connections whose time is over, until the block ends."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_S, self._idle_s, self._stranger_s))
            for line in list(self._open):
                line.end_if_over(self._idle_s, self._stranger_s)

    def entered(self, line: Line, transport: asyncio.BaseTransport) -> bool:
        """A connection is up; whether it is one too many."""
        self._open.add(line)
        line.stranger = not self._friend(transport)
        return line.stranger and sum(x.stranger for x in self._open) > STRANGERS

    def left(self, line: Line) -> None:
        """A connection is gone."""
        self._open.discard(line)


class Line(asyncio.Protocol):
    """One connection; what comes goes on to the library's protocol.

    Args:
        inner: the library's.
        lines: all of the listener.
    """

    def __init__(self, inner: asyncio.Protocol, lines: Lines) -> None:
        self._inner = inner
        self._lines = lines
        self._clock = asyncio.get_running_loop().time
        self._began = self._idle_since = self._clock()
        self._transport: asyncio.BaseTransport | None = None
        self._answering = 0
        self.stranger = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up, and has verified the chain of who is there."""
        self._transport = transport
        crowded = self._lines.entered(self, transport)
        self._inner.connection_made(transport)
        if crowded:
            self._end()

    def data_received(self, data: bytes) -> None:
        """Hand it on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Hand it on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on."""
        self._lines.left(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Hand it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Hand it on."""
        self._inner.resume_writing()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While the block runs a request is being answered."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1
            self._idle_since = self._clock()

    def end_if_over(self, idle_s: float, stranger_s: float) -> None:
        """End it if its time is over."""
        now = self._clock()
        idle = not self._answering and now - self._idle_since > idle_s
        if idle or (self.stranger and now - self._began > stranger_s):
            self._end()

    def _end(self) -> None:
        if isinstance(self._transport, asyncio.WriteTransport):
            with suppress(AttributeError):  # Python 3.11.2, if it was closed twice
                self._transport.abort()


def at_work(transport: asyncio.BaseTransport | None) -> AbstractContextManager[None]:
    """While the block runs a request of this connection is being answered."""
    line = None if transport is None else transport.get_protocol()
    return line.answering() if isinstance(line, Line) else nullcontext()
