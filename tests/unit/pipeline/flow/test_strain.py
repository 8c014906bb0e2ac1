# SPDX-License-Identifier: Apache-2.0
"""What status and log say of a source that is not well."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.audit.events import HealthHidden, SourceRecovered, SourceSlowed
from agent.model.job import Slowed
from agent.pipeline.flow.report import Ease
from tests.support.push import PERSON, World, pull, until

BAD = ("lock_waits=9>5",)
BLIND = ("busy",)


async def test_one_event_each_way_and_the_reason_in_the_status(tmp_path: Path) -> None:
    """However often the speed changes; the end of the run ends it."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), 1
    script.says = (Slowed(0.5, BAD), Slowed(0.25, BAD), Slowed(0.5, BAD))
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        slow = await until(flow, lambda s: s.ease is not None and s.ease.share == 0.5)
        script.says = (*script.says, Slowed(1.0))
        script.hold.set()
        await flow.wait(run)
        over = await until(flow, lambda s: s.ease is None)
        await until(flow, lambda s: s.state == "idle")
        await pull(flow)

    assert slow.ease is not None
    assert slow.ease == Ease(0.5, BAD, slow.ease.since)
    assert (slow.state, slow.healthy) == ("running", True)
    assert over.ease is None
    slowed = world.told(SourceSlowed)
    assert (slowed[0].run, slowed[0].reasons) == (run, BAD)
    assert len(slowed) == 2
    assert len(world.told(SourceRecovered)) == 1


async def test_what_nobody_may_see_is_said_once(tmp_path: Path) -> None:
    """Not with every run, and it slows nothing down."""
    world = World(tmp_path)
    world.scripts[PERSON].says = (Slowed(1.0, (), BLIND), Slowed(1.0, (), BLIND))
    async with world.serving() as flow:
        await pull(flow)
        await until(flow, lambda s: s.state == "idle")
        await pull(flow)
        assert flow.resource(PERSON).ease is None

    assert [e.measures for e in world.told(HealthHidden)] == [BLIND]
    assert world.told(SourceSlowed) == world.told(SourceRecovered) == []
