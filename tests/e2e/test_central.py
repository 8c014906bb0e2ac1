# SPDX-License-Identifier: Apache-2.0
"""The centre pushes configuration to a real daemon; a bad one goes back by itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.central_site import Centre, running, second_address, shown
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e

DEAD = "https://127.0.0.1:1"
WORK = """
CREATE VIEW permit AS SELECT id, 'permit' || (
    WITH RECURSIVE n (i) AS (
        SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < (SELECT steps FROM work) + id
    )
    SELECT max(i) FROM n
) AS name FROM permits
"""
"""A table that takes the source as long as is said."""


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


def test_good_push_runs_within_seconds_and_drops_nothing(
    agent: AgentProcess, centre: Centre
) -> None:
    """Pushed while tables are read: no run is cut, and the centre sees the end."""
    centre.join(agent, probation_s=1)
    with agent.running():
        agent.wait_for("run.started", resource=PERSONS)
        centre.want(1, limits={"defaults": {"rows_per_s": 100_000}})
        agent.wait_for("central.applied", generation=1)
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
    with second_address(sandbox) as second:
        other = second.url
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
            # The probation asks for a run of each stream: over the new address.
            shown(agent, lambda v: PERSONS in (v["probation"] or {"sent": ()})["sent"])

            second.cut()
            told = centre.seen(lambda config: config["failed"] is not None)
            assert told["reason"] == "exchange-unreachable"
            assert running(agent, 0)["good"] is None
            assert agent.ask("/v1/status")["exchange"]["url"] == sandbox.url
            assert agent.stop() == 0


def test_configuration_that_breaks_runs_goes_back_by_itself(
    agent: AgentProcess, centre: Centre
) -> None:
    """A second for a statement that needs more: two runs fail, and it is gone.

    Killed in its probation, the daemon goes on with it, and knows that it is open.
    """
    agent.sql("ALTER TABLE permit RENAME TO permits")
    agent.sql("DELETE FROM permits WHERE id > 250")
    agent.sql("CREATE TABLE work AS SELECT 1 AS steps")
    agent.sql(WORK)
    text = agent.config.read_text("utf-8")  # else a statement is given a day
    agent.config.write_text(text + "[limits.defaults]\nprobe_s = 0.0\n")
    centre.join(agent)
    agent.start()
    centre.want(1, log={"level": "debug"})
    running(agent, 1)
    agent.stop(signal.SIGKILL)
    agent.start()
    found = shown(agent, lambda v: v["probation"] is not None)
    assert (found["probation"]["deaths"], found["good"]) == (1, None)
    assert found["running"]["generation"] == 1
    agent.wait_for("run.ended", resource=PERMITS)
    agent.sql("UPDATE work SET steps = 100000")
    centre.want(2, push={"statement_timeout_s": 1})
    told = centre.seen(lambda config: config["failed"] is not None)
    assert told["failed"] == told["desired"] != told["running"]
    assert told["reason"] == "source-timeout"
    found = running(agent, 0)
    assert (found["failed"]["generation"], found["floor"]) == (2, 2)
    turns = [t["what"] for t in agent.ask("/v1/config/history")["history"]]
    assert turns == ["reverted", "applied", "applied"]
