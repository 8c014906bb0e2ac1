# SPDX-License-Identifier: Apache-2.0
"""A full read that is cut goes on where it was; when it must not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.model.batch import Quality, Rows
from agent.model.job import Failed
from tests.support.push import PERSON, Resource, World, until
from tests.support.worker_double import Chunk


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A table of four parts."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(3), Chunk(2, keep=1, quarantined=1)) * 2
    return world


def parts(world: World) -> list[tuple[str, int, bool]]:
    """Snapshot, part and final of what the exchange has, in chain order."""
    kept = sorted(world.exchange.batches.items())
    snapshots = [entry.manifest.snapshot for _, entry in kept]
    return [(s.id, s.part, s.final) for s in snapshots if s is not None]


async def cut(world: World, *, part: int) -> str:
    """A daemon that is killed while this part is packed; the run that was cut."""
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), part
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stream.seq == part - 1)
    script.hold = None
    return run


async def test_a_killed_daemon_goes_on_mid_table(world: World) -> None:
    """The same snapshot, no part twice; the counts are those of the whole."""
    run = await cut(world, part=3)
    async with world.serving() as flow:
        report = await flow.wait(run, delivered=True)
    first, second = world.scripts[PERSON].jobs
    assert first.resume is None
    assert second.resume is not None
    assert (second.resume.token, second.resume.parts) == ("after 2", 2)
    assert (second.resume.rows, second.resume.quality) == (
        Rows(5, 0, 1),
        Quality(6, 1, 0),
    )
    assert parts(world) == [(run, n, n == 4) for n in (1, 2, 3, 4)]
    assert (report.state, report.balanced, report.delivered) == ("read", True, True)
    assert (report.read, report.upsert) == (12, 10)


async def test_it_counts_as_read_when_its_first_part_was(world: World) -> None:
    """What changed behind the place of the cut comes with the next increment."""
    run = await cut(world, part=2)
    async with world.serving() as flow:
        await flow.wait(run, delivered=True)
    state = world.open_state()
    kept = state.frontier(1)
    state.close()
    assert kept is not None
    assert (kept.run, kept.value) == (run, f"frontier {run}")


async def test_a_worker_that_dies_costs_no_part_that_is_registered(
    world: World,
) -> None:
    """It is tried again from the part that is missing, however often it dies."""
    script = world.scripts[PERSON]
    script.die_at = 4
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: s.run is not None and s.run.code == "worker-died")
        script.die_at = None
        assert (await flow.wait(run, delivered=True)).balanced
    assert {job.run for job in script.jobs} == {run}
    assert [p for _, p, _ in parts(world)] == [1, 2, 3, 4]


async def test_a_paused_read_goes_on(world: World) -> None:
    """Resuming does not begin anew either."""
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), 3
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stream.seq == 2)
        flow.pause(PERSON)
        await until(flow, lambda s: s.state == "paused" and s.progress is None)
        script.hold = None
        flow.resume(PERSON)
        assert (await flow.wait(run, delivered=True)).delivered
    assert [p for _, p, _ in parts(world)] == [1, 2, 3, 4]


async def test_another_catalog_begins_anew(world: World) -> None:
    """One snapshot has one catalog."""
    run = await cut(world, part=3)
    world.resources = (Resource(PERSON, version=2),)
    async with world.serving() as flow:
        report = await flow.wait(run, delivered=True)
    assert report.run != run
    assert report.delivered
    assert [p for _, p, _ in parts(world)] == [1, 2, 1, 2, 3, 4]


async def test_a_place_that_cannot_be_read_begins_anew(world: World) -> None:
    """A token that the source does not take any more would fail for ever."""
    run = await cut(world, part=3)
    world.scripts[PERSON].failures = [Failed("source-failed", "the resume token")]
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle")
    assert status.run is not None
    assert status.run.run != run
    assert [job.resume is None for job in world.scripts[PERSON].jobs] == [
        True,
        False,
        True,
    ]


async def test_a_new_epoch_begins_anew(world: World) -> None:
    """The exchange has lost what was staged."""
    await cut(world, part=3)
    world.exchange.forget(PERSON)
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle")
    assert status.run is not None
    assert status.run.delivered
    assert [p for _, p, _ in parts(world)] == [1, 2, 3, 4]


async def test_reasons_of_both_tries_are_added_up(world: World) -> None:
    """What was withheld before the kill is told with the run's end."""
    run = await cut(world, part=3)
    state = world.open_state()
    found = state.resume_point(run)
    state.close()
    assert found is not None
    assert found.reasons == {"required": 1}
