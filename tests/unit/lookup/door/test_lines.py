# SPDX-License-Identifier: Apache-2.0
"""Attacks on the listener below HTTP: connections that stay, and too many of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from agent.lookup.door.lines import STRANGERS, Lines, at_work
from tests.support.tls import Authority, Pair

FRIEND = "fep:exchange/yunxi.exchange"


@dataclass(frozen=True)
class Office:
    """A CA and certificates of it."""

    ca: Path
    pairs: dict[str, Pair]

    def tls(self, name: str) -> ssl.SSLContext:
        """Of somebody who connects."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = False
        context.load_cert_chain(self.pairs[name].cert, self.pairs[name].key)
        return context


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """A listener, the friend, somebody else."""
    ca = Authority(tmp_path_factory.mktemp("pki"))
    return Office(
        ca.cert,
        {
            "node": ca.named("node", "fep:node/x/y", address="127.0.0.1"),
            "friend": ca.named("friend", FRIEND),
            "other": ca.named("other", "fep:node/11990100MB0000027F/ybj-fep1"),
        },
    )


def friend(transport: asyncio.BaseTransport) -> bool:
    """Whether it is."""
    found = transport.get_extra_info("peercert") or {}
    return ("URI", FRIEND) in found.get("subjectAltName", ())


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """As slow as it is asked to be."""
    with at_work(request.transport):
        await asyncio.sleep(float(await request.text() or 0))
        return web.Response(text="answer")


@asynccontextmanager
async def listening(office: Office, **times: float) -> AsyncIterator[int]:
    """A listener; gives the port."""
    pair = office.pairs["node"]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cafile=office.ca)
    tls.load_cert_chain(pair.cert, pair.key)
    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    lines = Lines(friend, **times)
    inner = cast("type[asyncio.Protocol]", runner.server)
    server = await lines.listen(inner, tls, host="127.0.0.1", port=0)
    try:
        async with lines.watched():
            yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await runner.cleanup()


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends it soon."""
    try:
        async with asyncio.timeout(60):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def post(office: Office, port: int, body: str = "") -> str:
    """The friend's request."""
    line = aiohttp.TCPConnector(ssl=office.tls("friend"))
    async with (
        aiohttp.ClientSession(connector=line) as session,
        session.post(f"https://127.0.0.1:{port}/", data=body) as found,
    ):
        return await found.text()


async def test_headers_that_never_end(office: Office) -> None:
    """A line now and then keeps no connection open (slowloris)."""
    async with listening(office, idle_s=0.3) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=office.tls("friend")
        )
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n")

        async def drip() -> None:
            while True:
                writer.write(b"X-Y: z\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await ended(reader)
        dripping.cancel()


async def test_a_connection_that_asks_nothing(office: Office) -> None:
    """It ends; one that waits for its answer does not, however slow that is."""
    async with listening(office, idle_s=0.3) as port:
        reader, _ = await asyncio.open_connection(
            "127.0.0.1", port, ssl=office.tls("friend")
        )
        slow = asyncio.create_task(post(office, port, "1.0"))
        assert await ended(reader)
        assert await slow == "answer"


async def test_a_stranger_does_not_stay(office: Office) -> None:
    """Whatever it sends."""
    async with listening(office, stranger_s=0.3) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=office.tls("other")
        )
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n60")
        assert await ended(reader)


async def test_connections_of_others_cannot_use_up_the_files(office: Office) -> None:
    """Whoever has a certificate of the CA gets a few; the friend has its own."""
    async with listening(office) as port:
        lines = [
            await asyncio.open_connection("127.0.0.1", port, ssl=office.tls("other"))
            for _ in range(STRANGERS + 10)
        ]
        await asyncio.sleep(0.2)
        assert sum(not reader.at_eof() for reader, _ in lines) == STRANGERS
        assert await post(office, port) == "answer"
        for _, writer in lines:
            writer.close()
