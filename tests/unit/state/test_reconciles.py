# SPDX-License-Identifier: Apache-2.0
"""What comparisons found and what is recalled is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model.job import Compared
from agent.model.run import RunKind
from agent.state import (
    KeptComparison,
    KeptRecall,
    Run,
    RunEnd,
    State,
    StreamKey,
)

KEY = StreamKey("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001")
NOON = "2026-11-21T12:00:00Z"
FOUND = Compared(10, 9, missing=1, told_by="frontier")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state.db", new_incarnation=lambda: "a" * 32)
    state.stream(KEY)
    yield state
    state.close()


def add(state: State, run: str, kind: RunKind = "compare") -> Run:
    new = Run(run, 1, "queued", None, NOON, kind=kind)
    state.add_run(new)
    return new


def test_the_newest_comparison_that_came_to_an_end_is_the_last(state: State) -> None:
    """One that was only asked for is none."""
    kept = state.reconciles
    assert kept.last(1) is None
    for run in ("r1", "r2"):
        add(state, run)
        kept.keep(1, KeptComparison(run, NOON, FOUND))
    kept.ask("r3", 1, report="keys")
    assert kept.last(1) == KeptComparison("r2", NOON, FOUND)
    assert kept.of("r1") == KeptComparison("r1", NOON, FOUND)
    assert kept.of("r3") is None
    assert kept.last(2) is None


def test_what_was_asked_for_is_kept_with_what_was_found(state: State) -> None:
    """And the exchange's own words with it."""
    kept = state.reconciles
    add(state, "r1")
    kept.ask("r1", 1, report="keys")
    kept.keep(1, KeptComparison("r1", NOON, FOUND), reply="a.b.c")
    assert kept.report("r1") == "keys"
    with state._connection.transaction() as db:
        reply = db.execute("SELECT reply FROM reconciles").fetchone()
    assert reply == ("a.b.c",)


def test_a_report_is_wanted_of_whatever_repeats_the_run(state: State) -> None:
    """Over any number of repetitions; of no other run."""
    kept = state.reconciles
    add(state, "r1")
    kept.ask("r1", 1, report="keys")
    for run, after in (("r1", "r2"), ("r2", "r3")):
        new = Run(after, 1, "queued", None, NOON, kind="compare")
        state.stop_run(run, RunEnd("failed", "x", "y", NOON), successor=new)
    add(state, "other")
    assert [kept.report(run) for run in ("r1", "r3", "other")] == ["keys", "keys", None]


def test_a_recall_stands_until_it_is_ended(state: State) -> None:
    """A second word replaces the first; the proof comes later."""
    kept = state.reconciles
    assert kept.recall(1) is None
    kept.begin_recall(1, KeptRecall("r1", 5, NOON))
    kept.begin_recall(1, KeptRecall("r2", 6, NOON))
    kept.prove_recall(1, at=NOON)
    assert kept.recall(1) == KeptRecall("r2", 6, NOON, NOON)
    kept.end_recall(1)
    assert kept.recall(1) is None


def test_only_the_newest_recall_can_be_confirmed(state: State) -> None:
    """Other runs since then do not matter, a recall that ended does."""
    kept = state.reconciles
    assert kept.held_recall(1) is None
    add(state, "r1", "recall")
    end = RunEnd("held", "recall-unconfirmed", "", NOON, keys_gone=7)
    state.stop_run("r1", end)
    add(state, "r2", "incremental")
    assert kept.held_recall(1) == ("r1", 7)
    add(state, "r3", "recall")
    assert kept.held_recall(1) is None
