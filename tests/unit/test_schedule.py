# SPDX-License-Identifier: Apache-2.0
"""When a run is due: by cron and periods, whatever is done to the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent import schedule
from agent.model.windows import check_window
from agent.schedule import Due, Plan, check_times

NOON = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
"""12:00 in Shanghai, a Sunday."""
NIGHTLY = Plan("0 2 * * *", "Asia/Shanghai")
HOURLY = Plan("every 1h", "Asia/Shanghai")


def least(low: float, _high: float) -> float:
    """No jitter."""
    return low


def most(_low: float, high: float) -> float:
    """All of it."""
    return high


def shanghai(day: int, hour: int, minute: int = 0) -> datetime:
    """A moment of November 2026 by the clock of Shanghai."""
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(
        hours=hour - 8, minutes=minute
    )


def look(plan: Plan, kept: Due, now: datetime, **options: Any) -> Due:
    """One look without jitter."""
    return schedule.looked(plan, kept, now=now, draw=options.get("draw", least))


# --- what may be written ------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 2 * *",
        "0 2 * * * *",
        "61 * * * *",
        "0 25 * * *",
        "0 0 31 2 *",
        "0 0 1 * 1",
        "0 0 * * 8",
        "0 0 * * frid",
        "0  2 * * *",
        "@daily",
        "every 0m",
        "every 30",
        "every 30s",
        "every 400d",
        "0 0 last * *",
        "0 0 * * 1; drop",
    ],
)
def test_times_that_say_nothing_are_refused(text: str) -> None:
    """What never comes or is another program's is told as it should be."""
    with pytest.raises(ValueError, match="five fields of cron"):
        check_times(text)


@pytest.mark.parametrize("text", ["20:00", "20:00-20:00", "24:00-06:00", "2:00-6:00"])
def test_a_window_has_two_different_times(text: str) -> None:
    """Anything else is refused with an example."""
    with pytest.raises(ValueError, match="20:00-06:00"):
        check_window(text)


@pytest.mark.parametrize(
    ("days", "first"),
    [("0", 29), ("7", 29), ("1", 23), ("sun", 29), ("5-6", 27), ("fri-mon", 23)],
)
def test_days_of_the_week_are_those_of_cron(days: str, first: int) -> None:
    """0 and 7 are Sunday, 1 is Monday; a span may pass the week's end."""
    plan = Plan(f"0 2 * * {days}", "Asia/Shanghai")
    assert plan.after(NOON) == shanghai(first, 2)


def test_a_step_counts_from_sunday() -> None:
    """*/2 is Sunday, Tuesday, Thursday, Saturday, as cron has it."""
    plan = Plan("0 2 * * */2", "Asia/Shanghai")
    assert plan.after(NOON) == shanghai(24, 2)


# --- what is due --------------------------------------------------------------------


def test_cron_waits_for_its_moment_and_a_period_begins_at_once() -> None:
    """Of what never ran."""
    options: Any = {"now": NOON, "begun": None, "draw": least}
    assert schedule.first(NIGHTLY, **options).at == shanghai(23, 2)
    assert schedule.first(HOURLY, **options).at == NOON


def test_a_period_goes_on_from_a_run_of_before() -> None:
    """Switching times on does not read everything again at once."""
    before = NOON - timedelta(minutes=20)
    due = schedule.first(HOURLY, now=NOON, begun=before, draw=least)
    assert due.at == NOON + timedelta(minutes=40)


def test_ten_missed_nights_are_one_run() -> None:
    """The daemon was down: due once, then at the next night."""
    kept = Due(NIGHTLY.key, shanghai(12, 2))
    now = shanghai(22, 12)
    assert look(NIGHTLY, kept, now) == kept
    assert schedule.begun(NIGHTLY, now=now, draw=least).at == shanghai(23, 2)


def test_a_clock_set_forward_a_year_begins_one_run() -> None:
    """And when it is set right again the old moment comes back."""
    kept = Due(NIGHTLY.key, shanghai(23, 2), shanghai(22, 2))
    future = NOON + timedelta(days=365)
    assert look(NIGHTLY, kept, future).at <= future
    after = schedule.begun(NIGHTLY, now=future, draw=least)
    assert after.at > future
    right = look(NIGHTLY, after, NOON)
    assert right.at == shanghai(23, 2)


def test_a_clock_set_back_a_year_does_not_stop_a_schedule() -> None:
    """The moment is counted anew from the clock of now."""
    kept = Due(HOURLY.key, NOON + timedelta(minutes=30), NOON - timedelta(minutes=30))
    past = NOON - timedelta(days=365)
    assert look(HOURLY, kept, past).at == past + timedelta(hours=1)


def test_a_clock_set_back_by_minutes_repeats_nothing() -> None:
    """What began at 02:00 is not begun again when 02:00 comes a second time."""
    kept = schedule.begun(NIGHTLY, now=shanghai(22, 2, 1), draw=least)
    again = look(NIGHTLY, kept, shanghai(22, 1, 30))
    assert again.at == shanghai(23, 2)


def test_another_time_zone_moves_what_is_not_due_yet() -> None:
    """02:00 in Urumqi is two hours later."""
    urumqi = Plan(NIGHTLY.times, "Asia/Urumqi")
    kept = Due(NIGHTLY.key, shanghai(23, 2))
    assert look(urumqi, kept, NOON).at == shanghai(23, 4)


def test_a_change_of_times_forgets_nothing_that_was_due() -> None:
    """A missed night is still made up for by the new times, once."""
    kept = Due(NIGHTLY.key, shanghai(22, 2))
    due = look(HOURLY, kept, NOON)
    assert due.at <= NOON
    assert look(HOURLY, due, NOON) == due


def test_the_hour_that_summer_time_leaves_out_is_made_up_for() -> None:
    """In a zone that has it: 02:30 of that night comes at 03:30, once."""
    berlin = Plan("30 2 * * *", "Europe/Berlin")
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    skipped = berlin.after(before)
    assert skipped == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert berlin.after(skipped) == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)


def test_the_hour_that_summer_time_repeats_leaves_nothing_out() -> None:
    """02:30 comes twice and is due twice: once too often beats once too few."""
    berlin = Plan("30 2 * * *", "Europe/Berlin")
    once = berlin.after(datetime(2026, 10, 24, 12, tzinfo=UTC))
    twice = berlin.after(once)
    assert twice - once == timedelta(hours=1)
    assert berlin.after(twice) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_jitter_puts_off_and_is_kept() -> None:
    """It is drawn once for a moment, not at every look."""
    plan = Plan(NIGHTLY.times, NIGHTLY.zone, jitter_s=600)
    due = schedule.begun(plan, now=NOON, draw=most)
    assert due.at == shanghai(23, 2, 10)
    assert look(plan, due, shanghai(23, 2, 5), draw=least) == due


# --- windows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "opening"),
    [
        (shanghai(22, 12), shanghai(22, 20)),
        (shanghai(22, 20), shanghai(22, 20)),
        (shanghai(22, 23), shanghai(22, 23)),
        (shanghai(22, 3), shanghai(22, 3)),
        (shanghai(22, 6), shanghai(22, 20)),
    ],
)
def test_a_window_over_midnight_is_one_window(now: datetime, opening: datetime) -> None:
    """20:00-06:00 is open at 23:00 and at 03:00, and shut from 06:00 on."""
    plan = Plan("every 1h", "Asia/Shanghai", windows=("20:00-06:00",))
    assert plan.opening(now) == opening


def test_the_nearest_of_several_windows_counts() -> None:
    """Lunch comes before the night."""
    plan = Plan("every 1h", "Asia/Shanghai", windows=("20:00-06:00", "12:30-13:30"))
    assert plan.opening(NOON) == shanghai(22, 12, 30)
    assert plan.opening(shanghai(22, 14)) == shanghai(22, 20)
