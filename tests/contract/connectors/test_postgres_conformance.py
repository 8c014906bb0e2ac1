# SPDX-License-Identifier: Apache-2.0
"""The conformance suite over a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.conformance import RULES, Subject, rule_name
from connectors.conformance_health import HEALTH_RULES
from connectors.conformance_increments import INCREMENT_RULES
from connectors.conformance_lookup import LOOKUP_RULES
from connectors.conformance_numbered import NUMBER_RULES
from tests.support.postgres import Server
from tests.support.subjects import postgres_subject

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def subject(server: Server) -> Subject:
    return postgres_subject(server)


@pytest.mark.parametrize("rule", [*RULES, *LOOKUP_RULES, *HEALTH_RULES], ids=rule_name)
def test_postgres_obeys_the_contract(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The PostgreSQL connector obeys every rule."""
    rule(subject)


@pytest.mark.parametrize("rule", INCREMENT_RULES, ids=rule_name)
def test_increments_of_postgres_lose_nothing(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The PostgreSQL connector obeys the rules of increments."""
    rule(subject)


@pytest.mark.parametrize("rule", NUMBER_RULES, ids=rule_name)
def test_numbers_of_postgres_lose_nothing(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The PostgreSQL connector obeys the rules of numbers."""
    rule(subject)
