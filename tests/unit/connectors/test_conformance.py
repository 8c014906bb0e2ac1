# SPDX-License-Identifier: Apache-2.0
"""The conformance suite over what needs no server, and over connectors that cheat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.conformance import RULES, Subject, rule_name
from connectors.conformance_increments import INCREMENT_RULES
from connectors.conformance_lookup import LOOKUP_RULES
from tests.support.subjects import fake_subject, sqlite_subject

Rule = Callable[[Subject], None]


@pytest.mark.parametrize("rule", RULES, ids=rule_name)
def test_the_fake_obeys_the_contract(rule: Rule) -> None:
    """The connector without a database obeys every rule."""
    rule(fake_subject())


@pytest.mark.parametrize("rule", [*RULES, *LOOKUP_RULES], ids=rule_name)
def test_sqlite_obeys_the_contract(rule: Rule, tmp_path: Path) -> None:
    """The SQLite connector obeys every rule."""
    rule(sqlite_subject(tmp_path))


@pytest.mark.parametrize("rule", INCREMENT_RULES, ids=rule_name)
def test_increments_of_the_fake_lose_nothing(rule: Rule) -> None:
    """The connector without a database obeys the rules of increments."""
    rule(fake_subject())
