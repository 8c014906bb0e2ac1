# SPDX-License-Identifier: Apache-2.0
"""The centre pushes configuration to a real daemon; a bad one goes back by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.central_site import Centre, running, second_address
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e

DEAD = "https://127.0.0.1:1"
SLOW = """
CREATE VIEW permit AS SELECT id, name FROM permits WHERE 0 < (
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000000)
    SELECT max(i) FROM n
)
"""
"""A table that takes some seconds to read."""


@pytest.fixture
def centre(place: Path, sandbox: SandboxProcess) -> Centre:
    """One that has published nothing yet."""
    return Centre(place / "city", sandbox)


@pytest.fixture
def agent(place: Path, sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent that reads its two tables when it starts."""
    agent = AgentProcess(place / "agent", sandbox, rows=2500)
    agent.fep("enrol")
    text = agent.config.read_text("utf-8")
    agent.config.write_text(text + '[schedule.defaults]\nfull = "every 60m"\n')
    yield agent
    if agent.process is not None:
        agent.stop(signal.SIGKILL)


def test_good_push_runs_within_seconds_and_a_run_under_way_ends_as_it_began(
    agent: AgentProcess, centre: Centre
) -> None:
    """New limits hold for the next run; the probation ends; the centre sees both."""
    text = agent.config.read_text("utf-8")
    agent.config.write_text(text + "[limits.defaults]\nrows_per_s = 1000\n")
    centre.join(agent, probation_s=1)
    with agent.running():
        agent.wait_for("run.started", resource=PERSONS)
        centre.want(1, limits={"defaults": {"rows_per_s": 900}})
        agent.wait_for("central.applied", generation=1)
        assert agent.events("run.ended") == []
        agent.wait_for("run.ended", resource=PERSONS, read=2500)
        agent.wait_for("central.good", generation=1)
        assert agent.events("run.failed") == []
        found = running(agent, 1)
        assert (found["probation"], found["good"]["generation"]) == (None, 1)
        told = centre.seen(lambda config: config["running"] == config["desired"])
        assert (told["failed"], told["reason"]) == (None, None)
        assert told["running"] == found["running"]["digest"]
        assert agent.stop() == 0


def test_dead_exchange_is_never_used_and_a_hold_holds(
    agent: AgentProcess, centre: Centre, sandbox: SandboxProcess
) -> None:
    """Refused and reported; then a true address is held back, released, and used.

    When that one is cut while the old one answers, the old one is used again.
    """
    with second_address(sandbox) as (other, cut):
        centre.join(agent, endpoints=(DEAD, other))
        with agent.running():
            agent.wait_for("run.ended", resource=PERMITS)
            centre.want(1, exchange={"url": DEAD})
            told = centre.seen(lambda config: config["reason"] is not None)
            assert told["reason"] == "endpoint-unproven"
            assert told["failed"] == told["desired"] != told["running"]
            assert agent.ask("/v1/status")["exchange"]["url"] == sandbox.url
            assert agent.events("central.applied") == []

            until = datetime.now(UTC) + timedelta(hours=1)
            agent.post("/v1/config/hold", until=f"{until:%Y-%m-%dT%H:%M:%SZ}")
            centre.want(2, exchange={"url": other})
            centre.seen(lambda config: config["reason"] == "config-held")
            agent.post("/v1/config/hold", until=None)
            running(agent, 2)
            agent.wait_for("exchange.endpoint", url=other)
            assert agent.fep("pull", PERSONS, "--wait")["delivered"]

            cut()
            told = centre.seen(lambda config: config["failed"] is not None)
            assert told["reason"] == "exchange-unreachable"
            assert running(agent, 0)["good"] is None
            assert agent.ask("/v1/status")["exchange"]["url"] == sandbox.url
            assert agent.stop() == 0


def test_configuration_that_breaks_runs_goes_back_by_itself(
    agent: AgentProcess, centre: Centre
) -> None:
    """A second for a statement that takes longer: two runs fail, and it is gone.

    Killed in its probation, the daemon goes on with it, and knows that it is open.
    """
    agent.sql("ALTER TABLE permit RENAME TO permits")
    agent.sql(SLOW)
    centre.join(agent)
    agent.start()
    centre.want(1, log={"level": "debug"})
    running(agent, 1)
    agent.stop(signal.SIGKILL)
    agent.start()
    found = running(agent, 1)
    assert (found["probation"]["deaths"], found["good"]) == (1, None)
    agent.wait_for("run.ended", resource=PERMITS)
    centre.want(2, log={"level": "debug"}, push={"statement_timeout_s": 1})
    told = centre.seen(lambda config: config["failed"] is not None)
    assert told["failed"] == told["desired"] != told["running"]
    assert told["reason"] == "source-timeout"
    found = running(agent, 0)
    assert (found["failed"]["generation"], found["floor"]) == (2, 2)
    turns = [t["what"] for t in agent.ask("/v1/config/history")["history"]]
    assert turns == ["reverted", "applied", "applied"]
    assert agent.fep("pull", PERMITS, "--wait")["delivered"]
    assert agent.stop() == 0
