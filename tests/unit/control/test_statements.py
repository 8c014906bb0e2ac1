# SPDX-License-Identifier: Apache-2.0
"""Keys, or an exchange, that come back from a backup: statements fit again."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.control import backup, staging, statements
from agent.control.identity import load_sign_key
from agent.control.staging import Staged
from agent.errors import ExchangeUnreachable, KeysForked
from agent.wire.keys import TYP, KeyStatement
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import ALL, NODE, Machine

SECRET = b"correct horse battery staple"


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        yield json.loads(line)


async def enrolled(folder: Path, centre: dict[str, Any]) -> Machine:
    found = Machine(folder, centre)
    await found.enrol()
    return found


def backed_up(machine: Machine) -> str:
    return backup.made(machine.files, SECRET, now=datetime.now(UTC), rounds=1000)


def restored(text: str, folder: Path, centre: dict[str, Any]) -> Machine:
    found = Machine(folder, centre)
    backup.restore(text, found.files, SECRET, node=NODE)
    return found


def texts(machine: Machine) -> list[str]:
    return [m.text for m in statements.kept_statements(machine.files).messages]


async def changed(machine: Machine, *purposes: str) -> None:
    staging.begin(machine.files, purposes)
    await machine.carry_on()


@pytest.mark.parametrize("enrols", [True, False])
async def test_a_backup_from_before_a_renewal_can_renew(
    tmp_path: Path, centre: dict[str, Any], enrols: bool
) -> None:
    """It learns of the statements since, by enrolling or by its next change."""
    lost = await enrolled(tmp_path / "lost", centre)
    text = backed_up(lost)
    await changed(lost, "tls")
    await changed(lost, "decrypt")
    machine = restored(text, tmp_path / "new", centre)
    if enrols:
        await machine.enrol()
        assert texts(machine) == texts(lost)
    await changed(machine, "tls", "decrypt")
    assert texts(machine)[:3] == texts(lost)
    live = {k.kid for k in machine.directory.current.node_keys(NODE).live}
    assert live == set(machine.kids().values())


async def test_a_change_that_stated_what_the_lost_machine_had_stated_goes_on(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Its keys were never in use: they are stated anew, one number later."""
    lost = await enrolled(tmp_path / "lost", centre)
    machine = restored(backed_up(lost), tmp_path / "new", centre)
    staging.begin(machine.files, ("tls",))
    staged = Staged(machine.files)
    live = statements.kept_statements(machine.files).live
    other = KeyStatement(NODE, 2, live, "2026-11-22T00:00:00Z")
    text = load_sign_key(machine.files).sign(TYP, other.payload())
    staged.statement.write_text(text)
    await changed(lost, "tls")
    assert await machine.carry_on() == ("tls",)
    assert texts(machine)[:2] == texts(lost)
    assert len(texts(machine)) == 3


async def test_what_was_stated_before_an_end_is_not_stated_twice(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """The directory has our staged statement already: it is that one."""

    def cut(at: str) -> None:
        if at == "directory":
            raise ExchangeUnreachable("cut")

    machine = await enrolled(tmp_path / "state", centre)
    staging.begin(machine.files, ("tls", "decrypt"))
    machine.fail = cut
    with pytest.raises(ExchangeUnreachable):
        await machine.carry_on()
    machine.fail = lambda _step: None
    await machine.carry_on()
    assert len(texts(machine)) == 2
    live = {k.kid for k in machine.directory.current.node_keys(NODE).live}
    assert live == set(machine.kids().values())


async def test_a_backup_from_before_another_sign_key_takes_nothing(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """It can state nothing any more; that is said, and ours stay as they were."""
    lost = await enrolled(tmp_path / "lost", centre)
    text = backed_up(lost)
    await changed(lost, "sign")
    machine = restored(text, tmp_path / "new", centre)
    staging.begin(machine.files, ("audit",))
    with pytest.raises(KeysForked, match="2 key statements"):
        await machine.carry_on()
    assert texts(machine) == texts(lost)[:1]


async def test_an_exchange_of_a_backup_is_told_what_it_does_not_have(
    tmp_path: Path,
) -> None:
    """Every statement since, in order, before the next one."""
    before, after = tmp_path / "centre", tmp_path / "again"
    async with exchange(Options(before, approve_all=True)) as line:
        await enrolled(tmp_path / "state", json.loads(line))
    shutil.copytree(before, after, ignore=shutil.ignore_patterns("*.sock"))
    async with exchange(Options(before, approve_all=True)) as line:
        machine = Machine(tmp_path / "state", json.loads(line))
        await changed(machine, *ALL)
        await changed(machine, "sign")
    async with exchange(Options(after, approve_all=True)) as line:
        machine = Machine(tmp_path / "state", json.loads(line))
        machine.files.directory.unlink()  # as a person does: this one is older
        await changed(machine, "tls")
        shown = machine.directory.current.node_keys(NODE)
    assert [m.text for m in shown.messages] == texts(machine)
    assert len(texts(machine)) == 4
