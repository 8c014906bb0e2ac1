# SPDX-License-Identifier: Apache-2.0
"""A WebSocket of the exchange as a line of texts (wire.md §4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from agent.errors import ExchangeRefused, ExchangeUnreachable, MalformedMessage
from agent.pipeline.uplink.faults import translated
from agent.wire.channel import FRAME_CAP, SUBPROTOCOL

SILENCE_S = 75.0
"""Longest silence of the exchange, which pings every 30 s, seconds."""
CLOSE_S = 5.0
"""Longest wait for the other side's goodbye, seconds."""


class TextChannel:
    """An open connection; see :func:`channel`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ending: asyncio.Future[bool] | None = None

    async def receive(self) -> str | None:
        """The next text; None when the other side has said goodbye.

        Raises:
            ExchangeUnreachable: the line is cut, or silent for too long.
            MalformedMessage: something that is no text, or too long.
        """
        with translated("channel"):
            message = await self._socket.receive()
        if self._ending is not None:
            raise ExchangeUnreachable("channel: a better address works again")
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                return str(message.data)
            case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING:
                return None
            case aiohttp.WSMsgType.ERROR if isinstance(
                message.data, aiohttp.WebSocketError
            ):
                raise MalformedMessage(f"channel: {message.data.args[1]}")
            case aiohttp.WSMsgType.CLOSED | aiohttp.WSMsgType.ERROR:
                raise ExchangeUnreachable("channel: cut")
            case _:
                raise MalformedMessage("channel: expected texts only")

    def end(self) -> None:
        """Say goodbye; :meth:`receive` then tells that the line is gone."""
        self._ending = asyncio.ensure_future(self._socket.close())

    async def send(self, text: str) -> None:
        """Send a text.

        Raises:
            ExchangeUnreachable: the line is cut.
        """
        with translated("channel"):
            await self._socket.send_str(text)


def no_redirects() -> aiohttp.TraceConfig:
    """For a session: a request that follows redirects ends at the first one."""

    async def refuse(
        _session: aiohttp.ClientSession,
        _context: SimpleNamespace,
        params: aiohttp.TraceRequestRedirectParams,
    ) -> None:
        raise aiohttp.TooManyRedirects(
            params.response.request_info, params.response.history
        )

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(refuse)
    return config


@contextmanager
def handshake() -> Iterator[None]:
    """Tell a refusal of the exchange from a cut line.

    Raises:
        ExchangeRefused: it answered, but not with a WebSocket.
    """
    try:
        yield
    except aiohttp.WSServerHandshakeError as e:
        raise ExchangeRefused(
            f"channel: expected a WebSocket, got {e.status}", problem=f"http-{e.status}"
        ) from None
    except aiohttp.TooManyRedirects:
        raise MalformedMessage("channel: a redirect is never followed") from None


@asynccontextmanager
async def channel(
    session: aiohttp.ClientSession,
    url: URL,
    *,
    connect_timeout_s: float,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> AsyncIterator[TextChannel]:
    """A connection that ends with the block; ``more`` are arguments of the library.

    Raises:
        ExchangeUnreachable: no connection.
        ExchangeUntrusted: TLS failed.
        ExchangeRefused: it has no such line for us.
        MalformedMessage: the exchange speaks another protocol.
    """
    with translated("channel"), handshake():
        async with asyncio.timeout(connect_timeout_s):
            socket = await session.ws_connect(
                url,
                protocols=(SUBPROTOCOL,),
                compress=0,
                max_msg_size=FRAME_CAP,
                timeout=aiohttp.ClientWSTimeout(ws_receive=SILENCE_S, ws_close=CLOSE_S),
                **more,
            )
    try:
        if socket.protocol != SUBPROTOCOL:
            raise MalformedMessage(f"channel: expected the subprotocol {SUBPROTOCOL}")
        yield TextChannel(socket)
    finally:
        await socket.close()
