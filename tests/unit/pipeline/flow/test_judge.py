# SPDX-License-Identifier: Apache-2.0
"""Pure judgements: whether a position fits, what opens an epoch, what is too much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.batch import Quality, Rows
from agent.model.stream import Head
from agent.pipeline.flow.judge import Standing, next_head, too_many_deletes, what_moved
from agent.pipeline.flow.report import run_report
from agent.state import Run, RunTotals, Sums
from agent.wire.position import Position

A, B, OURS, OTHER = (f"sha256:{c * 64}" for c in "abcd")
EMPTY = Position("x", "n", "r", 0, 0, None, None, (0, 0), False, "n" * 22, 1)
HEAD = Head(3, 5, OURS, "a" * 32, None)


def at(
    epoch: int, seq: int, digest: str = OURS, incarnation: str = "a" * 32
) -> Position:
    return replace(EMPTY, epoch=epoch, seq=seq, digest=digest, incarnation=incarnation)


def ours(**changes: object) -> Standing:
    plain = Standing(head=HEAD, base=A, at_position=OURS, next_open=(3, 4), chains_to=B)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seq", [3, 4, 5])
def test_a_position_inside_our_chain_fits(seq: int) -> None:
    """Up to the last registered, from the last one with a receipt."""
    assert what_moved(ours(), at(3, seq)) is None


def test_a_position_before_our_epoch_fits_while_nothing_of_it_is_stored() -> None:
    """Our first batch chains to it."""
    assert what_moved(ours(next_open=(3, 1), chains_to=A), at(2, 9, digest=A)) is None
    assert what_moved(ours(next_open=(3, 1), base=None, chains_to=None), EMPTY) is None


def test_a_position_within_what_is_sent_again_of_an_older_epoch_fits() -> None:
    """Right before it, within it, and where it goes on in the newer epoch."""
    again = ours(next_open=(2, 8), chains_to=B)
    assert what_moved(again, at(2, 7, digest=B)) is None
    assert what_moved(again, at(2, 8)) is None
    assert what_moved(again, at(3, 2)) is None
    assert what_moved(again, at(2, 7)) == "overtaken"


SIGNED = (3, 3)
"""Up to there the exchange has signed receipts."""


@pytest.mark.parametrize(
    ("standing", "position", "seen", "moved"),
    [
        (ours(at_position=None), at(3, 6, digest=OTHER), False, "restored"),
        (ours(at_position=None), at(4, 1, digest=OTHER), False, "restored"),
        (ours(), at(3, 4, digest=OTHER), False, "restored"),
        (ours(at_position=None), at(3, 4), False, "restored"),
        (ours(next_open=(3, 1), chains_to=A), at(2, 9, digest=B), False, "restored"),
        (ours(at_position=None), at(3, 6, digest=OTHER), True, "cloned"),
        (ours(at_position=None), at(4, 1, digest=OTHER), True, "cloned"),
        (ours(), at(3, 4, digest=OTHER), True, "cloned"),
        (ours(receipted=SIGNED), at(3, 2), False, "exchange-restored"),
        (ours(receipted=SIGNED), at(3, 2), True, "exchange-restored"),
        (ours(receipted=SIGNED), at(2, 9, digest=A), False, "exchange-restored"),
        (ours(receipted=SIGNED), EMPTY, True, "exchange-restored"),
        (ours(next_open=(3, 1), chains_to=A), EMPTY, False, "exchange-restored"),
        (ours(receipted=(2, 8)), at(2, 9), True, "overtaken"),
        (
            ours(next_open=(2, 8), receipted=(2, 7), given_up=True),
            at(2, 9),
            True,
            "overtaken",
        ),
        (ours(receipted=(2, 9)), at(2, 9), True, "spool-lost"),
    ],
    ids=[
        "ahead",
        "later epoch",
        "other batch",
        "batch unknown to us",
        "moved before we began",
        "ahead of a chain that fitted",
        "later epoch than one that fitted",
        "other batch than one that fitted",
        "went back",
        "went back meanwhile",
        "went back an epoch",
        "lost",
        "lost before we began",
        "ours after we had given it up",
        "ours after we had given it up, while older ones are sent again",
        "the last that we sent, and we gave up the rest",
    ],
)
def test_a_position_outside_our_chain_says_what_has_moved(
    standing: Standing, position: Position, seen: bool, moved: str
) -> None:
    """Our state, the exchange's, or somebody who sends as we do."""
    assert what_moved(replace(standing, seen=seen), position) == moved


def test_a_stream_that_we_do_not_know_is_new_or_was_lost() -> None:
    """Empty there: first. Not empty: our spool was lost."""
    fresh = Standing(
        head=Head(0, 0, None, "a" * 32, None),
        base=None,
        at_position=None,
        next_open=(0, 1),
        chains_to=None,
    )
    assert what_moved(fresh, EMPTY) == "first"
    assert what_moved(fresh, at(7, 2)) == "spool-lost"


@pytest.mark.parametrize(("theirs", "epoch"), [(at(3, 4), 4), (at(9, 1), 10)])
def test_a_new_epoch_is_above_both(theirs: Position, epoch: int) -> None:
    """Neither an identity of ours nor one of theirs is used again."""
    head = next_head(HEAD, theirs, reason="restored", incarnation="b" * 32)
    assert head == Head(epoch, 0, OURS, "b" * 32, "restored")


def test_where_nothing_was_stored_the_reason_is_first() -> None:
    """prev null and another reason would contradict each other."""
    head = next_head(HEAD, EMPTY, reason="rejected", incarnation="a" * 32)
    assert head == Head(4, 0, None, "a" * 32, "first")


@pytest.mark.parametrize(
    ("before", "now", "held"),
    [
        (None, 0, False),
        (0, 0, False),
        (10, 10, False),
        (10, 11, False),
        (10, 1, False),
        (10, 0, True),
        (1000, 0, True),
        (2000, 1000, False),
        (2000, 999, True),
        (100_000, 95_000, False),
        (100_000, 94_999, True),
    ],
)
def test_the_brake(before: int | None, now: int, held: bool) -> None:
    """max(1000, 5 %), and always when nothing is left."""
    assert (too_many_deletes(before, now, 0) is not None) is held


@pytest.mark.parametrize(
    ("loaded", "in_flight", "balanced"), [(7, 0, True), (4, 3, True), (6, 0, False)]
)
def test_the_books_balance_only_if_every_row_is_somewhere(
    loaded: int, in_flight: int, balanced: bool
) -> None:
    """read 10 = loaded + in flight + 2 quarantined + 1 skipped."""
    quality = Quality(10, 2, 1)
    totals = RunTotals(Rows(7, 0, 1), quality, {}, {})
    run = Run("r", 1, "read", None, "2026-11-21T08:00:00Z", totals=totals)
    sums = Sums(2, in_flight, loaded, 0, Rows(7, 0, 1), quality, {"loaded": 2})
    report = run_report(run, "330100001/000001", sums)
    assert (report.balanced, report.stale) == (balanced, 1)
    assert report.delivered is True


def test_the_books_of_a_run_that_reads_are_open() -> None:
    """Neither red nor green."""
    run = Run("r", 1, "reading", None, "2026-11-21T08:00:00Z")
    sums = Sums(0, 0, 0, 0, Rows(0, 0, 0), Quality(0, 0, 0), {})
    report = run_report(run, "330100001/000001", sums)
    assert (report.balanced, report.delivered) == (None, False)
