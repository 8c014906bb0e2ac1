# SPDX-License-Identifier: Apache-2.0
"""Exchanges of keys at a real exchange in this process, ended at every step."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509 import load_pem_x509_certificate

from agent.control import rotation, staging, statements
from agent.control.identity import load_sign_key
from agent.control.keyring import Keyring
from agent.control.rotation import Way
from agent.control.staging import Staged
from agent.crypto.certificates import Certificate
from agent.crypto.jose import PrivateKey
from agent.errors import (
    Busy,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    FepError,
    KeysUnpublished,
)
from agent.wire.directory import Directory
from agent.wire.keys import KeyStatement
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import ALL, NODE, Failing, Machine

OTHER = "11990100MB0000018H/rsj-fep2"


@pytest.fixture
async def centre(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        yield json.loads(line)


@pytest.fixture
async def machine(tmp_path: Path, centre: dict[str, Any]) -> Machine:
    found = Machine(tmp_path / "state", centre)
    await found.enrol()
    return found


async def test_all_keys_change_and_the_directory_has_old_and_new(
    machine: Machine,
) -> None:
    """Statement 2 names the new keys, the old ones are retired, nothing is left."""
    before = machine.kids()
    staging.begin(machine.files, ALL)
    assert await machine.carry_on() == ALL
    after = machine.kids()
    assert all(before[p] != after[p] for p in ALL)
    known = machine.directory.current
    assert {k.kid for k in known.node_keys(NODE).live} == set(after.values())
    said = {k: known.key_status(NODE, k) for k in (*before.values(), *after.values())}
    assert {k for k, s in said.items() if s and s.status == "active"} == {
        *after.values()
    }
    assert {k for k, s in said.items() if s and s.status == "retired"} == {
        *before.values()
    }
    assert not Staged(machine.files).folder.exists()
    assert machine.files.statement(2).exists()
    assert {*Keyring(machine.files).opening} == {before["decrypt"], after["decrypt"]}
    held = Certificate.from_pem(machine.files.tls_certificate.read_bytes())
    assert held.kid == after["tls"]


async def test_a_second_change_follows_the_first(machine: Machine) -> None:
    """Statement 3 is signed by the key of 2; all three decrypt keys open."""
    for _ in range(2):
        staging.begin(machine.files, ("sign", "decrypt"))
        await machine.carry_on()
    assert len(machine.directory.current.node_keys(NODE).statements) == 3
    assert len(Keyring(machine.files).opening) == 3


@pytest.mark.parametrize("step", ["agreed", "reenrol", "keys", "directory"])
async def test_a_life_that_ends_at_an_answer_loses_nothing(
    machine: Machine, step: str
) -> None:
    """The exchange has done its part, we did not hear it: the next life goes on."""
    before = machine.kids()

    def fail(at: str) -> None:
        if at == step:
            raise ExchangeUnreachable("cut")

    machine.fail = fail
    chosen = ("tls", "sign") if step == "reenrol" else ("sign", "decrypt")
    staging.begin(machine.files, chosen)
    with pytest.raises(ExchangeUnreachable):
        await machine.carry_on()
    assert machine.kids() == before
    load_sign_key(machine.files)  # what is in use works on
    machine.fail = lambda _step: None
    assert await machine.carry_on() == chosen
    assert all(machine.kids()[p] != before[p] for p in chosen)


class Crash(BaseException):
    """The machine is off."""


async def test_a_life_that_ends_at_any_file_loses_nothing(machine: Machine) -> None:
    """Ended before each rename, link and removal in turn; the next life goes on."""
    countdown: list[int] = []

    def watch(event: str, _args: tuple[Any, ...]) -> None:
        if countdown and event in {"os.rename", "os.link", "os.remove", "os.rmdir"}:
            countdown[0] -= 1
            if countdown[0] == 0:
                countdown.clear()
                raise Crash

    sys.addaudithook(watch)
    n, ended = 0, True
    while ended:
        n, before = n + 1, machine.kids()
        countdown[:] = [n]
        with suppress(Crash):
            staging.begin(machine.files, ALL)
            await machine.carry_on()
        ended = not countdown
        countdown.clear()
        staging.carry_through(machine.files)  # the next start
        Keyring(machine.files)
        if Staged(machine.files).folder.exists():
            await machine.carry_on()
        elif machine.kids() == before:  # it ended before there were new keys
            continue
        kids = machine.kids()
        assert all(kids[p] != before[p] for p in ALL)
        live = {k.kid for k in machine.directory.current.node_keys(NODE).live}
        assert set(kids.values()) == live
        held = Certificate.from_pem(machine.files.tls_certificate.read_bytes())
        assert held.kid == kids["tls"]
    assert n > 10


async def test_a_revoked_key_that_stays_stops_no_change(machine: Machine) -> None:
    """A renewal goes through beside a revoked decrypt key, which is changed next."""
    old = machine.kids()["decrypt"]
    await machine.ask("/revoke", {"kid": old})
    for purpose in ("tls", "decrypt"):
        staging.begin(machine.files, (purpose,))
        assert await machine.carry_on() == (purpose,)
    assert machine.kids()["decrypt"] != old


async def test_only_one_change_at_a_time(machine: Machine) -> None:
    """A second one would make keys that no statement names."""
    staging.begin(machine.files, ("sign",))
    with pytest.raises(Busy):
        staging.begin(machine.files, ("decrypt",))
    await machine.carry_on()


async def test_nothing_is_switched_before_the_directory_shows_it(
    machine: Machine,
) -> None:
    """An exchange that says yes and publishes nothing changes nothing here."""
    before = machine.kids()
    staging.begin(machine.files, ("sign",))
    stale = await _stale(machine)
    async with machine.exchange() as uplink:
        way = Way(uplink, machine.exchange, stale)
        with pytest.raises(KeysUnpublished):
            await rotation.carry_on(
                machine.files, way=way, now=lambda: datetime.now(UTC)
            )
    assert machine.kids() == before
    await machine.carry_on()


async def _stale(machine: Machine) -> Any:
    machine.directory.load()
    found = machine.directory.current

    async def refresh() -> Directory:
        return found

    return refresh


async def test_a_certificate_of_another_node_is_not_given_on_reenrolment(
    machine: Machine, tmp_path: Path, centre: dict[str, Any]
) -> None:
    """A CSR for another node, sent with our certificate, is forbidden."""
    other = Machine(tmp_path / "other", centre, node=OTHER)
    await other.enrol()
    staging.begin(other.files, ("tls",))
    async with machine.exchange() as ours:  # our certificate, the other's names
        way = Way(ours, other.exchange, other.way(ours).refresh)
        with pytest.raises(ExchangeRefused, match="forbidden"):
            await rotation.carry_on(other.files, way=way, now=lambda: datetime.now(UTC))


async def test_a_certificate_for_another_key_is_not_taken(machine: Machine) -> None:
    """The exchange answers with somebody's certificate: refused, the old one stays."""
    staging.begin(machine.files, ("tls",))
    before = machine.files.tls_certificate.read_bytes()

    async with machine.exchange() as uplink:

        class Wrong(Failing):
            async def reenrol(self, request: bytes) -> bytes:
                del request
                mine = load_pem_x509_certificate(before)
                der = pkcs7.serialize_certificates([mine], Encoding.DER)
                return base64.encodebytes(der)

        way = Way(Wrong(uplink, machine), machine.exchange, machine.way(uplink).refresh)
        with pytest.raises(ExchangeUntrusted):
            await rotation.carry_on(
                machine.files, way=way, now=lambda: datetime.now(UTC)
            )
    assert machine.files.tls_certificate.read_bytes() == before


async def _refused(machine: Machine, statement: KeyStatement, key: PrivateKey) -> str:
    text = key.sign("fep-keys+jws", statement.payload())
    async with machine.exchange() as uplink:
        with pytest.raises(FepError) as caught:
            await uplink.keys(text)
    assert isinstance(caught.value, ExchangeRefused)
    return caught.value.problem


async def test_attack_statement_signed_by_a_stranger(machine: Machine) -> None:
    """Who has the certificate alone cannot add keys."""
    thief = PrivateKey.generate("sign")
    live = statements.kept_statements(machine.files).live
    statement = KeyStatement(NODE, 2, (*live, thief.public), "2026-11-22T00:00:00Z")
    assert await _refused(machine, statement, thief) == "bad-signature"


async def test_attack_chain_with_a_gap(machine: Machine) -> None:
    """Statement 3 without 2 is refused."""
    live = statements.kept_statements(machine.files).live
    statement = KeyStatement(NODE, 3, live, "2026-11-22T00:00:00Z")
    key = load_sign_key(machine.files)
    assert await _refused(machine, statement, key) == "chain-gap"


async def test_attack_statement_replay(machine: Machine) -> None:
    """The old statement changes nothing; another one of its number is a fork."""
    first = machine.files.statement(1).read_text()
    old = load_sign_key(machine.files)
    live = statements.kept_statements(machine.files).live
    staging.begin(machine.files, ("sign",))
    await machine.carry_on()
    before = machine.directory.current.node_keys(NODE).live
    async with machine.exchange() as uplink:
        await uplink.keys(first)
        await machine.directory.refresh(uplink.directory)
    assert machine.directory.current.node_keys(NODE).live == before
    fork = KeyStatement(NODE, 2, live, "2026-11-22T00:00:00Z")
    assert await _refused(machine, fork, old) == "fork"


async def test_attack_a_rotated_key_states_new_keys(machine: Machine) -> None:
    """Only the sign key of the newest statement may sign the next."""
    old = load_sign_key(machine.files)
    staging.begin(machine.files, ("sign",))
    await machine.carry_on()
    live = statements.kept_statements(machine.files).live
    statement = KeyStatement(
        NODE,
        3,
        (*live, PrivateKey.generate("sign").public),
        "2026-11-22T00:00:00Z",
    )
    assert await _refused(machine, statement, old) == "bad-signature"


async def test_attack_a_revoked_key_states_new_keys(machine: Machine) -> None:
    """A thief of a revoked sign key cannot go on with the chain."""
    await machine.ask("/revoke", {"kid": machine.kids()["sign"]})
    staging.begin(machine.files, ("sign",))
    with pytest.raises(ExchangeRefused, match="key-revoked"):
        await machine.carry_on()


async def test_a_certificate_that_ended_meanwhile_is_asked_for_again(
    machine: Machine,
) -> None:
    """A change that waited for long makes no use of a stale certificate."""
    staging.begin(machine.files, ("tls",))
    machine.fail = _at("directory")
    with pytest.raises(ExchangeUnreachable):
        await machine.carry_on()
    staged = Staged(machine.files)
    first = staged.certificate.read_bytes()
    machine.fail = lambda _step: None
    async with machine.exchange() as uplink:
        years = datetime.now(UTC) + timedelta(days=400)
        await rotation.carry_on(
            machine.files, way=machine.way(uplink), now=lambda: years
        )
    assert machine.files.tls_certificate.read_bytes() != first


def _at(step: str) -> Callable[[str], None]:
    def fail(at: str) -> None:
        if at == step:
            raise ExchangeUnreachable("cut")

    return fail
