# SPDX-License-Identifier: Apache-2.0
"""Watches the directory for nodes that began anew; takes a person's word on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from agent.audit.events import KeysChanged, PeerBroke, PeerWasReset, Tell
from agent.audit.log import AuditLog
from agent.control.directory import TrustedDirectory
from agent.control.peers import Peers
from agent.errors import FepError
from agent.wire.directory import Directory
from agent.wire.keys import KeyChain

LOOK_S = 1.0
"""Pause between two looks whether there is another directory, seconds. Lookups do not
wait for that: they are judged by each directory from the moment it is in use."""

JsonObject = dict[str, Any]


class PeerWatch:
    """Tells of breaks, and answers people.

    Args:
        peers: what we know of the others.
        directory: everybody's keys.
        log: where breaks and decisions are put down.
        tell: where other events go.
        sleep: ``asyncio.sleep``.
    """

    def __init__(
        self,
        peers: Peers,
        directory: TrustedDirectory,
        log: AuditLog,
        *,
        tell: Tell,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._peers = peers
        self._directory = directory
        self._log = log
        self._tell = tell
        self._sleep = sleep
        self._seen: Directory | None = None

    async def forever(self) -> None:
        """Look at each directory once; until cancelled."""
        while True:
            await self.look()
            await self._sleep(LOOK_S)

    async def look(self) -> None:
        """Put down what a new directory breaks, and remember what it adds.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        found = self._known()
        if found is None or found is self._seen:
            return
        for entry, reset in self._peers.begun_anew(found):
            self._tell(
                PeerWasReset(entry.node, entry.digests[0], reset.at, reset.reason)
            )
        for one in await asyncio.to_thread(self._peers.note, found):
            try:
                await self._log.append(
                    PeerBroke(one.node, one.known, one.found, one.reason)
                )
            except FepError:
                return  # the log tells and shows it, and nothing leaves any more
            await asyncio.to_thread(self._peers.told, one)
        self._seen = found

    def troubles(self) -> list[FepError]:
        """What is wrong now."""
        found = self._known()
        trouble = None if found is None else self._peers.trouble(found)
        return [] if trouble is None else [trouble]

    def view(self) -> JsonObject:
        """Every node that we know, and why it waits, if it does."""
        known = self._known()
        breaks = [] if known is None else self._peers.waiting(known)
        waits = {one.node: asdict(one) for one in breaks}
        for body in waits.values():
            del body["node"], body["known"]
        return {
            "peers": [
                {
                    "node": pin.node,
                    "first": pin.first,
                    "statements": pin.n,
                    "since": pin.at,
                    "reset": _reset(known, pin.node),
                    "waits": waits.get(pin.node),
                }
                for pin in self._peers.known()
            ]
        }

    async def accept(self, node: str) -> JsonObject:
        """Take a node's new keys; who asked is in the log already.

        Raises:
            PeerUnknown: it does not wait for that.
            PeerFault: the directory's keys of it are damaged.
            AuditWriteFailed: it could not be put down, and is not done.
        """
        known = self._directory.current
        chain = known.node_keys(node) if known.node(node) is not None else None
        waiting = {one.node for one in self._peers.waiting(known)}
        if chain is not None and node in waiting:
            await self._log.append(KeysChanged(node, _newest(chain)))
        await asyncio.to_thread(self._peers.accept, known, node)
        return self.view()

    def _known(self) -> Directory | None:
        try:
            return self._directory.current
        except FepError:
            return None


def _reset(known: Directory | None, node: str) -> JsonObject | None:
    """When and why a node began anew, as the directory has it."""
    entry = None if known is None else known.node(node)
    return None if entry is None or entry.reset is None else asdict(entry.reset)


def _newest(chain: KeyChain) -> dict[str, str]:
    return {key.purpose: key.kid for key in chain.live}
