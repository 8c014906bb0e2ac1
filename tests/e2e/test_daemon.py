# SPDX-License-Identifier: Apache-2.0
"""Whole programs, started as a person would: sandbox, daemon, command."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import cli_json
from tests.support.agent_process import NODE, PERMITS, PERSONS, AgentProcess
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e


@pytest.fixture
def agent(place: Path, sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent with two tables, not running yet."""
    agent = AgentProcess(place / "agent", sandbox, rows=2500)
    agent.fep("enrol")
    yield agent
    if agent.process is not None:
        agent.stop(signal.SIGKILL)


def test_rows_reach_the_centre_and_receipts_come_back(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """Enrol, run, pull: all receipts say loaded and the centre has the rows."""
    with agent.running():
        run = agent.fep("pull", PERSONS, "--wait")
        assert (run["state"], run["delivered"], run["balanced"]) == ("read", True, True)
        assert (run["read"], run["loaded"]) == (2500, 2500)

        status = agent.fep("status")
        assert status["healthy"] is True
        assert status["agent"]["node"] == NODE
        persons = agent.fep("status", PERSONS)["resources"][0]
        assert persons["receipt"]["state"] == "loaded"
        assert persons["name"] == "人员基本信息"

        batches = agent.fep("spool", "ls", PERSONS)["batches"]
        assert [b["seq"] for b in batches] == list(range(1, run["batches"] + 1))
        assert run["batches"] >= 3
        shown = agent.fep("spool", "show", PERSONS, "1", "3")
        assert shown["receipts"][-1]["state"] == "loaded"

        for batch in batches:
            said = agent.fep("verify", batch["path"])
            assert said["genuine"] is True
        assert agent.stop() == 0

    found = sandbox.rows("SELECT count(*), min(id), max(id) FROM '101001_000001'")
    assert found == [(2500, 1, 2500)]


def test_every_answer_is_as_documented(agent: AgentProcess, place: Path) -> None:
    """Each command's real --json holds to docs/cli-json.md, member by member."""
    documented = cli_json.sections()
    with agent.running():
        agent.sql("UPDATE person SET name = NULL WHERE id = 3")
        said = {
            "`fep pull RESOURCE`": agent.fep("pull", PERMITS),
            "Shape `run`": agent.fep("pull", PERSONS, "--wait"),
            "`fep status [RESOURCE]`": agent.fep("status"),
            "`fep spool ls [RESOURCE]`": agent.fep("spool", "ls", PERSONS),
            "Shape `batch`": agent.fep("spool", "show", PERSONS, "1", "1"),
            "`fep pause [RESOURCE]`, `fep resume [RESOURCE]`": agent.fep("pause"),
            "`fep version`": agent.fep("version", "--daemon"),
        }
        missing = agent.run("pull", "9/9", "--json")
        said["Error · 错误"] = json.loads(missing.stdout)
        agent.stop()
    receipt = place / "receipt.jws"
    receipt.write_text(said["Shape `batch`"]["receipts"][0]["jws"])
    said["`fep verify FILE`"] = agent.fep("verify", str(receipt))
    said["`fep config check`"] = agent.fep("config", "check")
    said["`fep source check [RESOURCE]`"] = agent.fep("source", "check")
    said["`fep source discover SOURCE`"] = agent.fep("source", "discover", "rsj")
    said["`fep enrol`"] = agent.fep("enrol")
    found = {k: cli_json.faults(documented[k], body) for k, body in said.items()}
    assert found == {k: [] for k in said}


def test_a_second_daemon_is_refused(agent: AgentProcess) -> None:
    """One state folder has one daemon; the second says so and ends with 1."""
    with agent.running():
        done = agent.run("run")
    assert done.returncode == 1
    assert "already-running" in done.stderr


def test_a_signal_drains_and_the_work_goes_on_after_a_restart(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """SIGTERM in the middle of a pull: exit 0, and nothing is lost or doubled."""
    with agent.running():
        agent.fep("pull", PERSONS)
        assert agent.stop() == 0
        agent.start()
        until = time.monotonic() + 30
        while sandbox.rows(
            "SELECT name FROM sqlite_master WHERE name = '101001_000001'"
        ) == [] or sandbox.rows("SELECT count(*) FROM '101001_000001'") != [(2500,)]:
            assert time.monotonic() < until, agent.tail()
            time.sleep(0.1)


def test_a_second_signal_hurries(agent: AgentProcess, sandbox: SandboxProcess) -> None:
    """While an upload hangs, one SIGTERM waits for it; a second one ends at once."""
    with agent.running():
        sandbox.faults({"kind": "delay", "route": "POST /v1/batches", "seconds": 60})
        agent.fep("pull", PERSONS)
        agent.wait_for("batch.registered")
        time.sleep(0.3)
        agent.send(signal.SIGTERM)
        time.sleep(0.5)
        assert agent.process is not None
        assert agent.process.poll() is None
        began = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < 5
        assert agent.events("daemon.stopping")[-1]["hurried"] is True


def test_without_a_line_the_daemon_is_ready_and_sends_later(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """READY does not wait for the network; what waits is sent when the line is back."""
    sandbox.stop()
    with agent.running():
        agent.fep("pull", PERMITS)
        agent.wait_for("exchange.trouble")
        done = agent.run("status", PERMITS, "--json")
        assert done.returncode == 1
        trouble = json.loads(done.stdout)["resources"][0]["trouble"]
        assert trouble["code"] == "exchange-unreachable"
        assert trouble["remedy"]["zh"]
        sandbox.start()
        agent.wait_for("receipt.kept", state="loaded", seq=3)
    assert sandbox.rows("SELECT count(*) FROM '101001_000002'") == [(2500,)]


def test_systemd_hears_ready_watchdog_and_stopping(
    agent: AgentProcess, place: Path
) -> None:
    """The notify socket gets READY, WATCHDOG and STATUS while it turns, STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(place / "notify"))
        s.settimeout(20)
        agent.start(NOTIFY_SOCKET=str(place / "notify"), WATCHDOG_USEC="400000")
        heard = [s.recv(500).decode() for _ in range(6)]
        agent.stop()
        while (word := s.recv(500).decode()) != "STOPPING=1":
            heard.append(word)
    assert heard[0] == "READY=1"
    assert heard.count("WATCHDOG=1") >= 2
    assert any(w.startswith("STATUS=2 resources") for w in heard)


def test_nothing_that_is_kept_is_open_to_others(agent: AgentProcess) -> None:
    """State, keys, spool and quarantine are their owner's; no core file is left."""
    agent.sql("UPDATE person SET name = NULL WHERE id = 1")
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        assert agent.process is not None
        limits = Path(f"/proc/{agent.process.pid}/limits").read_text("ascii")
    kept = [agent.folder / "state", *(agent.folder / "state").rglob("*")]
    open_ones = {
        str(p.relative_to(agent.folder)): oct(p.stat().st_mode)
        for p in kept
        if p.stat().st_mode & 0o077
    }
    assert open_ones == {}
    assert re.search(r"Max core file size +0 +0 ", limits)


def test_another_slip_than_the_enrolments_starts_nothing(agent: AgentProcess) -> None:
    """The pinned CA changed in the settings: exit 78, and what is to be done."""
    text = agent.config.read_text("utf-8")
    pin = re.sub(r"(?m)^ca_sha256 = .*$", f'ca_sha256 = "{"0" * 64}"', text)
    agent.config.write_text(pin, "utf-8")
    done = agent.run("run", "--json")
    assert done.returncode == 78
    assert json.loads(done.stdout)["error"]["code"] == "not-enrolled"


def test_pause_outlives_a_restart(agent: AgentProcess) -> None:
    """A paused resource refuses a pull before and after a restart, until resumed."""
    with agent.running():
        agent.fep("pause", PERSONS)
        assert agent.run("pull", PERSONS).returncode == 1
        agent.stop()
        agent.start()
        refused = agent.run("pull", PERSONS, "--json")
        assert json.loads(refused.stdout)["error"]["code"] == "busy"
        agent.fep("resume", PERSONS)
        agent.fep("pull", PERSONS, "--wait")
    uids = [e["action"] for e in agent.events("admin.action")]
    assert uids == ["pause", "pull", "pull", "resume", "pull"]


def test_a_changed_secret_is_told(agent: AgentProcess) -> None:
    """A new password file is noticed; no restart is needed."""
    secret = agent.folder / "secret"
    secret.write_text("one")
    secret.chmod(0o400)
    text = agent.config.read_text("utf-8")
    extra = '[sources.other]\nconnector = "postgres"\nhost = "h"\ndatabase = "d"\n'
    extra += 'user = "u"\npassword = { file = "secret" }\n'
    agent.config.write_text(text.replace("[push]", extra + "[push]"), "utf-8")
    with agent.running():
        secret.unlink()
        secret.write_text("two")
        secret.chmod(0o400)
        agent.wait_for("secret.changed")
    assert agent.events("secret.changed")[0]["key"] == "sources.other.password"
    assert "two" not in agent.log.read_text("utf-8")
