# SPDX-License-Identifier: Apache-2.0
"""Sealed keys, and keys that are elsewhere: change, renewal, backup, goodbye."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control import backup, staging
from agent.control.keyring import Keyring
from agent.control.leave import wipe
from agent.control.outside import outside
from agent.control.staging import Staged
from agent.crypto import keyfile
from agent.errors import ExchangeUnreachable, KeyElsewhere, SecretUnreadable
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import ALL, Machine
from tests.support.key_places import TOKEN, hand_over, name_in


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that systemd names."""
    folder = tmp_path / "credentials"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        yield Machine(tmp_path / "state", json.loads(line))


async def test_new_keys_are_sealed_where_the_passphrase_is(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Staged, in use and old ones; the change goes through and all of them load."""
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    secret.chmod(0o400)
    monkeypatch.setenv(keyfile.UNSEAL_FILE, str(secret))
    await machine.enrol()
    before = machine.kids()
    staging.begin(machine.files, ALL)
    staged = Staged(machine.files)
    assert {keyfile.where(staged.key(p)) for p in ALL} == {"sealed"}
    assert await machine.carry_on() == ALL
    after = machine.kids()
    assert all(before[p] != after[p] for p in ALL)
    kept = list(machine.files.folder.glob("**/*.key"))
    assert len(kept) == 5
    assert {keyfile.where(path) for path in kept} == {"sealed"}
    assert {*Keyring(machine.files).opening} == {before["decrypt"], after["decrypt"]}
    monkeypatch.delenv(keyfile.UNSEAL_FILE)
    with pytest.raises(SecretUnreadable, match="sealed"):
        Keyring(machine.files)


@pytest.mark.parametrize("purpose", ALL)
async def test_a_key_that_is_elsewhere_is_never_written_over(
    machine: Machine, credentials: Path, purpose: str
) -> None:
    """Refused by its name before anything is made; the others can be changed."""
    await machine.enrol()
    path = machine.files.key(purpose)
    hand_over(path, credentials)
    said, before = path.read_bytes(), machine.kids()
    with pytest.raises(KeyElsewhere, match=f": {purpose}: in a credential$"):
        staging.begin(machine.files, ALL)
    assert not Staged(machine.files).folder.exists()
    others = [p for p in ALL if p != purpose]
    staging.begin(machine.files, others)
    await machine.carry_on()
    after = machine.kids()
    assert [p for p in ALL if before[p] == after[p]] == [purpose]
    assert path.read_bytes() == said


@pytest.mark.parametrize("step", ["none", "reenrol", "directory", "removal"])
async def test_a_certificate_of_a_credential_is_renewed_with_the_same_key(
    machine: Machine, credentials: Path, step: str
) -> None:
    """The line in the key file stays, no statement is made; ended or not."""
    await machine.enrol()
    path = machine.files.tls_key
    hand_over(path, credentials)
    said, before = path.read_bytes(), machine.kids()
    held = machine.files.tls_certificate.read_bytes()

    def fail(at: str) -> None:
        if at == step:
            raise ExchangeUnreachable("cut")

    machine.fail = fail
    staging.begin_renewal(machine.files)
    if step in {"reenrol", "directory"}:
        with pytest.raises(ExchangeUnreachable):
            await machine.carry_on()
        machine.fail = lambda _step: None
    if step == "removal":  # it ended after the key's line went and the rest did not
        staged = Staged(machine.files)
        staged.shown.touch()
        staged.key("tls").unlink()
    await machine.carry_on()
    assert path.read_bytes() == said
    assert machine.kids() == before
    assert not Staged(machine.files).folder.exists()
    assert not machine.files.statement(2).exists()
    if step != "removal":
        assert machine.files.tls_certificate.read_bytes() != held
    async with machine.exchange() as uplink:
        await uplink.directory()


async def test_a_key_that_is_put_back_meanwhile_is_not_written_over(
    machine: Machine, credentials: Path
) -> None:
    """The renewal began with a line in the file; it ends with the key that is there."""
    await machine.enrol()
    path = machine.files.tls_key
    given, before = hand_over(path, credentials), machine.kids()
    staging.begin_renewal(machine.files)
    given.replace(path)
    given.write_bytes(path.read_bytes())
    given.chmod(0o400)
    await machine.carry_on()
    given.unlink()
    assert keyfile.where(path) == "file"
    assert machine.kids() == before


async def test_a_backup_that_would_lack_keys_is_not_made(machine: Machine) -> None:
    """It names all that it cannot hold, and does not copy a credential out."""
    await machine.enrol()
    name_in(machine.files.sign_key, TOKEN)
    name_in(machine.files.tls_key, "credential:fep.tls")
    with pytest.raises(KeyElsewhere, match="tls: in a credential; sign: in a token"):
        backup.made(machine.files, b"x" * 12, now=datetime.now(UTC), rounds=1000)


async def test_who_leaves_hears_which_keys_remain(
    machine: Machine, credentials: Path
) -> None:
    """Their files go and are not counted; the keys are a person's to destroy."""
    await machine.enrol()
    given = hand_over(machine.files.decrypt_key, credentials)
    name_in(machine.files.audit_key, TOKEN)
    assert outside(machine.files) == {"decrypt": "credential", "audit": "token"}
    gone = wipe(machine.files)
    assert {p.name for p in gone} == {"tls.key", "sign.key"}
    assert list(machine.files.folder.glob("**/*.key")) == []
    assert b"PRIVATE KEY" in given.read_bytes()
    assert outside(machine.files) == {}
