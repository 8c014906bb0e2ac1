# SPDX-License-Identifier: Apache-2.0
"""Commands to nodes: made by people of the centre, fetched by the node, answered.

``/v1/commands`` of wire.md §6, and on the admin's socket

================ ===================================================================
POST /commands   ``{"node", "cmd", "resource"}``: order something; its ``jti``
GET /commands    the newest first, with what became of each
================ ===================================================================

What waits is kept in the registry; a bundle that a node brought in ``bundles/``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.crypto.jose import PrivateKey, split
from agent.errors import MalformedMessage
from agent.wire import command as wire
from agent.wire import strict
from agent.wire.command import Command, Result
from agent.wire.grammar import CODE, NODE, RESOURCE, UUID7, format_time, new_uuid7
from agent.wire.members import Members
from sandbox.accept import Refused, authentic, check_status
from sandbox.http import read_body
from sandbox.store import Registry, Store
from sandbox.tls import Client

SHOWN = 1000
"""Most commands of one answer to people."""
_SHOWN = "jti, node, cmd, resource, at, exp, status, code, answered, bundle"


class Commands:
    """The commands in the registry; the writer's thread changes them.

    Args:
        store: the registry's writer.
        key: of purpose ``command``.
        aud: the exchange.
        now: its clock, aware UTC.
        bundles: folder of what nodes brought.
    """

    def __init__(
        self,
        store: Store,
        key: PrivateKey,
        aud: str,
        now: Callable[[], datetime],
        bundles: Path,
    ) -> None:
        self._store = store
        self.key = key
        self._aud = aud
        self._now = now
        self._bundles = bundles

    def order(self, node: str, cmd: str, resource: str | None) -> str:
        """Make a command; its ``jti``.

        Raises:
            Refused: not-found; there is no such node.
            MalformedMessage: it does not fit.
        """
        now = self._now()
        iat = int(now.timestamp())
        found = Command(
            iss=self._aud,
            aud=node,
            jti=new_uuid7(int(now.timestamp() * 1000), secrets.token_bytes(10)),
            iat=iat,
            exp=iat + wire.LIFE_S,
            cmd=cmd,
            resource=resource,
        )
        text = self.key.sign(wire.TYP, found.payload())
        with self._store.transaction():
            if self._store.enrolled(node) is None:
                raise Refused("not-found", "no such node")
            self._store.connection.execute(
                "insert into command (jti, node, cmd, resource, at, exp, message)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                (found.jti, node, cmd, resource, format_time(now), found.exp, text),
            )
        return found.jti

    def take(self, client: Client, text: bytes) -> None:
        """A result as it came; the first of a command stays.

        Raises:
            Refused: malformed, bad-signature, wrong-exchange, forbidden, key-revoked,
                not-found; bad-digest: its bundle is another one, or was not brought.
            MalformedMessage: no result.
        """
        unverified = split(text, cap=wire.RESULT_CAP)
        message, key = authentic(unverified, self._store, typ=wire.RESULT_TYP)
        found = wire.parse_result(message.payload)
        if found.aud != self._aud:
            raise Refused("wrong-exchange", f"this is {self._aud}")
        if found.iss != client.node or key.node != client.node:
            raise Refused("forbidden", f"the certificate is not {found.iss}'s")
        check_status(key, self._now())
        self._asked(client.node, found.irt)
        self._check_bundle(found)
        with self._store.transaction():
            self._store.connection.execute(
                "update command set status = ?, code = ?, answered = ?, bundle = ?"
                " where jti = ? and status is null",
                (found.status, found.code, found.at, found.bundle, found.irt),
            )

    def put_bundle(self, client: Client, jti: str, bundle: bytes) -> None:
        """What a command asked for.

        Raises:
            Refused: not-found; nobody asked this node for it.
        """
        self._asked(client.node, jti, cmd="diagnostics")
        self._bundles.mkdir(mode=0o700, exist_ok=True)
        path = self._path(jti)
        path.touch(mode=0o600)
        path.write_bytes(bundle)

    def _path(self, jti: str) -> Path:
        return self._bundles / f"{jti}.zip"

    def _asked(self, node: str, jti: str, *, cmd: str | None = None) -> None:
        row = self._store.connection.execute(
            "select cmd from command where jti = ? and node = ?", (jti, node)
        ).fetchone()
        if row is None or (cmd is not None and row[0] != cmd):
            raise Refused("not-found", "no such command to this node")

    def _check_bundle(self, found: Result) -> None:
        if found.bundle is None:
            return
        try:
            data = self._path(found.irt).read_bytes()
        except FileNotFoundError:
            data = b""
        if found.bundle != f"sha256:{hashlib.sha256(data).hexdigest()}":
            raise Refused("bad-digest", "another bundle was brought, or none")


def waiting(registry: Registry, node: str, now: datetime) -> list[str]:
    """Commands to a node that have no result and are not over, the oldest first."""
    rows = registry.connection.execute(
        "select message from command where node = ? and status is null and exp >= ?"
        " order by jti limit ?",
        (node, int(now.timestamp()), wire.MOST),
    )
    return [message for (message,) in rows]


def view(registry: Registry, now: datetime) -> list[dict[str, Any]]:
    """The newest commands first, as people see them."""
    rows = registry.connection.execute(
        f"select {_SHOWN} from command order by jti desc limit ?",  # noqa: S608 - our text
        (SHOWN,),
    )
    names = _SHOWN.split(", ")
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for entry in found:
        over = entry.pop("exp") < now.timestamp()
        entry["status"] = entry["status"] or ("over" if over else "waiting")
    return found


@dataclass(frozen=True)
class CommandsFront:
    """The routes of nodes and of people.

    Args:
        commands: changes the registry, in the writer's thread.
        registry: to read from, in the event loop.
        write: runs a function in the writer's thread.
        member: who sends a request.
        now: the exchange's clock.
    """

    commands: Commands
    registry: Registry
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    member: Callable[[web.BaseRequest], Client]
    now: Callable[[], datetime]

    def routes(self) -> list[web.RouteDef]:
        """Those of nodes."""
        return [
            web.get("/v1/commands", self.listed),
            web.post("/v1/commands", self.result),
            web.put("/v1/commands/bundle", self.bundle),
        ]

    def admin_routes(self) -> list[web.RouteDef]:
        """Those of people."""
        return [web.post("/commands", self.order), web.get("/commands", self.shown)]

    def waits(self, node: str) -> bool:
        """Whether something waits for a node."""
        return bool(waiting(self.registry, node, self.now()))

    async def listed(self, request: web.Request) -> web.Response:
        """What waits for the node that asks."""
        node = self.member(request).node
        found = waiting(self.registry, node, self.now())
        return web.json_response(body=wire.listed(found))

    async def result(self, request: web.Request) -> web.Response:
        """What became of a command."""
        client = self.member(request)
        body = await read_body(request, wire.RESULT_CAP)
        await self.write(lambda: self.commands.take(client, body))
        return web.Response(status=204)

    async def bundle(self, request: web.Request) -> web.Response:
        """The bundle that a command asked for."""
        client, jti = self.member(request), request.query.get("jti", "")
        if not UUID7.fullmatch(jti):
            raise MalformedMessage("jti: expected a uuid7")
        body = await read_body(request, wire.BUNDLE_CAP)
        await self.write(lambda: self.commands.put_bundle(client, jti, body))
        return web.Response(status=204)

    async def order(self, request: web.Request) -> web.Response:
        """Order something."""
        body = strict.loads(await request.read())
        m = Members(body, "command", "node cmd resource")
        node, cmd = m.match("node", NODE), m.match("cmd", CODE)
        resource = None if m.null("resource") else m.match("resource", RESOURCE)
        jti = await self.write(lambda: self.commands.order(node, cmd, resource))
        return web.json_response({"jti": jti})

    async def shown(self, _: web.Request) -> web.Response:
        """Everything that was ordered."""
        return web.json_response({"commands": view(self.registry, self.now())})
