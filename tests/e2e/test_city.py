# SPDX-License-Identifier: Apache-2.0
"""A daemon under a pinned TUF root: what the city signs holds, and nothing else."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import NODE, PERSONS, AgentProcess
from tests.support.exchange_client import Node
from tests.support.sandbox_process import SandboxProcess
from tests.support.tuf_city import City

pytestmark = pytest.mark.e2e


def files(agent: AgentProcess) -> dict[str, Any]:
    """The directory as this agent has it."""
    text = next(agent.folder.glob("**/directory.jws")).read_text("ascii")
    payload = text.split(".")[1]
    data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    found: dict[str, Any] = json.loads(data)["files"]
    return found


@pytest.fixture
def agent(place: Path, sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent that was told of no root yet."""
    agent = AgentProcess(place / "agent", sandbox, rows=50)
    agent.fep("enrol")
    yield agent
    if agent.process is not None:
        agent.stop(signal.SIGKILL)


@pytest.fixture
def city(place: Path, agent: AgentProcess) -> City:
    """What the exchange said at the enrolment, signed by the city."""
    city = City(place / "city")
    for path, body in files(agent).items():
        city.put(path, body)
    city.put("limits.json", {"v": 1})
    return city.first()


def status(agent: AgentProcess) -> dict[str, Any]:
    """Healthy or not: the witness of the audit log may still have to come."""
    found: dict[str, Any] = json.loads(agent.run("status", "--json").stdout)
    return found


def trouble(agent: AgentProcess, code: str) -> dict[str, Any]:
    """The status, once it shows this trouble."""
    until = time.monotonic() + 60
    while True:
        found = status(agent)
        if code in [one["code"] for one in found["troubles"]]:
            return found
        assert time.monotonic() < until, found["troubles"]
        time.sleep(0.2)


def test_a_daemon_follows_the_city_and_not_a_thief_of_the_exchanges_key(
    agent: AgentProcess, sandbox: SandboxProcess, city: City, place: Path
) -> None:
    """Rows are delivered under a directory that the city signed; what it publishes is
    verified within seconds; a node that only the exchange's key vouches for is not
    believed, and after a restart without a line all of that still holds."""
    sandbox.stop()
    sandbox.args = (*sandbox.args, "--tuf", str(city.folder))
    sandbox.start()
    text = agent.config.read_text("utf-8")
    pin = f'[exchange]\ntuf_root_sha256 = "{city.pin()}"'
    agent.config.write_text(text.replace("[exchange]", pin), "utf-8")
    with agent.running():
        agent.wait_for("trust.verified", timestamp=1)
        assert agent.fep("pull", PERSONS, "--wait")["delivered"] is True
        city.put("limits.json", {"v": 1, "generation": 2})
        city.publish("targets")
        agent.wait_for("trust.verified", targets=2)
        found = status(agent)
        assert (found["trust"]["enabled"], found["troubles"]) == (True, [])
        assert found["trust"]["versions"]["targets"] == 2

        thief = Node(sandbox.address, sandbox.ca, place, node=f"{NODE[:18]}/thief")
        thief.enrol()
        sandbox.stop()
        sandbox.args = sandbox.args[:-2]  # it signs what its own registry says
        sandbox.start()
        found = trouble(agent, "directory-unvouched")
        assert found["trust"]["versions"]["targets"] == 2
        agent.wait_for("directory.refused")
        assert f"{NODE[:18]}/thief" not in json.dumps(files(agent))
        agent.stop()
    sandbox.stop()
    with agent.running():
        assert status(agent)["trust"]["versions"]["targets"] == 2
        agent.stop()
