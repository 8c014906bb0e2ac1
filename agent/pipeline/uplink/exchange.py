# SPDX-License-Identifier: Apache-2.0
"""The exchange as a client sees it, over HTTPS with mutual TLS.

``calls`` makes a request, ``ways`` says where, ``line`` how fast, and ``tus`` carries
files. Each call is asked once, at one address; what comes back is text that nobody has
verified yet.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path
from typing import Self

from agent.model.batch import BatchId
from agent.pipeline.uplink.calls import SMALL_CAP, Calls, Request
from agent.pipeline.uplink.channel import TextChannel
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.line import Line
from agent.pipeline.uplink.reply import Reply, expect, text_of
from agent.pipeline.uplink.tus import Nowhere, Places, Tus
from agent.pipeline.uplink.ways import Ways
from agent.wire import position, reconcile

DIRECTORY_CAP = 16 * 1024 * 1024
"""Longest directory that is read, bytes."""


class Exchange:
    """The exchange. Use it as an asynchronous context manager.

    Args:
        endpoint: where and who.
        now: aware UTC, to compare with the server's Date.
        clock: monotonic seconds, to measure the line.
        sleep: ``asyncio.sleep``.
        places: remembers over restarts where uploads go on.
        ceiling: most bytes a second that uploads may send now, None for any number.

    Attributes:
        line: how fast uploads go; lookups are told to it.
        ways: its addresses.

    Raises:
        ConfigInvalid: the URL is not https, or a certificate file cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        places: Places | None = None,
        ceiling: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.ways = Ways(
            (endpoint.url, *endpoint.more_urls),
            clock=clock,
            base_s=endpoint.retry_base_s,
        )
        self.line = Line(clock=clock, sleep=sleep, ceiling=ceiling)
        self._calls = Calls(endpoint, self.ways, now=now, clock=clock)
        self._tus = Tus(
            self._calls,
            self.ways,
            self.line,
            batches=endpoint.batches,
            receipt=self._receipt,
            places=places or Nowhere(),
        )

    async def __aenter__(self) -> Self:
        """Nothing is sent yet."""
        await self._calls.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._calls.close()

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead, or None before its first answer."""
        return self._calls.clock_offset_s

    async def position(self, resource: str, nonce: str) -> str:
        """The signed position of our stream of a resource."""
        query = {"resource": resource, "nonce": nonce}
        reply = await self._ask("GET", "/v1/position", query, cap=position.CAP)
        return text_of(expect(reply, 200))

    async def receipt(self, batch: BatchId) -> str | None:
        """The newest receipt of a batch, or None if the exchange has none."""
        return await self._receipt(self.ways.choose(), batch)

    async def _receipt(self, way: int, batch: BatchId) -> str | None:
        query = {
            "resource": batch.resource,
            "epoch": str(batch.epoch),
            "seq": str(batch.seq),
        }
        url = (self.ways.url(way) / "v1/receipt").with_query(query)
        reply = await self._calls.send(way, Request("GET", url, {}))
        return None if reply.status == 404 else text_of(expect(reply, 200))

    async def put_catalog(self, statement: str) -> None:
        """Make a catalog statement known."""
        body = statement.encode("ascii")
        expect(await self._ask("PUT", "/v1/catalog", body=body), 200, 201)

    async def keys(self, statement: str) -> None:
        """Make a key statement known."""
        body = statement.encode("ascii")
        expect(await self._ask("POST", "/v1/keys", body=body), 200, 201, 204)

    async def reenrol(self, request: bytes) -> bytes:
        """The answer of EST to a request for a further certificate, both base64."""
        way = self.ways.choose()
        url = self.ways.url(way) / ".well-known/est/simplereenroll"
        headers = {
            "Content-Type": "application/pkcs10",
            "Content-Transfer-Encoding": "base64",
        }
        reply = await self._calls.send(way, Request("POST", url, headers, request))
        return expect(reply, 200).body

    async def leave(self, word: str) -> None:
        """Say that this node will not come again."""
        body = word.encode("ascii")
        expect(await self._ask("POST", "/v1/leave", body=body), 200, 204)

    def use(self, endpoint: Endpoint) -> None:
        """Other addresses and times hold from the next request on.

        What is under way ends where it began.

        Raises:
            ConfigInvalid: an address is not https; then nothing has changed.
        """
        self._calls.use(endpoint)
        self.ways.use((endpoint.url, *endpoint.more_urls))

    def renewed(self) -> None:
        """Show the certificate that the files have now; open connections stay.

        Raises:
            ConfigInvalid: they cannot be used; then nothing has changed.
        """
        self._calls.renewed()

    async def directory(self) -> str:
        """The signed directory."""
        reply = await self._ask("GET", "/v1/directory", cap=DIRECTORY_CAP)
        return text_of(expect(reply, 200))

    async def heartbeat(self, beat: str) -> bytes:
        """The answer to a signed heartbeat."""
        body = beat.encode("ascii")
        reply = await self._ask("POST", "/v1/heartbeat", body=body)
        return expect(reply, 200).body

    async def reconcile(self, request: str) -> str:
        """The signed reply to a signed reconcile request."""
        body = request.encode("ascii")
        cap = reconcile.RESPONSE_CAP
        reply = await self._ask("POST", "/v1/reconcile", body=body, cap=cap)
        return text_of(expect(reply, 200))

    def channel(self) -> AbstractAsyncContextManager[TextChannel]:
        """The line over which lookups come; open until the context ends."""
        return self._calls.channel("/v1/channel")

    async def add_checkpoint(self, body: bytes) -> Reply:
        """What the exchange, as the witness of our log, answers to a checkpoint."""
        return await self._ask("POST", "/v1/witness/add-checkpoint", body=body)

    async def upload(
        self,
        path: Path,
        size: int,
        *,
        batch: BatchId,
        moved: Callable[[], None] = lambda: None,
    ) -> str | None:
        """Bring a file to its end at the exchange.

        Args:
            path: the file.
            size: its bytes.
            batch: what it is.
            moved: called whenever the exchange has more of it.

        Returns:
            The receipt; None from a plain tus server, which has no such header.

        Raises:
            ExchangeUnreachable: cut, and another try brought it no further; call again
                later, it goes on.
            ExchangeUntrusted: TLS failed.
            ExchangeRefused: a problem document, or an answer that is none of tus.
            MalformedMessage: an answer that breaks the protocol.
            SpoolDamaged: the file cannot be read.
        """
        return await self._tus.upload(path, size, batch=batch, moved=moved)

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        cap: int = SMALL_CAP,
    ) -> Reply:
        way = self.ways.choose()
        url = (self.ways.url(way) / path.lstrip("/")).with_query(query or {})
        headers = {"Content-Type": "application/jose"} if body is not None else {}
        return await self._calls.send(way, Request(method, url, headers, body, cap=cap))
