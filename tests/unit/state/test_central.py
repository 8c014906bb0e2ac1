# SPDX-License-Identifier: Apache-2.0
"""What is remembered of the centre's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.state import State
from agent.state.central import KEPT, CentralRows, Turn

AT = "2026-11-23T08:00:00Z"


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[CentralRows]:
    """Of a new state."""
    state = State(tmp_path / "state.db", new_incarnation=lambda: "0" * 32)
    yield state.central
    state.close()


def test_floor_never_sinks(rows: CentralRows) -> None:
    """Whatever is asked, in whatever order."""
    assert [rows.raise_floor(n) for n in (3, 2, 7, 1)] == [3, 3, 7, 7]


def test_value_and_what_happened_are_kept_together(rows: CentralRows) -> None:
    """Until it is forgotten; the newest entry comes first."""
    assert rows.find("failed") is None
    rows.keep("failed", {"generation": 7}, Turn(AT, "reverted", 7, "sha256:b", "x"))
    assert rows.find("failed") == {"generation": 7}
    rows.keep("failed", None, Turn(AT, "good", 8))
    assert rows.find("failed") is None
    assert [turn.what for turn in rows.turns(10)] == ["good", "reverted"]
    assert rows.turns(1) == (Turn(AT, "good", 8),)


def test_history_is_bounded(rows: CentralRows) -> None:
    """A flapping centre does not fill the disk."""
    for n in range(KEPT + 5):
        rows.keep("x", n, Turn(AT, "applied", n))
    found = rows.turns(10 * KEPT)
    assert len(found) == KEPT
    assert found[-1].generation == 5
