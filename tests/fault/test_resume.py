# SPDX-License-Identifier: Apache-2.0
"""A daemon that is killed in the midst of a table goes on where it was.

Judged by the exchange's files alone: one snapshot, every part once, every row once.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.local.client import LocalClient
from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

ROWS = 60_000
BATCH_ROWS = 1_000
KILLS = 3
PATIENCE_S = 60.0


@pytest.fixture
def centre() -> Iterator[SandboxProcess]:
    """An exchange in a folder with a short name."""
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_sandbox(Path(folder) / "centre") as sandbox,
    ):
        yield sandbox


def until_parts(agent: AgentProcess, number: int) -> None:
    """Until so many parts of the run that reads are registered."""
    client = LocalClient(agent.folder / "run" / "fep.sock")
    end = time.monotonic() + PATIENCE_S
    while True:
        found = client.get("/v1/status", {"resource": PERSONS})["resources"][0]
        if found["stream"]["seq"] >= number:
            return
        assert time.monotonic() < end, agent.tail()
        time.sleep(0.01)


def run_of(agent: AgentProcess) -> dict[str, Any]:
    """The newest run."""
    found: dict[str, Any] = agent.fep("status", PERSONS)["resources"][0]["run"]
    return found


def test_no_row_is_read_twice_however_often_the_daemon_is_killed(
    centre: SandboxProcess,
) -> None:
    """Three kills in one read: the parts follow each other in one snapshot."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        agent = AgentProcess(
            Path(folder) / "agent", centre, rows=ROWS, batch_rows=BATCH_ROWS
        )
        agent.fep("enrol")
        with agent.running():
            run = agent.fep("pull", PERSONS)["run"]
            for kill in range(1, KILLS + 1):
                until_parts(agent, kill * 8)
                assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
                agent.start()
            end = time.monotonic() + PATIENCE_S
            while not (found := run_of(agent))["delivered"]:
                assert time.monotonic() < end, (found, agent.tail())
                time.sleep(0.1)
        assert found["run"] == run
        assert (found["read"], found["loaded"], found["balanced"]) == (ROWS, ROWS, True)
        assert len(agent.events("run.started")) == KILLS + 1
        chain = links(centre.database)[PERSONS]
        assert faults(chain) == []
        snapshots = [link.manifest["snapshot"] for link in chain]
        assert {s["id"] for s in snapshots} == {run}
        assert [s["part"] for s in snapshots] == list(range(1, len(chain) + 1))
        assert sum(link.manifest["rows"]["upsert"] for link in chain) == ROWS
