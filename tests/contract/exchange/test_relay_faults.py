# SPDX-License-Identifier: Apache-2.0
"""The relay's fault switches do what they say, each to the request that they strike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.exchange_client import Node, payload
from tests.support.lookup_client import (
    Caller,
    Provider,
    Told,
    asked,
    calling,
    spoken,
    unseal,
)
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

TIMEOUT_S = 2


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """An exchange whose patience is short."""
    folder = tmp_path_factory.mktemp("exchange")
    options = folder / "options.toml"
    options.write_text(f"relay_timeout_s = {TIMEOUT_S}\n")
    with running_sandbox(folder, "--config", str(options)) as found:
        yield found


@pytest.fixture
async def consumer(node: Node) -> AsyncIterator[Caller]:
    async with calling(node) as found:
        yield found


@pytest.fixture
async def provider(stranger: Node) -> AsyncIterator[Provider]:
    async with calling(stranger) as caller, caller.channel() as found:
        yield found


def strike(sandbox: SandboxProcess, act: str, **more: object) -> None:
    sandbox.faults({"kind": "relay", "act": act, "count": 1, **more})


def ask(consumer: Caller, provider: Provider) -> asyncio.Task[Told]:
    return consumer.ask(asked(consumer.node, provider.node))


def until_struck(sandbox: SandboxProcess) -> None:
    until = time.monotonic() + 10
    while sandbox.ask("GET", "/faults")["faults"]:
        assert time.monotonic() < until
        time.sleep(0.01)


async def works(consumer: Caller, provider: Provider) -> None:
    waiting = ask(consumer, provider)
    made = await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).body == made


async def test_lost_request(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The provider sees nothing of it, the consumer gets 504; the next one works."""
    strike(sandbox, "drop")
    assert (await ask(consumer, provider)).problem == (504, "no-answer")
    await works(consumer, provider)


async def test_lost_reply(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The provider has answered, the consumer gets 504."""
    strike(sandbox, "drop", when="after")
    waiting = ask(consumer, provider)
    await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).problem == (504, "no-answer")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_late(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider, when: str
) -> None:
    """Seconds pass, and then it comes."""
    strike(sandbox, "delay", when=when, seconds=1)
    began = time.monotonic()
    await works(consumer, provider)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("seconds", [0, 1])
async def test_twice(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider, seconds: int
) -> None:
    """The provider gets the very same text under two ids; the consumer one reply."""
    strike(sandbox, "duplicate", seconds=seconds)
    waiting = ask(consumer, provider)
    first = await provider.frame()
    if seconds:
        made = await provider.reply(first, consumer.node)
        assert (await waiting).body == made
        second = await provider.frame()
        await provider.reply(second, consumer.node)
    else:
        second = await provider.frame()
        both = [await provider.reply(f, consumer.node) for f in (second, first)]
        assert (await waiting).body in both
    assert first["body"] == second["body"]
    assert first["id"] != second["id"]


async def test_out_of_order(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The first request reaches the provider after the second."""
    strike(sandbox, "reorder")
    bodies = [asked(consumer.node, provider.node) for _ in range(2)]
    first = consumer.ask(bodies[0])
    await asyncio.to_thread(until_struck, sandbox)
    second = consumer.ask(bodies[1])
    seen = []
    for _ in bodies:
        frame = await provider.frame()
        seen.append(frame["body"])
        await provider.reply(frame, consumer.node)
    assert seen == bodies[::-1]
    assert [(await first).status, (await second).status] == [200, 200]


async def test_replies_exchanged(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """Each of two requests gets the other's reply."""
    strike(sandbox, "swap")
    waiting = [ask(consumer, provider) for _ in range(2)]
    frames = [await provider.frame() for _ in range(2)]
    made = [await provider.reply(frame, consumer.node) for frame in frames]
    told = [(await task).body for task in waiting]
    assert sorted(told) == sorted(made)
    wanted = {f["body"]: text for f, text in zip(frames, made, strict=True)}
    irts = [spoken(text, consumer.node)["irt"] for text in told]
    assert len(set(irts)) == 2
    assert told[0] in wanted.values()


async def test_reply_to_another_department(
    sandbox: SandboxProcess, node: Node, stranger: Node
) -> None:
    """What is for one consumer comes to another, who cannot open it."""
    strike(sandbox, "swap")
    async with calling(node) as left, calling(stranger) as right:
        async with right.channel() as provider:
            waiting = [
                left.ask(asked(node, stranger)),
                right.ask(asked(stranger, stranger)),
            ]
            for _ in waiting:
                frame = await provider.frame()
                consumer = node if _iss(frame, stranger) == node.node else stranger
                await provider.reply(frame, consumer)
            told = [(await task).body for task in waiting]
        assert spoken(told[0], stranger)["aud"] == stranger.node
        assert spoken(told[1], node)["aud"] == node.node


def _iss(frame: dict[str, str], provider: Node) -> str:
    return str(payload(unseal(frame["body"], provider.decrypt))["iss"])


async def test_swap_without_a_partner(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """No other reply comes: 504, and the next pair is served honestly."""
    strike(sandbox, "swap")
    waiting = ask(consumer, provider)
    await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).problem == (504, "no-answer")
    await works(consumer, provider)


async def test_channel_cut_with_the_request_on_its_way(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The provider has the request and nobody to answer to."""
    strike(sandbox, "cut", seconds=1)
    waiting = ask(consumer, provider)
    await provider.frame()
    assert (await waiting).problem == (503, "no-channel")
    code, _ = await provider.ended()
    assert code in (1006, None)


async def test_channel_cut_with_the_reply(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The reply was sent and is lost with the line."""
    strike(sandbox, "cut", when="after")
    waiting = ask(consumer, provider)
    await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).problem == (503, "no-channel")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_altered(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider, when: str
) -> None:
    """One byte of the sealed text is another: whoever opens it notices."""
    strike(sandbox, "alter", when=when)
    sent = asked(consumer.node, provider.node)
    waiting = consumer.ask(sent)
    frame = await provider.frame()
    body = frame["body"]
    if when == "before":
        assert _differences(body, sent) == 1
        await provider.send(
            t="err",
            id=frame["id"],
            body={"type": "urn:fep:problem:undecryptable", "status": 422},
        )
        assert (await waiting).problem == (422, "undecryptable")
    else:
        made = await provider.reply(frame, consumer.node)
        assert _differences((await waiting).body, made) == 1


def _differences(left: str, right: str) -> int:
    return sum(a != b for a, b in zip(left, right, strict=True))


async def test_skip_lets_requests_pass(
    sandbox: SandboxProcess, consumer: Caller, provider: Provider
) -> None:
    """The second request is struck, not the first, nor the third."""
    strike(sandbox, "cut", when="after", skip=1)
    await works(consumer, provider)
    waiting = ask(consumer, provider)
    await provider.reply(await provider.frame(), consumer.node)
    assert (await waiting).problem == (503, "no-channel")
