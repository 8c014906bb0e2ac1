# SPDX-License-Identifier: Apache-2.0
"""A disk that refuses, and kills, under the audit log.

strace injects errors and signals into an ordinary process; no code is changed for it.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.audit.log import OPEN, Evidence, Same
from agent.audit.tiles import rebuild
from agent.crypto.jose import message_digest
from agent.state.ledger import Ledger
from tests.support import audit_driver as driver
from tests.support.audit_log import CONSUMER, jti_of, reply_of, request_of

STRACE = shutil.which("strace")
pytestmark = pytest.mark.fault
traced = pytest.mark.skipif(STRACE is None, reason="needs strace (apt install strace)")
ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


class Told:
    """What a driver said before it ended."""

    def __init__(self, text: str) -> None:
        whole = text[: text.rfind("\n") + 1]
        self.begun = {int(i) for i in re.findall(r"^begun (\d+)$", whole, re.M)}
        self.settled = {
            int(i): int(n) for i, n in re.findall(r"^settled (\d+) (\d+)$", whole, re.M)
        }
        self.heads = re.findall(r"^head (\d+) ([0-9a-f]{64})$", whole, re.M)


def command(folder: Path, rounds: int, *, width: int = 4) -> list[str]:
    """How the driver is called."""
    words = (sys.executable, "-m", "tests.support.audit_driver", folder, rounds, width)
    return [str(word) for word in words]


def strace(
    folder: Path,
    *,
    trace: str,
    inject: str | None = None,
    only: Path | None = None,
    rounds: int = 4,
    width: int = 4,
) -> subprocess.CompletedProcess[str]:
    """The driver under strace."""
    assert STRACE is not None
    words = [STRACE, "-f", "-qq", "--seccomp-bpf", "-o", str(folder / "strace.log")]
    words += ["-P", str(only)] if only else []
    words += ["-e", f"trace={trace}"]
    words += ["-e", f"inject={inject}"] if inject else []
    return subprocess.run(
        [*words, *command(folder, rounds, width=width)],
        check=False,
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=120,
    )


def whole(folder: Path, told: Told) -> None:
    """All that was told is there; the tree is that of the lines; heads still hold."""
    asyncio.run(_whole(folder, told))
    ledger = Ledger(folder / "lookup.db")
    tree = rebuild(ledger)
    for size, root in told.heads:
        assert tree.root(int(size)).hex() == root
    ledger.close()


async def _whole(folder: Path, told: Told) -> None:
    log = driver.opened(folder)
    await log.start(version="1.0")
    size = log.head().size
    for i, n in told.settled.items():
        assert n < size
        assert await log.evidence(n) == Evidence(request_of(i), reply_of(i))
    for i in told.begun:
        digest = message_digest(request_of(i))
        state = await log.begin(CONSUMER, jti_of(i), digest=digest, exp=driver.EXP)
        wanted = (Same(reply_of(i)),)
        assert state in (wanted if i in told.settled else (*wanted, OPEN))
    await log.checkpoint()
    await log.close()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short log."""
    folder = tmp_path_factory.mktemp("short")
    done = subprocess.run(
        command(folder, 1), check=True, cwd=ROOT, env=ENV, capture_output=True
    )
    assert b"head 5 " in done.stdout
    return folder


@pytest.fixture
def folder(short: Path, tmp_path: Path) -> Path:
    """A copy of the short log."""
    shutil.copytree(short, tmp_path / "log")
    return tmp_path / "log"


@traced
def test_sixty_four_answers_at_once_are_one_sync(folder: Path) -> None:
    """Between the first settle and the last there is one fdatasync."""
    done = strace(folder, trace="fsync,fdatasync,write", rounds=1, width=64)
    assert done.returncode == 0, done.stderr
    log = (folder / "strace.log").read_text()
    between = log.split('"settling\\n"')[1].split('"settled\\n"')[0]
    assert len(re.findall(r"settled \d+ \d+", between)) == 64
    assert len(re.findall(r"f(?:data)?sync\(", between)) == 1


@traced
def test_the_sync_comes_before_the_answer(folder: Path) -> None:
    """No settled line is written before the fdatasync of its transaction returned."""
    done = strace(folder, trace="fsync,fdatasync,write", rounds=1, width=1)
    assert done.returncode == 0
    log = (folder / "strace.log").read_text()
    after = log.split('"settling\\n"')[1]
    assert "sync(" in after.split('"settled ')[0]


@traced
@pytest.mark.parametrize("file", ["lookup.db", "lookup.db-wal"])
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("when", [1, 3])
def test_a_log_that_cannot_be_written_refuses_with_74(
    folder: Path, file: str, call: str, error: str, when: int
) -> None:
    """Whoever waited was refused; what was told before stands; a restart goes on."""
    inject = f"{call}:error={error}:when={when}+"
    done = strace(folder, trace=call, inject=inject, only=folder / file)
    told = Told(done.stdout)
    if "INJECTED" in (folder / "strace.log").read_text():
        # Folding the journal at the end is no answer; all else must refuse.
        assert done.returncode in ((0, 74) if file == "lookup.db" else (74,))
    whole(folder, told)
    again = subprocess.run(
        command(folder, 1), cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    whole(folder, Told(again.stdout))


@traced
@pytest.mark.parametrize("when", [1, 3, 6])
def test_a_log_that_finds_the_disk_full_within_a_commit_writes_once_more(
    folder: Path, when: int
) -> None:
    """Nobody is refused; the records stand once, and the tree is theirs."""
    wal = folder / "lookup.db-wal"
    inject = f"pwrite64:error=ENOSPC:when={when}"
    done = strace(folder, trace="pwrite64", inject=inject, only=wal)
    assert "INJECTED" in (folder / "strace.log").read_text()
    assert done.returncode == 0, done.stderr
    assert len(Told(done.stdout).settled) == 16
    whole(folder, Told(done.stdout))


@traced
def test_a_sync_that_failed_once_is_not_tried_again(folder: Path) -> None:
    """The kernel may have dropped the pages: only a restart may write again."""
    wal = folder / "lookup.db-wal"
    inject = "fdatasync:error=EIO:when=3"
    done = strace(folder, trace="fdatasync", inject=inject, only=wal)
    assert done.returncode == 74
    after = (folder / "strace.log").read_text().split("INJECTED")[1]
    assert after.count("fdatasync") <= 1  # SQLite closes: what was durable before
    whole(folder, Told(done.stdout))


@traced
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "fsync"])
@pytest.mark.parametrize("when", [1, 2, 4, 7])
def test_killed_at_any_call_nothing_told_is_lost(
    folder: Path, call: str, when: int
) -> None:
    """SIGKILL at the n-th such call; the next life is whole and goes on."""
    done = strace(folder, trace=call, inject=f"{call}:signal=KILL:when={when}")
    whole(folder, Told(done.stdout))
    again = subprocess.run(
        command(folder, 1), cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    whole(folder, Told(again.stdout))


@traced
@pytest.mark.parametrize("call", ["fsync", "rename", "openat"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_day_key_that_cannot_be_kept_refuses(
    tmp_path: Path, call: str, error: str
) -> None:
    """Nothing is encrypted with a key that a crash would lose."""
    (tmp_path / "evidence").mkdir(mode=0o700)
    driver.key_of(tmp_path)
    only = None if call == "rename" else tmp_path / "evidence"
    inject = f"{call}:error={error}:when=1"
    done = strace(tmp_path, trace=call, inject=inject, only=only)
    assert done.returncode == 74, done.stderr
    assert "audit-write-failed" in done.stderr
    told = Told(done.stdout)
    if call == "fsync":  # the others failed before there was a key: that may be retried
        assert told.settled == {}
    whole(tmp_path, told)
    again = subprocess.run(
        command(tmp_path, 1), cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    whole(tmp_path, Told(again.stdout))


def test_killed_at_any_moment_nothing_told_is_lost(tmp_path: Path) -> None:
    """Ten real kills -9, at moments of chance, on one log; its heads never part."""
    seed = random.SystemRandom().randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    heads: list[tuple[str, str]] = []
    for _ in range(10):
        with subprocess.Popen(
            command(tmp_path, 100_000, width=8),
            cwd=ROOT,
            env=ENV,
            stdout=subprocess.PIPE,
            text=True,
        ) as program:
            assert program.stdout is not None
            first = program.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.3))
            program.send_signal(signal.SIGKILL)
            told = Told(first + program.stdout.read())
        heads += told.heads
        told.heads = heads
        whole(tmp_path, told)
    assert heads
