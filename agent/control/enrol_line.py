# SPDX-License-Identifier: Apache-2.0
"""Plain HTTPS to the exchange at which a machine enrols, bounded and without redirects.

What cannot be used becomes an error of the tree, in words for who enrols.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    FepError,
    MalformedMessage,
    ProxyRefused,
)
from agent.model.proxy import Proxy
from agent.wire import problem

ANSWER_CAP = 8 * 1024 * 1024
"""Most bytes of an answer; a directory is the largest."""


@dataclass(frozen=True)
class Target:
    """Which exchange, and as whom.

    Args:
        node: ``<USCC>/<name>``.
        url: base of the exchange, ``https://host:port``.
        aud: id of the exchange.
        ca_sha256: lower hex of the CA certificate's DER; from the slip.
        kid: of the exchange's receipt key; from the slip.
        clock_tolerance_s: most seconds that the two clocks may differ.
        connect_timeout_s: seconds.
        read_timeout_s: seconds without a byte.
        proxy: on the way, or None.
    """

    node: str
    url: str
    aud: str
    ca_sha256: str
    kid: str
    clock_tolerance_s: float
    connect_timeout_s: float
    read_timeout_s: float
    proxy: Proxy | None = None


def trusting(ca: Path) -> ssl.SSLContext:
    """TLS that trusts the pinned CA and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    return context


class Line:
    """Requests to one exchange; what cannot be used becomes an error of the tree."""

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._url = target.url.rstrip("/")
        self._proxy: dict[str, Any] = {}
        if target.proxy is not None:
            self._proxy = {
                "proxy": target.proxy.url,
                "proxy_headers": target.proxy.headers(),
            }
        self.status = 0
        self.date: datetime | None = None
        self.retry_after_s = 0.0

    async def get(self, path: str) -> bytes:
        """The body of a GET that succeeded."""
        return await self._ask("GET", path, None, {})

    async def post(
        self, path: str, body: bytes, *, kind: str, login: str | None = None
    ) -> bytes:
        """The body of a POST that succeeded.

        Args:
            path: of the route.
            body: to send.
            kind: the Content-Type.
            login: the Authorization header, or None.
        """
        headers = {"Content-Type": kind}
        if login is not None:
            headers["Authorization"] = login
        if kind == "application/pkcs10":
            headers["Content-Transfer-Encoding"] = "base64"
        return await self._ask("POST", path, body, headers)

    async def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> bytes:
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                **self._proxy,
            ) as answer:
                text = await answer.content.read(ANSWER_CAP + 1)
                while not answer.content.at_eof() and len(text) <= ANSWER_CAP:
                    text += await answer.content.read(ANSWER_CAP)
                self._note(answer)
        except aiohttp.ClientHttpProxyError as e:  # it holds our login: not passed on
            said = f"{self._url}: the proxy answered {e.status}"
            raise ProxyRefused(said) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise _translated(e, self._url) from e
        if len(text) > ANSWER_CAP:
            raise MalformedMessage(f"{path}: expected at most {ANSWER_CAP} bytes")
        if self.status not in (200, 201, 202, 204):
            raise self._refusal(text, path)
        return text

    def _refusal(self, text: bytes, path: str) -> FepError:
        wait = self.retry_after_s or None
        try:
            said = problem.parse(text, status=self.status)
        except MalformedMessage:
            code = f"http-{self.status}"
            return ExchangeRefused(path, problem=code, retry_after=wait)
        return ExchangeRefused(
            said.detail,
            problem=said.code,
            retry_after=wait,
            members=dict(said.members),
        )

    def _note(self, answer: aiohttp.ClientResponse) -> None:
        self.status = answer.status
        self.date = date_of(answer.headers.get("Date", ""))
        wait = answer.headers.get("Retry-After", "")
        self.retry_after_s = float(wait) if wait.isdecimal() else 0.0


def date_of(text: str) -> datetime | None:
    """An instant; None for nonsense and for a time without its zone."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # huge numbers in it overflow
        return None
    return found if found.tzinfo is not None else None


@asynccontextmanager
async def session(target: Target, tls: ssl.SSLContext) -> AsyncIterator[Line]:
    """A line to an exchange, with the trust and the identity of a TLS context."""
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=target.connect_timeout_s,
        sock_read=target.read_timeout_s,
    )
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,  # a few bytes of a stranger could become gigabytes
    ) as session:
        yield Line(session, target)


def _translated(fault: Exception, url: str) -> FepError:
    """The error of the tree for a fault of TLS or of the line."""
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return ExchangeUntrusted(
            f"{url}: {_certificate_fault(fault.certificate_error)}"
        )
    if isinstance(fault, aiohttp.ClientSSLError):
        return ExchangeUntrusted(f"{url}: TLS failed: {type(fault.os_error).__name__}")
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return ExchangeUnreachable(f"{url}: {text}")


def _certificate_fault(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return f"certificate: {type(error).__name__}"
