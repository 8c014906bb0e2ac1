# SPDX-License-Identifier: Apache-2.0
"""A node that leaves: its last word, its keys, and what stays provable."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.control import backup
from agent.control.history import trusted
from agent.control.identity import load_sign_key
from agent.control.leave import say_goodbye, wipe
from agent.errors import (
    EnrolRefused,
    ExchangeRefused,
    KeyRevoked,
    KeysPresent,
    NotEnrolled,
    SpoolWriteFailed,
    UnknownKey,
    UsageFault,
)
from agent.wire.leave import TYP, Leave
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import NODE, Machine

OTHER = "11990100MB0000018H/rsj-fep2"


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        yield json.loads(line)


async def machine(folder: Path, centre: dict[str, Any], node: str = NODE) -> Machine:
    found = Machine(folder, centre, node)
    await found.enrol()
    return found


async def leave(
    found: Machine, *, node: str = NODE, aud: str = "yunxi.exchange"
) -> None:
    async with found.exchange() as uplink:
        await say_goodbye(
            found.files, node=node, aud=aud, now=datetime.now(UTC), post=uplink.leave
        )


async def test_who_has_left_is_refused_and_what_it_signed_before_holds(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Status `left`; its keys end then, and not a moment before."""
    gone = await machine(tmp_path / "a", centre)
    stays = await machine(tmp_path / "b", centre, OTHER)
    kid = gone.kids()["sign"]
    await leave(gone)
    async with gone.exchange() as uplink:
        with pytest.raises(ExchangeRefused, match="unauthenticated"):
            await uplink.directory()
    async with stays.exchange() as uplink:
        text = await uplink.directory()
    stays.directory.take(text)
    known = stays.directory.current
    entry = known.node(NODE)
    assert entry is not None
    assert entry.status == "left"
    with pytest.raises(UnknownKey):
        known.encryption_key(NODE)
    history, _ = trusted([text.encode()], aud=stays.target.aud, kid=stays.target.kid)
    before = datetime.now(UTC) - timedelta(minutes=5)
    assert history.node_key(NODE, kid, "sign", before).kid == kid
    with pytest.raises(KeyRevoked):
        history.node_key(NODE, kid, "sign", datetime.now(UTC) + timedelta(seconds=5))


async def test_who_has_left_comes_back_by_a_reset_alone(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Neither with its old keys nor with others; then with a reason on record."""
    gone = await machine(tmp_path / "a", centre)
    await leave(gone)
    gone.files.tls_certificate.unlink()
    with pytest.raises(EnrolRefused, match="has left"):
        await gone.enrol()
    wipe(gone.files)
    with pytest.raises(EnrolRefused, match="has left"):
        await gone.enrol()
    await gone.ask("/reset", {"node": NODE, "reason": "new disc"})
    await gone.enrol()
    gone.directory.load()
    entry = gone.directory.current.node(NODE)
    assert entry is not None
    assert entry.reset is not None
    assert (entry.status, entry.reset.reason) == ("active", "new disc")


async def test_attack_a_goodbye_in_the_name_of_another(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Nobody ends another node's membership, not even with the other's own words."""
    ours = await machine(tmp_path / "a", centre)
    other = await machine(tmp_path / "b", centre, OTHER)
    with pytest.raises(ExchangeRefused, match="forbidden"):
        await leave(ours, node=OTHER)
    word = Leave(OTHER, "yunxi.exchange", int(datetime.now(UTC).timestamp()))
    stolen = load_sign_key(other.files).sign(TYP, word.payload())
    async with ours.exchange() as uplink:
        with pytest.raises(ExchangeRefused, match="forbidden"):
            await uplink.leave(stolen)
    async with other.exchange() as uplink:
        await uplink.directory()


@pytest.mark.parametrize(
    ("aud", "ago_s"), [("other.exchange", 0), ("yunxi.exchange", 601)]
)
async def test_attack_an_old_or_misdirected_goodbye(
    tmp_path: Path, centre: dict[str, Any], aud: str, ago_s: int
) -> None:
    """It is worth nothing elsewhere, and nothing later."""
    ours = await machine(tmp_path / "a", centre)
    word = Leave(NODE, aud, int(datetime.now(UTC).timestamp()) - ago_s)
    async with ours.exchange() as uplink:
        with pytest.raises(ExchangeRefused):
            await uplink.leave(load_sign_key(ours.files).sign(TYP, word.payload()))
        await uplink.directory()


async def test_the_keys_are_gone_and_the_evidence_is_not(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Statements stand aside, the directory and what vouches stay."""
    ours = await machine(tmp_path / "a", centre)
    first = ours.files.statement(1).read_bytes()
    assert len(wipe(ours.files)) == 4
    assert list(ours.files.folder.glob("**/*.key")) == []
    assert not ours.files.tls_certificate.exists()
    kept = ours.files.folder / "former" / "1" / "statement-1.jws"
    assert kept.read_bytes() == first
    assert ours.files.directory.exists()
    assert list(ours.files.vouchers.glob("*.jws"))
    assert wipe(ours.files) == ()
    with pytest.raises(NotEnrolled):
        load_sign_key(ours.files)


async def test_a_goodbye_that_was_heard_before_an_end_is_not_needed_again(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Told, then the power fails: the second time goes on to the keys."""
    ours = await machine(tmp_path / "a", centre)
    await leave(ours)
    await leave(ours)
    assert len(wipe(ours.files)) == 4
    assert not ours.files.leaving.exists()


async def test_attack_a_refusal_alone_is_no_goodbye(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """Who was never told is not taken as told, however often a person asks."""
    ours = await machine(tmp_path / "a", centre)
    await ours.ask("/revoke", {"kid": ours.kids()["tls"]})
    for _ in range(2):
        with pytest.raises(ExchangeRefused, match="unauthenticated"):
            await leave(ours)


async def test_no_keys_are_made_or_restored_among_those_that_are_being_destroyed(
    tmp_path: Path, centre: dict[str, Any]
) -> None:
    """An end between two keys: destroying them is done first, then it enrols anew."""
    ours = await machine(tmp_path / "a", centre)
    saved = backup.made(ours.files, b"x" * 16, now=datetime.now(UTC), rounds=1000)
    last = ours.files.folder / "tls.key"
    aside = last.rename(tmp_path / "tls.key")
    last.mkdir()  # the disk refuses the last one
    with pytest.raises(SpoolWriteFailed):
        wipe(ours.files)
    assert not ours.files.sign_key.exists()
    last.rmdir()
    aside.rename(last)
    with pytest.raises(UsageFault, match="fep leave"):
        await ours.enrol()
    with pytest.raises(KeysPresent):
        backup.restore(saved, ours.files, b"x" * 16, node=NODE)
    assert not ours.files.sign_key.exists()
    assert wipe(ours.files) == (last,)
    await ours.ask("/reset", {"node": NODE, "reason": "new disc"})
    await ours.enrol()
