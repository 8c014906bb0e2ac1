# SPDX-License-Identifier: Apache-2.0
"""What people decide about enrolment, on the admin's socket, HTTP.

================ ===================================================================
POST /codes      ``{"nodes": [...], "hours": ...}``: new one-time codes, and the pins
GET /pending     requests that wait, with their fingerprints
POST /approve    ``{"node": ..., "said": ...}``: the fingerprint was compared
POST /deny       the same: never let this request in
POST /issue      ``{"request": text, "said": ...|null}``: answer a file's request
GET /alarms      what a person should look into
================ ===================================================================
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.errors import BadSignature, MalformedMessage
from agent.wire import enrolment_file, keys, strict
from agent.wire.enrolment_file import Reply, Request
from agent.wire.fingerprint import Fingerprint
from agent.wire.members import Members
from sandbox.accept import Refused
from sandbox.codes import Waiting
from sandbox.enrolment import MOST_CODES, Enrolment
from sandbox.est import Csr
from sandbox.http import Front
from sandbox.tls import Client, read_client

MOST_HOURS = 24 * 90
"""Longest life of a code."""
_SAID = 512


@dataclass(frozen=True)
class Office:
    """Handlers of the routes.

    Args:
        enrolment: decides, in the writer's thread.
        front: where machines find the exchange.
        pins: what a slip tells besides.
    """

    enrolment: Enrolment
    front: Front
    pins: Mapping[str, str]

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers belong."""
        return [
            web.post("/codes", self.codes),
            web.get("/pending", self.pending),
            web.post("/approve", self.approve),
            web.post("/deny", self.deny),
            web.post("/issue", self.issue),
            web.get("/alarms", self.alarms),
        ]

    async def codes(self, request: web.Request) -> web.Response:
        """New codes; nothing keeps them but this answer."""
        m = Members(strict.loads(await request.read()), "codes", "nodes hours")
        nodes = [str(node) for node in m.array("nodes", least=1, most=MOST_CODES)]
        hours = m.integer("hours", least=1, most=MOST_HOURS)
        made = await self.front.write(lambda: self.enrolment.make(nodes, hours=hours))
        signer = self.front.desk.signer
        pins = {
            "aud": signer.aud,
            "url": self.front.url,
            "ca_sha256": self.enrolment.authority.sha256,
            "kid": signer.key.public.kid,
            **self.pins,
        }
        slips = [{"node": n, "code": c, "expires": e} | pins for n, c, e in made]
        return web.json_response({"slips": slips})

    async def pending(self, _: web.Request) -> web.Response:
        """What waits, the oldest first."""
        found = await self.front.write(self.enrolment.codes.pending)
        return web.json_response({"pending": [_shown(waiting) for waiting in found]})

    async def approve(self, request: web.Request) -> web.Response:
        """Let a machine in whose fingerprint was compared."""
        node, said = _compared(await request.read())
        await self.front.write(lambda: self.enrolment.approve(node, said))
        return web.Response(status=204)

    async def deny(self, request: web.Request) -> web.Response:
        """Never let it in."""
        node, said = _compared(await request.read())
        await self.front.write(lambda: self.enrolment.deny(node, said))
        return web.Response(status=204)

    async def alarms(self, _: web.Request) -> web.Response:
        """The newest first."""
        found = await self.front.write(self.enrolment.codes.alarms)
        return web.json_response({"alarms": [asdict(alarm) for alarm in found]})

    async def issue(self, request: web.Request) -> web.Response:
        """The reply to a request that somebody carried here."""
        m = Members(strict.loads(await request.read()), "issue", "request said")
        said = None if m.null("said") else m.text("said", most=_SAID)
        text = m.text("request", most=enrolment_file.REQUEST_CAP)
        asked = enrolment_file.parse_request(text.encode())
        csr = self._checked(asked)
        der = await self.front.write(
            lambda: self.enrolment.by_file(csr, asked.code, said)
        )
        client = read_client(der)
        await self.front.write(lambda: self._put_keys(client, asked.statements))
        await self.front.nudge()
        reply = Reply(
            node=csr.node,
            aud=asked.aud,
            ca=_pem(self.enrolment.authority.certificate),
            certificate=_pem(x509.load_der_x509_certificate(der)),
            directory=self.front.signed_directory(),
        )
        return web.Response(body=reply.payload(), content_type="application/json")

    def _put_keys(self, client: Client, statements: tuple[str, ...]) -> None:
        for text in statements:
            self.front.desk.put_keys(client, text.encode())

    def _checked(self, asked: Request) -> Csr:
        """The request of a file whose parts belong together.

        Raises:
            Refused: it is for another exchange, or a statement is not signed as the
                chain demands.
            MalformedMessage: its parts do not fit.
        """
        aud = self.front.desk.signer.aud
        if asked.aud != aud:
            raise Refused("wrong-exchange", f"this is {aud}")
        csr = Csr.of_der(_der(asked.csr))
        if csr.node != asked.node:
            raise MalformedMessage("request.node: expected the node of the request")
        try:
            chain = keys.chain(asked.statements)
        except BadSignature as e:
            raise Refused("bad-signature", e.detail) from e
        if (chain.node, chain.digest) != (csr.node, csr.statement):
            raise MalformedMessage("request.statements: the request names another one")
        return csr


def _compared(body: bytes) -> tuple[str, str]:
    m = Members(strict.loads(body), "compared", "node said")
    return m.text("node"), m.text("said", most=_SAID)


def _shown(found: Waiting) -> dict[str, object]:
    shown = Fingerprint(found.node, found.statement)
    return {
        "node": found.node,
        "code": found.id,
        "statement": found.statement,
        "words": {"en": shown.en, "zh": shown.zh},
        "address": found.address,
        "since": found.at,
    }


def _der(pem: str) -> bytes:
    lines = [line for line in pem.split("\n") if line and not line.startswith("-----")]
    try:
        return base64.b64decode("".join(lines), validate=True)
    except ValueError as e:
        raise MalformedMessage("request.csr: expected PEM") from e


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
