# SPDX-License-Identifier: Apache-2.0
"""Questions signed and sealed, answers opened and checked; no I/O here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey, PublicKey, message_digest, split, verify
from agent.crypto.jwe import split_sealed
from agent.errors import MalformedMessage, UnknownKey, UsageFault
from agent.wire import strict
from agent.wire.directory import Directory
from agent.wire.grammar import new_uuid7
from agent.wire.lookup import (
    REPLY_CAP,
    REPLY_TYP,
    REQUEST_TYP,
    Reply,
    Request,
    check_answer,
    parse_reply,
    parse_request,
)

LIFE_S = 60
"""From ``iat`` to ``exp`` of a question that does not say, seconds."""


def clock() -> datetime:
    """The machine's clock, aware UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Question:
    """A request, signed and sealed.

    Args:
        request: what is asked.
        jws: the signed message; the consumer's evidence.
        jwe: what is sent; a retry may seal the same ``jws`` again.
    """

    request: Request
    jws: str = field(repr=False)
    jwe: str = field(repr=False)


@dataclass(frozen=True)
class Heard:
    """An answer whose signature verified, to the question that was asked.

    Args:
        reply: what it says.
        jws: the signed message; evidence.
    """

    reply: Reply
    jws: str = field(repr=False)


@dataclass(frozen=True)
class Consumer:
    """A node that asks others.

    Args:
        node: ``<USCC>/<name>``.
        sign: its key of that purpose.
        decrypt: its key of that purpose.
        directory: who is who, verified.
        now: the clock.
        random: gives so many random bytes.
    """

    node: str
    sign: PrivateKey
    decrypt: PrivateKey
    directory: Directory
    now: Callable[[], datetime] = clock
    random: Callable[[int], bytes] = os.urandom

    def request(self, body: Mapping[str, Any]) -> Request:
        """A request of JSON members; iss, aud, jti, iat, exp are added if absent.

        Args:
            body: op, resource, items, fields, purpose, basis, officer and what else
                a request may have; ``aud`` defaults to the owner of the resource.

        Raises:
            MalformedMessage: a member does not fit.
            UsageFault: no aud, and nobody owns the resource.
        """
        moment = self.now()
        iat = body.get("iat", int(moment.timestamp()))
        jti = new_uuid7(int(moment.timestamp() * 1000), self.random(10))
        given = {"v": 1, "iss": self.node, "jti": jti, "iat": iat, **body}
        if "exp" not in given and isinstance(iat, int):
            given["exp"] = iat + LIFE_S
        if "aud" not in given:
            given["aud"] = self._owner(str(body.get("resource")))
        return parse_request(strict.dumps(given))

    def _owner(self, resource: str) -> str:
        owner = self.directory.owner(resource)
        if owner is None:
            raise UsageFault(f"aud: expected one, nobody owns {resource[:64]}")
        return owner

    def build(self, request: Request) -> Question:
        """Sign a request and seal it for its provider.

        Raises:
            UnknownKey: the directory has no active ``decrypt`` key of the provider.
        """
        text = self.sign.sign(REQUEST_TYP, request.payload())
        return self.seal(request, text)

    def seal(self, request: Request, text: str) -> Question:
        """Seal a signed request, for the first time or again.

        Raises:
            UnknownKey: the directory has no active ``decrypt`` key of the provider.
        """
        sealed = jwe.seal(
            text,
            to=self._recipient(request.aud),
            cty=REQUEST_TYP,
            iss=self.node,
            aud=request.aud,
        )
        return Question(request, text, sealed)

    def open(self, text: str, question: Question) -> Heard:
        """Open a sealed answer and check that it answers a question.

        Raises:
            MalformedMessage: not an answer, or one to something else.
            Undecryptable: sealed to another key, or altered.
            BadSignature: the provider's ``sign`` key did not sign it.
        """
        sealed = split_sealed(text, cap=REPLY_CAP)
        message = split(sealed.open(self.decrypt), cap=REPLY_CAP)
        provider = question.request.aud
        key = self._active(provider, message.kid, "sign")
        reply = parse_reply(verify(message, key, typ=REPLY_TYP).payload)
        header = (sealed.cty, sealed.iss, sealed.aud)
        if header != (REPLY_TYP, reply.iss, reply.aud):
            raise MalformedMessage("JWE header: expected cty, iss and aud as inside")
        check_answer(reply, question.request, req_sha256=message_digest(question.jws))
        return Heard(reply, message.text)

    def _recipient(self, node: str) -> PublicKey:
        """The newest active ``decrypt`` key of a node."""
        keys = [
            key
            for key in self.directory.node_keys(node).live
            if key.purpose == "decrypt" and self._is_active(node, key.kid)
        ]
        if not keys:
            raise UnknownKey(f"directory: {node} has no active decrypt key")
        return keys[-1]

    def _active(self, node: str, kid: str, purpose: str) -> PublicKey:
        if not self._is_active(node, kid):
            raise UnknownKey(f"directory: {kid} of {node} is not active")
        return self.directory.node_key(node, kid, purpose)

    def _is_active(self, node: str, kid: str) -> bool:
        status = self.directory.key_status(node, kid)
        active = status is None or status.status == "active"
        return active and kid not in self.directory.revoked.kids
