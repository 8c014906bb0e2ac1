# SPDX-License-Identifier: Apache-2.0
"""A backup of the keys: what opens it, what it restores, what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from agent.control import backup, staging
from agent.control.identity import IdentityFiles
from agent.control.keyring import Keyring
from agent.crypto import keybox
from agent.crypto.jose import base64url, from_base64url
from agent.errors import BackupUnfit, Busy, KeysPresent, PassphraseWrong
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import NODE, Machine

SECRET = b"correct horse battery staple"
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
async def machine(tmp_path: Path) -> Machine:
    """Enrolled, and with one decrypt key of before."""
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        found = Machine(tmp_path / "state", json.loads(line))
        await found.enrol()
        staging.begin(found.files, ("decrypt",))
        await found.carry_on()
    return found


def text_of(machine: Machine) -> str:
    return backup.made(machine.files, SECRET, now=NOW, rounds=1000)


def test_a_restored_machine_has_the_same_keys(machine: Machine, tmp_path: Path) -> None:
    """All of them, those that only open too, the chain and the certificate."""
    fresh = IdentityFiles(tmp_path / "new")
    backup.restore(text_of(machine), fresh, SECRET, node=NODE)
    ours, theirs = Keyring(machine.files), Keyring(fresh)
    assert theirs.public.kid == ours.public.kid
    assert theirs.opening.keys() == ours.opening.keys()
    assert len(theirs.opening) == 2
    assert fresh.missing() == ()
    assert fresh.tls_certificate.read_bytes() == (
        machine.files.tls_certificate.read_bytes()
    )
    modes = {oct(p.stat().st_mode & 0o777) for p in fresh.folder.glob("**/*.key")}
    assert modes == {"0o400"}


def test_no_two_backups_look_alike(machine: Machine) -> None:
    """Salt, key and nonce are new each time."""
    one, other = text_of(machine).split("."), text_of(machine).split(".")
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_another_jose_library_opens_it(machine: Machine) -> None:
    """The format is public: RFC 7516 with a passphrase."""
    registry = jwe.JWERegistry(algorithms=[keybox.ALG, keybox.ENC])
    key = OctKey.import_key(SECRET)
    body = json.loads(
        jwe.decrypt_compact(text_of(machine), key, registry=registry).plaintext or b""
    )
    assert body["node"] == NODE
    assert {"sign.key", "tls.pem", "statement-2.jws"} <= body["files"].keys()


def test_another_passphrase_opens_nothing(machine: Machine, tmp_path: Path) -> None:
    """And leaves no file behind."""
    fresh = IdentityFiles(tmp_path / "new")
    with pytest.raises(PassphraseWrong):
        backup.restore(text_of(machine), fresh, b"x" * 12, node=NODE)
    assert not fresh.folder.exists()


def test_keys_are_never_put_over_keys(machine: Machine) -> None:
    """Whoever restores on a machine that has an identity is told."""
    with pytest.raises(KeysPresent):
        backup.restore(text_of(machine), machine.files, SECRET, node=NODE)


def test_the_backup_of_another_node_is_refused(
    machine: Machine, tmp_path: Path
) -> None:
    """The settings say who this machine is."""
    other = NODE.replace("fep1", "fep2")
    with pytest.raises(BackupUnfit):
        backup.restore(
            text_of(machine), IdentityFiles(tmp_path / "new"), SECRET, node=other
        )


@pytest.mark.parametrize("name", ["../sign.key", "old/decrypt-x.key", "agent.toml"])
def test_a_name_never_leads_anywhere_else(
    machine: Machine, tmp_path: Path, name: str
) -> None:
    """Whoever knows the passphrase may still not write where he likes."""
    body = json.loads(keybox.unlock(text_of(machine), SECRET, typ=backup.TYP))
    body["files"][name] = body["files"]["sign.key"]
    text = keybox.lock(json.dumps(body).encode(), SECRET, typ=backup.TYP, rounds=1000)
    with pytest.raises(BackupUnfit):
        backup.restore(text, IdentityFiles(tmp_path / "new"), SECRET, node=NODE)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", ["", "a.b.c", "a.b.c.d.e", "!.!.!.!.!"])
def test_a_file_that_is_no_backup_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever it is, nothing is written."""
    with pytest.raises(BackupUnfit):
        backup.restore(text, IdentityFiles(tmp_path / "new"), SECRET, node=NODE)


def test_a_file_that_wants_hours_of_work_is_refused(tmp_path: Path) -> None:
    """The rounds of the passphrase are bounded before they are done."""
    text = keybox.lock(b"{}", SECRET, typ=backup.TYP, rounds=1000)
    head = json.loads(from_base64url(text.split(".")[0], at="test"))
    head["p2c"] = 2**40
    slow = ".".join([base64url(json.dumps(head).encode()), *text.split(".")[1:]])
    with pytest.raises(BackupUnfit, match="p2c"):
        backup.restore(slow, IdentityFiles(tmp_path / "new"), SECRET, node=NODE)


def test_a_backup_waits_for_a_change_that_is_under_way(machine: Machine) -> None:
    """Its keys would be missing."""
    staging.begin(machine.files, ("sign",))
    with pytest.raises(Busy):
        text_of(machine)
