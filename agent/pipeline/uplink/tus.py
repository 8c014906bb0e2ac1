# SPDX-License-Identifier: Apache-2.0
"""Bring a file to the exchange by tus 1.0, in pieces that fit the line (wire.md §3).

Rules

1. A cut, or a server that is busy, leaves the Location behind, and the next try goes on
   from there: GET the receipt, then HEAD the Location, else begin anew.
2. As long as a try brings the file forward, a cut is followed by another try at once.
   One that brings nothing ends the upload; the caller comes again later.
3. A Location belongs to the address that gave it. At another one the file begins anew.
4. That of a file in pieces is kept before the first piece leaves, so that the next life
   of the daemon goes on from there, too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from yarl import URL

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    MalformedMessage,
    SpoolDamaged,
)
from agent.model.batch import BatchId
from agent.pipeline.uplink.calls import Calls, Request
from agent.pipeline.uplink.line import PIECE_MIN, READ, Line, Sample
from agent.pipeline.uplink.reply import Reply, done, expect, offset_of, receipt_of
from agent.pipeline.uplink.ways import Ways

TUS = "1.0.0"
ONE_POST = PIECE_MIN
"""Largest file that travels in the POST that creates it, bytes."""
AGAIN_S = (0.0, 0.25, 1.0)
"""Pauses before the tries that follow a cut, seconds; the first where the last try
brought the file forward."""

Receipt = Callable[[int, BatchId], Awaitable[str | None]]
"""The newest receipt of a batch, asked at an address."""


class Places(Protocol):
    """Where uploads were begun, over restarts; called off the event loop."""

    def find(self, batch: BatchId) -> str | None:
        """The Location of an upload of this batch, or None."""
        ...

    def keep(self, batch: BatchId, location: str) -> None:
        """An upload of this batch has this Location."""
        ...


class Nowhere:
    """Forgets with the process."""

    def find(self, _: BatchId) -> str | None:
        """Nothing is known."""
        return None

    def keep(self, batch: BatchId, location: str) -> None:
        """Nothing is kept."""


@dataclass
class _File:
    """A batch on its way; ``known`` is the most that the server ever said to have."""

    path: Path
    size: int
    batch: BatchId
    moved: Callable[[], None]
    known: int = 0

    def has(self, offset: int) -> None:
        """The server says that it has so much."""
        if offset > self.known:
            self.known = offset
            self.moved()


@dataclass
class _Piece:
    """A part of a file that is being sent; ``fed`` once all of it is handed over."""

    path: Path
    begin: int
    end: int
    fed: float = 0.0


class Tus:
    """Uploads; one of each batch at a time.

    Args:
        calls: how requests are made.
        ways: where to.
        line: how fast, and how to wait.
        batches: path of the receiver.
        receipt: asks for a receipt.
        places: where uploads of an earlier life go on.
    """

    def __init__(
        self,
        calls: Calls,
        ways: Ways,
        line: Line,
        *,
        batches: str,
        receipt: Receipt,
        places: Places,
    ) -> None:
        self._places = places
        self._calls = calls
        self._ways = ways
        self._line = line
        self._batches = batches
        self._receipt = receipt
        self._locations: dict[BatchId, URL] = {}
        self._cut: set[BatchId] = set()

    async def upload(
        self, path: Path, size: int, *, batch: BatchId, moved: Callable[[], None]
    ) -> str | None:
        """Bring a file to its end; see :meth:`Exchange.upload`."""
        file = _File(path, size, batch, moved)
        await self._recall(file)
        with self._line.uploading():
            failures = 0
            while True:
                before = file.known
                try:
                    return await self._once(file)
                except ExchangeUnreachable:
                    failures = 0 if file.known > before else failures + 1
                    if batch not in self._locations or failures >= len(AGAIN_S):
                        raise
                await self._line.sleep(AGAIN_S[failures])

    async def _recall(self, file: _File) -> None:
        """Remember where an earlier life was cut; one that is broken is forgotten."""
        if file.size <= ONE_POST or file.batch in self._locations:
            return
        known = await asyncio.to_thread(self._places.find, file.batch)
        if known is not None:
            self._cut.add(file.batch)
            with contextlib.suppress(ValueError):
                location = URL(known)
                location.origin()  # what has none is no Location
                self._locations[file.batch] = location

    async def _once(self, file: _File) -> str | None:
        """One try."""
        way = self._ways.choose()
        try:
            if file.batch in self._cut:
                known = await self._receipt(way, file.batch)
                if known is not None:
                    self._forget(file.batch)
                    return known
            reply = await self._carry(way, file)
        except ExchangeUnreachable:
            self._cut.add(file.batch)
            raise
        except ExchangeRefused as e:
            if _of_the_moment(e):
                self._cut.add(file.batch)
            else:
                self._forget(file.batch)
            raise
        self._forget(file.batch)
        return receipt_of(reply)

    async def _carry(self, way: int, file: _File) -> Reply:
        """From wherever it stands to the end; the last reply."""
        location = self._locations.get(file.batch)
        if location is not None and location.origin() == self._ways.url(way).origin():
            offset = await self._offset(way, location, file)
            if offset is not None:
                return await self._pieces(way, file, location, offset)
        self._locations.pop(file.batch, None)
        whole = file.size <= ONE_POST and file.batch not in self._cut
        reply = await self._create(way, file, length=file.size if whole else 0)
        if done(reply, file.size):
            return reply
        location = self._locations[file.batch]
        offset = await self._offset(way, location, file) if whole else 0
        if offset is None:
            raise MalformedMessage("tus: expected the upload just created, got none")
        return await self._pieces(way, file, location, offset)

    async def _create(self, way: int, file: _File, *, length: int) -> Reply:
        headers = {"Upload-Length": str(file.size)}
        if length:
            headers["Content-Type"] = "application/offset+octet-stream"
        url = self._ways.url(way) / self._batches.lstrip("/")
        piece = _Piece(file.path, 0, length)
        reply = await self._send(way, "POST", url, headers, piece)
        expect(reply, 201)
        location = _same_origin(self._ways.url(way), reply)
        self._locations[file.batch] = location
        if file.size > ONE_POST:
            await asyncio.to_thread(self._places.keep, file.batch, str(location))
        return reply

    async def _offset(self, way: int, location: URL, file: _File) -> int | None:
        """How much of an upload the server has; None if it does not know it."""
        reply = await self._send(way, "HEAD", location, {})
        if reply.status in {403, 404, 410}:
            return None
        expect(reply, 200, 204)
        offset = offset_of(reply, most=file.size)
        file.has(offset)
        return offset

    async def _pieces(self, way: int, file: _File, location: URL, offset: int) -> Reply:
        while True:
            size = self._line.piece() if offset else self._line.first()
            end = min(file.size, offset + size)
            reply = await self._patch(way, file, location, (offset, end))
            got = offset_of(reply, most=file.size)
            if got != end:
                raise MalformedMessage(f"tus: expected offset {end}, got {got}")
            offset = got
            file.has(offset)
            if offset == file.size:
                return reply

    async def _patch(
        self, way: int, file: _File, location: URL, span: tuple[int, int]
    ) -> Reply:
        headers = {
            "Upload-Offset": str(span[0]),
            "Content-Type": "application/offset+octet-stream",
        }
        piece, began = _Piece(file.path, *span), self._line.clock()
        reply = await self._send(way, "PATCH", location, headers, piece)
        if reply.status in {404, 409, 410, 423, 460}:
            raise ExchangeUnreachable(
                f"tus: PATCH answered {reply.status}; asking anew"
            )
        expect(reply, 204)
        if span[1] < file.size:  # the last one is answered once all is judged
            ended = self._line.clock()
            self._line.learn(Sample(span[1] - span[0], began, piece.fed, ended))
        return reply

    def _forget(self, batch: BatchId) -> None:
        self._locations.pop(batch, None)
        self._cut.discard(batch)

    async def _send(
        self,
        way: int,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        piece: _Piece | None = None,
    ) -> Reply:
        length = 0 if piece is None else piece.end - piece.begin
        sent = {"Tus-Resumable": TUS, **headers}
        if method != "HEAD":
            sent["Content-Length"] = str(length)
        body = None if piece is None or not length else self._feed(piece)
        patience_s = length / self._line.slowest
        request = Request(method, url, sent, body, patience_s=patience_s)
        return await self._calls.send(way, request)

    async def _feed(self, piece: _Piece) -> AsyncIterator[bytes | memoryview]:
        """The bytes of a piece, as fast as the line may be used."""
        offset = piece.begin
        while offset < piece.end:
            wanted = min(READ, piece.end - offset)
            data = await asyncio.to_thread(_read_at, piece.path, offset, wanted)
            offset += len(data)
            view = memoryview(data)
            while view:
                size = min(len(view), self._line.slice())
                await self._line.let(size)
                yield view[:size]
                view = view[size:]
        piece.fed = self._line.clock()


def _of_the_moment(error: ExchangeRefused) -> bool:
    """Whether the server may still have what it got: it is busy, or a proxy spoke."""
    return error.problem in {"busy", "held"} or error.problem.startswith("http-5")


def _same_origin(base: URL, reply: Reply) -> URL:
    text = reply.headers.get("Location", "")
    try:
        location = base.join(URL(text))
        same = location.origin() == base.origin()
    except ValueError:
        same = False
    if not text or len(text) > 2048 or not same:
        raise MalformedMessage("tus: expected a Location of the same origin")
    return location


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
