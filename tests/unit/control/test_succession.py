# SPDX-License-Identifier: Apache-2.0
"""Attacks on the directory by name: what may follow, and what our agent does else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from agent.audit.events import DirectoryKept, Event, PeerUnsound
from agent.control.directory import TrustedDirectory
from agent.control.succession import check_succession, unsound
from agent.crypto.jose import PrivateKey
from agent.daemon.loops import keep_directory
from agent.errors import DirectoryRefused, FepError
from agent.pipeline.uplink.exchange import Exchange
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeEntry,
    ExchangeFile,
    NodeEntry,
    RevokedFile,
)
from agent.wire.keys import KeyStatement

AUD = "yunxi.exchange"
OURS = "11990100MB0000018H/rsj-fep1"
PEER = "11990100MB7654321Y/gaj-1"
AT = "2026-11-21T08:00:00Z"
EXCHANGE = PrivateKey.generate("receipt")


class Peer:
    """A node with a chain of statements."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.sign = PrivateKey.generate("sign")
        self.decrypt = PrivateKey.generate("decrypt")
        self.statements = (self.statement(1, self.sign, self.decrypt),)

    def statement(
        self,
        n: int,
        *keys: PrivateKey,
        signer: PrivateKey | None = None,
    ) -> str:
        """Statement n with these keys; its own ``sign`` key signs, unless said."""
        publics = tuple(key.public for key in keys)
        payload = KeyStatement(self.node, n, publics, AT).payload()
        return (signer or self.sign).sign("fep-keys+jws", payload)

    @property
    def kids(self) -> tuple[str, ...]:
        return (self.sign.public.kid, self.decrypt.public.kid)

    def entry(self, *more: str) -> NodeEntry:
        return NodeEntry(self.node, "active", (*self.statements, *more), ())


OUR, THEIR = Peer(OURS), Peer(PEER)


def directory(
    *entries: NodeEntry,
    iat: int = 1000,
    revoked: tuple[str, ...] = (),
    keys: tuple[PrivateKey, ...] = (EXCHANGE,),
) -> Directory:
    """What the exchange signs."""
    departments = {
        entry.node[:18]: DepartmentFile(entry.node[:18], (entry,), {})
        for entry in entries
    }
    known = tuple((key.public, "active") for key in keys)
    return Directory(
        iat=iat,
        departments=departments,
        exchange=ExchangeFile((ExchangeEntry(AUD, ("https://x",), known),)),  # type: ignore[arg-type]
        revoked=RevokedFile(dict.fromkeys(revoked, AT), {}),
    )


GOOD = directory(OUR.entry(), THEIR.entry())


def refused(after: Directory, before: Directory = GOOD) -> str:
    with pytest.raises(DirectoryRefused) as e:
        check_succession(before, after, aud=AUD)
    return e.value.detail


def test_directory_that_drops_a_department_is_refused() -> None:
    """A department once known does not disappear in silence."""
    assert PEER in refused(directory(OUR.entry()))


def test_department_that_is_revoked_aloud_may_go() -> None:
    """Every key of it stands in revoked.json: nothing is taken away in silence."""
    check_succession(GOOD, directory(OUR.entry(), revoked=THEIR.kids), aud=AUD)
    some = directory(OUR.entry(), revoked=THEIR.kids[:1])
    assert THEIR.kids[1] in refused(some)


def test_a_revoked_node_comes_back_only_with_other_keys() -> None:
    """An exchange that forgets that it revoked a node is refused, also if it spoils
    the node's statements in between; a reset revokes each key of before."""
    stopped = RevokedFile({}, {PEER: AT})
    before = replace(GOOD, revoked=stopped)
    assert f"{PEER} revoked" in refused(GOOD, before)
    spoilt = directory(OUR.entry(), THEIR.entry("a.b.c"))
    check_succession(before, replace(spoilt, revoked=stopped), aud=AUD)
    assert f"{PEER} revoked" in refused(GOOD, replace(spoilt, revoked=stopped))
    reset = directory(OUR.entry(), Peer(PEER).entry(), revoked=THEIR.kids)
    check_succession(before, reset, aud=AUD)


def test_directory_that_swaps_a_whole_chain_is_refused() -> None:
    """Another first statement is another node, unless the old keys are revoked."""
    swapped = Peer(PEER)
    assert PEER in refused(directory(OUR.entry(), swapped.entry()))
    reset = directory(OUR.entry(), swapped.entry(), revoked=THEIR.kids)
    check_succession(GOOD, reset, aud=AUD)


def test_directory_that_cuts_a_chain_is_refused() -> None:
    """The newest statement is gone: its keys would be, too."""
    newer = PrivateKey.generate("decrypt")
    longer = THEIR.entry(THEIR.statement(2, THEIR.sign, newer))
    before = directory(OUR.entry(), longer)
    check_succession(GOOD, before, aud=AUD)
    assert newer.public.kid in refused(GOOD, before)


def test_decrypt_key_that_is_swapped_outside_the_chain_is_never_used() -> None:
    """A stranger signed statement 2: the directory holds, that node has no keys."""
    stranger, theirs = PrivateKey.generate("sign"), PrivateKey.generate("decrypt")
    forged = THEIR.statement(2, THEIR.sign, theirs, signer=stranger)
    after = directory(OUR.entry(), THEIR.entry(forged))
    check_succession(GOOD, after, aud=AUD)
    assert unsound(GOOD, after) == (PEER,)
    with pytest.raises(FepError):
        after.encryption_key(PEER)
    assert after.encryption_key(OURS) == OUR.decrypt.public
    assert unsound(after, after, known=(PEER,)) == (PEER,)
    assert unsound(after, GOOD, known=(PEER,)) == ()


def test_directory_that_goes_back_in_time_is_refused() -> None:
    """Going back could unrevoke a key."""
    assert "or later" in refused(directory(OUR.entry(), THEIR.entry(), iat=999))


def test_directory_that_unrevokes_a_key_is_refused() -> None:
    """Once revoked is revoked for ever, also where the clock says that it is newer."""
    before = directory(OUR.entry(), THEIR.entry(), revoked=THEIR.kids[:1])
    after = directory(OUR.entry(), THEIR.entry(), iat=2000)
    assert "revoked" in refused(after, before)


def test_directory_that_loses_a_receipt_key_is_refused() -> None:
    """Receipts of before could not be judged any more."""
    other = PrivateKey.generate("receipt")
    before = directory(OUR.entry(), THEIR.entry(), keys=(EXCHANGE, other))
    assert other.public.kid in refused(GOOD, before)


def test_statement_whose_signature_is_written_anew_is_the_same() -> None:
    """Its signing input counts, not the bytes of a signature."""
    again = THEIR.statement(1, THEIR.sign, THEIR.decrypt)
    assert again != THEIR.statements[0]
    entry = replace(THEIR.entry(), statements=(again,))
    check_succession(GOOD, directory(OUR.entry(), entry), aud=AUD)


# --- the directory in use ------------------------------------------------------------


def signed(found: Directory) -> str:
    return EXCHANGE.sign("fep-directory+jws", found.payload())


def held(folder: Path) -> TrustedDirectory:
    return TrustedDirectory(folder / "directory.jws", aud=AUD, kid=EXCHANGE.public.kid)


def test_last_good_directory_stays_in_use_across_a_restart(tmp_path: Path) -> None:
    """What was refused is shown until a good one comes, and is never kept."""
    found = held(tmp_path)
    found.take(signed(GOOD))
    with pytest.raises(DirectoryRefused):
        found.take(signed(directory(OUR.entry(), iat=1001)))
    assert found.current.node(PEER) is not None
    assert found.refused is not None
    again = held(tmp_path)
    assert again.load()
    with pytest.raises(DirectoryRefused):
        again.take(signed(directory(OUR.entry(), iat=1002)))
    again.take(signed(replace(GOOD, iat=1003)))
    assert again.refused is None


def test_directory_that_was_overtaken_on_its_way_is_no_alarm(tmp_path: Path) -> None:
    """Two were fetched at a time; one of an hour ago is an alarm."""
    found = held(tmp_path)
    found.take(signed(replace(GOOD, iat=5000)))
    with pytest.raises(DirectoryRefused):
        found.take(signed(replace(GOOD, iat=4990)))
    assert found.refused is None
    with pytest.raises(DirectoryRefused):
        found.take(signed(replace(GOOD, iat=1400)))
    assert found.refused is not None


def test_a_directory_of_a_time_to_come_does_not_bar_those_of_now(
    tmp_path: Path,
) -> None:
    """The exchange's clock was ahead for an hour: nothing after it would be newer."""
    found = TrustedDirectory(
        tmp_path / "directory.jws", aud=AUD, kid=EXCHANGE.public.kid, now=lambda: 2000
    )
    with pytest.raises(DirectoryRefused, match="compare the clocks"):
        found.take(signed(replace(GOOD, iat=5600)))
    assert found.refused is not None
    found.take(signed(replace(GOOD, iat=2300)))
    assert found.refused is None


async def test_alarm_is_told_once(tmp_path: Path) -> None:
    """A department that disappears, a chain that is broken: one line each."""
    found = held(tmp_path)
    found.take(signed(GOOD))
    forged = THEIR.statement(2, THEIR.sign, signer=PrivateKey.generate("sign"))
    answers = [
        signed(directory(OUR.entry(), iat=1001)),
        signed(directory(OUR.entry(), THEIR.entry(forged), iat=1002)),
    ]
    told: asyncio.Queue[Event] = asyncio.Queue()
    asked = 0

    class Liar:
        async def directory(self) -> str:
            nonlocal asked
            asked += 1
            return answers[asked // 3 % 2]

    async def at_once(_: float) -> None:
        found.wanted.set()
        await asyncio.sleep(0)

    found.wanted.set()
    keeping = asyncio.create_task(
        keep_directory(found, cast("Exchange", Liar()), told.put_nowait, sleep=at_once)
    )
    async with asyncio.timeout(60):
        first, second = await told.get(), await told.get()
    keeping.cancel()
    await asyncio.wait({keeping})
    assert isinstance(first, DirectoryKept)
    assert second == PeerUnsound(PEER)
    assert asked >= 3
