# SPDX-License-Identifier: Apache-2.0
"""Lookups between departments: ``POST /v1/relay`` and ``GET /v1/channel`` (wire.md §4).

The relay learns who asks whom, when, and how long the message is. What is asked and
answered is sealed between the two; bodies are never stored and never logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import WSMsgType, web

from agent.crypto.jwe import Sealed, split_sealed
from agent.errors import MalformedMessage
from agent.wire.channel import FRAME_CAP, PATH, SUBPROTOCOL
from agent.wire.lookup import REPLY_CAP, REPLY_TYP, REQUEST_CAP, REQUEST_TYP
from agent.wire.problem import Problem
from sandbox.accept import Refused
from sandbox.cutting import cut
from sandbox.doors import GARBAGE, Answer, Channel, Doors, Peer, Unreached
from sandbox.http import read_body, refusal
from sandbox.mischief import Mischief
from sandbox.store import Registry
from sandbox.tls import Client

_JOSE = "application/jose"
_CLOSE_S = 2.0
"""So long the other side may take to answer a goodbye."""


@dataclass(frozen=True)
class Relay:
    """Handlers of the two routes.

    Args:
        registry: who is enrolled.
        member: who sends a request, by its certificate.
        doors: where providers are.
        mischief: on the way to them.
        timeout_s: so long a consumer waits.
        ping_s: channels are pinged so often.
    """

    registry: Registry
    member: Callable[[web.BaseRequest], Client]
    doors: Doors
    mischief: Mischief
    timeout_s: float
    ping_s: float

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers belong."""
        return [
            web.post("/v1/relay", self.relay),
            web.get(PATH, self.channel),
        ]

    # --- consumers ----------------------------------------------------------------

    async def relay(self, request: web.Request) -> web.Response:
        """A sealed request to a provider; its sealed reply, or a problem."""
        client = self.member(request)
        sealed = split_sealed(await read_body(request, REQUEST_CAP), cap=REQUEST_CAP)
        if sealed.cty != REQUEST_TYP:
            raise MalformedMessage(f"JWE header.cty: expected {REQUEST_TYP}")
        if sealed.iss != client.node:
            raise Refused("forbidden", f"the certificate is not {sealed.iss}'s")
        if self.registry.enrolled(sealed.aud) is None:
            raise Refused("not-found", "no such node")
        try:
            answer = await self._carry(sealed)
        except Unreached as e:
            return _unreached(e)
        self.member(request)  # it may be revoked by now: then it gets no answer
        if isinstance(answer, Problem):
            return refusal(answer)
        return web.Response(text=answer, content_type=_JOSE)

    async def _carry(self, sealed: Sealed) -> Answer:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self.mischief.carry(sealed)
        except TimeoutError as e:
            detail = f"no answer within {self.timeout_s:g} s"
            raise Unreached("no-answer", detail) from e

    # --- providers ----------------------------------------------------------------

    async def channel(self, request: web.Request) -> web.WebSocketResponse:
        """A provider's WebSocket, for as long as it holds."""
        client = self.member(request)
        socket = Socket(request, ping_s=self.ping_s)
        found = Channel(Peer(client.node, client.kid), socket)
        await socket.open()
        self.doors.enter(found)
        try:
            mad = await _listen(socket, found)
        finally:
            self.doors.leave(found)
        if mad:
            await socket.close(code=GARBAGE, message=b"expected a frame of fep.v1")
        return socket.response


class Socket:
    """A WebSocket of a request."""

    def __init__(self, request: web.Request, *, ping_s: float) -> None:
        self._request = request
        self.response = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            heartbeat=ping_s,
            compress=False,
            max_msg_size=FRAME_CAP + 1,  # the library refuses what is not below it
            timeout=_CLOSE_S,
        )

    async def open(self) -> None:
        """Answer the handshake.

        Raises:
            Refused: malformed; it is none, or without our subprotocol.
        """
        found = self.response.can_prepare(self._request)
        if not found.ok or found.protocol != SUBPROTOCOL:
            raise Refused("malformed", f"expected a WebSocket of {SUBPROTOCOL}")
        await self.response.prepare(self._request)

    async def send_str(self, data: str) -> None:
        """See :class:`~sandbox.doors.Line`."""
        await self.response.send_str(data)

    async def close(self, *, code: int, message: bytes) -> object:
        """See :class:`~sandbox.doors.Line`."""
        return await self.response.close(code=code, message=message)

    def abort(self) -> None:
        """See :class:`~sandbox.doors.Line`."""
        cut(self._request)


async def _listen(socket: Socket, found: Channel) -> bool:
    """Take the provider's frames until the line ends; True if one was none."""
    async for message in socket.response:
        if message.type is not WSMsgType.TEXT:
            return True
        try:
            found.take(message.data)
        except MalformedMessage:  # not told further: what it says may quote a body
            return True
    return False


async def ask(doors: Doors, asked: Sealed) -> Answer:
    """The provider's answer, if it is one to this request.

    Raises:
        Unreached: there is none; it is not sealed, or not for the consumer.
    """
    answer = await doors.ask(asked.aud, asked.text, of=asked.iss)
    if isinstance(answer, Problem):
        return answer
    try:
        sealed = split_sealed(answer, cap=REPLY_CAP)
    except MalformedMessage as e:
        raise Unreached(
            "no-channel", "the provider's answer is not a sealed reply"
        ) from e
    if (sealed.cty, sealed.iss, sealed.aud) != (REPLY_TYP, asked.aud, asked.iss):
        raise Unreached("no-channel", "the provider's answer is for somebody else")
    return answer


def _unreached(e: Unreached) -> web.Response:
    response = refusal(e.problem)
    response.headers["Retry-After"] = "1"
    return response
