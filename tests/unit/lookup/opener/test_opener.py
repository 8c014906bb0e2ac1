# SPDX-License-Identifier: Apache-2.0
"""The opener's process: what it finds is what the daemon would find; it may be lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from agent.child.frames import Frames, frame_of
from agent.child.process import Guard
from agent.crypto import jwe
from agent.crypto.jose import PrivateKey, PublicKey, Unverified, Verified
from agent.crypto.jwe import Sealed
from agent.errors import (
    BadSignature,
    MalformedMessage,
    PeerFault,
    Undecryptable,
    WorkerDied,
)
from agent.lookup.opener.inside import serve
from agent.lookup.opener.process import OPENER, Opener
from agent.lookup.opener.talk import CAP, Kind, ask_body, keys_body, keys_of
from agent.lookup.verify import uncover
from agent.wire.lookup import REQUEST_CAP, REQUEST_TYP, Reply
from tests.support.lookup import CONSUMER, PROVIDER, World
from tests.support.opener import opened, openers
from tests.support.requester import Party, Requester, forged, template

pytestmark = pytest.mark.asyncio(loop_scope="module")

WE, THEY = Party(PROVIDER), Party(CONSUMER)
ASKER = Requester(
    THEY,
    WE,
    template(CONSUMER, PROVIDER, jti="01939f5e-7c00-7000-8000-000000000001", iat=1),
)
JWS = ASKER.sign(ASKER.request())
INPUT = JWS.rpartition(".")[0]
KEYS = {WE.decrypt.public.kid: WE.decrypt}
THEIRS = tuple(k.public for k in (THEY.tls, THEY.decrypt, THEY.sign))
OTHERS = (PrivateKey.generate("sign").public,)


def taken_apart(text: str) -> Sealed:
    """A sealed text, its form checked."""
    return jwe.split_sealed(text, cap=REQUEST_CAP)


GOOD = taken_apart(ASKER.seal(JWS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opener() -> AsyncIterator[Opener]:
    """One process, to which nothing of this module may do harm."""
    opener = Opener([WE.decrypt])
    async with opened(opener) as life:
        yield opener
        assert opener.up
        assert not life.done()


# --- what it finds ------------------------------------------------------------------


async def test_a_good_request_comes_back_verified(opener: Opener) -> None:
    """Its key is among those of the consumer."""
    found = await opener.open(GOOD, THEIRS)
    assert isinstance(found, Verified)
    assert found == uncover(GOOD, keys=KEYS, candidates=THEIRS)
    assert (found.kid, found.text) == (THEY.sign.public.kid, JWS)


@pytest.mark.parametrize("candidates", [(), OTHERS, THEIRS[:2]])
async def test_without_its_key_nothing_is_vouched_for(
    opener: Opener, candidates: tuple[PublicKey, ...]
) -> None:
    """The daemon gets it unverified, and judges."""
    found = await opener.open(GOOD, candidates)
    assert isinstance(found, Unverified)
    assert found == uncover(GOOD, keys=KEYS)


def signed(key: PrivateKey = THEY.sign, **header: object) -> Sealed:
    """A request with another header, or of another key."""
    members = {"alg": "ES256", "kid": THEY.sign.public.kid, "typ": REQUEST_TYP}
    payload = ASKER.request().payload()
    return taken_apart(ASKER.seal(forged(members | header, payload, key=key)))


def part(n: int) -> Sealed:
    """The good one, with a byte of a part turned over."""
    parts = list(GOOD.parts)
    parts[n] = bytes([parts[n][0] ^ 1]) + parts[n][1:]
    return replace(GOOD, parts=(parts[0], parts[1], parts[2], parts[3]))


FAULTS: dict[str, tuple[type[PeerFault], Callable[[], Sealed]]] = {
    "foreign key": (BadSignature, lambda: signed(WE.sign)),
    "alg none": (BadSignature, lambda: signed(alg="none")),
    "alg of lone halves": (BadSignature, lambda: signed(alg="\ud800\n")),
    "no signature": (
        MalformedMessage,
        lambda: taken_apart(ASKER.seal(f"{INPUT}.x")),
    ),
    "short signature": (BadSignature, lambda: taken_apart(ASKER.seal(f"{INPUT}.AAAA"))),
    "another key": (Undecryptable, lambda: replace(GOOD, kid="A" * 43)),
    "a kid of no form": (Undecryptable, lambda: replace(GOOD, kid="\n张\n")),
    "other header": (Undecryptable, lambda: replace(GOOD, head="张" + GOOD.head)),
    "key turned": (Undecryptable, lambda: part(0)),
    "nonce turned": (Undecryptable, lambda: part(1)),
    "body turned": (Undecryptable, lambda: part(2)),
    "tag turned": (Undecryptable, lambda: part(3)),
    "no point": (MalformedMessage, lambda: replace(GOOD, epk=bytes(65))),
    "cty": (MalformedMessage, lambda: replace(GOOD, cty="fep-batch+jws")),
    "typ": (MalformedMessage, lambda: signed(typ="fep-batch+jws")),
    "member": (MalformedMessage, lambda: signed(jku="https://x/")),
    "no header": (MalformedMessage, lambda: taken_apart(ASKER.seal("a.b.c"))),
    "no JWS": (MalformedMessage, lambda: taken_apart(ASKER.seal("hello"))),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_arrives_as_it_would_here(opener: Opener, name: str) -> None:
    """Class and words are those of the daemon's own work."""
    expected, make = FAULTS[name]
    sealed = make()
    with pytest.raises(expected) as here:
        uncover(sealed, keys=KEYS, candidates=THEIRS)
    with pytest.raises(expected) as there:
        await opener.open(sealed, THEIRS)
    assert type(there.value) is type(here.value) is expected
    assert there.value.detail == here.value.detail


async def test_the_largest_requests_at_once_do_not_stop_each_other(
    opener: Opener,
) -> None:
    """Both ways are full at a time; good and bad ones each get their answer."""
    room = jwe.most_inside(REQUEST_CAP)
    long = THEY.sign.sign(REQUEST_TYP, b"x" * (room * 3 // 4 - 300))
    whole = taken_apart(ASKER.seal(long))
    broken = replace(whole, kid="A" * 43)
    asked = [opener.open(s, THEIRS) for s in (whole, GOOD, broken) * 16]
    async with asyncio.timeout(60):
        found = await asyncio.gather(*asked, return_exceptions=True)
    texts = [f.text if isinstance(f, Verified) else type(f) for f in found]
    assert texts == [long, JWS, Undecryptable] * 16


async def test_one_who_does_not_wait_harms_nobody(opener: Opener) -> None:
    """His answer is thrown away."""
    gone = [asyncio.create_task(opener.open(GOOD, THEIRS)) for _ in range(5)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    assert isinstance(await opener.open(GOOD, THEIRS), Verified)
    assert all(task.cancelled() for task in gone)


# --- what it is ---------------------------------------------------------------------


async def test_it_has_nothing_to_leave_behind() -> None:
    """No core file, no variable of the daemon's, no argument but a number."""
    before = openers()
    environ = {**os.environ, "HOME": "/root", "FEP_SECRET": "x"}
    async with opened(Opener([WE.decrypt], environ=environ)):
        (pid,) = openers() - before
        folder = Path(f"/proc/{pid}")
        limits = (folder / "limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core")]
        assert core[4:6] == ["0", "0"]
        words = (folder / "cmdline").read_bytes().split(b"\0")
        assert words[-3] == b"agent.lookup.opener"
        assert words[-2].isdigit()
        names = [
            v.partition(b"=")[0] for v in (folder / "environ").read_bytes().split(b"\0")
        ]
        assert not {b"HOME", b"FEP_SECRET"} & set(names)
    assert openers() == before


async def test_only_what_opens_requests_reaches_it() -> None:
    """A key that signs is refused before there is a process."""
    for key in (WE.sign, WE.tls):
        with pytest.raises(ValueError, match="decrypt only"):
            Opener([WE.decrypt, key])
    assert keys_of(keys_body([WE.decrypt])).keys() == KEYS.keys()
    assert WE.decrypt.pem().decode() not in repr(vars(Opener([WE.decrypt])))


async def test_without_the_daemon_it_ends() -> None:
    """Its end of the line is enough."""
    ours, theirs = socket.socketpair()
    with theirs:
        fd = theirs.fileno()
        process = await asyncio.create_subprocess_exec(*OPENER, str(fd), pass_fds=[fd])
    with ours:
        ours.sendall(frame_of(Kind.KEYS, 0, keys_body([WE.decrypt])))
        assert ours.recv(99) == frame_of(Kind.READY, 0, b"")
        assert process.returncode is None
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_it_waits_for_a_daemon_that_is_slow_to_read() -> None:
    """Answers that nobody takes for a while are no fault, silence is none either."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    long = taken_apart(ASKER.seal(THEY.sign.sign(REQUEST_TYP, b"x" * 500_000)))
    asked = frame_of(Kind.KEYS, 0, keys_body([WE.decrypt])) + b"".join(
        frame_of(Kind.ASK, n, ask_body(long, THEIRS)) for n in range(1, 6)
    )
    threads = [
        threading.Thread(
            target=serve, args=(theirs,), kwargs={"beat_s": 0.02}, daemon=True
        ),
        threading.Thread(target=ours.sendall, args=(asked,), daemon=True),
    ]
    for thread in threads:
        thread.start()
    await asyncio.sleep(0.2)
    frames, kinds = Frames(CAP), list[int]()
    while kinds.count(Kind.VERIFIED) < 5 or kinds[-1] != Kind.BEAT:
        kinds += [frame.kind for frame in frames.of(ours.recv(1 << 18))]
    ours.close()
    for thread in threads:
        thread.join(20)
    theirs.close()
    assert set(kinds) == {Kind.READY, Kind.VERIFIED, Kind.BEAT}


# --- it dies, it lies ---------------------------------------------------------------


def world_of(folder: Path, opener: Opener) -> World:
    """A department that has this opener."""
    return World(folder, provider=WE, opener=opener)


async def test_the_flow_judges_what_is_opened(tmp_path: Path, opener: Opener) -> None:
    """Also when the consumer's key is only in the directory of now."""
    world = world_of(tmp_path, opener)
    world.newer, old = world.directory, dict(world.directory.departments)
    del old[CONSUMER.partition("/")[0]]
    world.directory = replace(world.directory, departments=old)
    async with world.serving():
        for renewals in (1, 1):
            found = await world.ask(fields=("name",))
            assert isinstance(found, Reply)
            assert (found.status, world.renewals) == ("ok", renewals)


async def test_a_killed_opener_costs_nobody_an_answer(tmp_path: Path) -> None:
    """Who waited is told at once, and the daemon does the work."""
    before, opener = openers(), Opener([WE.decrypt])
    world = world_of(tmp_path, opener)
    async with world.serving(), opened(opener) as life:
        (pid,) = openers() - before
        os.kill(pid, signal.SIGSTOP)
        waiting = asyncio.create_task(opener.open(GOOD, THEIRS))
        asked = [asyncio.create_task(world.ask(fields=("name",))) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in (waiting, *asked))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied):
            await waiting
        found = await asyncio.gather(*asked)
        assert [f.status for f in found if isinstance(f, Reply)] == ["ok"] * 3
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await life
        assert not opener.up
        with pytest.raises(WorkerDied, match="not up"):
            await opener.open(GOOD, THEIRS)
        found = [await world.ask(fields=("name",))]
        assert [f.status for f in found if isinstance(f, Reply)] == ["ok"]
        assert world.flow.trouble is None


async def test_one_that_was_given_up_is_followed_by_another() -> None:
    """Its numbers begin where the last one's ended."""
    before, opener = openers(), Opener([WE.decrypt])
    for _ in range(2):
        async with opened(opener):
            assert isinstance(await opener.open(GOOD, THEIRS), Verified)
        assert openers() == before


READY = frame_of(Kind.READY, 0, b"")
BAD_KID = f"{'A' * 43}\nsha256:{'0' * 64}\n{JWS}".encode()
OUR_KID = f"{THEY.sign.public.kid}\nsha256:{'0' * 64}\n"
LIES = {
    "no kind": frame_of(99, 1, b""),
    "the daemon's kind": frame_of(Kind.ASK, 1, b""),
    "too long": b"\x7f\xff\xff\xff\x03\0\0\0\1",
    "nobody asked": frame_of(Kind.UNVERIFIED, 999, JWS.encode()),
    "a fault of its own": frame_of(Kind.FAULT, 1, b"internal\nx"),
    "no fault": frame_of(Kind.FAULT, 1, b""),
    "no text": frame_of(Kind.UNVERIFIED, 1, b"\xff"),
    "no message": frame_of(Kind.UNVERIFIED, 1, b"hello"),
    "verified nothing": frame_of(Kind.VERIFIED, 1, b""),
    "verified no message": frame_of(Kind.VERIFIED, 1, f"{OUR_KID}hello".encode()),
    "verified no base64": frame_of(Kind.VERIFIED, 1, f"{OUR_KID}a.=.b".encode()),
    "verified by nobody": frame_of(Kind.VERIFIED, 1, BAD_KID),
}
ODD = "import socket,sys,time;s=socket.socket(fileno=int(sys.argv[1]));"


def odd(act: str, guard: Guard | None = None) -> Opener:
    """A program in an opener's place: it says it is ready, waits, and then acts."""
    wait = f"s.recv(1<<20);s.sendall({READY!r});s.recv(1<<20);"
    command = (sys.executable, "-I", "-c", f"{ODD}{wait}{act};time.sleep(60)")
    return Opener([WE.decrypt], command=command, guard=guard or Guard())


@pytest.mark.parametrize("name", LIES)
async def test_an_opener_that_lies_is_ended(tmp_path: Path, name: str) -> None:
    """What it says counts for nothing; the daemon finds out by itself."""
    opener = odd(f"s.sendall({LIES[name]!r})")
    world = world_of(tmp_path, opener)
    async with world.serving(), opened(opener) as life:
        found = await asyncio.wait_for(world.ask(fields=("name",)), 60)
        assert isinstance(found, Reply)
        assert found.status == "ok"
        assert not opener.up
        with pytest.raises(WorkerDied, match="the protocol does not have"):
            await life
        assert world.flow.trouble is None


async def test_a_second_answer_ends_it() -> None:
    """The first one stands; nobody waits for another."""
    answer = frame_of(Kind.FAULT, 1, b"bad-signature\nx")
    opener = odd(f"s.sendall({answer!r}*2)")
    async with opened(opener) as life:
        with pytest.raises(BadSignature, match="x"):
            await opener.open(GOOD, THEIRS)
        with pytest.raises(WorkerDied, match="the protocol does not have"):
            await life


async def test_an_answer_before_a_question_ends_it() -> None:
    """Numbers cannot be guessed ahead."""
    answer = frame_of(Kind.UNVERIFIED, 1, JWS.encode())
    program = f"{ODD}s.sendall({answer!r});time.sleep(60)"
    opener = Opener([WE.decrypt], command=(sys.executable, "-I", "-c", program))
    with pytest.raises(WorkerDied, match="the protocol does not have"):
        await opener.live()


@pytest.mark.parametrize("act", ["s.close()", "s.shutdown(socket.SHUT_WR)"])
async def test_who_waits_is_told_as_soon_as_the_line_is_cut(act: str) -> None:
    """Not when the process has come to its end, which may take seconds."""
    opener = odd(act)
    async with opened(opener) as life:
        async with asyncio.timeout(3):
            with pytest.raises(WorkerDied):
                await opener.open(GOOD, THEIRS)
        assert not opener.up
        assert not life.done()


async def test_one_that_hangs_is_given_up() -> None:
    """No sign of life: who waited opens it himself."""
    opener = odd("time.sleep(60)", Guard(silence_s=0.2, poll_s=0.05))
    async with opened(opener) as life:
        with pytest.raises(WorkerDied):
            await opener.open(GOOD, THEIRS)
        with pytest.raises(WorkerDied, match="no message"):
            await life
