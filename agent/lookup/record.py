# SPDX-License-Identifier: Apache-2.0
"""What the audit log keeps of a decision. Pure.

Rules

1. No personal value: subjects are HMACs under the day's key, what a consumer writes
   freely (basis, matter, officer) stands there as a commitment only.
   So does ``jti``: ``request`` is a digest of the whole message, and whoever knew all
   the rest of it could try every person until it fits. The 74 random bits of ``jti``
   forbid that once the day's key is destroyed. Who has the message can still compare.
2. Names that a consumer sends stand in a record only if our own catalog has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.audit.events import LookupDecided
from agent.catalog.gate import Offer
from agent.crypto.daykey import DayKey
from agent.crypto.frames import TYPE_BYTES
from agent.crypto.jose import message_digest
from agent.wire.lookup import Reply, Request


@dataclass(frozen=True)
class Seen:
    """What was known when a request was decided.

    Args:
        request: its claims.
        digest: its message digest.
        offer: the resource that it names, if this agent offers it.
        day: whose key is ``key``, ``YYYY-MM-DD``.
        key: of the day.
        ms: time that the decision took, milliseconds.
    """

    request: Request
    digest: str
    offer: Offer | None
    day: str
    key: DayKey
    ms: int


def decided(seen: Seen, reply: Reply, text: str) -> LookupDecided:
    """The record of a decision.

    Args:
        seen: see there.
        reply: what is answered.
        text: its exact compact JWS.
    """
    request, offer, key = seen.request, seen.offer, seen.key
    known = {} if offer is None else offer.by_name
    decision = reply.policy.decision_id
    matter = request.matter
    return LookupDecided(
        day=seen.day,
        decision_id=decision,
        consumer=request.iss,
        jti=key.commit(decision, "jti", request.jti),
        op=request.op,
        resource=None if offer is None else offer.resource,
        purpose=request.purpose,
        fields=tuple(name for name in request.fields if name in known),
        items=len(request.items),
        subjects=subjects(request, offer, key),
        basis=key.commit(decision, "basis", request.basis),
        matter=None if matter is None else key.commit(decision, "matter", matter),
        officer=key.commit(decision, "officer", request.officer.id),
        status=reply.status,
        reasons=reply.reasons,
        found=sum(result.status == "ok" for result in reply.results),
        rev=reply.policy.rev,
        rule=reply.policy.rule,
        request=seen.digest,
        reply=message_digest(text),
        ms=seen.ms,
    )


def interrupted(reply: Reply, text: str, *, day: str, key: DayKey) -> LookupDecided:
    """The record of a request of which only id and digest are known any more.

    Args:
        reply: what is answered.
        text: its exact compact JWS.
        day: whose key is ``key``, ``YYYY-MM-DD``.
        key: of the day.
    """
    decision = reply.policy.decision_id
    return LookupDecided(
        day=day,
        decision_id=decision,
        consumer=reply.aud,
        jti=key.commit(decision, "jti", reply.irt),
        op="",
        resource=None,
        purpose="",
        fields=(),
        items=0,
        subjects=(),
        basis="",
        matter=None,
        officer="",
        status=reply.status,
        reasons=reply.reasons,
        found=0,
        rev=reply.policy.rev,
        rule=None,
        request=reply.req_sha256,
        reply=message_digest(text),
        ms=0,
    )


def subjects(request: Request, offer: Offer | None, key: DayKey) -> tuple[str, ...]:
    """The HMAC of each item's canonical key; none if its types are not known."""
    if offer is None:
        return ()
    known, names = offer.by_name, request.items[0].keys  # the same in every item
    if any(name not in known for name in names):
        return ()
    order = [name for name in known if name in names]
    return tuple(
        key.subject(
            b"".join(
                key_frame(known[name].item.type, item.keys[name]) for name in order
            )
        )
        for item in request.items
    )


def key_frame(letter: str, text: str) -> bytes:
    """The frame of a key value of which only the canonical text is known."""
    data = text.encode()
    return bytes([TYPE_BYTES[letter]]) + len(data).to_bytes(4, "big") + data
