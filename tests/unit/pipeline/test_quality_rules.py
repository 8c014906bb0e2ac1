# SPDX-License-Identifier: Apache-2.0
"""Rules over columns find what the scalar checks find."""

from __future__ import annotations

import random
import re
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from agent.catalog import codes, identifiers
from agent.pipeline.quality.rules import judge, marked
from connectors.native.rules import doubtful_citizen_ids, doubtful_credit_codes
from tests.support.tries import tries
from tests.support.vectors import load

CITIZEN = load("domain.json")["citizen_id_gb11643"]
USCC = load("domain.json")["uscc_gb32100"]


def found(rule: str, values: list[str | None]) -> list[str | None]:
    """Reason by value."""
    faults = judge(rule)(pa.array(values, pa.string()))
    return [
        next((reason for reason, mask in faults.items() if mask[i]), None)
        for i in range(len(values))
    ]


def test_citizen_numbers_of_the_vectors() -> None:
    """Valid ones pass, invalid ones are named; also one among many."""
    valid = [v["id"] for v in CITIZEN["valid"]]
    invalid = [v["id"] for v in CITIZEN["invalid"]]
    assert found("citizen_id", [*valid, None]) == [None] * (len(valid) + 1)
    assert found("citizen_id", invalid) == ["citizen_id"] * len(invalid)
    assert found("citizen_id", [valid[0], invalid[0], None, valid[1]]) == [
        None,
        "citizen_id",
        None,
        None,
    ]


def test_other_forms_of_a_citizen_number_have_their_own_names() -> None:
    """Full width, blanks and small x are a form; 15 digits are another."""
    forms = [v["in"] for v in CITIZEN["normalise"]]
    assert found("citizen_id", forms) == ["citizen_id_form"] * 3 + ["citizen_id_15"]


@pytest.mark.parametrize("text", ["", "x", "13050367043100", "130503671301001"])
def test_what_is_no_citizen_number(text: str) -> None:
    """Also 15 digits with an impossible date."""
    assert found("citizen_id", [text]) == ["citizen_id"]


def test_credit_codes_of_the_vectors() -> None:
    """Codes issued with a wrong check character fail, so the rule only warns."""
    valid = [v["code"] for v in USCC["valid"]]
    bad = [v["code"] for v in USCC["invalid"] + USCC["issued_but_failing"]]
    assert found("uscc", [*valid, None]) == [None] * (len(valid) + 1)
    assert found("uscc", bad) == ["uscc"] * len(bad)
    assert found("uscc", [valid[0].lower(), f" {valid[1]}"]) == ["uscc_form"] * 2


_near = st.builds(
    lambda base, at, c: base[:at] + c + base[at + 1 :],
    st.sampled_from([v["id"] for v in CITIZEN["valid"]]),
    st.integers(0, 17),
    st.sampled_from("0123456789Xx０ÿ"),
)


@tries(100)
@given(st.lists(st.none() | _near | st.text(max_size=20), max_size=5))
def test_the_column_and_the_scalar_agree_on_persons(values: list[str | None]) -> None:
    """Every value is judged alike among others and alone."""
    expected = [None if v is None else identifiers.is_citizen_id(v) for v in values]
    assert [
        None if v is None else reason is None
        for v, reason in zip(values, found("citizen_id", values), strict=True)
    ] == expected


_near_code = st.builds(
    lambda base, at, c: base[:at] + c + base[at + 1 :],
    st.sampled_from([v["code"] for v in USCC["valid"]]),
    st.integers(0, 17),
    st.sampled_from("0123456789ABIOSVZXYa"),
)


@tries(100)
@given(st.lists(st.none() | _near_code | st.text(max_size=20), max_size=5))
def test_the_column_and_the_scalar_agree_on_companies(values: list[str | None]) -> None:
    """Every value is judged alike among others and alone."""
    expected = [None if v is None else identifiers.is_uscc(v) for v in values]
    assert [
        None if v is None else reason is None
        for v, reason in zip(values, found("uscc", values), strict=True)
    ] == expected


@tries(200)
@given(st.lists(st.none() | _near | _near_code | st.text(max_size=20), max_size=9),
       st.integers(0, 3))  # fmt: skip
def test_nothing_is_doubted_that_is_valid(values: list[str | None], begin: int) -> None:
    """C doubts what the scalar checks refuse, and nothing else."""
    column = pa.array(values, pa.string()).slice(begin)
    for doubtful, good in (
        (doubtful_citizen_ids, identifiers.is_citizen_id),
        (doubtful_credit_codes, identifiers.is_uscc),
    ):
        found = doubtful(column)
        marks = [False] * len(column) if found is None else list(found)
        assert marks == [v is not None and not good(v) for v in values[begin:]]


def test_leap_days_of_citizen_numbers() -> None:
    """29 February of 2000 and 2004 passes, of 1900 and 2001 does not."""
    numbers: list[str | None] = []
    for day in ("20000229", "20040229", "19000229", "20010229"):
        first = f"990100{day}001"
        numbers.append(first + identifiers.citizen_check(first))
    assert found("citizen_id", numbers) == [None, None, "citizen_id", "citizen_id"]


def test_a_slice_is_judged_as_itself() -> None:
    """Offsets of a sliced column are respected."""
    valid, bad = CITIZEN["valid"][0]["id"], CITIZEN["invalid"][0]["id"]
    column = pa.array([bad, valid, None, "x", valid, bad], pa.string())
    assert judge("citizen_id")(column.slice(1, 2)) == {}
    assert list(judge("citizen_id")(column.slice(3))["citizen_id"]) == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("code:gender", ["0", "1", "2", "9"], ["3", "", "男", " 1"]),
        ("code:gender_name", ["男", "女性", "未知"], ["1", "", "男女", "男 "]),
        ("code:ethnicity", ["01", "56", "97"], ["1", "57", "汉族"]),
        ("code:ethnicity_name", ["汉族", "珞巴族"], ["01", "汉", "满清族"]),
        (
            "code:region",
            ["110000", "990121", "210102"],
            ["100000", "99012", "1100000", "11000x", "", "１１００００"],
        ),
    ],
)
def test_code_lists(rule: str, good: list[str], bad: list[str]) -> None:
    """What stands in the list passes, null too, all else is named."""
    values: list[Any] = [*good, None, *bad]
    assert found(rule, values) == [None] * (len(good) + 1) + ["code_list"] * len(bad)


_near_region = st.builds(
    lambda base, at, c: base[:at] + c + base[at + 1 :],
    st.sampled_from(["110000", "650101", "990121", "820000"]),
    st.integers(0, 6),
    st.sampled_from("0123456789/:x０ÿ"),
)


@tries(100)
@given(st.lists(st.none() | _near_region, max_size=3))
def test_the_column_and_the_scalar_agree_on_regions(values: list[str | None]) -> None:
    """Every value is judged alike with all the others and alone."""
    expected = [
        value is None
        or bool(re.fullmatch("[0-9]{6}", value) and value[:2] in codes.PROVINCES)
        for value in values
    ]
    got = found("code:region", values)
    assert [reason is None for reason in got] == expected


def test_every_named_table_has_a_judge() -> None:
    """What a document may name can be judged; anything else is refused."""
    for name in codes.NAMES:
        judge(f"code:{name}")
    for rule in ("code:", "code:planet", "citizen", "uscc:x", ""):
        with pytest.raises(ValueError, match="no such rule"):
            judge(rule)


@pytest.mark.parametrize("name", codes.TABLES)
def test_every_value_of_a_table_is_taken(name: str) -> None:
    """Each table fits into what judges it, and nothing near its values does."""
    values = sorted(codes.TABLES[name])
    near = [value[:-1] for value in values] + [f"{value} " for value in values]
    odd = sorted(set(near) - set(values))
    expected = [None] * len(values) + ["code_list"] * len(odd)
    assert found(f"code:{name}", [*values, *odd]) == expected


def test_a_marking_is_found_wherever_it_stands() -> None:
    """One marked value among thousands, at any place of its text."""
    rng = random.Random(7)
    texts = ["云溪市人民路★" * rng.randrange(5) for _ in range(3000)]
    texts[1234] = "附件" * 50 + "机密★10年"
    mask = marked(pa.array(texts))
    assert mask is not None
    assert [i for i, hit in enumerate(mask) if hit] == [1234]


def test_a_text_without_a_star_is_not_searched() -> None:
    """Quotation marks share the star's first byte; they cost a look and no more."""
    assert marked(pa.array(["“机密”", None, "", "绝密"])) is None
    assert marked(pa.array([], pa.string())) is None
    assert marked(pa.array(["\u2605"[:0], "é"])) is None
