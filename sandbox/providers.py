# SPDX-License-Identifier: Apache-2.0
"""How providers are reached, as an admin and the registry have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from sandbox.doors import REVOKED, Doors
from sandbox.inbound import Listener, check_url
from sandbox.nodes import Changes
from sandbox.store import Registry, Store
from sandbox.tls import Pki


@dataclass(frozen=True)
class Providers:
    """The doors, kept in step with the registry.

    Args:
        doors: to providers.
        registry: to read from, in the event loop.
        store: to write to, through ``write``.
        write: runs a function in the writer's thread.
        pki: for the exchange's own certificate.
        stack: closes what is open in the end.
        changes: who has not fetched the directory since.
    """

    doors: Doors
    registry: Registry
    store: Store
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    pki: Pki
    stack: AsyncExitStack
    changes: Changes = field(default_factory=Changes)
    _open: dict[str, Listener] = field(default_factory=dict)
    _before: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def before_nudge(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this first whenever the directory has changed."""
        self._before.append(work)

    async def restore(self) -> None:
        """Open the doors that an earlier process was told of."""
        for node, url in self.registry.listeners():
            await self._open_door(node, url)

    async def listen(self, node: str, url: str | None) -> None:
        """Ask a node at its own listener from now on; None: at its channel again.

        Raises:
            MalformedMessage: the URL is no ``https://host:port``.
        """
        if url is not None:
            check_url(url)
        await self.write(lambda: self.store.put_listener(node, url))
        await self._open_door(node, url)

    async def _open_door(self, node: str, url: str | None) -> None:
        older = self._open.pop(node, None)
        if url is not None:
            listener = Listener(url, self.pki.client_context(node))
            self._open[node] = await self.stack.enter_async_context(listener)
        self.doors.listens(node, self._open.get(node))
        if older is not None:
            await older.close()

    async def keys_changed(self) -> None:
        """Keys were revoked: their channels end, all others are told to look."""
        self.doors.close(
            lambda peer: (
                self.registry.revoked(peer.kid) or self.registry.node_revoked(peer.node)
            ),
            REVOKED,
            "the certificate's key is revoked",
        )
        await self.nudge()

    async def nudge(self) -> None:
        """The directory is not what it was: tell every provider to look."""
        for work in self._before:
            await work()
        self.changes.moved()
        await self.doors.nudge()
