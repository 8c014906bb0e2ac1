# SPDX-License-Identifier: Apache-2.0
"""When the disk is full: said from a day of history on, and by all of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.pipeline.flow.forecast import UNKNOWN, forecast
from agent.pipeline.flow.sweep import note_disk
from agent.state import DiskSample
from agent.wire.grammar import format_time
from tests.support.push import World

BEGAN = datetime(2026, 11, 20, tzinfo=UTC)
GB = 10**9


def samples(hours: int, per_day: float, *, swing: int = 0) -> list[DiskSample]:
    """One an hour; ``swing`` bytes come in the morning and go at night."""
    return [
        DiskSample(
            format_time(BEGAN + timedelta(hours=h)),
            free=round(
                100 * GB - per_day * h / 24 - (swing if 8 <= h % 24 < 20 else 0)
            ),
            used=0,
        )
        for h in range(hours)
    ]


def test_without_a_day_of_history_nothing_is_said() -> None:
    """Nor of a few samples over days."""
    since = format_time(BEGAN)
    assert forecast([], free=GB, floor=0) == UNKNOWN
    for short in (samples(24, GB), samples(200, GB)[::20]):
        found = forecast(short, free=GB, floor=0)
        assert (found.per_day, found.days, found.since) == (None, None, since)


def test_a_disk_that_fills_has_so_many_days(tmp_path: Path) -> None:
    """Until the floor, where reading stops."""
    found = forecast(samples(100, 2 * GB), free=50 * GB, floor=10 * GB)
    assert found.per_day == pytest.approx(2 * GB)
    assert found.days == pytest.approx(20)
    assert forecast(samples(100, GB), free=GB, floor=2 * GB).days == 0


@pytest.mark.parametrize("per_day", [0, -GB])
def test_a_disk_that_does_not_fill_has_no_day(per_day: int) -> None:
    """The rate is said all the same."""
    found = forecast(samples(100, per_day), free=GB, floor=0)
    assert (found.per_day, found.days) == (pytest.approx(per_day, abs=1), None)


def test_what_comes_and_goes_within_a_day_is_not_growth() -> None:
    """A week of days with a swing of 20 GB and a growth of 1 GB."""
    found = forecast(samples(168, GB, swing=20 * GB), free=50 * GB, floor=0)
    assert found.per_day == pytest.approx(GB, rel=0.5)


def test_a_sample_is_taken_once_an_hour_and_kept_for_a_week(tmp_path: Path) -> None:
    """However often the sweeper looks."""
    world = World(tmp_path, free=5 * GB)
    state = world.open_state()
    parts = world.parts(state)
    for _ in range(3 * 24 * 10):
        note_disk(parts)
        world.clock.move(20 * 60)
    kept = state.disk("")
    state.close()
    assert len(kept) == pytest.approx(24 * 7, abs=1)
    assert {(s.free, s.used) for s in kept} == {(5 * GB, 0)}
