# SPDX-License-Identifier: Apache-2.0
"""The admin's Unix socket ``<folder>/admin.sock``, HTTP, for tests, demo and people.

============================ =======================================================
GET /state                   streams, batches by state, whether loading is on
GET /digest?resource=        rows and digest of the centre's table
GET, PUT /faults             the fault switches, see ``sandbox.faults``
PUT /load                    ``{"on": true|false}``: loading goes on or waits
POST /revoke                 ``{"kid": ...}`` or ``{"node": ...}``: refuse a key, or a
                             node with all its keys, from now on
POST /owner                  ``{"resource": ..., "node": ...}``: give a resource away
POST /reset                  ``{"node": ..., "reason"?: ...}``: let a node enrol anew
                             with other keys; the directory says why
POST /inbound                ``{"node": ..., "url": ...|null}``: lookups go to its own
                             listener, or to its channel again
POST /tamper                 ``{"resource", "alter", "remove", "add"}``: change so many
                             of the centre's rows behind the exchange's back
GET /nodes                   every node as its heartbeats show it
POST /accept                 ``{"node": ...}``: a person has looked; whatever it
                             beats next is taken
POST /publish                ``{"folder": ...}``: documents of a folder go live, of an
                             exchange with ``--central``
POST /halt                   ``{"generation": ...}``: nobody takes it any more
POST /nudge                  tell every provider to poll positions and the directory
============================ =======================================================

Codes and approvals are in ``sandbox.office``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.central.publish import Live
from agent.errors import MalformedMessage, OperatorFault
from agent.wire import strict
from agent.wire.grammar import NODE, RESOURCE
from agent.wire.members import Members
from agent.wire.problem import Problem
from sandbox import tamper
from sandbox.accept import Refused
from sandbox.central import Central
from sandbox.desk import Desk
from sandbox.faults import Faults
from sandbox.http import refusal
from sandbox.nodes import Nodes, view
from sandbox.providers import Providers
from sandbox.reconcile import totals
from sandbox.store import Registry


@dataclass
class Switch:
    """Whether stored batches are loaded; ``wake`` is set when there may be work."""

    on: bool
    wake: asyncio.Event


@dataclass(frozen=True)
class Admin:
    """Handlers of the admin socket."""

    registry: Registry
    desk: Desk
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    faults: Faults
    load: Switch
    database: Path
    providers: Providers
    nodes: Nodes
    central: Central | None

    def app(self) -> web.Application:
        """The application to serve on the socket."""
        app = web.Application(middlewares=[_translate])
        app.add_routes(
            [
                web.get("/state", self.state),
                web.get("/digest", self.digest),
                web.get("/faults", self.get_faults),
                web.put("/faults", self.put_faults),
                web.put("/load", self.put_load),
                web.post("/revoke", self.revoke),
                web.post("/owner", self.owner),
                web.post("/reset", self.reset),
                web.post("/inbound", self.inbound),
                web.post("/tamper", self.tamper),
                web.get("/nodes", self.get_nodes),
                web.post("/accept", self.accept),
                web.post("/publish", self.publish),
                web.post("/halt", self.halt),
                web.post("/nudge", self.nudge),
            ]
        )
        return app

    async def state(self, _: web.Request) -> web.Response:
        """Where everything stands."""
        batches: dict[str, dict[str, int]] = {}
        for resource, state, count in self.registry.counts():
            batches.setdefault(resource, {})[state] = count
        streams = {
            resource: {
                "node": node,
                **asdict(self.registry.stream(resource)),
                "batches": batches.get(resource, {}),
                "table": self.registry.table(resource),
            }
            for resource, node in self.registry.owners()
        }
        waiting = self.registry.due() is not None
        body = {"loading": self.load.on, "waiting": waiting, "streams": streams}
        return web.json_response(body | {"channels": self.providers.doors.waiting()})

    async def digest(self, request: web.Request) -> web.Response:
        """Rows and digest of the centre's table of a resource."""
        resource = request.query.get("resource", "")
        if self.registry.owner(resource) is None:
            raise Refused("not-found", "no such resource")
        rows, digest = await asyncio.to_thread(totals, self.database, resource)
        return web.json_response({"rows": rows, "digest": digest})

    async def get_faults(self, _: web.Request) -> web.Response:
        """What is on."""
        return web.json_response({"faults": self.faults.shown()})

    async def put_faults(self, request: web.Request) -> web.Response:
        """Replace all switches."""
        self.faults.put(strict.loads(await request.read()))
        return web.json_response({"faults": self.faults.shown()})

    async def put_load(self, request: web.Request) -> web.Response:
        """Loading goes on or waits."""
        members = Members(strict.loads(await request.read()), "load", "on")
        self.load.on = members.boolean("on")
        self.load.wake.set()
        return web.Response(status=204)

    async def revoke(self, request: web.Request) -> web.Response:
        """Refuse a key, or a node, from now on."""
        body = strict.loads(await request.read())
        if "node" in body:
            node = Members(body, "revoke", "node").match("node", NODE)
            await self.write(lambda: self.desk.revoke_node(node))
        else:
            kid = Members(body, "revoke", "kid").text("kid")
            await self.write(lambda: self.desk.revoke(kid))
        await self.providers.keys_changed()
        return web.Response(status=204)

    async def owner(self, request: web.Request) -> web.Response:
        """Give a resource to another node."""
        members = Members(strict.loads(await request.read()), "owner", "resource node")
        resource = members.match("resource", RESOURCE)
        node = members.match("node", NODE)
        await self.write(lambda: self.desk.give(resource, node))
        await self.providers.nudge()
        return web.Response(status=204)

    async def reset(self, request: web.Request) -> web.Response:
        """Let a node enrol anew."""
        body = strict.loads(await request.read())
        members = Members(body, "reset", "node", optional="reason")
        node = members.text("node")
        reason = members.text("reason") if members.has("reason") else "not said"
        await self.write(lambda: self.desk.forget(node, reason=reason))
        await self.providers.keys_changed()
        return web.Response(status=204)

    async def inbound(self, request: web.Request) -> web.Response:
        """Where a node is asked from now on."""
        body = strict.loads(await request.read())
        members = Members(body, "inbound", "node url")
        url = None if members.null("url") else members.text("url")
        await self.providers.listen(members.match("node", NODE), url)
        return web.Response(status=204)

    async def tamper(self, request: web.Request) -> web.Response:
        """Change rows that nobody sent."""
        body = strict.loads(await request.read())
        members = Members(body, "tamper", "resource alter remove add")
        wanted = tamper.read(members)
        await self.write(lambda: tamper.tamper(self.desk.store, wanted))
        return web.Response(status=204)

    async def get_nodes(self, _: web.Request) -> web.Response:
        """Every node as its heartbeats show it."""
        found = view(
            self.registry,
            now=self.desk.signer.now(),
            late_s=self.desk.options.late_s,
        )
        return web.json_response({"nodes": found})

    async def accept(self, request: web.Request) -> web.Response:
        """A person has looked at a node."""
        body = strict.loads(await request.read())
        node = Members(body, "accept", "node").match("node", NODE)
        await self.write(lambda: self.nodes.accept(node))
        return web.Response(status=204)

    async def publish(self, request: web.Request) -> web.Response:
        """A folder's documents go live; the versions of all roles then."""
        folder = Members(strict.loads(await request.read()), "publish", "folder")
        path = Path(folder.text("folder", most=4096))
        return await self._centrally(lambda central: central.publish(path))

    async def halt(self, request: web.Request) -> web.Response:
        """A generation is stopped."""
        found = Members(strict.loads(await request.read()), "halt", "generation")
        number = found.integer("generation", least=1)
        return await self._centrally(lambda central: central.halt(number))

    async def _centrally(self, act: Callable[[Central], Live | None]) -> web.Response:
        """Do something to the repository, then tell everybody."""
        if self.central is None:
            raise Refused("not-found", "it was not started with --central")
        try:
            live = await asyncio.to_thread(act, self.central)
        except OperatorFault as e:
            raise Refused("malformed", e.detail) from e
        await self.providers.nudge()
        versions = {} if live is None else dict(live.versions)
        return web.json_response({"changed": live is not None, "versions": versions})

    async def nudge(self, _: web.Request) -> web.Response:
        """Tell every provider to poll."""
        await self.providers.nudge()
        return web.Response(status=204)


@web.middleware
async def _translate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]
) -> Any:
    try:
        return await handler(request)
    except Refused as e:
        return refusal(e.problem)
    except MalformedMessage as e:
        return refusal(Problem.of("malformed", e.detail))
