# SPDX-License-Identifier: Apache-2.0
"""A provider that is reached at its own listener, ``POST /v1/lookups``.

The exchange shows the certificate ``fep:exchange/<aud>`` there and speaks to the node
itself only: the handshake fails if another one answers. No redirect is followed.
"""

from __future__ import annotations

import ssl
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from agent.errors import MalformedMessage
from agent.wire import problem
from agent.wire.channel import IN_FLIGHT
from agent.wire.lookup import REPLY_CAP
from sandbox.doors import Answer, Unreached

_PATH = "/v1/lookups"
_HEADERS = {"Content-Type": "application/jose"}
_CONNECT_S = 5.0


def check_url(url: str) -> str:
    """An ``https://host:port`` without anything else.

    Raises:
        MalformedMessage: something else.
    """
    try:
        found = urlsplit(url)
        good = found.scheme == "https" and found.port is not None
    except ValueError:
        good = False
    if not good or found.netloc.count("@") or url != f"https://{found.netloc}":
        raise MalformedMessage("url: expected https://host:port")
    return url


class Listener:
    """The door of one node's listener.

    Args:
        url: base of the listener.
        tls: a context that accepts this one node.
    """

    def __init__(self, url: str, tls: ssl.SSLContext) -> None:
        self.url = check_url(url)
        connector = aiohttp.TCPConnector(ssl=tls, limit=IN_FLIGHT)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def ask(self, body: str) -> Answer:
        """See :class:`~sandbox.doors.Door`."""
        try:
            async with self._session.post(
                self.url + _PATH,
                data=body.encode("ascii"),
                headers=_HEADERS,
                allow_redirects=False,
            ) as response:
                return await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            detail = f"the provider's listener: {type(e).__name__}"
            raise Unreached("no-channel", detail) from e
        except MalformedMessage as e:
            detail = "the provider's listener answers something else"
            raise Unreached("no-channel", detail) from e

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        """For ``async with``."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _read(response: aiohttp.ClientResponse) -> Answer:
    cap = REPLY_CAP if response.status == 200 else problem.CAP
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > cap:
            raise MalformedMessage(f"answer: expected at most {cap} bytes")
    if response.status != 200:
        return problem.parse(bytes(data), status=response.status)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as e:
        raise MalformedMessage("answer: expected ASCII") from e
