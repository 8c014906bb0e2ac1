# SPDX-License-Identifier: Apache-2.0
"""Numbers of persons and organisations, and code tables, against the vectors."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from agent.catalog import codes
from agent.catalog.identifiers import (
    citizen_check,
    is_citizen_id,
    is_first_generation,
    is_uscc,
    tidy,
    uscc_check,
)
from tests.support.tries import tries
from tests.support.vectors import load

VECTORS = load("domain.json")
CITIZEN = VECTORS["citizen_id_gb11643"]
USCC = VECTORS["uscc_gb32100"]


@pytest.mark.parametrize("vector", CITIZEN["valid"], ids=lambda v: v["id"])
def test_valid_citizen_numbers(vector: dict[str, str]) -> None:
    """Also those of counties that are no more."""
    assert is_citizen_id(vector["id"])
    assert tidy(vector["id"]) == vector["id"]


@pytest.mark.parametrize("vector", CITIZEN["invalid"], ids=lambda v: v["id"])
def test_invalid_citizen_numbers(vector: dict[str, str]) -> None:
    """Check digit, date, length, character."""
    assert not is_citizen_id(vector["id"])


@pytest.mark.parametrize("vector", CITIZEN["normalise"], ids=lambda v: v["out"])
def test_citizen_numbers_are_known_in_other_forms(vector: dict[str, str]) -> None:
    """Full width, blanks, small x, 15 digits."""
    assert not is_citizen_id(vector["in"])
    tidied = tidy(vector["in"])
    assert tidied == vector["out"] or is_first_generation(tidied)
    assert is_citizen_id(vector["out"])


def test_15_digits_need_a_date() -> None:
    """Fifteen digits alone are not a number of the first generation."""
    assert is_first_generation("130503670401001")
    assert not is_first_generation("130503671301001")
    assert not is_first_generation("13050367040100x")


@pytest.mark.parametrize("vector", USCC["valid"], ids=lambda v: v["code"])
def test_valid_credit_codes(vector: dict[str, str]) -> None:
    """As given, and in small letters once tidied."""
    assert is_uscc(vector["code"])
    assert tidy(f" {vector['code'].lower()}") == vector["code"]


@pytest.mark.parametrize("vector", USCC["invalid"], ids=lambda v: v["code"])
def test_invalid_credit_codes(vector: dict[str, str]) -> None:
    """Check character, alphabet, length."""
    assert not is_uscc(vector["code"])


@pytest.mark.parametrize("vector", USCC["issued_but_failing"], ids=lambda v: v["code"])
def test_issued_codes_that_fail(vector: dict[str, str]) -> None:
    """They exist, which is why the rule warns."""
    assert uscc_check(vector["code"][:17]) == vector["computed_check"]
    assert not is_uscc(vector["code"])


@tries(100)
@given(st.text(max_size=20))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    """Garbage is invalid, never an exception."""
    assert not is_citizen_id(text) or citizen_check(text[:17]) == text[17]
    assert not is_uscc(text) or uscc_check(text[:17]) == text[17]
    tidy(text)


def test_the_code_tables_are_the_standards() -> None:
    """GB/T 2261.1, GB/T 3304, and the provinces of GB/T 2260."""
    assert VECTORS["gender_gbt2261_1"] == codes.GENDER
    assert VECTORS["ethnicity_gbt3304"]["codes"] == codes.ETHNICITY
    for code in VECTORS["regions_gbt2260_subset"]["codes"]:
        assert code[:2] in codes.PROVINCES


def test_the_sample_city_has_a_prefix_of_its_own() -> None:
    """99 belongs to no province, so its identity numbers belong to nobody."""
    assert codes.PROVINCES["99"] == "云溪市（示例）"
