# SPDX-License-Identifier: Apache-2.0
"""The door's process: answered, killed, renewed; and one that lies."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.child.frames import frame_of
from agent.crypto import jwe
from agent.crypto.jose import PrivateKey
from agent.crypto.jwe import Parcel, Sealed
from agent.errors import ConfigInvalid, ListenerDied
from agent.lookup.door.process import Door, Seams, Watch
from agent.lookup.door.talk import Opening
from agent.retry import Backoff
from agent.wire.lookup import REPLY_CAP, REPLY_TYP, REQUEST_TYP
from agent.wire.problem import Problem
from tests.support.door import AUD, Daemon, door_of, listening, opening_of
from tests.support.lookup import World
from tests.support.tls import Authority, Pair

NODE, PEER = "11990100MB0000018H/rsj-fep1", "11990100MB0000027F/ybj-fep1"
KEY = PrivateKey.generate("decrypt")
SEALED = jwe.seal("a.b.c", to=KEY.public, cty=REQUEST_TYP, iss=PEER, aud=NODE)


@dataclass(frozen=True)
class Office:
    """A CA, our certificate, the exchange's."""

    authority: Authority
    node: Pair
    exchange: Pair

    def opening(self, **changes: Any) -> Opening:
        """How to listen."""
        return replace(opening_of(self.authority.cert, self.node), **changes)

    def tls(self) -> ssl.SSLContext:
        """The exchange's."""
        tls = ssl.create_default_context(cafile=self.authority.cert)
        tls.check_hostname = False
        tls.load_cert_chain(self.exchange.cert, self.exchange.key)
        return tls

    async def post(
        self, port: int, body: str = SEALED, *, path: str = "/v1/lookups"
    ) -> tuple[int, str]:
        """Ask as the exchange; status and body."""
        line = aiohttp.TCPConnector(ssl=self.tls())
        async with (
            aiohttp.ClientSession(connector=line) as session,
            session.post(
                f"https://127.0.0.1:{port}{path}",
                data=body.encode(),
                headers={"Content-Type": "application/jose"},
            ) as found,
        ):
            return found.status, await found.text()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """One of each test's own."""
    authority = Authority(tmp_path)
    return Office(
        authority,
        authority.named("node", f"fep:node/{NODE}", address="127.0.0.1"),
        authority.named("exchange", f"fep:exchange/{AUD}"),
    )


@dataclass
class Flow:
    """Answers always the same; notes what it was asked, and by which gate it waits."""

    asked: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    answer: Parcel | Problem = field(
        default_factory=lambda: Parcel(
            "r.s.t", to=KEY.public, cty=REPLY_TYP, iss=NODE, aud=PEER, least=4096
        )
    )

    async def __call__(self, sealed: Sealed) -> Parcel | Problem:
        self.asked.append(sealed.text)
        if self.gate is not None:
            await self.gate.wait()
        self.done.append(sealed.text)
        return self.answer


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.01)


def doors() -> list[int]:
    """Our children that are doors."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [int(c) for task in tasks for c in task.read_text().split()]
    return [
        c
        for c in children
        if b"agent.lookup.door" in Path(f"/proc/{c}/cmdline").read_bytes()
    ]


async def test_what_the_daemon_signed_is_sealed_in_the_door(office: Office) -> None:
    """The text comes as it was sent; the reply opens with the consumer's key."""
    flow, codes = Flow(), list[str]()
    daemon = Daemon(flow, codes.append)
    async with listening(door_of(office.opening(), daemon), daemon) as port:
        status, text = await office.post(port)
        assert (status, flow.asked) == (200, [SEALED])
        sealed = jwe.split_sealed(text, cap=REPLY_CAP)
        assert (sealed.iss, sealed.aud, sealed.open(KEY)) == (NODE, PEER, "r.s.t")
        flow.answer = Problem("busy", 429, "too many")
        status, text = await office.post(port)
        assert (status, "urn:fep:problem:busy" in text) == (429, True)
        assert (await office.post(port, "hello"))[0] == 400
        await until(lambda: codes == ["malformed"])
        assert len(flow.asked) == 2
    assert doors() == []


async def test_headers_that_never_end_do_not_keep_the_doors_line(
    office: Office,
) -> None:
    """Slowloris at the real door; one whose answer is slow stays (``lines``)."""
    flow = Flow(gate=asyncio.Event())
    assert flow.gate is not None
    daemon = Daemon(flow)
    door = door_of(office.opening(idle_s=0.4), daemon)
    async with listening(door, daemon) as port:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=office.tls()
        )
        writer.write(b"POST /v1/lookups HTTP/1.1\r\nHost: x\r\n")
        slow = asyncio.create_task(office.post(port))

        async def drip() -> None:
            while True:
                writer.write(b"X-Y: z\r\n")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(60):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        dripping.cancel()
        assert not slow.done()
        flow.gate.set()
        assert (await slow)[0] == 200


async def test_what_the_door_refuses_is_counted_by_the_flow(
    office: Office, tmp_path: Path
) -> None:
    """With what the daemon refuses itself: in today's counts and in the log."""
    world = World(tmp_path / "world")
    world.folder.mkdir()
    async with world.serving() as flow:
        daemon = Daemon(flow.decided, flow.refused)
        async with listening(door_of(office.opening(), daemon), daemon) as port:
            assert (await office.post(port, "hello"))[0] == 400
            assert (await office.post(port, path="/"))[0] == 404
            assert (await office.post(port))[0] == 422  # sealed to another key
            assert (await office.post(port, world.asker.ask()))[0] == 200
            await until(lambda: flow.counts().refused == 3)
        await flow.record_refused()
        (record,) = await world.records("lookup.refused")
    assert record["codes"] == {"bad-signature": 1, "malformed": 1, "not-found": 1}
    assert flow.counts().answered + flow.counts().denied == 1


async def test_it_has_nothing_to_leave_behind(office: Office) -> None:
    """No core file, no variable of the daemon's, no argument but a number."""
    daemon = Daemon(Flow())
    async with listening(door_of(office.opening(), daemon), daemon):
        (pid,) = doors()
        folder = Path(f"/proc/{pid}")
        limits = (folder / "limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core")]
        assert core[4:6] == ["0", "0"]
        words = (folder / "cmdline").read_bytes().split(b"\0")
        assert words[-3] == b"agent.lookup.door"
        assert words[-2].isdigit()
        names = [
            v.partition(b"=")[0] for v in (folder / "environ").read_bytes().split(b"\0")
        ]
        assert b"HOME" not in names


async def test_a_killed_door_is_followed_by_another(office: Office) -> None:
    """It is told; who waited sees the end of the line; what was asked is finished."""
    flow = Flow(gate=asyncio.Event())
    daemon = Daemon(flow)
    async with listening(door_of(office.opening(), daemon), daemon) as port:
        waiting = asyncio.create_task(office.post(port))
        await until(lambda: bool(flow.asked))
        os.kill(doors()[0], signal.SIGKILL)
        with pytest.raises(aiohttp.ClientError):
            await waiting
        fault = await daemon.faults.get()
        assert isinstance(fault, ListenerDied)
        assert "SIGKILL" in fault.detail
        assert flow.gate is not None
        flow.gate.set()
        port = await daemon.ports.get()
        assert (await office.post(port))[0] == 200
        assert len(flow.done) == 2


async def test_a_new_certificate_is_shown_without_a_loss(office: Office) -> None:
    """The old door gives the answers that it still gets; nothing is a fault."""
    flow = Flow(gate=asyncio.Event())
    daemon = Daemon(flow)
    door = door_of(office.opening(), daemon, renew_s=0.02)
    async with listening(door, daemon) as port:
        waiting = asyncio.create_task(office.post(port))
        await until(lambda: bool(flow.asked))
        (old,) = doors()
        new = office.authority.named("new", f"fep:node/{NODE}", address="127.0.0.1")
        shutil.copy(new.key, office.node.key)
        new.cert.replace(office.node.cert)
        await asyncio.sleep(0.1)
        assert flow.gate is not None
        flow.gate.set()
        assert (await waiting)[0] == 200
        port = await daemon.ports.get()
        assert doors() != [old]
        tls = ssl.create_default_context(cafile=office.authority.cert)
        tls.check_hostname = False
        tls.load_cert_chain(office.exchange.cert, office.exchange.key)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert shown == ssl.PEM_cert_to_DER_cert(office.node.cert.read_text())
        writer.transport.abort()
    assert daemon.faults.empty()


async def test_an_address_in_use_is_told_and_tried_again(office: Office) -> None:
    """A fault of the settings, with its name, until the address is free."""
    daemon = Daemon(Flow())
    async with listening(door_of(office.opening(), daemon), daemon) as port:
        other = Daemon(Flow())
        task = asyncio.create_task(door_of(office.opening(port=port), other).forever())
        fault = await other.faults.get()
        assert isinstance(fault, ConfigInvalid)
        assert str(port) in fault.detail
    assert await other.ports.get() == port
    task.cancel()
    await asyncio.wait({task})


LIES = {
    "no kind": b"\0\0\0\0\x63\0\0\0\0",
    "too long": b"\x7f\xff\xff\xff\x07\0\0\0\1",
    "a code of its own": b"\0\0\0\3\x08\0\0\0\0abc",
    "no sealed message": b"\0\0\0\1\x07\0\0\0\1\xff",
}
ODD = "import socket,sys;s=socket.socket(fileno=int(sys.argv[1]));{};s.recv(9999);"


@pytest.mark.parametrize("name", LIES)
async def test_a_door_that_lies_is_ended(office: Office, name: str) -> None:
    """Whoever took it over cannot say what the protocol does not have."""
    flow, codes = Flow(), list[str]()
    daemon = Daemon(flow, codes.append)
    act = f"s.sendall({LIES[name]!r});import time;time.sleep(60)"
    fault = await first_fault(office, daemon, ODD.format(act))
    assert "the protocol does not have" in fault
    assert (flow.asked, codes) == ([], [])


async def test_a_door_that_floods_is_ended(office: Office) -> None:
    """No more is taken up than it was told."""
    flow = Flow(gate=asyncio.Event())
    body = jwe.split_sealed(SEALED, cap=REPLY_CAP).packed()
    act = f"s.sendall({frame_of(7, 1, body)!r}*999);import time;time.sleep(60)"
    fault = await first_fault(office, Daemon(flow), ODD.format(act))
    assert "the protocol does not have" in fault
    assert len(flow.asked) <= 2 * 256 + 1
    assert flow.gate is not None
    flow.gate.set()


async def test_a_door_that_is_silent_is_ended(office: Office) -> None:
    """It gives no sign of life."""
    program = ODD.format("import time;time.sleep(60)")
    fault = await first_fault(office, Daemon(Flow()), program, silence_s=0.2)
    assert "no message" in fault


async def first_fault(
    office: Office, daemon: Daemon, program: str, **watch: float
) -> str:
    """Why a program in place of the door was given up."""
    limits = Watch(restart=Backoff(60, 60), **watch)  # type: ignore[arg-type]
    seams = Seams(
        uniform=lambda _, b: b, command=(sys.executable, "-c", program), watch=limits
    )
    task = asyncio.create_task(Door(office.opening(), daemon.hooks(), seams).forever())
    fault = await asyncio.wait_for(daemon.faults.get(), 60)
    task.cancel()
    await asyncio.wait({task})
    assert isinstance(fault, ListenerDied)
    return fault.detail
