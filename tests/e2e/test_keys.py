# SPDX-License-Identifier: Apache-2.0
"""Keys and their life through whole programs: exchange, daemon, commands, an asker."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.audit import verify_log
from agent.control.history import trusted
from agent.crypto.jose import split, verify
from agent.wire.lookup import REPLY_TYP
from agent.wire.problem import Problem
from sandbox.consumer.client import Heard
from tests.support import cli_json
from tests.support.agent_process import NODE, PERSONS
from tests.support.answering import AnsweringAgent, Asker, reply
from tests.support.histories import Clock
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

KEY = "990102198807231734"
PEOPLE = [{"citizen_id": KEY, "name": "欧阳", "birth_date": "1988-07-23"}]
LONG_AGO = "2020-01-01"
PATIENCE_S = 60.0


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

    asker.renew()  # it does not know the key of the reply
    assert reply(asker.ask(late)).status == "ok"
    assert reply(asker.ask(asker.question(KEY))).status == "ok"
    assert isinstance(before, Heard)
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
    _holds(place, before)
    assert agent.process is not None
    assert agent.process.poll() is None


def _holds(place: Place, heard: Heard) -> None:
    """The reply of before the rotation, by the directory of today, at its own time."""
    text = (place.agent.folder / "state" / "directory.jws").read_bytes()
    history, faults = trusted([text], aud=place.sandbox.aud, kid=place.sandbox.kid)
    assert faults == (None,)
    message = split(heard.jws, cap=1 << 20)
    at = datetime.fromtimestamp(heard.reply.iat, UTC)
    key = history.node_key(NODE, message.kid, "sign", at)
    assert verify(message, key, typ=REPLY_TYP).digest == message.digest


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


def test_a_node_that_began_anew_is_answered_once_a_person_has_accepted_it(
    place: Place,
) -> None:
    """Reset with a reason at the centre; held here, shown, on record, then accepted."""
    agent, node = place.agent, place.asker.consumer.node
    place.sandbox.ask("POST", "/reset", {"node": node, "reason": "disc is dead"})
    with Asker(place.folder / "q2", place.sandbox) as anew:
        anew.renew()
        held = anew.ask(anew.question(KEY))
        until = time.monotonic() + PATIENCE_S
        while isinstance(held, Problem) and held.code == "bad-signature":
            assert time.monotonic() < until  # its directory is of seconds ago
            time.sleep(0.2)
            held = anew.ask(anew.question(KEY))
        assert isinstance(held, Problem), held
        assert held.code == "held"
        seen = agent.wait_for("peer.broke", node=node)
        assert seen["reason"] == "disc is dead"
        listed = agent.fep("peers", "ls")
        assert documented("peers ls", listed) == []
        (waits,) = [p["waits"] for p in listed["peers"] if p["node"] == node]
        assert waits["found"] == seen["found"]
        assert agent.run("status").returncode == 1
        assert agent.run("peers", "accept", f"{node}x").returncode == 2
        agent.fep("peers", "accept", node)
        assert reply(anew.ask(anew.question(KEY))).status == "ok"
    found = agent.client().post("/v1/audit/search", {"limit": 1000})["records"]
    assert next(r["node"] for r in found if r["kind"] == "keys.changed") == node


def test_a_node_that_has_left_is_gone_until_it_is_let_back(place: Place) -> None:
    """The keys go, the centre says `left`; after a reset it begins anew, in order.

    What waited under the old key is sealed anew; the source is not read for it.
    """
    agent, keys = place.agent, place.agent.folder / "state" / "keys"
    assert agent.run("leave", "--yes").returncode != 0  # the daemon has the keys
    agent.fep("pull", PERSONS, "--wait")
    place.sandbox.stop()
    agent.sql("INSERT INTO person VALUES (9002, 'waits')")
    agent.fep("pull", PERSONS)
    agent.wait_for("batch.registered", upsert=_rows(agent))
    agent.stop(signal.SIGKILL)
    place.sandbox.start()
    assert agent.run("leave").returncode == 2  # nobody typed the node
    assert (keys / "sign.key").exists()
    left = agent.fep("leave", "--yes")
    assert documented("leave", left) == []
    assert left["told"] is True
    assert list(keys.glob("**/*.key")) == []
    refused = agent.run("enrol")
    assert "forbidden" in refused.stderr
    place.sandbox.ask("POST", "/reset", {"node": NODE, "reason": "it came back"})
    agent.fep("leave", "--here", "--yes")
    agent.fep("enrol")
    runs = len(agent.events("run.started"))
    with agent.running():
        epoch = agent.wait_for("stream.epoch", reason="rekeyed")["epoch"]
        agent.wait_for("receipt.kept", epoch=epoch, state="loaded")
        assert len(agent.events("run.started")) == runs
        agent.stop()


def _rows(agent: AnsweringAgent) -> int:
    with closing(sqlite3.connect(agent.source)) as db:
        return int(db.execute("SELECT count(*) FROM person").fetchone()[0])


def test_a_lost_machine_is_replaced_by_another_with_other_keys(place: Place) -> None:
    """Same node, empty disc: reset at the centre, another life, another epoch."""
    if place.agent.process is not None:
        place.agent.stop()
    before = place.sandbox.state()["streams"].get(PERSONS, {"epoch": 0})
    place.sandbox.ask("POST", "/reset", {"node": NODE, "reason": "stolen"})
    anew = AnsweringAgent(place.folder / "b", place.sandbox, people=PEOPLE, rows=51)
    anew.fep("enrol")
    with anew.running():
        anew.fep("pull", PERSONS, "--wait")
        stream = anew.fep("status", PERSONS)["resources"][0]["stream"]
        assert stream["epoch"] > before["epoch"]
    after = place.sandbox.state()["streams"][PERSONS]
    assert after["incarnation"] != before.get("incarnation")
    rows = place.sandbox.ask("GET", f"/digest?resource={PERSONS}")["rows"]
    assert rows == 51
