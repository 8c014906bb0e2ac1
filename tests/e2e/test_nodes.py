# SPDX-License-Identifier: Apache-2.0
"""What the exchange sees of a real agent: its heartbeats."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import NODE, PERMITS, PERSONS, AgentProcess
from tests.support.exchange_client import Node, payload
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e

WAIT_S = 60.0


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


def test_resource_given_away_halts_alone_and_a_revocation_arrives_by_itself(
    agent: AgentProcess, sandbox: SandboxProcess, place: Path
) -> None:
    """The old owner says what to do; nobody had to nudge it for the directory."""
    other = Node(sandbox.address, sandbox.ca, place / "other", node=f"{NODE[:18]}/two")
    other.enrol()
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        agent.fep("pull", PERMITS, "--wait")
        sandbox.ask("POST", "/owner", {"resource": PERSONS, "node": other.node})
        agent.run("pull", PERSONS)
        found = seen(sandbox, lambda e: e["stands"] == "stuck")
        (worst, *_) = found["beat"]["worst"]
        assert (worst["resource"], worst["code"]) == (PERSONS, "not-owner")
        shown = agent.run("status")
        assert shown.returncode == 1
        assert "push = false" in " ".join(shown.stdout.split())
        agent.fep("pull", PERMITS, "--wait")

        sandbox.ask("POST", "/revoke", {"node": other.node})
        until = time.monotonic() + WAIT_S
        while other.tls.kid not in revoked(agent):
            assert time.monotonic() < until
            time.sleep(0.1)


def revoked(agent: AgentProcess) -> list[str]:
    """Kids that the directory which the agent keeps says are revoked."""
    text = (agent.folder / "state" / "directory.jws").read_text("ascii")
    files = payload(text)["files"]
    return [entry["kid"] for entry in files["revoked.json"]["kids"]]
