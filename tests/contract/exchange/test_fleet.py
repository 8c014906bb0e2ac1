# SPDX-License-Identifier: Apache-2.0
"""A tenth of a city comes back after its exchange was away: soon, and not as a herd."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from benchmarks.fleet import measured
from benchmarks.fleet_air import Nowhere, There
from benchmarks.fleet_node import Node, Seen, Time
from benchmarks.fleet_nodes import bare
from tests.support import jumping_loop

pytestmark = pytest.mark.contract

NODES, FEW = 400, 150


@pytest.mark.parametrize("away_s", [2.0, 60.0])
def test_no_thundering_herd(away_s: float) -> None:
    """A peak of few times the steady rate, and all are fresh within two periods.

    The loops are the agent's own; the clock jumps, so that the machine's pace is none.
    """

    random.seed(7)
    found = measured(NODES, 0, away_s=away_s)
    assert (found["fresh"], found["refused"]) == (NODES, 0)
    assert found["herd"] <= 5.0, found
    assert found["fresh_s"] <= 150.0, found


def test_nodes_that_were_nudged_together_part_again() -> None:
    """What all fetched in one second is not fetched so for ever after."""

    random.seed(7)

    async def story(clock: Callable[[], float]) -> tuple[int, int]:
        time, there = Time(1.0, clock), There()
        seen = Seen(time)
        nodes = [Node(one, Nowhere(), there, time, seen) for one in bare(FEW)]
        living = [asyncio.create_task(one.live(i % 60)) for i, one in enumerate(nodes)]
        await time.sleep(100.0)
        for one in nodes:
            one.nudge()
        await time.sleep(5.0)
        nudged = polls(seen, 100.0)
        await time.sleep(500.0)
        for task in living:
            task.cancel()
        await asyncio.gather(*living, return_exceptions=True)
        return nudged, polls(seen, 500.0)

    nudged, later = jumping_loop.run(story)
    assert nudged > FEW * 0.8
    assert later < FEW * 0.2


def polls(seen: Seen, since: float) -> int:
    found = [r for r in seen.between(since, float("inf")) if r.kind == "poll"]
    return seen.peak(found)


def test_nodes_come_back_over_https() -> None:
    """Some of them with real certificates, to a real exchange that was killed."""
    found = measured(20, 20, away_s=60.0, compress=20.0)
    assert found["fresh"] == 20
