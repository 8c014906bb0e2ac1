# SPDX-License-Identifier: Apache-2.0
"""Both ends of a relayed lookup, by hand: they share no code with agent or sandbox.

Messages are sealed here with ``cryptography`` from wire.md alone (ECDH-ES+A256KW,
A256GCM), so that a misunderstanding that agent and sandbox share is seen.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from tests.support.exchange_client import Key, Node, b64, digest, payload, unb64

REQUEST = "fep-lookup-req+jws"
REPLY = "fep-lookup-res+jws"
STEP = 65_536


# --- sealing ----------------------------------------------------------------------


def padded(size: int) -> int:
    """Bytes of a padded message."""
    for step in (1024, 4096, 16_384, STEP):
        if size <= step:
            return step
    return -(-size // STEP) * STEP


def _kek(secret: bytes) -> bytes:
    alg = b"ECDH-ES+A256KW"
    info = struct.pack(">I", len(alg)) + alg + bytes(8) + struct.pack(">I", 256)
    return hashlib.sha256(struct.pack(">I", 1) + secret + info).digest()


def seal(text: str, to: dict[str, str], *, iss: str, aud: str, **header: Any) -> str:
    """A compact JWE; header members may be replaced or added, None removes one."""
    one_time = Key("decrypt")
    kid = hashlib.sha256(
        json.dumps(
            {n: to[n] for n in ("crv", "kty", "x", "y")}, separators=(",", ":")
        ).encode()
    ).digest()
    members: dict[str, Any] = {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "kid": b64(kid),
        "epk": {n: one_time.jwk[n] for n in ("kty", "crv", "x", "y")},
        "cty": REQUEST,
        "iss": iss,
        "aud": aud,
    } | header
    members = {name: value for name, value in members.items() if value is not None}
    x, y = (int.from_bytes(unb64(to[n]), "big") for n in ("x", "y"))
    point = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    kek = _kek(one_time.private.exchange(ec.ECDH(), point))
    head = b64(json.dumps(members).encode())
    plain = text.encode().ljust(padded(len(text)))
    content_key, iv = os.urandom(32), os.urandom(12)
    made = AESGCM(content_key).encrypt(iv, plain, head.encode())
    wrapped = aes_key_wrap(kek, content_key)
    parts = (wrapped, iv, made[:-16], made[-16:])
    return ".".join([head, *(b64(part) for part in parts)])


def unseal(sealed: str, key: Key) -> str:
    """The message inside, without its padding."""
    head, *rest = sealed.split(".")
    wrapped, iv, text, tag = (unb64(part) for part in rest)
    epk = json.loads(unb64(head))["epk"]
    x, y = (int.from_bytes(unb64(epk[n]), "big") for n in ("x", "y"))
    point = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    kek = _kek(key.private.exchange(ec.ECDH(), point))
    content_key = aes_key_unwrap(kek, wrapped)
    return AESGCM(content_key).decrypt(iv, text + tag, head.encode()).decode().rstrip()


# --- messages ---------------------------------------------------------------------


def uuid7() -> str:
    """A uuid7 of now."""
    number = (int(time.time() * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    number &= ~(0xF << 76) & ~(0x3 << 62)
    text = f"{number | 7 << 76 | 2 << 62:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def question(consumer: Node, provider: str, **changes: Any) -> dict[str, Any]:
    """The members of a request."""
    now = int(time.time())
    return {
        "v": 1,
        "iss": consumer.node,
        "aud": provider,
        "jti": uuid7(),
        "iat": now,
        "exp": now + 60,
        "op": "get",
        "resource": "990100/rk/person",
        "items": [{"keys": {"id": "110101199003070011"}}],
        "fields": ["name"],
        "purpose": "work_reference",
        "basis": "TEST-1",
        "officer": {"id": "9", "auth": "password"},
    } | changes


def asked(consumer: Node, provider: Node, **changes: Any) -> str:
    """A request, signed by the consumer and sealed for the provider."""
    text = consumer.key.sign(REQUEST, question(consumer, provider.node, **changes))
    return seal(text, provider.decrypt.jwk, iss=consumer.node, aud=provider.node)


def answer(request: str, provider: Node, **changes: Any) -> dict[str, Any]:
    """The members of a reply to a signed request: one row, named 张三."""
    body = payload(request)
    return {
        "v": 1,
        "iss": provider.node,
        "aud": body["iss"],
        "jti": uuid7(),
        "irt": body["jti"],
        "req_sha256": digest(request),
        "iat": int(time.time()),
        "status": "ok",
        "results": [
            {
                "i": 0,
                "status": "ok",
                "data": {"name": "张三"},
                "as_of": "2026-11-21T08:00:00Z",
            }
        ],
        "masked": [],
        "policy": {"rev": 1, "rule": "r", "decision_id": uuid7()},
        "reasons": [],
    } | changes


def replied(sealed: str, provider: Node, consumer: Node, **changes: Any) -> str:
    """The provider's reply to a sealed request, signed and sealed."""
    body = answer(unseal(sealed, provider.decrypt), provider, **changes)
    text = provider.key.sign(REPLY, body)
    names = {"iss": provider.node, "aud": consumer.node}
    return seal(text, consumer.decrypt.jwk, **names, cty=REPLY)


def spoken(sealed: str, consumer: Node) -> dict[str, Any]:
    """What a sealed reply says; its signature is not checked."""
    return payload(unseal(sealed, consumer.decrypt))


# --- lines ------------------------------------------------------------------------


@dataclass
class Told:
    """An answer of ``/v1/relay``."""

    status: int
    media_type: str
    body: str
    retry_after: str | None

    @property
    def problem(self) -> tuple[int, str]:
        """Status and code of a problem document."""
        assert self.media_type == "application/problem+json", self
        body = json.loads(self.body)
        assert body["status"] == self.status
        return self.status, str(body["type"].removeprefix("urn:fep:problem:"))


class Caller:
    """A node's connections to the exchange."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self.node = node
        self.session = session
        host, port = node.address
        self.url = f"https://{host}:{port}"

    async def relay(self, body: str | bytes) -> Told:
        """POST a sealed request."""
        async with self.session.post(f"{self.url}/v1/relay", data=body) as response:
            return Told(
                response.status,
                response.content_type,
                await response.text(),
                response.headers.get("Retry-After"),
            )

    def ask(self, body: str | bytes) -> asyncio.Task[Told]:
        """POST a sealed request while the test goes on."""
        return asyncio.create_task(self.relay(body))

    @asynccontextmanager
    async def channel(self, **options: Any) -> AsyncIterator[Provider]:
        """Hold the node's channel."""
        defaults: dict[str, Any] = {"protocols": ("fep.v1",), "max_msg_size": 5 << 20}
        url = f"{self.url}/v1/channel"
        async with self.session.ws_connect(url, **(defaults | options)) as line:
            provider = Provider(self.node, line)
            try:
                yield provider
            finally:
                await line.close()
                with suppress(AttributeError):  # Python 3.11.2, if it was closed twice
                    provider.transport.abort()  # or it waits long for a TLS goodbye


@asynccontextmanager
async def calling(node: Node) -> AsyncIterator[Caller]:
    """A node's connections, closed in the end."""
    connector = aiohttp.TCPConnector(ssl=node.context, limit=0)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Caller(node, session)
    for _ in range(3):  # aborted connections close in the loop's next rounds
        await asyncio.sleep(0)


class Provider:
    """A channel's end: frames come and go as the test says."""

    def __init__(self, node: Node, line: aiohttp.ClientWebSocketResponse) -> None:
        self.node = node
        self.line = line
        connection = line._response.connection
        assert connection is not None
        assert connection.transport is not None
        self.transport = connection.transport

    async def frame(self) -> dict[str, Any]:
        """The next frame; a nudge that comes before is no news."""
        while True:
            text = await self.line.receive_str(timeout=10)
            body: dict[str, Any] = json.loads(text)
            if body["t"] != "nudge":
                return body

    async def send(self, **members: Any) -> None:
        """Send a frame of these members."""
        await self.line.send_str(json.dumps(members))

    async def reply(self, frame: dict[str, Any], consumer: Node, **changes: Any) -> str:
        """Answer a request; the sealed reply."""
        made = replied(frame["body"], self.node, consumer, **changes)
        await self.send(t="res", id=frame["id"], body=made)
        return made

    async def ended(self) -> tuple[int | None, str]:
        """Close code and reason, once the exchange has closed the channel."""
        while True:
            message = await self.line.receive(timeout=10)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, str(message.extra)
            closed = (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING)
            if message.type in closed or message.type is aiohttp.WSMsgType.ERROR:
                return self.line.close_code, ""
