# SPDX-License-Identifier: Apache-2.0
"""What was read where the ceiling lets nobody read any more does not leave."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ExchangeUnreachable
from agent.model.job import Job
from agent.model.place import Allowed, Place, place_of
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import ResourceStatus
from agent.state import Batch
from tests.support.push import PERSON, World, until
from tests.support.worker_double import Script
from tests.unit.pipeline.flow.test_use import Slow, all_read

CUT = ExchangeUnreachable("cut")
TITLE = ("title",)


def only(*columns: str) -> Allowed:
    """A ceiling under which nothing but these columns may be read."""
    return {("rsj", ("t",)): frozenset(columns)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A resource whose item is read from the column ``zw``."""
    found = World(tmp_path)
    found.bound, found.columns = TITLE, {"title": "zw"}
    found.allowed = only("zw")
    return found


async def rebound(flow: PushFlow, world: World) -> None:
    """The department forbids the column and binds the item to another one."""
    world.columns, world.allowed = {"title": "masked"}, only("masked")
    await use(flow, world)


async def use(flow: PushFlow, world: World) -> None:
    """The same resources under the ceiling of now."""
    parts = replace(flow._parts, allowed=world.allowed)
    async with asyncio.timeout(60):
        await flow.use(world.resources, parts)


def settled(status: ResourceStatus) -> bool:
    """Everything is read and loaded."""
    return status.state == "idle" and status.waiting.batches == 0


def sent(world: World) -> list[Batch]:
    """All that the exchange has, as the state knows it."""
    state = world.open_state()
    try:
        found = [state.batch(1, b.epoch, b.seq) for b in world.exchange.batches]
    finally:
        state.close()
    return [batch for batch in found if batch is not None]


def read_at(world: World) -> list[str]:
    """Columns of all that the exchange has, batch by batch."""
    batches, state = sent(world), world.open_state()
    try:
        places = [state.places.of(batch.run) for batch in batches]
    finally:
        state.close()
    return [place.columns[0] for place in places if place is not None]


async def test_attack_a_forbidden_column_does_not_leave_by_batches_that_wait(
    world: World,
) -> None:
    """Version and items are as before: only the place of the rows tells."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 1000)
        await flow.request_pull(PERSON)
        await until(flow, all_read)
        await rebound(flow, world)
        world.exchange.mend("upload")
        status = await until(flow, settled)
    assert read_at(world) == ["masked", "masked"]
    assert (status.balanced, len(world.scripts[PERSON].runs)) == (True, 2)


async def test_attack_a_forbidden_column_does_not_leave_by_a_run_that_reads(
    world: World,
) -> None:
    """Its worker is killed at once; what it had sealed is given up."""
    hold = asyncio.Event()
    world.scripts[PERSON] = Script(hold=hold, hold_at=2)
    world.exchange.fail("upload", *[CUT] * 1000)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 1)
        await rebound(flow, world)
        await until(flow, lambda _: world.scripts[PERSON].killed > 0)
        hold.set()
        world.exchange.mend("upload")
        await until(flow, settled)
    assert set(read_at(world)) == {"masked"}


async def test_an_upload_of_a_forbidden_column_is_cut(world: World) -> None:
    """Not at its end: nothing of it leaves from this moment on."""
    slow = Slow(world.exchange)
    world.wrap = lambda name, part: slow if name == "exchange" else part
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await asyncio.wait_for(slow.begun.wait(), 60)
        before, slow.begun = slow.ended, asyncio.Event()
        world.exchange.down = CUT
        await rebound(flow, world)
        assert slow.ended == before + 1
        assert not slow.begun.is_set()


@pytest.mark.parametrize("known", [True, False])
async def test_a_restart_judges_what_it_finds_waiting(
    world: World, known: bool
) -> None:
    """The place was kept; where nobody kept it, it is not allowed."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 1000)
        await flow.request_pull(PERSON)
        await until(flow, all_read)
    if not known:
        _forget(world)
    world.exchange.mend("upload")
    world.columns, world.allowed = {"title": "masked"}, only("masked")
    async with world.serving() as flow:
        await until(flow, settled)
    assert read_at(world) == ["masked", "masked"]


def _forget(world: World) -> None:
    """As the state was before places were kept."""
    state = world.open_state()
    with state._connection.transaction() as db:
        db.execute("UPDATE runs SET place = NULL")
    state.close()


async def test_what_waits_leaves_as_long_as_its_column_is_allowed(world: World) -> None:
    """Another column, or a bound that is no narrower, is no reason to read again."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 1000)
        await flow.request_pull(PERSON)
        await until(flow, all_read)
        world.columns, world.allowed = {"title": "masked"}, only("masked", "zw")
        await use(flow, world)
        world.exchange.mend("upload")
        await until(flow, settled)
    assert read_at(world) == ["zw", "zw"]
    assert len(world.scripts[PERSON].runs) == 1


async def test_a_read_that_was_cut_does_not_go_on_with_another_column(
    world: World,
) -> None:
    """One snapshot holds the values of one place."""
    world.allowed = None
    hold = asyncio.Event()
    world.scripts[PERSON] = Script(hold=hold, hold_at=2)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda _: len(world.exchange.batches) == 1)
    world.columns = {"title": "masked"}
    hold.set()
    async with world.serving() as flow:
        await until(flow, settled)
    assert len({batch.run for batch in sent(world)}) == 2


def test_a_place_is_its_columns_and_those_that_tell_of_changes(world: World) -> None:
    """All that is named to a connector is judged."""
    job: Job = replace(world.job(PERSON, "run", "full"), stamp="changed", number="n")
    place = place_of(job)
    assert place == Place("rsj", ("t",), ("zw", "changed", "n"))
    assert Place.from_text(place.as_text()) == place
    assert place.within(only("zw", "changed", "n", "more"))
    assert not place.within(only("zw", "changed"))
    assert not place.within({})
    assert not place.within({("other", ("t",)): frozenset(place.columns)})
    assert place_of(replace(job, table=())) is None
