# SPDX-License-Identifier: Apache-2.0
"""Answer the people of this machine: HTTP over a Unix socket.

Who asks is the uid that the kernel names (SO_PEERCRED); who may connect is decided by
the socket's owner, group and mode 0660. Everything that changes something is told as
an :class:`AdminAction`. The forms of the answers are documented in
``docs/cli-json.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from agent.audit.events import AdminAction, Tell
from agent.errors import (
    BatchUnknown,
    Busy,
    FepError,
    InternalFault,
    MalformedMessage,
    NothingHeld,
    OperatorFault,
    ResourceUnknown,
    RunUnknown,
    UsageFault,
)
from agent.wire import strict

BODY_CAP = 64 * 1024
"""Most bytes of a request's body."""
WAIT_CAP_S = 25.0
"""Longest time for which a request may wait for a run, seconds."""

JsonObject = dict[str, Any]


class Operations(Protocol):
    """What the daemon can be asked and told to do; values are JSON objects."""

    def version(self) -> JsonObject:
        """Name, version and process id."""
        ...

    def status(self, resource: str | None) -> JsonObject:
        """How everything, or one resource, stands.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        ...

    def metrics(self) -> str:
        """Counters in the Prometheus text format."""
        ...

    async def pull(self, resource: str, *, confirm_deletes: bool) -> JsonObject:
        """Ask for a run; its id and the number of deletes that it may bring.

        Raises:
            ResourceUnknown: there is no such resource.
            NothingHeld: there are no deletes to confirm.
            Busy: it is paused or being pulled.
        """
        ...

    async def wait(self, run: str, *, delivered: bool) -> JsonObject:
        """Wait until a run has ended, or also until it is loaded; its report.

        Raises:
            RunUnknown: no such run since the daemon started.
        """
        ...

    def pause(self, resource: str | None) -> None:
        """Stop reading and sending one resource, or all; kept over restarts."""
        ...

    def resume(self, resource: str | None) -> None:
        """Go on with one resource, or all."""
        ...

    def spool(self, resource: str | None) -> JsonObject:
        """Batches that are in the spool, oldest first."""
        ...

    def batch(self, resource: str, *, epoch: int, seq: int) -> JsonObject:
        """One batch: manifest, receipts and where its file is."""
        ...


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(operations: Operations, tell: Tell) -> web.Application:
    """The routes of the local interface."""
    routes = _Routes(operations, tell)
    app = web.Application(middlewares=[_errors_as_documents], client_max_size=BODY_CAP)
    app.add_routes(
        [
            web.get("/v1/version", routes.version),
            web.get("/v1/status", routes.status),
            web.get("/v1/metrics", routes.metrics),
            web.get("/v1/run", routes.run),
            web.get("/v1/spool", routes.spool),
            web.get("/v1/batch", routes.batch),
            web.post("/v1/pull", routes.pull),
            web.post("/v1/pause", routes.pause),
            web.post("/v1/resume", routes.resume),
        ]
    )
    return app


@asynccontextmanager
async def serving(app: web.Application, path: Path) -> AsyncIterator[None]:
    """Listen on ``path`` with mode 0660 until the block ends; then it is removed."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        sock = _listen(path)
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
        _forget(path)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    """A bound socket; a stale one of a dead daemon is replaced (the lock is ours)."""
    _forget(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(str(path))
        path.chmod(0o660)
    except OSError:
        sock.close()
        raise
    return sock


def peer_uid(request: web.Request) -> int:
    """The uid at the other end, as the kernel knows it; -1 if it does not say."""
    transport = request.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return -1
    cred = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("3i", cred)[1]
    return uid


class _Routes:
    """One method a route."""

    def __init__(self, operations: Operations, tell: Tell) -> None:
        self._ops = operations
        self._tell = tell

    async def version(self, _request: web.Request) -> web.Response:
        return _json(self._ops.version())

    async def status(self, request: web.Request) -> web.Response:
        return _json(self._ops.status(request.query.get("resource")))

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._ops.metrics(), content_type="text/plain")

    async def run(self, request: web.Request) -> web.Response:
        run = _needed(request.query.get("run"), "run")
        wait_s = _number(request.query.get("wait_s", "0"), "wait_s")
        delivered = request.query.get("delivered") == "true"
        waiter = asyncio.ensure_future(self._ops.wait(run, delivered=delivered))
        done, _ = await asyncio.wait({waiter}, timeout=min(wait_s, WAIT_CAP_S))
        if not done:
            waiter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiter
            return _json({"run": run, "state": "running"})
        return _json(waiter.result())

    async def spool(self, request: web.Request) -> web.Response:
        return _json(self._ops.spool(request.query.get("resource")))

    async def batch(self, request: web.Request) -> web.Response:
        query = request.query
        resource = _needed(query.get("resource"), "resource")
        epoch = _number(query.get("epoch"), "epoch")
        seq = _number(query.get("seq"), "seq")
        return _json(self._ops.batch(resource, epoch=epoch, seq=seq))

    async def pull(self, request: web.Request) -> web.Response:
        body = await _body(request)
        resource = _needed(body.get("resource"), "resource")
        confirm = body.get("confirm_deletes", False)
        action = "pull --confirm-deletes" if confirm else "pull"
        self._told(request, action, resource)
        return _json(await self._ops.pull(resource, confirm_deletes=confirm))

    async def pause(self, request: web.Request) -> web.Response:
        resource = (await _body(request)).get("resource")
        self._ops.pause(resource)
        self._told(request, "pause", resource)
        return _json({"paused": True, "resource": resource})

    async def resume(self, request: web.Request) -> web.Response:
        resource = (await _body(request)).get("resource")
        self._ops.resume(resource)
        self._told(request, "resume", resource)
        return _json({"paused": False, "resource": resource})

    def _told(self, request: web.Request, action: str, resource: str | None) -> None:
        self._tell(AdminAction(uid=peer_uid(request), action=action, resource=resource))


@web.middleware
async def _errors_as_documents(
    request: web.Request, handler: Handler
) -> web.StreamResponse:
    try:
        return await handler(request)
    except FepError as e:
        return _json(e.as_dict(), status=_status(e))
    except web.HTTPException as e:
        return _json(UsageFault(f"{request.method} {e.reason}").as_dict(), e.status)


def _status(error: FepError) -> int:
    match error:
        case ResourceUnknown() | RunUnknown() | BatchUnknown():
            return 404
        case Busy() | NothingHeld():
            return 409
        case InternalFault():
            return 500
        case OperatorFault():
            return 400
        case _:
            return 500


def _json(body: JsonObject, status: int = 200) -> web.Response:
    return web.json_response(
        body,
        status=status,
        dumps=lambda value: json.dumps(value, ensure_ascii=False, default=str),
    )


async def _body(request: web.Request) -> JsonObject:
    """The object that was sent, whatever its Content-Type says.

    Raises:
        UsageFault: it is none, is nested too deep, or has a member of a wrong type.
    """
    try:
        body = strict.loads(await request.read())
    except MalformedMessage as e:
        raise UsageFault(f"the body: {e.detail}") from None
    resource = body.get("resource")
    if resource is not None and not isinstance(resource, str):
        raise UsageFault("resource: expected a text or null")
    if not isinstance(body.get("confirm_deletes", False), bool):
        raise UsageFault("confirm_deletes: expected true or false")
    return body


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise UsageFault(f"{name} is missing")
    return value


def _number(text: str | None, name: str) -> int:
    if text is None or not text.isdecimal() or len(text) > 15:
        raise UsageFault(f"{name}: expected a whole number")
    return int(text)
