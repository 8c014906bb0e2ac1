# SPDX-License-Identifier: Apache-2.0
"""A resource that may be looked up, grants as text, and requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any

from agent.catalog.document import Resource
from agent.catalog.gate import Offer, offers
from agent.lookup.policy.judge import Active, Allowed, Denied, judge
from agent.lookup.policy.load import load
from agent.wire.lookup import LookupItem, Officer, Request
from tests.support.catalog_text import raw

RESOURCE = "101001/000001"
MEDICAL = "11990100MB0000027F"
HOUSING = "12990100MB00000357"
TODAY = date(2026, 11, 21)
SUBJECT = "990102199003070011"
BINDING = {"source": "rsj", "table": "public.person"}
_BASIS = {"level": "law", "title": "某法", "article": "第一条"}

ITEMS: tuple[dict[str, Any], ...] = (
    {"name": "person_id", "title": "人员编号", "type": "I", "key": True},
    {
        "name": "citizen_id",
        "title": "公民身份号码",
        "type": "C",
        "length": 18,
        "rules": ["citizen_id"],
    },
    {"name": "name", "title": "姓名", "type": "C", "length": 50},
    {"name": "birth_date", "title": "出生日期", "type": "D"},
    {"name": "amount", "title": "金额", "type": "N", "length": 12, "scale": 2},
    {"name": "active", "title": "在职", "type": "L"},
    {"name": "ratio", "title": "比例", "type": "B"},
    {"name": "photo", "title": "照片", "type": "G"},
    {"name": "note", "title": "备注", "type": "M"},
    {"name": "changed", "title": "更新时间", "type": "T"},
    {
        "name": "mobile",
        "title": "手机号码",
        "type": "C",
        "length": 20,
        "share_type": "not_shared",
        "legal_basis": _BASIS,
    },
)


def person(**changes: Any) -> Resource:
    """A resource document with ``lookup = true``."""
    return Resource.model_validate(
        raw(**{"items": [*ITEMS], "lookup": True, "binding": BINDING, **changes})
    )


OFFERS = offers((person(),))
"""The person resource, open."""


def offered(*resources: Resource) -> Mapping[str, Offer]:
    """What the gate opens; the person resource if nothing is said."""
    return offers(resources) if resources else OFFERS


def grant(**changes: Any) -> dict[str, Any]:
    """A grant as tables; None takes a key out."""
    found: dict[str, Any] = {
        "id": "ybj-person",
        "consumers": [MEDICAL],
        "resource": RESOURCE,
        "ops": ["get", "verify", "exists"],
        "keys": ["citizen_id"],
        "purposes": [
            {"purpose": "administrative_basis", "basis": "YBJ-20[0-9]{2}-[0-9]{4}"}
        ],
        "fields": {
            "name": "show",
            "birth_date": "verify",
            "citizen_id": "mask:citizen_id",
        },
        "max_items": 3,
        "valid": {"from": date(2026, 1, 1), "to": date(2026, 12, 31)},
    }
    found |= changes
    return {key: value for key, value in found.items() if value is not None}


def toml(*grants: Mapping[str, Any]) -> str:
    """Grants as the text of a policy."""
    lines: list[str] = []
    for one in grants:
        lines.append("[[grants]]")
        lines += [f"{key} = {_value(value)}" for key, value in one.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items())
        return "{" + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, date):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def active(*grants: Mapping[str, Any], rev: int = 1) -> Active:
    """A policy in force."""
    return Active(rev, load(toml(*grants), offered()))


def ask(**changes: Any) -> Request:
    """A request that :func:`grant` allows; ``keys`` and ``claims`` are of one item."""
    keys = changes.pop("keys", {"citizen_id": SUBJECT})
    claims = changes.pop("claims", None)
    items = changes.pop("items", (LookupItem(keys, claims),))
    whole = Request(
        iss=f"{MEDICAL}/fep1",
        aud="11990100MB0000018H/rsj-fep1",
        jti="01932e3c-7b3a-7000-8000-000000000001",
        iat=1_795_219_200,
        exp=1_795_219_260,
        op="get",
        resource=RESOURCE,
        items=items,
        fields=("name",),
        purpose="administrative_basis",
        basis="YBJ-2026-0042",
        officer=Officer("7301", "cert"),
    )
    return replace(whole, **changes)


def decide(
    request: Request,
    *grants: Mapping[str, Any],
    today: date = TODAY,
    offers: Mapping[str, Offer] | None = None,
) -> Allowed | Denied:
    """What a policy of these grants says; of :func:`grant` if none is given."""
    policy = active(*(grants or (grant(),)))
    return judge(policy, request, offered() if offers is None else offers, today=today)


def reasons(found: Allowed | Denied) -> tuple[str, ...]:
    """Why it was denied; () if it was not."""
    return found.reasons if isinstance(found, Denied) else ()
