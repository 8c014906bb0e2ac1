# SPDX-License-Identifier: Apache-2.0
"""The judge: nothing is allowed that no grant names."""

from __future__ import annotations

import random
from datetime import date
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import find, given

from agent.errors import PolicyInvalid
from agent.lookup.policy.judge import CHECKS, Active, Allowed, Denied, judge
from agent.lookup.policy.load import load
from agent.lookup.policy.rules import NOTHING
from agent.model.treatment import Treatment
from agent.wire.lookup import OPS, PURPOSES, REASONS, LookupItem, Request
from tests.support.grants import (
    HOUSING,
    MEDICAL,
    RESOURCE,
    SUBJECT,
    TODAY,
    active,
    ask,
    decide,
    grant,
    offered,
    person,
    reasons,
    toml,
)
from tests.support.tries import tries

SQL = (
    "' OR '1'='1",
    "1; DROP TABLE person",
    "x' UNION SELECT name FROM person --",
    "\\'; select pg_sleep(9) --",
)


def test_a_granted_request_is_allowed_by_its_grant() -> None:
    """The answer names the grant, the keys in its order and each field's treatment."""
    found = decide(ask(fields=("citizen_id", "name")))
    assert isinstance(found, Allowed)
    assert found.rule == "ybj-person"
    assert found.keys == ("citizen_id",)
    assert found.offer.table == ("public", "person")
    assert list(found.fields.items()) == [
        ("citizen_id", Treatment("mask", "citizen_id")),  # type: ignore[arg-type]
        ("name", Treatment("show")),
    ]
    assert all(step.passed for step in found.steps)


@pytest.mark.parametrize("op", OPS)
def test_each_operation_is_allowed_where_it_is_granted(op: Any) -> None:
    """get, verify and exists, each with its own shape."""
    shapes: dict[str, dict[str, Any]] = {
        "get": {},
        "verify": {"claims": {"name": "张三"}},
        "exists": {"fields": ()},
    }
    assert isinstance(decide(ask(op=op, **shapes[op])), Allowed)


def test_a_policy_without_grants_refuses_everything() -> None:
    """Also one that was never loaded."""
    for policy in (NOTHING, load("", offered()), load("grants = []", offered())):
        found = judge(Active(0, policy), ask(), offered(), today=TODAY)
        assert reasons(found) == ("grant",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": f"{HOUSING}/fep1"}, "grant"),
        ({"iss": f"{MEDICAL.lower()}/fep1"}, "grant"),
        ({"resource": "101001/000002"}, "grant"),
        ({"purpose": "work_reference"}, "purpose"),
        ({"purpose": "data_verification"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"fields": ("birth_date",)}, "field"),
        ({"fields": ("amount",)}, "field"),
        ({"fields": ("mobile",)}, "field"),
        ({"fields": ("*",)}, "field"),
        ({"fields": ("name", "photo")}, "field"),
        ({"fields": ()}, "field"),
        ({"op": "exists"}, "field"),
        ({"op": "verify"}, "field"),
        ({"op": "verify", "claims": {}, "fields": ()}, "field"),
        ({"claims": {"name": "张三"}}, "field"),
        ({"keys": {"name": "张三"}}, "key"),
        ({"keys": {"citizen_id": SUBJECT, "name": "张三"}}, "key"),
        ({"keys": {}}, "key"),
        ({"items": ()}, "key"),
    ],
)
def test_what_lies_outside_the_grant_is_denied_for_it(
    changes: dict[str, Any], reason: str
) -> None:
    """One thing is changed; the reason names it."""
    assert reasons(decide(ask(**changes))) == (reason,)


@pytest.mark.parametrize("op", ["list", "GET", "get ", "delete", "", "*"])
def test_an_unknown_operation_is_denied(op: Any) -> None:
    """Were it ever to come past the parser."""
    assert reasons(decide(ask(op=op))) == ("grant",)


def test_an_operation_that_is_not_granted_is_denied() -> None:
    """A grant to compare does not give values."""
    only = grant(ops=["verify"], fields={"name": "verify"})
    assert reasons(decide(ask(), only)) == ("grant",)


def test_a_masked_item_is_not_compared() -> None:
    """The hidden part could be guessed piece by piece."""
    request = ask(op="verify", fields=("citizen_id",), claims={"citizen_id": SUBJECT})
    assert reasons(decide(request)) == ("field",)


def test_an_item_to_compare_is_not_given() -> None:
    """Its value never leaves, only match or mismatch."""
    assert reasons(decide(ask(fields=("birth_date",)))) == ("field",)
    claims = {"birth_date": "1990-03-07"}
    request = ask(op="verify", fields=("birth_date",), claims=claims)
    assert isinstance(decide(request), Allowed)


@pytest.mark.parametrize("name", ["ratio", "photo"])
def test_what_has_no_canonical_text_is_not_compared(name: str) -> None:
    """Floating-point numbers and bytes are given or not, but never claimed."""
    shown = grant(fields={"name": "show", name: "show"})
    assert isinstance(decide(ask(fields=(name,)), shown), Allowed)
    request = ask(op="verify", fields=(name,), claims={name: "1"})
    assert reasons(decide(request, shown)) == ("field",)


# --- keys -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "%",
        "*",
        "99010219900307001_",
        "9901021990030700%",
        "9901021990030700?",
        "[0-9]*",
        "",
        "９９０１０２１９９００３０７００１１",
        "99010219900307001１",
        "99010219900307001Ⅹ",
        "99010219900307001Х",
        "٩٩٠١٠٢١٩٩٠٠٣٠٧٠٠١٥",
        "99010219900307001\u200b",
        " 99010219900307001",
        "990102199003070011\n",
        "990102199003070011\0",
        "9901021990030700119",
        *SQL,
    ],
)
def test_an_identity_number_with_wildcards_or_look_alikes_is_denied(text: str) -> None:
    """A key of such an item is ASCII letters and digits, no longer than the item."""
    assert reasons(decide(ask(keys={"citizen_id": text}))) == ("key",)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        (
            "person_id",
            ["01", "+1", "1.0", "-0", " 1", "1 ", "１", "1e3", "", "1_0", "%"],
        ),
        ("birth_date", ["1990-3-7", "19900307", "1990-02-30", "１990-03-07", "1990"]),
        ("amount", ["1.10", "01", "-0", ".5", "1e2", "0.001", "１"]),
        (
            "changed",
            ["2026-11-21T08:00:00Z", "2026-11-21", "2026-11-21 08:00:00.000000Z"],
        ),
    ],
)
def test_a_key_that_is_not_canonical_is_denied(name: str, texts: list[str]) -> None:
    """One value has one text, so that what was judged is what is asked."""
    by = grant(keys=[name])
    for text in [*texts, *SQL]:
        assert reasons(decide(ask(keys={name: text}), by)) == ("key",)


@pytest.mark.parametrize("text", ["%", "张_", "*", "张三' --", "ｶﾞ", *SQL])
def test_a_wildcard_in_a_text_key_stays_a_plain_character(text: str) -> None:
    """It is handed on as it is, to be compared exactly: no text is ever rewritten."""
    request = ask(keys={"name": text})
    found = decide(request, grant(keys=["name"]))
    assert isinstance(found, Allowed)
    assert request.items[0].keys == {"name": text}


def test_a_part_of_the_keys_is_denied() -> None:
    """A grant by two items is not one by either of them."""
    both = grant(keys=["name", "birth_date"])
    keys = {"name": "张三", "birth_date": "1990-03-07"}
    assert isinstance(decide(ask(keys=keys), both), Allowed)
    for name, text in keys.items():
        assert reasons(decide(ask(keys={name: text}), both)) == ("key",)


def test_items_with_different_keys_are_denied() -> None:
    """Even if a grant fits each of them."""
    by_number, by_name = grant(), grant(id="by-name", keys=["name"])
    items = (LookupItem({"citizen_id": SUBJECT}), LookupItem({"name": "张三"}))
    assert reasons(decide(ask(items=items), by_number, by_name)) == ("key",)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_forbidden_item_denies_all(place: int) -> None:
    """Wherever it stands among allowed ones."""
    items = [LookupItem({"citizen_id": SUBJECT}) for _ in range(3)]
    assert isinstance(decide(ask(items=tuple(items))), Allowed)
    items[place] = LookupItem({"citizen_id": "%"})
    assert reasons(decide(ask(items=tuple(items)))) == ("key",)


def test_more_items_than_granted_are_denied() -> None:
    """max_items counts the items of one request."""
    item = LookupItem({"citizen_id": SUBJECT})
    assert isinstance(decide(ask(items=(item,) * 3)), Allowed)
    assert reasons(decide(ask(items=(item,) * 4))) == ("quota",)


# --- claims -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("birth_date", "1990-3-7"),
        ("birth_date", "１990-03-07"),
        ("active", "TRUE"),
        ("active", "1"),
        ("amount", "1.10"),
        ("name", "张三\0"),
        *(("birth_date", text) for text in SQL),
    ],
)
def test_a_claim_that_is_not_canonical_is_denied(name: str, text: str) -> None:
    """It could never be equal, and 'mismatch' would be a false answer."""
    compared = grant(ops=["verify"], fields={name: "verify"})
    request = ask(op="verify", fields=(name,), claims={name: text})
    assert reasons(decide(request, compared)) == ("field",)


@pytest.mark.parametrize("text", [None, "", "张三" * 100, *SQL])
def test_any_text_may_be_claimed_of_a_text_item(text: str | None) -> None:
    """NULL equals NULL; what is too long for the item just differs."""
    request = ask(op="verify", fields=("name",), claims={"name": text})
    assert isinstance(decide(request), Allowed)


def test_claims_of_other_fields_are_denied() -> None:
    """More claims than fields, or other ones, in any item."""
    good = LookupItem({"citizen_id": SUBJECT}, {"name": "张三"})
    for claims in ({"birth_date": "1990-03-07"}, {"name": "x", "amount": "1"}, None):
        bad = LookupItem({"citizen_id": SUBJECT}, claims)
        request = ask(op="verify", items=(good, bad))
        assert reasons(decide(request)) == ("field",)


# --- basis ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "basis",
    [
        "",
        "YBJ-2026-004",
        "YBJ-2026-00421",
        "xYBJ-2026-0042",
        "YBJ-2026-0042\n",
        "YBJ-2026-0042\nYBJ-2026-0042",
        "YBJ-2026-0042 OR 1=1",
        "ybj-2026-0042",
        "YBJ-2026-００４２",
        "YBJ-２０２６-0042",
        "YBJ-2026-٠٠٤٢",
        "ＹBJ-2026-0042",
        "УBJ-2026-0042",
        "YBJ‐2026‐0042",
        *SQL,
    ],
)
def test_a_basis_that_matches_in_part_only_is_denied(basis: str) -> None:
    """The pattern covers the whole of it; digits and letters are ASCII."""
    assert reasons(decide(ask(basis=basis))) == ("basis",)


def test_a_basis_that_is_not_ascii_is_denied_whatever_the_pattern() -> None:
    """Even where the pattern would take any character."""
    loose = grant(purposes=[{"purpose": "collaboration", "basis": ".*"}])
    for basis, wanted in (("anything", ()), ("云医保〔2026〕1号", ("basis",))):
        request = ask(purpose="collaboration", basis=basis)
        assert reasons(decide(request, loose)) == wanted


def test_a_pattern_that_would_run_for_ever_elsewhere_does_not() -> None:
    """RE2 is linear: 256 characters of the worst text are judged in no time."""
    worst = grant(purposes=[{"purpose": "collaboration", "basis": "(a+)+(a|a)*b"}])
    request = ask(purpose="collaboration", basis="a" * 256)
    assert reasons(decide(request, worst)) == ("basis",)


def test_the_basis_of_another_purpose_is_denied() -> None:
    """Each purpose has its own pattern."""
    both = grant(
        ops=["verify"],
        fields={"name": "verify"},
        purposes=[
            {"purpose": "administrative_basis", "basis": "YBJ-[0-9]+"},
            {"purpose": "data_verification", "basis": "JH-[0-9]+"},
        ],
    )
    request = ask(op="verify", claims={"name": "x"}, purpose="data_verification")
    assert reasons(decide(request, both)) == ("basis",)


# --- time, catalog ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("today", "wanted"),
    [
        (date(2025, 12, 31), ("grant",)),
        (date(2026, 1, 1), ()),
        (date(2026, 12, 31), ()),
        (date(2027, 1, 1), ("grant",)),
    ],
)
def test_a_grant_holds_on_its_days_only(today: date, wanted: tuple[str, ...]) -> None:
    """Neither before its first day nor after its last; both days included."""
    assert reasons(decide(ask(), today=today)) == wanted


def test_grants_that_follow_each_other_take_turns() -> None:
    """The day decides which one is named."""
    spring = grant(valid={"to": date(2026, 6, 30)})
    autumn = grant(id="autumn", valid={"from": date(2026, 7, 1)})
    for today, rule in (
        (date(2026, 6, 30), "ybj-person"),
        (date(2026, 7, 1), "autumn"),
    ):
        found = decide(ask(), spring, autumn, today=today)
        assert isinstance(found, Allowed)
        assert found.rule == rule


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lookup": False}, "grant"),
        ({"secrecy_level": "secret"}, "grant"),
        (
            {
                "share_type": "not_shared",
                "legal_basis": {"level": "law", "title": "某法", "article": "一"},
            },
            "grant",
        ),
    ],
)
def test_a_resource_that_was_closed_since_is_denied(
    changes: dict[str, Any], reason: str
) -> None:
    """The gate comes first, also when the policy is older than the catalog."""
    found = decide(ask(), offers=offered(person(**changes)))
    assert reasons(found) == (reason,)


@pytest.mark.parametrize(("name", "reason"), [("name", "field"), ("citizen_id", "key")])
def test_an_item_that_is_not_shared_any_more_is_denied(name: str, reason: str) -> None:
    """As a field and as a key."""
    items = [dict(item) for item in person().model_dump()["items"]]
    for item in items:
        if item["name"] == name:
            item["share_type"] = "not_shared"
            item["legal_basis"] = {"level": "law", "title": "某法", "article": "一"}
    found = decide(ask(), offers=offered(person(items=items)))
    assert reasons(found) == (reason,)


# --- what is told -----------------------------------------------------------------


def test_all_that_stands_against_the_grant_is_told() -> None:
    """Basis, field and key at once, each reason once."""
    request = ask(basis="x", fields=("photo",), keys={"citizen_id": "%"})
    found = decide(request)
    assert reasons(found) == ("basis", "field", "key")
    assert [s.check for s in found.steps] == [c for c in CHECKS if c != "one"]


def test_no_step_holds_a_key_or_a_claim() -> None:
    """Names, places and patterns only."""
    item = LookupItem({"citizen_id": "canary-1"}, {"birth_date": "canary-2"})
    request = ask(op="verify", items=(item,), fields=("birth_date",), basis="canary-3")
    found = decide(request)
    assert reasons(found) == ("basis", "field", "key")
    assert "canary" not in str(found.steps) + repr(found)


# --- properties -------------------------------------------------------------------

_FIELDS = ("name", "birth_date", "citizen_id", "amount")
_USES = {
    "get": ["show", "mask:hide"],
    "verify": ["show", "verify"],
    "exists": ["nothing"],
}
_VALID = [{}, {"to": date(2026, 6, 30)}, {"from": date(2026, 7, 1)}]


@st.composite
def _grant(draw: Any) -> dict[str, Any]:
    """A grant that is right by itself, more often than not for one operation."""
    ops = draw(st.sampled_from([["get"], ["verify"], ["exists"], ["get", "verify"]]))
    uses = [use for use in ("show", "verify", "mask:hide") if use in _USES[ops[0]]]
    chosen = draw(st.sets(st.sampled_from(_FIELDS), min_size=1)) if uses else set()
    purposes = draw(st.sets(st.sampled_from(PURPOSES), min_size=1, max_size=2))
    if "get" in ops:
        purposes = purposes - {"data_verification"} or {"collaboration"}
    return {
        "consumers": [draw(st.sampled_from([MEDICAL, HOUSING]))],
        "ops": ops,
        "keys": draw(
            st.sampled_from([["citizen_id"], ["name"], ["citizen_id", "name"]])
        ),
        "purposes": [
            {"purpose": p, "basis": draw(st.sampled_from(["A[0-9]+", "B[0-9]+"]))}
            for p in sorted(purposes)
        ],
        "fields": {
            name: "show" if len(ops) > 1 else draw(st.sampled_from(uses))
            for name in sorted(chosen)
        },
        "max_items": draw(st.integers(1, 3)),
        "valid": draw(st.sampled_from(_VALID)),
    }


_days = st.sampled_from([date(2026, 6, 30), date(2026, 7, 1)])
_policies: Any = st.lists(_grant(), min_size=1, max_size=4)
_TEXTS = {"citizen_id": ["A1", "A1", "%"], "name": ["%", "张三"]}


def _mostly(draw: Any, good: Any, *others: Any) -> Any:
    """The good value in three of four draws."""
    return draw(st.sampled_from([good] * (3 * len(others)) + list(others)))


@st.composite
def _cases(draw: Any) -> tuple[list[dict[str, Any]], Request, date]:
    """A policy, and a request that is near to one of its grants."""
    tables = draw(_policies)
    near = draw(st.sampled_from(tables))
    op = _mostly(draw, near["ops"][0], *OPS)
    few = draw(st.sets(st.sampled_from([*near["fields"], "amount"])))
    fields = _mostly(draw, tuple(near["fields"]), tuple(few), ())
    purpose = near["purposes"][0]
    keys = {
        name: draw(st.sampled_from(_TEXTS[name]))
        for name in _mostly(draw, near["keys"], ["citizen_id"], ["name"])
    }
    item = LookupItem(keys, dict.fromkeys(fields) if op == "verify" else None)
    request = ask(
        iss=f"{_mostly(draw, near['consumers'][0], MEDICAL, HOUSING)}/n",
        op=op,
        fields=fields,
        purpose=_mostly(draw, purpose["purpose"], *PURPOSES),
        basis=_mostly(draw, f"{purpose['basis'][0]}1", "A1", "B2", "A", "A1x"),
        items=(item,) * _mostly(draw, 1, 2, 3, 4),
    )
    return tables, request, draw(_days)


def _named(tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [grant(id=f"g{i}", **table) for i, table in enumerate(tables)]


def _loaded(tables: list[dict[str, Any]]) -> Active | None:
    try:
        return active(*tables)
    except PolicyInvalid:
        return None


def _gives(table: dict[str, Any], request: Request, today: date) -> bool:
    """Whether a grant, as a person reads it, gives what is asked."""
    valid = table["valid"]
    basis = {p["purpose"]: p["basis"][0] for p in table["purposes"]}
    return (
        request.iss.split("/")[0] in table["consumers"]
        and request.resource == table["resource"]
        and request.op in table["ops"]
        and valid.get("from", today) <= today <= valid.get("to", today)
        and request.basis in ("A1", "B1", "B2")
        and basis.get(request.purpose) == request.basis[0]
        and all(set(i.keys) == set(table["keys"]) for i in request.items)
        and all(i.keys.get("citizen_id", "A1") == "A1" for i in request.items)
        and all(table["fields"].get(f) in _USES[request.op] for f in request.fields)
        and bool(request.fields) is (request.op != "exists")
        and len(request.items) <= table["max_items"]
    )


@tries(500)
@given(_cases())
def test_for_any_policy_nothing_that_no_grant_names_is_allowed(
    case: tuple[list[dict[str, Any]], Request, date],
) -> None:
    """Allowed exactly if one grant, read by itself, gives all of it."""
    tables, request, today = case
    grants = _named(tables)
    policy = _loaded(grants)
    if policy is None:
        return
    found = judge(policy, request, offered(), today=today)
    giving = [g["id"] for g in grants if _gives(g, request, today)]
    if isinstance(found, Allowed):
        assert giving == [found.rule]
    else:
        assert giving == []
        assert set(found.reasons) <= set(REASONS)
        assert found.reasons


def test_the_property_meets_allowed_requests() -> None:
    """The policies and requests above do not all end in a denial."""

    def gives(drawn: tuple[list[dict[str, Any]], Request, date]) -> bool:
        policy = _loaded(_named(drawn[0]))
        return policy is not None and isinstance(
            judge(policy, drawn[1], offered(), today=drawn[2]), Allowed
        )

    assert find(_cases(), gives)


@tries(100)
@given(_cases(), st.integers(0, 1000))
def test_the_order_of_grants_never_matters(
    case: tuple[list[dict[str, Any]], Request, date], seed: int
) -> None:
    """Shuffled, the same policy says the same, or is refused the same."""
    tables, request, today = case
    grants = _named(tables)
    shuffled = random.Random(seed).sample(grants, len(grants))
    one, other = _loaded(grants), _loaded(shuffled)
    assert (one is None) is (other is None)
    if one is not None and other is not None:
        assert judge(one, request, offered(), today=today) == judge(
            other, request, offered(), today=today
        )


@tries(100)
@given(_cases(), _grant())
def test_a_grant_that_overlaps_another_is_refused_at_load(
    case: tuple[list[dict[str, Any]], Request, date], more: dict[str, Any]
) -> None:
    """What one grant gives, no added one may give too, whatever else it says."""
    tables, request, today = case
    grants = _named(tables)
    if _loaded(grants) is None or not any(_gives(g, request, today) for g in grants):
        return
    added = grant(**{**more, "id": "added"})
    if _gives(added, request, today):
        with pytest.raises(PolicyInvalid, match="no other grant fits"):
            load(toml(*grants, added), offered())
    giving = next(g for g in grants if _gives(g, request, today))
    with pytest.raises(PolicyInvalid, match="no other grant fits"):
        load(toml(*grants, {**giving, "id": "added", "max_items": 1000}), offered())


def test_denied_says_no_more_than_its_reasons() -> None:
    """What the consumer is told is from the closed list."""
    found = decide(ask(purpose="work_reference"))
    assert isinstance(found, Denied)
    assert found.reasons == ("purpose",)
    assert RESOURCE not in "".join(found.reasons)
