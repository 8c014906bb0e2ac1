# SPDX-License-Identifier: Apache-2.0
"""What people see of the centre's configuration, and their hold on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.control.probation import Trial
from agent.daemon.central_desk import CentralDesk, Sight
from agent.errors import UsageFault
from agent.state import State
from agent.wire.grammar import format_time

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
A = Overlay(1, {"log": {"level": "debug"}}, frozenset(), {})


class Place:
    """A desk with a clock that stands."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder / "state.db", new_incarnation=lambda: "0" * 32)
        self.applied = Applied(folder / "config")
        self.sight = Sight(pinned=True)
        self.now = NOW
        self.hints = 0
        self.desk = CentralDesk(
            self.state.central,
            self.applied,
            look=lambda: self.sight,
            hint=self.hint,
            now=lambda: self.now,
        )

    def hint(self) -> None:
        self.hints += 1


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An empty one."""
    place = Place(tmp_path)
    yield place
    place.state.close()


def after(**span: int) -> str:
    return format_time(NOW + timedelta(**span))


async def test_hold_ends_by_itself_or_by_hand(place: Place) -> None:
    """Who holds until when is shown; both are in the history."""
    await place.desk.hold(after(hours=2), reason="why", uid=1000)
    held = {"until": after(hours=2), "uid": 1000, "reason": "why"}
    assert place.desk.view()["hold"] == held
    place.now += timedelta(hours=2)
    assert place.desk.view()["hold"] is None
    place.now = NOW
    await place.desk.hold(None, reason="", uid=1000)
    assert place.desk.view()["hold"] is None
    turns = place.desk.history(10)["history"]
    assert [turn["what"] for turn in turns] == ["released", "held"]
    assert turns[1]["detail"] == f"{after(hours=2)} why"
    assert place.hints == 2


@pytest.mark.parametrize("span", [{"seconds": 0}, {"days": -1}, {"days": 367}])
async def test_hold_for_ever_is_refused(place: Place, span: dict[str, int]) -> None:
    """Nor one that is over; nothing is kept of it."""
    with pytest.raises(UsageFault):
        await place.desk.hold(after(**span), reason="", uid=1000)
    assert place.desk.history(10)["history"] == []


def test_probation_is_shown_with_what_it_waits_for(place: Place) -> None:
    """What runs, what ran well, what is missing."""
    place.applied.begin(A, at=after(), watched=["x"])
    streams = frozenset({"x"})
    place.sight = Sight(
        pinned=True,
        wanted=A,
        trial=Trial(1, A.digest, watched=streams, awaited=streams, passed_s=5.0),
    )
    found = place.desk.view()
    assert found["running"]["digest"] == found["desired"]["digest"] == A.digest
    assert (found["good"], found["reason"]) == (None, None)
    assert found["probation"]["waits_for"] == ["x"]
    assert found["probation"]["heartbeat"] is False
