# SPDX-License-Identifier: Apache-2.0
"""The keeper of a running daemon's keys: renewal, warnings, what is taken live."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from agent.audit.events import Event
from agent.control import staging, statements
from agent.control.identity import writing
from agent.control.keyring import Keyring
from agent.control.staging import Staged
from agent.crypto.token import Place
from agent.daemon.keys import KeyKeeper, Seams, Users
from agent.errors import (
    AuditWriteFailed,
    Busy,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    KeyElsewhere,
    KeysForked,
    OwnKeyRevoked,
    SpoolWriteFailed,
    TokenPinRefused,
    UsageFault,
)
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.key_machine import ALL, NODE, Machine
from tests.support.key_places import TOKEN, hand_over, name_in
from tests.support.own_certificate import certify


class Log:
    """What the keeper needs of the audit log."""

    origin = f"{NODE}/audit"

    def __init__(self) -> None:
        self.records: list[str] = []
        self.fails: list[Exception] = []
        self.signs = ""

    def use_key(self, key: Any) -> None:
        self.signs = key.public.kid

    async def changed(self, name: str, value: str, event: Event) -> bool:
        del value, event
        if self.fails:
            raise self.fails.pop(0)
        self.records.append(name)
        return True


class Site:
    """A keeper at a real exchange with a clock of its own."""

    def __init__(self, machine: Machine, uplink: Any) -> None:
        self.machine = machine
        self.ready: dict[str, Any] = {}
        self.uplink = uplink
        self.at = datetime.now(UTC)
        self.told: list[Event] = []
        self.slept: list[float] = []
        self.log = Log()
        self.keyring = Keyring(machine.files)
        machine.directory.load()
        self.keeper = KeyKeeper(
            machine.files,
            self.keyring,
            users=Users(uplink, machine.directory, cast("Any", self.log), None),
            way=machine.way(uplink),
            seams=Seams(
                self.told.append, lambda: self.at, self._sleep, lambda _a, b: b
            ),
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.told]

    def codes(self) -> list[str]:
        return [e.code for e in self.keeper.troubles()]


@asynccontextmanager
async def at_exchange(
    folder: Path, *, left: timedelta | None = None
) -> AsyncIterator[Site]:
    """An enrolled machine; with ``left`` its certificate ends so long from now."""
    async with exchange(Options(folder / "centre", approve_all=True)) as line:
        machine = Machine(folder / "state", json.loads(line))
        await machine.enrol()
        if left is not None:
            _end_in(left, machine, folder / "centre" / "keys")
        async with machine.exchange() as uplink:
            site = Site(machine, uplink)
            site.ready = json.loads(line)
            yield site


def _end_in(left: timedelta, machine: Machine, authority: Path) -> None:
    """Give a machine a certificate of ten days, of which so much is left."""
    begun = datetime.now(UTC) + left - timedelta(days=10)
    certify(machine.files, NODE, authority, begun=begun, days=10)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with at_exchange(tmp_path) as found:
        yield found


async def test_a_certificate_is_renewed_at_two_thirds_of_its_life(site: Site) -> None:
    """Not before; then with a new key, audited, and connections use it."""
    before = site.machine.kids()
    site.at += timedelta(days=242)
    await site.keeper.look()
    assert site.machine.kids() == before
    site.at += timedelta(days=2)
    await site.keeper.look()
    after = site.machine.kids()
    assert after["tls"] != before["tls"]
    assert {p: after[p] for p in ALL if p != "tls"} == {
        p: before[p] for p in ALL if p != "tls"
    }
    assert site.log.records == ["keys"]
    assert site.keeper.certificate.kid == after["tls"]
    await site.uplink.directory()
    assert site.told == []
    view = site.keeper.view()
    assert [k["status"] for k in view["keys"] if k["purpose"] == "tls"] == [
        "retired",
        "active",
    ]


async def test_a_channel_stays_open_over_a_renewal(site: Site) -> None:
    """The line over which lookups come is not dropped; new ones use the new key."""
    async with site.uplink.channel() as line:
        site.at += timedelta(days=300)
        await site.keeper.look()
        assert site.log.records == ["keys"]
        waiting = asyncio.ensure_future(line.receive())
        await site.machine.ask("/nudge", {})
        assert json.loads(await asyncio.wait_for(waiting, 60))["t"] == "nudge"


async def test_a_failed_renewal_is_shown_and_tried_again_after_longer_pauses(
    site: Site,
) -> None:
    """The old certificate stays, the pauses grow, then it goes on where it was."""
    held = site.machine.files.tls_certificate.read_bytes()
    site.machine.fail = _cut
    site.at += timedelta(days=300)
    pauses = []
    for _ in range(3):
        await site.keeper.look()
        pauses.append(getattr(site.told[-1], "wait_s", None))
        await site.keeper.look()  # too early: nothing is tried
        site.at += timedelta(hours=1)
    assert pauses == [30.0, 60.0, 120.0]
    assert site.names == ["keys.trouble"] * 3
    assert site.codes() == ["exchange-unreachable"]
    change = site.keeper.view()["change"]
    assert change["purposes"] == ["tls"]
    assert change["trouble"]["code"] == "exchange-unreachable"
    assert site.machine.files.tls_certificate.read_bytes() == held
    site.machine.fail = lambda _step: None
    await site.keeper.look()
    assert site.machine.files.tls_certificate.read_bytes() != held
    assert site.codes() == []
    assert site.keeper.view()["change"] is None


def _cut(_step: str) -> None:
    raise ExchangeUnreachable("cut")


async def test_people_are_warned_once_30_7_and_1_days_ahead(site: Site) -> None:
    """Only of a renewal that has not come; then that it has ended."""
    site.machine.fail = _cut
    end = site.keeper.certificate.not_after
    seen = []
    for left in (60, 31, 29.5, 29, 8, 6.5, 6, 1.5, 0.9, 0.5, -0.1, -1):
        site.at = end - timedelta(days=left)
        await site.keeper.look()
        seen.append([c for c in site.codes() if c.startswith("certificate")])
    days = [getattr(e, "days", None) for e in site.told if e.name != "keys.trouble"]
    assert days == [30, 7, 1, 0]
    assert seen[:2] == [[], []]
    assert seen[2:10] == [["certificate-expiring"]] * 8
    assert seen[10:] == [["certificate-expired"]] * 2


async def test_an_expired_certificate_comes_back_by_enrolling_again(
    tmp_path: Path,
) -> None:
    """The exchange refuses it, status says so; `fep enrol` mends it, the keys stay."""
    async with at_exchange(tmp_path, left=timedelta(hours=-1)) as site:
        before = site.machine.kids()
        await site.keeper.look()
        assert site.codes() == ["certificate-expired"]
        assert not Staged(site.machine.files).folder.exists()
        with pytest.raises((ExchangeUntrusted, ExchangeUnreachable)):
            await site.uplink.directory()
        await site.machine.enrol()
        await site.keeper.look()
        assert site.codes() == []
        assert site.machine.kids() == before
        await site.uplink.directory()


async def test_a_certificate_of_minutes_is_renewed_over_real_tls(
    tmp_path: Path,
) -> None:
    """Asked for with the one that ends; what it gets serves a new connection."""
    async with at_exchange(tmp_path, left=timedelta(minutes=5)) as site:
        first = site.keeper.certificate
        await site.keeper.look()
        second = site.keeper.certificate
        assert second.kid != first.kid
        assert second.not_after > first.not_after + timedelta(days=300)
        async with site.machine.exchange() as fresh:
            await fresh.directory()


async def test_a_change_that_an_earlier_life_began_goes_on(site: Site) -> None:
    """Whatever was asked for, at the first look."""
    before = site.machine.kids()
    staging.begin(site.machine.files, ("sign", "audit"))
    await site.keeper.look()
    after = site.machine.kids()
    assert after["sign"] != before["sign"]
    assert site.keyring.public.kid == after["sign"]
    assert site.log.signs == after["audit"]
    assert site.keyring.sign("fep-heartbeat+jws", b"{}")


async def test_a_new_decrypt_key_opens_before_anybody_can_seal_to_it(
    site: Site,
) -> None:
    """The mapping that the lookups hold has it before the exchange hears of it."""
    opening = site.keyring.opening
    assert len(opening) == 1
    site.machine.fail = _cut
    with pytest.raises(ExchangeUnreachable):
        await site.keeper.rotate(["decrypt"])
    assert len(opening) == 2
    site.machine.fail = lambda _step: None
    site.at += timedelta(hours=1)
    await site.keeper.look()
    assert len(opening) == 2


async def test_what_a_person_may_not_ask_is_refused(site: Site) -> None:
    """Another purpose, and a second change while one is under way."""
    with pytest.raises(UsageFault):
        await site.keeper.rotate(["receipt"])
    site.machine.fail = _cut
    with pytest.raises(ExchangeUnreachable):
        await site.keeper.rotate(["sign"])
    with pytest.raises(Busy):
        await site.keeper.rotate(["audit"])


async def test_a_revoked_key_of_ours_is_shown(site: Site) -> None:
    """The directory says so: people hear it before batches are refused."""
    await site.machine.ask("/revoke", {"kid": site.machine.kids()["decrypt"]})
    await site.machine.directory.refresh(site.uplink.directory)
    assert site.codes() == ["own-key-revoked"]


async def test_a_token_that_refused_its_pin_is_shown(site: Site) -> None:
    """Until it gets another one; whoever signs meets the same error."""
    place = Place("fep", "fep-sign", "/no/module", "file:/no/pin")
    login = site.machine.files.tokens.login(place)
    login.trouble = TokenPinRefused("token fep: PinIncorrect")
    assert site.codes() == ["token-pin"]


async def test_an_old_decrypt_key_goes_when_its_retirement_ends(site: Site) -> None:
    """Not a day earlier; what nobody can need any more cannot be stolen."""
    await site.keeper.rotate(["decrypt"])
    assert len(site.keyring.opening) == 2
    site.at += timedelta(days=29)
    await site.keeper.look()
    assert len(site.keyring.opening) == 2
    site.at += timedelta(days=2)
    await site.keeper.look()
    assert list(site.keyring.opening) == [site.machine.kids()["decrypt"]]
    assert staging.old_decrypt_keys(site.machine.files) == ()


async def test_a_certificate_of_a_credential_renews_itself_with_the_same_key(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line stays; a person who asks for another key is refused by name."""
    folder = tmp_path / "credentials"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    files, before = site.machine.files, site.machine.kids()
    hand_over(files.tls_key, folder)
    said, held = files.tls_key.read_bytes(), site.keeper.certificate.sha256
    with pytest.raises(KeyElsewhere, match="tls: in a credential"):
        await site.keeper.rotate(["tls"])
    assert site.keeper.view()["change"] is None
    site.at += timedelta(days=244)
    await site.keeper.look()
    assert site.told == []
    assert site.keeper.certificate.sha256 != held
    assert (site.machine.kids(), files.tls_key.read_bytes()) == (before, said)
    assert (site.told, site.codes()) == ([], [])
    await site.uplink.directory()


async def test_where_each_key_is_can_be_seen(site: Site) -> None:
    """In an open or sealed file, a credential, a token; or here no more."""
    files = site.machine.files
    await site.keeper.rotate(["sign", "decrypt"])
    assert [(k["purpose"], k["in_use"], k["where"]) for k in view_of(site)] == [
        ("decrypt", False, "file"),
        ("decrypt", True, "file"),
        ("sign", False, None),
        ("sign", True, "file"),
    ]
    name_in(files.sign_key, TOKEN)
    name_in(files.decrypt_key, "-----BEGIN ENCRYPTED PRIVATE KEY-----")
    name_in(staging.old_decrypt_keys(files)[0], "credential:old")
    assert [k["where"] for k in view_of(site)] == [
        "credential",
        "sealed",
        None,
        "token",
    ]


def view_of(site: Site) -> list[dict[str, Any]]:
    """Keys of sign and decrypt as people see them, sorted."""
    keys = [
        k for k in site.keeper.view()["keys"] if k["purpose"] in {"sign", "decrypt"}
    ]
    return sorted(keys, key=lambda k: (k["purpose"], k["in_use"]))


async def test_a_sealed_key_is_renewed_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The passphrase of the new one is asked for too: no restart, no 401."""
    _passphrase(tmp_path / "said", monkeypatch)
    async with at_exchange(tmp_path) as site:
        before = site.keeper.certificate.kid
        site.at += timedelta(days=300)
        await site.keeper.look()
        assert site.keeper.certificate.kid == site.machine.kids()["tls"] != before
        assert b"ENCRYPTED" in site.machine.files.tls_key.read_bytes()
        await site.machine.ask("/revoke", {"kid": before})
        await site.uplink.directory()
        assert site.codes() == []


async def test_a_certificate_that_cannot_be_used_is_shown_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged, gone, or its key does not open: no silence, and no end of the daemon."""
    said = _passphrase(tmp_path / "said", monkeypatch)
    async with at_exchange(tmp_path) as site:
        file = site.machine.files.tls_certificate
        good = file.read_bytes()
        said.chmod(0o644)
        file.write_bytes(good + b"\n")
        await site.keeper.look()
        assert site.codes() == ["secret-unreadable"]
        said.chmod(0o600)
        file.write_bytes(b"damaged")
        await site.keeper.look()
        assert site.codes() == ["malformed"]
        file.unlink()
        await site.keeper.look()
        assert site.codes() == ["not-enrolled"]
        await site.uplink.directory()
        file.write_bytes(good + b"\n")
        await site.keeper.look()
        assert site.codes() == []
        await site.uplink.directory()


async def test_two_changes_at_a_time_are_one(site: Site) -> None:
    """Who comes second is told, or finds nothing to do: no statement twice, no end."""
    first, second = await asyncio.gather(
        site.keeper.rotate(["sign"]),
        site.keeper.rotate(["decrypt"]),
        return_exceptions=True,
    )
    assert isinstance(first, dict)
    assert isinstance(second, Busy)
    site.at += timedelta(days=300)
    files, before = site.machine.files, site.machine.kids()
    await asyncio.gather(site.keeper.rotate(["sign"]), site.keeper.look())
    assert [len(statements.kept_statements(files).statements)] == [3]
    await site.keeper.look()
    assert site.machine.kids()["tls"] != before["tls"]
    assert site.machine.kids()["sign"] != before["sign"]
    assert site.codes() == []


async def test_a_change_that_can_never_succeed_is_not_begun(site: Site) -> None:
    """A revoked sign key states no others: said at once, renewals wait in silence."""
    await site.machine.ask("/revoke", {"kid": site.machine.kids()["sign"]})
    await site.machine.directory.refresh(site.uplink.directory)
    with pytest.raises(OwnKeyRevoked, match="sign"):
        await site.keeper.rotate(["sign"])
    site.at += timedelta(days=300)
    await site.keeper.look()
    assert not Staged(site.machine.files).folder.exists()
    assert site.codes() == ["own-key-revoked"]
    assert site.told == []


async def test_a_change_that_turns_out_to_be_impossible_is_given_up(
    site: Site,
) -> None:
    """Its keys go, and what failed is not shown for ever."""
    before = site.machine.kids()
    await site.machine.ask("/revoke", {"kid": before["sign"]})
    with pytest.raises(ExchangeRefused, match="key-revoked"):
        await site.keeper.rotate(["decrypt"])
    assert site.keeper.view()["change"] is None
    assert site.machine.kids() == before
    site.at += timedelta(hours=1)
    await site.keeper.look()
    assert site.codes() == ["own-key-revoked"]


async def test_keys_that_another_machine_changed_wait_for_a_person(
    site: Site, tmp_path: Path
) -> None:
    """No certificate is asked for, however often the renewal is looked at."""
    copy = tmp_path / "copy"
    shutil.copytree(site.machine.files.state, copy)
    other = Machine(copy, site.ready)
    staging.begin(other.files, ("sign",))
    await other.carry_on()
    asked: list[str] = []
    site.machine.fail = asked.append
    site.at += timedelta(days=300)
    await site.keeper.look()  # its directory is old: it hears of it in the renewal
    assert site.names == ["keys.trouble"]
    for _ in range(3):
        site.at += timedelta(hours=2)
        await site.keeper.look()
        assert "keys-forked" in site.codes()
    assert asked == ["agreed"]
    assert site.names.count("keys.trouble") == 1
    assert site.keeper.view()["change"] is None
    with pytest.raises(KeysForked):
        await site.keeper.rotate(["tls"])


async def test_a_refusal_that_nobody_signed_costs_no_second_certificate(
    site: Site,
) -> None:
    """A proxy can fake a `fork`: the renewal goes on with the certificate it has."""
    asked: list[str] = []

    def refuse(step: str) -> None:
        asked.append(step)
        if step == "proof":
            raise ExchangeRefused("statement 2 is another one", problem="fork")

    site.machine.fail = refuse
    site.at += timedelta(days=300)
    for _ in range(3):
        await site.keeper.look()
        site.at += timedelta(hours=2)
    assert asked.count("proof") == 3
    assert asked.count("reenrol") == 1
    assert "exchange-refused" in site.codes()
    site.machine.fail = lambda _step: None
    await site.keeper.look()
    assert site.codes() == []


async def test_what_failed_after_a_change_is_shown_and_done_later(site: Site) -> None:
    """The keys are in place; that they are in use is not yet in the log."""
    site.log.fails = [AuditWriteFailed("full"), RuntimeError("a defect")]
    with pytest.raises(AuditWriteFailed):
        await site.keeper.rotate(["audit", "sign"])
    assert site.codes() == ["audit-write-failed"]
    change = site.keeper.view()["change"]
    assert change["purposes"] == ["sign", "audit"]
    assert change["trouble"]["code"] == "audit-write-failed"
    assert site.log.records == []
    await site.keeper.look()  # not before its time
    assert len(site.log.fails) == 1
    site.at += timedelta(hours=1)
    await site.keeper.look()
    assert site.codes() == ["internal"]
    site.at += timedelta(hours=1)
    await site.keeper.look()
    assert site.codes() == []
    assert site.keeper.view()["change"] is None
    assert site.log.records == ["keys"]
    assert site.log.signs == site.machine.kids()["audit"]
    assert [e.name for e in site.told] == ["keys.trouble"] * 2


async def test_what_an_end_left_of_a_change_that_is_done_goes(site: Site) -> None:
    """An empty folder is no change: nothing is stated, and the next can begin."""
    files = site.machine.files
    Staged(files).folder.mkdir()
    await site.keeper.look()
    assert not Staged(files).folder.exists()
    assert not files.statement(2).exists()
    assert await site.machine.carry_on() == ()
    await site.keeper.rotate(["sign"])


@pytest.mark.parametrize(
    ("number", "ends"),
    [(errno.ENOTEMPTY, False), (errno.ENOSPC, False), (errno.EIO, True)],
)
async def test_only_a_disk_that_fails_ends_the_daemon(
    site: Site, number: int, ends: bool
) -> None:
    """Anything else is shown, and tried again."""

    def refuse(_step: str) -> None:
        with writing(site.machine.files.folder):
            raise OSError(number, "refused")

    site.machine.fail = refuse
    staging.begin(site.machine.files, ("sign",))
    with pytest.raises(SpoolWriteFailed) if ends else nullcontext():
        await site.keeper.look()
    assert site.codes() == ["spool-write-failed"]
    assert site.names == ["keys.trouble"]


def _passphrase(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path.write_text("correct horse battery\n")
    path.chmod(0o600)
    monkeypatch.setenv("FEP_PASSPHRASE_FILE", str(path))
    return path
