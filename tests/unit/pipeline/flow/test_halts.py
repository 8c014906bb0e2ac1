# SPDX-License-Identifier: Apache-2.0
"""A halt, a cancellation, another wish: what comes while a stream waits counts."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.errors import GateClosed, NodeCloned, SpoolWriteFailed
from agent.pipeline.flow.seams import Limits, undivided
from agent.state import KeptDue
from tests.support.push import FIRM, PERSON, Resource, World, pull, until

OTHER = "330100001/000003"
HOUR_S = 3601.0


class Held:
    """An exchange that takes no batch of one resource until it is let."""

    def __init__(self, world: World) -> None:
        self.free, self.asked = asyncio.Event(), asyncio.Event()
        self.free.set()
        self._upload = world.exchange.upload
        world.exchange.upload = self.upload  # type: ignore[method-assign]

    async def upload(self, *given: Any, **named: Any) -> str | None:
        if named["batch"].resource == PERSON and not self.free.is_set():
            self.asked.set()
            await self.free.wait()
        return await self._upload(*given, **named)


@pytest.mark.parametrize("damaged", [False, True])
async def test_who_waits_for_a_turn_while_a_clone_is_found_sends_nothing(
    tmp_path: Path, damaged: bool
) -> None:
    """Nor does a new epoch, for a file that is gone meanwhile, end the halt."""
    names = (Resource(PERSON), Resource(FIRM), Resource(OTHER))
    limits = Limits(workers=3, uploads=1)
    world = World(tmp_path, resources=names, limits=limits)
    held = Held(world)
    async with world.serving() as flow:
        for name in names:
            await pull(flow, name.resource)
        held.free.clear()
        await flow.request_pull(PERSON)
        await held.asked.wait()
        await flow.wait(await flow.request_pull(FIRM))
        place = world.exchange.places[OTHER]
        place.seq, place.digest = place.seq + 1, "sha256:" + "f" * 64
        world.clock.move(HOUR_S)
        await flow.wait(await flow.request_pull(OTHER))
        await until(flow, lambda s: s.state == "held", FIRM)
        before = [b for b in world.exchange.offered if b.resource == FIRM]
        if damaged:
            for file in (tmp_path / "spool").rglob("*000002*.fepb"):
                file.unlink()
        held.free.set()
        await until(flow, lambda s: s.stream.halted == NodeCloned.code, PERSON)
        await asyncio.sleep(0.05)
        assert [b for b in world.exchange.offered if b.resource == FIRM] == before
        assert flow.resource(FIRM).stream.halted == NodeCloned.code
        assert flow.resource(FIRM).stream.epoch == 1


async def test_what_is_wanted_while_a_run_waits_for_its_slot_is_read(
    tmp_path: Path,
) -> None:
    """A recall that takes the place of a due read is not lost to it."""
    limits = Limits(workers=1)
    names = (Resource(PERSON), Resource(FIRM))
    world = World(tmp_path, resources=names, limits=limits)
    async with world.serving() as flow:
        await pull(flow, PERSON)
        await pull(flow, FIRM)
        world.scripts[PERSON].hold = hold = asyncio.Event()
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "running", PERSON)
        due = KeptDue(flow.stream_id(FIRM), "full", "p", "2026-11-22T00:00:00Z", None)
        assert await flow.begin(FIRM, "full", due=due) is None
        await asyncio.sleep(0.02)
        recall = await flow.request_pull(FIRM, kind="recall")
        hold.set()
        assert (await flow.wait(recall)).code == "recall-unconfirmed"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GateClosed("narrower"), asyncio.CancelledError),
        (SpoolWriteFailed("EIO"), SpoolWriteFailed),
    ],
)
async def test_a_cancellation_is_not_lost_to_what_the_work_raised(
    error: Exception, expected: type[BaseException]
) -> None:
    """Who catches it would go on; only a disk that refuses ends the daemon first."""
    begun, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait(5)
        raise error

    task = asyncio.ensure_future(undivided(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(expected):
        await task
