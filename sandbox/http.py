# SPDX-License-Identifier: Apache-2.0
"""The exchange's routes besides uploads, and what all routes share.

Errors become problem documents here (RFC 9457), and fault switches strike here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from agent.crypto.jose import PublicKey, split
from agent.errors import MalformedMessage
from agent.wire import catalog, keys, leave, problem, reconcile
from agent.wire import directory as wire
from agent.wire.directory import Directory
from agent.wire.grammar import NONCE, RESOURCE
from agent.wire.problem import Problem
from sandbox import directory, est, lies
from sandbox.accept import Refused, authentic, check_status
from sandbox.cutting import cut
from sandbox.desk import Desk
from sandbox.faults import Faults
from sandbox.receive import Cut
from sandbox.reconcile import answer
from sandbox.store import Registry
from sandbox.tls import Authority, Client, NotAClient, read_client

EST = "/.well-known/est"
_JOSE = "application/jose"

T = TypeVar("T")
_LOG = logging.getLogger("sandbox")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Front:
    """Handlers of the routes.

    Args:
        registry: to read from, in the event loop.
        desk: changes the registry; runs in the writer's thread through ``write``.
        writer: runs a function in the writer's thread.
        authority: issues certificates.
        faults: the switches.
        database: the exchange's SQLite file.
        url: where clients reach the exchange.
        others: the exchange's keys besides the one that signs receipts.
        nudge: tells providers that the directory has changed.
        fetched: told which node has the directory of now.
        over: the directory of the registry, as a repository says it.
    """

    registry: Registry
    desk: Desk
    writer: Callable[[Callable[[], Any]], Awaitable[Any]]
    authority: Authority
    faults: Faults
    database: Path
    url: str
    others: tuple[PublicKey, ...]
    nudge: Callable[[], Awaitable[None]]
    fetched: Callable[[str], None]
    over: Callable[[Directory], Directory] = lambda found: found

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers belong."""
        return [
            web.post(f"{EST}/simplereenroll", self.simplereenroll),
            web.post("/v1/keys", self.put_keys),
            web.post("/v1/leave", self.leave),
            web.get("/v1/directory", self.directory),
            web.put("/v1/catalog", self.put_catalog),
            web.get("/v1/position", self.position),
            web.get("/v1/receipt", self.receipt),
            web.post("/v1/reconcile", self.reconcile),
        ]

    async def write(self, change: Callable[[], T]) -> T:
        """Run a change in the writer's thread."""
        result: T = await self.writer(change)
        return result

    def client(self, request: web.BaseRequest, *, stated: bool = True) -> Client:
        """Who sends a request.

        Args:
            request: over mutual TLS.
            stated: a key statement of the node must list the certificate's key. Who
                stole a key can have his own certified, but cannot state it.

        Raises:
            Refused: unauthenticated; no certificate, a foreign one, a revoked key, or
                one that the node never stated.
        """
        connection = request.get_extra_info("ssl_object")
        der = connection.getpeercert(binary_form=True) if connection else None
        if der is None:
            raise Refused("unauthenticated", "expected a client certificate")
        try:
            client = read_client(der)
        except NotAClient as e:
            raise Refused("unauthenticated", str(e)) from e
        if self.registry.left(client.node):
            raise Refused("unauthenticated", f"{client.node} has left")
        if self.registry.revoked(client.kid):
            raise Refused("unauthenticated", "the certificate's key is revoked")
        if self.registry.node_revoked(client.node):
            raise Refused("unauthenticated", f"{client.node} is revoked")
        known = self.registry.key(client.kid) if stated else None
        if stated and (known is None or known.node != client.node):
            raise Refused("unauthenticated", "no statement lists the certificate's key")
        return client

    def member(self, request: web.BaseRequest) -> Client:
        """Who sends a request: a node that is enrolled with this certificate.

        Raises:
            Refused: unauthenticated.
        """
        client = self.client(request)
        if self.registry.enrolled(client.node) != client.statement:
            raise Refused("unauthenticated", f"{client.node} is not enrolled so")
        return client

    # --- enrolment ----------------------------------------------------------------

    async def simplereenroll(self, request: web.Request) -> web.Response:
        """A further certificate for the same node and statement."""
        client = self.client(request)
        csr = est.Csr(await read_body(request, est.CAP))
        if (csr.node, csr.statement) != (client.node, client.statement):
            raise Refused("forbidden", "expected the URIs of the old certificate")
        return self._issue(csr)

    def _issue(self, csr: est.Csr) -> web.Response:
        days = self.desk.options.certificate_days
        now = self.desk.signer.now()
        body = est.issue(self.authority, csr, now=now, days=days)
        return est_response(body, est.MEDIA_TYPE)

    async def put_keys(self, request: web.Request) -> web.Response:
        """A node's next key statement."""
        client = self.client(request, stated=False)
        text = await read_body(request, keys.CAP)
        new = await self.write(lambda: self.desk.put_keys(client, text))
        if new:
            await self.nudge()
        return web.Response(status=201 if new else 200)

    async def leave(self, request: web.Request) -> web.Response:
        """A node will not come again."""
        client = self.client(request)
        text = await read_body(request, leave.CAP)
        await self.write(lambda: self.desk.leave(client, text))
        await self.nudge()
        return web.Response(status=204)

    # --- what is asked ------------------------------------------------------------

    async def directory(self, request: web.Request) -> web.Response:
        """All of the directory's files, signed."""
        self.fetched(self.client(request, stated=False).node)
        return web.Response(text=self.signed_directory(), content_type=_JOSE)

    def signed_directory(self) -> str:
        """All of the directory's files as they are now."""
        found = self.over(self.registered())
        return self.desk.signer.key.sign(wire.TYP, found.payload())

    def registered(self) -> Directory:
        """All of the directory's files as the registry has them."""
        signer = self.desk.signer
        return directory.build(
            self.registry,
            keys=(signer.key.public, *self.others),
            aud=signer.aud,
            url=self.url,
            now=signer.now(),
        )

    async def put_catalog(self, request: web.Request) -> web.Response:
        """A catalog statement."""
        client = self.client(request)
        text = await read_body(request, catalog.CAP)
        new = await self.write(lambda: self.desk.put_catalog(client, text))
        return web.Response(status=201 if new else 200)

    async def position(self, request: web.Request) -> web.Response:
        """Where a stream stands; an unowned resource has the empty stream."""
        client = self.client(request)
        resource = self._resource(request, client)
        nonce = request.query.get("nonce", "")
        if not NONCE.fullmatch(nonce):
            raise Refused("malformed", "nonce: expected 22-64 base64url characters")
        signer = self.desk.signer
        stream = self.registry.stream(resource)
        text = signer.position(client.node, resource, stream, nonce=nonce)
        text = lies.show_position(text, self.faults, signer)
        return web.Response(text=text, content_type=_JOSE)

    async def receipt(self, request: web.Request) -> web.Response:
        """The newest receipt of a batch."""
        client = self.client(request)
        resource = self._resource(request, client)
        known = self.registry.batch(
            resource, _integer(request, "epoch"), _integer(request, "seq")
        )
        if known is None:
            raise Refused("not-found", "no such batch")
        text = lies.show_receipt(known.receipt, self.faults, self.desk.signer)
        return web.Response(text=text, content_type=_JOSE)

    def _resource(self, request: web.Request, client: Client) -> str:
        resource = request.query.get("resource", "")
        if not RESOURCE.fullmatch(resource):
            raise Refused("malformed", "resource: expected a resource code")
        if self.registry.owner(resource) not in (None, client.node):
            raise Refused("not-found", "no such resource")
        return resource

    async def reconcile(self, request: web.Request) -> web.Response:
        """Digests of the centre's rows."""
        client = self.client(request)
        body = await read_body(request, reconcile.REQUEST_CAP)
        unverified = split(body, cap=reconcile.REQUEST_CAP)
        typ = reconcile.TYP_REQUEST
        message, key = authentic(unverified, self.registry, typ=typ)
        asked = reconcile.parse_request(message.payload)
        signer = self.desk.signer
        if asked.aud != signer.aud:
            raise Refused("wrong-exchange", f"this is {signer.aud}")
        if asked.iss != client.node or key.node != client.node:
            raise Refused("forbidden", f"the certificate is not {asked.iss}'s")
        check_status(key, signer.now())
        if self.registry.owner(asked.resource) != client.node:
            raise Refused("not-found", "no such resource")
        iat = int(signer.now().timestamp())
        payload = await asyncio.to_thread(
            answer, self.database, asked, digest=message.digest, iat=iat
        )
        text = signer.key.sign(reconcile.TYP_RESPONSE, payload)
        return web.Response(text=text, content_type=_JOSE)

    # --- what all routes share ----------------------------------------------------

    def middlewares(self) -> list[Any]:
        """Outermost first."""
        return [self._stamp, self._strike, _translate]

    @web.middleware
    async def _stamp(self, request: web.Request, handler: Handler) -> Any:
        """The exchange's clock in ``Date``."""
        response = await handler(request)
        now = self.desk.signer.now()
        response.headers["Date"] = format_datetime(now, usegmt=True)
        return response

    @web.middleware
    async def _strike(self, request: web.Request, handler: Handler) -> Any:
        """Drop, delay, or answer with something else, as the switches say."""
        route = f"{request.method} {request.path}"
        if delay := self.faults.strike("delay", route):
            await asyncio.sleep(delay.seconds)
        drop = self.faults.strike("drop", route)
        if drop and drop.when == "before":
            return _cut(request)
        response = self._instead(route) or await handler(request)
        return _cut(request) if drop else response

    def _instead(self, route: str) -> web.Response | None:
        if fault := self.faults.strike("status", route):
            return web.Response(status=fault.status, text="a fault switch is on\n")
        if fault := self.faults.strike("busy", route):
            response = refusal(Problem.of("busy", "a fault switch is on"))
            response.headers["Retry-After"] = str(fault.retry_after)
            return response
        if fault := self.faults.strike("redirect", route):
            return web.Response(status=307, headers={"Location": fault.location})
        return None


@web.middleware
async def _translate(request: web.Request, handler: Handler) -> Any:
    """Errors as problem documents."""
    try:
        return await handler(request)
    except Refused as e:
        return refusal(e.problem)
    except MalformedMessage as e:
        return refusal(Problem.of("malformed", e.detail))
    except web.HTTPNotFound:
        return refusal(Problem.of("not-found", "no such route"))
    except Cut:
        return _cut(request)
    except OSError as e:  # a full or broken disk is ours, not the client's
        _LOG.error("%s %s: %s", request.method, request.path, e)
        response = refusal(Problem.of("busy", "the exchange cannot store now"))
        response.headers["Retry-After"] = "60"
        return response


def refusal(found: Problem) -> web.Response:
    """A problem document."""
    return web.Response(
        status=found.status, body=found.body(), content_type=problem.MEDIA_TYPE
    )


def _cut(request: web.Request) -> web.Response:
    cut(request)
    return web.Response(status=500)


def est_response(body: bytes, media_type: str) -> web.Response:
    """Base64 as EST sends it."""
    headers = {"Content-Type": media_type, "Content-Transfer-Encoding": "base64"}
    return web.Response(body=body, headers=headers)


async def read_body(request: web.Request, cap: int) -> bytes:
    """A bounded body.

    Raises:
        Refused: too-large.
    """
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > cap:
            raise Refused("too-large", f"expected at most {cap} bytes")
    return bytes(data)


def _integer(request: web.Request, name: str) -> int:
    text = request.query.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise Refused("malformed", f"{name}: expected a number")
    return int(text)
