# SPDX-License-Identifier: Apache-2.0
"""Answer the people of this machine: HTTP over a Unix socket.

Who asks is the uid that the kernel names (SO_PEERCRED); who may connect is decided by
the socket's owner, group and mode 0660: who may, may do all of it, there are no roles
yet. Everything that changes something, or shows evidence, is recorded as an
:class:`AdminAction` first, and not done if it cannot be.
The forms of the answers are documented in ``docs/cli-json.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from agent.audit.events import AdminAction
from agent.errors import (
    BatchUnknown,
    Busy,
    EvidenceGone,
    FepError,
    InternalFault,
    MalformedMessage,
    NothingHeld,
    NothingLoaded,
    OperatorFault,
    PeerUnknown,
    RecordUnknown,
    ResourceUnknown,
    RunUnknown,
    UnderWay,
    UsageFault,
)
from agent.model.run import COMPARING, READABLE, RunKind
from agent.wire import strict
from agent.wire.grammar import NODE, RESOURCE, is_time

BODY_CAP = 64 * 1024
"""Most bytes of a request's body."""
WAIT_CAP_S = 25.0
"""Longest time for which a request may wait for a run, seconds."""

MOST_PURPOSES = 4
"""Kinds of keys that there are."""
MOST_TURNS = 500
"""Entries of a history that are told at once."""

JsonObject = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WHY = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,200}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


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

    async def pull(
        self,
        resource: str,
        *,
        confirm_deletes: bool,
        kind: RunKind,
        report: str | None,
    ) -> JsonObject:
        """Ask for a run; its id and the number of deletes that it may bring.

        Raises:
            ResourceUnknown: there is no such resource.
            NothingHeld: there are no deletes to confirm.
            NothingLoaded: the exchange has nothing to compare with, or to recall.
            Busy: it is paused, recalled or being pulled.
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


class PolicyDesk(Protocol):
    """The lookup policy."""

    def show(self) -> JsonObject:
        """The active policy, the draft, and whether they differ."""
        ...

    async def activate(self, *, digest: str | None, uid: int) -> JsonObject:
        """Let the draft judge from now on. Raises PolicyInvalid."""
        ...


class AuditDesk(Protocol):
    """The audit log; every answer is bounded and says where to go on."""

    async def search(self, body: Mapping[str, Any]) -> JsonObject:
        """Records that fit, newest first. Raises UsageFault."""
        ...

    async def prove(self, n: int) -> JsonObject:
        """A record with its proof. Raises RecordUnknown."""
        ...

    async def evidence(self, n: int, *, uid: int) -> JsonObject:
        """The exact messages of a record. Raises RecordUnknown, EvidenceGone."""
        ...

    async def erase(self, day: str, *, uid: int) -> JsonObject:
        """Destroy the key of a day. Raises UsageFault."""
        ...

    async def export(self, body: Mapping[str, Any]) -> JsonObject:
        """Sign the head; what an export up to there consists of."""
        ...

    async def leaves(self, start: int, *, size: int) -> JsonObject:
        """Exact records."""
        ...

    async def tiles(self, level: int, number: int, *, size: int) -> JsonObject:
        """Tiles of the tree."""
        ...

    async def checkpoints(self, since: int, *, size: int) -> JsonObject:
        """Signed heads."""
        ...


class KeysDesk(Protocol):
    """The keys of this machine."""

    def view(self) -> JsonObject:
        """Every key, the certificate, a change that is under way."""
        ...

    async def rotate(self, purposes: Sequence[str]) -> JsonObject:
        """Change keys. Raises UsageFault, Busy, PeerFault."""
        ...


class PeersDesk(Protocol):
    """The other nodes."""

    def view(self) -> JsonObject:
        """Every node that we know, and why it waits, if it does."""
        ...

    async def accept(self, node: str) -> JsonObject:
        """Take a node's new keys. Raises PeerUnknown."""
        ...


class ConfigDesk(Protocol):
    """The configuration of the centre."""

    def view(self) -> JsonObject:
        """What is wanted, runs, ran well and failed; a probation; a hold."""
        ...

    def history(self, limit: int) -> JsonObject:
        """What became of each, the newest first."""
        ...

    async def hold(self, until: str | None, *, reason: str, uid: int) -> JsonObject:
        """Take nothing new until then, None to take it again. Raises UsageFault."""
        ...


Place = tuple[int, int]
"""(epoch, seq) of a batch; (0, 0) is before all of them."""


class SpoolDesk(Protocol):
    """Receipts, and the files of the spool; long answers say where to go on."""

    async def receipts(
        self, resource: str, *, since: str | None, after: Place
    ) -> JsonObject:
        """Receipts with their manifests. Raises ResourceUnknown, UsageFault."""
        ...

    async def resources(self) -> JsonObject:
        """Codes of what may have receipts."""
        ...

    async def voucher(self, digest: str | None) -> JsonObject:
        """A directory that was kept, or the one in use. Raises BatchUnknown."""
        ...

    async def look(self, resource: str, *, after: Place) -> JsonObject:
        """Files compared with what was registered. Raises ResourceUnknown."""
        ...

    async def mend(self, resource: str, batches: object) -> JsonObject:
        """Lead batches down their safe path. Raises Busy, UnderWay, PeerFault."""
        ...

    async def replay(self, resource: str, since: object, *, do: bool) -> JsonObject:
        """Send again what the exchange lost. Raises as mend."""
        ...


@dataclass(frozen=True)
class People:
    """What people may do beside the flow, and where that is put down.

    Args:
        record: adds to the audit log; durable when it returns.
        policies: the lookup policy.
        audit: the audit log.
        spool: receipts and files.
        keys: of this machine.
        peers: the other nodes.
        config: the configuration of the centre.
    """

    record: Callable[[AdminAction], Awaitable[int]]
    policies: PolicyDesk
    audit: AuditDesk
    spool: SpoolDesk
    keys: KeysDesk
    peers: PeersDesk
    config: ConfigDesk


def application(operations: Operations, people: People) -> web.Application:
    """The routes of the local interface."""
    routes = _Routes(operations, people)
    audit = _AuditRoutes(people)
    spool = _SpoolRoutes(people)
    keys = _KeyRoutes(people)
    config = _ConfigRoutes(people)
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
            web.get("/v1/policy", routes.policy),
            web.post("/v1/policy/activate", routes.activate),
            web.get("/v1/keys", keys.ls),
            web.post("/v1/keys/rotate", keys.rotate),
            web.get("/v1/peers", keys.peers),
            web.post("/v1/peers/accept", keys.accept),
            web.get("/v1/config", config.view),
            web.get("/v1/config/history", config.history),
            web.post("/v1/config/hold", config.hold),
            web.get("/v1/receipts", spool.receipts),
            web.get("/v1/receipts/resources", spool.resources),
            web.get("/v1/voucher", spool.voucher),
            web.get("/v1/spool/verify", spool.verify),
            web.post("/v1/spool/repair", spool.repair),
            web.post("/v1/spool/replay", spool.replay),
            web.post("/v1/audit/search", audit.search),
            web.get("/v1/audit/prove", audit.prove),
            web.post("/v1/audit/evidence", audit.evidence),
            web.post("/v1/audit/erase", audit.erase),
            web.post("/v1/audit/export", audit.export),
            web.get("/v1/audit/leaves", audit.leaves),
            web.get("/v1/audit/tiles", audit.tiles),
            web.get("/v1/audit/checkpoints", audit.checkpoints),
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

    def __init__(self, operations: Operations, people: People) -> None:
        self._ops = operations
        self._people = people

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
        kind = _kind(body.get("kind", "full"))
        report = _report(body.get("report"), kind)
        await _recorded(self._people, request, _action(kind, confirm=confirm), resource)
        found = await self._ops.pull(
            resource, confirm_deletes=confirm, kind=kind, report=report
        )
        return _json(found)

    async def pause(self, request: web.Request) -> web.Response:
        resource = (await _body(request)).get("resource")
        await _recorded(self._people, request, "pause", resource)
        self._ops.pause(resource)
        return _json({"paused": True, "resource": resource})

    async def resume(self, request: web.Request) -> web.Response:
        resource = (await _body(request)).get("resource")
        await _recorded(self._people, request, "resume", resource)
        self._ops.resume(resource)
        return _json({"paused": False, "resource": resource})

    async def policy(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._people.policies.show))

    async def activate(self, request: web.Request) -> web.Response:
        digest = (await _body(request)).get("digest")
        if digest is not None and not isinstance(digest, str):
            raise UsageFault("digest: expected a text or null")
        await _recorded(self._people, request, "policy activate", None)
        uid = peer_uid(request)
        return _json(await self._people.policies.activate(digest=digest, uid=uid))


class _AuditRoutes:
    """One method a route of the audit log."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._desk = people.audit

    async def search(self, request: web.Request) -> web.Response:
        body = await _body(request)
        await _recorded(self._people, request, "audit search", body.get("resource"))
        return _json(await self._desk.search(body))

    async def prove(self, request: web.Request) -> web.Response:
        return _json(await self._desk.prove(_number(request.query.get("n"), "n")))

    async def evidence(self, request: web.Request) -> web.Response:
        n = (await _body(request)).get("n")
        if type(n) is not int:
            raise UsageFault("n: expected a whole number")
        return _json(await self._desk.evidence(n, uid=peer_uid(request)))

    async def erase(self, request: web.Request) -> web.Response:
        day = (await _body(request)).get("day")
        if not isinstance(day, str) or not _DAY.fullmatch(day):
            raise UsageFault("day: expected a day like 2026-11-21")
        await _recorded(self._people, request, f"audit erase {day}", None)
        return _json(await self._desk.erase(day, uid=peer_uid(request)))

    async def export(self, request: web.Request) -> web.Response:
        body = await _body(request)
        await _recorded(self._people, request, "audit export", None)
        return _json(await self._desk.export(body))

    async def leaves(self, request: web.Request) -> web.Response:
        start, size = _numbers(request, "start", "size")
        return _json(await self._desk.leaves(start, size=size))

    async def tiles(self, request: web.Request) -> web.Response:
        level, number, size = _numbers(request, "level", "number", "size")
        return _json(await self._desk.tiles(level, number, size=size))

    async def checkpoints(self, request: web.Request) -> web.Response:
        since, size = _numbers(request, "since", "size")
        return _json(await self._desk.checkpoints(since, size=size))


class _SpoolRoutes:
    """One method a route of receipts and files."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._desk = people.spool
        self._next: dict[tuple[int, str], Place] = {}

    async def receipts(self, request: web.Request) -> web.Response:
        resource = _needed(request.query.get("resource"), "resource")
        since, after = request.query.get("since"), _after(request)
        who = peer_uid(request), resource
        # Put down once, not at every page; who begins in the middle begins, too.
        if self._next.pop(who, None) != after:
            await _recorded(self._people, request, "spool export", resource)
        found = await self._desk.receipts(resource, since=since, after=after)
        if found["next"] is not None:
            self._next[who] = found["next"]
        return _json(found)

    async def resources(self, _request: web.Request) -> web.Response:
        return _json(await self._desk.resources())

    async def voucher(self, request: web.Request) -> web.Response:
        return _json(await self._desk.voucher(request.query.get("digest")))

    async def verify(self, request: web.Request) -> web.Response:
        resource = _needed(request.query.get("resource"), "resource")
        return _json(await self._desk.look(resource, after=_after(request)))

    async def repair(self, request: web.Request) -> web.Response:
        body = await _body(request)
        resource = _needed(body.get("resource"), "resource")
        await _recorded(self._people, request, "spool repair", resource)
        return _json(await self._desk.mend(resource, body.get("batches")))

    async def replay(self, request: web.Request) -> web.Response:
        body = await _body(request)
        resource = _needed(body.get("resource"), "resource")
        do = body.get("do", False) is True
        if do:
            await _recorded(self._people, request, "spool replay", resource)
        found = await self._desk.replay(resource, body.get("since"), do=do)
        return _json(found)


class _KeyRoutes:
    """The keys of this machine, and those of others."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def ls(self, _request: web.Request) -> web.Response:
        return _json(self._people.keys.view())

    async def rotate(self, request: web.Request) -> web.Response:
        purposes = (await _body(request)).get("purposes")
        if not isinstance(purposes, list) or not 0 < len(purposes) <= MOST_PURPOSES:
            raise UsageFault("purposes: expected one to four")
        if not all(isinstance(p, str) for p in purposes):
            raise UsageFault("purposes: expected texts")
        await _recorded(self._people, request, "keys rotate", None)
        return _json(await self._people.keys.rotate(purposes))

    async def peers(self, _request: web.Request) -> web.Response:
        return _json(self._people.peers.view())

    async def accept(self, request: web.Request) -> web.Response:
        node = (await _body(request)).get("node")
        if not isinstance(node, str) or not NODE.fullmatch(node):
            raise UsageFault("node: expected <USCC>/<name>")
        await _recorded(self._people, request, "peers accept", None)
        return _json(await self._people.peers.accept(node))


class _ConfigRoutes:
    """The configuration of the centre."""

    def __init__(self, people: People) -> None:
        self._people = people

    async def view(self, _request: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._people.config.view))

    async def history(self, request: web.Request) -> web.Response:
        limit = min(_number(request.query.get("limit", "100"), "limit"), MOST_TURNS)
        return _json(await asyncio.to_thread(self._people.config.history, limit))

    async def hold(self, request: web.Request) -> web.Response:
        body = await _body(request)
        until = body.get("until")
        if until is not None and not (isinstance(until, str) and is_time(until)):
            raise UsageFault("until: expected a time like 2026-11-21T08:00:00Z or null")
        reason = body.get("reason", "")
        if not isinstance(reason, str) or not _WHY.fullmatch(reason):
            raise UsageFault("reason: expected a line of at most 200 characters")
        action = "config release" if until is None else f"config hold {until}"
        await _recorded(self._people, request, action, None)
        uid = peer_uid(request)
        held = await self._people.config.hold(until, reason=reason, uid=uid)
        return _json(held)


def _after(request: web.Request) -> Place:
    """The place behind which an answer begins; before all without one."""
    query = request.query
    epoch = _number(query.get("epoch", "0"), "epoch")
    return epoch, _number(query.get("seq", "0"), "seq")


async def _recorded(
    people: People, request: web.Request, action: str, resource: str | None
) -> None:
    """Put down who does what, before it is done; free text is not put down."""
    known = resource if resource and RESOURCE.fullmatch(resource) else None
    await people.record(AdminAction(peer_uid(request), action, known))


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
        case (
            ResourceUnknown()
            | RunUnknown()
            | BatchUnknown()
            | RecordUnknown()
            | EvidenceGone()
            | PeerUnknown()
        ):
            return 404
        case Busy() | UnderWay() | NothingHeld() | NothingLoaded():
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


def _kind(value: object) -> RunKind:
    known = {str(kind): kind for kind in sorted(READABLE)}
    if not isinstance(value, str) or value not in known:
        raise UsageFault(f"kind: expected one of {', '.join(known)}")
    return known[value]


def _action(kind: RunKind, *, confirm: bool) -> str:
    """What a person asked for, as the audit log says it."""
    ordinary = {"full", "incremental", "deletes"}
    words = "pull" if kind in ordinary else kind
    return f"{words} --confirm-deletes" if confirm else words


def _report(value: object, kind: RunKind) -> str | None:
    """The name of a file; it stands in a folder of our own."""
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise UsageFault(
            "report: expected a file name of letters, digits, dots, hyphens and"
            " underscores, at most 100, without a folder"
        )
    if kind not in COMPARING:
        raise UsageFault("report: only of a comparison")
    return value


def _needed(value: str | None, name: str) -> str:
    if not value:
        raise UsageFault(f"{name} is missing")
    return value


def _numbers(request: web.Request, *names: str) -> list[int]:
    return [_number(request.query.get(name), name) for name in names]


def _number(text: str | None, name: str) -> int:
    if text is None or not text.isdecimal() or len(text) > 15:
        raise UsageFault(f"{name}: expected a whole number")
    return int(text)
