# SPDX-License-Identifier: Apache-2.0
"""A small tus server on loopback that does what a test tells it to do wrong."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class TusDouble:
    """The server.

    Args:
        receipt: answered at the end; None makes it a plain tus server.
        cuts: bytes after which the connection of the next bodies is cut.
        answers: (method, path) -> what to answer instead, once each.
    """

    receipt: str | None = "a.b.c"
    cuts: list[int] = field(default_factory=list)
    answers: dict[tuple[str, str], list[Handler]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    tls: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def serving(
        self, context: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Its base URL."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._any)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"{'https' if context else 'http'}://{host}:{port}"
        try:
            yield self.url
        finally:
            await runner.cleanup()

    def answer(self, method: str, path: str, handler: Handler) -> None:
        """Answer the next such request with this."""
        self.answers.setdefault((method, path), []).append(handler)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        length = request.content_length or 0
        self.requests.append((request.method, request.path, length))
        if request.transport is not None:
            ssl_object = request.transport.get_extra_info("ssl_object")
            if ssl_object is not None:
                self.tls.append(ssl_object.version())
        planned = self.answers.get((request.method, request.path))
        if planned:
            return await planned.pop(0)(request)
        if request.path == "/v1/batches":
            return await self._create(request)
        if request.path == "/v1/receipt":
            text = self.receipts.get(request.query["seq"])
            return web.Response(status=404 if text is None else 200, text=text or "")
        if request.path in self.uploads:
            return await self.upload(request)
        return web.Response(status=404)

    async def _create(self, request: web.Request) -> web.Response:
        path = f"/v1/batches/{len(self.lengths) + 1}"
        self.uploads[path] = bytearray()
        self.lengths[path] = int(request.headers["Upload-Length"])
        assert request.headers["Tus-Resumable"] == "1.0.0"
        headers = {"Location": path, "Tus-Resumable": "1.0.0"}
        if request.content_length:
            await self._take(request, path)
            headers["Upload-Offset"] = str(len(self.uploads[path]))
        return web.Response(status=201, headers={**headers, **self._end(path)})

    async def upload(self, request: web.Request) -> web.Response:
        """HEAD or PATCH of an upload, as it should be."""
        path = request.path
        if request.method == "PATCH":
            if int(request.headers["Upload-Offset"]) != len(self.uploads[path]):
                return web.Response(status=409)
            await self._take(request, path)
        offset = {"Upload-Offset": str(len(self.uploads[path]))}
        if request.method == "HEAD":
            return web.Response(status=200, headers=offset)
        return web.Response(status=204, headers={**offset, **self._end(path)})

    async def _take(self, request: web.Request, path: str) -> None:
        cut = self.cuts.pop(0) if self.cuts else None
        taken = 0
        async for piece in request.content.iter_any():
            if cut is not None and taken + len(piece) >= cut:
                self.uploads[path] += piece[: cut - taken]
                assert request.transport is not None
                request.transport.abort()
                raise web.HTTPBadRequest
            self.uploads[path] += piece
            taken += len(piece)

    def _end(self, path: str) -> dict[str, str]:
        whole = len(self.uploads[path]) == self.lengths[path]
        return {"Fep-Receipt": self.receipt} if whole and self.receipt else {}


def reply(status: int, text: str = "", **headers: str) -> Handler:
    """A handler that reads the body and answers this."""

    async def handler(request: web.Request) -> web.Response:
        await request.read()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return handler
