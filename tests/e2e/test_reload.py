# SPDX-License-Identifier: Apache-2.0
"""A running daemon takes changed files, on its own and on SIGHUP, and keeps at work."""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.answering import CITIZENS, AnsweringAgent, Asker, reply
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """A running exchange."""
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_sandbox(Path(folder)) as sandbox,
    ):
        yield sandbox


@pytest.fixture
def agent(sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent with two tables, not running yet."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        agent = AgentProcess(Path(folder), sandbox, rows=2500)
        agent.fep("enrol")
        yield agent


def until(fact: Callable[[], bool], agent: AgentProcess) -> None:
    """Wait for a fact."""
    end = time.monotonic() + 20
    while not fact():
        assert time.monotonic() < end, agent.tail()
        time.sleep(0.1)


def troubles(agent: AgentProcess) -> list[str]:
    """Codes that status shows, apart from resources."""
    found = json.loads(agent.run("status", "--json").stdout)
    return [t["code"] for t in found["troubles"]]


def test_a_schedule_that_is_written_down_begins_a_run(agent: AgentProcess) -> None:
    """No restart, no command: within seconds the table is read."""
    with agent.running():
        text = agent.config.read_text("utf-8")
        agent.config.write_text(text + '[schedule.defaults]\nfull = "every 30m"\n')
        agent.wait_for("config.reloaded")
        agent.wait_for("run.ended", resource=PERSONS)
        agent.wait_for("run.ended", resource=PERMITS)
        until(lambda: agent.fep("status")["resources"][0]["lag_s"] is not None, agent)
        [due] = agent.fep("status", PERSONS)["resources"][0]["schedule"]
        assert (due["kind"], due["times"]) == ("full", "every 30m")
        assert agent.stop() == 0


def test_a_closed_gate_acts_while_its_batches_wait(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """push = false: what was already sealed never reaches the exchange.

    Its digests stay, for it may come back; those of a document that is gone do not.
    """
    with agent.running():
        sandbox.faults({"kind": "status", "route": "POST /v1/batches", "status": 503})
        agent.fep("pull", PERSONS)
        agent.wait_for("run.ended", resource=PERSONS)
        agent.document(PERSONS, "人员基本信息", "person", push=False)
        agent.send(signal.SIGHUP)
        agent.wait_for("resource.closed", resource=PERSONS)
        sandbox.faults()
        refused = agent.run("pull", PERSONS)
        assert "gate-closed" in refused.stderr
        assert agent.fep("pull", PERMITS, "--wait")["delivered"]
        digests = agent.folder / "state" / "diff"
        assert len(list(digests.iterdir())) == 2
        (agent.folder / "catalog" / "permit.toml").unlink()
        agent.send(signal.SIGHUP)
        agent.wait_for("digests.removed", resources=[PERMITS])
        assert [p.name[:13] for p in digests.iterdir()] == ["101001_000001"]
        _what_is_gone_can_be_taken_back(agent, sandbox)
        assert agent.stop() == 0
    found = sandbox.rows(
        "SELECT name FROM sqlite_master WHERE name LIKE '101001_00000_'"
    )
    assert found == [("101001_000002",)]


def _what_is_gone_can_be_taken_back(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """A recall needs no document, and of one whose gate is shut no open gate."""
    count = 'SELECT count(*) FROM "101001_000002"'
    [(rows,)] = sandbox.rows(count)
    held = agent.run("pull", PERMITS, "--recall", "--wait", "--json")
    assert json.loads(held.stdout)["keys_gone"] == rows > 0
    recall = ("pull", PERMITS, "--recall", "--confirm-deletes", "--wait")
    assert agent.fep(*recall)["delivered"]
    assert sandbox.rows(count) == [(0,)]
    assert "gate-closed" in agent.run("pull", PERSONS).stderr
    assert "resource-unknown" in agent.run("pull", PERSONS, "--recall").stderr


def test_a_limit_holds_from_the_next_run_on(agent: AgentProcess) -> None:
    """2,500 rows at 1,000 a second take their time; nobody restarts anything."""
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        text = agent.config.read_text("utf-8")
        agent.config.write_text(text + "[limits.defaults]\nrows_per_s = 1000\n")
        agent.send(signal.SIGHUP)
        agent.wait_for("config.reloaded")
        agent.fep("pull", PERSONS, "--wait")
        free, limited = agent.events("run.ended")
        assert agent.stop() == 0
    assert (free["read"], limited["read"]) == (2500, 2500)
    assert limited["seconds"] > 2.2


@pytest.mark.fault
def test_a_broken_file_changes_nothing_but_the_status(agent: AgentProcess) -> None:
    """SIGHUP with a broken file keeps the old settings; correcting it is enough."""
    with agent.running():
        good = agent.config.read_text("utf-8")
        agent.config.write_text(good.replace("[push]", "[posh]"))
        agent.send(signal.SIGHUP)
        agent.wait_for("config.broken")
        assert troubles(agent) == ["config-broken"]
        assert agent.fep("pull", PERSONS, "--wait")["delivered"]
        agent.config.write_text(good)
        until(lambda: troubles(agent) == [], agent)
        assert agent.stop() == 0


def test_a_gate_that_is_shut_for_lookups_is_shut_at_once(
    sandbox: SandboxProcess,
) -> None:
    """The next question is denied; opened again, it is answered, without a restart."""
    people = [{"citizen_id": "990102198807231734", "name": "欧阳丹青"}]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        agent = AnsweringAgent(folder / "a", sandbox, people=people)
        agent.fep("enrol")
        stack.enter_context(agent.running())
        asker = stack.enter_context(Asker(folder / "q", sandbox))
        agent.fep("policy", "activate")
        agent.answering()
        asker.renew()
        document = next(
            path
            for path in (agent.folder / "catalog").iterdir()
            if CITIZENS in path.read_text("utf-8")
        )
        text = document.read_text("utf-8")

        def status() -> str:
            found = reply(asker.ask(asker.question(people[0]["citizen_id"])))
            return str(found.status)

        assert status() == "ok"
        document.write_text(text.replace("lookup = true", "lookup = false"), "utf-8")
        agent.send(signal.SIGHUP)
        agent.wait_for("config.reloaded")
        assert status() == "denied"
        assert troubles(agent) == ["policy-invalid"]
        document.write_text(text, "utf-8")
        until(lambda: len(agent.events("config.reloaded")) == 2, agent)
        assert (status(), troubles(agent)) == ("ok", [])
        assert agent.stop() == 0
