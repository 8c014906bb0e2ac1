# SPDX-License-Identifier: Apache-2.0
"""A closed load over HTTP: so many connections, each waits for its answer.

One thread, non-blocking sockets, no HTTP library: on two cores the client must not cost
more than what it measures. Every request is sent once; an answer that is not 200 is an
error and is counted, never hidden in the rate.
"""

from __future__ import annotations

import gc
import selectors
import socket
import ssl
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_CHUNK = 1 << 14  # a TLS record; malloc asks the kernel for a longer buffer


@dataclass(frozen=True)
class Target:
    """Where requests go.

    Args:
        host: address.
        port: TCP port.
        path: of the request line.
        method: of the request line.
        media_type: of the bodies.
        tls: None for plain HTTP.
    """

    host: str
    port: int
    path: str
    method: str = "POST"
    media_type: str = "application/jose"
    tls: ssl.SSLContext | None = None

    def request(self, body: bytes, *, path: str | None = None) -> bytes:
        """A whole request."""
        head = (
            f"{self.method} {path or self.path} HTTP/1.1\r\n"
            f"Host: {self.host}:{self.port}\r\n"
        )
        if body:
            head += (
                f"Content-Type: {self.media_type}\r\nContent-Length: {len(body)}\r\n"
            )
        return head.encode() + b"\r\n" + body


@dataclass(frozen=True)
class Load:
    """What was measured.

    Args:
        seconds: from the first request to the last answer.
        answers: answers with status 200.
        errors: all others, and broken connections.
        latencies_ms: of every 200, sorted.
        bodies: every n-th body, to be looked at afterwards.
    """

    seconds: float
    answers: int
    errors: int
    latencies_ms: Sequence[float] = field(repr=False)
    bodies: Sequence[tuple[int, bytes]] = field(repr=False)

    def figures(self) -> dict[str, Any]:
        """The published form."""
        found = self.latencies_ms
        return {
            "lookups_per_s": round(self.answers / self.seconds),
            "p50_ms": round(statistics.median(found), 2) if found else None,
            "p99_ms": round(found[int(len(found) * 0.99)], 2) if found else None,
            "answers": self.answers,
            "errors": self.errors,
        }


class _Line:
    """One connection: what it sent last and what has come of the answer."""

    def __init__(self, target: Target) -> None:
        raw = socket.create_connection((target.host, target.port), timeout=30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock: socket.socket = raw
        if target.tls is not None:
            self.sock = target.tls.wrap_socket(raw, server_hostname=target.host)
        self.sock.setblocking(False)
        self.number = -1
        self.sent_at = 0.0
        self._out = memoryview(b"")
        self._in = bytearray()
        self._need = -1

    def send(self, number: int, request: bytes) -> None:
        """Begin a request."""
        self.number, self.sent_at = number, time.perf_counter()
        self._out, self._need = memoryview(request), -1
        self._in.clear()
        self.push()

    def push(self) -> None:
        """Send what is left."""
        while self._out:
            try:
                self._out = self._out[self.sock.send(self._out) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return

    @property
    def sending(self) -> bool:
        """Whether something is left to send."""
        return bool(self._out)

    def pull(self) -> tuple[int, bytes] | None:
        """(status, body) once the answer is whole."""
        while True:
            try:
                piece = self.sock.recv(_CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return None
            if not piece:
                raise ConnectionError("closed before its answer")
            self._in += piece
            if (whole := self._whole()) is not None:
                return whole

    def _whole(self) -> tuple[int, bytes] | None:
        end = self._in.find(b"\r\n\r\n")
        if end < 0:
            return None
        if self._need < 0:
            head = bytes(self._in[:end]).lower()
            at = head.find(b"content-length:")
            if at >= 0:
                self._need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            elif b"transfer-encoding: chunked" not in head:
                raise ConnectionError("an answer without a length")
        if self._need < 0:
            if not self._in.endswith(b"\r\n0\r\n\r\n"):
                return None
            return int(self._in[9:12]), bytes(self._in[end + 4 :])
        if len(self._in) < self._need:
            return None
        return int(self._in[9:12]), bytes(self._in[end + 4 : self._need])


def run(
    target: Target, requests: Sequence[bytes], *, connections: int, keep_every: int
) -> Load:
    """Send every request once over so many connections.

    Args:
        target: where to.
        requests: whole requests, from :meth:`Target.request`.
        connections: requests in flight.
        keep_every: every so many-th body is kept.
    """
    lines = [_Line(target) for _ in range(connections)]
    found, bodies, errors = [], [], 0
    left = iter(enumerate(requests))
    gc.collect()
    gc.freeze()  # else our own collector's pauses are measured
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        waiting = sum(_next(line, left, selector, new=True) for line in lines)
        while waiting:
            for key, _ in selector.select(timeout=30):
                line: _Line = key.data
                if line.sending:
                    line.push()
                    _listen(line, selector)
                    continue
                try:
                    answer = line.pull()
                except ConnectionError:
                    errors += 1
                    waiting -= 1
                    selector.unregister(line.sock)
                    continue
                if answer is None:
                    continue
                status, body = answer
                if status == 200:
                    found.append((time.perf_counter() - line.sent_at) * 1000)
                    if line.number % keep_every == 0:
                        bodies.append((line.number, body))
                else:
                    errors += 1
                waiting -= not _next(line, left, selector, new=False)
        seconds = time.perf_counter() - began
    for line in lines:
        line.sock.close()
    found.sort()
    return Load(seconds, len(found), errors, found, bodies)


def _next(
    line: _Line, left: Any, selector: selectors.BaseSelector, *, new: bool
) -> bool:
    """Give a connection its next request; False if there is none."""
    number, request = next(left, (-1, b""))
    if number < 0:
        if not new:
            selector.unregister(line.sock)
        return False
    line.send(number, request)
    if new:
        selector.register(line.sock, selectors.EVENT_READ, line)
    _listen(line, selector)
    return True


def _listen(line: _Line, selector: selectors.BaseSelector) -> None:
    wanted = selectors.EVENT_READ
    if line.sending:
        wanted |= selectors.EVENT_WRITE
    if selector.get_key(line.sock).events != wanted:
        selector.modify(line.sock, wanted, line)
