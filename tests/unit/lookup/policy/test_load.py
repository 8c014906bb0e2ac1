# SPDX-License-Identifier: Apache-2.0
"""A policy file becomes a policy, or every fault of it is told."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any, get_args

import hypothesis.strategies as st
import pytest
from hypothesis import given

from agent.errors import PolicyInvalid
from agent.lookup.policy.check import MASKED_TYPES, treatment
from agent.lookup.policy.document import UsePurpose
from agent.lookup.policy.load import LARGEST, digest, load, read
from agent.lookup.policy.pattern import BadPattern, Pattern
from agent.lookup.policy.rules import Policy
from agent.model.treatment import MaskKind, Treatment
from agent.wire.lookup import PURPOSES
from tests.support.grants import (
    HOUSING,
    MEDICAL,
    RESOURCE,
    grant,
    offered,
    person,
    toml,
)
from tests.support.tries import tries


def faults(text: str, **more: Any) -> dict[str, tuple[str, str | None]]:
    """Key -> expected and got of all that is wrong with a policy."""
    with pytest.raises(PolicyInvalid) as e:
        load(text, offered(), **more)
    return {fault.key: (fault.expected, fault.got) for fault in e.value.faults}


def test_a_policy_is_read() -> None:
    """Every key of a grant arrives, compiled."""
    (rule,) = load(toml(grant(note="议定")), offered()).rules
    assert (rule.id, rule.consumers, rule.resource) == (
        "ybj-person",
        (MEDICAL,),
        RESOURCE,
    )
    assert rule.ops == {"get", "verify", "exists"}
    assert rule.keys == ("citizen_id",)
    assert rule.purposes["administrative_basis"].matches("YBJ-2026-0042")
    assert rule.fields == {
        "name": Treatment("show"),
        "birth_date": Treatment("verify"),
        "citizen_id": Treatment("mask", MaskKind.CITIZEN_ID),
    }
    assert (rule.max_items, rule.note) == (3, "议定")
    assert (rule.first, rule.last) == (date(2026, 1, 1), date(2026, 12, 31))


def test_what_may_be_left_out_has_its_default() -> None:
    """100 items, no end, no note; no fields where none are needed."""
    bare = grant(max_items=None, valid=None, fields=None, ops=["exists"])
    (rule,) = load(toml(bare), offered()).rules
    assert (rule.max_items, rule.first, rule.last, rule.note) == (100, None, None, "")


def test_the_purposes_are_those_of_the_wire() -> None:
    """No purpose can be granted that no request can name, and none is missing."""
    assert set(get_args(UsePurpose)) == set(PURPOSES)


def test_every_kind_of_mask_can_be_granted_for_some_type() -> None:
    """The table of types has them all, and each can be written."""
    assert set(MASKED_TYPES) == set(MaskKind)
    for kind in MaskKind:
        assert treatment(f"mask:{kind}") == Treatment("mask", kind)


@pytest.mark.parametrize(
    "text", ["", "mask", "mask:", "mask:no", "Show", "show ", "hide", "verify:x", "*"]
)
def test_another_treatment_means_nothing(text: str) -> None:
    """It is a fault that lists what there is."""
    assert treatment(text) is None
    assert "grants.ybj-person.fields.name" in faults(toml(grant(fields={"name": text})))


ONE = "grants.ybj-person"


@pytest.mark.parametrize(
    ("changes", "key", "expected", "got"),
    [
        (
            {"id": "Tax Office"},
            "grants.Tax Office.id",
            "a-z, 0-9 and -",
            "'Tax Office'",
        ),
        ({"id": None}, "grants.1.id", "a value", "nothing"),
        ({"consumers": []}, f"{ONE}.consumers", "at least 1", "a list"),
        ({"consumers": ["*"]}, f"{ONE}.consumers.1", "credit code", "'*'"),
        ({"consumers": [MEDICAL[:17]]}, f"{ONE}.consumers.1", "18 characters", "'1199"),
        ({"consumers": ["１" * 18]}, f"{ONE}.consumers.1", "credit code", "'１１"),
        ({"consumers": MEDICAL}, f"{ONE}.consumers", "tuple", f"'{MEDICAL}'"),
        ({"consumers": [MEDICAL] * 2}, f"{ONE}.consumers", "once", "2 times"),
        ({"resource": "101001/*"}, f"{ONE}.resource", "101001/000001", "101001/*"),
        ({"resource": "9/9"}, f"{ONE}.resource", "opens for lookups", "'9/9'"),
        ({"ops": []}, f"{ONE}.ops", "at least 1", "a list"),
        ({"ops": ["list"]}, f"{ONE}.ops.1", "'get', 'verify' or 'exists'", "'list'"),
        ({"ops": ["get", "verify", "get"]}, f"{ONE}.ops", "once", "'get' 2 times"),
        ({"keys": []}, f"{ONE}.keys", "at least 1", "a list"),
        ({"keys": ["*"]}, f"{ONE}.keys.1", "an item of", "'*'"),
        ({"keys": ["citizenid"]}, f"{ONE}.keys.1", "`citizen_id`", "'citizenid'"),
        ({"keys": ["mobile"]}, f"{ONE}.keys.1", "a shared item", "not shared"),
        ({"keys": ["ratio"]}, f"{ONE}.keys.1", "of type C, D", "type B"),
        ({"keys": ["note"]}, f"{ONE}.keys.1", "of type C, D", "type M"),
        ({"keys": ["name", "name"]}, f"{ONE}.keys", "once", "'name' 2 times"),
        (
            {"fields": None, "ops": ["get", "exists"]},
            f"{ONE}.fields",
            "get is among the ops",
            "none",
        ),
        (
            {"fields": {"mobile": "show"}},
            f"{ONE}.fields.mobile",
            "shared",
            "not shared",
        ),
        ({"fields": {"nmae": "show"}}, f"{ONE}.fields.nmae", "`name`", "'nmae'"),
        ({"fields": {"*": "show"}}, f"{ONE}.fields.*", "an item of", "'*'"),
        ({"fields": {"name": 1}}, f"{ONE}.fields.name", "string", "1"),
        ({"fields": ["name"]}, f"{ONE}.fields", "dictionary", "a list"),
        (
            {"fields": {"name": "show", "birth_date": "mask:mobile"}},
            f"{ONE}.fields.birth_date",
            "an item of type C, I, M, N for mask:mobile",
            "type D",
        ),
        (
            {"fields": {"name": "show", "ratio": "verify"}},
            f"{ONE}.fields.ratio",
            "for verify",
            "type B",
        ),
        (
            {"ops": ["get"]},
            f"{ONE}.fields.birth_date",
            "an op that uses it",
            "ops get",
        ),
        (
            {"ops": ["verify"]},
            f"{ONE}.fields.citizen_id",
            "an op that uses it",
            "ops verify",
        ),
        (
            {"ops": ["exists"], "fields": {"name": "show"}},
            f"{ONE}.fields.name",
            "an op that uses it",
            "ops exists",
        ),
        (
            {"fields": {"birth_date": "verify"}},
            f"{ONE}.fields",
            "get is among the ops",
            "none",
        ),
        (
            {"fields": {"citizen_id": "mask:citizen_id"}},
            f"{ONE}.fields",
            "verify is among the ops",
            "none",
        ),
        ({"purposes": []}, f"{ONE}.purposes", "at least 1", "a list"),
        (
            {"purposes": [{"purpose": "research", "basis": "x"}]},
            f"{ONE}.purposes.1.purpose",
            "'administrative_basis'",
            "'research'",
        ),
        (
            {"purposes": [{"purpose": "collaboration"}]},
            f"{ONE}.purposes.1.basis",
            "a value",
            "nothing",
        ),
        (
            {"purposes": [{"purpose": "collaboration", "basis": ""}]},
            f"{ONE}.purposes.1.basis",
            "at least 1 character",
            "''",
        ),
        (
            {"purposes": [{"purpose": "data_verification", "basis": "x"}]},
            f"{ONE}.purposes.1.purpose",
            "only verify and exists",
            "get among the ops",
        ),
        (
            {"purposes": [{"purpose": "collaboration", "basis": "x"}] * 2},
            f"{ONE}.purposes",
            "once",
            "'collaboration' 2 times",
        ),
        ({"max_items": 0}, f"{ONE}.max_items", "greater than or equal to 1", "0"),
        ({"max_items": 1001}, f"{ONE}.max_items", "less than or equal to 1000", "1001"),
        ({"max_items": True}, f"{ONE}.max_items", "valid integer", "True"),
        ({"max_items": "9"}, f"{ONE}.max_items", "valid integer", "'9'"),
        (
            {"valid": {"from": date(2026, 2, 1), "to": date(2026, 1, 31)}},
            f"{ONE}.valid.to",
            "a day from 2026-02-01 on",
            "2026-01-31",
        ),
        ({"valid": {"to": "2026-12-31"}}, f"{ONE}.valid.to", "valid date", "'2026"),
        (
            {"valid": {"until": 1}},
            f"{ONE}.valid.until",
            "a known key",
            "an unknown key",
        ),
        ({"valid": 2026}, f"{ONE}.valid", "a table", "2026"),
        ({"field": {}}, f"{ONE}.field", "`fields`", "an unknown key"),
        ({"when": "true"}, f"{ONE}.when", "a known key", "an unknown key"),
    ],
)
def test_each_fault_is_named_with_its_place(
    changes: dict[str, Any], key: str, expected: str, got: str
) -> None:
    """Grant and key, what was expected and what was got."""
    found = faults(toml(grant(**changes)))
    assert list(found) == [key]
    assert expected in found[key][0]
    assert got in str(found[key][1])


@pytest.mark.parametrize(
    "basis",
    [
        "(",
        "[a",
        "a{1001}",
        "((a{100}){100}){100}",
        r"(a)\1",
        "(?=a)b",
        "(?<!a)b",
        "(?P>a)",
        "a**",
        r"\p{Nonsense}",
        "x" * 513,
        r"\pL{1000}",
    ],
)
def test_a_pattern_that_re2_refuses_is_a_fault(basis: str) -> None:
    """Back-references, look-around and what grows too large, at load and not later."""
    purposes = [{"purpose": "collaboration", "basis": basis}]
    found = faults(toml(grant(purposes=purposes)))
    assert list(found) == [f"{ONE}.purposes.1.basis"]


@pytest.mark.parametrize(
    "basis", ["(a+)+$", "(a|aa)+", "(.*)(.*)(.*)(.*)x", "(a?){50}a{50}", "(x+x+)+y"]
)
def test_a_catastrophic_pattern_takes_no_time(basis: str) -> None:
    """Other engines would need years for 256 characters; a millisecond or so here."""
    pattern = Pattern(basis)
    began = time.perf_counter()
    for text in ("a" * 255 + "!", "x" * 255 + "!"):
        assert not pattern.matches(text)
    assert time.perf_counter() - began < 0.5


def test_a_pattern_that_is_half_a_character_is_refused() -> None:
    """Whoever hands it in, not through TOML, which cannot say it."""
    with pytest.raises(BadPattern):
        Pattern("\ud800")


# --- overlaps ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"consumers": [HOUSING, MEDICAL]},
        {"ops": ["exists"], "fields": {}},
        {"fields": {"name": "show"}, "max_items": 1},
        {"purposes": [{"purpose": "administrative_basis", "basis": "other"}]},
        {"valid": {}},
        {"valid": {"from": date(2026, 12, 31)}},
        {"valid": {"to": date(2026, 1, 1)}},
    ],
)
def test_grants_that_both_fit_one_request_are_refused(changes: dict[str, Any]) -> None:
    """Whatever their patterns and fields: which one counts is never a question."""
    for order in (1, -1):
        pair = [grant(), grant(id="other", **changes)][::order]
        found = faults(toml(*pair))
        assert len(found) == 1
        ((expected, got),) = found.values()
        assert expected == "requests that no other grant fits"
        assert "fits too: " in str(got)


@pytest.mark.parametrize(
    "changes",
    [
        {"consumers": [HOUSING]},
        {"keys": ["name"]},
        {"keys": ["citizen_id", "name"]},
        {"purposes": [{"purpose": "collaboration", "basis": "x"}]},
        {"valid": {"from": date(2027, 1, 1)}},
        {"valid": {"to": date(2025, 12, 31)}},
    ],
)
def test_grants_that_differ_in_what_chooses_them_stand_together(
    changes: dict[str, Any],
) -> None:
    """Consumer, operation, purpose, key set or days."""
    assert len(load(toml(grant(), grant(id="other", **changes)), offered()).rules) == 2


def test_the_order_of_keys_makes_no_other_grant() -> None:
    """The same set of keys chooses the same grant."""
    one = grant(keys=["citizen_id", "name"])
    other = grant(id="other", keys=["name", "citizen_id"])
    assert list(faults(toml(one, other))) == ["grants.other"]


def test_a_long_grant_overlaps_one_that_is_no_neighbour() -> None:
    """Each grant that shares a day with an earlier one is named."""
    days = [
        {"from": date(2026, 1, 1), "to": date(2026, 12, 31)},
        {"from": date(2026, 2, 1), "to": date(2026, 2, 2)},
        {"from": date(2026, 5, 1), "to": date(2026, 5, 2)},
    ]
    text = toml(*(grant(id=f"g{i}", valid=valid) for i, valid in enumerate(days)))
    assert list(faults(text)) == ["grants.g1", "grants.g2"]


def test_an_id_is_used_once() -> None:
    """Answers and audit records name a grant by it."""
    text = toml(grant(), grant(consumers=[HOUSING]))
    assert faults(text) == {f"{ONE}.id": ("an id of its own", "a used one")}


# --- the whole file ---------------------------------------------------------------


def test_every_fault_of_every_grant_is_told_at_once() -> None:
    """Of form and of meaning, of one grant and of two together."""
    text = "grant = 1\n" + toml(
        grant(id="a", keys=["mobile"], max_itms=3),
        grant(id="b", keys=["mobile"]),
        grant(id="c", keys=["mobile"], resource="1/1"),
        grant(id="d"),
        grant(id="e"),
    )
    assert list(faults(text)) == [
        "grant",
        "grants.a.max_itms",
        "grants.b.keys.1",
        "grants.c.resource",
        "grants.e",
    ]


def test_a_resource_that_the_gate_keeps_shut_is_named_with_the_reason() -> None:
    """The head of department reads what to change, and where."""
    found = faults(toml(grant(resource="1/1")), shut={"1/1": "lookup is not true"})
    assert found[f"{ONE}.resource"][1] == "1/1: lookup is not true"


def test_a_resource_without_lookup_cannot_be_granted() -> None:
    """push = true does not open it for lookups."""
    with pytest.raises(PolicyInvalid, match="opens for lookups"):
        load(toml(grant()), offered(person(lookup=False)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grants = 1", "tables"),
        ("[grants]", "tables"),
        ("grants = [1]", "a table"),
        ("[[grant]]", "`grants`"),
        ("rules = []", "tables"),
        ("= 1", "TOML"),
        ("x = " + "[" * 5000, "TOML"),
        ("x = " + "9" * 5000, "TOML"),
        ("\ud800", "Unicode"),
        ("#" * (LARGEST + 1), "at most"),
        ("[[grants]]\n" * 1001, "at most 1000 grants"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(text: str, expected: str) -> None:
    """Not TOML, too large, too deep, other tables."""
    assert any(expected in wanted for wanted, _ in faults(text).values())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, not UTF-8, too large; a good one is given as it is."""
    path = tmp_path / "policy.toml"
    for data, expected in (
        (None, "a readable file"),
        (b"\xff", "UTF-8 text"),
        (b"#" * (LARGEST + 1), "at most"),
    ):
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(PolicyInvalid, match=expected) as e:
            read(path)
        assert e.value.faults[0].file == str(path)
    path.write_bytes("# 策略\r\n".encode())
    assert read(path) == "# 策略\r\n"


def test_a_digest_names_exactly_one_text() -> None:
    """SHA-256 of the bytes."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest("") == f"sha256:{empty}"
    assert digest("a") != digest("a\n")


def test_nobody_else_makes_a_policy_with_rules() -> None:
    """Rules that were not checked against each other are none."""
    rules = load(toml(grant()), offered()).rules
    with pytest.raises(ValueError, match="checked"):
        Policy(rules)


_WORDS = toml(grant()).replace(",", " , ").split()


def _outcome(text: str) -> int | None:
    """Number of grants, or None for a complaint with faults; else the test fails."""
    try:
        return len(load(text, offered()).rules)
    except PolicyInvalid as e:
        return None if e.faults else -1


@tries(300)
@given(st.text() | st.lists(st.sampled_from([*_WORDS, "\n"])).map(" ".join))
def test_garbage_ends_in_a_value_or_in_policy_invalid(text: str) -> None:
    """Nothing else is ever raised."""
    assert _outcome(text) in (0, None)


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@tries(300)
@given(st.sampled_from(sorted(grant())), _json)
def test_a_grant_with_garbage_in_one_place_is_refused_or_right(
    key: str, value: Any
) -> None:
    """Whatever stands there, of whatever type."""
    assert _outcome(toml(grant(**{key: value}))) in (1, None)
