# SPDX-License-Identifier: Apache-2.0
"""TLS and HTTP of the listener for the exchange (wire.md §4); runs in the door.

Rules

1. It takes TLS clients whose certificate the pinned CA has issued and whose one
   ``fep:`` name is that of the exchange; everybody else is told ``forbidden``.
2. Every answer is ``application/jose`` or a problem document; only what is no HTTP gets
   the library's bare 400 and an end of the line.
3. A body is taken as it is: no encoding is undone, and it does not take for ever.
4. What is refused here is counted by the code of its problem.
5. What goes on to the daemon has the strict outer form of a sealed message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import HttpVersion11, web

from agent.crypto import jwe
from agent.errors import ConfigInvalid, MalformedMessage
from agent.lookup.door.lines import Lines, at_work
from agent.lookup.door.talk import Opening
from agent.wire.lookup import REQUEST_CAP
from agent.wire.problem import MEDIA_TYPE, Problem

EXCHANGE_URI = "fep:exchange/"
JOSE = "application/jose"
PATH = "/v1/lookups"
HEADERS_CAP = 8190
"""Most bytes of a header line; aiohttp's own default, named."""
RETRY_S = 1
"""Seconds after which a consumer that was too fast may come again."""
LEAVE_S = 5.0
"""How long answers may take once nothing new is taken, seconds."""

_JOSE = {"Content-Type": JOSE}


@dataclass(frozen=True)
class Hooks:
    """What the listener calls.

    Args:
        ask: the sealed reply to a sealed request, or why there is none.
        refused: something was refused here, with this code.
    """

    ask: Callable[[jwe.Sealed], Awaitable[str | Problem]]
    refused: Callable[[str], None]


class Refused(Exception):
    """A request that goes no further."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        self.problem = problem
        self.headers = headers
        super().__init__(problem.code)


class Threshold:
    """Answers HTTP requests of a low-level server.

    Args:
        hooks: see there.
        aud: the exchange that alone may ask.
        most: requests inside at a time.
        body_s: how long a body may take to come, seconds.
    """

    def __init__(self, hooks: Hooks, *, aud: str, most: int, body_s: float) -> None:
        self._hooks = hooks
        self._name = [EXCHANGE_URI + aud]
        self._most = most
        self._body_s = body_s
        self._inside = 0

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request."""
        self._inside += 1
        try:
            with at_work(request.transport):
                sealed = await self._sealed(request)
                found = await self._hooks.ask(sealed)
        except Refused as e:
            self._hooks.refused(e.problem.code)
            return _problem(e.problem, e.headers)
        finally:
            self._inside -= 1
        if isinstance(found, Problem):
            return _problem(found)
        return web.Response(body=found.encode("ascii"), headers=_JOSE)

    async def _sealed(self, request: web.BaseRequest) -> jwe.Sealed:
        """What a request brings.

        Raises:
            Refused: it is none, or not for us.
        """
        _routed(request)
        await _expected(request)
        if fep_names(request.transport) != self._name:
            raise Refused(Problem.of("forbidden", "only the exchange may ask here"))
        if self._inside > self._most:
            raise Refused(Problem.of("busy", "too many lookups"))
        try:
            _plain(request)
            text = await self._body(request)
            return jwe.split_sealed(text, cap=REQUEST_CAP, curve=False)
        except MalformedMessage as e:
            raise Refused(Problem.of("malformed", e.detail)) from None

    async def _body(self, request: web.BaseRequest) -> bytes:
        try:
            if request.content.is_eof():  # it is all there, as nearly always
                return await request.read()
            async with asyncio.timeout(self._body_s):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            detail = f"expected at most {REQUEST_CAP} B"
            raise Refused(Problem.of("too-large", detail)) from None
        except (OSError, web.RequestPayloadError):
            raise MalformedMessage("expected the whole body") from None


def _routed(request: web.BaseRequest) -> None:
    if request.path != PATH:
        raise Refused(Problem.of("not-found", f"expected {PATH}"))
    if request.method != "POST":
        raise Refused(Problem("malformed", 405, "expected POST"), {"Allow": "POST"})


def _plain(request: web.BaseRequest) -> None:
    if request.content_type != JOSE:
        raise MalformedMessage(f"expected {JOSE}")
    if "Content-Encoding" in request.headers:
        raise MalformedMessage("expected a body without Content-Encoding")


async def _expected(request: web.BaseRequest) -> None:
    """What a client waits for before it sends a body."""
    expect = request.headers.get("Expect")
    if expect is None or request.version < HttpVersion11:
        return
    if expect.lower() != "100-continue":
        raise Refused(Problem("malformed", 417, "Expect: only 100-continue"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def fep_names(transport: asyncio.BaseTransport | None) -> list[str]:
    """The ``fep:`` names of the certificate at the other end.

    The chain was verified by TLS; here it is only about the name.
    """
    found = transport.get_extra_info("peercert") if transport is not None else None
    return [
        value
        for kind, value in (found or {}).get("subjectAltName", ())
        if kind == "URI" and value.startswith("fep:")
    ]


def _problem(found: Problem, headers: dict[str, str] | None = None) -> web.Response:
    more = dict(headers or {})
    if found.status in {429, 503}:
        more["Retry-After"] = str(RETRY_S)
    return web.Response(
        status=found.status, body=found.body(), content_type=MEDIA_TYPE, headers=more
    )


def tls_context(opening: Opening) -> ssl.SSLContext:
    """TLS 1.2 or later for the listener; a client needs a certificate of the pinned CA.

    Raises:
        ConfigInvalid: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    files = opening.certificate, opening.key, opening.ca
    try:
        context.load_verify_locations(cafile=opening.ca)
        context.load_cert_chain(
            opening.certificate,
            opening.key,
            password=lambda: opening.unsealing.encode("latin-1"),  # else it would ask
        )
    except OSError as e:
        raise ConfigInvalid(f"{', '.join(files)}: {e}") from e
    return context


@asynccontextmanager
async def listening(
    answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    opening: Opening,
) -> AsyncIterator[int]:
    """Serve until the block ends, and what is being answered then; gives the port.

    Raises:
        ConfigInvalid: the address cannot be listened on, or a file cannot be used.
    """
    host, port, tls = opening.host, opening.port, tls_context(opening)
    server = web.Server(
        answer,
        access_log=None,
        max_line_size=HEADERS_CAP,
        max_field_size=HEADERS_CAP,
        auto_decompress=False,
        keepalive_timeout=opening.idle_s,
    )
    name = [EXCHANGE_URI + opening.aud]
    lines = Lines(lambda transport: fep_names(transport) == name, idle_s=opening.idle_s)
    try:
        listener = await lines.listen(server, tls, host=host, port=port)
    except OSError as e:
        raise ConfigInvalid(f"lookup.listen: {host}:{port}: {e.strerror}") from e
    try:
        async with lines.watched():
            yield int(listener.sockets[0].getsockname()[1])
    finally:
        listener.close()
        await asyncio.sleep(0)  # what has just come in is begun
        server.pre_shutdown()
        await server.shutdown(LEAVE_S)
        await asyncio.sleep(0)
