# SPDX-License-Identifier: Apache-2.0
"""kill -9 of daemon, worker and exchange at random moments.

Six kills here, twenty with ``FEP_FULL=1``. The seed is printed; ``FEP_SEED`` repeats
it. Between the kills rows appear, change and disappear at the source. Afterwards the
chains are checked from the exchange's registry and the rows are compared by a script;
neither imports anything of ours.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.errors import Busy
from agent.local.client import LocalClient
from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.population import compare_sqlite
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

KILLS = 20 if os.environ.get("FEP_FULL") == "1" else 6
ROWS = 40_000
BATCH_ROWS = 2_000
LONGEST_S = 2.0
"""Longest time between asking for runs and a kill; a run takes about as long."""
PATIENCE_S = 120.0
TABLES = {PERSONS: "person", PERMITS: "permit"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder)


class Victims:
    """A running agent at a running exchange, and three ways to hurt them."""

    def __init__(self, agent: AgentProcess, sandbox: SandboxProcess) -> None:
        self.agent = agent
        self.sandbox = sandbox
        self.client = LocalClient(agent.folder / "run" / "fep.sock")
        self.hit: dict[str, int] = {}

    def kill(self, name: str) -> None:
        """Kill one of ``daemon``, ``worker`` and ``sandbox``; the first and the last
        are started again."""
        acts: dict[str, Callable[[], bool]] = {
            "daemon": self._daemon,
            "worker": self._worker,
            "sandbox": self._sandbox,
        }
        if acts[name]():
            self.hit[name] = self.hit.get(name, 0) + 1

    def _daemon(self) -> bool:
        assert self.agent.stop(signal.SIGKILL) == -signal.SIGKILL
        self.agent.start()
        return True

    def _sandbox(self) -> bool:
        self.sandbox.kill()
        self.sandbox.start()
        return True

    def _worker(self) -> bool:
        assert self.agent.process is not None
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            pids = workers_of(self.agent.process.pid)
            for pid in pids:  # one of them may wait for a job
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if pids:
                return True
            time.sleep(0.01)
        return False

    def ask_for_runs(self) -> None:
        """Pull both resources, unless they are being pulled."""
        for resource in TABLES:
            with contextlib.suppress(Busy):
                self.client.post("/v1/pull", {"resource": resource})

    def settle(self) -> None:
        """Wait until nothing reads or waits, pull once more, wait again."""
        for _ in range(2):
            self._quiet()
            self.ask_for_runs()
        self._quiet()

    def _quiet(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not all(quiet(r) for r in self.client.get("/v1/status")["resources"]):
            assert time.monotonic() < until, self.agent.tail()
            time.sleep(0.1)


def quiet(status: dict[str, object]) -> bool:
    """Whether a resource's newest run is complete and loaded."""
    run = status["run"]
    return run is None or (
        isinstance(run, dict) and run["state"] == "read" and run["delivered"]
    )


def workers_of(pid: int) -> list[int]:
    """Worker processes that a daemon has now."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
            found += [
                child
                for child in children
                if b"agent.pipeline.worker"
                in Path(f"/proc/{child}/cmdline").read_bytes()
            ]
        except OSError:
            continue
    return found


def live_on(source: Path, rng: random.Random) -> None:
    """The department works: rows appear, change and disappear."""
    with closing(sqlite3.connect(source, timeout=30)) as db, db:
        for table in TABLES.values():
            (last,) = db.execute(f"select max(id) from {table}").fetchone()
            new = [(last + i, f"new{last + i}") for i in range(1, 30)]
            db.executemany(f"insert into {table} values (?, ?)", new)
            picked = [(rng.randrange(1, ROWS),) for _ in range(30)]
            db.executemany(
                f"update {table} set name = name || '+' where id = ?", picked[:20]
            )
            db.executemany(f"delete from {table} where id = ?", picked[20:])


def test_kills_at_random_moments_lose_and_double_nothing(place: Path) -> None:
    """After the kills every source row is at the centre once, with its last value, and
    every chain is whole."""
    seed = int(os.environ.get("FEP_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FEP_SEED={seed}")  # noqa: T201 - to repeat what failed
    rng = random.Random(seed)
    names = ["daemon", "worker", "sandbox"] * KILLS
    order = rng.sample(names[:KILLS], KILLS)
    with running_sandbox(place / "centre") as sandbox:
        agent = AgentProcess(place / "agent", sandbox, rows=ROWS, batch_rows=BATCH_ROWS)
        agent.fep("enrol")
        with agent.running():
            victims = Victims(agent, sandbox)
            for name in order:
                victims.ask_for_runs()
                time.sleep(rng.uniform(0, LONGEST_S))
                victims.kill(name)
                live_on(agent.source, rng)
            victims.settle()
            assert agent.fep("status")["healthy"] is True
    assert victims.hit.keys() >= {"daemon", "sandbox"}, victims.hit
    check(agent, sandbox)


def check(agent: AgentProcess, sandbox: SandboxProcess) -> None:
    """Judge from the exchange's files alone."""
    chains = links(sandbox.database)
    assert chains.keys() == TABLES.keys()
    for resource, table in TABLES.items():
        chain = chains[resource]
        runs = {c.manifest["snapshot"]["id"] for c in chain}
        whole = sum(c.manifest["run_end"] for c in chain)
        print(  # noqa: T201 - so that one sees whether the kills hit anything
            f"{resource}: {len(chain)} batches, {len(runs)} runs, {whole} whole"
        )
        assert faults(chain) == []
        found = compare_sqlite(
            agent.source,
            table,
            centre=sandbox.database,
            kept=resource.replace("/", "_"),
            columns=("id:I:key", "name:C"),
        )
        rows = found["source"]
        assert rows > ROWS / 2
        assert found == {
            "source": rows,
            "centre": rows,
            "equal": rows,
            "different": 0,
            "missing": 0,
            "extra": 0,
        }
        last = [c for c in chain if c.manifest["run_end"]][-1]
        assert last.manifest["snapshot"]["rows"] == rows
