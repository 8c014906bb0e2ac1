# SPDX-License-Identifier: Apache-2.0
"""The doors: bounds before cryptography, and whom the listener takes."""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from agent.errors import ConfigInvalid
from agent.lookup import intake
from agent.lookup.intake import PEERS, Bounds, Crowded, Turnstile
from agent.wire.lookup import REQUEST_CAP
from agent.wire.problem import Problem
from tests.support.tls import Authority, Pair

AUD = "yunxi.exchange"
ADDRESS = "127.0.0.1"

# --- the turnstile ------------------------------------------------------------------


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_no_more_than_so_many_at_a_time() -> None:
    """The next is told that everybody is in; leaving makes room."""
    turnstile = Turnstile(Bounds(in_flight=2), clock=Clock())
    with ExitStack() as inside:
        inside.enter_context(turnstile.entered("a"))
        inside.enter_context(turnstile.entered("b"))
        with pytest.raises(Crowded) as caught, turnstile.entered("c"):
            pass
        assert not caught.value.one_peer
        assert turnstile.inside == 2
    assert turnstile.inside == 0
    with turnstile.entered("c"):
        pass


def test_a_consumer_has_a_share() -> None:
    """Its own bound is told as its own."""
    turnstile = Turnstile(Bounds(in_flight=8, peer_in_flight=1), clock=Clock())
    with turnstile.entered("a"):
        with pytest.raises(Crowded) as caught, turnstile.entered("a"):
            pass
        assert caught.value.one_peer
        with turnstile.entered("b"):
            pass


def test_a_consumer_has_a_pace() -> None:
    """A second's worth at once, then as fast as the clock gives tokens."""
    clock = Clock()
    turnstile = Turnstile(Bounds(peer_per_s=10), clock=clock)

    def enter() -> bool:
        try:
            with turnstile.entered("a"):
                return True
        except Crowded:
            return False

    assert sum(enter() for _ in range(20)) == 10
    clock.at += 0.5
    assert sum(enter() for _ in range(20)) == 5
    clock.at += 3600
    assert sum(enter() for _ in range(20)) == 10


def test_names_that_nobody_has_fill_no_memory() -> None:
    """Who was away longest is forgotten, never one who is inside."""
    turnstile = Turnstile(Bounds(), clock=Clock())
    with turnstile.entered("first"):
        for n in range(PEERS * 2):
            with turnstile.entered(f"n{n}"):
                pass
        assert len(turnstile._peers) == PEERS
        assert "first" in turnstile._peers


# --- the listener -------------------------------------------------------------------


@dataclass(frozen=True)
class Identities:
    """A CA and certificates of it, and one of another CA."""

    ca: Path
    pairs: dict[str, Pair]

    def tls(self) -> ssl.SSLContext:
        """Of the listener."""
        node = self.pairs["node"]
        return intake.tls_context(ca=self.ca, certificate=node.cert, key=node.key)


@dataclass
class Door:
    """An open listener and what it was asked."""

    port: int
    asked: list[str]
    known: Identities
    answer: str | Problem = "a.b.c.d.e"

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
    made = Door(0, [], known)

    async def answer(text: str) -> str | Problem:
        made.asked.append(text)
        return made.answer

    tls = known.tls()
    app = intake.application(answer, aud=AUD)
    async with intake.listening(app, tls, host="127.0.0.1", port=0) as port:
        made.port = port
        yield made


async def test_the_exchange_is_answered(door: Door) -> None:
    """Exactly the text that the flow gives."""
    assert await door.post(b"sealed") == (200, "application/jose", b"a.b.c.d.e")
    assert door.asked == ["sealed"]


@pytest.mark.parametrize("name", ["consumer", "other-exchange", "two-names", "unnamed"])
async def test_nobody_else_is(door: Door, name: str) -> None:
    """Certificates of the same CA for others: forbidden, and nothing is read."""
    status, kind, body = await door.post(b"sealed", name)
    assert (status, kind) == (403, "application/problem+json")
    assert b"forbidden" in body
    assert door.asked == []


@pytest.mark.parametrize("name", [None, "foreign"])
async def test_without_a_certificate_of_the_ca_there_is_no_line(
    door: Door, name: str | None
) -> None:
    """TLS itself refuses."""
    with pytest.raises(aiohttp.ClientError):
        await door.post(b"sealed", name)
    assert door.asked == []


async def test_a_problem_is_a_document(door: Door) -> None:
    """With its status, and when to come again."""
    door.answer = Problem("busy", 429, "too many")
    status, kind, body = await door.post(b"sealed")
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
    assert (await door.post(b"x", **{"Content-Type": "text/plain"}))[0] == 400
    assert (await door.post(b"\xff"))[0] == 400
    assert (await door.post(b"x" * (REQUEST_CAP + 1)))[0] == 413
    assert door.asked == []
    assert (await door.post(b"x" * REQUEST_CAP))[0] == 200


async def test_a_slow_answer_holds_up_nobody(known: Identities) -> None:
    """Requests are answered side by side."""
    gate = asyncio.Event()

    async def answer(text: str) -> str | Problem:
        if text == "slow":
            await gate.wait()
        return text

    tls = known.tls()
    app = intake.application(answer, aud=AUD)
    async with intake.listening(app, tls, host="127.0.0.1", port=0) as port:
        door = Door(port, [], known)
        slow = asyncio.create_task(door.post(b"slow"))
        assert (await door.post(b"fast"))[2] == b"fast"
        gate.set()
        assert (await slow)[2] == b"slow"


async def test_an_address_in_use_is_a_fault_of_the_settings(known: Identities) -> None:
    """It is named."""
    tls = known.tls()

    async def answer(text: str) -> str | Problem:
        return text

    app = intake.application(answer, aud=AUD)
    async with intake.listening(app, tls, host="127.0.0.1", port=0) as port:
        again = intake.application(answer, aud=AUD)
        with pytest.raises(ConfigInvalid, match=str(port)):
            async with intake.listening(again, tls, host="127.0.0.1", port=port):
                pass


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    """ConfigInvalid with the files."""
    with pytest.raises(ConfigInvalid, match=r"none\.pem"):
        intake.tls_context(
            ca=tmp_path / "none.pem", certificate=tmp_path / "c", key=tmp_path / "k"
        )
