# SPDX-License-Identifier: Apache-2.0
"""What is answered: results, verdicts, refusals, signed and sealed (wire.md §4). Pure.

Rules

1. A reply holds nothing but what was asked for: ``get`` has exactly the fields, verify
   has verdicts and never a value, exists has neither.
2. Denied and error replies have no results at all.
3. A row that is not there and one that may not be seen look alike.
4. Who carries a reply sees its length: one person's is of the same length whether there
   is a row or not, as long as it fits into :data:`LEAST`.
5. The reply goes to the newest active ``decrypt`` key that the directory has for the
   consumer; where there is none nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.crypto.jose import PublicKey, Signer
from agent.crypto.jwe import Parcel
from agent.errors import UnknownKey
from agent.wire.directory import Directory
from agent.wire.lookup import (
    REPLY_TYP,
    PolicyRef,
    Reply,
    Request,
    Result,
    Status,
    Verdict,
)

LEAST = 4 * 1024
"""Fewest bytes of a padded reply. A refusal, a person without a row and one with some
fields are on both sides of 1 KiB, and far below this."""

Row = Mapping[str, str | None]
"""Field -> canonical text."""


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Args:
        status: ``ok``, ``denied`` or ``error``.
        reasons: of the closed list; none if it is ``ok``.
        results: one for each item if it is ``ok``, else none.
        masked: fields whose values are not shown whole.
        rule: id of the grant that counted, if one did.
    """

    status: Status
    reasons: tuple[str, ...] = ()
    results: tuple[Result, ...] = field(default=(), repr=False)
    masked: tuple[str, ...] = ()
    rule: str | None = None


@dataclass(frozen=True)
class Stamp:
    """Who answers, when, and by which revision of the policy.

    Args:
        node: who answers.
        jti: id of the reply.
        iat: seconds since 1970.
        rev: revision of the policy; 0 while none was ever activated.
        decision_id: names the decision in the audit log.
    """

    node: str
    jti: str
    iat: int
    rev: int
    decision_id: str


def results_of(
    request: Request, rows: Sequence[Row | None], *, as_of: str
) -> tuple[Result, ...]:
    """The results of a request, item by item.

    Args:
        request: what was asked.
        rows: of each item, with texts as they may be shown; None: no match.
        as_of: when the source was read, wire grammar.
    """
    return tuple(_result(request, i, row, as_of) for i, row in enumerate(rows))


def _result(request: Request, i: int, row: Row | None, as_of: str) -> Result:
    data: Row | None = None
    verdicts: dict[str, Verdict] | None = None
    if request.op == "get" and row is not None:
        data = {name: row[name] for name in request.fields}
    elif request.op == "verify":
        claims = request.items[i].claims or {}
        verdicts = {name: _verdict(name, claims, row) for name in request.fields}
    return Result(
        i=i,
        status="no_match" if row is None else "ok",
        data=data,
        verdicts=verdicts,
        as_of=as_of,
    )


def _verdict(name: str, claims: Mapping[str, str | None], row: Row | None) -> Verdict:
    if row is None:
        return "no_record"
    return "match" if claims[name] == row[name] else "mismatch"


@dataclass(frozen=True)
class Question:
    """What a reply has to say of its request.

    Args:
        iss: who asked.
        jti: of the request.
        digest: its message digest.
    """

    iss: str
    jti: str
    digest: str


def compose(question: Question, outcome: Outcome, stamp: Stamp) -> Reply:
    """The reply to a request.

    Args:
        question: see there.
        outcome: what became of it.
        stamp: see there.
    """
    return Reply(
        iss=stamp.node,
        aud=question.iss,
        jti=stamp.jti,
        irt=question.jti,
        req_sha256=question.digest,
        iat=stamp.iat,
        status=outcome.status,
        results=outcome.results,
        masked=outcome.masked,
        policy=PolicyRef(stamp.rev, outcome.rule, stamp.decision_id),
        reasons=outcome.reasons,
    )


def sign(reply: Reply, key: Signer) -> str:
    """The compact JWS of a reply."""
    return key.sign(REPLY_TYP, reply.payload())


def parcel(text: str, *, to: PublicKey, iss: str, aud: str) -> Parcel:
    """A signed reply to be sealed for the consumer alone; a retry seals it anew."""
    return Parcel(text, to=to, cty=REPLY_TYP, iss=iss, aud=aud, least=LEAST)


def recipient(directory: Directory, node: str) -> PublicKey:
    """The key to which a consumer's replies are sealed.

    Raises:
        UnknownKey: the directory has no active ``decrypt`` key of it.
        MalformedMessage, BadSignature: its key statements are damaged.
    """
    for key in reversed(directory.node_keys(node).live):
        status = directory.key_status(node, key.kid)
        active = status is None or status.status == "active"
        revoked = key.kid in directory.revoked.kids
        if key.purpose == "decrypt" and active and not revoked:
            return key
    raise UnknownKey(f"directory: {node} has no active decrypt key")
