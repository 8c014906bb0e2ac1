# SPDX-License-Identifier: Apache-2.0
"""Many streams and one line: whose turn it is, and what a line that is back ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agent.audit.events import ExchangeTrouble
from agent.errors import ExchangeUnreachable
from agent.pipeline.flow.push import LONGEST_SEND_S
from agent.pipeline.flow.seams import Limits
from agent.pipeline.flow.slots import Slots
from tests.support.push import PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk

MANY = tuple(Resource(f"330100001/00001{n}") for n in range(6))


class Slow:
    """An exchange that takes a while for each batch, and notes whose it was."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.order: list[str] = []
        self.gate = asyncio.Event()
        self.came = asyncio.Event()

    async def busy(self, most: int) -> None:
        """Wait until so many upload, and see that no other one begins."""
        async with asyncio.timeout(60):
            while len(self.order) < most:
                self.came.clear()
                await self.came.wait()
        await asyncio.sleep(0.02)
        assert len(self.order) == most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    async def upload(self, *args: Any, **options: Any) -> Any:
        """Once the gate is open, after all who stand before."""
        self.order.append(options["batch"].resource)
        self.came.set()
        await self.gate.wait()
        await asyncio.sleep(0.002)
        return await self._part.upload(*args, **options)


async def test_so_many_streams_send_at_a_time_and_each_has_its_turn(
    tmp_path: Path,
) -> None:
    """Six streams, two at a time: nobody sends twice before all did once."""
    world = World(tmp_path, resources=MANY, limits=Limits(workers=6, uploads=2))
    slow = Slow(world.exchange)
    world.wrap = lambda name, part: slow if name == "exchange" else part
    for script in world.scripts.values():
        script.chunks = [Chunk(1)] * 3
    async with world.serving() as flow:
        pulls = [asyncio.create_task(pull(flow, r.resource)) for r in MANY]
        for one in MANY:
            await until(flow, lambda s: s.waiting.batches == 3, one.resource)
        await slow.busy(2)
        slow.gate.set()
        await asyncio.gather(*pulls)
    assert world.exchange.most_uploads == 2
    assert set(slow.order[:6]) == {r.resource for r in MANY}
    seqs = [b.seq for b in world.exchange.batches if b.resource == MANY[0].resource]
    assert seqs == [1, 2, 3]


async def test_who_waits_for_a_turn_is_not_taken_for_hung(tmp_path: Path) -> None:
    """The watchdog asks how long a step takes, and waiting for others is none."""
    world = World(tmp_path, resources=MANY[:2], limits=Limits(workers=2, uploads=1))
    slow = Slow(world.exchange)
    world.wrap = lambda name, part: slow if name == "exchange" else part
    async with world.serving() as flow:
        pulls = [asyncio.create_task(pull(flow, r.resource)) for r in MANY[:2]]
        for one in MANY[:2]:
            await until(flow, lambda s: s.waiting.batches == 2, one.resource)
        await slow.busy(1)
        world.clock.move(LONGEST_SEND_S + 1)
        async with asyncio.timeout(60):
            while flow.stuck() == "the sweeper of the spool":  # it had just begun
                await flow.changes.listen().wait()
        assert flow.stuck() == f"sending {slow.order[0]}"
        slow.gate.set()
        await asyncio.gather(*pulls)


async def test_a_pause_takes_its_turn_away(tmp_path: Path) -> None:
    """What was paused while it waited for a turn sends nothing."""
    world = World(tmp_path, resources=MANY[:2], limits=Limits(workers=2, uploads=1))
    slow = Slow(world.exchange)
    world.wrap = lambda name, part: slow if name == "exchange" else part
    async with world.serving() as flow:
        pulls = [asyncio.create_task(pull(flow, r.resource)) for r in MANY[:2]]
        for one in MANY[:2]:
            await until(flow, lambda s: s.waiting.batches == 2, one.resource)
        await slow.busy(1)
        (first,) = slow.order
        second = next(r.resource for r in MANY[:2] if r.resource != first)
        flow.pause(second)
        slow.gate.set()
        await until(flow, lambda s: s.state == "idle", first)
        assert {b.resource for b in world.exchange.batches} == {first}
        flow.resume(second)
        await asyncio.gather(*pulls)


async def test_when_the_line_is_back_nobody_waits_any_longer(tmp_path: Path) -> None:
    """Waits may have grown to ten minutes; one that got through ends them all."""
    world = World(tmp_path)
    world.exchange.down = ExchangeUnreachable("cut")
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        status = await until(flow, lambda s: s.trouble is not None)
        world.clock.sleep = _never  # type: ignore[method-assign]
        tried = len(world.exchange.calls)
        await until(flow, lambda _: len(world.exchange.calls) >= tried)
        world.exchange.down = None
        flow.reachable()
        assert status.trouble is not None
        await until(flow, lambda s: s.state == "idle" and s.trouble is None)


async def _never(_seconds: float) -> None:
    await asyncio.Event().wait()


async def test_a_circuit_that_is_open_says_when_to_come_again(tmp_path: Path) -> None:
    """The stream comes then, not when its own wait would have ended."""
    world = World(tmp_path)
    closed = ExchangeUnreachable("no answer several times in a row", retry_after=3.0)
    world.exchange.fail("upload", closed, closed)
    assert (await world.pulled()).delivered
    assert [e.wait_s for e in world.told(ExchangeTrouble)] == [3.0, 3.0]


async def test_a_slot_is_given_back_and_goes_to_who_waits_longest() -> None:
    """Also when one of those who wait gives up."""
    slots, order = Slots(1), []

    async def enter(name: str) -> None:
        async with slots:
            order.append(name)
            await asyncio.sleep(0)

    async with slots:
        tasks = [asyncio.create_task(enter(name)) for name in "abcd"]
        await asyncio.sleep(0)
        tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["a", "c", "d"]
