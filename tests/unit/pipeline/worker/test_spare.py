# SPDX-License-Identifier: Apache-2.0
"""The worker that is ready before there is a job."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.child.process import Guard, resident_bytes
from agent.errors import WorkerDied
from agent.model.job import Job, Message, Progress, Unfit
from agent.pipeline.worker.spare import KEPT_S, PAUSE_S, Spare
from agent.pipeline.worker.spawn import WorkerProcess

CHILD = Path(__file__).parents[3] / "support" / "odd_child.py"
GUARD = Guard(poll_s=0.01)
JOB = Job(
    kind="pull",
    resource="11/000001/0001",
    run="019abcde-0000-7000-8000-000000000001",
    connector="fake",
    source={"password": "correct horse"},
    table=("person",),
    items=(),
    timezone="Asia/Shanghai",
    severity={},
    batch_raw_bytes=8_000_000,
    max_rows_per_batch=200_000,
    quarantine="/nowhere",
    statement_timeout_s=60,
)


class Rest:
    """A sleep that ends when the test says so; the pause at once, if it is not held."""

    def __init__(self, *, held: bool = False) -> None:
        self.asked: list[float] = []
        self.pause, self.over = asyncio.Event(), asyncio.Event()
        if not held:
            self.pause.set()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await (self.pause if seconds == PAUSE_S else self.over).wait()


@asynccontextmanager
async def kept(rest: Rest) -> AsyncIterator[Spare]:
    async with AsyncExitStack() as stack:
        spare = Spare(sleep=rest)
        stack.push_async_callback(spare.close)
        yield spare


def worker(spare: Spare, behaviour: str, guard: Guard = GUARD) -> WorkerProcess:
    return WorkerProcess(
        (sys.executable, "-I", "-S", str(CHILD), behaviour),
        guard=guard,
        environ={},
        spare=spare,
    )


async def run(process: WorkerProcess, job: Job = JOB) -> list[Message]:
    async with process:
        await process.start(job)
        return [m async for m in process.messages()]


async def until(found: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not found():  # noqa: ASYNC110 - a process is watched
            await asyncio.sleep(0.005)


async def waiting(spare: Spare) -> int:
    """Process id of the worker that waits."""
    await until(lambda: spare.pid is not None)
    return spare.pid or 0


async def test_next_run_is_done_by_the_worker_that_was_ready() -> None:
    """It was told the connector's name before its job, and nothing else."""
    async with kept(Rest()) as spare:
        await run(worker(spare, "compares"))
        pid = await waiting(spare)
        progress, told, _ = await run(worker(spare, "compares"))

    assert isinstance(progress, Progress)
    assert progress.read == pid
    assert isinstance(told, Unfit)
    assert json.loads(told.reason) == [{"t": "prepare", "connector": "fake"}, "fake"]


async def test_worker_that_nobody_wants_ends() -> None:
    """A daemon at rest is as small as before."""
    rest = Rest()
    async with kept(rest) as spare:
        await run(worker(spare, "compares"))
        pid = await waiting(spare)
        rest.over.set()
        await until(lambda: not resident_bytes(pid))

        assert spare.pid is None
        assert rest.asked == [PAUSE_S, KEPT_S]


@pytest.mark.parametrize(
    ("job", "guard"),
    [
        (replace(JOB, connector="another"), GUARD),
        (JOB, replace(GUARD, rss_bytes=GUARD.rss_bytes // 2)),
    ],
    ids=["another connector", "another limit"],
)
async def test_worker_of_another_kind_is_not_taken(job: Job, guard: Guard) -> None:
    """Its driver or its limit is wrong: it ends, so that no memory is used twice."""
    async with kept(Rest()) as spare:
        await run(worker(spare, "compares"))
        pid = await waiting(spare)
        progress, *_ = await run(worker(spare, "compares", guard), job)

        assert isinstance(progress, Progress)
        assert progress.read != pid
        assert not resident_bytes(pid)


async def test_worker_that_died_waiting_costs_no_run() -> None:
    """The next run starts one of its own."""
    async with kept(Rest()) as spare:
        await run(worker(spare, "compares"))
        pid = await waiting(spare)
        await spare._kept.child.kill("a fault")
        progress, *_ = await run(worker(spare, "compares"))

        assert isinstance(progress, Progress)
        assert progress.read != pid


async def test_run_that_failed_leaves_none() -> None:
    """What crashes is not started once more for nobody."""
    rest = Rest()
    async with kept(rest) as spare:
        with suppress(WorkerDied):
            await run(worker(spare, "spills"))

        assert rest.asked == []


async def test_none_is_made_while_another_run_works() -> None:
    """Memory of the runs that work comes first."""
    rest = Rest()
    async with kept(rest) as spare, worker(spare, "asks") as other:
        await other.start(JOB)
        await run(worker(spare, "compares"))

        assert rest.asked == []


async def test_none_is_made_while_the_last_batches_leave() -> None:
    """Its start would take the processor from them; it comes when the pause is over."""
    rest = Rest(held=True)
    async with kept(rest) as spare:
        await run(worker(spare, "compares"))
        await until(lambda: rest.asked == [PAUSE_S])
        assert spare._kept is None

        rest.pause.set()
        assert await waiting(spare)


async def test_run_that_begins_in_the_pause_starts_its_own() -> None:
    """What would have been made is not; the next one comes after this run."""
    rest = Rest(held=True)
    async with kept(rest) as spare:
        await run(worker(spare, "compares"))
        await until(lambda: rest.asked == [PAUSE_S])
        async with worker(spare, "compares") as second:
            await second.start(JOB)
            rest.pause.set()
            progress, *_ = [m async for m in second.messages()]
            assert isinstance(progress, Progress)
            assert progress.read == second.pid
            assert rest.asked == [PAUSE_S]
            assert spare._kept is None

        assert await waiting(spare) != progress.read


async def test_close_in_the_pause_leaves_nothing() -> None:
    """A daemon that ends does not wait for a worker that nobody wants."""
    rest = Rest(held=True)
    async with kept(rest) as spare:
        await run(worker(spare, "compares"))
        await until(lambda: rest.asked == [PAUSE_S])
        await spare.close()
        rest.pause.set()
        await asyncio.sleep(0)

        assert spare._kept is None


async def test_close_ends_it_and_no_other_comes() -> None:
    """Nothing stays behind a daemon that has ended."""
    rest = Rest()
    async with kept(rest) as spare:
        await run(worker(spare, "compares"))
        pid = await waiting(spare)
        await spare.close()
        await run(worker(spare, "compares"))

        assert not resident_bytes(pid)
        assert spare._kept is None
        assert rest.asked == [PAUSE_S, KEPT_S]
