# SPDX-License-Identifier: Apache-2.0
"""What the exchange answers: read up to a cap, and taken apart without trust."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDictProxy

from agent.errors import ExchangeRefused, MalformedMessage
from agent.wire import problem, receipt


@dataclass(frozen=True)
class Reply:
    """An answer, read up to its cap."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


async def bounded(response: aiohttp.ClientResponse, cap: int) -> bytes:
    """A body of at most ``cap`` bytes; a longer one ends the connection."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > cap:
            response.close()
            raise MalformedMessage(
                f"{response.method} {response.url.path}: expected at most {cap} bytes"
            )
    return bytes(body)


def is_page(reply: Reply) -> bool:
    """Whether it is meant for a person's browser."""
    kind = reply.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in {"text/html", "application/xhtml+xml"}


def expect(reply: Reply, *statuses: int) -> Reply:
    """The reply, if its status is one of these.

    Raises:
        ExchangeRefused: another status; the problem is the document's, if there is one.
    """
    if reply.status in statuses:
        return reply
    raise refusal(reply)


def refusal(reply: Reply) -> ExchangeRefused:
    """What a reply that is not as expected says."""
    wait = _retry_after(reply.headers.get("Retry-After"))
    try:
        found = problem.parse(reply.body[: problem.CAP], status=reply.status)
    except MalformedMessage:
        return ExchangeRefused(
            f"got {reply.status} without a problem document",
            problem=f"http-{reply.status}",
            retry_after=wait,
        )
    return ExchangeRefused(
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


def text_of(reply: Reply) -> str:
    """The body as compact JWS; nobody has verified it."""
    try:
        return reply.body.decode("ascii")
    except UnicodeDecodeError as e:
        raise MalformedMessage("expected a compact JWS, got other bytes") from e


def offset_of(reply: Reply, *, most: int) -> int:
    """How many bytes of an upload the server says it has, at most ``most``."""
    text = reply.headers.get("Upload-Offset", "")
    if not text.isdecimal() or len(text) > 15 or int(text) > most:
        raise MalformedMessage(f"tus: expected Upload-Offset up to {most}")
    return int(text)


def done(reply: Reply, size: int) -> bool:
    """Whether a creation with body took everything."""
    if "Fep-Receipt" in reply.headers:
        return True
    return reply.headers.get("Upload-Offset") == str(size)


def receipt_of(reply: Reply) -> str | None:
    """The receipt in the header of a finished upload, if there is one."""
    text = reply.headers.get("Fep-Receipt")
    if text is not None and len(text) > receipt.CAP:
        raise MalformedMessage(f"Fep-Receipt: expected at most {receipt.CAP} bytes")
    return text
