# SPDX-License-Identifier: Apache-2.0
"""Receipts as evidence, and a spool that is looked after: sandbox, daemon, commands."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cli_json
from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e
LONG_AGO = "2020-01-01"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def sandbox(place: Path) -> Iterator[SandboxProcess]:
    """A running exchange."""
    with running_sandbox(place / "centre") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def agent(place: Path, sandbox: SandboxProcess) -> Iterator[AgentProcess]:
    """An enrolled agent, not running yet."""
    agent = AgentProcess(place / "agent", sandbox, rows=2500)
    agent.fep("enrol")
    yield agent
    if agent.process is not None:
        agent.stop(signal.SIGKILL)


def documented(command: str, body: Any) -> list[str]:
    """Where an answer and docs/cli-json.md differ."""
    return cli_json.faults(cli_json.sections()[f"`fep {command}`"], body)


def damaged(path: str) -> None:
    """Flip a bit of the last byte."""
    data = bytearray(Path(path).read_bytes())
    data[-1] ^= 1
    Path(path).write_bytes(bytes(data))


def test_what_was_lost_and_damaged_is_led_back(
    agent: AgentProcess, sandbox: SandboxProcess, place: Path
) -> None:
    """An exchange restored from a backup gets the same files; damage is mended."""
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        sandbox.stop()
        _copied(sandbox.folder, place / "backup")
        sandbox.start()
        agent.sql("INSERT INTO person VALUES (9001, 'later')")
        agent.fep("pull", PERSONS, "--wait")
        before = {b["seq"]: b for b in agent.fep("spool", "ls", PERSONS)["batches"]}
        sandbox.stop()
        shutil.rmtree(sandbox.folder)
        _copied(place / "backup", sandbox.folder)
        sandbox.start()
        words = ("spool", "replay", PERSONS, "--since", LONG_AGO)
        looked = agent.fep(*words, "--dry-run")
        assert documented("spool replay RESOURCE --since TIME", looked) == []
        lost = [b["seq"] for b in looked["batches"] if b["lost"]]
        assert (looked["action"], lost) == ("send", sorted(before)[len(before) // 2 :])
        assert agent.fep(*words, "--yes")["done"] is True
        _until_loaded(agent)
        after = {b["seq"]: b for b in agent.fep("spool", "ls", PERSONS)["batches"]}
        assert [b["digest"] for b in after.values()] == [
            b["digest"] for b in before.values()
        ]
        found = sandbox.rows("SELECT count(*), max(id) FROM '101001_000001'")
        assert found == [(2501, 9001)]

        damaged(after[1]["path"])
        bad = agent.run("spool", "verify", PERSONS, "--json")
        assert bad.returncode == 1
        assert documented("spool verify [RESOURCE]", json.loads(bad.stdout)) == []
        mended = agent.fep("spool", "repair", PERSONS, "--yes")
        assert documented("spool repair [RESOURCE]", mended) == []
        assert mended["mended"] == [{"resource": PERSONS, "removed": 1, "epoch": None}]


def test_a_pack_proves_everything_when_everything_is_off(
    agent: AgentProcess, sandbox: SandboxProcess, place: Path
) -> None:
    """Rows add up; receipts are listed, packed, and judged without line or service."""
    agent.sql("UPDATE person SET name = NULL WHERE id IN (3, 4)")
    file = str(place / "pack.zip")
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        end = time.monotonic() + 20
        while (shown := agent.fep("status", PERSONS)["resources"][0])["accounts"][-1][
            "ok"
        ] is None:
            assert time.monotonic() < end, shown
            time.sleep(0.05)
        assert {a["name"]: a["ok"] for a in shown["accounts"]} == dict.fromkeys(
            ("batches", "keep", "sum", "run", "resource"), True
        )
        account = shown["accounts"][-1]
        assert account["stale"] == 2
        assert (account["left"], account["right"]) == (
            {"source": 2501},
            {"centre": 2501, "never_sent": 0, "in_flight": 0},
        )
        listed = agent.fep("spool", "receipts", PERSONS, "--since", LONG_AGO)
        assert documented("spool receipts RESOURCE", listed) == []
        loaded = [r for r in listed["receipts"] if r["state"] == "loaded"]
        seqs = {r["seq"] for r in loaded}
        assert seqs == set(range(1, max(seqs) + 1))
        packed = agent.fep("spool", "export", file, PERSONS)
        assert documented("spool export FILE [RESOURCE]", packed) == []
        assert packed["receipts"] == len(listed["receipts"])
        assert packed["directories_missing"] == 0
        agent.stop()
    sandbox.stop()
    said = agent.fep("verify", file)
    assert documented("verify FILE", said) == []
    assert said["genuine"] is True
    assert said["facts"]["receipts"]["loaded"] == len(loaded)
    nowhere = {"FEP_CONFIG": "/nonexistent/agent.toml"}
    alone = agent.run("verify", file, "--kid", sandbox.kid, **nowhere)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    forged = agent.run("verify", file, "--kid", "A" * 43, **nowhere)
    assert forged.returncode == 1
    assert "NOT genuine" in forged.stdout


def _copied(source: Path, target: Path) -> None:
    """A backup of the exchange, without its socket."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock"))


def _until_loaded(agent: AgentProcess) -> None:
    end = time.monotonic() + 30
    while True:
        shown = agent.fep("status", PERSONS)["resources"][0]
        if not shown["waiting"]["batches"] and not shown["stored"]["batches"]:
            return
        assert time.monotonic() < end, (shown, agent.tail())
        time.sleep(0.1)
