# SPDX-License-Identifier: Apache-2.0
"""``GET /v1/channel``: one for a node, strict frames, pings, nudges, how it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract.exchange.conftest import enrolled
from tests.support.exchange_client import GAJ, Node
from tests.support.lookup_client import Caller, Provider, asked, calling
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

FRAME_CAP = 4 << 20
PING_S = 1
REPLACED, REVOKED, GOING = 4001, 4003, 1001
GARBAGE, TOO_BIG = 1007, 1009


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """An exchange that pings every second."""
    folder = tmp_path_factory.mktemp("exchange")
    options = folder / "options.toml"
    options.write_text(f"ping_s = {PING_S}\n")
    with running_sandbox(folder, "--config", str(options)) as found:
        yield found


@pytest.fixture
async def consumer(node: Node) -> AsyncIterator[Caller]:
    async with calling(node) as found:
        yield found


@pytest.fixture
async def caller(stranger: Node) -> AsyncIterator[Caller]:
    """The provider's node, without a channel yet."""
    async with calling(stranger) as found:
        yield found


async def works(consumer: Caller, provider: Provider) -> None:
    """A request goes to this channel and its reply back."""
    waiting = consumer.ask(asked(consumer.node, provider.node))
    made = await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).body == made


# --- opening ----------------------------------------------------------------------


async def test_newer_connection_closes_the_older(
    consumer: Caller, caller: Caller
) -> None:
    """What waited on the older one is told; the newer one gets what comes now."""
    async with caller.channel() as older:
        lost = consumer.ask(asked(consumer.node, caller.node))
        await older.frame()
        async with caller.channel() as newer:
            assert (await lost).problem == (503, "no-channel")
            assert (await older.ended())[0] == REPLACED
            await works(consumer, newer)


async def test_older_connection_that_ends_late_harms_nobody(
    consumer: Caller, caller: Caller
) -> None:
    """Its end does not take the newer one's place away."""
    async with caller.channel() as older, caller.channel() as newer:
        await older.line.close()
        await works(consumer, newer)


async def test_other_subprotocols_are_refused(caller: Caller) -> None:
    """Also none at all."""
    for protocols in ((), ("fep.v2",), ("chat",)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with caller.channel(protocols=protocols):
                pass
        assert refused.value.status == 400


async def test_plain_get_is_malformed(stranger: Node) -> None:
    """The route is for WebSockets only."""
    told = stranger.get("/v1/channel")
    assert (told.status, told.problem) == (400, "malformed")


async def test_channel_needs_a_certificate(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """401 for whoever shows none."""
    bare = Node(sandbox.address, sandbox.ca, tmp_path)
    async with calling(bare) as caller:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with caller.channel():
                pass
    assert refused.value.status == 401


async def test_nothing_is_deflated(consumer: Caller, caller: Caller) -> None:
    """A client that offers permessage-deflate does not get it."""
    async with caller.channel(compress=15) as provider:
        assert provider.line.compress == 0
        assert provider.line.protocol == "fep.v1"
        await works(consumer, provider)


# --- frames -----------------------------------------------------------------------

PROBLEM = {"type": "urn:fep:problem:busy", "status": 503}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '{"t":"res"}',
        '{"t":"res","id":"1"}',
        '{"t":"res","id":1,"body":"x"}',
        '{"t":"res","id":"1","body":{}}',
        '{"t":"res","id":"1","body":""}',
        '{"t":"res","id":"1","id":"1","body":"x"}',
        '{"t":"res","id":"1","body":"x","more":1}',
        '{"t":"res","id":"1","body":"\\ud800"}',
        '{"t":"res","id":"1","body":1e3}',
        json.dumps({"t": "req", "id": "1", "body": "x"}),
        json.dumps({"t": "nudge"}),
        json.dumps({"t": "err", "id": "1", "body": "x"}),
        json.dumps({"t": "err", "id": "1", "body": {"type": "about:blank"}}),
        json.dumps({"t": "err", "id": "1", "body": PROBLEM | {"status": 200}}),
        json.dumps({"t": "err", "id": "1", "body": PROBLEM | {"status": 99999}}),
        json.dumps({"t": "err", "id": "1", "body": PROBLEM | {"status": "503"}}),
        "[" * 100_000,
    ],
)
async def test_frame_of_another_shape_closes_the_channel(
    caller: Caller, text: str
) -> None:
    """Whatever it is: the exchange goes on, the channel does not."""
    async with caller.channel() as provider:
        await provider.line.send_str(text)
        assert (await provider.ended())[0] == GARBAGE


async def test_binary_message_closes_the_channel(caller: Caller) -> None:
    """Frames are text."""
    async with caller.channel() as provider:
        await provider.line.send_bytes(b'{"t":"res","id":"1","body":"x"}')
        assert (await provider.ended())[0] == GARBAGE


async def test_answer_that_nobody_waits_for_is_ignored(
    consumer: Caller, caller: Caller
) -> None:
    """It may be late; ids are not guessed into anything either."""
    async with caller.channel() as provider:
        for number in ("0", "1", "999999", "x" * 64):
            await provider.send(t="res", id=number, body="x")
            await provider.send(t="err", id=number, body=PROBLEM)
        await works(consumer, provider)


def frame_of(size: int) -> str:
    head = '{"t":"res","id":"999999","body":"'
    return head + "x" * (size - len(head) - 2) + '"}'


async def test_message_of_4_mib_is_taken(consumer: Caller, caller: Caller) -> None:
    """The cap itself is allowed."""
    async with caller.channel() as provider:
        await provider.line.send_str(frame_of(FRAME_CAP))
        await works(consumer, provider)


async def test_message_above_4_mib_closes_the_channel(caller: Caller) -> None:
    """1009, and what comes after is not read."""
    async with caller.channel() as provider:
        await provider.line.send_str(frame_of(FRAME_CAP + 1))
        assert (await provider.ended())[0] == TOO_BIG


async def test_garbage_ends_the_waits_of_that_channel(
    consumer: Caller, caller: Caller
) -> None:
    """503 at once for those whose provider went mad."""
    async with caller.channel() as provider:
        waiting = consumer.ask(asked(consumer.node, caller.node))
        await provider.frame()
        await provider.line.send_str("garbage")
        assert (await waiting).problem == (503, "no-channel")


# --- life -------------------------------------------------------------------------


async def test_exchange_pings(caller: Caller) -> None:
    """Every so often; the test's exchange every second."""
    async with caller.channel(autoping=False) as provider:
        message = await provider.line.receive(timeout=PING_S * 3)
        assert message.type is aiohttp.WSMsgType.PING


async def test_dead_provider_is_given_up(
    sandbox: SandboxProcess, caller: Caller
) -> None:
    """No pong: it holds no channel any more."""
    async with caller.channel(autoping=False):
        until = time.monotonic() + PING_S * 5
        while caller.node.node in sandbox.state()["channels"]:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)


async def test_nudge_has_nothing_but_its_name(
    sandbox: SandboxProcess, caller: Caller
) -> None:
    """Poll position and directory: an admin can say so."""
    async with caller.channel() as provider:
        sandbox.ask("POST", "/nudge")
        assert await provider.line.receive_str(timeout=5) == '{"t":"nudge"}'


async def test_providers_are_nudged_when_keys_change(
    sandbox: SandboxProcess, caller: Caller, tmp_path: Path
) -> None:
    """A new node's keys, and a revocation, are worth a look at the directory."""
    async with caller.channel() as provider:
        gone = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/gone1")
        assert await provider.line.receive_str(timeout=5) == '{"t":"nudge"}'
        sandbox.ask("POST", "/revoke", {"kid": gone.key.kid})
        assert await provider.line.receive_str(timeout=5) == '{"t":"nudge"}'


async def test_revoked_certificate_loses_its_channel(
    sandbox: SandboxProcess, consumer: Caller, tmp_path: Path
) -> None:
    """At once, with what waits for it; it cannot come back."""
    gone = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/gone2")
    async with calling(gone) as caller, caller.channel() as provider:
        waiting = consumer.ask(asked(consumer.node, gone))
        await provider.frame()
        sandbox.ask("POST", "/revoke", {"kid": gone.tls.kid})
        assert (await waiting).problem == (503, "no-channel")
        assert (await provider.ended())[0] == REVOKED
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with caller.channel():
                pass
    assert refused.value.status == 401


async def test_slow_reader_delays_nobody_else(
    sandbox: SandboxProcess, consumer: Caller, caller: Caller, tmp_path: Path
) -> None:
    """A provider that reads nothing holds up its own requests only."""
    stuck = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/stuck")
    items = [{"keys": {"id": f"{i:018}" + "x" * 500}} for i in range(900)]
    async with calling(stuck) as other, other.channel() as silent:
        silent.transport.pause_reading()
        big = asked(consumer.node, stuck, items=items)
        waiting = [consumer.ask(big) for _ in range(16)]
        async with caller.channel() as provider:
            began = time.monotonic()
            for _ in range(5):
                await works(consumer, provider)
            assert time.monotonic() - began < 2
        silent.transport.abort()
        assert {(await task).problem for task in waiting} == {(503, "no-channel")}


async def test_channels_come_back_after_a_kill(
    tmp_path: Path,
) -> None:
    """``kill -9`` of the exchange: the old line is dead, a new one works."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        left = enrolled(sandbox, tmp_path / "left")
        right = enrolled(sandbox, tmp_path / "right", node=GAJ)
        async with calling(left) as consumer, calling(right) as caller:
            async with caller.channel() as provider:
                lost = consumer.ask(asked(left, right))
                await provider.frame()
                sandbox.kill()
                with pytest.raises(aiohttp.ClientError):
                    await lost
                await provider.ended()
            sandbox.start()
            async with caller.channel() as provider:
                await works(consumer, provider)


async def test_exchange_that_stops_says_goodbye(tmp_path: Path) -> None:
    """1001 for providers, a problem for those who wait; it does not take long."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        left = enrolled(sandbox, tmp_path / "left")
        right = enrolled(sandbox, tmp_path / "right", node=GAJ)
        async with (
            calling(left) as consumer,
            calling(right) as caller,
            caller.channel() as provider,
        ):
            waiting = consumer.ask(asked(left, right))
            await provider.frame()
            stopping = asyncio.create_task(asyncio.to_thread(sandbox.stop))
            assert (await provider.ended())[0] == GOING
            assert (await waiting).problem == (503, "no-channel")
            began = time.monotonic()
            assert await stopping == 0
            assert time.monotonic() - began < 2
