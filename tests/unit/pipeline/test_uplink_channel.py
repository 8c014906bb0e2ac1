# SPDX-License-Identifier: Apache-2.0
"""The WebSocket of the exchange as a line of texts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    MalformedMessage,
)
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.wire.channel import FRAME_CAP, SUBPROTOCOL
from tests.support.push import Clock

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def line(
    talk: Talk, *, protocols: tuple[str, ...] = (SUBPROTOCOL,)
) -> AsyncIterator[Exchange]:
    """A client of a server that talks so."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0)
        await socket.prepare(request)
        await talk(socket)
        return socket

    async with serving(handle) as exchange:
        yield exchange


@asynccontextmanager
async def serving(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
    *,
    connect_timeout_s: float = 2.0,
) -> AsyncIterator[Exchange]:
    """A client of a server with this one route."""
    app = web.Application()
    app.router.add_get("/v1/channel", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        endpoint = Endpoint(
            f"http://127.0.0.1:{port}",
            None,
            connect_timeout_s=connect_timeout_s,
            unsafe_plain_http=True,
        )
        async with Exchange(endpoint, now=Clock().now) as exchange:
            yield exchange
    finally:
        await runner.cleanup()


async def test_texts_go_both_ways() -> None:
    """Whole, in their order; the other side's goodbye is an end."""

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str("一")
        assert await socket.receive_str() == "二"
        await socket.close()

    async with line(talk) as exchange, exchange.channel() as channel:
        assert await channel.receive() == "一"
        await channel.send("二")
        assert await channel.receive() is None


async def test_a_long_text_is_whole() -> None:
    """Up to the cap of a frame."""
    text = "x" * (FRAME_CAP - 10)

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.send_str(await socket.receive_str())

    async with line(talk) as exchange, exchange.channel() as channel:
        await channel.send(text)
        assert await channel.receive() == text


@pytest.mark.parametrize("kind", ["long", "binary"])
async def test_what_is_no_text_of_ours_ends_the_line(kind: str) -> None:
    """Too long, or bytes."""

    async def talk(socket: web.WebSocketResponse) -> None:
        if kind == "long":
            with contextlib.suppress(ConnectionError):  # the client has had enough
                await socket.send_str("x" * (FRAME_CAP + 1))
        else:
            await socket.send_bytes(b"x")
        await socket.receive()

    async with line(talk) as exchange, exchange.channel() as channel:
        with pytest.raises(MalformedMessage):
            await channel.receive()


async def test_a_cut_line_is_unreachable() -> None:
    """In the middle of everything, without a goodbye."""

    async def talk(socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()

    async with line(talk) as exchange, exchange.channel() as channel:
        with pytest.raises(ExchangeUnreachable):
            await channel.receive()


async def test_another_protocol_is_refused() -> None:
    """A server that does not speak ours."""

    async def talk(socket: web.WebSocketResponse) -> None:
        await socket.receive()

    async with line(talk, protocols=()) as exchange:
        with pytest.raises(MalformedMessage, match="subprotocol"):
            async with exchange.channel():
                pass


@pytest.mark.parametrize("status", [200, 401, 403, 404, 503])
async def test_a_server_without_a_channel_refuses(status: int) -> None:
    """The status is told."""

    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with serving(handle) as exchange:
        with pytest.raises(ExchangeRefused, match=str(status)):
            async with exchange.channel():
                pass


async def test_a_redirect_is_not_followed() -> None:
    """Wherever it leads."""

    async def handle(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("https://elsewhere.example/v1/channel")

    async with serving(handle) as exchange:
        with pytest.raises(MalformedMessage, match="redirect"):
            async with exchange.channel():
                pass


async def test_a_silent_server_is_given_up() -> None:
    """It takes the connection and says nothing."""

    async def handle(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(handle, connect_timeout_s=0.1) as exchange:
        with pytest.raises(ExchangeUnreachable):
            async with exchange.channel():
                pass
