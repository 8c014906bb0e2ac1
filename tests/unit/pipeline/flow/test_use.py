# SPDX-License-Identifier: Apache-2.0
"""The gate moves while the flow runs: what is closed stops, what may go on goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import BatchesGivenUp, DigestsRemoved, RunStarted
from agent.errors import ExchangeUnreachable, ResourceUnknown
from agent.model.item import Item, ItemType
from agent.model.job import Way
from agent.pipeline import state_folder
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import ResourceStatus
from agent.pipeline.flow.slots import Slots
from agent.pipeline.flow.sweep import sweep
from tests.support.push import FIRM, ITEMS, PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk, Script

BOTH = (Resource(PERSON), Resource(FIRM))
EXTRA = Item("phone", ItemType.C, 20, None, False, "1")


async def use(flow: PushFlow, world: World, resources: Sequence[Resource]) -> None:
    """What the gate lets leave now."""
    state = flow._parts.state
    async with asyncio.timeout(60):
        await flow.use(resources, replace(flow._parts, state=state))


def all_read(status: ResourceStatus) -> bool:
    """A run has ended, and its batches wait."""
    ended = status.run is not None and status.run.state == "read"
    return ended and status.progress is None and status.waiting.batches == 2


class Slow:
    """An exchange whose uploads wait until they are cut."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.begun = asyncio.Event()
        self.ended = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def upload(self, *_: Any, **__: Any) -> str | None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1
        return None


async def test_a_closed_resource_is_cut_in_the_middle_of_an_upload(
    tmp_path: Path,
) -> None:
    """Not at its end: nothing of it leaves from this moment on."""
    world = World(tmp_path)
    slow = Slow(world.exchange)
    world.wrap = lambda name, part: slow if name == "exchange" else part
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await asyncio.wait_for(slow.begun.wait(), 60)
        await use(flow, world, ())
        assert slow.ended == 1
        assert flow.resources == set()
        with pytest.raises(ResourceUnknown):
            flow.resource(PERSON)


async def test_waiting_batches_of_a_closed_resource_stay(tmp_path: Path) -> None:
    """The line comes back, and they do not leave; opened again, they do."""
    world = World(tmp_path)
    await world.pulled()
    async with world.serving() as flow:
        world.exchange.down = ExchangeUnreachable("cut")
        await flow.request_pull(PERSON)
        await until(flow, all_read)
        await use(flow, world, ())
        world.exchange.down = None
        before = len(world.exchange.calls)
        await asyncio.sleep(0.05)
        assert len(world.exchange.calls) == before
        assert len(world.exchange.batches) == 2
        await use(flow, world, (Resource(PERSON),))
        await until(flow, lambda s: s.state == "idle" and s.stream.loaded_seq == 4)


async def test_a_run_of_a_closed_resource_ends_and_comes_back_with_it(
    tmp_path: Path,
) -> None:
    """Its worker is killed at once; it is read again when the gate opens."""
    world = World(tmp_path, resources=BOTH)
    hold = asyncio.Event()
    world.scripts[PERSON] = Script(hold=hold, hold_at=2)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        await use(flow, world, BOTH[1:])
        assert world.scripts[PERSON].killed == 1
        assert set(flow.resources) == {FIRM}
        hold.set()
        await pull(flow, FIRM)
        await use(flow, world, BOTH)
        status = await until(flow, lambda s: s.state == "idle" and s.run is not None)
        assert status.balanced is True
        assert world.exchange.loaded_rows[PERSON] == 5


async def test_a_run_that_may_go_on_ends_with_its_old_job(tmp_path: Path) -> None:
    """More items are no reason to cut what is on its way."""
    world = World(tmp_path)
    hold = asyncio.Event()
    world.scripts[PERSON] = Script(hold=hold)
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        await use(flow, world, (Resource(PERSON, 2, (*ITEMS, EXTRA)),))
        hold.set()
        report = await asyncio.wait_for(flow.wait(run, delivered=True), 60)
        assert (report.state, report.delivered) == ("read", True)
        assert (len(world.told(RunStarted)), world.scripts[PERSON].killed) == (1, 0)


async def test_an_item_that_is_closed_takes_its_batches_and_its_run_along(
    tmp_path: Path,
) -> None:
    """What holds it never leaves; all is read again without it."""
    wide = Resource(PERSON, 1, (*ITEMS, EXTRA))
    world = World(tmp_path, resources=(wide,))
    await world.pulled()
    async with world.serving() as flow:
        world.exchange.down = ExchangeUnreachable("cut")
        await flow.request_pull(PERSON)
        await until(flow, all_read)
        hold = asyncio.Event()
        world.scripts[PERSON].hold = hold
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        await use(flow, world, (Resource(PERSON, 2, ITEMS),))
        hold.set()
        world.exchange.down = None
        await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
        after = [k for b, k in world.exchange.batches.items() if b.epoch == 2]
        assert {k.manifest.catalog.version for k in after} == {2}
        assert len(world.exchange.batches) == 2 + len(after)


async def test_a_resource_that_is_new_needs_no_restart(tmp_path: Path) -> None:
    """It is pulled like any other, beside those that were there."""
    world = World(tmp_path, resources=BOTH)
    async with world.serving() as flow:
        await use(flow, world, BOTH[:1])
        await use(flow, world, BOTH)
        assert (await pull(flow, FIRM)).delivered
        assert (await pull(flow, PERSON)).delivered


async def test_a_pause_outlives_a_closed_gate(tmp_path: Path) -> None:
    """Opening the gate is not resuming."""
    world = World(tmp_path, resources=BOTH)
    async with world.serving() as flow:
        flow.pause(FIRM)
        await use(flow, world, BOTH[:1])
        await use(flow, world, BOTH)
        assert flow.resource(FIRM).state == "paused"


async def test_who_is_draining_opens_nothing(tmp_path: Path) -> None:
    """A change during the last minute begins no run."""
    world = World(tmp_path, resources=BOTH)
    async with world.serving() as flow:
        await use(flow, world, BOTH[:1])
        drain = asyncio.create_task(flow.drain(1))
        await asyncio.sleep(0)
        await use(flow, world, BOTH)
        await drain
        await asyncio.wait({world.task}, timeout=60)
        assert world.task.done()
        assert world.scripts[FIRM].runs == []


async def test_more_workers_are_used_at_once() -> None:
    """Who waits for a place gets it when there are more; fewer take none away."""
    slots = Slots(1)
    inside: list[int] = []
    leave = asyncio.Event()

    async def run(number: int) -> None:
        async with slots:
            inside.append(number)
            await leave.wait()

    tasks = [asyncio.create_task(run(n)) for n in range(3)]
    await asyncio.sleep(0)
    assert len(inside) == 1
    slots.most = 2
    await asyncio.sleep(0.01)
    assert len(inside) == 2
    slots.most = 1
    leave.set()
    await asyncio.gather(*tasks)
    assert len(inside) == 3


async def test_what_waits_of_a_resource_that_left_the_catalogue_is_given_up(
    tmp_path: Path,
) -> None:
    """Recorded, its files go; back again it is read in full and all counts add up."""
    world = World(tmp_path, BOTH)
    script = world.scripts[FIRM]
    script.way, script.changes = Way("xmin", ()), (Chunk(3), Chunk(2))
    async with world.serving() as flow:
        await pull(flow, FIRM)
        world.exchange.down = ExchangeUnreachable("cut")
        run = await flow.request_pull(FIRM, kind="incremental")
        await until(flow, all_read, FIRM)
        await use(flow, world, [Resource(PERSON)])
        await flow.forget_all_but({PERSON, FIRM})  # only its gate is shut
        assert world.told(BatchesGivenUp) == []
        size = flow.status().spool.used
        await flow.forget_all_but({PERSON})
        await flow.forget_all_but({PERSON})
        (given,) = world.told(BatchesGivenUp)
        assert (given.resource, given.batches) == (FIRM, 2)
        assert (given.first, given.last) == ("1/3", "1/4")
        assert given in world.recorded
        sweep(flow._parts)
        assert flow.status().spool.used == size - given.size
        world.exchange.down = None
        await use(flow, world, BOTH)
        status = await until(flow, lambda s: s.stream.loaded_epoch == 2, FIRM)
        assert status.run is not None
        assert (status.run.kind, status.stream.cause) == ("full", "spool-lost")
        await until(flow, lambda s: s.healthy and s.state == "idle", FIRM)
        lost = await flow.look(run)
    assert (lost.read, lost.lost, lost.balanced) == (5, 5, True)


async def test_digests_of_what_left_the_catalogue_go_with_their_frontier(
    tmp_path: Path,
) -> None:
    """And of nothing else: what is paused or shut keeps them, foreign files stay."""
    world, states = World(tmp_path, BOTH), tmp_path / "diff"
    states.mkdir()
    world.scripts[PERSON].way = world.scripts[FIRM].way = Way("diff", ())
    async with world.serving() as flow:
        flow._parts = replace(flow._parts, states=states)
        runs = {code: (await pull(flow, code)).run for code in (PERSON, FIRM)}
        files = {code: state_folder.file(states, code, r) for code, r in runs.items()}
        for file in (*files.values(), states / "note.diff"):
            file.touch()
        await use(flow, world, [Resource(PERSON)])  # the other's gate is shut
        await flow.forget_all_but({PERSON, FIRM})
        assert all(file.exists() for file in files.values())
        await flow.forget_all_but({PERSON})
        assert set(states.iterdir()) == {files[PERSON], states / "note.diff"}
        assert world.told(DigestsRemoved) == [DigestsRemoved((FIRM,))]
        await use(flow, world, BOTH)
        kinds = [(await pull(flow, c, kind="incremental")).kind for c in (PERSON, FIRM)]
    assert kinds == ["diff", "full"]
