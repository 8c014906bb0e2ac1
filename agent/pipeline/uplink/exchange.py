# SPDX-License-Identifier: Apache-2.0
"""Talk to the exchange over HTTPS with mutual TLS, and carry files to it by tus 1.0.

Rules

1. The only trusted CA is the one of the pinned file; the machine's store is not used.
   No redirect is followed, no proxy is taken from the environment.
2. Every reply is read up to a cap and every request has an end.
3. One call is one try: no waiting, no repeating. A cut leaves the Location behind, and
   the next call for the same batch goes on from there: GET the receipt, then HEAD the
   Location, else begin anew.
4. What comes back is text that nobody has verified yet.
5. Exceptions of ssl and aiohttp end here: :class:`ExchangeUntrusted` when it is about
   certificates, :class:`ExchangeUnreachable` when it is about the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Self

import aiohttp
from yarl import URL

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    MalformedMessage,
    SpoolDamaged,
)
from agent.model.batch import BatchId
from agent.pipeline.uplink.channel import TextChannel, channel, no_redirects
from agent.pipeline.uplink.endpoint import Endpoint, tls_context
from agent.pipeline.uplink.faults import translated
from agent.pipeline.uplink.reply import (
    Reply,
    bounded,
    done,
    expect,
    offset_of,
    receipt_of,
    text_of,
)
from agent.wire import position, reconcile

TUS = "1.0.0"
ONE_POST = 256 * 1024
"""Largest file that travels in the POST that creates it, and the first piece of others,
bytes: line 1 is in it, so that a refusal comes before the rest is sent."""
PIECE_CAP = 8 * 1024 * 1024
"""Largest piece, bytes."""
PIECE_S = 5.0
"""How long a piece should take on the measured line, seconds."""
SLOWEST = 16 * 1024
"""A line slower than this many bytes a second counts as cut."""
READ = 256 * 1024
"""Bytes read from a file at a time."""
DIRECTORY_CAP = 16 * 1024 * 1024
"""Longest directory that is read, bytes."""
SMALL_CAP = 16 * 1024
"""Most bytes of an answer from which nothing but a problem is expected."""


@dataclass(frozen=True)
class _File:
    """A batch on its way."""

    path: Path
    size: int
    batch: BatchId


class Exchange:
    """The exchange as a client sees it. Use it as an asynchronous context manager.

    Args:
        endpoint: where and who.
        now: aware UTC, to compare with the server's Date.
        clock: monotonic seconds, to measure the line.

    Raises:
        ConfigInvalid: the URL is not https, or a certificate file cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._base = URL(endpoint.url)
        self._now = now
        self._clock = clock
        self._tls = tls_context(endpoint)
        self._session: aiohttp.ClientSession | None = None
        self._locations: dict[BatchId, URL] = {}
        self._cut: set[BatchId] = set()
        self._rate = 0.0
        self.clock_offset_s: float | None = None

    async def __aenter__(self) -> Self:
        """Nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=32),
            auto_decompress=False,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "fep"},
            trace_configs=[no_redirects()],  # a WebSocket has no other switch
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def position(self, resource: str, nonce: str) -> str:
        """The signed position of our stream of a resource."""
        query = {"resource": resource, "nonce": nonce}
        reply = await self._ask("GET", "/v1/position", query, cap=position.CAP)
        return text_of(expect(reply, 200))

    async def receipt(self, batch: BatchId) -> str | None:
        """The newest receipt of a batch, or None if the exchange has none."""
        query = {
            "resource": batch.resource,
            "epoch": str(batch.epoch),
            "seq": str(batch.seq),
        }
        reply = await self._ask("GET", "/v1/receipt", query, cap=SMALL_CAP)
        return None if reply.status == 404 else text_of(expect(reply, 200))

    async def put_catalog(self, statement: str) -> None:
        """Make a catalog statement known."""
        body = statement.encode("ascii")
        expect(await self._ask("PUT", "/v1/catalog", body=body), 200, 201)

    async def keys(self, statement: str) -> None:
        """Make a key statement known."""
        body = statement.encode("ascii")
        expect(await self._ask("POST", "/v1/keys", body=body), 200, 201, 204)

    async def directory(self) -> str:
        """The signed directory."""
        reply = await self._ask("GET", "/v1/directory", cap=DIRECTORY_CAP)
        return text_of(expect(reply, 200))

    async def reconcile(self, request: str) -> str:
        """The signed reply to a signed reconcile request."""
        body = request.encode("ascii")
        cap = reconcile.RESPONSE_CAP
        reply = await self._ask("POST", "/v1/reconcile", body=body, cap=cap)
        return text_of(expect(reply, 200))

    # --- lookups and the audit log --------------------------------------------------

    def channel(self) -> AbstractAsyncContextManager[TextChannel]:
        """The line over which lookups come; open until the context ends."""
        if self._session is None:
            raise RuntimeError("the exchange client is not open")
        return channel(
            self._session,
            self._url("/v1/channel"),
            connect_timeout_s=self._endpoint.connect_timeout_s,
        )

    async def add_checkpoint(self, body: bytes) -> Reply:
        """What the exchange, as the witness of our log, answers to a checkpoint."""
        return await self._ask("POST", "/v1/witness/add-checkpoint", body=body)

    # --- tus ----------------------------------------------------------------------

    async def upload(self, path: Path, size: int, *, batch: BatchId) -> str | None:
        """Bring a file to its end at the exchange; one try.

        Returns:
            The receipt; None from a plain tus server, which has no such header.

        Raises:
            ExchangeUnreachable: cut; call again later, it goes on.
            ExchangeUntrusted: TLS failed.
            ExchangeRefused: a problem document, or an answer that is none of tus.
            MalformedMessage: an answer that breaks the protocol.
            SpoolDamaged: the file cannot be read.
        """
        file = _File(path, size, batch)
        try:
            if batch in self._cut and (known := await self.receipt(batch)) is not None:
                self._forget(batch)
                return known
            reply = await self._carry(file)
        except ExchangeUnreachable:
            self._cut.add(batch)
            raise
        except ExchangeRefused:
            self._forget(batch)
            raise
        self._forget(batch)
        return receipt_of(reply)

    async def _carry(self, file: _File) -> Reply:
        """From wherever it stands to the end; the last reply."""
        location = self._locations.get(file.batch)
        if location is not None:
            offset = await self._offset(location, file.size)
            if offset is not None:
                return await self._pieces(file, location, offset)
            self._locations.pop(file.batch, None)
        whole = file.size <= ONE_POST and file.batch not in self._cut
        reply = await self._create(file, length=file.size if whole else 0)
        if done(reply, file.size):
            return reply
        location = self._locations[file.batch]
        offset = await self._offset(location, file.size) if whole else 0
        if offset is None:
            raise MalformedMessage("tus: expected the upload just created, got none")
        return await self._pieces(file, location, offset)

    async def _create(self, file: _File, *, length: int) -> Reply:
        headers = {"Upload-Length": str(file.size)}
        if length:
            headers["Content-Type"] = "application/offset+octet-stream"
        reply = await self._tus(
            "POST",
            self._url(self._endpoint.batches),
            headers,
            file=file,
            span=(0, length),
        )
        expect(reply, 201)
        self._locations[file.batch] = self._same_origin(reply)
        return reply

    async def _offset(self, location: URL, size: int) -> int | None:
        """How much of an upload the server has; None if it does not know it."""
        reply = await self._tus("HEAD", location, {})
        if reply.status in {403, 404, 410}:
            return None
        expect(reply, 200, 204)
        return offset_of(reply, most=size)

    async def _pieces(self, file: _File, location: URL, offset: int) -> Reply:
        while True:
            end = min(file.size, offset + self._piece(offset))
            reply = await self._patch(file, location, (offset, end))
            got = offset_of(reply, most=file.size)
            if got != end:
                raise MalformedMessage(f"tus: expected offset {end}, got {got}")
            offset = got
            if offset == file.size:
                return reply

    async def _patch(self, file: _File, location: URL, span: tuple[int, int]) -> Reply:
        headers = {
            "Upload-Offset": str(span[0]),
            "Content-Type": "application/offset+octet-stream",
        }
        began = self._clock()
        reply = await self._tus("PATCH", location, headers, file=file, span=span)
        self._measure(span[1] - span[0], self._clock() - began)
        if reply.status in {404, 409, 410, 423, 460}:
            raise ExchangeUnreachable(
                f"tus: PATCH answered {reply.status}; asking anew"
            )
        return expect(reply, 204)

    def _piece(self, offset: int) -> int:
        if offset < ONE_POST:
            return ONE_POST
        return int(min(PIECE_CAP, max(ONE_POST, self._rate * PIECE_S)))

    def _measure(self, size: int, seconds: float) -> None:
        rate = size / max(seconds, 1e-6)
        self._rate = rate if self._rate == 0 else 0.5 * self._rate + 0.5 * rate

    def _same_origin(self, reply: Reply) -> URL:
        text = reply.headers.get("Location", "")
        try:
            location = self._base.join(URL(text))
            same = location.origin() == self._base.origin()
        except ValueError:
            same = False
        if not text or len(text) > 2048 or not same:
            raise MalformedMessage("tus: expected a Location of the same origin")
        return location

    def _forget(self, batch: BatchId) -> None:
        self._locations.pop(batch, None)
        self._cut.discard(batch)

    async def _tus(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        *,
        file: _File | None = None,
        span: tuple[int, int] = (0, 0),
    ) -> Reply:
        length = span[1] - span[0]
        sent = {"Tus-Resumable": TUS, **headers}
        body: AsyncIterator[bytes] | None = None
        if method != "HEAD":
            sent["Content-Length"] = str(length)
        if file is not None and length:
            body = _read_span(file.path, span)
        return await self._request(method, url, sent, body, length=length)

    # --- one request --------------------------------------------------------------

    def _url(self, path: str) -> URL:
        return URL(self._endpoint.url.rstrip("/") + path)

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        cap: int = SMALL_CAP,
    ) -> Reply:
        url = self._url(path).with_query(query or {})
        headers = {"Content-Type": "application/jose"} if body is not None else {}
        return await self._request(method, url, headers, body, cap=cap)

    async def _request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        cap: int = SMALL_CAP,
        length: int = 0,
    ) -> Reply:
        if self._session is None:
            raise RuntimeError("the exchange client is not open")
        endpoint = self._endpoint
        timeout = aiohttp.ClientTimeout(
            total=endpoint.connect_timeout_s
            + endpoint.read_timeout_s
            + length / SLOWEST,
            connect=endpoint.connect_timeout_s,
            sock_connect=endpoint.connect_timeout_s,
            sock_read=endpoint.read_timeout_s,
        )
        with translated(f"{method} {url.path}"):
            async with self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                self._note_date(response.headers)
                reply = Reply(
                    response.status, response.headers, await bounded(response, cap)
                )
        if 300 <= reply.status < 400:
            raise MalformedMessage(
                f"{method} {url.path}: answered {reply.status}; a redirect is never"
                " followed (a login page of a proxy?)"
            )
        return reply

    def _note_date(self, headers: Mapping[str, str]) -> None:
        """Remember how far the server's clock is ahead of ours, whole seconds."""
        try:
            date = parsedate_to_datetime(headers.get("Date", ""))
        except (ValueError, OverflowError):  # huge numbers in it overflow
            return
        if date.tzinfo is not None:
            self.clock_offset_s = (date - self._now()).total_seconds()


async def _read_span(path: Path, span: tuple[int, int]) -> AsyncIterator[bytes]:
    """The bytes of a file from ``span[0]`` to ``span[1]``."""
    offset, end = span
    while offset < end:
        piece = await asyncio.to_thread(_read_at, path, offset, min(READ, end - offset))
        offset += len(piece)
        yield piece


def _read_at(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            piece = file.read(size)
    except OSError as e:
        raise SpoolDamaged(f"{path}: {e.strerror}") from e
    if not piece:
        raise SpoolDamaged(f"{path}: expected more bytes after {offset}")
    return piece
