# SPDX-License-Identifier: Apache-2.0
"""Every equation of the counts: green, red, or not known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.batch import Quality, Rows
from agent.model.run import RunKind
from agent.pipeline.flow.accounts import of_resource, of_run
from agent.state import Count, Run, RunTotals, Sums

NOON = "2026-11-21T12:00:00Z"
ROWS, QUALITY = Rows(16, 2, 3), Quality(25, 5, 4)
TOTALS = RunTotals(ROWS, QUALITY, {}, {})
RUN = Run("r", 1, "read", None, NOON, totals=TOTALS)
SUMS = Sums(
    batches=2,
    open_upsert=6,
    loaded_upsert=10,
    lost_upsert=0,
    rows=ROWS,
    quality=QUALITY,
    states={"loaded": 2},
)
WHOLE = replace(SUMS, open_upsert=0, loaded_upsert=16)


def verdicts(run: Run, sums: Sums) -> dict[str, bool | None]:
    return {account.name: account.ok for account in of_run(run, sums)}


def test_a_run_that_adds_up_is_green() -> None:
    """25 read = 10 loaded + 6 in flight + 5 quarantined + 4 skipped, and the parts."""
    assert set(verdicts(RUN, SUMS).values()) == {True}


@pytest.mark.parametrize(
    ("run", "sums", "red"),
    [
        (RUN, replace(SUMS, uneven=1), ["batches"]),
        (RUN, replace(SUMS, overkept=1), ["keep"]),
        (RUN, replace(SUMS, rows=Rows(16, 2, 2)), ["sum"]),
        (RUN, replace(SUMS, quality=Quality(26, 5, 4)), ["batches", "sum"]),
        (RUN, replace(SUMS, loaded_upsert=9), ["run"]),
        (RUN, replace(SUMS, open_upsert=7), ["run"]),
        (
            replace(RUN, totals=replace(TOTALS, quality=Quality(24, 5, 4))),
            SUMS,
            ["sum", "run"],
        ),
    ],
)
def test_each_wrong_count_is_red_by_its_own_name(
    run: Run, sums: Sums, red: list[str]
) -> None:
    """One row too many or too few, in any of the places where rows are counted."""
    assert [name for name, ok in verdicts(run, sums).items() if ok is False] == red


def test_a_comparison_that_found_nothing_is_green_without_a_batch() -> None:
    """All that it read is skipped; a row that it says it sent is one too many."""
    none = Sums(0, 0, 0, 0, Rows(0, 0, 0), Quality(0, 0, 0), {})
    same = replace(RUN, totals=RunTotals(Rows(0, 0, 0), Quality(25, 0, 25), {}, {}))
    assert set(verdicts(same, none).values()) == {True}
    sent = replace(RUN, totals=RunTotals(Rows(1, 0, 0), Quality(25, 0, 25), {}, {}))
    assert verdicts(sent, none)["sum"] is False


def test_a_run_that_still_reads_is_not_known() -> None:
    """Its batches are judged already, the run is not."""
    found = verdicts(replace(RUN, totals=None), SUMS)
    assert found == {"batches": True, "keep": True, "sum": None, "run": None}


@pytest.mark.parametrize(
    ("kind", "rows", "ok", "stale"),
    [
        ("full", 20, True, 0),  # all 5 withheld rows were never sent
        ("full", 23, True, 3),  # 3 with a key, which the centre has from before
        ("full", 24, False, 3),  # more than were kept: somebody else's row
        ("full", 19, False, 0),  # one that was loaded is gone
        ("diff", 25, True, 5),
        ("diff", 26, False, 5),
    ],
)
def test_a_resource_is_the_centres_rows_and_what_never_left(
    kind: RunKind, rows: int, ok: bool, stale: int
) -> None:
    """25 at the source; the centre may have 20 good ones and some old ones."""
    account = of_resource(replace(RUN, kind=kind), WHOLE, Count("r", rows, NOON))
    assert (account.ok, account.stale, account.at) == (ok, stale, NOON)
    assert (account.left, account.right["centre"]) == ({"source": 25}, rows)
    assert account.right["never_sent"] == 5 - stale


@pytest.mark.parametrize(
    ("run", "sums", "count", "why"),
    [
        (None, None, None, "reading"),
        (RUN, SUMS, None, "not-loaded"),
        (RUN, SUMS, Count("r", 20, NOON), "not-loaded"),
        (RUN, WHOLE, None, "not-counted"),
        (RUN, WHOLE, Count("another", 20, NOON), "not-counted"),
    ],
)
def test_what_nobody_counted_is_not_known(
    run: Run | None, sums: Sums | None, count: Count | None, why: str
) -> None:
    """And says what is missing."""
    account = of_resource(run, sums, count)
    assert (account.ok, account.why) == (None, why)
