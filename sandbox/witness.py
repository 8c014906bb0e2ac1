# SPDX-License-Identifier: Apache-2.0
"""The witness of the nodes' audit logs: C2SP tlog-witness ``add-checkpoint``.

It remembers the newest checkpoint of each log and cosigns another one only if that
continues it. So a node that cuts its log, or shows two versions of it, is found out.

Rules

1. The origin of a node's log is ``<node>/audit``; only that node may submit it, and an
   active ``audit`` key of the node must have signed it.
2. Comparing with what is remembered and remembering the new one are one transaction,
   which is durable before the cosignature is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

from agent.crypto.note import (
    AddCheckpoint,
    Checkpoint,
    Note,
    cosign,
    parse_add_checkpoint,
    parse_checkpoint,
    parse_note,
)
from agent.crypto.notekey import NoteKey
from agent.crypto.tree import verify_consistency
from agent.errors import BadProof, BadSignature
from agent.wire.problem import Problem
from sandbox.accept import Refused
from sandbox.http import read_body, refusal
from sandbox.store import Store
from sandbox.tls import Client

CAP = 16 * 1024
"""Longest request, bytes."""
SIZE_TYPE = "text/x.tlog.size"
ORIGIN = "/audit"
"""What follows the node in the name of its log."""


class Conflict(Exception):
    """The witness remembers something else than the log believes.

    Args:
        size: of the checkpoint that it cosigned last, 0 for none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(f"the witness is at {size}")


@dataclass(frozen=True)
class Witness:
    """What decides and cosigns; runs in the writer's thread.

    Args:
        store: what is remembered.
        key: of purpose ``witness``.
        name: of the key, ``<aud>/witness``.
        now: the clock.
    """

    store: Store
    key: NoteKey
    name: str
    now: Callable[[], datetime]

    def add(self, node: str, body: bytes) -> str:
        """The cosignature of a node's next checkpoint, a line with its LF.

        Raises:
            MalformedMessage: no such request.
            Refused: not-found, forbidden or malformed.
            Conflict: another size is remembered, or another root of the same size.
            BadProof: the log does not continue what is remembered.
        """
        asked = parse_add_checkpoint(body)
        note = parse_note(asked.checkpoint)
        checkpoint = parse_checkpoint(note.body)
        if checkpoint.origin != node + ORIGIN:
            raise Refused("not-found", f"the log of {node} is {node}{ORIGIN}")
        self._check_signed(node, note, checkpoint.origin)
        if asked.old > checkpoint.size:
            raise Refused("malformed", f"old: expected at most {checkpoint.size}")
        self._remember(asked, checkpoint)
        return cosign(note.body, self.key, self.name, int(self.now().timestamp()))

    def _check_signed(self, node: str, note: Note, origin: str) -> None:
        for key in self.store.audit_keys(node):
            try:
                note.verify(key, name=origin)
            except BadSignature:
                continue
            return
        raise Refused("forbidden", "no active audit key of the node signed it")

    def _remember(self, asked: AddCheckpoint, new: Checkpoint) -> None:
        with self.store.transaction():
            known = self.store.head(new.origin)
            same_size = known.size == new.size
            if asked.old != known.size or (same_size and known.root != new.root):
                raise Conflict(known.size)
            verify_consistency(
                old=known.size,
                new=new.size,
                path=asked.path,
                old_root=known.root,
                new_root=new.root,
            )
            self.store.put_head(new, asked.checkpoint, now=self.now())


@dataclass(frozen=True)
class WitnessFront:
    """The witness's route.

    Args:
        witness: decides, in the writer's thread.
        write: runs a function there.
        member: who sends a request.
    """

    witness: Witness
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    member: Callable[[web.BaseRequest], Client]

    def routes(self) -> list[web.RouteDef]:
        """Where the handler belongs."""
        return [web.post("/v1/witness/add-checkpoint", self.add_checkpoint)]

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        """A cosignature, or what the witness has against it."""
        client = self.member(request)
        body = await read_body(request, CAP)
        try:
            line = await self.write(lambda: self.witness.add(client.node, body))
        except Conflict as e:
            return web.Response(
                status=409, body=f"{e.size}\n".encode(), content_type=SIZE_TYPE
            )
        except BadProof as e:
            return refusal(Problem("bad-proof", 422, e.detail))
        return web.Response(text=line)
