# SPDX-License-Identifier: Apache-2.0
"""Parties of a lookup, honest and other ones: they build messages piece by piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from agent.crypto import jose, jwe
from agent.crypto.jose import PrivateKey, base64url
from agent.crypto.notekey import NoteKey
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeFile,
    KeyStatus,
    NodeEntry,
    RevokedFile,
    Status,
)
from agent.wire.keys import TYP as KEYS_TYP
from agent.wire.keys import KeyStatement
from agent.wire.lookup import (
    REPLY_CAP,
    REPLY_TYP,
    REQUEST_TYP,
    LookupItem,
    Officer,
    Reply,
    Request,
    parse_reply,
)

AT = "2026-11-01T00:00:00Z"


@dataclass(frozen=True)
class Party:
    """A node with its keys."""

    node: str
    sign: PrivateKey = field(default_factory=lambda: PrivateKey.generate("sign"))
    decrypt: PrivateKey = field(default_factory=lambda: PrivateKey.generate("decrypt"))
    tls: PrivateKey = field(default_factory=lambda: PrivateKey.generate("tls"))
    audit: NoteKey = field(default_factory=lambda: NoteKey.generate("audit"))

    def entry(self, status: Mapping[str, Status] | None = None) -> NodeEntry:
        """As the directory lists it; ``status`` is by purpose, else active."""
        publics = [k.public for k in (self.sign, self.decrypt, self.tls, self.audit)]
        statement = KeyStatement(self.node, 1, tuple(publics), AT)
        text = self.sign.sign(KEYS_TYP, statement.payload())
        keys = tuple(
            KeyStatus(k.kid, (status or {}).get(k.purpose, "active"), AT, None)
            for k in publics
        )
        return NodeEntry(self.node, "active", (text,), keys)


def directory_of(*entries: NodeEntry, revoked: tuple[str, ...] = ()) -> Directory:
    """A directory of these nodes."""
    departments: dict[str, DepartmentFile] = {}
    for entry in entries:
        uscc = entry.node.partition("/")[0]
        known = departments.get(uscc)
        nodes = (*known.nodes, entry) if known else (entry,)
        departments[uscc] = DepartmentFile(uscc, nodes, {})
    gone = RevokedFile(dict.fromkeys(revoked, AT), {})
    return Directory(1, departments, ExchangeFile(()), gone)


@dataclass(frozen=True)
class Requester:
    """A consumer that asks one provider.

    Args:
        me: who asks.
        provider: who is asked.
        template: a request that is well formed; :meth:`request` changes it.
    """

    me: Party
    provider: Party
    template: Request

    def request(self, **changes: Any) -> Request:
        """The template with other members."""
        return replace(self.template, **changes)

    def sign(self, request: Request) -> str:
        """The compact JWS of a request."""
        return self.me.sign.sign(REQUEST_TYP, request.payload())

    def seal(self, text: str, **header: str) -> str:
        """Sealed to the provider; ``header`` may lie about cty, iss and aud."""
        told = {"cty": REQUEST_TYP, "iss": self.me.node, "aud": self.provider.node}
        told |= header
        return jwe.seal(
            text,
            to=self.provider.decrypt.public,
            cty=told["cty"],
            iss=told["iss"],
            aud=told["aud"],
        )

    def ask(self, **changes: Any) -> str:
        """A sealed request, ready to send."""
        request = self.request(**changes)
        return self.seal(self.sign(request), iss=request.iss, aud=request.aud)

    def open(self, text: str) -> Reply:
        """The reply of a sealed text; its signature is checked."""
        sealed = jwe.split_sealed(text, cap=REPLY_CAP)
        assert (sealed.cty, sealed.aud) == (REPLY_TYP, self.me.node)
        message = jose.split(sealed.open(self.me.decrypt), cap=REPLY_CAP)
        key = self.provider.sign.public
        return parse_reply(jose.verify(message, key, typ=REPLY_TYP).payload)


def item(key: str = "110101199003070011", **claims: str | None) -> LookupItem:
    """A person by number, with claims if there are any."""
    return LookupItem({"citizen_id": key}, claims or None)


def template(consumer: str, provider: str, *, jti: str, iat: int) -> Request:
    """A ``get`` of one person."""
    return Request(
        iss=consumer,
        aud=provider,
        jti=jti,
        iat=iat,
        exp=iat + 60,
        op="get",
        resource="101001/000001",
        items=(item(),),
        fields=("name",),
        purpose="administrative_basis",
        basis="case:TA-2026-00017",
        officer=Officer("tax-0042", "cert"),
    )


def forged(
    header: Mapping[str, object], payload: bytes, *, key: PrivateKey | None = None
) -> str:
    """A compact JWS with any header; signed truly if there is a key."""
    head = base64url(json.dumps(header, separators=(",", ":")).encode())
    body = f"{head}.{base64url(payload)}"
    if key is None:
        return f"{body}.{base64url(bytes(64))}"
    r, s = decode_dss_signature(key._key.sign(body.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{body}.{base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def altered(text: str, **members: object) -> str:
    """A message whose payload says something else under the old signature."""
    head, body, signature = text.split(".")
    payload = json.loads(jose.from_base64url(body, at="test"))
    payload |= members
    return f"{head}.{base64url(json.dumps(payload).encode())}.{signature}"
