# SPDX-License-Identifier: Apache-2.0
"""Several addresses, a proxy with login, and strangers who answer in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    FepError,
    MalformedMessage,
    ProxyRefused,
    SecretUnreadable,
)
from agent.model.batch import BatchId
from agent.model.proxy import Proxy
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.uplink.tus import ONE_POST
from agent.pipeline.uplink.ways import Shift
from agent.wire.channel import SUBPROTOCOL
from tests.support.proxy_double import ProxyDouble
from tests.support.tls import Authority
from tests.support.tus_double import Handler, TusDouble, reply
from tests.unit.pipeline.test_uplink import file, sent, server_context

BATCH = BatchId("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001", 1, 1)
PASSWORD = "kingfisher-4711"


def now() -> datetime:
    return datetime.now(UTC)


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@asynccontextmanager
async def two(
    first: TusDouble, second: TusDouble, clock: Clock
) -> AsyncIterator[tuple[Exchange, list[Shift]]]:
    """A client that knows both."""
    async with first.serving() as a, second.serving() as b:
        endpoint = Endpoint(a, None, more_urls=(b,), unsafe_plain_http=True)
        async with Exchange(endpoint, now=now, clock=clock) as exchange:
            heard: list[Shift] = []
            exchange.ways.listen(heard.append)
            yield exchange, heard


# --- several addresses ----------------------------------------------------------------


async def test_another_address_is_used_while_the_first_is_broken() -> None:
    """A gateway without an exchange behind it; afterwards the first one again."""
    first, second, clock = (
        TusDouble(),
        TusDouble(receipts={"1": "from.the.second"}),
        Clock(),
    )
    for _ in range(2):
        first.answer(
            "GET", "/v1/receipt", reply(502, "<html>", Content_Type="text/html")
        )
    first.receipts["1"] = "from.the.first"
    async with two(first, second, clock) as (exchange, heard):
        for _ in range(2):
            with pytest.raises(ExchangeRefused):
                await exchange.receipt(BATCH)
        assert await exchange.receipt(BATCH) == "from.the.second"
        clock.now += 6
        assert await exchange.receipt(BATCH) == "from.the.first"
    assert [shift.what for shift in heard] == ["failover", "return"]
    assert [shift.url for shift in heard] == [second.url, first.url]


async def test_an_upload_begins_anew_at_another_address(tmp_path: Path) -> None:
    """A Location is never taken to where it does not belong; the receipt is asked."""
    first, second, clock = TusDouble(), TusDouble(), Clock()
    path, size = file(tmp_path, ONE_POST * 2)
    first.answer("PATCH", "/v1/batches/1", reply(502))
    first.answer("GET", "/v1/receipt", reply(502))
    async with two(first, second, clock) as (exchange, heard):
        for _ in range(2):
            with pytest.raises(ExchangeRefused):
                await exchange.upload(path, size, batch=BATCH)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert [method for method, _ in sent(second)][:2] == ["GET", "POST"]
    assert bytes(second.uploads["/v1/batches/1"]) == path.read_bytes()
    assert [shift.what for shift in heard] == ["failover"]


async def test_a_bad_gateway_in_mid_upload_costs_nothing_twice(tmp_path: Path) -> None:
    """The exchange behind it still has what it got."""
    server, clock = TusDouble(), Clock()
    path, size = file(tmp_path, ONE_POST * 3)
    server.answer("PATCH", "/v1/batches/1", _passed(server))
    server.answer("PATCH", "/v1/batches/1", reply(502))
    async with two(server, TusDouble(), clock) as (exchange, _):
        with pytest.raises(ExchangeRefused):
            await exchange.upload(path, size, batch=BATCH)
        before = len(server.requests)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert [method for method, _ in sent(server)[before:]] == ["GET", "HEAD", "PATCH"]


def _passed(server: TusDouble) -> Handler:
    """As if nothing had been planned."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await server.upload(request)

    return handler


async def test_the_lookups_line_goes_where_the_exchange_is_and_back() -> None:
    """Behind a broken gateway it opens elsewhere; it ends when the first is back."""
    first, second, clock = TusDouble(), TusDouble(), Clock()
    for _ in range(2):
        first.answer("GET", "/v1/channel", reply(502))
    second.answer("GET", "/v1/channel", talking)
    async with two(first, second, clock) as (exchange, heard):
        for _ in range(2):
            with pytest.raises(ExchangeRefused):
                async with exchange.channel():
                    raise AssertionError("it must not open")
        async with exchange.channel() as line:
            assert await line.receive() == "hello"
            clock.now += 6
            assert await exchange.receipt(BATCH) is None
            with pytest.raises(ExchangeUnreachable):
                await line.receive()
    assert [shift.what for shift in heard] == ["failover", "return"]


async def talking(request: web.Request) -> web.WebSocketResponse:
    """A line that says a word and listens."""
    line = web.WebSocketResponse(protocols=(SUBPROTOCOL,))
    await line.prepare(request)
    await line.send_str("hello")
    async for _ in line:
        pass
    return line


async def test_a_problem_is_an_answer_and_changes_no_address() -> None:
    """The exchange may say busy as often as it likes."""
    first, clock = TusDouble(), Clock()
    problem = '{"type": "urn:fep:problem:busy"}'
    for _ in range(9):
        first.answer("GET", "/v1/position", _problem(503, problem))
    async with two(first, TusDouble(), clock) as (exchange, heard):
        for _ in range(9):
            with pytest.raises(ExchangeRefused, match="refused"):
                await exchange.position("1/1", "n" * 22)
    assert len(first.requests) == 9
    assert heard == []


def _problem(status: int, text: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        kind = "application/problem+json"
        return web.Response(status=status, text=text, content_type=kind)

    return handler


# --- a proxy --------------------------------------------------------------------------


@asynccontextmanager
async def behind(
    proxy: ProxyDouble, login: Proxy, folder: Path
) -> AsyncIterator[tuple[Exchange, TusDouble]]:
    """A client that reaches a server with TLS through a proxy only."""
    ca = Authority(folder)
    ours, theirs = ca.client(), ca.server()
    server = TusDouble(receipts={"1": "r.e.c"})
    context = server_context(theirs.cert, theirs.key, ca.cert)
    async with server.serving(context) as url, proxy.serving() as way:
        told = replace(login, url=way)
        endpoint = Endpoint(url, ca.cert, ours.cert, ours.key, proxy=lambda: told)
        async with Exchange(endpoint, now=now) as exchange:
            yield exchange, server


async def test_a_proxy_with_a_login_is_passed(tmp_path: Path) -> None:
    """By CONNECT: it sees an address, TLS is between the exchange and us."""
    proxy = ProxyDouble("fep", PASSWORD)
    login = Proxy("", "fep", PASSWORD)
    async with behind(proxy, login, tmp_path) as (exchange, server):
        path, size = file(tmp_path, ONE_POST + 1000)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
        assert await exchange.receipt(BATCH) == "r.e.c"
        server.answer("GET", "/v1/channel", talking)
        async with exchange.channel() as line:
            assert await line.receive() == "hello"
    assert set(proxy.asked) == {server.url.removeprefix("https://")}
    assert set(server.tls) == {"TLSv1.3"}


@pytest.mark.parametrize("password", ["wrong-" + PASSWORD, ""])
async def test_a_proxy_that_refuses_is_told_apart(
    tmp_path: Path, password: str
) -> None:
    """Its status stands in the detail; the password stands nowhere."""
    proxy = ProxyDouble("fep", PASSWORD)
    login = Proxy("", "fep" if password else "", password)
    async with behind(proxy, login, tmp_path) as (exchange, _):
        with pytest.raises(ProxyRefused, match="answered 407") as caught:
            await exchange.receipt(BATCH)
        with pytest.raises(ProxyRefused):
            async with exchange.channel():
                raise AssertionError("it must not open")
    assert PASSWORD not in _everything(caught.value) + repr(login)
    assert proxy.refused == 2


def _everything(error: BaseException | None) -> str:
    """An error and what it came from, as a log with tracebacks would show it."""
    text = ""
    while error is not None:
        text += f"{error!r} {error}"
        error = None if error.__suppress_context__ else error.__context__
    return text


async def test_a_password_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Nothing is tried without it."""
    server = TusDouble()

    def unreadable() -> Proxy:
        raise SecretUnreadable("exchange.proxy.password: expected a readable file")

    async with server.serving() as url:
        endpoint = Endpoint(url, None, proxy=unreadable, unsafe_plain_http=True)
        async with Exchange(endpoint, now=now) as exchange:
            with pytest.raises(SecretUnreadable):
                await exchange.receipt(BATCH)
    assert server.requests == []


async def test_a_proxy_that_is_away_is_named() -> None:
    """Not the exchange."""
    endpoint = Endpoint(
        "http://exchange.example",
        None,
        proxy=lambda: Proxy("http://127.0.0.1:9"),
        unsafe_plain_http=True,
    )
    async with Exchange(endpoint, now=now) as exchange:
        with pytest.raises(ExchangeUnreachable, match="the proxy: "):
            await exchange.receipt(BATCH)


# --- strangers who answer -------------------------------------------------------------


def portal(status: int, **headers: str) -> Handler:
    """A page for people, whatever was asked."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        text = "" if status == 204 else "<html>Please log in</html>"
        kind = "text/html"
        return web.Response(status=status, text=text, content_type=kind, headers=named)

    return handler


async def test_a_login_page_never_counts_as_delivered(tmp_path: Path) -> None:
    """200, 201 or 204 with a page, at every step of an upload; then it goes on."""
    server, (path, size) = TusDouble(), file(tmp_path, ONE_POST + 1000)
    strangers = [
        ("POST", "/v1/batches", portal(200)),
        ("POST", "/v1/batches", portal(201, Location="/v1/batches/1")),
        ("PATCH", "/v1/batches/1", portal(200, Upload_Offset=str(size))),
        ("PATCH", "/v1/batches/1", portal(204, Upload_Offset=str(ONE_POST))),
        ("HEAD", "/v1/batches/1", portal(200, Upload_Offset=str(size))),
    ]
    for method, path_, handler in strangers:
        server.answer(method, path_, handler)
    async with server.serving() as url:
        endpoint = Endpoint(url, None, unsafe_plain_http=True, retry_base_s=0.001)
        async with Exchange(endpoint, now=now) as exchange:
            failures: list[FepError] = []
            receipt = None
            while receipt is None and len(failures) < 20:
                try:
                    receipt = await exchange.upload(path, size, batch=BATCH)
                except (MalformedMessage, ExchangeUnreachable) as e:
                    failures.append(e)
                    await asyncio.sleep(0.002)
    assert receipt == "a.b.c"
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()
    assert any("page for people" in e.detail for e in failures)
    assert ("PATCH", 1000) in sent(server)


async def test_a_login_page_makes_no_statement_known() -> None:
    """A catalog that a portal has swallowed is not marked as sent."""
    server = TusDouble()
    server.answer("PUT", "/v1/catalog", portal(200))
    async with server.serving() as url:
        endpoint = Endpoint(url, None, unsafe_plain_http=True)
        async with Exchange(endpoint, now=now) as exchange:
            with pytest.raises(MalformedMessage, match="page for people"):
                await exchange.put_catalog("a.b.c")
