# SPDX-License-Identifier: Apache-2.0
"""The tus 1.0.0 receiver at ``/v1/batches`` (wire.md §3).

Extensions: creation, creation-with-upload, expiration. An offset is answered only after
its bytes are synced. Line 1 is judged when it is in, and a refusal is sent at once; a
signed rejection stands in ``Fep-Receipt`` from then on. The answer that ends an upload
carries the receipt.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from aiohttp import ClientPayloadError, web

from agent.errors import BadPayload
from agent.model.item import Item
from agent.wire.batch import LINE_CAP, PAYLOAD_CAP
from sandbox.accept import Admit, Refuse, Refused, Reject, Repeat
from sandbox.desk import Desk
from sandbox.faults import Faults
from sandbox.load import BatchFile
from sandbox.store import Registry
from sandbox.tls import Client
from sandbox.uploads import Upload, Uploads

MAX_SIZE = LINE_CAP + PAYLOAD_CAP
"""``Tus-Max-Size``: 67174400."""
VERSION = "1.0.0"
PATH = "/v1/batches"
_OFFSET_TYPE = "application/offset+octet-stream"


class Cut(Exception):
    """The connection is to be cut now: a fault switch says so."""


@dataclass(frozen=True)
class Receiver:
    """Handlers of the upload routes.

    Args:
        uploads: the unfinished ones.
        registry: to read from.
        desk: registers batches; runs in the writer's thread through ``write``.
        write: runs a function in the writer's thread.
        stored: called after a batch was stored.
        client: identity of a request's certificate.
        show: makes a receipt false if a fault switch says so.
        faults: the switches.
    """

    uploads: Uploads
    registry: Registry
    desk: Desk
    write: Callable[[Callable[[], str]], Awaitable[str]]
    stored: Callable[[], None]
    client: Callable[[web.BaseRequest], Client]
    show: Callable[[str], str]
    faults: Faults

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers belong."""
        return [
            web.options(PATH, self.options),
            web.post(PATH, self.create),
            web.head(PATH + "/{id}", self.head),
            web.patch(PATH + "/{id}", self.patch),
        ]

    # --- handlers -----------------------------------------------------------------

    async def options(self, _: web.Request) -> web.Response:
        """What this server can do."""
        headers = {
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": "creation,creation-with-upload,expiration",
            "Tus-Max-Size": str(MAX_SIZE),
        }
        return web.Response(status=204, headers=headers)

    async def create(self, request: web.Request) -> web.Response:
        """A new upload, perhaps with its first bytes."""
        client = self.client(request)
        _check_version(request)
        length = _number(request, "Upload-Length")
        if not length:
            raise Refused("malformed", "Upload-Length: expected at least line 1")
        if length > MAX_SIZE:
            raise Refused("too-large", f"expected at most {MAX_SIZE} bytes")
        upload = self.uploads.create(
            length=length, certificate=client.fingerprint, node=client.node
        )
        await asyncio.to_thread(self.uploads.sync)
        place = {"Location": f"{PATH}/{upload.ticket.id}"}
        async with self._hold(upload, request):
            if request.content_type == _OFFSET_TYPE:
                await self._append(request, upload)
                place["Upload-Offset"] = str(upload.offset)
            return await self._answer(upload, 201, place)

    async def head(self, request: web.Request) -> web.Response:
        """How far an upload is; a whole one is finished by this question."""
        upload = self._find(request)
        _check_version(request)
        async with self._hold(upload, request):
            headers = {
                "Upload-Offset": str(upload.offset),
                "Upload-Length": str(upload.ticket.length),
                "Cache-Control": "no-store",
            }
            return await self._answer(upload, 200, headers)

    async def patch(self, request: web.Request) -> web.Response:
        """More bytes."""
        upload = self._find(request)
        _check_version(request)
        if request.content_type != _OFFSET_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"expected {_OFFSET_TYPE}")
        async with self._hold(upload, request):
            if _number(request, "Upload-Offset") != upload.offset:
                raise web.HTTPConflict(text=f"expected offset {upload.offset}")
            await self._append(request, upload)
            headers = {"Upload-Offset": str(upload.offset)}
            return await self._answer(upload, 204, headers)

    # --- steps --------------------------------------------------------------------

    @asynccontextmanager
    async def _hold(self, upload: Upload, request: web.Request) -> AsyncIterator[None]:
        """Be the one request of an upload; an older one, perhaps dead, is cut."""
        upload.take_over()
        async with upload.lock:
            if upload.over:
                raise Refused("not-found", "the upload has ended")
            upload.request = request
            try:
                yield
            finally:
                upload.request = None

    def _find(self, request: web.Request) -> Upload:
        client = self.client(request)
        upload = self.uploads.find(
            request.match_info["id"], certificate=client.fingerprint, node=client.node
        )
        if upload is None:
            raise Refused("not-found", "no such upload")
        return upload

    async def _append(self, request: web.Request, upload: Upload) -> None:
        """Write what comes; what came is kept and synced, however the request ends."""
        try:
            with upload.path.open("ab", buffering=0) as file:
                try:
                    await self._copy(request, upload, file.fileno())
                finally:
                    await asyncio.shield(asyncio.to_thread(os.fsync, file.fileno()))
        except (ConnectionError, ClientPayloadError) as e:
            raise Cut from e

    async def _copy(self, request: web.Request, upload: Upload, file: int) -> None:
        route = f"{request.method} {request.path}"
        cut = self.faults.strike("cut", route)
        slow = self.faults.strike("slow", route)
        left = cut.bytes if cut else None
        async for chunk in request.content.iter_any():
            if upload.offset + len(chunk) > upload.ticket.length:
                raise Refused("malformed", "more bytes than Upload-Length")
            piece = chunk if left is None else chunk[:left]
            _write(file, piece)
            upload.feed(piece)
            if isinstance(upload.verdict, Refuse):
                return
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    raise Cut
            if slow:
                await asyncio.sleep(len(piece) / max(1, slow.bytes_per_s))

    async def _answer(
        self, upload: Upload, status: int, headers: dict[str, str]
    ) -> web.Response:
        verdict = upload.verdict
        if isinstance(verdict, Refuse):
            self.uploads.forget(upload)
            raise Refused(
                verdict.problem.code,
                verdict.problem.detail,
                **dict(verdict.problem.members),
            )
        receipt = None
        if isinstance(verdict, Reject):
            receipt = await self._over(upload, lambda: self.desk.reject(verdict))
        elif upload.whole and isinstance(verdict, Repeat):
            known = self.registry.same(verdict.digest)
            receipt = known.receipt if known else None
        elif upload.whole and isinstance(verdict, Admit):
            receipt = await self._finish(upload, verdict)
        if upload.whole:
            self.uploads.forget(upload)
        if receipt is not None:
            headers["Fep-Receipt"] = self.show(receipt)
        if not upload.over:
            headers["Upload-Expires"] = formatdate(
                self.uploads.end(upload), usegmt=True
            )
        headers["Tus-Resumable"] = VERSION
        return web.Response(status=status, headers=headers)

    async def _finish(self, upload: Upload, admit: Admit) -> str:
        """Digest, Arrow and counts, then ``stored``."""
        wanted = admit.manifest.content.digest
        if upload.content_digest != wanted:
            self.uploads.forget(upload)
            raise Refused("bad-digest", "the payload is not what line 1 says")
        items = self.registry.items(admit.manifest.catalog.digest)
        try:
            await asyncio.to_thread(_validate, upload.path, admit, items)
        except BadPayload:
            verdict = Reject(admit.manifest.id, admit.message, "bad-payload")
            return await self._over(upload, lambda: self.desk.reject(verdict))
        receipt = await self._over(
            upload, lambda: self.desk.store_batch(admit, upload.path)
        )
        self.stored()
        return receipt

    async def _over(self, upload: Upload, end: Callable[[], str]) -> str:
        """What the writer decides ends the upload, refusals too."""
        try:
            return await asyncio.shield(self.write(end))
        except Refused:
            self.uploads.forget(upload)
            raise


def _validate(path: Path, admit: Admit, items: tuple[Item, ...]) -> None:
    file = BatchFile(path, len(admit.message.text) + 1)
    for _ in file.batches(admit.manifest, items):
        pass


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _check_version(request: web.Request) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise web.HTTPPreconditionFailed(
            text=f"expected Tus-Resumable: {VERSION}", headers={"Tus-Version": VERSION}
        )


def _number(request: web.Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refused("malformed", f"{name}: expected a number of bytes")
    return int(text)
