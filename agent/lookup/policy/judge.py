# SPDX-License-Identifier: Apache-2.0
"""Whether a request is allowed, and by which grant. Pure; it knows no error.

Rules

1. The grants about a department and a resource are narrowed by day, purpose, operation
   and key names. If none is left, the request is denied for what left none; two cannot
   be left, and would be denied too.
2. The one grant that is left is then held against everything else: basis, fields, the
   texts of keys and claims, the number of items. All that fails is told.
3. All items are judged together: one that is forbidden denies them all.
4. A text is compared, never interpreted: a key is the canonical text of a value of its
   item, or the request is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from agent.catalog.gate import Offer
from agent.lookup.policy.check import COMPARED_TYPES
from agent.lookup.policy.rules import Policy, Rule
from agent.model.job import BoundItem
from agent.model.treatment import Treatment
from agent.wire.lookup import Request
from agent.wire.text import canonical

NUMBERS = frozenset({"citizen_id", "uscc"})
"""Rules of items whose values are ASCII letters and digits."""


@dataclass(frozen=True)
class Active:
    """The policy that is in force.

    Args:
        rev: its revision in the audit log; stands in every answer.
        policy: its grants.
    """

    rev: int
    policy: Policy


class Step(NamedTuple):
    """One thing that was looked at; for ``fep policy explain``, never for a log.

    Args:
        check: its name, one of :data:`CHECKS`.
        passed: whether it went well.
        got: what stood in the way, or ``""``.
    """

    check: str
    passed: bool
    got: str = ""


@dataclass(frozen=True)
class Allowed:
    """The request is allowed.

    Args:
        rule: id of the grant.
        offer: the resource, as the gate offers it.
        keys: names of the key items, in the grant's order.
        fields: item -> what is allowed of it, in the request's order.
        steps: what was looked at.
    """

    rule: str
    offer: Offer
    keys: tuple[str, ...]
    fields: Mapping[str, Treatment]
    steps: tuple[Step, ...] = field(repr=False)


@dataclass(frozen=True)
class Denied:
    """The request is denied.

    Args:
        reasons: of the closed list of wire.md §4, each once.
        steps: what was looked at.
    """

    reasons: tuple[str, ...]
    steps: tuple[Step, ...] = field(repr=False)


def judge(
    active: Active, request: Request, offers: Mapping[str, Offer], *, today: date
) -> Allowed | Denied:
    """Whether a request is allowed.

    Args:
        active: the policy in force.
        request: its signature was verified.
        offers: what the gate opens for lookups now, by code.
        today: the day in the agent's time zone.
    """
    offer = offers.get(request.resource)
    if offer is None:
        return Denied(("grant",), (Step("resource", False, request.resource),))
    steps = [_PASSED["resource"]]
    consumer = request.iss.partition("/")[0]
    rules = active.policy.about(consumer=consumer, resource=request.resource)
    asked = _Asked(request, consumer, today, _key_names(request))
    for one in _NARROW:
        rules = tuple(rule for rule in rules if one.keeps(rule, asked))
        if not rules:
            steps.append(Step(one.check, False, one.got(asked)))
            return Denied((one.reason,), tuple(steps))
        steps.append(_PASSED[one.check])
    if len(rules) > 1:
        return Denied(("grant",), (*steps, Step("one", False, str(len(rules)))))
    rule = rules[0]
    reasons: dict[str, None] = {}
    for check, reason, test in _HOLD:
        got = next(test(rule, request, offer), None)
        steps.append(_PASSED[check] if got is None else Step(check, False, got))
        if got is not None:
            reasons[reason] = None
    if reasons:
        return Denied(tuple(reasons), tuple(steps))
    fields = {name: rule.fields[name] for name in request.fields}
    return Allowed(rule.id, offer, rule.keys, fields, tuple(steps))


# --- narrowing --------------------------------------------------------------------


class _Asked(NamedTuple):
    """What grants are chosen by."""

    request: Request
    consumer: str
    today: date
    keys: frozenset[str] | None


class _Narrow(NamedTuple):
    """One way to leave grants out, and the reason if that leaves none."""

    check: str
    reason: str
    keeps: Callable[[Rule, _Asked], bool]
    got: Callable[[_Asked], str]


def _key_names(request: Request) -> frozenset[str] | None:
    """The names of the key items, if they are the same in all items."""
    names = {frozenset(item.keys) for item in request.items}
    return names.pop() if len(names) == 1 else None


def _names_of(asked: _Asked) -> str:
    return "items with different keys" if asked.keys is None else _listed(asked.keys)


_NARROW = (
    _Narrow(
        "consumer",
        "grant",
        lambda rule, asked: asked.consumer in rule.consumers,
        lambda asked: asked.consumer,
    ),
    _Narrow(
        "day",
        "grant",
        lambda rule, asked: rule.holds(asked.today),
        lambda asked: asked.today.isoformat(),
    ),
    _Narrow(
        "purpose",
        "purpose",
        lambda rule, asked: asked.request.purpose in rule.purposes,
        lambda asked: asked.request.purpose,
    ),
    _Narrow(
        "op",
        "grant",
        lambda rule, asked: asked.request.op in rule.ops,
        lambda asked: asked.request.op,
    ),
    _Narrow(
        "keys", "key", lambda rule, asked: frozenset(rule.keys) == asked.keys, _names_of
    ),
)


# --- holding against the grant ----------------------------------------------------


def _basis(rule: Rule, request: Request, _offer: Offer) -> Iterator[str]:
    pattern = rule.purposes[request.purpose]
    if not pattern.matches(request.basis):
        yield f"no match with {pattern.text}"


def _fields(rule: Rule, request: Request, offer: Offer) -> Iterator[str]:
    if request.op == "exists":
        if request.fields:
            yield "exists has no fields"
        return
    if not request.fields:
        yield f"{request.op} has fields"
    for name in request.fields:
        treatment, bound = rule.fields.get(name), offer.by_name.get(name)
        if treatment is None or bound is None:
            yield f"{name}: not granted"
        elif request.op == "get" and not treatment.given:
            yield f"{name}: may be compared only"
        elif request.op == "verify" and not _compared(treatment, bound):
            yield f"{name}: may not be compared"


def _compared(treatment: Treatment, bound: BoundItem) -> bool:
    return treatment.compared and bound.item.type in COMPARED_TYPES


def _claims(_rule: Rule, request: Request, offer: Offer) -> Iterator[str]:
    wanted = set(request.fields) if request.op == "verify" else None
    for i, item in enumerate(request.items):
        claims = item.claims
        if claims is None or wanted is None:
            if claims is not None or wanted is not None:
                yield f"item {i}: claims belong to verify, and only there"
            continue
        if claims.keys() != wanted:
            yield f"item {i}: claims are not those of fields"
        for name, text in claims.items():
            bound = offer.by_name.get(name)
            if bound is None or not (text is None or _claim(bound, text)):
                yield f"item {i}: {name} is no canonical text of its type"


def _claim(bound: BoundItem, text: str) -> bool:
    """Whether a claim can be compared; text too long for its item just differs."""
    if bound.item.type in ("C", "M"):
        return "\0" not in text
    return canonical(bound.item, text)


def _keys(rule: Rule, request: Request, offer: Offer) -> Iterator[str]:
    for name in rule.keys:
        bound = offer.by_name.get(name)
        if bound is None:
            yield f"{name}: not shared"
            continue
        ascii_only = not NUMBERS.isdisjoint(bound.rules)
        for i, item in enumerate(request.items):
            text = item.keys[name]
            if not canonical(bound.item, text):
                yield f"item {i}: {name} is no canonical text of its type"
            elif ascii_only and not (text.isascii() and text.isalnum()):
                yield f"item {i}: {name} is not of ASCII letters and digits"


def _items(rule: Rule, request: Request, _offer: Offer) -> Iterator[str]:
    if len(request.items) > rule.max_items:
        yield f"{len(request.items)} items, at most {rule.max_items}"


_Test = Callable[[Rule, Request, Offer], Iterator[str]]
_HOLD: tuple[tuple[str, str, _Test], ...] = (
    ("basis", "basis", _basis),
    ("fields", "field", _fields),
    ("claims", "field", _claims),
    ("texts", "key", _keys),
    ("items", "quota", _items),
)
"""Name of the check, reason if it fails, and what yields what stands in the way."""

CHECKS = ("resource", *(one.check for one in _NARROW), "one", *(c for c, _, _ in _HOLD))
"""Names of all steps, in order."""

_PASSED = {check: Step(check, True) for check in CHECKS}


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
