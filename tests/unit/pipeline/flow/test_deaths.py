# SPDX-License-Identifier: Apache-2.0
"""A person's word after three deaths; the deaths themselves: test_native_crash.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.audit.events import WorkerEnded
from agent.crypto.frames import digest_text
from agent.errors import Busy, WorkerGivenUp
from agent.model.job import Compared
from agent.model.run import RunKind
from agent.pipeline.flow.lane import MOST_DEATHS
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import RunReport
from tests.support.push import PERSON, World, pull, until
from tests.support.worker_double import Chunk

GIVEN_UP = WorkerGivenUp.code


async def pulled(flow: PushFlow, kind: RunKind = "full") -> RunReport:
    """A pull, once the run that died is put away."""
    while True:
        try:
            return await pull(flow, kind=kind)
        except Busy:
            await asyncio.sleep(0.001)


async def test_a_pull_is_a_persons_word_as_well(tmp_path: Path) -> None:
    """Whoever asks for a run has looked: it is read, and the row begins anew."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.die_at = 1
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        held = await until(flow, lambda s: s.state == "held")
        script.die_at = None
        again = await pulled(flow)
        assert (await until(flow, lambda s: s.state == "idle")).trouble is None

    assert [e.times for e in world.told(WorkerEnded)] == [1, 2, 3]
    assert held.trouble is not None
    assert (held.trouble.code, held.trouble.next_try) == ("worker-given-up", None)
    assert again.delivered


async def test_a_pause_does_not_count_and_does_not_forgive(tmp_path: Path) -> None:
    """After two deaths and a restart the third is the third."""
    world = World(tmp_path)
    world.scripts[PERSON].die_at = 1
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda _: len(world.told(WorkerEnded)) >= 2)
    before = len(world.told(WorkerEnded))
    async with world.serving() as flow:
        flow.pause(PERSON)
        flow.resume(PERSON)
        await until(flow, lambda s: s.state == "held")

    assert before in (2, 3)
    assert [e.times for e in world.told(WorkerEnded)] == [1, 2, 3]


async def test_a_worker_that_does_not_come_to_its_driver_is_not_counted(
    tmp_path: Path,
) -> None:
    """No memory, or an upgrade under way, mends itself: it is tried on."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.die_at = 0
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda _: len(script.runs) > MOST_DEATHS + 1)
        script.die_at = None
        await until(flow, lambda s: s.state == "idle")
    assert world.told(WorkerEnded) == []


async def given_up(flow: PushFlow) -> None:
    """Until its worker died three times."""
    await until(flow, lambda s: s.trouble is not None and s.trouble.code == GIVEN_UP)


async def loaded(tmp_path: Path) -> World:
    """A world whose exchange has one row; every further run dies."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.chunks = (Chunk(1),)
    await world.pulled()
    world.exchange.rows[PERSON] = {1: digest_text(1)}
    script.die_at = 1
    return world


async def test_a_comparison_that_is_asked_for_is_a_word_as_well(tmp_path: Path) -> None:
    """It runs, though nothing was read any more."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.found = Compared(1, 1)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await given_up(flow)
        script.die_at = None
        done = await pulled(flow, "compare")
    assert (done.state, done.found) == ("read", Compared(1, 1))


async def test_who_resumes_does_not_end_the_halt_of_a_stream(tmp_path: Path) -> None:
    """Its worker died, and a batch was rejected: only a pull is a word on both."""
    world = World(tmp_path)
    world.exchange.loading = False
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 2)
        world.scripts[PERSON].die_at = 1
        await flow.request_pull(PERSON)
        await given_up(flow)
        world.exchange.reject(PERSON, "bad-payload")
        await until(flow, lambda s: s.stream.halted is not None)
        runs = len(world.scripts[PERSON].runs)
        flow.resume()
        await asyncio.sleep(0.05)
        after = flow.resource(PERSON)
    assert (after.state, after.stream.halted) == ("held", "bad-payload")
    assert len(world.scripts[PERSON].runs) == runs


async def test_a_recall_that_died_is_not_tried_again_once_it_is_over(
    tmp_path: Path,
) -> None:
    """Who names the resource ends the recall: then everything is sent anew."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        await given_up(flow)
        died = [job.mode for job in script.jobs[-3:]]
        script.die_at = None
        flow.resume(PERSON)
        await until(flow, lambda s: s.state == "idle")
    assert died == ["recall"] * 3
    assert script.jobs[-1].mode == "full"
