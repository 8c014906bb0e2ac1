# SPDX-License-Identifier: Apache-2.0
"""Runs begin by themselves: once, one at a time, and not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.daemon.schedules import Plans, Scheduler
from agent.model.run import ScheduledKind
from agent.pipeline.flow.push import PushFlow
from agent.schedule import Plan
from tests.support.push import FIRM, PERSON, Resource, World, pull, until
from tests.support.worker_double import Script

NIGHTLY = Plan("0 2 * * *", "Asia/Shanghai")
HOURLY = Plan("every 1h", "Asia/Shanghai")
DAY = 86_400.0


@asynccontextmanager
async def scheduling(
    world: World, plans: Plans
) -> AsyncIterator[tuple[PushFlow, Scheduler]]:
    """A serving flow and a scheduler that looks when the test says so."""
    async with world.serving() as flow:
        yield flow, scheduler(world, flow, plans)


def scheduler(world: World, flow: PushFlow, plans: Plans) -> Scheduler:
    """One that has not looked yet."""
    parts = world.parts(flow._parts.state)
    return Scheduler(flow, parts.state, plans, parts.chance)


def full(
    plan: Plan, resource: str = PERSON
) -> Mapping[str, Mapping[ScheduledKind, Plan]]:
    """One resource that is read whole."""
    return {resource: {"full": plan}}


async def ended(flow: PushFlow, world: World, *, runs: int) -> None:
    """So many runs have begun, and nothing is on its way."""
    async with asyncio.timeout(60):
        await until(
            flow,
            lambda r: len(world.scripts[PERSON].runs) == runs and r.state == "idle",
        )


async def test_what_never_ran_begins_at_once_by_a_period(tmp_path: Path) -> None:
    """And then an hour later, not before."""
    world = World(tmp_path)
    async with scheduling(world, full(HOURLY)) as (flow, times):
        await times.look()
        await ended(flow, world, runs=1)
        world.clock.move(3500)
        await times.look()
        assert flow.resource(PERSON).state == "idle"
        world.clock.move(200)
        await times.look()
        await ended(flow, world, runs=2)


async def test_nights_missed_while_the_daemon_was_down_are_one_run(
    tmp_path: Path,
) -> None:
    """What was due is kept over restarts; a week makes one run."""
    world = World(tmp_path)
    async with scheduling(world, full(NIGHTLY)) as (flow, times):
        await times.look()
        assert world.scripts[PERSON].runs == []
    world.clock.move(7 * DAY)
    async with scheduling(world, full(NIGHTLY)) as (flow, times):
        await times.look()
        await ended(flow, world, runs=1)
        await times.look()
        assert len(world.scripts[PERSON].runs) == 1
        assert flow.resource(PERSON).run is not None


async def test_what_is_due_while_a_run_reads_begins_after_it_once(
    tmp_path: Path,
) -> None:
    """Five missed hours of a slow run are one run more, never two at a time."""
    world = World(tmp_path)
    hold = asyncio.Event()
    world.scripts[PERSON] = Script(hold=hold)
    async with scheduling(world, full(HOURLY)) as (flow, times):
        await times.look()
        await until(flow, lambda r: r.state == "running")
        for _ in range(5):
            world.clock.move(3600)
            await times.look()
        assert times.view(PERSON)[0]["waits"] == "busy"
        hold.set()
        await ended(flow, world, runs=1)
        await times.look()
        await ended(flow, world, runs=2)
        await times.look()
        assert len(world.scripts[PERSON].runs) == 2


async def test_a_pause_holds_back_and_is_made_up_for(tmp_path: Path) -> None:
    """Nothing begins while paused; resuming begins one run."""
    world = World(tmp_path)
    async with scheduling(world, full(HOURLY)) as (flow, times):
        flow.pause(PERSON)
        await times.look()
        world.clock.move(DAY)
        await times.look()
        assert times.view(PERSON)[0]["waits"] == "paused"
        assert world.scripts[PERSON].runs == []
        flow.resume(PERSON)
        await times.look()
        await ended(flow, world, runs=1)


async def test_a_shut_window_holds_back_until_it_opens(tmp_path: Path) -> None:
    """At 16:00 it waits for 20:00, and status says so."""
    world = World(tmp_path)
    plan = Plan("every 1h", "Asia/Shanghai", windows=("20:00-06:00",))
    async with scheduling(world, full(plan)) as (flow, times):
        await times.look()
        [shown] = times.view(PERSON)
        assert (shown["waits"], shown["next"]) == ("window", "2026-11-21T12:00:00Z")
        assert world.scripts[PERSON].runs == []
        world.clock.move(4 * 3600)
        await times.look()
        await ended(flow, world, runs=1)


async def test_a_rejected_stream_waits_for_a_person(tmp_path: Path) -> None:
    """A schedule does not answer for what the exchange refused."""
    world = World(tmp_path)
    async with scheduling(world, full(HOURLY)) as (flow, times):
        world.exchange.refuse_seq[2] = "bad-payload"
        await pull(flow)
        await until(flow, lambda r: r.state == "held")
        await times.look()
        await times.look()
        world.clock.move(2 * 3600)
        await times.look()
        assert times.view(PERSON)[0]["waits"] == "halted"
        assert len(world.scripts[PERSON].runs) == 1


async def test_two_resources_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """The lanes are apart, also for schedules."""
    world = World(tmp_path, resources=(Resource(PERSON), Resource(FIRM)))
    world.scripts[PERSON].hold = asyncio.Event()
    plans = {**full(HOURLY), **full(HOURLY, FIRM)}
    async with scheduling(world, plans) as (flow, times):
        await times.look()
        await until(flow, lambda r: r.state == "idle" and r.run is not None, FIRM)
        assert flow.resource(PERSON).state == "running"


async def test_only_one_run_comes_of_a_pull_and_a_schedule_at_once(
    tmp_path: Path,
) -> None:
    """Who asks second gets the run of the first."""
    world = World(tmp_path)
    world.scripts[PERSON].hold = asyncio.Event()
    async with scheduling(world, full(HOURLY)) as (flow, times):
        asked = asyncio.gather(
            times.look(),
            *(flow.request_pull(PERSON) for _ in range(3)),
            return_exceptions=True,
        )
        await asked
        await until(flow, lambda r: r.state == "running")
        assert len(flow._parts.state.unfinished_runs()) == 1


async def test_switched_off_is_forgotten(tmp_path: Path) -> None:
    """When it is on again an old moment does not count."""
    world = World(tmp_path)
    async with scheduling(world, full(NIGHTLY)) as (flow, times):
        await times.look()
        times.use({})
        await times.look()
        assert flow._parts.state.dues() == ()
        assert times.view(PERSON) == []
        world.clock.move(3 * DAY)
        times.use(full(NIGHTLY))
        await times.look()
        assert world.scripts[PERSON].runs == []


async def test_the_clock_is_looked_at_often_whatever_is_due(tmp_path: Path) -> None:
    """A clock that is set is noticed within half a minute."""
    world = World(tmp_path)
    async with scheduling(world, full(NIGHTLY)) as (_flow, times):
        assert await times.look() <= 30.0


async def test_the_loop_begins_runs_by_itself(tmp_path: Path) -> None:
    """Nobody calls look but the loop; other times wake it."""
    world = World(tmp_path)
    async with scheduling(world, {}) as (flow, times):
        task = asyncio.create_task(times.forever())
        try:
            times.use(full(HOURLY))
            await ended(flow, world, runs=1)
        finally:
            task.cancel()
            await asyncio.wait({task})


# --- what status says ---------------------------------------------------------------


async def test_the_lag_counts_from_what_the_exchange_has_loaded(tmp_path: Path) -> None:
    """Not from what was read, and by the source's own clock."""
    world = World(tmp_path)
    async with world.serving() as flow:
        assert flow.resource(PERSON).lag_s is None
        await pull(flow)
        world.clock.move(600)
        found = flow.resource(PERSON)
        assert found.complete_to == "2026-11-21T08:00:00Z"
        assert found.last_success is not None
        assert found.lag_s == pytest.approx(600, abs=1)
        world.scripts[PERSON].hold = asyncio.Event()
        world.scripts[PERSON].hold_at = 2
        await flow.request_pull(PERSON)
        await until(flow, lambda r: r.state == "running")
        assert flow.resource(PERSON).complete_to == "2026-11-21T08:00:00Z"
