# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.child.process import (
    STDERR_KEPT,
    Guard,
    resident_bytes,
)
from agent.errors import WorkerDied, WorkerSilent, WorkerTooLarge
from agent.model.job import Ended, Failed, Job, Line, Message, Packed
from agent.pipeline.worker.spawn import WorkerProcess

CHILD = Path(__file__).parents[3] / "support" / "odd_child.py"
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


SET_HERE = {
    "ARROW_DEFAULT_MEMORY_POOL",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "LC_CTYPE",
}
"""What FEP or Python itself sets in a child."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worker(
    behaviour: str,
    *,
    environ: dict[str, str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    **guard: float,
):
    return WorkerProcess(
        (sys.executable, "-I", "-S", str(CHILD), behaviour),
        guard=Guard(**{"poll_s": 0.01, "grace_s": 5.0, **guard}),
        environ=environ or {},
        clock=clock,
    )


async def run(process: WorkerProcess) -> list[Message]:
    async with process:
        await process.start(JOB)
        return [m async for m in process.messages()]


def told(messages: list[Message]) -> dict:
    (last,) = messages
    assert isinstance(last, Failed)
    return json.loads(last.detail)


async def test_messages_end_with_the_last_word() -> None:
    """A worker's messages arrive in order and stop after Ended."""
    messages = await run(worker("ends"))

    assert [type(m).__name__ for m in messages] == ["Progress", "Ended"]


async def test_a_line_reaches_the_worker_that_packed() -> None:
    """What is sent after a Packed arrives whole."""
    process = worker("asks")
    async with process:
        await process.start(JOB)
        messages = []
        async for message in process.messages():
            messages.append(message)
            if isinstance(message, Packed):
                await process.send(Line(1, "e30.e30.e30", "/spool/tmp/1"))

    assert told(messages[1:]) == {
        "t": "line", "part": 1, "text": "e30.e30.e30", "path": "/spool/tmp/1",
    }  # fmt: skip


async def test_environment_and_arguments_hold_no_secret() -> None:
    """Allow-listed variables go on, and no argument but the descriptor."""
    environ = {
        "PATH": "/usr/bin",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PGPASSWORD": "correct horse",
        "CREDENTIALS_DIRECTORY": "/run/credentials/fep",
        "LD_PRELOAD": "/tmp/x.so",
    }

    seen = told(await run(worker("tells", environ=environ)))

    assert set(seen["env"]) - SET_HERE == {
        "PATH",
        "LC_ALL",
        "TZ",
    }
    assert "correct horse" not in json.dumps(seen)
    assert seen["argv"][-1] == str(seen["fd"])


async def test_no_descriptor_is_inherited_but_the_socket() -> None:
    """An open file of the daemon, even an inheritable one, is not open in the child."""
    with CHILD.open() as file:
        os.set_inheritable(file.fileno(), True)
        seen = told(await run(worker("tells")))

    assert seen["fds"] == sorted({0, 1, 2, seen["fd"]})


async def test_ctrl_c_in_a_terminal_is_for_the_daemon_alone() -> None:
    """A child has a session of its own."""
    assert told(await run(worker("tells")))["session"] is True


async def test_killed_worker_names_the_signal() -> None:
    """A worker that SIGKILL ended is a WorkerDied that says so."""
    with pytest.raises(WorkerDied, match="ended by SIGKILL"):
        await run(worker("dies"))


async def test_half_a_line_is_not_a_message() -> None:
    """A worker that exits within a line has died; the exit code is told."""
    with pytest.raises(WorkerDied, match="exit code 7"):
        await run(worker("stops"))


async def test_a_signal_without_a_name_has_its_number() -> None:
    """A real-time signal ends a worker like any other."""
    with pytest.raises(WorkerDied, match=r"ended by signal \d+$"):
        await run(worker("flashes"))


async def test_silent_worker_is_killed() -> None:
    """No message for longer than the limit ends the worker with that reason."""
    at = itertools.count(0, 61)
    process = worker("hangs", silence_s=60, clock=lambda: next(at))
    with pytest.raises(WorkerSilent, match=r"no message for 60 s; ended by SIGKILL"):
        await run(process)


async def test_waiting_for_us_is_not_silence() -> None:
    """A worker that waits for its Line is not killed, however long it waits."""
    clock = Clock()
    process = worker("asks", silence_s=60, clock=clock)
    async with process:
        await process.start(JOB)
        messages = process.messages()
        await anext(messages)
        following = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        clock.now = 1000
        done, _ = await asyncio.wait({following}, timeout=0.1)
        assert not done

        await process.send(Line(1, "e30.e30.e30", "/spool/tmp/1"))
        assert isinstance(await following, Failed)
        await messages.aclose()


async def test_slow_listener_is_not_silence() -> None:
    """Time that we spend between two messages does not count against the worker."""
    clock = Clock()
    process = worker("ends", silence_s=60, clock=clock)
    async with process:
        await process.start(JOB)
        messages = process.messages()
        await anext(messages)
        clock.now = 1000
        await asyncio.sleep(0.1)
        assert isinstance(await anext(messages), Ended)
        await messages.aclose()


async def test_worker_above_its_memory_is_killed() -> None:
    """Resident memory above the limit ends the worker with that reason."""
    with pytest.raises(WorkerTooLarge, match=r"memory of \d+ MiB is above 100 MiB"):
        await run(worker("grows", rss_bytes=100 * 1024 * 1024))


async def test_endless_line_is_bounded() -> None:
    """A line above the cap is never held whole; the worker is killed."""
    with pytest.raises(WorkerDied, match="longer than 4194304 bytes"):
        await run(worker("shouts"))


async def test_unknown_message_ends_the_worker() -> None:
    """What the protocol does not have is not guessed at."""
    with pytest.raises(WorkerDied, match="a message that the protocol does not have"):
        await run(worker("babbles"))


async def test_listener_may_leave_at_the_last_word() -> None:
    """Leaving the loop at Ended lets the worker exit by itself."""
    process = worker("ends")
    async with process:
        await process.start(JOB)
        async for message in process.messages():
            if isinstance(message, Ended):
                break

    assert process._child._process.returncode == 0


async def test_worker_that_will_not_go_is_killed_after_its_last_word() -> None:
    """The result stands, and the process is gone."""
    process = worker("lingers", grace_s=0.05)
    messages = await run(process)

    assert isinstance(messages[-1], Ended)
    assert resident_bytes(process.pid) == 0


async def test_cancelled_listener_kills_the_worker() -> None:
    """Cancelling whoever listens leaves no process behind."""
    process = worker("lingers")
    await process.start(JOB)
    task = asyncio.create_task(process._child.read())
    await asyncio.wait({task})  # its first message; now it is silent
    task = asyncio.create_task(process._child.read())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert resident_bytes(process.pid) == 0


async def break_off(process: WorkerProcess) -> None:
    async with process:
        await process.start(JOB)
        raise ZeroDivisionError


async def test_leaving_the_block_kills_the_worker() -> None:
    """An error of ours while a worker runs leaves no process behind."""
    process = worker("hangs")
    with pytest.raises(ZeroDivisionError):
        await break_off(process)

    assert resident_bytes(process.pid) == 0


async def test_stderr_is_bounded_and_never_repeated() -> None:
    """Of a flood on stderr an error tells size and exception class, no value."""
    process = worker("spills")
    with pytest.raises(WorkerDied, match=r"stderr \d{7,} bytes, KeyError$") as e:
        await run(process)

    assert "110101199003070011" not in str(e.value)
    assert len(process._child._stderr) <= STDERR_KEPT


async def test_program_that_is_not_there_is_a_dead_worker() -> None:
    """What cannot be started is WorkerDied too, and kill() is harmless then."""
    process = WorkerProcess(("/nonexistent/python",), environ={})
    async with process:
        with pytest.raises(WorkerDied, match="cannot start: No such file"):
            await process.start(JOB)
