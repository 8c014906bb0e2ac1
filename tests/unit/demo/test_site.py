# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.demo.site import claimed, complete, process, stop, wait_until
from agent.errors import InternalFault, UsageFault

SLEEPER = ["-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(60)",
]


def test_folder_is_used_again_once_it_was_complete(tmp_path: Path) -> None:
    """A demonstration that ended well leaves a folder that the next one uses."""
    folder = tmp_path / "demo"
    with claimed(folder, rows=500) as (place, reused):
        assert not reused
        place.source.write_text("department")
        complete(place)
    with claimed(folder, rows=500) as (place, reused):
        assert reused
        assert place.source.exists()


def test_half_done_folder_is_emptied(tmp_path: Path) -> None:
    """What a broken start left behind is not used."""
    folder = tmp_path / "demo"
    with claimed(folder, rows=500) as (place, _):
        place.source.write_text("half")
        place.exchange.mkdir()
    with claimed(folder, rows=500) as (place, reused):
        assert not reused
        assert not place.source.exists()
        assert not place.exchange.exists()


def test_other_size_begins_anew(tmp_path: Path) -> None:
    """Another number of persons is another department."""
    with claimed(tmp_path / "d", rows=500) as (place, _):
        complete(place)
    with claimed(tmp_path / "d", rows=600) as (_, reused):
        assert not reused


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with somebody's files is refused, and nothing in it is touched."""
    (tmp_path / "thesis.odt").write_text("years of work")
    with pytest.raises(UsageFault, match="not a demonstration's"):
        claimed(tmp_path, rows=500).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.odt"]


def test_second_demonstration_in_a_folder_is_refused(tmp_path: Path) -> None:
    """Two demonstrations never share a folder."""
    with (
        claimed(tmp_path / "d", rows=500),
        pytest.raises(UsageFault, match="another demonstration"),
        claimed(tmp_path / "d", rows=500),
    ):
        pass


def test_too_long_a_path_is_said_at_once(tmp_path: Path) -> None:
    """A path in which no Unix socket has room is refused before anything starts."""
    with pytest.raises(UsageFault, match="at most"):
        claimed(tmp_path / ("x" * 90), rows=500).__enter__()


def test_process_ends_with_its_block(tmp_path: Path) -> None:
    """Whatever happens in the block, the process is gone after it."""
    block = process(SLEEPER, log=tmp_path / "log")
    child = block.__enter__()
    assert child.poll() is None
    assert not block.__exit__(ValueError, ValueError("oops"), None)
    assert child.returncode == -signal.SIGTERM


def test_stopped_process_is_woken_and_ended(tmp_path: Path) -> None:
    """A process under SIGSTOP does not stay behind."""
    with process(SLEEPER, log=tmp_path / "log") as child:
        child.send_signal(signal.SIGSTOP)
    assert child.returncode == -signal.SIGTERM


def test_stubborn_process_is_killed(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed."""
    log = tmp_path / "log"
    with process(STUBBORN, log=log) as child:
        wait_until(lambda: log.read_text() == "up\n", child, what="it")
        stop(child, patience_s=0.1)
    assert child.returncode == -signal.SIGKILL


def test_children_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """After kill -9 of the demonstration the kernel ends what it started."""
    log = tmp_path / "log"
    program = (
        "import sys, time; from pathlib import Path; from agent.demo.site import start;"
        f"child = start({SLEEPER!r}, log=Path({str(log)!r}));"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    until = time.monotonic() + 5
    while running(pid):
        assert time.monotonic() < until
        time.sleep(0.01)


def running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        os.kill(pid, 0)
    except OSError:
        return False
    return state != "Z"


def test_process_that_ends_early_is_said(tmp_path: Path) -> None:
    """Waiting for a process that has ended is an error with its exit code."""
    with (
        process(["-c", "raise SystemExit(3)"], log=tmp_path / "log") as child,
        pytest.raises(InternalFault, match="it ended with 3"),
    ):
        wait_until(lambda: False, child, what="it")
