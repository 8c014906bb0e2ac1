# SPDX-License-Identifier: Apache-2.0
"""Increments in the flow: from which frontier, what an empty one says, what ends it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit.events import FrontierGone, NumberUnfit
from agent.errors import ExchangeUnreachable
from agent.model.job import Failed, Unfit, Way
from tests.support.push import PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk

XMIN = Way("xmin", ())


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A table whose changes are told."""
    world = World(tmp_path)
    world.scripts[PERSON].way = XMIN
    return world


def modes(world: World) -> list[str]:
    """What the runs read, in order."""
    return [job.mode for job in world.scripts[PERSON].jobs]


def sent(world: World) -> list[str]:
    """Modes of the batches that the exchange has, in chain order."""
    kept = sorted(world.exchange.batches.items())
    return [entry.manifest.mode for _, entry in kept]


async def test_an_increment_goes_on_from_where_the_last_run_ended(
    world: World,
) -> None:
    """Full first, then what changed since; each from the run before."""
    world.scripts[PERSON].changes = (Chunk(1), Chunk(1))
    async with world.serving() as flow:
        for _ in range(3):
            assert (await pull(flow, kind="incremental")).delivered
    jobs = world.scripts[PERSON].jobs
    assert modes(world) == ["full", "incremental", "incremental"]
    assert [job.since for job in jobs[1:]] == [f"frontier {j.run}" for j in jobs[:2]]
    assert sent(world) == ["full"] * 2 + ["incremental"] * 4


async def test_the_counts_of_an_increment_fit(world: World) -> None:
    """Read, loaded and withheld add up, and the run says what it was."""
    world.scripts[PERSON].changes = (Chunk(3, quarantined=1, keep=1), Chunk(2))
    async with world.serving() as flow:
        await pull(flow)
        report = await pull(flow, kind="incremental")
    assert (report.kind, report.read, report.loaded) == ("incremental", 6, 5)
    assert (report.balanced, report.stale) == (True, 1)


async def test_an_empty_increment_says_that_nothing_changed(world: World) -> None:
    """One batch without rows, so that the centre knows up to when it has everything."""
    async with world.serving() as flow:
        await pull(flow)
        report = await pull(flow, kind="incremental")
        status = flow.resource(PERSON)
    assert (report.delivered, report.balanced, report.batches) == (True, True, 1)
    assert sent(world)[-1] == "unchanged"
    assert status.complete_to is not None


async def test_where_no_changes_are_told_all_is_read(world: World) -> None:
    """The wish is the same, what can be done is not."""
    world.scripts[PERSON].way = None
    async with world.serving() as flow:
        for _ in range(2):
            await pull(flow, kind="incremental")
    assert modes(world) == ["full", "full"]


async def test_another_catalog_is_read_in_full(world: World) -> None:
    """A frontier of the old columns says nothing of the new ones."""
    await world.pulled()
    world.resources = (Resource(PERSON, version=2),)
    await world.pulled(kind="incremental")
    await world.pulled(kind="incremental")
    assert modes(world) == ["full", "full", "incremental"]


async def test_a_lost_frontier_is_named_and_read_in_full_at_once(
    world: World,
) -> None:
    """Nobody has to ask; the trouble is over with the full read."""
    lost = Failed("frontier-lost", "restored: the log is behind")
    async with world.serving() as flow:
        await pull(flow)
        world.scripts[PERSON].failures = [lost]
        report = await pull(flow, kind="incremental")
        assert (report.state, report.code) == ("failed", "frontier-lost")
        assert report.successor is not None
        assert (await flow.wait(report.successor, delivered=True)).delivered
        assert (await pull(flow, kind="incremental")).delivered
        status = await until(flow, lambda s: s.state == "idle")
    assert status.trouble is None
    assert modes(world) == ["full", "incremental", "full", "incremental"]
    [told] = world.told(FrontierGone)
    assert told.detail == "restored: the log is behind"


async def test_an_increment_that_was_cut_is_read_again_from_the_same_frontier(
    world: World,
) -> None:
    """What was sent of it comes twice; nothing is missed."""
    script = world.scripts[PERSON]
    script.changes = (Chunk(1), Chunk(1))
    await world.pulled()
    script.die_at = 2
    async with world.serving() as flow:
        assert (await pull(flow, kind="incremental")).state == "failed"
        script.die_at = None
        status = await until(flow, lambda s: s.state == "idle")
    first, *others = script.jobs
    assert {job.since for job in others} == {f"frontier {first.run}"}
    assert len({job.run for job in others}) == len(others) > 1
    assert status.run is not None
    assert status.run.delivered


async def test_what_a_rejected_batch_brought_forward_is_read_in_full(
    world: World,
) -> None:
    """An increment would leave a hole where the rejected rows were."""
    world.scripts[PERSON].changes = (Chunk(2),)
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.refuse_seq[3] = "bad-payload"
        await flow.request_pull(PERSON, kind="incremental")
        await until(flow, lambda s: s.state == "held")
        assert (await pull(flow, kind="incremental")).delivered
    assert modes(world) == ["full", "incremental", "full"]


async def test_increments_are_sealed_behind_a_first_load_that_is_still_on_its_way(
    world: World,
) -> None:
    """They are read while nothing of it has left, and arrive after it."""
    world.scripts[PERSON].changes = (Chunk(1),)
    world.exchange.fail("upload", *[ExchangeUnreachable("cut")] * 20)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.balanced is not None and s.progress is None)
        run = await flow.request_pull(PERSON, kind="incremental")
        assert (await flow.wait(run)).state == "read"
        assert sent(world) == []
        async with asyncio.timeout(60):
            assert (await flow.wait(run, delivered=True)).delivered
    assert sent(world) == ["full", "full", "incremental"]


async def test_status_says_how_changes_are_found_and_what_that_relies_on(
    world: World,
) -> None:
    """As the newest run found it: a right that was given shows with the next one."""
    world.scripts[PERSON].way = replace(XMIN, assumes=("max-transaction=600s",))
    async with world.serving() as flow:
        assert flow.resource(PERSON).increments is None
        await pull(flow)
        shown = flow.resource(PERSON).increments
        assert shown is not None
        assert (shown.method, shown.assumes) == ("xmin", ("max-transaction=600s",))
        world.scripts[PERSON].way = XMIN
        await pull(flow, kind="incremental")
        shown = flow.resource(PERSON).increments
        assert shown is not None
        assert shown.assumes == ()


async def test_a_number_that_is_unfit_is_told(world: World) -> None:
    """Nobody has to find out why rows are compared although a number is named."""
    world.scripts[PERSON].unfit = Unfit("gaps-many: more than 10000 gaps")
    async with world.serving() as flow:
        run = (await pull(flow)).run
    (told,) = world.told(NumberUnfit)
    assert told == NumberUnfit(PERSON, run, "gaps-many: more than 10000 gaps")


async def test_another_number_makes_the_next_run_a_full_one(world: World) -> None:
    """The ledger of one column means nothing for another."""
    async with world.serving() as flow:
        for number in (None, "seq", "seq", "other"):
            world.number = number
            await pull(flow, kind="incremental")
    assert modes(world) == ["full", "full", "incremental", "full"]
