# SPDX-License-Identifier: Apache-2.0
"""A whole agent whose keys lie sealed, and in a token."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.agent_process import NODE, PERSONS, AgentProcess
from tests.support.sandbox_process import SandboxProcess
from tests.support.soft_token import SoftToken

pytestmark = pytest.mark.e2e


@pytest.fixture
def token(place: Path, monkeypatch: pytest.MonkeyPatch) -> SoftToken:
    """A token with both keys; ``SOFTHSM2_CONF`` is handed down to the agent."""
    found = SoftToken(place / "token")
    monkeypatch.setenv("SOFTHSM2_CONF", str(found.conf))
    found.make()
    found.generate("fep-sign", ed25519=False)
    found.generate("fep-audit", ed25519=True)
    return found


def test_keys_in_a_token_change_by_a_reset_and_what_waited_is_sealed_anew(
    place: Path, sandbox: SandboxProcess, token: SoftToken
) -> None:
    """Reset at the centre, `leave --here`, other key pairs in the token, `enrol`."""
    agent = AgentProcess(place / "agent", sandbox)
    keys = place / "agent" / "state" / "keys"
    token.key_file(keys / "sign.key", "fep-sign")
    token.key_file(keys / "audit.key", "fep-audit")
    agent.fep("enrol")
    with agent.running():
        assert agent.fep("pull", PERSONS, "--wait")["delivered"]
        agent.wait_for("audit.cosigned")
        before = _in_use(agent)
        sandbox.stop()
        agent.sql("INSERT INTO person VALUES (9001, 'waits')")
        agent.fep("pull", PERSONS)
        agent.wait_for("batch.registered", upsert=101)
        agent.stop(signal.SIGKILL)
    sandbox.start()
    sandbox.ask("POST", "/reset", {"node": NODE, "reason": "another token"})

    gone = agent.fep("leave", "--here", "--yes")
    assert gone["remain"] == {"sign": "token", "audit": "token"}
    for label in ("fep-sign", "fep-audit"):
        token.remove(label)
        token.generate(f"{label}-2", ed25519=label == "fep-audit")
    token.key_file(keys / "sign.key", "fep-sign-2")
    token.key_file(keys / "audit.key", "fep-audit-2")
    agent.fep("enrol")
    runs, told = len(agent.events("run.started")), len(agent.events("audit.cosigned"))
    with agent.running():
        epoch = agent.wait_for("stream.epoch", reason="rekeyed")["epoch"]
        agent.wait_for("receipt.kept", epoch=epoch, state="loaded")
        assert len(agent.events("run.started")) == runs
        assert not set(before.items()) & set(_in_use(agent).items())
        until = time.monotonic() + 60
        while len(agent.events("audit.cosigned")) == told:
            assert time.monotonic() < until, agent.tail()
            time.sleep(0.05)
        assert agent.run("status").returncode == 0
        assert agent.stop(signal.SIGTERM) == 0


def _in_use(agent: AgentProcess) -> dict[str, str]:
    """Purpose -> kid."""
    listed = agent.fep("keys", "ls")["keys"]
    return {k["purpose"]: k["kid"] for k in listed if k["in_use"]}


def test_agent_works_with_sealed_keys_and_a_token(
    place: Path, sandbox: SandboxProcess, token: SoftToken
) -> None:
    """Enrolled, pushed, receipted, cosigned; no open private key on the disk."""
    agent = AgentProcess(place / "agent", sandbox)
    keys = place / "agent" / "state" / "keys"
    token.key_file(keys / "sign.key", "fep-sign")
    token.key_file(keys / "audit.key", "fep-audit")
    secret = place / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o400)
    sealed = {"FEP_PASSPHRASE_FILE": str(secret)}

    done = agent.run("enrol", "--json", **sealed)
    assert done.returncode == 0, done.stdout + done.stderr
    open_keys = [
        path.name for path in keys.iterdir() if b"BEGIN PRIVATE" in path.read_bytes()
    ]
    assert open_keys == []
    with agent.running(**sealed):
        run = agent.fep("pull", PERSONS, "--wait")
        assert (run["state"], run["delivered"]) == ("read", True)
        agent.wait_for("audit.cosigned")
        refused = agent.run("keys", "rotate")
        assert "sign: in a token" in refused.stdout + refused.stderr
        agent.fep("keys", "rotate", "decrypt")
        listed = agent.fep("keys", "rotate", "tls")["keys"]
        assert {k["purpose"]: k["where"] for k in listed if k["in_use"]} == {
            "tls": "sealed",
            "sign": "token",
            "decrypt": "sealed",
            "audit": "token",
        }
        assert agent.fep("pull", PERSONS, "--wait")["delivered"]
        assert agent.stop(signal.SIGTERM) == 0

    agent.launch()  # without the passphrase: said, and not tried for ever
    assert agent.process is not None
    assert agent.process.wait(60) == 78
    agent.process = None
    assert "fep.passphrase" in agent.tail()
    assert "correct horse" not in agent.log.read_text("utf-8")

    token.say_pin("0000")  # nor is a PIN that the token refused
    agent.launch(**sealed)
    assert agent.process is not None
    assert agent.process.wait(60) == 78
    agent.process = None
    assert "token-pin" in agent.tail()
