# SPDX-License-Identifier: Apache-2.0
"""Questions about single persons or things, and the signed answers (wire.md §4).

What can be judged from one message alone is judged here. Of a request:

1. 1 to 1,000 items; the members of ``keys`` are the same 1 to 8 in each.
2. get: 1 to 1,024 fields, no claims. verify: as many, and the members of each item's
   ``claims`` are exactly them. exists: no fields, no claims.
3. No field twice. A key is text of at most 4,000 code points, a claim text or null.
4. ``matter`` and ``approval`` are absent or text, never null.

Of a reply: results only with ``ok``, numbered from 0 without gap; reasons exactly with
``denied`` and ``error``, possibly with ``pending``; ``no_match`` never has data and its
verdicts are all ``no_record``. Whether it answers a request: :func:`check_answer`.

No complaint about these messages ever quotes a value: most of them are personal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from agent.crypto import jwe
from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.catalog import KEY_ITEMS, TEXT_LENGTH
from agent.wire.grammar import DIGEST, ITEM_NAME, NODE, RESOURCE, UUID7
from agent.wire.members import Members, read

REQUEST_TYP = "fep-lookup-req+jws"
REPLY_TYP = "fep-lookup-res+jws"
MEDIA_TYPE = "application/jose"
REQUEST_CAP = 1024 * 1024
"""Longest request, bytes of the compact JWE."""
REPLY_CAP = 4 * 1024 * 1024
"""Longest reply, bytes of the compact JWE."""
REQUEST_ROOM = jwe.most_inside(REQUEST_CAP)
"""Longest signed request that fits into a sealed one, bytes of the compact JWS."""
REPLY_ROOM = jwe.most_inside(REPLY_CAP)
"""Longest signed reply that fits into a sealed one, bytes of the compact JWS."""
ITEMS = 1000
"""Most items of a request."""
FIELDS = 1024
"""Most fields of a request."""
WINDOW_S = 120
"""Longest time from ``iat`` to ``exp``, and how long a ``jti`` outlives ``exp``."""
SKEW_S = 60
"""So much two clocks may differ."""

Op = Literal["get", "verify", "exists"]
Status = Literal["ok", "denied", "pending", "error"]
Match = Literal["ok", "no_match"]
Verdict = Literal["match", "mismatch", "no_record"]

OPS: tuple[Op, ...] = ("get", "verify", "exists")
STATUSES: tuple[Status, ...] = ("ok", "denied", "pending", "error")
PURPOSES = (
    "administrative_basis",  # 行政依据
    "work_reference",  # 工作参考
    "data_verification",  # 数据校核
    "collaboration",  # 业务协同
)
REASONS = (
    "time",
    "replay",
    "header",
    "grant",
    "purpose",
    "basis",
    "field",
    "key",
    "quota",
    "approval",
    "source",
    "interrupted",
    "audience",
)


@dataclass(frozen=True)
class LookupItem:
    """One person or thing that is asked about.

    Args:
        keys: item -> canonical text.
        claims: verify: item -> canonical text or None; else None.
    """

    keys: Mapping[str, str] = field(repr=False)
    claims: Mapping[str, str | None] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Officer:
    """Who asks, as the consumer's own system knows the person.

    Args:
        id: of the person.
        auth: how the person logged in.
    """

    id: str = field(repr=False)
    auth: str


@dataclass(frozen=True)
class Request:
    """What a consumer asks a provider.

    Args:
        iss: the consumer's node.
        aud: the provider's node.
        jti: uuid7 of this request.
        iat: the consumer's clock, seconds since 1970.
        exp: when it ends.
        op: give fields, compare claims, or only say whether there is a row.
        resource: of the provider.
        items: 1 to 1,000.
        fields: names of items; empty for exists.
        purpose: one of :data:`PURPOSES`.
        basis: why, such as the number of a law or of a case.
        officer: who asks.
        matter: the matter (事项) that it is for, or None.
        approval: decision id of an approved earlier request, or None.
    """

    iss: str
    aud: str
    jti: str
    iat: int
    exp: int
    op: Op
    resource: str
    items: tuple[LookupItem, ...]
    fields: tuple[str, ...]
    purpose: str
    basis: str = field(repr=False)
    officer: Officer
    matter: str | None = field(default=None, repr=False)
    approval: str | None = None

    @property
    def key_names(self) -> tuple[str, ...]:
        """The items that are keys here, in order of their names."""
        return tuple(sorted(self.items[0].keys))

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        body: dict[str, Any] = {
            "v": 1,
            "iss": self.iss,
            "aud": self.aud,
            "jti": self.jti,
            "iat": self.iat,
            "exp": self.exp,
            "op": self.op,
            "resource": self.resource,
            "items": [_told(keys=i.keys, claims=i.claims) for i in self.items],
            "fields": list(self.fields),
            "purpose": self.purpose,
            "basis": self.basis,
            **_told(matter=self.matter),
            "officer": {"id": self.officer.id, "auth": self.officer.auth},
            **_told(approval=self.approval),
        }
        data = strict.dumps(body)
        parse_request(data)
        return data


@dataclass(frozen=True)
class Result:
    """What is said about one item.

    Args:
        i: its number, from 0.
        status: whether there is a row that may be spoken of.
        data: get and ok: field -> canonical text or None; else None.
        verdicts: verify: field -> verdict; else None.
        as_of: when the source was asked, wire grammar.
    """

    i: int
    status: Match
    data: Mapping[str, str | None] | None = field(repr=False)
    verdicts: Mapping[str, Verdict] | None
    as_of: str


@dataclass(frozen=True)
class PolicyRef:
    """What decided.

    Args:
        rev: revision of the policy; 0 if none was ever activated.
        rule: id of the grant, or None.
        decision_id: uuid7 of this decision, in the provider's audit log.
    """

    rev: int
    rule: str | None
    decision_id: str


@dataclass(frozen=True)
class Reply:
    """A provider's answer.

    Args:
        iss: the provider's node.
        aud: the consumer's node.
        jti: uuid7 of this reply.
        irt: ``jti`` of the request.
        req_sha256: message digest of the request.
        iat: the provider's clock, seconds since 1970.
        status: of all items together.
        results: one for each item in order if ``ok``, else none.
        masked: fields whose values are shortened or veiled.
        policy: what decided.
        reasons: of :data:`REASONS`.
    """

    iss: str
    aud: str
    jti: str
    irt: str
    req_sha256: str
    iat: int
    status: Status
    results: tuple[Result, ...]
    masked: tuple[str, ...]
    policy: PolicyRef
    reasons: tuple[str, ...]

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        policy = self.policy
        body: dict[str, Any] = {
            "v": 1,
            "iss": self.iss,
            "aud": self.aud,
            "jti": self.jti,
            "irt": self.irt,
            "req_sha256": self.req_sha256,
            "iat": self.iat,
            "status": self.status,
            "results": [_told(**vars(r)) for r in self.results],
            "masked": list(self.masked),
            "policy": _told(
                rev=policy.rev, rule=policy.rule, decision_id=policy.decision_id
            ),
            "reasons": list(self.reasons),
        }
        data = strict.dumps(body)
        parse_reply(data)
        return data


def _told(**members: object) -> dict[str, object]:
    """Members without those that are absent."""
    return {name: value for name, value in members.items() if value is not None}


# --- requests ---------------------------------------------------------------------


def parse_request(payload: bytes) -> Request:
    """The request of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(
        payload,
        "lookup",
        "iss aud jti iat exp op resource items fields purpose basis officer",
        optional="matter approval",
        personal=True,
    )
    officer = m.inner("officer", "id auth")
    request = Request(
        iss=m.match("iss", NODE),
        aud=m.match("aud", NODE),
        jti=m.match("jti", UUID7),
        iat=m.integer("iat"),
        exp=m.integer("exp"),
        op=cast("Op", m.choice("op", *OPS)),
        resource=m.match("resource", RESOURCE),
        items=tuple(
            _item(value, f"lookup.items[{i}]")
            for i, value in enumerate(m.array("items", least=1, most=ITEMS))
        ),
        fields=_names(m, "fields"),
        purpose=m.choice("purpose", *PURPOSES),
        basis=m.text("basis"),
        officer=Officer(officer.text("id"), officer.text("auth")),
        matter=m.text("matter") if m.has("matter") else None,
        approval=m.match("approval", UUID7) if m.has("approval") else None,
    )
    _check_request(request)
    return request


def _item(value: object, at: str) -> LookupItem:
    m = Members(value, at, "keys", optional="claims", personal=True)
    keys = _texts(m, "keys", most=KEY_ITEMS)
    for text in keys.values():
        if text is None or len(text) > TEXT_LENGTH:
            m.fail("keys", f"texts of at most {TEXT_LENGTH} characters")
    claims = _texts(m, "claims", most=FIELDS) if m.has("claims") else None
    return LookupItem(cast("dict[str, str]", keys), claims)


def _texts(m: Members, name: str, *, most: int) -> dict[str, str | None]:
    """An object of items and their texts or null."""
    value = m.raw(name)
    if not isinstance(value, dict) or not 1 <= len(value) <= most:
        m.fail(name, f"an object of 1 to {most} members")
    for item, text in value.items():
        if not ITEM_NAME.fullmatch(item):
            m.fail(name, "names of items as members")
        if text is not None and not isinstance(text, str):
            m.fail(name, "texts or null")
    return value


def _names(m: Members, name: str) -> tuple[str, ...]:
    """An array of items, each once."""
    values = m.array(name, most=FIELDS)
    if not all(isinstance(v, str) and ITEM_NAME.fullmatch(v) for v in values):
        m.fail(name, "names of items")
    if len(set(values)) != len(values):
        m.fail(name, "every item once")
    return tuple(values)


def _check_request(request: Request) -> None:
    names = request.items[0].keys.keys()
    if any(item.keys.keys() != names for item in request.items):
        raise MalformedMessage("lookup.items: expected the same keys in every item")
    if (request.op == "exists") != (not request.fields):
        raise MalformedMessage("lookup.fields: expected none exactly for exists")
    wanted = set(request.fields) if request.op == "verify" else None
    for i, item in enumerate(request.items):
        got = None if item.claims is None else item.claims.keys()
        if got != wanted:
            raise MalformedMessage(
                f"lookup.items[{i}].claims: expected"
                + (" none" if wanted is None else " exactly the fields")
            )


# --- replies ----------------------------------------------------------------------


def parse_reply(payload: bytes) -> Reply:
    """The reply of a verified message; unknown members are ignored.

    Raises:
        MalformedMessage: a member is missing or does not fit.
    """
    m = read(
        payload,
        "reply",
        "iss aud jti irt req_sha256 iat status results masked policy reasons",
        open_ended=True,
        personal=True,
    )
    reply = Reply(
        iss=m.match("iss", NODE),
        aud=m.match("aud", NODE),
        jti=m.match("jti", UUID7),
        irt=m.match("irt", UUID7),
        req_sha256=m.match("req_sha256", DIGEST),
        iat=m.integer("iat"),
        status=cast("Status", m.choice("status", *STATUSES)),
        results=tuple(
            _result(value, i) for i, value in enumerate(m.array("results", most=ITEMS))
        ),
        masked=_names(m, "masked"),
        policy=_policy(m.inner("policy", "rev decision_id", open_ended=True)),
        reasons=_reasons(m),
    )
    _check_reply(reply)
    return reply


def _result(value: object, i: int) -> Result:
    m = Members(
        value,
        f"reply.results[{i}]",
        "i status as_of",
        optional="data verdicts",
        open_ended=True,
        personal=True,
    )
    result = Result(
        i=m.integer("i", least=i, most=i),
        status=cast("Match", m.choice("status", "ok", "no_match")),
        data=_texts(m, "data", most=FIELDS) if m.has("data") else None,
        verdicts=_verdicts(m) if m.has("verdicts") else None,
        as_of=m.time("as_of"),
    )
    if result.data is not None and (
        result.status == "no_match" or result.verdicts is not None
    ):
        m.fail("data", "none beside verdicts or without a row")
    return result


def _verdicts(m: Members) -> dict[str, Verdict]:
    verdicts = _texts(m, "verdicts", most=FIELDS)
    known = ("match", "mismatch") if m.raw("status") == "ok" else ("no_record",)
    if not all(verdict in known for verdict in verdicts.values()):
        m.fail("verdicts", " or ".join(known))
    return cast("dict[str, Verdict]", verdicts)


def _policy(m: Members) -> PolicyRef:
    return PolicyRef(
        rev=m.integer("rev"),
        rule=m.text("rule") if m.has("rule") else None,
        decision_id=m.match("decision_id", UUID7),
    )


def _reasons(m: Members) -> tuple[str, ...]:
    values = m.array("reasons", most=len(REASONS))
    if not all(isinstance(v, str) and v in REASONS for v in values):
        m.fail("reasons", "reasons of the list")
    if len(set(values)) != len(values):
        m.fail("reasons", "every reason once")
    return tuple(values)


def _check_reply(reply: Reply) -> None:
    if (reply.status == "ok") != bool(reply.results):
        raise MalformedMessage("reply.results: expected some exactly with status ok")
    if reply.status == "ok" and reply.reasons:
        raise MalformedMessage("reply.reasons: expected none with status ok")
    if reply.status in ("denied", "error") and not reply.reasons:
        raise MalformedMessage(f"reply.reasons: expected one with {reply.status}")


def check_answer(reply: Reply, request: Request, *, req_sha256: str) -> None:
    """Whether a reply, whose signature was verified, answers a request.

    Args:
        reply: of the provider.
        request: that was sent.
        req_sha256: message digest of the request.

    Raises:
        MalformedMessage: it is of somebody else, for somebody else, to another request,
            or says more or less than was asked.
    """
    got = (reply.iss, reply.aud, reply.irt, reply.req_sha256)
    wanted = (request.aud, request.iss, request.jti, req_sha256)
    for name, has, should in zip(
        ("iss", "aud", "irt", "req_sha256"), got, wanted, strict=True
    ):
        if has != should:
            raise MalformedMessage(f"reply.{name}: expected {should}, got {has}")
    if reply.status != "ok":
        return
    if len(reply.results) != len(request.items):
        raise MalformedMessage(
            f"reply.results: expected {len(request.items)}, got {len(reply.results)}"
        )
    fields = set(request.fields)
    if not fields >= set(reply.masked):
        raise MalformedMessage("reply.masked: expected fields of the request")
    for result in reply.results:
        _check_result(result, request.op, fields)


def _check_result(result: Result, op: Op, fields: set[str]) -> None:
    data = None if result.data is None else result.data.keys()
    verdicts = None if result.verdicts is None else result.verdicts.keys()
    if data != (fields if op == "get" and result.status == "ok" else None):
        raise MalformedMessage(f"reply.results[{result.i}].data: not what was asked")
    if verdicts != (fields if op == "verify" else None):
        raise MalformedMessage(
            f"reply.results[{result.i}].verdicts: not what was asked"
        )
