# SPDX-License-Identifier: Apache-2.0
"""The listener under bytes that no HTTP library would send, with the real flow behind.

Whatever comes, what goes back is in docs/openapi.yaml, and the next is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.readers import read_from_filename

from agent.wire.lookup import REQUEST_CAP
from tests.support.door import AUD, Daemon, door_of, listening, opening_of
from tests.support.lookup import World
from tests.support.tls import Authority, Pair

pytestmark = pytest.mark.contract

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.yaml"
PATIENCE_S = 60.0
HEAD = b"Host: x\r\nContent-Type: application/jose\r\n"
POST = b"POST /v1/lookups HTTP/1.1\r\n" + HEAD
ONE = b"Content-Length: 1\r\n\r\nx"


@dataclass(frozen=True)
class Said:
    """An answer: status, media type, body."""

    status: int
    kind: str
    body: bytes

    @property
    def code(self) -> str:
        """The problem's."""
        return str(json.loads(self.body)["type"]).rpartition(":")[2]


@dataclass
class Door:
    """An open listener."""

    world: World
    port: int
    ca: Path
    exchange: Pair

    @asynccontextmanager
    async def line(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A TLS connection as the exchange."""
        tls = ssl.create_default_context(cafile=self.ca)
        tls.load_cert_chain(self.exchange.cert, self.exchange.key)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def send(self, *parts: bytes) -> Said | None:
        """Send bytes, piece by piece; the answer, or None if the line just ends."""
        async with self.line() as (reader, writer), asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            return await answer(reader)

    async def asks(self) -> bool:
        """Whether a true request is answered."""
        changes = {"jti": self.world.next_id(), "iat": self.world.iat}
        text = self.world.asker.ask(**changes, exp=self.world.iat + 60).encode()
        length = b"Content-Length: %d\r\n\r\n" % len(text)
        said = await self.send(POST + length, text)
        assert said is not None
        assert (said.status, said.kind) == (200, "application/jose"), said
        return self.world.asker.open(said.body.decode()).status == "ok"


async def answer(reader: asyncio.StreamReader) -> Said | None:
    """The next final answer of a line."""
    while True:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        if status >= 200:
            break
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines[1:])
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Said(status, headers.get("content-type", "").split(";")[0], body)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """The listener in its process; a body may take half a second."""
    ca = Authority(tmp_path)
    node = ca.named("node", "fep:node/x/y", address="127.0.0.1")
    exchange = ca.named("exchange", f"fep:exchange/{AUD}")
    world = World(tmp_path)
    async with world.serving() as flow:
        daemon = Daemon(flow.decided, flow.refused)
        opening = opening_of(ca.cert, node, body_s=0.5)
        async with listening(door_of(opening, daemon), daemon) as port:
            yield Door(world, port, ca.cert, exchange)
            assert daemon.faults.empty()


def document() -> Any:
    """docs/openapi.yaml."""
    found, _ = read_from_filename(str(DOCUMENT))
    return found


def documented() -> dict[int, set[str]]:
    """Status -> media types of the one operation."""
    operation = document()["paths"]["/v1/lookups"]["post"]
    return {
        int(status): set(response["content"])
        for status, response in operation["responses"].items()
    }


def test_the_document_is_openapi_3_1() -> None:
    """By another's judgement."""
    found = document()
    assert found["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(found).iter_errors()) == []
    limit = found["components"]["schemas"]["Sealed"]["maxLength"]
    assert limit == REQUEST_CAP


CASES: dict[str, tuple[Sequence[bytes], int, str]] = {
    "http 1.0": ([b"POST /v1/lookups HTTP/1.0\r\n" + HEAD + ONE], 400, "malformed"),
    "no body": ([POST + b"\r\n"], 400, "malformed"),
    "chunked": (
        [POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"],
        400,
        "malformed",
    ),
    "not ascii": ([POST + b"Content-Length: 1\r\n\r\n\xff"], 400, "malformed"),
    "slow body": ([POST + b"Content-Length: 100\r\n\r\nx"], 400, "malformed"),
    "gzip": (
        [POST + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"],
        400,
        "malformed",
    ),
    "brotli": (
        [POST + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"],
        400,
        "malformed",
    ),
    "expects tea": ([POST + b"Expect: tea\r\n" + ONE], 417, "malformed"),
    "expects 100": (
        [POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\n", b"x"],
        400,
        "malformed",
    ),
    "upgrade": (
        [POST + b"Upgrade: websocket\r\nConnection: upgrade\r\n" + ONE],
        400,
        "malformed",
    ),
    "no media type": (
        [b"POST /v1/lookups HTTP/1.1\r\nHost: x\r\n" + ONE],
        400,
        "malformed",
    ),
    "odd media type": (
        [b"POST /v1/lookups HTTP/1.1\r\nHost: x\r\nContent-Type: ///;;==\r\n" + ONE],
        400,
        "malformed",
    ),
    "query": (
        [b"POST /v1/lookups?a=%ff HTTP/1.1\r\n" + HEAD + ONE],
        400,
        "malformed",
    ),
    "absolute": (
        [b"POST http://evil/v1/lookups HTTP/1.1\r\n" + HEAD + ONE],
        400,
        "malformed",
    ),
    "trace": (
        [b"TRACE /v1/lookups HTTP/1.1\r\nHost: x\r\n\r\n"],
        405,
        "malformed",
    ),
    "delete": (
        [b"DELETE /v1/lookups HTTP/1.1\r\nHost: x\r\n\r\n"],
        405,
        "malformed",
    ),
    "said to be long": (
        [POST + b"Content-Length: 99999999999\r\n\r\n", *[b"x" * 65_536] * 17],
        413,
        "too-large",
    ),
    "long chunks": (
        [
            POST + b"Transfer-Encoding: chunked\r\n\r\n",
            *[b"20000\r\n" + b"x" * 0x20000 + b"\r\n"] * 9,
            b"0\r\n\r\n",
        ],
        413,
        "too-large",
    ),
}
"""Name -> bytes, status and problem."""


@pytest.mark.parametrize("name", CASES)
async def test_odd_requests_get_documented_answers(door: Door, name: str) -> None:
    """Status and problem are those of the document; the next one is answered."""
    parts, status, code = CASES[name]
    said = await door.send(*parts)
    assert said is not None
    assert (said.status, said.code) == (status, code), said
    assert said.kind in documented()[status]
    assert await door.asks()


NO_HTTP = {
    "zeros": b"\x00\x01\x02\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00" + b"x" * 100 + b"\r\n\r\n",
    "h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no method": b"FOO /v1/lookups HTTP/1.1\r\nHost: x\r\n\r\n",
    "version": b"POST /v1/lookups HTTP/9.9\r\n" + HEAD + ONE,
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "both lengths": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" + ONE,
    "negative": POST + b"Content-Length: -1\r\n\r\nx",
    "long header": POST + b"X: " + b"a" * 20_000 + b"\r\n" + ONE,
    "many headers": POST + b"".join(b"X%d: 1\r\n" % n for n in range(5_000)) + ONE,
    "long path": b"POST /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + ONE,
    "zero in path": b"POST /v1/look\x00ups HTTP/1.1\r\n" + HEAD + ONE,
    "two types": POST + b"Content-Type: text/plain\r\n" + ONE,
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_ends_the_line(door: Door, name: str) -> None:
    """A bare 400 at most, never a reply or a 5xx; the next one is answered."""
    async with door.line() as (reader, writer), asyncio.timeout(PATIENCE_S):
        writer.write(NO_HTTP[name])
        said = await answer(reader)
        assert said is None or said.status == 400, said
        assert await reader.read() == b""
    assert await door.asks()


async def test_a_smuggled_second_request_is_not_heard_twice(door: Door) -> None:
    """Three requests in one go get three answers, in order."""
    async with door.line() as (reader, writer), asyncio.timeout(PATIENCE_S):
        writer.write((POST + ONE) * 3)
        said = [await answer(reader) for _ in range(3)]
    assert [s and s.code for s in said] == ["malformed"] * 3
    async with asyncio.timeout(PATIENCE_S):
        while door.world.flow.counts().refused < 3:  # noqa: ASYNC110 - of a process
            await asyncio.sleep(0.01)
    assert door.world.flow.counts().refused == 3


async def test_lines_that_are_cut_harm_nobody(door: Door) -> None:
    """In the head, in the body, after the body."""
    sent = POST + b"Content-Length: 2000\r\n\r\n" + b"x" * 2000
    for size in (1, 40, len(POST), len(POST) + 50, len(sent)):
        async with door.line() as (_, writer):
            writer.write(sent[:size])
            await writer.drain()
    assert await door.asks()


async def test_random_bytes_get_documented_answers(door: Door) -> None:
    """True requests with bytes turned, cut out and put in, wherever it hits."""
    dice = random.Random(20261121)
    text = door.world.asker.ask(jti=door.world.next_id()).encode()
    whole = POST + b"Content-Length: %d\r\n\r\n" % len(text) + text
    known = documented()
    seen = set()
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(broken))
            if dice.random() < 0.5:  # heads are short: hit them as often as bodies
                at = dice.randrange(len(POST) + 20)
            match dice.randrange(3):
                case 0:
                    broken[at] ^= 1 << dice.randrange(8)
                case 1:
                    del broken[at : at + dice.randint(1, 9)]
                case _:
                    broken[at:at] = dice.randbytes(dice.randint(1, 9))
        # what waits for more gets an end of the head and of the body
        said = await door.send(bytes(broken) + b"\r\n\r\n")
        if said is None:
            continue
        seen.add(said.status)
        bare = said.kind == "text/plain" and said.status in {400, 417}
        other = said.status == 404 and said.code == "not-found"
        assert bare or other or said.kind in known[said.status], said
    assert {400, 422} <= seen
    assert await door.asks()
