# SPDX-License-Identifier: Apache-2.0
"""Somebody else fills the disk of the agent while it reads."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.wire.problem import Problem
from tests.support.agent_process import PERMITS, PERSONS
from tests.support.answering import AnsweringAgent, Asker, reply
from tests.support.chain import faults, links
from tests.support.population import compare_sqlite
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

ROWS = 20_000
DISK_MB = 96
CITIZEN = "990102198807231734"
PEOPLE = [{"citizen_id": CITIZEN, "name": "欧阳丹青", "birth_date": "1988-07-23"}]
SPOOL = (
    "[spool]\nfree_floor_mb = 44\nballast_mb = 32\n"
    "[limits.defaults]\nrows_per_s = 2000\n"  # else all is read before the disk is full
)
PATIENCE_S = 60.0


@pytest.fixture
def place() -> Iterator[Path]:
    """A short folder; the agent's state in it is a file system of its own."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        state = Path(folder) / "agent" / "state"
        state.mkdir(parents=True)
        options = f"size={DISK_MB}m,mode=700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(state)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small file system")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(file: Path) -> None:
    """Take all that is free at once, whatever is being written at that very moment.

    Who goes on writing would take the reserve, too. The agent may be faster: then it
    had no byte for a moment, and what it left is taken.
    """
    free = shutil.disk_usage(file.parent).free
    with file.open("wb", buffering=0) as out:
        for taken in range(free, 0, -(256 << 10)):
            with contextlib.suppress(OSError):
                os.posix_fallocate(out.fileno(), 0, taken)
                return


class Life:
    """An agent that reads, and what is asked of it meanwhile."""

    def __init__(self, agent: AnsweringAgent, sandbox: SandboxProcess) -> None:
        self.agent = agent
        self.sandbox = sandbox

    def status(self) -> Any:
        """As the daemon says it."""
        return self.agent.client().get("/v1/status")

    def until(self, fact: Callable[[Any], bool]) -> Any:
        """The status once a fact of it holds."""
        end = time.monotonic() + PATIENCE_S
        while not fact(found := self.status()):
            assert time.monotonic() < end, (found, self.agent.tail())
            time.sleep(0.05)
        return found

    def answered(self, asker: Asker) -> None:
        """A lookup is answered; one that is told to come again comes again."""
        end = time.monotonic() + PATIENCE_S
        while isinstance(found := asker.ask(asker.question(CITIZEN)), Problem):
            assert time.monotonic() < end, (found, self.agent.tail())
            time.sleep(0.1)
        assert reply(found).status == "ok"

    def whole(self, resource: str, table: str) -> None:
        """Every row of the source is at the centre, once; the chain has no gap."""
        self.sandbox.wait_loaded()
        found = compare_sqlite(
            self.agent.source,
            table,
            centre=self.sandbox.database,
            kept=resource.replace("/", "_"),
            columns=("id:I:key", "name:C"),
        )
        assert found["equal"] == found["source"] == found["centre"] == ROWS
        assert faults(links(self.sandbox.database)[resource]) == []


def test_a_disk_that_others_fill_stops_reading_and_nothing_else(place: Path) -> None:
    """Status explains, lookups and commands go on, all goes on by itself with room."""
    with running_sandbox(place / "centre") as sandbox:
        agent = AnsweringAgent(
            place / "agent", sandbox, people=PEOPLE, rows=ROWS, batch_rows=500
        )
        text = agent.config.read_text("utf-8")
        agent.config.write_text(text + SPOOL, "utf-8")
        agent.fep("enrol")
        life = Life(agent, sandbox)
        filler = agent.folder / "state" / "filler"
        with agent.running(), Asker(place / "asker", sandbox) as asker:
            agent.answering()
            agent.fep("policy", "activate")
            process = agent.process
            assert (agent.folder / "state" / "ballast").stat().st_size == 32_000_000

            agent.fep("pull", PERSONS)
            agent.wait_for("batch.registered", seq=3)
            fill(filler)
            life.until(lambda s: s["spool"]["blocked"])
            _all_but_reading_goes_on(life, asker)

            filler.unlink()
            life.until(lambda s: s["healthy"] and not _busy(s))
            assert agent.process is process
            assert process is not None
            assert process.poll() is None
            life.until(lambda _: len(agent.events("disk.reserve")) == 2)
        held = [event["held"] for event in agent.events("disk.reserve")]
        assert held == [False, True]
        for resource, table in ((PERSONS, "person"), (PERMITS, "permit")):
            life.whole(resource, table)
        assert shutil.disk_usage(agent.folder / "state").free > 0


def _all_but_reading_goes_on(life: Life, asker: Asker) -> None:
    """With the disk full: what status says, a lookup, and a pull that waits."""
    agent = life.agent
    done = agent.run("status", "--json")
    assert done.returncode == 1
    found = life.status()
    (disk,) = [t for t in found["troubles"] if t["code"] == "disk-full"]
    assert disk["remedy"]["zh"]
    persons = next(r for r in found["resources"] if r["resource"] == PERSONS)
    assert persons["trouble"]["code"] == "spool-full"
    registered = len(agent.events("batch.registered"))
    said = agent.run("status")
    assert "disk-full" in said.stdout
    assert "full: reading waits" in said.stdout

    for _ in range(20):
        life.answered(asker)
    agent.fep("pull", PERMITS)
    assert agent.fep("spool", "ls", PERSONS)["batches"]
    assert agent.fep("pause", PERMITS)
    assert agent.fep("resume", PERMITS)
    life.until(lambda s: all(r["waiting"]["batches"] == 0 for r in s["resources"]))
    assert len(agent.events("batch.registered")) == registered


def _busy(status: Any) -> bool:
    runs = [r["run"] for r in status["resources"] if r["run"] is not None]
    return len(runs) < 2 or not all(run["delivered"] for run in runs)
