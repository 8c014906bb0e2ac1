# SPDX-License-Identifier: Apache-2.0
"""How fast a run is, and what is promised of its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agent.pipeline.flow.pace import Pace

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """So long after the start."""
    return START + timedelta(seconds=seconds)


def test_nothing_is_promised_before_anything_was_read() -> None:
    """No rate and no end at the very beginning."""
    pace = Pace(START)
    assert (pace.rate(), pace.eta_s(100)) == (None, None)


def test_the_last_minute_counts() -> None:
    """A source that has become slow shows, whatever it did an hour ago."""
    pace = Pace(START)
    pace.note(at(10), 1_000_000)
    for second in range(11, 200):
        pace.note(at(second), 1_000_000 + (second - 10) * 10)
    assert pace.rate() == 10
    assert pace.eta_s(1_002_890) == 100


def test_a_wrong_estimate_promises_nothing() -> None:
    """More rows than were estimated: nobody can say when it ends."""
    pace = Pace(START)
    pace.note(at(10), 100)
    assert (pace.eta_s(100), pace.eta_s(50), pace.eta_s(None)) == (None, None, None)


def test_a_clock_that_is_set_back_begins_the_measure_anew() -> None:
    """No negative rate, no end in the past."""
    pace = Pace(START)
    pace.note(at(10), 100)
    pace.note(at(-3600), 200)
    assert pace.rate() is None
    pace.note(at(-3590), 300)
    assert pace.rate() == 10


def test_a_reading_that_waits_promises_nothing() -> None:
    """The spool is full: the rate falls to none, and no end is named."""
    pace = Pace(START)
    for second in range(0, 130, 10):
        pace.note(at(second), 500)
    assert (pace.rate(), pace.eta_s(1000)) == (0, None)
