# SPDX-License-Identifier: Apache-2.0
"""A whole agent whose keys lie sealed, and in a token."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.agent_process import PERSONS, AgentProcess
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
