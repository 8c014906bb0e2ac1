# SPDX-License-Identifier: Apache-2.0
"""Where files of the city's TUF repository come from: the exchange, or a folder.

Rules

1. TLS as everywhere: the pinned CA alone, our certificate, the department's proxy.
   No redirect is followed, and a page for people is no file.
2. A whole visit has an end: so many bytes, so many seconds, however slowly they drip.
   The reader bounds each single file.
3. What is read is verified by the caller; nothing is believed here.

It is the standard library's client and blocks: it runs in a thread beside the loop.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from agent.crypto.keys import tls_files
from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    ProxyRefused,
)
from agent.model.proxy import Proxy

VISIT_S = 600.0
"""Longest visit, seconds."""
VISIT_BYTES = 96 * 1024 * 1024
"""Most bytes of a visit."""
CHUNK = 64 * 1024
_ABSENT = (403, 404)
_ENDED = (
    http.client.RemoteDisconnected,
    BrokenPipeError,
    ConnectionResetError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
"""A server has closed a connection that was kept."""
_BUSY = (429, 503)


class Absent(Exception):
    """There is no such file.

    Args:
        path: of it.
        status: of HTTP.
    """

    def __init__(self, path: str, status: int) -> None:
        self.status = status
        super().__init__(f"{path}: {status}")


class Source(Protocol):
    """Files of one published repository."""

    def get(self, path: str) -> Iterator[bytes]:
        """The content of a file, piece by piece.

        Raises:
            Absent: there is none.
            ExchangeUnreachable, ExchangeUntrusted, ExchangeRefused, ProxyRefused,
            MalformedMessage, SecretUnreadable: no file could be had.
        """


@dataclass(frozen=True)
class Folder:
    """A published repository on a disc, or brought by a ferry.

    Args:
        path: the folder with ``metadata`` and ``targets`` in it.
    """

    path: Path

    def get(self, path: str) -> Iterator[bytes]:
        """See :class:`Source`."""
        if ".." in path.split("/"):
            raise Absent(path, 404)
        try:
            fd = os.open(self.path / path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise Absent(path, 404) from None
        except OSError as e:
            raise ExchangeUnreachable(f"{self.path / path}: {e.strerror}") from e
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Absent(path, 404)
        with os.fdopen(fd, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


@dataclass(frozen=True)
class Address:
    """Where the repository is served, and as whom we ask.

    Args:
        url: of the repository, ``https://host[:port]/tuf``.
        ca: the pinned CA's certificate, PEM; None for plain HTTP, which only tests
            with a foreign server have.
        certificate: ours, PEM.
        key: its private key.
        proxy: on the way, or None.
        connect_timeout_s: for a connection with its handshake.
        read_timeout_s: without a byte.
    """

    url: str
    ca: Path | None
    certificate: Path | None = None
    key: Path | None = None
    proxy: Proxy | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0


@contextmanager
def visit(
    address: Address,
    *,
    seconds: float = VISIT_S,
    most: int = VISIT_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Visit]:
    """One visit to an exchange: one connection, kept while it lasts.

    Args:
        address: see there.
        seconds: it ends after so long.
        most: bytes of all files together.
        clock: monotonic seconds.

    Raises:
        ExchangeUntrusted: CA or certificate cannot be used.
        SecretUnreadable: the key.
    """
    made = Visit(address, clock() + seconds, most, clock)
    try:
        yield made
    finally:
        made.close()


class Visit:
    """A :class:`Source` over one connection; see :func:`visit`."""

    def __init__(
        self, address: Address, ends: float, most: int, clock: Callable[[], float]
    ) -> None:
        self._address = address
        self._ends = ends
        self._left = most
        self._clock = clock
        self._base = urlsplit(address.url)
        self._tls = None if address.ca is None else _tls(address)
        self._open: http.client.HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None

    def close(self) -> None:
        """Close the connection, and what was not read of an answer."""
        if self._answer is not None:
            self._answer.close()
        if self._open is not None:
            self._open.close()
            self._open = None

    def get(self, path: str) -> Iterator[bytes]:
        """See :class:`Source`."""
        left_s = self._ends - self._clock()
        if left_s <= 0:
            raise ExchangeUnreachable(f"{path}: the visit took too long")
        watch = threading.Timer(left_s, self.cut)
        watch.daemon = True
        watch.start()
        try:
            yield from self._chunks(path)
        except (ssl.SSLError, http.client.HTTPException, OSError) as e:
            raise self._translated(e, path) from None  # it may hold the proxy's login
        finally:
            watch.cancel()
            if self._answer is None or not self._answer.isclosed():
                self.close()

    def _chunks(self, path: str) -> Iterator[bytes]:
        self._answer = None
        self._answer = answer = self._ask(path)
        self._judge(answer, path)
        while chunk := answer.read1(CHUNK):
            self._left -= len(chunk)
            if self._left < 0:
                raise MalformedMessage(f"{path}: the visit brought too many bytes")
            yield chunk
        if self._clock() >= self._ends:
            raise ExchangeUnreachable(f"{path}: the visit took too long")
        if answer.length:
            self.close()
            raise ExchangeUnreachable(f"{path}: cut, {answer.length} bytes are missing")
        answer.close()  # the connection serves the next one

    def _ask(self, path: str) -> http.client.HTTPResponse:
        """The answer's head; anew if a kept connection had ended meanwhile."""
        kept = self._open is not None
        try:
            return self._asked(path)
        except _ENDED:
            if not kept:
                raise
            self.close()
            return self._asked(path)

    def _asked(self, path: str) -> http.client.HTTPResponse:
        if self._open is None:
            self._open = self._connection()
            _connect(self._open)
            self._open.sock.settimeout(self._address.read_timeout_s)
        target = quote(f"{self._base.path.rstrip('/')}/{path}", safe="/%")
        self._open.request("GET", target, headers={"User-Agent": "fep"})
        return self._open.getresponse()

    def _connection(self) -> http.client.HTTPConnection:
        base, proxy = self._base, self._address.proxy
        wait = self._address.connect_timeout_s
        host, port = base.hostname or "", base.port
        if proxy is not None:
            at = urlsplit(proxy.url)
            to = (at.hostname or "", at.port or 80)
        else:
            to = (host, port or (80 if self._tls is None else 443))
        if self._tls is None:
            return http.client.HTTPConnection(*to, timeout=wait)
        made = http.client.HTTPSConnection(*to, timeout=wait, context=self._tls)
        if proxy is not None:
            made.set_tunnel(host, port or 443, headers=proxy.headers())
        return made

    def _judge(self, answer: http.client.HTTPResponse, path: str) -> None:
        """Let nothing through but a file."""
        if answer.status in _ABSENT:
            answer.read(CHUNK)  # a short page of its own leaves the connection usable
            raise Absent(path, answer.status)
        if 300 <= answer.status < 400:
            said = f"{path}: answered {answer.status}; a redirect is never followed"
            raise MalformedMessage(said)
        if answer.status in _BUSY:
            raise ExchangeUnreachable(f"{path}: answered {answer.status}")
        if answer.status != http.HTTPStatus.OK:
            raise ExchangeRefused(path, problem=f"http-{answer.status}")
        if answer.headers.get_content_type() == "text/html":
            said = f"{path}: a page for people (a login page of a proxy?)"
            raise MalformedMessage(said)

    def cut(self) -> None:
        """End it from another thread: whoever reads gets no more."""
        self._ends = float("-inf")
        opened = self._open
        if opened is not None and opened.sock is not None:
            with suppress(OSError):
                opened.sock.shutdown(socket.SHUT_RDWR)

    def _translated(
        self, fault: Exception, path: str
    ) -> ExchangeUnreachable | ExchangeUntrusted:
        url = self._address.url
        if isinstance(fault, ssl.SSLCertVerificationError):
            return ExchangeUntrusted(f"{url}: certificate: {fault.verify_message}")
        if isinstance(fault, ssl.SSLError) and not isinstance(fault, ssl.SSLEOFError):
            return ExchangeUntrusted(f"{url}: TLS failed: {fault.reason}")
        if str(fault).startswith("Tunnel connection failed"):
            return ProxyRefused(
                f"{url}: the proxy answered {str(fault)[25:80].strip()}"
            )
        said = getattr(fault, "strerror", None) or type(fault).__name__
        return ExchangeUnreachable(f"{url}: {path}: {said}")


def _connect(to: http.client.HTTPConnection) -> None:
    """Connect, and close what a proxy answered; Python before 3.11.4 leaves it open."""
    heads: list[http.client.HTTPResponse] = []

    def head(*args: Any, **named: Any) -> http.client.HTTPResponse:
        heads.append(http.client.HTTPResponse(*args, **named))
        return heads[-1]

    usual, to.response_class = to.response_class, head  # type: ignore[assignment]
    try:
        to.connect()
    finally:
        to.response_class = usual
        for one in heads:
            one.close()


def _tls(address: Address) -> ssl.SSLContext:
    """TLS 1.2 or later, the pinned CA alone, our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=address.ca)
        if address.certificate is not None and address.key is not None:
            context.load_cert_chain(*tls_files(address.certificate, address.key))
    except OSError as e:
        raise ExchangeUntrusted(f"{address.ca}: {type(e).__name__}") from e
    return context
