# SPDX-License-Identifier: Apache-2.0
"""Drivers that crash, abort, hang in C or panic: real processes under a real flow."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.audit.events import Event, RunHeld, WorkerEnded
from agent.child.process import Guard
from agent.logs import Metrics, Teller
from agent.model.job import Job
from agent.model.run import RunKind
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import ResourceStatus
from agent.pipeline.flow.seams import Parts
from agent.pipeline.worker.spawn import WorkerProcess
from agent.state import KeptDue, State
from tests.fault.test_worker_faults import FAKE
from tests.support.fake_source import CANARY, ITEMS, job
from tests.support.push import FIRM, PERSON, Resource, World

pytestmark = pytest.mark.fault

COLUMNS = tuple(bound.item for bound in ITEMS)
PATIENCE_S = 60.0


@dataclass
class Native(World):
    """A flow whose workers are processes; PERSON's driver ends them in these ways."""

    resources: tuple[Resource, ...] = (
        Resource(PERSON, items=COLUMNS),
        Resource(FIRM, items=COLUMNS),
    )
    ways: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.log = io.StringIO()
        self.metrics = Metrics()

    def job(self, resource: str, run: str, mode: RunKind) -> Job:
        way = self.ways.pop(0) if self.ways and resource == PERSON else ""
        return job(
            str(self.folder),
            resource=resource,
            run=run,
            mode=mode,
            source={"rows": 10, "fail": way, "fail_at": 1},
        )

    def parts(self, state: State) -> Parts:
        write = Teller(
            self.log,
            level="debug",
            now=lambda: datetime(2026, 11, 21, tzinfo=UTC),
            metrics=self.metrics,
        )

        def tell(event: Event) -> None:
            self.events.append(event)
            write(event)

        guard = Guard(poll_s=0.02, silence_s=5.0)
        environ = dict(os.environ)
        return replace(
            super().parts(state),
            tell=tell,
            worker=lambda: WorkerProcess(FAKE, guard=guard, environ=environ),
        )


async def until(
    flow: PushFlow, fact: Callable[[ResourceStatus], bool]
) -> ResourceStatus:
    """Wait until a fact of PERSON's status holds; processes take their time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            heard = flow.changes.listen()
            if fact(status := flow.resource(PERSON)):
                return status
            await heard.wait()


def done(status: ResourceStatus) -> bool:
    """Everything is at the exchange, and nothing goes on."""
    return status.run is not None and status.run.delivered and status.state == "idle"


async def read(flow: PushFlow, resource: str) -> bool:
    """Whether everything of a resource is at the exchange, after a pull."""
    async with asyncio.timeout(PATIENCE_S):
        run = await flow.request_pull(resource)
        return (await flow.wait(run, delivered=True)).delivered


async def test_three_deaths_in_a_row_wait_for_a_person_and_nobody_else(
    tmp_path: Path,
) -> None:
    """SIGSEGV, abort, a hang in C are named; held, over a restart, until resume."""
    world = Native(tmp_path, ways=["crash", "abort", "stuck"])
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        held = await until(flow, lambda s: s.state == "held")
        assert await read(flow, FIRM)

    ended = world.told(WorkerEnded)
    assert [(e.code, e.times) for e in ended] == [
        ("worker-died", 1),
        ("worker-died", 2),
        ("worker-silent", 3),
    ]
    ways = (
        "ended by SIGSEGV; stderr",
        "ended by SIGABRT; stderr",
        "no message for 5 s",
    )
    assert all(way in e.detail for way, e in zip(ways, ended, strict=True))
    assert held.trouble is not None
    assert held.trouble.code == "worker-given-up"
    assert "no message for 5 s; ended by SIGKILL" in held.trouble.detail
    assert [e.code for e in world.told(RunHeld)] == ["worker-given-up"]
    assert (
        f'fep_worker_deaths_total{{code="worker-died",resource="{PERSON}"}} 2.0'
        in world.metrics.text()
    )

    async with world.serving() as flow:
        again = flow.resource(PERSON)
        due = KeptDue(1, "full", "every 1m", "2026-11-21T08:00:00Z", None)
        waits = await flow.begin(PERSON, "full", due=due)
        flow.resume(PERSON)
        after = await until(flow, done)

    assert (again.state, waits) == ("held", "given-up")
    assert again.trouble == held.trouble
    assert after.trouble is None
    told(world)


async def test_a_run_that_is_read_ends_the_row(tmp_path: Path) -> None:
    """Two panics, a good run, two deaths more: nobody has to come."""
    world = Native(tmp_path, ways=["panic", "crash", "", "exit", "kill"])
    async with world.serving() as flow:
        for deaths in (2, 4):
            await flow.request_pull(PERSON)
            await until(flow, lambda _: len(world.told(WorkerEnded)) == deaths)  # noqa: B023
            assert (await until(flow, done)).trouble is None

    assert [e.times for e in world.told(WorkerEnded)] == [1, 2, 1, 2]
    assert world.told(WorkerEnded)[0].detail.endswith("PanicException")
    told(world)


def told(world: Native) -> None:
    """What drivers wrote to stderr is told nowhere and kept nowhere."""
    assert "worker.died" in world.log.getvalue()
    assert CANARY not in world.log.getvalue()
    kept = [p for p in world.folder.rglob("*") if p.is_file()]
    assert kept
    assert [p for p in kept if CANARY.encode() in p.read_bytes()] == []
