# SPDX-License-Identifier: Apache-2.0
"""Keys and their life through whole programs: exchange, daemon, commands, an asker."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.audit import verify_log
from sandbox.consumer.client import Heard
from tests.support import cli_json
from tests.support.agent_process import PERSONS
from tests.support.answering import AnsweringAgent, Asker, reply
from tests.support.histories import Clock
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

KEY = "990102198807231734"
PEOPLE = [{"citizen_id": KEY, "name": "欧阳", "birth_date": "1988-07-23"}]
LONG_AGO = "2020-01-01"


class Place:
    """All parties."""

    def __init__(
        self, folder: Path, sandbox: SandboxProcess, agent: AnsweringAgent, asker: Asker
    ) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.agent = agent
        self.asker = asker


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Everything enrolled, with a policy in force; the daemon runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        sandbox = stack.enter_context(running_sandbox(folder / "centre"))
        agent = AnsweringAgent(folder / "a", sandbox, people=PEOPLE, rows=50)
        agent.fep("enrol")
        stack.enter_context(agent.running())
        asker = stack.enter_context(Asker(folder / "q", sandbox))
        agent.fep("policy", "activate")
        agent.answering(timeout_s=60)
        asker.renew()
        yield Place(folder, sandbox, agent, asker)


def documented(command: str, body: Any) -> list[str]:
    """Where an answer and docs/cli-json.md differ."""
    return cli_json.faults(cli_json.sections()[f"`fep {command}`"], body)


def test_a_rotation_needs_no_restart_and_old_evidence_holds_five_years_on(
    place: Place,
) -> None:
    """Batches and lookups of before and after it verify, offline, with all off."""
    agent, asker = place.agent, place.asker
    agent.fep("pull", PERSONS, "--wait")
    question = asker.question(KEY)
    before = asker.ask(question)
    late = asker.question(KEY)  # sealed to the key that is about to go
    first = agent.fep("keys", "ls")
    changed = agent.fep("keys", "rotate")
    assert documented("keys ls", changed) == []
    changed = agent.fep("keys", "rotate", "tls")
    assert {k["purpose"] for k in changed["keys"] if k["status"] == "retired"} == {
        "tls",
        "sign",
        "decrypt",
        "audit",
    }
    assert len(changed["keys"]) == 2 * len(first["keys"])

    assert reply(asker.ask(late)).status == "ok"
    asker.renew()
    assert reply(asker.ask(asker.question(KEY))).status == "ok"
    again = asker.ask(asker.again(question))
    assert isinstance(before, Heard)
    assert isinstance(again, Heard)
    assert again.jws == before.jws
    agent.sql("INSERT INTO person VALUES (9001, 'later')")
    agent.fep("pull", PERSONS, "--wait")

    pack, log = str(place.folder / "pack.zip"), str(place.folder / "log")
    packed = agent.fep("spool", "export", pack, PERSONS)
    agent.fep("audit", "export", log)
    clock = Clock(place.folder / "clock")
    clock.set("+1827d")
    nowhere = {"FEP_CONFIG": "/nonexistent/agent.toml", **clock.env}
    alone = agent.run("verify", pack, "--kid", place.sandbox.kid, **nowhere)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert packed["receipts"] >= 4
    done = subprocess.run(
        [sys.executable, "-I", str(verify_log.__file__), log],
        env=clock.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert agent.process is not None
    assert agent.process.poll() is None


def test_a_backup_is_made_by_whoever_has_the_passphrase_in_a_file(
    place: Place,
) -> None:
    """Nothing of it stands in arguments; what is there is never written over."""
    secret = place.folder / "pass.txt"
    secret.write_text("correct horse battery staple\n")
    file = str(place.folder / "fep.keys")
    words = ("keys", "backup", file, "--passphrase-file", str(secret))
    made = place.agent.fep(*words)
    assert documented("keys backup", made) == []
    assert place.agent.run(*words).returncode == 2
    assert Path(file).stat().st_mode & 0o777 == 0o600
    again = place.agent.run("keys", "restore", file, "--passphrase-file", str(secret))
    assert "[keys-present]" in again.stderr
