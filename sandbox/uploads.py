# SPDX-License-Identifier: Apache-2.0
"""Unfinished uploads on disk: bytes, offset, digest, and the verdict on line 1.

An upload is one file ``uploads/<id>.<length>.<certificate>``: its name carries what
creation fixed, its size is the offset, so that nothing else has to survive a kill. The
judgement on line 1 and the digest are made again from the bytes after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from agent.wire.batch import LINE_CAP
from agent.wire.problem import Problem
from sandbox.accept import Offer, Refuse, Verdict
from sandbox.cutting import cut
from sandbox.desk import sync_folder

_NAME = re.compile(r"([0-9a-f]{32})\.([0-9]{1,12})\.([0-9a-f]{64})")
_READ = 1 << 20

Judge = Callable[[Offer], Verdict]


@dataclass(frozen=True)
class Ticket:
    """What creation fixed.

    Args:
        id: 32 hex digits, opaque to the client.
        length: ``Upload-Length``.
        certificate: SHA-256 of the client's certificate; nobody else finds the upload.
        node: of the certificate; not kept on disk.
    """

    id: str
    length: int
    certificate: str
    node: str

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.id}.{self.length}.{self.certificate}"


class Upload:
    """One upload: bytes are appended in order, one request at a time."""

    def __init__(self, ticket: Ticket, path: Path, judge: Judge) -> None:
        self.ticket = ticket
        self.path = path
        self.offset = 0
        self.over = False
        self.lock = asyncio.Lock()
        self.request: web.BaseRequest | None = None
        self.verdict: Verdict | None = None
        self._judge = judge
        self._head = bytearray()
        self._digest = hashlib.sha256()

    @property
    def whole(self) -> bool:
        """Whether every byte is in."""
        return self.offset == self.ticket.length

    @property
    def content_digest(self) -> str:
        """Digest of the payload so far."""
        return "sha256:" + self._digest.hexdigest()

    def feed(self, chunk: bytes) -> None:
        """Count, digest and, as soon as line 1 is in, judge bytes already written."""
        self.offset += len(chunk)
        if self.verdict is not None:
            self._digest.update(chunk)
            return
        self._head += chunk
        end = self._head.find(b"\n", 0, LINE_CAP)
        if end < 0 and len(self._head) < LINE_CAP:
            if self.whole:
                self.verdict = Refuse(Problem.of("malformed", "line 1 has no LF"))
            return
        line = bytes(self._head[: end if end >= 0 else LINE_CAP])
        self.verdict = self._judge(
            Offer(line, length=self.ticket.length, node=self.ticket.node)
        )
        self._digest.update(self._head[end + 1 :] if end >= 0 else b"")
        self._head.clear()

    def replay(self) -> None:
        """Feed what an earlier process had written."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
            while chunk := file.read(_READ):
                self.feed(chunk)

    def take_over(self) -> None:
        """Cut the request that holds the upload, which may be dead."""
        if self.request is not None:
            cut(self.request)


class Uploads:
    """The folder of unfinished uploads."""

    def __init__(self, folder: Path, judge: Judge, *, life_s: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._judge = judge
        self._life_s = life_s
        self._open: dict[str, Upload] = {}

    def create(self, *, length: int, certificate: str, node: str) -> Upload:
        """A new, empty, durable upload."""
        ticket = Ticket(secrets.token_hex(16), length, certificate, node)
        path = self._folder / ticket.name
        path.touch(mode=0o600, exist_ok=False)
        upload = Upload(ticket, path, self._judge)
        self._open[ticket.id] = upload
        return upload

    def find(self, key: str, *, certificate: str, node: str) -> Upload | None:
        """An upload of this certificate, also one that an earlier process began."""
        upload = self._open.get(key)
        if upload is None and (path := self._on_disk(key)) is not None:
            match = _NAME.fullmatch(path.name)
            if match is not None and match[3] == certificate:
                ticket = Ticket(match[1], int(match[2]), match[3], node)
                upload = Upload(ticket, path, self._judge)
                upload.replay()
                self._open[key] = upload
        if upload is None or upload.ticket.certificate != certificate:
            return None
        return upload

    def _on_disk(self, key: str) -> Path | None:
        found = list(self._folder.glob(f"{key}.*")) if key.isalnum() else []
        return found[0] if found else None

    def forget(self, upload: Upload) -> None:
        """The upload is over; its file goes if it is still here."""
        upload.over = True
        self._open.pop(upload.ticket.id, None)
        upload.path.unlink(missing_ok=True)

    def end(self, upload: Upload) -> float:
        """When an upload will expire, seconds since 1970."""
        return upload.path.stat().st_mtime + self._life_s

    def expire(self, *, now: float) -> int:
        """Remove uploads that nobody has written to for too long.

        Args:
            now: seconds since 1970, as file times have them.

        Returns:
            How many were removed.
        """
        gone = 0
        for path in self._folder.iterdir():
            if now - path.stat().st_mtime > self._life_s:
                upload = self._open.pop(path.name.partition(".")[0], None)
                if upload is not None:
                    upload.over = True
                    upload.take_over()
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def sync(self) -> None:
        """Make the names of uploads durable."""
        sync_folder(self._folder)
