# SPDX-License-Identifier: Apache-2.0
"""A node whose `sign` and `audit` keys are in a token, over its keys' life."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control import backup, staging
from agent.control.outside import outside
from agent.errors import KeyElsewhere
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import ALL, Machine
from tests.support.soft_token import SoftToken

pytestmark = pytest.mark.contract


async def test_other_keys_change_and_the_token_signs_for_them(
    token: SoftToken, tmp_path: Path
) -> None:
    """Its own are refused by name, by a change and by a backup."""
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        machine = Machine(tmp_path / "state", json.loads(line))
        token.key_file(machine.files.sign_key, "fep-sign")
        token.key_file(machine.files.audit_key, "fep-audit")
        await machine.enrol()
        before = machine.kids()
        assert outside(machine.files) == {"sign": "token", "audit": "token"}
        with pytest.raises(KeyElsewhere, match="sign: in a token; audit: in a token"):
            staging.begin(machine.files, ("sign", "decrypt", "audit"))
        staging.begin(machine.files, ("tls", "decrypt"))
        await machine.carry_on()
        after = machine.kids()
    assert [p for p in ALL if before[p] == after[p]] == ["sign", "audit"]
    assert machine.files.statement(2).exists()
    with pytest.raises(KeyElsewhere, match="sign: in a token; audit: in a token"):
        backup.made(machine.files, b"x" * 12, now=datetime.now(UTC), rounds=1000)
