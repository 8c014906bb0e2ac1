# SPDX-License-Identifier: Apache-2.0
"""A consumer's way to the exchange: enrol, fetch the directory, ask."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import aiohttp

from agent.crypto.jose import message_digest
from agent.errors import ExchangeUnreachable, MalformedMessage
from agent.wire import directory, problem
from agent.wire.enrolment import Code
from agent.wire.lookup import MEDIA_TYPE, REPLY_CAP
from agent.wire.problem import Problem
from sandbox.consumer.client import Consumer, Heard, Question
from sandbox.consumer.home import Home, Target

_EST = "/.well-known/est"
_TIMEOUT_S = 60


class Refusal(Exception):
    """The exchange or the provider answered with an unsigned problem."""

    def __init__(self, found: Problem) -> None:
        self.problem = found
        super().__init__(f"{found.status} {found.code}: {found.detail}")


class Pending(Exception):
    """A person at the centre has not approved yet.

    Args:
        pause_s: ask again after so many seconds.
    """

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s
        super().__init__(f"again in {pause_s:g} s")


@dataclass(frozen=True)
class Line:
    """An open connection to an exchange."""

    session: aiohttp.ClientSession
    target: Target

    async def directory(self) -> directory.Directory:
        """Who is who now.

        Raises:
            Refusal: the exchange does not tell us.
            BadSignature: another key signed it.
        """
        body = await self.send("GET", "/v1/directory", cap=directory.CAP)
        return self.target.verified(_text(body))

    async def consumer(self, home: Home) -> Consumer:
        """Who asks, with the directory of now.

        Raises:
            NotEnrolled: nobody.
            Refusal, BadSignature: as :meth:`directory`.
        """
        return Consumer(
            node=home.node(),
            sign=home.key("sign"),
            decrypt=home.key("decrypt"),
            directory=await self.directory(),
        )

    async def ask(self, consumer: Consumer, question: Question) -> Heard:
        """Send a question; its checked answer.

        Raises:
            Refusal: there is no signed answer.
            FepError: the answer is not one to the question.
        """
        return consumer.open(await self.relay(question.jwe), question)

    async def relay(self, sealed: str) -> str:
        """Send a sealed request; the sealed reply, unopened.

        Raises:
            Refusal: there is none.
        """
        return _text(
            await self.send("POST", "/v1/relay", sealed.encode(), cap=REPLY_CAP)
        )

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        cap: int,
        code: Code | None = None,
    ) -> bytes:
        """One request; the bounded body of a good answer.

        Raises:
            Refusal: a problem came.
            Pending: it waits for a person.
            ExchangeUnreachable: nothing came.
        """
        headers = {} if body is None else {"Content-Type": MEDIA_TYPE}
        if code is not None:
            headers["Authorization"] = code.login()
        try:
            async with self.session.request(
                method,
                self.target.url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                data = await _read(response, cap if response.ok else problem.CAP)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            detail = f"{method} {path}: {type(e).__name__}"
            raise ExchangeUnreachable(detail) from e
        if response.status in (200, 201):
            return data
        if response.status == 202:
            raise Pending(_pause_s(response.headers.get("Retry-After", "")))
        raise Refusal(_problem(data, response.status))


@asynccontextmanager
async def connected(home: Home, target: Target) -> AsyncIterator[Line]:
    """A line with the consumer's certificate."""
    async with _session(home.tls()) as session:
        yield Line(session, target)


async def enrol(
    home: Home,
    target: Target,
    node: str,
    *,
    now: datetime,
    code: Code | None = None,
    waits: Callable[[str], None] = lambda _digest: None,
) -> str:
    """Become a node of the exchange; the key statement that people would compare.

    Run again, it goes on where it was interrupted.

    Args:
        home: where keys are kept.
        target: the exchange.
        node: who we are.
        now: aware UTC.
        code: of the slip, for an exchange that lets nobody in without one.
        waits: told the digest of the statement, while a person has not approved.

    Raises:
        ExchangeUntrusted: another authority than we were told.
        Refusal: the exchange refuses.
    """
    statement = home.make_keys(node, now=now)
    digest = message_digest(statement)
    distrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    distrusting.check_hostname = False
    distrusting.verify_mode = ssl.CERT_NONE  # only for cacerts, which is pinned
    async with _session(distrusting) as session:
        body = await Line(session, target).send("GET", f"{_EST}/cacerts", cap=1 << 16)
    home.pin(body, ca_sha256=target.ca_sha256)
    trusting = ssl.create_default_context(cafile=str(home.ca))
    async with _session(trusting) as session:
        line = Line(session, target)
        asking = partial(
            line.send,
            *("POST", f"{_EST}/simpleenroll", home.request(node)),
            cap=1 << 16,
            code=code,
        )
        home.take_certificate(await _approved(asking, partial(waits, digest)))
    async with connected(home, target) as line:
        await line.send("POST", "/v1/keys", statement.encode(), cap=1 << 16)
    return statement


async def _approved(
    ask: Callable[[], Awaitable[bytes]], waits: Callable[[], None]
) -> bytes:
    """Ask until a person has approved; how long that takes is his affair."""
    while True:
        try:
            return await ask()
        except Pending as e:
            waits()
            await asyncio.sleep(e.pause_s)


def _pause_s(told: str) -> float:
    """What ``Retry-After`` says, within bounds."""
    wanted = int(told) if told.isascii() and told.isdigit() and len(told) < 6 else 5
    return float(min(max(wanted, 1), 60))


def _session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(ssl=tls, limit=0)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def _read(response: aiohttp.ClientResponse, cap: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > cap:
            raise MalformedMessage(f"answer: expected at most {cap} bytes")
    return bytes(data)


def _problem(data: bytes, status: int) -> Problem:
    try:
        return problem.parse(data, status=status)
    except MalformedMessage:
        return Problem("http", status, "no problem document")


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as e:
        raise MalformedMessage("answer: expected ASCII") from e
