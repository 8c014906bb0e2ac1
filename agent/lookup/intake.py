# SPDX-License-Identifier: Apache-2.0
"""The doors: how many may come in, and the listener for the exchange (wire.md §4).

Rules

1. What is counted and bounded is counted before any cryptography: the size, how many
   are inside, how many of one consumer, and how fast they come.
2. The consumer's name is only claimed then. On both ways it comes from the exchange,
   which has compared it with the consumer's certificate, so nobody can use up the share
   of another.
3. The listener takes TLS clients whose certificate the pinned CA has issued and whose
   one ``fep:`` name is that of the exchange; everybody else is told ``forbidden``.
4. Every answer of the listener is ``application/jose`` or a problem document; only
   what is no HTTP gets the library's bare 400 and an end of the line.
5. A body is taken as it is: no encoding is undone, and it does not take for ever.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import HttpVersion11, web

from agent.errors import ConfigInvalid, MalformedMessage
from agent.wire.lookup import REQUEST_CAP
from agent.wire.problem import MEDIA_TYPE, Problem

PEERS = 4096
"""Consumers that are remembered; wire.md names a few hundred departments."""
EXCHANGE_URI = "fep:exchange/"
JOSE = "application/jose"
HEADERS_CAP = 8190
"""Most bytes of a header line; aiohttp's own default, named."""
BODY_S = 30.0
"""How long a body may take to come, seconds."""
RETRY_S = 1
"""Seconds after which a consumer that was too fast may come again."""


@dataclass(frozen=True)
class Bounds:
    """How much may be inside.

    Args:
        in_flight: lookups at a time.
        peer_in_flight: of one consumer.
        peer_per_s: of one consumer, per second; a second's worth may come at once.
    """

    in_flight: int = 64
    peer_in_flight: int = 16
    peer_per_s: int = 200


class Crowded(Exception):
    """No room; ``one_peer``: it is only this consumer that is too many or too fast."""

    def __init__(self, *, one_peer: bool) -> None:
        self.one_peer = one_peer
        super().__init__("no room")


@dataclass
class _Peer:
    """What is known of a consumer: how many are inside, and its token bucket."""

    inside: int
    tokens: float
    at: float


class Turnstile:
    """Lets lookups in, one by one, within bounds.

    Args:
        bounds: see there.
        clock: monotonic seconds.
    """

    def __init__(self, bounds: Bounds, *, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self.inside = 0

    @contextmanager
    def entered(self, peer: str) -> Iterator[None]:
        """Be inside until the block ends.

        Raises:
            Crowded: there is no room.
        """
        if self.inside >= self._bounds.in_flight:
            raise Crowded(one_peer=False)
        found = self._peer(peer)
        if found.inside >= self._bounds.peer_in_flight or found.tokens < 1.0:
            raise Crowded(one_peer=True)
        found.tokens -= 1.0
        found.inside += 1
        self.inside += 1
        try:
            yield
        finally:
            found.inside -= 1
            self.inside -= 1

    def _peer(self, name: str) -> _Peer:
        now, most = self._clock(), float(self._bounds.peer_per_s)
        found = self._peers.get(name)
        if found is None:
            self._make_room()
            found = self._peers[name] = _Peer(0, most, now)
        self._peers.move_to_end(name)
        found.tokens = min(most, found.tokens + (now - found.at) * most)
        found.at = now
        return found

    def _make_room(self) -> None:
        """Forget whoever was away longest; nobody who is inside is forgotten."""
        if len(self._peers) < PEERS:
            return
        for name, peer in self._peers.items():
            if peer.inside == 0:
                del self._peers[name]
                return
        raise Crowded(one_peer=False)


Answer = Callable[[str], Awaitable[str | Problem]]
"""Answers a sealed request."""


def application(answer: Answer, *, aud: str, body_s: float = BODY_S) -> web.Application:
    """The listener's one route.

    Args:
        answer: see there.
        aud: the exchange that alone may ask.
        body_s: how long a body may take to come, seconds.
    """

    async def lookups(request: web.Request) -> web.Response:
        if not from_exchange(request, aud=aud):
            return _problem(Problem.of("forbidden", "only the exchange may ask here"))
        try:
            text = await _text(request, body_s)
        except MalformedMessage as e:
            return _problem(Problem.of("malformed", e.detail))
        found = await answer(text)
        if isinstance(found, Problem):
            return _problem(found)
        return web.Response(text=found, content_type=JOSE)

    app = web.Application(middlewares=[_problems], client_max_size=REQUEST_CAP)
    app.router.add_post("/v1/lookups", lookups, expect_handler=_expected)
    return app


async def _text(request: web.Request, body_s: float) -> str:
    """The body of a request.

    Raises:
        MalformedMessage: it is no text of ours, or does not come.
    """
    if request.content_type != JOSE:
        raise MalformedMessage(f"expected {JOSE}")
    if "Content-Encoding" in request.headers:
        raise MalformedMessage("expected a body without Content-Encoding")
    try:
        async with asyncio.timeout(body_s):
            data = await request.read()
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise MalformedMessage("expected a compact JWE") from None
    except (OSError, web.RequestPayloadError):
        raise MalformedMessage("expected the whole body") from None


async def _expected(request: web.Request) -> web.Response | None:
    """What a client waits for before it sends a body."""
    expect = request.headers.get("Expect")
    if expect is None or request.version < HttpVersion11:
        return None
    if expect.lower() != "100-continue":
        return _problem(Problem("malformed", 417, "Expect: only 100-continue"))
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun
    return None


def from_exchange(request: web.Request, *, aud: str) -> bool:
    """Whether the certificate at the other end is the exchange's.

    The chain was verified by TLS; here it is only about the name.
    """
    transport = request.transport
    found = transport.get_extra_info("peercert") if transport is not None else None
    names = [
        value
        for kind, value in (found or {}).get("subjectAltName", ())
        if kind == "URI" and value.startswith("fep:")
    ]
    return names == [EXCHANGE_URI + aud]


@web.middleware
async def _problems(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """What aiohttp itself refuses, in our form."""
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return _problem(Problem.of("too-large", f"expected at most {REQUEST_CAP} B"))
    except web.HTTPMethodNotAllowed as e:
        allow = {"Allow": ", ".join(sorted(e.allowed_methods))}
        return _problem(Problem("malformed", 405, "expected POST"), allow)
    except web.HTTPNotFound:
        return _problem(Problem.of("not-found", "expected /v1/lookups"))
    except web.HTTPException as e:
        return _problem(Problem("malformed", e.status, e.reason))


def _problem(found: Problem, headers: dict[str, str] | None = None) -> web.Response:
    more = dict(headers or {})
    if found.status in {429, 503}:
        more["Retry-After"] = str(RETRY_S)
    return web.Response(
        status=found.status, body=found.body(), content_type=MEDIA_TYPE, headers=more
    )


def tls_context(*, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 or later for the listener; a client needs a certificate of the pinned CA.

    Raises:
        ConfigInvalid: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=ca)
        context.load_cert_chain(certificate, key)
    except OSError as e:
        raise ConfigInvalid(f"{certificate}, {key}, {ca}: {e}") from e
    return context


@asynccontextmanager
async def listening(
    app: web.Application, tls: ssl.SSLContext, *, host: str, port: int
) -> AsyncIterator[int]:
    """Serve until the block ends; gives the port.

    Raises:
        ConfigInvalid: the address cannot be listened on.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        max_line_size=HEADERS_CAP,
        max_field_size=HEADERS_CAP,
        auto_decompress=False,
        keepalive_timeout=75.0,
        shutdown_timeout=5.0,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as e:
            raise ConfigInvalid(f"lookup.listen: {host}:{port}: {e.strerror}") from e
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
