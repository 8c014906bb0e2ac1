# SPDX-License-Identifier: Apache-2.0
"""``fep connector test`` with connectors that are wrong, crash or hang."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli.common.trial import Result, trial
from agent.errors import UsageFault

pytestmark = pytest.mark.fault

ODD = str(Path(__file__).parents[1] / "support" / "odd_trial.py")


async def tried(way: str, *, rule_s: float = 60.0) -> Result:
    return await trial(ODD, {"way": way}, rule_s=rule_s)


def broken(result: Result) -> dict[str, str]:
    return {r["rule"]: r["detail"] for r in result.rules if not r["ok"]}


async def test_a_broken_rule_says_what_happened() -> None:
    """The others are tried all the same, and what a driver prints is no result."""
    found = broken(result := await tried("raise"))
    assert list(found) == ["tables_are_discovered", "failures_are_source_errors"]
    says = "KeyError: 'a table' at odd_trial.py:"
    assert found["tables_are_discovered"].startswith(says)
    assert len(result.rules) > 15
    assert "increments" in result.left_out


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("crash", "the process died: ended by SIGSEGV"),
        ("hang", "not done after 3 s"),
    ],
)
async def test_a_crash_is_known_by_its_rule(way: str, says: str) -> None:
    """What was tried before counts; what comes after was not tried."""
    result = await tried(way, rule_s=3.0)
    found = broken(result)
    assert found.pop("tables_are_discovered") == says
    assert set(found.values()) == {"not tried"}
    assert [r["rule"] for r in result.rules if r["ok"]] != []
    assert not result.good


async def test_a_module_with_nothing_to_try_is_a_usage_fault() -> None:
    """It is said what is missing."""
    with pytest.raises(UsageFault, match="no function subject"):
        await trial("json", {}, rule_s=60.0)
