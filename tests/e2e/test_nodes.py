# SPDX-License-Identifier: Apache-2.0
"""What the exchange sees of a real agent: its heartbeats."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import NODE, PERSONS, AgentProcess
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

WAIT_S = 60.0


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder)


@pytest.fixture
def sandbox(place: Path) -> Iterator[SandboxProcess]:
    """A running exchange."""
    with running_sandbox(place / "centre") as sandbox:
        yield sandbox


@pytest.fixture
def agent(place: Path, sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent that beats every second, not running yet."""
    agent = AgentProcess(place / "agent", sandbox)
    text = agent.config.read_text("utf-8")
    agent.config.write_text(
        text.replace("retry_base_s", "heartbeat_s = 1.0\nretry_base_s"), "utf-8"
    )
    agent.fep("enrol")
    yield agent
    if agent.process is not None:
        agent.stop(signal.SIGKILL)


def seen(
    sandbox: SandboxProcess, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The agent's entry in the node view, once it is as wanted."""
    until = time.monotonic() + WAIT_S
    while True:
        (found,) = [
            dict(entry)
            for entry in sandbox.ask("GET", "/nodes")["nodes"]
            if entry["node"] == NODE
        ]
        if found["beat"] is not None and wanted(found):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.05)


def test_node_view_shows_a_real_agent_stuck_and_well_again(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """Well; then a table is gone, and why; killed and started again it is no clone."""
    with agent.running():
        first = seen(sandbox, lambda e: e["stands"] == "healthy")
        assert abs(first["clock_offset_s"]) <= 2
        assert first["beat"]["certificate_days"] > 300

        agent.sql("ALTER TABLE person RENAME TO elsewhere")
        agent.run("pull", PERSONS)
        found = seen(sandbox, lambda e: e["stands"] == "stuck")
        (worst, *_) = found["beat"]["worst"]
        assert (worst["resource"], worst["code"]) == (PERSONS, "source-missing")
        assert worst["since"] <= found["at"]
        agent.sql("ALTER TABLE elsewhere RENAME TO person")
        agent.stop(signal.SIGKILL)
    last = seen(sandbox, lambda _: True)["beat"]
    with agent.running():
        found = seen(
            sandbox, lambda e: e["stands"] == "healthy" and e["beat"]["n"] > last["n"]
        )
        assert found["beat"]["incarnation"] == last["incarnation"]
        assert found["doubt"] is None
        assert agent.events("heartbeat.refused") == []
