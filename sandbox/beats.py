# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/heartbeat`` (wire.md §6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from agent.wire import heartbeat
from sandbox.http import read_body
from sandbox.nodes import Changes, Nodes
from sandbox.tls import Client


@dataclass(frozen=True)
class BeatsFront:
    """The route.

    Args:
        nodes: judges, in the writer's thread.
        write: runs a function there.
        member: who sends a request.
        changes: who should fetch the directory.
        ordered: whether commands wait for a node.
    """

    nodes: Nodes
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    member: Callable[[web.BaseRequest], Client]
    changes: Changes
    ordered: Callable[[str], bool]

    def routes(self) -> list[web.RouteDef]:
        """Where the handler belongs."""
        return [web.post("/v1/heartbeat", self.beat)]

    async def beat(self, request: web.Request) -> web.Response:
        """A heartbeat is taken; the answer hints at what should be fetched."""
        client = self.member(request)
        body = await read_body(request, heartbeat.CAP)
        await self.write(lambda: self.nodes.take(client, body))
        hints = {
            "directory": self.changes.behind(client.node),
            "commands": self.ordered(client.node),
        }
        found = tuple(name for name, hinted in hints.items() if hinted)
        return web.json_response(body=heartbeat.answer(found))
