# SPDX-License-Identifier: Apache-2.0
"""The conformance suite over a real MariaDB."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.conformance import RULES, Subject, rule_name
from connectors.conformance_health import HEALTH_RULES
from connectors.conformance_increments import INCREMENT_RULES
from connectors.conformance_numbered import NUMBER_RULES
from tests.support.mariadb import Mariadb
from tests.support.subjects import mysql_subject

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def subject(mariadb: Mariadb) -> Subject:
    return mysql_subject(mariadb)


@pytest.mark.parametrize("rule", [*RULES, *HEALTH_RULES], ids=rule_name)
def test_mariadb_obeys_the_contract(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The MySQL connector obeys every rule."""
    rule(subject)


@pytest.mark.parametrize("rule", INCREMENT_RULES, ids=rule_name)
def test_increments_of_mariadb_lose_nothing(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The MySQL connector obeys the rules of increments."""
    rule(subject)


@pytest.mark.parametrize("rule", NUMBER_RULES, ids=rule_name)
def test_numbers_of_mariadb_lose_nothing(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The MySQL connector obeys the rules of numbers."""
    rule(subject)
