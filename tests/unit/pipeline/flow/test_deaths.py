# SPDX-License-Identifier: Apache-2.0
"""A person's word after three deaths; the deaths themselves: test_native_crash.py."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.audit.events import WorkerEnded
from agent.errors import Busy
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import RunReport
from tests.support.push import PERSON, World, pull, until


async def pulled(flow: PushFlow) -> RunReport:
    """A pull, once the run that died is put away."""
    while True:
        try:
            return await pull(flow)
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
