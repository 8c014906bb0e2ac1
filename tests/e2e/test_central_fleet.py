# SPDX-License-Identifier: Apache-2.0
"""Many agents at one centre: a bad push goes back on each of them, a good one stays.

Three agents; thirty with ``FEP_FULL=1``.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.wire.repository import group_file, node_file
from tests.support.agent_process import NODE, PERMITS, PERSONS, AgentProcess
from tests.support.central_site import Centre, second_address
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e

AGENTS = 30 if os.environ.get("FEP_FULL") else 3


@pytest.fixture
def fleet(place: Path, sandbox: SandboxProcess) -> Iterator[list[AgentProcess]]:
    """Enrolled agents of one department that send nothing."""
    found = [one(place / f"a{n}", n, sandbox) for n in range(AGENTS)]
    with ThreadPoolExecutor(2) as hands:
        list(hands.map(lambda agent: agent.fep("enrol"), found[:-1]))
    found[-1].fep("enrol")  # the last one's directory knows everybody
    yield found
    for agent in found:
        if agent.process is not None:
            agent.stop(signal.SIGKILL)


def one(folder: Path, number: int, sandbox: SandboxProcess) -> AgentProcess:
    """An agent that has nothing to send."""
    node = f"{NODE.partition('/')[0]}/n{number}"
    agent = AgentProcess(folder, sandbox, rows=1, node=node)
    agent.document(PERSONS, "人员基本信息", "person", push=False)
    agent.document(PERMITS, "许可证", "permit", push=False)
    return agent


def test_bad_push_goes_back_on_every_agent_while_a_good_one_stays(
    fleet: list[AgentProcess], place: Path, sandbox: SandboxProcess
) -> None:
    """Each by itself: the new address of all of them dies in their probation."""
    centre = Centre(place / "city", sandbox)
    with second_address(sandbox) as second:
        for agent in fleet:
            centre.join(agent, probation_s=1, endpoints=(second.url,))
        centre.vouch(fleet[-1])
        push(centre, fleet, 1, {"log": {"level": "info"}})
        for first in range(0, AGENTS, 3):
            for agent in fleet[first : first + 3]:
                agent.launch()
            for agent in fleet[first : first + 3]:
                agent.wait_for("central.good", generation=1)
        for agent in fleet:
            text = agent.config.read_text("utf-8")
            agent.config.write_text(
                text.replace("probation_s = 1", "probation_s = 600")
            )
            agent.send(signal.SIGHUP)
        for agent in fleet:
            agent.wait_for("config.reloaded", changed=["exchange"])
        push(centre, fleet, 2, {"exchange": {"url": second.url}})
        for agent in fleet:
            agent.wait_for("central.applied", generation=2)
        second.cut()
        for agent in fleet:
            reverted = agent.wait_for("central.reverted", generation=2)
            assert reverted["reason"] == "exchange-unreachable"
    for agent in fleet:
        told = centre.seen(lambda config: config["failed"] is not None, agent.node)
        [applied, _] = agent.events("central.applied")
        assert told["running"] == applied["digest"]
        assert told["failed"] == told["desired"] == reverted_by(agent)
        assert agent.ask("/v1/status")["exchange"]["url"] == sandbox.url


def reverted_by(agent: AgentProcess) -> str:
    """What an agent gave up."""
    [event] = agent.events("central.reverted")
    return str(event["digest"])


def push(
    centre: Centre, fleet: list[AgentProcess], generation: int, settings: object
) -> None:
    """One document for the group in which they all are."""
    own = {"v": 1, "generation": generation, "settings": {}, "groups": ["all"]}
    files = {node_file(a.node): json.dumps(own).encode() for a in fleet}
    body = {"v": 1, "generation": generation, "settings": settings}
    centre.put({group_file("all"): json.dumps(body).encode(), **files})
