# SPDX-License-Identifier: Apache-2.0
"""Commands, from a person at the centre to the department's database and back."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import NODE, PERMITS, PERSONS, AgentProcess
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.e2e

NAME, CITIZEN = "欧阳金丝雀", "340102199001011238"
SHUT = "101001/000003"
CEILING = '[central]\ncommands = ["refresh", "run", "diagnostics"]\n'


@pytest.fixture
def agent(place: Path, sandbox: SandboxProcess) -> AgentProcess:
    """An enrolled agent that beats every second, with persons that must not get out."""
    found = AgentProcess(place / "agent", sandbox, rows=50)
    text = found.config.read_text()
    found.config.write_text(
        text.replace("[sources.rsj]", "heartbeat_s = 1.0\n[sources.rsj]", 1)
    )
    (found.folder / "ceiling.toml").write_text(CEILING)
    (found.folder / "ceiling.toml").chmod(0o600)
    found.document(SHUT, "不予提供", "permit_shut", push=False)
    found.sql("UPDATE person SET name = ? WHERE id = 1", NAME)
    found.sql("INSERT INTO person VALUES (?, NULL)", int(CITIZEN))
    found.fep("enrol")
    return found


def test_centre_orders_what_the_department_allows_and_nothing_else(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """Done, refused by the ceiling, refused by the gate; each with a record."""
    wanted = [
        ("refresh", None, "done", None),
        ("run", PERSONS, "done", None),
        ("run", SHUT, "refused", "gate-closed"),
        ("reconcile", PERMITS, "refused", "off"),
        ("diagnostics", None, "done", None),
    ]
    with agent.running():
        jtis = [order(sandbox, cmd, resource) for cmd, resource, *_ in wanted]
        found = answered(sandbox, agent, jtis)
        assert [(found[j]["status"], found[j]["code"]) for j in jtis] == [
            (status, code) for _, _, status, code in wanted
        ]
        agent.wait_for("receipt.kept", resource=PERSONS, state="loaded")
        assert sandbox.rows("SELECT count(*) FROM '101001_000001'") == [(50,)]
        records = agent.fep("audit", "search", "--kind", "command.taken")["records"]
        assert len(records) == 4
        records = agent.fep("audit", "search", "--kind", "command.refused")["records"]
        assert len(records) == 1
        own = agent.folder / "own.zip"
        assert agent.fep("bundle", "--out", str(own))["daemon"] is True
    brought = sandbox.folder / "bundles" / f"{jtis[-1]}.zip"
    assert holds_no_person(own.read_bytes(), agent)
    assert holds_no_person(brought.read_bytes(), agent)


def order(sandbox: SandboxProcess, cmd: str, resource: str | None) -> str:
    body = {"node": NODE, "cmd": cmd, "resource": resource}
    return str(sandbox.ask("POST", "/commands", body)["jti"])


def answered(
    sandbox: SandboxProcess, agent: AgentProcess, jtis: list[str]
) -> dict[str, Any]:
    """The commands, once all have a result."""
    until = time.monotonic() + 60
    while True:
        commands = sandbox.ask("GET", "/commands")["commands"]
        found = {entry["jti"]: entry for entry in commands}
        if all(found[jti]["status"] != "waiting" for jti in jtis):
            return found
        assert time.monotonic() < until, agent.tail()
        time.sleep(0.1)


def holds_no_person(bundle: bytes, agent: AgentProcess) -> bool:
    """The row that was sent, the one in quarantine and the keys are not in it."""
    assert list((agent.folder / "state" / "quarantine").glob("*")) != []
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        whole = b"".join(archive.read(name) for name in archive.namelist())
    assert b'"daemon.ready"' in whole
    key = (agent.folder / "state" / "keys" / "sign.key").read_text().splitlines()[1]
    return not any(c.encode() in whole for c in (NAME, CITIZEN, key))
