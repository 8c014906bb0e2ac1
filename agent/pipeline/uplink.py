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
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Self

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from agent.errors import (
    ConfigInvalid,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    SpoolDamaged,
)
from agent.model.batch import BatchId
from agent.wire import position, problem, receipt, reconcile

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
class Endpoint:
    """Where the exchange is and who we are.

    Args:
        url: base, ``https://host[:port]``.
        ca_file: the pinned CA certificate, PEM.
        cert_file: our certificate, PEM, or None before enrolment.
        key_file: its private key, PEM, or None before enrolment.
        connect_timeout_s: for a connection with its handshake.
        read_timeout_s: for an answer, once the request is out.
        batches: path of the tus receiver.
        unsafe_plain_http: take ``http://`` too; for tests with foreign servers.
    """

    url: str
    ca_file: Path | None
    cert_file: Path | None = None
    key_file: Path | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    batches: str = "/v1/batches"
    unsafe_plain_http: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer, read up to its cap."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


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
        return _text(_expect(reply, 200))

    async def receipt(self, batch: BatchId) -> str | None:
        """The newest receipt of a batch, or None if the exchange has none."""
        query = {
            "resource": batch.resource,
            "epoch": str(batch.epoch),
            "seq": str(batch.seq),
        }
        reply = await self._ask("GET", "/v1/receipt", query, cap=SMALL_CAP)
        return None if reply.status == 404 else _text(_expect(reply, 200))

    async def put_catalog(self, statement: str) -> None:
        """Make a catalog statement known."""
        body = statement.encode("ascii")
        _expect(await self._ask("PUT", "/v1/catalog", body=body), 200, 201)

    async def keys(self, statement: str) -> None:
        """Make a key statement known."""
        body = statement.encode("ascii")
        _expect(await self._ask("POST", "/v1/keys", body=body), 200, 201, 204)

    async def directory(self) -> str:
        """The signed directory."""
        reply = await self._ask("GET", "/v1/directory", cap=DIRECTORY_CAP)
        return _text(_expect(reply, 200))

    async def reconcile(self, request: str) -> str:
        """The signed reply to a signed reconcile request."""
        body = request.encode("ascii")
        cap = reconcile.RESPONSE_CAP
        reply = await self._ask("POST", "/v1/reconcile", body=body, cap=cap)
        return _text(_expect(reply, 200))

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
        return _receipt_of(reply)

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
        if _done(reply, file.size):
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
        _expect(reply, 201)
        self._locations[file.batch] = self._same_origin(reply)
        return reply

    async def _offset(self, location: URL, size: int) -> int | None:
        """How much of an upload the server has; None if it does not know it."""
        reply = await self._tus("HEAD", location, {})
        if reply.status in {403, 404, 410}:
            return None
        _expect(reply, 200, 204)
        return _offset_of(reply, most=size)

    async def _pieces(self, file: _File, location: URL, offset: int) -> Reply:
        while True:
            end = min(file.size, offset + self._piece(offset))
            reply = await self._patch(file, location, (offset, end))
            got = _offset_of(reply, most=file.size)
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
        return _expect(reply, 204)

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
                    response.status, response.headers, await _bounded(response, cap)
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


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """TLS 1.2 or later, the pinned CA alone, our certificate if there is one.

    Raises:
        ConfigInvalid: the URL is not https, or a file cannot be used.
    """
    scheme = URL(endpoint.url).scheme
    if scheme == "http" and endpoint.unsafe_plain_http:
        return True
    if scheme != "https" or endpoint.ca_file is None:
        raise ConfigInvalid(f"exchange.url: expected https://..., got {endpoint.url}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=endpoint.ca_file)
    except OSError as e:
        raise ConfigInvalid(f"{endpoint.ca_file}: not a CA certificate: {e}") from e
    if endpoint.cert_file is not None:
        try:
            context.load_cert_chain(endpoint.cert_file, endpoint.key_file)
        except OSError as e:
            raise ConfigInvalid(
                f"{endpoint.cert_file}, {endpoint.key_file}: not a certificate and its"
                f" key: {e}"
            ) from e
    return context


# --- foreign exceptions -------------------------------------------------------------

_VERIFY = {
    9: "not valid yet; check this machine's clock",
    10: "expired; check this machine's clock",
    18: "signed by itself, not by the pinned CA",
    19: "signed by another CA than the pinned one",
    20: "signed by another CA than the pinned one",
    21: "signed by another CA than the pinned one",
    62: "made out for another name",
    64: "made out for another address",
}
"""OpenSSL's verify codes (x509_vfy.h) in words."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn exceptions of aiohttp and ssl into ours.

    Args:
        what: the request, for the detail.

    Raises:
        ExchangeUntrusted: certificates or the handshake.
        ExchangeUnreachable: anything else of the line.
    """
    try:
        yield
    except (aiohttp.ClientError, OSError) as e:  # OSError has ssl's and TimeoutError
        for cause in _causes(e):
            if isinstance(cause, SpoolDamaged):
                raise cause from None
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NOT_TLS):
                # TLS 1.3 tells what it thinks of our certificate in place of an answer
                raise ExchangeUntrusted(f"{what}: {_handshake(cause)}") from e
        raise ExchangeUnreachable(f"{what}: {_line(e)}") from e


def _line(error: Exception) -> str:
    """What is wrong with the line."""
    match error:
        case aiohttp.ClientConnectorDNSError(host=host):
            return f"no address for {host}"
        case aiohttp.ClientConnectorError(host=host, port=port, os_error=reason):
            return f"{host}:{port}: {reason.strerror or type(reason).__name__}"
        case aiohttp.ConnectionTimeoutError():
            return "no connection within the timeout"
        case TimeoutError():
            return "no answer within the timeout"
        case _:
            return f"cut ({type(error).__name__})"


_NOT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, aiohttp.ClientError)
"""Ends of the line, and aiohttp's own wrappers, which lose the reason."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the last first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _handshake(error: ssl.SSLError) -> str:
    """What is wrong with the certificates or the handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _VERIFY.get(error.verify_code, error.verify_message)
        return f"the exchange's certificate is {words}"
    reason = (error.reason or "unknown").lower().replace("_", " ")
    if "alert" in reason and "certificate" in reason:
        return f"the exchange refused our certificate ({reason})"
    return f"TLS failed ({reason})"


# --- replies --------------------------------------------------------------------------


async def _bounded(response: aiohttp.ClientResponse, cap: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > cap:
            response.close()
            raise MalformedMessage(
                f"{response.method} {response.url.path}: expected at most {cap} bytes"
            )
    return bytes(body)


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


def _expect(reply: Reply, *statuses: int) -> Reply:
    """The reply, if its status is one of these.

    Raises:
        ExchangeRefused: another status; the problem is the document's, if there is one.
    """
    if reply.status in statuses:
        return reply
    wait = _retry_after(reply.headers.get("Retry-After"))
    try:
        found = problem.parse(reply.body[: problem.CAP], status=reply.status)
    except MalformedMessage:
        raise ExchangeRefused(
            f"expected {statuses[0]}, got {reply.status} without a problem document",
            problem=f"http-{reply.status}",
            retry_after=wait,
        ) from None
    raise ExchangeRefused(
        found.detail[:256],
        problem=found.code,
        retry_after=wait,
        members=dict(found.members),
    )


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header; dates and nonsense count as none."""
    if text is None or not text.isdecimal() or len(text) > 9:
        return None
    return float(text)


def _text(reply: Reply) -> str:
    try:
        return reply.body.decode("ascii")
    except UnicodeDecodeError as e:
        raise MalformedMessage("expected a compact JWS, got other bytes") from e


def _offset_of(reply: Reply, *, most: int) -> int:
    text = reply.headers.get("Upload-Offset", "")
    if not text.isdecimal() or len(text) > 15 or int(text) > most:
        raise MalformedMessage(f"tus: expected Upload-Offset up to {most}")
    return int(text)


def _done(reply: Reply, size: int) -> bool:
    """Whether a creation with body took everything."""
    if "Fep-Receipt" in reply.headers:
        return True
    return reply.headers.get("Upload-Offset") == str(size)


def _receipt_of(reply: Reply) -> str | None:
    text = reply.headers.get("Fep-Receipt")
    if text is not None and len(text) > receipt.CAP:
        raise MalformedMessage(f"Fep-Receipt: expected at most {receipt.CAP} bytes")
    return text
