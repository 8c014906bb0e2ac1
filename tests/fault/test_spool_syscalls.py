# SPDX-License-Identifier: Apache-2.0
"""A disk that refuses, and a kill, at every system call of spool and state.

strace injects errors and signals into an ordinary process; no code is changed for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import spool_driver as driver

STRACE = shutil.which("strace")
pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(STRACE is None, reason="needs strace (apt install strace)"),
]
ROOT = Path(__file__).resolve().parents[2]
COUNT = 3


def run(
    folder: Path, inject: str | None = None, *, only: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The driver, under strace if something is to be injected."""
    if inject is None:
        return traced(folder, COUNT)
    call = inject.partition(":")[0]
    path = () if only is None else ("-P", only)
    return traced(folder, COUNT, *path, "-e", f"trace={call}", "-e", f"inject={inject}")


def traced(
    folder: Path, count: int, *options: str | Path
) -> subprocess.CompletedProcess[str]:
    """The driver, under strace if there are options for it."""
    command = [sys.executable, "-m", "tests.support.spool_driver", folder, count]
    if options:
        log = folder / "strace.log"
        strace = (STRACE, "-f", "-qq", "--seccomp-bpf", "-o", log)
        command = [*strace, *options, *command]
    return subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def whole(folder: Path, told: list[int]) -> None:
    """Everything registered is there and sound; nothing told as registered is lost."""
    state, spool = driver.opened(folder)
    batches = sorted(state.recent(1, 1000), key=lambda b: b.seq)
    assert [b.seq for b in batches] == list(range(1, len(batches) + 1))
    assert len(batches) >= max(told, default=0)
    for batch in batches:
        spool.check(driver.expected(batch))
    files = [p for p in (folder / "spool").rglob("*") if p.is_file()]
    assert len(files) == len(batches) + 1  # VERSION
    assert state.stream(driver.KEY).head.seq == len(batches)
    state.close()


def told(done: subprocess.CompletedProcess[str]) -> list[int]:
    """The seqs that the driver called registered."""
    return [int(line) for line in done.stdout.split()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an open epoch."""
    driver.prepare(tmp_path)
    return tmp_path


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_folder_that_cannot_be_synced_ends_with_74(folder: Path, error: str) -> None:
    """It is not tried again; after a restart the number is used anew."""
    out = folder / "spool" / "out"
    made = out / "yunxi.exchange" / "330100001_000001"
    done = run(folder, f"fsync:error={error}:when=1", only=made)
    assert (done.returncode, told(done)) == (74, [])
    assert (folder / "strace.log").read_text().count("fsync") == 1
    again = run(folder)
    assert (again.returncode, told(again)) == (0, [1, 2, 3])
    whole(folder, told(again))


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EROFS", "EDQUOT"])
def test_a_rename_that_fails_ends_with_74(folder: Path, error: str) -> None:
    """Nothing is registered; the rest stays sound."""
    done = run(folder, f"rename:error={error}:when=2")
    assert (done.returncode, told(done)) == (74, [1])
    assert "spool-write-failed" in done.stderr
    whole(folder, told(done))


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_state_that_cannot_be_written_ends_with_74(
    folder: Path, call: str, error: str, when: int
) -> None:
    """The transaction did not happen, or happened whole."""
    done = run(folder, f"{call}:error={error}:when={when}+", only=folder / "state.db")
    assert done.returncode == 74, done.stderr
    whole(folder, told(done))
    again = run(folder)
    assert again.returncode == 0
    whole(folder, told(done) + told(again))


@pytest.mark.parametrize(
    ("file", "when"),
    [("state.db", 1), ("state.db", 2), ("state.db", 7), ("state.db-journal", 3)],
)
def test_a_disk_that_is_full_within_a_commit_is_written_once_more(
    folder: Path, file: str, when: int
) -> None:
    """Half of the pages may be there: they are put back, then all are written."""
    inject = f"pwrite64:error=ENOSPC:when={when}"
    done = run(folder, inject, only=folder / file)
    assert "INJECTED" in (folder / "strace.log").read_text()
    assert (done.returncode, told(done)) == (0, [1, 2, 3]), done.stderr
    whole(folder, told(done))


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "rename", "pwrite64", "unlink"])
@pytest.mark.parametrize("when", range(1, 6))
def test_killed_at_any_call_nothing_registered_is_lost(
    folder: Path, call: str, when: int
) -> None:
    """SIGKILL at the n-th such call; the next life is whole and goes on."""
    done = run(folder, f"{call}:signal=KILL:when={when}")
    whole(folder, told(done))
    again = run(folder)
    assert again.returncode == 0, again.stderr
    whole(folder, told(done) + told(again))


def test_a_start_opens_and_syncs_no_batch(folder: Path) -> None:
    """However many wait: names and sizes are all that is looked at."""
    assert traced(folder, 200).returncode == 0
    calls = "openat,open,fsync,fdatasync,read,pread64"
    done = traced(folder, 0, "-y", "-e", f"trace={calls}")
    assert done.returncode == 0, done.stderr
    seen = (folder / "strace.log").read_text().splitlines()
    assert [line for line in seen if ".fepb" in line] == []
    assert sum("sync(" in line for line in seen) < 10
    whole(folder, [200])
