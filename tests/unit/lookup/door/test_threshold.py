# SPDX-License-Identifier: Apache-2.0
"""The threshold: whom the listener takes, and what it tells everybody else."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey
from agent.crypto.jwe import Sealed
from agent.errors import ConfigInvalid
from agent.lookup.door.threshold import Hooks, Threshold, listening, tls_context
from agent.wire.lookup import REQUEST_CAP, REQUEST_TYP
from agent.wire.problem import Problem
from tests.support.door import AUD, opening_of
from tests.support.tls import Authority, Pair

ADDRESS = "127.0.0.1"
SEALED = jwe.seal(
    "a.b.c",
    to=PrivateKey.generate("decrypt").public,
    cty=REQUEST_TYP,
    iss="11990100MB0000027F/ybj-fep1",
    aud="11990100MB0000018H/rsj-fep1",
).encode()
"""Of right form; what is in it does not matter here."""


@dataclass(frozen=True)
class Identities:
    """A CA and certificates of it, and one of another CA."""

    ca: Path
    pairs: dict[str, Pair]


@dataclass
class Door:
    """An open listener and what it was asked."""

    known: Identities
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answer: str | Problem = "a.b.c.d.e"
    ask: Callable[[bytes], Awaitable[str | Problem]] | None = None

    @asynccontextmanager
    async def open(self, *, most: int = 256) -> AsyncIterator[Door]:
        """Listen until the block ends."""
        hooks = Hooks(ask=self.ask or self._ask, refused=self.refused.append)
        threshold = Threshold(hooks, aud=AUD, most=most, body_s=30.0)
        opening = opening_of(self.known.ca, self.known.pairs["node"])
        async with listening(threshold, opening) as self.port:
            yield self

    async def _ask(self, sealed: Sealed) -> str | Problem:
        self.asked.append(sealed.text.encode())
        return self.answer

    @asynccontextmanager
    async def client(self, name: str | None) -> AsyncIterator[aiohttp.ClientSession]:
        """Somebody with this certificate, or with none."""
        tls = ssl.create_default_context(cafile=self.known.ca)
        tls.check_hostname = False
        if name is not None:
            pair = self.known.pairs[name]
            tls.load_cert_chain(pair.cert, pair.key)
        line = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=line) as session:
            yield session

    async def post(
        self, body: bytes, name: str | None = "exchange", **more: str
    ) -> tuple[int, str, bytes]:
        """Status, media type and body of an answer."""
        headers = {"Content-Type": "application/jose", **more}
        async with (
            self.client(name) as session,
            session.post(self.url, data=io.BytesIO(body), headers=headers) as found,
        ):
            return found.status, found.content_type, await found.read()

    @property
    def url(self) -> str:
        """The one route."""
        return f"https://127.0.0.1:{self.port}/v1/lookups"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """A CA and certificates of it and of another one."""
    folder = tmp_path_factory.mktemp("pki")
    ca, foreign = Authority(folder), Authority(folder, "ca2")
    mine = f"fep:exchange/{AUD}"
    pairs = {
        "node": ca.named("node", "fep:node/x/y", address=ADDRESS),
        "exchange": ca.named("exchange", mine),
        "consumer": ca.named("consumer", "fep:node/11990100MB0000027F/ybj-fep1"),
        "other-exchange": ca.named("other", "fep:exchange/other.exchange"),
        "two-names": ca.named("two", mine, "fep:node/11990100MB0000027F/ybj"),
        "unnamed": ca.named("unnamed", "https://yunxi.exchange"),
        "foreign": foreign.named("foreign", mine),
    }
    return Identities(ca.cert, pairs)


@pytest.fixture
async def door(known: Identities) -> AsyncIterator[Door]:
    """A listener that answers always the same."""
    async with Door(known).open() as door:
        yield door


async def test_the_exchange_is_answered(door: Door) -> None:
    """Exactly the text that the flow gives."""
    assert await door.post(SEALED) == (200, "application/jose", b"a.b.c.d.e")
    assert door.asked == [SEALED]
    assert door.refused == []


@pytest.mark.parametrize("name", ["consumer", "other-exchange", "two-names", "unnamed"])
async def test_nobody_else_is(door: Door, name: str) -> None:
    """Certificates of the same CA for others: forbidden, and nothing is read."""
    status, kind, body = await door.post(SEALED, name)
    assert (status, kind) == (403, "application/problem+json")
    assert b"forbidden" in body
    assert (door.asked, door.refused) == ([], ["forbidden"])


@pytest.mark.parametrize("name", [None, "foreign"])
async def test_without_a_certificate_of_the_ca_there_is_no_line(
    door: Door, name: str | None
) -> None:
    """TLS itself refuses."""
    with pytest.raises(aiohttp.ClientError):
        await door.post(SEALED, name)
    assert door.asked == []


async def test_a_problem_is_a_document(door: Door) -> None:
    """With its status, and when to come again."""
    door.answer = Problem("busy", 429, "too many")
    status, kind, body = await door.post(SEALED)
    assert (status, kind) == (429, "application/problem+json")
    assert b"urn:fep:problem:busy" in body


async def test_what_is_no_lookup_is_a_problem_too(door: Door) -> None:
    """Another path, method, media type; too long; not ASCII."""
    async with door.client("exchange") as session:
        async with session.get(door.url) as found:
            assert (found.status, found.content_type) == (
                405,
                "application/problem+json",
            )
        async with session.post(door.url + "x", data=b"") as found:
            assert found.status == 404
    assert (await door.post(SEALED, **{"Content-Type": "text/plain"}))[0] == 400
    assert (await door.post(SEALED, **{"Content-Encoding": "gzip"}))[0] == 400
    assert (await door.post(b"\xff"))[0] == 400
    assert (await door.post(b"x" * (REQUEST_CAP + 1)))[0] == 413
    assert (await door.post(b"x" * REQUEST_CAP))[0] == 400
    assert door.asked == []
    assert door.refused == [
        *("malformed", "not-found", "malformed", "malformed", "malformed"),
        *("too-large", "malformed"),
    ]


async def test_a_slow_answer_holds_up_nobody(known: Identities) -> None:
    """Requests are answered side by side."""
    gate, inside = asyncio.Event(), asyncio.Event()

    async def ask(_: bytes) -> str | Problem:
        if inside.is_set():
            return "fast"
        inside.set()
        await gate.wait()
        return "slow"

    async with Door(known, ask=ask).open() as door:
        slow = asyncio.create_task(door.post(SEALED))
        await inside.wait()
        assert (await door.post(SEALED))[2] == b"fast"
        gate.set()
        assert (await slow)[2] == b"slow"


async def test_no_more_than_so_many_are_inside(known: Identities) -> None:
    """The next is told to come again, and counted."""
    gate, inside = asyncio.Event(), asyncio.Event()

    async def ask(_: bytes) -> str | Problem:
        inside.set()
        await gate.wait()
        return "late"

    async with Door(known, ask=ask).open(most=1) as door:
        slow = asyncio.create_task(door.post(SEALED))
        await inside.wait()
        assert (await door.post(SEALED))[0] == 503
        assert door.refused == ["busy"]
        gate.set()
        assert (await slow)[0] == 200


async def test_an_address_in_use_is_a_fault_of_the_settings(door: Door) -> None:
    """It is named."""
    opening = opening_of(door.known.ca, door.known.pairs["node"], port=door.port)
    with pytest.raises(ConfigInvalid, match=str(door.port)):
        async with Door(door.known).open(), listening(_never, opening):
            pass


async def _never(_: object) -> aiohttp.web.StreamResponse:
    raise AssertionError


async def test_a_certificate_that_is_not_there_is_named(known: Identities) -> None:
    """ConfigInvalid with the files."""
    opening = replace(opening_of(known.ca, known.pairs["node"]), ca="/none/none.pem")
    with pytest.raises(ConfigInvalid, match=r"none\.pem"):
        async with listening(_never, opening):
            pass


@pytest.mark.parametrize("said", ["", "another"])
def test_a_sealed_key_opens_with_its_passphrase_alone(
    known: Identities, tmp_path: Path, said: str
) -> None:
    """It came with the opening; nobody is ever asked at a terminal."""
    node = known.pairs["node"]
    key = load_pem_private_key(node.key.read_bytes(), None)
    seal = BestAvailableEncryption("caf\xe9".encode("latin-1"))
    sealed = tmp_path / "sealed.key"
    sealed.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, seal))
    opening = replace(opening_of(known.ca, node), key=str(sealed))
    tls_context(replace(opening, unsealing="caf\xe9"))
    with pytest.raises(ConfigInvalid, match=r"sealed\.key"):
        tls_context(replace(opening, unsealing=said))
