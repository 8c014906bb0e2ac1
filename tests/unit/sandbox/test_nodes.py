# SPDX-License-Identifier: Apache-2.0
"""Which heartbeats are taken, and how a node stands by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.wire.heartbeat import SpoolStand, Totals
from sandbox.nodes import Changes, Heard, heard, judge, view
from sandbox.store import Store
from sandbox.view import lines
from tests.support.beats import FIRST, NODE, SECOND, beat, stuck

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_beats_that_grow_are_taken() -> None:
    """Gaps are no harm: a restart leaves them."""
    known = judge(None, beat(5), NOW)
    known = judge(known, beat(1001), NOW + MINUTE)
    assert known.beat == beat(1001)
    assert known.doubt is None


def test_replayed_beat_is_dropped_and_flagged() -> None:
    """The same number, or an older one, changes nothing but the flag."""
    known = judge(None, beat(5), NOW)
    for n in (5, 4):
        known = judge(known, beat(n), NOW + MINUTE)
    assert (known.beat, known.at) == (beat(5), NOW)
    assert known.doubt is not None
    assert (known.doubt.kind, known.doubt.times) == ("replay", 2)
    assert known.doubt.incarnation == FIRST


def test_two_machines_with_one_identity_are_seen() -> None:
    """Two lives beat in turn: the one that was there first stays, both are flagged."""
    known = judge(None, beat(1), NOW)
    known = judge(known, beat(1, incarnation=SECOND), NOW + 14 * MINUTE)
    assert known.beat == beat(1)
    assert known.doubt is not None
    assert (known.doubt.kind, known.doubt.incarnation) == ("clone", SECOND)
    known = judge(known, beat(2), NOW + 15 * MINUTE)
    known = judge(known, beat(2, incarnation=SECOND), NOW + 16 * MINUTE)
    assert known.beat == beat(2)
    assert known.doubt is not None
    assert known.doubt.times == 2


def test_new_machine_is_taken_once_the_old_one_is_silent() -> None:
    """After 15 minutes without a beat nobody is there to be doubled."""
    known = judge(None, beat(9), NOW)
    known = judge(known, beat(1, incarnation=SECOND), NOW + 15 * MINUTE)
    assert known.beat == beat(1, incarnation=SECOND)
    assert known.doubt is None


def test_flag_stays_until_a_person_has_looked() -> None:
    """A beat that is taken later does not lift it; an acceptance does."""
    known = judge(None, beat(1), NOW)
    known = judge(known, beat(1), NOW)
    assert judge(known, beat(2), NOW).doubt is not None
    accepted = judge(Heard(None, NOW), beat(1, incarnation=SECOND), NOW)
    assert (accepted.beat, accepted.doubt) == (beat(1, incarnation=SECOND), None)


def test_only_who_has_not_fetched_is_told_to() -> None:
    """Also everybody after a restart of the exchange."""
    changes = Changes()
    assert changes.behind(NODE)
    changes.fetched(NODE)
    assert not changes.behind(NODE)
    changes.moved()
    assert changes.behind(NODE)


# --- the view ----------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "centre.db")
    found.add_statement(NODE, 1, digest="d", message="m", now=NOW)
    return found


def stands(store: Store, at: datetime, **changes: Any) -> str:
    from sandbox.nodes import Nodes  # the writer as the exchange has it

    Nodes(store, "yunxi.exchange", lambda: at)._keep(
        NODE, Heard(beat(**changes), at, None)
    )
    return str(view(store, now=NOW, late_s=180)[0]["stands"])


def test_node_that_never_beat_is_silent(store: Store) -> None:
    """It is shown all the same."""
    (found,) = view(store, now=NOW, late_s=180)
    assert (found["stands"], found["beat"]) == ("silent", None)


@pytest.mark.parametrize(
    ("ago_s", "changes", "wanted"),
    [
        (60, {}, "healthy"),
        (181, {}, "late"),
        (60, {"totals": Totals(3, 1, 2, 9), "worst": (stuck(),)}, "stuck"),
        (60, {"spool": SpoolStand(9, 9, 0, blocked=True)}, "stuck"),
        (60, {"troubles": ("audit-damaged",)}, "stuck"),
    ],
)
def test_node_stands_by_its_last_beat(
    store: Store, ago_s: int, changes: dict[str, Any], wanted: str
) -> None:
    """Healthy, late or stuck, whatever is worst."""
    assert stands(store, NOW - timedelta(seconds=ago_s), **changes) == wanted


def test_view_says_why_a_node_is_stuck(store: Store) -> None:
    """Stream, code, since when; clock, certificate and version beside the name."""
    stands(store, NOW, totals=Totals(3, 1, 2, 9), worst=(stuck(),))
    text = "\n".join(lines(view(store, now=NOW, late_s=180)))
    assert "stuck 受阻  fep-agent/0.1.0" in text
    assert "101001/000001 mass-delete since 2026-11-21T08:00:00Z" in text
    assert "certificate 300 d" in text


def test_a_node_that_was_reset_comes_with_another_life(store: Store) -> None:
    """A person has said so already: its new machine is not held as a clone."""
    assert stands(store, NOW - MINUTE) == "healthy"
    store.forget_node(NODE, reason="a dead disc", now=NOW)
    assert heard(store, NODE) is None
