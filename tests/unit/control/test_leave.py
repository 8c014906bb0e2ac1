# SPDX-License-Identifier: Apache-2.0
"""A node that leaves: its last word, its keys, and what stays provable."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.control.history import trusted
from agent.control.identity import load_sign_key
from agent.control.leave import say_goodbye, wipe
from agent.errors import (
    EnrolRefused,
    ExchangeRefused,
    KeyRevoked,
    NotEnrolled,
    UnknownKey,
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
