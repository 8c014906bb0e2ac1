# SPDX-License-Identifier: Apache-2.0
"""One HTTPS request to the exchange: which address, through which proxy, and its end.

Rules

1. The only trusted CA is the one of the pinned file; the machine's store is not used.
   No redirect is followed, no proxy is taken from the environment.
2. Every reply is read up to a cap and every request has an end.
3. What comes back is text that nobody has verified yet. A page for people never is an
   answer of the exchange, whatever its status says.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
)
from agent.pipeline.uplink.channel import TextChannel, channel, no_redirects
from agent.pipeline.uplink.endpoint import Endpoint, tls_context
from agent.pipeline.uplink.faults import translated
from agent.pipeline.uplink.reply import Reply, bounded, is_page, refusal
from agent.pipeline.uplink.ways import Shift, Ways

CONNECTIONS = 32
"""Most connections at a time."""
UNSENT = 128 * 1024
"""Bytes that the kernel takes of a connection before the line does: what it holds
cannot give way to a lookup any more."""
SMALL_CAP = 16 * 1024
"""Most bytes of an answer from which nothing but a problem is expected."""


@dataclass(frozen=True)
class Request:
    """What is sent.

    Args:
        method: of HTTP.
        url: whole.
        headers: besides those of the library.
        body: bytes, or an iterator over them.
        cap: most bytes of the answer.
        patience_s: for the sending of the body, seconds.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | AsyncIterator[bytes] | None = None
    cap: int = SMALL_CAP
    patience_s: float = 0.0


class Calls:
    """Requests over one pool of connections. Call :meth:`open` first.

    Args:
        endpoint: who we are and how long we wait.
        ways: the addresses.
        now: aware UTC, to compare with the server's Date.
        clock: monotonic seconds.

    Attributes:
        clock_offset_s: how far the server's clock is ahead, or None before an answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ways: Ways,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._ways = ways
        self._now = now
        self._clock = clock
        self._tls = tls_context(endpoint)
        self._session: aiohttp.ClientSession | None = None
        self.clock_offset_s: float | None = None

    async def open(self) -> None:
        """Nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, socket_factory=_socket),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "fep"},
            trace_configs=[no_redirects()],  # a WebSocket has no other switch
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def use(self, endpoint: Endpoint) -> None:
        """Wait as long as this one says from the next request on.

        Raises:
            ConfigInvalid: an address is not https; then nothing has changed.
        """
        self._tls, self._endpoint = tls_context(endpoint), endpoint

    def renewed(self) -> None:
        """Show the certificate that the files have now at the next connections.

        Those that are open stay: nothing that is under way is cut.

        Raises:
            ConfigInvalid: the files cannot be used; then nothing has changed.
        """
        self._tls = tls_context(self._endpoint)

    @property
    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the exchange client is not open")
        return self._session

    async def send(self, way: int, request: Request) -> Reply:
        """The answer to a request at an address.

        Raises:
            ExchangeUnreachable: no answer.
            ExchangeUntrusted: TLS failed.
            MalformedMessage: an answer that is none of the exchange, or too long.
            SecretUnreadable: the password of the proxy.
        """
        began, opened = self._clock(), self._opened
        proxy = self._proxy()
        try:
            reply = await self._exchanged(opened, request, proxy)
            _judge(request, reply)
        except (ExchangeUnreachable, ExchangeUntrusted, MalformedMessage) as e:
            self._ways.failed(way, began=began, why=e)
            raise
        if _of_a_proxy(reply):
            self._ways.failed(way, began=began, why=refusal(reply))
        else:
            self._ways.succeeded(way)
        return reply

    async def _exchanged(
        self, session: aiohttp.ClientSession, request: Request, proxy: dict[str, Any]
    ) -> Reply:
        endpoint = self._endpoint
        timeout = aiohttp.ClientTimeout(
            total=endpoint.connect_timeout_s
            + endpoint.read_timeout_s
            + request.patience_s,
            connect=endpoint.connect_timeout_s,
            sock_connect=endpoint.connect_timeout_s,
            sock_read=endpoint.read_timeout_s,
        )
        with translated(_named(request)):
            async with session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body,
                timeout=timeout,
                allow_redirects=False,
                ssl=self._tls,
                **proxy,
            ) as response:
                self._note_date(response.headers)
                body = await bounded(response, request.cap)
                return Reply(response.status, response.headers, body)

    def channel(self, path: str) -> AbstractAsyncContextManager[TextChannel]:
        """The line over which lookups come; open until the context ends.

        Raises:
            ExchangeUnreachable: every address is given up for now.
            SecretUnreadable: the password of the proxy.
        """
        opened, proxy = self._opened, self._proxy()
        way = self._ways.choose()
        return _Watched(
            self._ways,
            way,
            channel(
                opened,
                self._ways.url(way) / path.lstrip("/"),
                connect_timeout_s=self._endpoint.connect_timeout_s,
                more={"ssl": self._tls, **proxy},
            ),
            self._clock,
        )

    def _proxy(self) -> dict[str, Any]:
        """Arguments of the library for the proxy of now."""
        proxy = self._endpoint.proxy()
        if proxy is None:
            return {}
        return {"proxy": proxy.url, "proxy_headers": proxy.headers()}

    def _note_date(self, headers: Mapping[str, str]) -> None:
        """Remember how far the server's clock is ahead of ours, whole seconds."""
        try:
            date = parsedate_to_datetime(headers.get("Date", ""))
        except (ValueError, OverflowError):  # huge numbers in it overflow
            return
        if date.tzinfo is not None:
            self.clock_offset_s = (date - self._now()).total_seconds()


class _Watched(AbstractAsyncContextManager[TextChannel]):
    """A channel whose opening counts for its address."""

    def __init__(
        self,
        ways: Ways,
        way: int,
        inner: AbstractAsyncContextManager[TextChannel],
        clock: Callable[[], float],
    ) -> None:
        self._ways = ways
        self._way = way
        self._inner = inner
        self._clock = clock
        self._opened: TextChannel | None = None

    async def __aenter__(self) -> TextChannel:
        began = self._clock()
        try:
            opened = await self._inner.__aenter__()
        except ExchangeRefused as e:
            if e.problem.startswith("http-5"):
                self._ways.failed(self._way, began=began, why=e)
            raise
        except (ExchangeUnreachable, ExchangeUntrusted, MalformedMessage) as e:
            self._ways.failed(self._way, began=began, why=e)
            raise
        self._ways.succeeded(self._way)
        self._opened = opened
        self._ways.listen(self._shifted)
        return opened

    async def __aexit__(self, *error: Any) -> bool | None:
        self._ways.unlisten(self._shifted)
        return await self._inner.__aexit__(*error)

    def _shifted(self, _: Shift) -> None:
        """A better address works again: this line ends, the next one goes there."""
        if self._ways.behind(self._way) and self._opened is not None:
            self._opened.end()
            self._opened = None


def _socket(info: Any) -> socket.socket:
    """A socket that does not hoard what the line has not taken yet."""
    family, kind, protocol, _, _ = info
    made = socket.socket(family=family, type=kind, proto=protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return made


def _named(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def _judge(request: Request, reply: Reply) -> None:
    """Refuse what the exchange never answers.

    Raises:
        MalformedMessage: a redirect, or a page for people.
    """
    if 300 <= reply.status < 400:
        raise MalformedMessage(
            f"{_named(request)}: answered {reply.status}; a redirect is never"
            " followed (a login page of a proxy?)"
        )
    if reply.status < 300 and is_page(reply):
        raise MalformedMessage(
            f"{_named(request)}: answered {reply.status} with a page for people (a"
            " login page of a proxy?)"
        )


def _of_a_proxy(reply: Reply) -> bool:
    """Whether somebody on the way has answered: the exchange says it in a problem."""
    if reply.headers.get("Content-Type", "").startswith("application/problem+json"):
        return False
    return is_page(reply) or reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
