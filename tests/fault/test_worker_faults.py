# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.child.process import Guard, resident_bytes
from agent.errors import WorkerDied
from agent.model.job import Ended, Failed, Job, Line, Message, Packed, Progress, Written
from agent.pipeline.worker.spawn import WorkerProcess
from tests.support.fake_source import CANARY, job

pytestmark = pytest.mark.fault

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.support.fake_source import main
sys.exit(main())
"""
FAKE = (sys.executable, "-c", PROGRAM, str(ROOT))
SECRET = "correct horse battery staple"


def left(folder: Path) -> list[Path]:
    """The files that a run leaves."""
    return list(folder.iterdir())


def worker(**guard: Any) -> WorkerProcess:
    environ = {**os.environ, "FEP_TEST_SECRET": SECRET}
    return WorkerProcess(FAKE, guard=Guard(poll_s=0.02, **guard), environ=environ)


def work(folder: Path, **source: Any) -> Job:
    return job(
        str(folder),
        source={"rows": 40, "password": SECRET, **source},
        max_rows_per_batch=4,
    )


class Seen(list[Message]):
    """What arrived before the end, whatever the end was."""

    async def listen(self, process: WorkerProcess, folder: Path) -> None:
        async for message in process.messages():
            self.append(message)
            if isinstance(message, Packed):
                path = folder / f"{message.part}.tmp"
                await process.send(Line(message.part, "a.b.c", str(path)))

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self if isinstance(m, kind)]


async def run(process: WorkerProcess, given: Job, folder: Path) -> Seen:
    seen = Seen()
    async with process:
        await process.start(given)
        await seen.listen(process, folder)
    return seen


async def test_whole_run_in_a_process(tmp_path: Path) -> None:
    """A worker process writes every part and ends; nothing of it remains."""
    process = worker()

    seen = await run(process, work(tmp_path), tmp_path)

    assert isinstance(seen[-1], Ended)
    assert [w.part for w in seen.of(Written)] == list(range(1, 11))
    assert len(left(tmp_path)) == 10
    assert resident_bytes(process.pid) == 0


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("kill", "ended by SIGKILL"),
        ("crash", "ended by SIGSEGV; stderr 32 bytes, no exception"),
        ("exit", "exit code 7; stderr 32 bytes, no exception"),
    ],
)
@pytest.mark.parametrize("at", ["open", 0, 5, "end"])
async def test_worker_that_dies_tells_no_end(
    tmp_path: Path, fail: str, words: str, at: object
) -> None:
    """A worker dies anywhere: no final part, no Ended, no value in the error."""
    seen = Seen()
    process = worker()
    async with process:
        await process.start(work(tmp_path, fail=fail, fail_at=at))
        with pytest.raises(WorkerDied) as e:
            await seen.listen(process, tmp_path)

    assert str(e.value).endswith(words)
    assert CANARY not in str(e.value)
    assert SECRET not in str(e.value)
    assert not any(p.final for p in seen.of(Packed))
    assert not seen.of(Ended)


async def test_kill_between_packed_and_written(tmp_path: Path) -> None:
    """SIGKILL while a part waits for its line: no Written for it, and WorkerDied."""
    process = worker()
    async with process:
        await process.start(work(tmp_path))
        messages = process.messages()
        while not isinstance(await anext(messages), Packed):
            pass
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="ended by SIGKILL"):
            await anext(messages)

    assert left(tmp_path) == []


async def test_line_for_a_dead_worker_is_worker_died(tmp_path: Path) -> None:
    """Answering a worker that died meanwhile is the same named error."""
    process = worker()
    async with process:
        await process.start(work(tmp_path))
        messages = process.messages()
        while not isinstance(await anext(messages), Packed):
            pass
        os.kill(process.pid, signal.SIGKILL)
        await process._child._process.wait()
        line = Line(1, "a.b.c", str(tmp_path / "1"))
        with suppress(WorkerDied):
            await process.send(line)  # the system may notice with the second only
        with pytest.raises(WorkerDied, match="ended by SIGKILL"):
            await process.send(line)
        await messages.aclose()


@pytest.mark.parametrize("fail", ["missing", "bug"])
async def test_failure_in_a_process_names_its_code(tmp_path: Path, fail: str) -> None:
    """A failed run ends with Failed, not with a dead worker, and holds no value."""
    seen = await run(worker(), work(tmp_path, fail=fail, fail_at=5), tmp_path)

    last = seen[-1]
    assert isinstance(last, Failed)
    assert last.code == {"missing": "source-missing", "bug": "internal"}[fail]
    assert CANARY not in repr(seen)


async def test_full_disk_is_a_failed_write(tmp_path: Path) -> None:
    """A disk that takes no more bytes is spool-write-failed, and no torso remains."""
    process = worker()
    seen = Seen()
    async with process:
        await process.start(work(tmp_path))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100, 100))
        await seen.listen(process, tmp_path)

    last = seen[-1]
    assert isinstance(last, Failed)
    assert (last.code, last.detail) == (
        "spool-write-failed",
        "EFBIG while writing part 1",
    )
    assert left(tmp_path) == []


async def test_secret_is_nowhere_but_in_the_socket(tmp_path: Path) -> None:
    """Neither environment nor arguments of a live worker hold the source's password."""
    async with worker() as process:
        await process.start(work(tmp_path))
        await anext(process.messages())
        seen, open_files = of_process(process.pid)

    assert SECRET.encode() not in seen
    assert {f.split(":")[0] for f in open_files} <= {"socket", "pipe", "/dev/null"}


def of_process(pid: int) -> tuple[bytes, set[str]]:
    """Environment and arguments, and what its descriptors are."""
    proc = Path(f"/proc/{pid}")
    files = {str(f.readlink()) for f in (proc / "fd").iterdir()}
    return (proc / "environ").read_bytes() + (proc / "cmdline").read_bytes(), files


async def test_unanswered_worker_stops_reading(tmp_path: Path) -> None:
    """Without a line a worker of a large table reads no further and does not grow."""
    async with worker(rss_bytes=600 << 20) as process:
        await process.start(
            job(
                str(tmp_path),
                source={"rows": 2_000_000, "page": 20_000, "width": 40},
                batch_raw_bytes=4_000_000,
            )
        )
        messages = process.messages()
        while not isinstance(await anext(messages), Packed):
            pass
        sizes = []
        while len(sizes) < 4 or sizes[-1] > sizes[-4] * 1.01:
            sizes.append(resident_bytes(process.pid))
            await asyncio.sleep(0.25)
        following = asyncio.ensure_future(anext(messages))
        done, _ = await asyncio.wait({following}, timeout=0.7)
        following.cancel()
        await asyncio.wait({following})

    assert all(isinstance(f.result(), Progress) for f in done)
    assert sizes[-1] < 300 << 20


async def test_worker_dies_with_the_daemon(tmp_path: Path) -> None:
    """SIGKILL of the daemon ends its worker, although the worker hangs in a driver."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(ROOT), str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert daemon.stdout is not None
    pid = int(await daemon.stdout.readline())
    assert resident_bytes(pid) > 0

    daemon.kill()
    await daemon.wait()

    async with asyncio.timeout(60):
        while resident_bytes(pid):  # noqa: ASYNC110 - another process's end has no event
            await asyncio.sleep(0.02)


DAEMON = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.fault.test_worker_faults import worker, work
from agent.model.job import Packed

async def main():
    process = worker()
    await process.start(work(Path(sys.argv[2]), fail="hang", fail_at=5))
    async for message in process.messages():
        if isinstance(message, Packed):
            print(process.pid, flush=True)

asyncio.run(main())
"""
