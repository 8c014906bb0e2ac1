# SPDX-License-Identifier: Apache-2.0
"""Who reads a limited source."""

from __future__ import annotations

import asyncio

import pytest

from agent.model.pacing import Pacing, Rate
from agent.pipeline.worker.turns import Turns

SLOW = Pacing("hr", Rate(100))


@pytest.mark.parametrize(
    ("first", "second", "at_once"),
    [
        (SLOW, SLOW, False),
        (SLOW, Pacing("hr", windows=("20:00-06:00",), off_peak=Rate(5)), False),
        (SLOW, Pacing("registry", Rate(100)), True),
        (Pacing("hr"), Pacing("hr"), True),
        (None, None, True),
    ],
)
async def test_only_one_run_reads_a_source_with_a_limit(
    first: Pacing | None, second: Pacing | None, at_once: bool
) -> None:
    """Two at a time would read twice as much as the limit says."""
    turns = Turns()
    inside = asyncio.Event()

    async def other() -> None:
        async with turns.turn(second):
            inside.set()

    async with turns.turn(first):
        task = asyncio.ensure_future(other())
        for _ in range(5):
            await asyncio.sleep(0)
        assert inside.is_set() is at_once
    await task
    assert inside.is_set()


async def test_a_run_that_waits_may_be_cut() -> None:
    """A pause ends the wait, and the turn is not lost."""
    turns = Turns()
    async with turns.turn(SLOW):
        waiting = asyncio.ensure_future(turns.turn(SLOW).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(60), turns.turn(SLOW):
        pass
