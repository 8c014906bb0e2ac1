# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/relay``: every status of wire.md §4, and what goes through unchanged."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.contract.exchange.conftest import enrolled
from tests.support import tls
from tests.support.exchange_client import GAJ, Node
from tests.support.lookup_client import (
    REPLY,
    REQUEST,
    Caller,
    Provider,
    asked,
    calling,
    question,
    replied,
    seal,
    spoken,
)
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

TIMEOUT_S = 2
IN_FLIGHT = 64


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


# --- what goes through ------------------------------------------------------------


async def test_request_and_reply_go_through_unchanged(
    consumer: Caller, provider: Provider
) -> None:
    """Both see the very text that the other sent; the media type is JOSE."""
    sent = asked(consumer.node, provider.node)
    waiting = consumer.ask(sent)
    frame = await provider.frame()
    assert (frame["t"], frame["body"]) == ("req", sent)
    made = await provider.reply(frame, consumer.node)
    told = await waiting
    assert (told.status, told.media_type) == (200, "application/jose")
    assert told.body == made
    assert spoken(made, consumer.node)["results"][0]["data"] == {"name": "张三"}


async def test_replies_come_in_any_order(consumer: Caller, provider: Provider) -> None:
    """Each goes to the request whose id it repeats."""
    waiting = [consumer.ask(asked(consumer.node, provider.node)) for _ in range(8)]
    frames = [await provider.frame() for _ in range(8)]
    assert len({frame["id"] for frame in frames}) == 8
    made = {}
    for frame in reversed(frames):
        made[frame["body"]] = await provider.reply(frame, consumer.node)
    told = [(await task).body for task in waiting]
    assert sorted(told) == sorted(made.values())
    for text in told:
        assert spoken(text, consumer.node)["aud"] == consumer.node.node


async def test_large_messages_go_through(consumer: Caller, provider: Provider) -> None:
    """Nearly 1 MiB there, nearly 4 MiB back."""
    items = [{"keys": {"id": f"{i:018}" + "x" * 540}} for i in range(900)]
    sent = asked(consumer.node, provider.node, items=items)
    assert 900_000 < len(sent) < 1 << 20
    waiting = consumer.ask(sent)
    frame = await provider.frame()
    assert frame["body"] == sent
    row = {"i": 0, "status": "ok", "as_of": "2026-11-21T08:00:00Z"}
    rows = [row | {"i": i, "data": {"name": "x" * 2500}} for i in range(850)]
    made = await provider.reply(frame, consumer.node, results=rows)
    assert 3_500_000 < len(made) < 4 << 20
    assert (await waiting).body == made


async def test_problem_of_the_provider_goes_through(
    consumer: Caller, provider: Provider
) -> None:
    """An err frame becomes the answer, with the status that it names."""
    waiting = consumer.ask(asked(consumer.node, provider.node))
    frame = await provider.frame()
    body = {"type": "urn:fep:problem:bad-signature", "status": 422}
    await provider.send(t="err", id=frame["id"], body=body)
    assert (await waiting).problem == (422, "bad-signature")


async def test_nodes_may_ask_each_other_at_once(
    sandbox: SandboxProcess, node: Node, stranger: Node
) -> None:
    """Being asked and asking are two lines that do not wait for each other."""
    async with (
        calling(node) as left,
        calling(stranger) as right,
        left.channel() as one,
        right.channel() as two,
    ):
        there = left.ask(asked(node, stranger))
        back = right.ask(asked(stranger, node))
        await one.reply(await one.frame(), stranger)
        await two.reply(await two.frame(), node)
        assert [(await there).status, (await back).status] == [200, 200]


# --- who may ask ------------------------------------------------------------------


async def test_without_a_certificate_nobody_asks(
    sandbox: SandboxProcess, node: Node, provider: Provider, tmp_path: Path
) -> None:
    """401 unauthenticated."""
    bare = Node(sandbox.address, sandbox.ca, tmp_path)
    async with calling(bare) as caller:
        told = await caller.relay(asked(node, provider.node))
    assert told.problem == (401, "unauthenticated")


async def test_certificate_of_a_foreign_authority_ends_the_handshake(
    sandbox: SandboxProcess, node: Node, provider: Provider, tmp_path: Path
) -> None:
    """It never comes to a request."""
    pair = tls.Authority(tmp_path, "foreign").client()
    context = ssl.create_default_context(cafile=str(sandbox.ca))
    context.load_cert_chain(pair.cert, pair.key)
    outsider = Node(sandbox.address, sandbox.ca, tmp_path / "node")
    outsider.context = context
    async with calling(outsider) as caller:
        with pytest.raises(aiohttp.ClientError):
            await caller.relay(asked(node, provider.node))


async def test_revoked_certificate_may_not_ask(
    sandbox: SandboxProcess, provider: Provider, tmp_path: Path
) -> None:
    """401 as soon as the key of its certificate is revoked."""
    gone = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/gone")
    async with calling(gone) as caller:
        waiting = caller.ask(asked(gone, provider.node))
        await provider.reply(await provider.frame(), gone)
        assert (await waiting).status == 200
        sandbox.ask("POST", "/revoke", {"kid": gone.tls.kid})
        told = await caller.relay(asked(gone, provider.node))
    assert told.problem == (401, "unauthenticated")


async def test_consumer_that_is_revoked_while_it_waits_gets_no_answer(
    sandbox: SandboxProcess, provider: Provider, tmp_path: Path
) -> None:
    """The answer has come; its connection lives; 401 all the same."""
    gone = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/gone9")
    async with calling(gone) as caller:
        waiting = caller.ask(asked(gone, provider.node))
        frame = await provider.frame()
        sandbox.ask("POST", "/revoke", {"node": gone.node})
        await provider.reply(frame, gone)
        assert (await waiting).problem == (401, "unauthenticated")


async def test_certificate_from_before_a_reset_may_not_ask(
    sandbox: SandboxProcess, provider: Provider, tmp_path: Path
) -> None:
    """An admin let the node enrol anew: what it had before counts no more."""
    gone = enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/reset")
    sandbox.ask("POST", "/reset", {"node": gone.node})
    async with calling(gone) as caller:
        told = await caller.relay(asked(gone, provider.node))
    assert told.problem == (401, "unauthenticated")


async def test_nobody_asks_in_anothers_name(
    consumer: Caller, provider: Provider
) -> None:
    """403: iss of the header is not the certificate's node."""
    jws = consumer.node.key.sign(REQUEST, {"v": 1})
    key = provider.node.decrypt.jwk
    for iss in (f"{GAJ[:18]}/other", provider.node.node):
        sent = seal(jws, key, iss=iss, aud=provider.node.node)
        assert (await consumer.relay(sent)).problem == (403, "forbidden")


async def test_unknown_provider_is_not_found(
    consumer: Caller, provider: Provider
) -> None:
    """404, whatever the name looks like."""
    for aud in (f"{GAJ[:18]}/nobody", "x", "../admin", "'; drop table node"):
        jws = consumer.node.key.sign(REQUEST, {"v": 1})
        key = provider.node.decrypt.jwk
        sent = seal(jws, key, iss=consumer.node.node, aud=aud)
        assert (await consumer.relay(sent)).problem == (404, "not-found")


# --- what may be asked ------------------------------------------------------------


def test_request_above_the_cap_is_too_large(node: Node) -> None:
    """413 for one byte more than 1 MiB."""
    told = node.ask("POST", "/v1/relay", b"a" * ((1 << 20) + 1))
    assert (told.status, told.problem) == (413, "too-large")


async def test_only_sealed_requests_are_taken(
    consumer: Caller, provider: Provider
) -> None:
    """400 for a bare JWS, for garbage, and for other messages under seal."""
    names = {"iss": consumer.node.node, "aud": provider.node.node}
    jws = consumer.node.key.sign(REQUEST, question(consumer.node, provider.node.node))
    key = provider.node.decrypt.jwk
    good = seal(jws, key, **names)
    short = good.rsplit(".", 2)
    for body in (
        b"",
        jws,
        "{}",
        b"\xff" * 100,
        good + "\n",
        ".".join([short[0], "AAAA", short[2]]),
        seal(jws, key, **names, cty=REPLY),
        seal(jws, key, **names, cty="fep-command+jws"),
        seal(jws, key, **names, zip="DEF"),
        seal(jws, key, **names, alg="dir"),
        seal(jws, key, **names, kid=None),
    ):
        assert (await consumer.relay(body)).problem == (400, "malformed")


# --- providers that are not there -------------------------------------------------


async def test_provider_without_channel(consumer: Caller, stranger: Node) -> None:
    """503 with Retry-After."""
    told = await consumer.relay(asked(consumer.node, stranger))
    assert told.problem == (503, "no-channel")
    assert told.retry_after == "1"


async def test_silent_provider_is_given_up(
    consumer: Caller, provider: Provider
) -> None:
    """504 in time; what it says later reaches nobody and harms nobody."""
    told = await consumer.relay(asked(consumer.node, provider.node))
    assert told.problem == (504, "no-answer")
    late = await provider.frame()
    waiting = consumer.ask(asked(consumer.node, provider.node))
    frame = await provider.frame()
    await provider.reply(late, consumer.node)
    made = await provider.reply(frame, consumer.node)
    assert (await waiting).body == made


async def test_not_more_than_64_wait_for_a_provider(
    consumer: Caller, provider: Provider
) -> None:
    """The 65th is told to come again; a place that gets free is used."""
    body = asked(consumer.node, provider.node)
    waiting = [consumer.ask(body) for _ in range(IN_FLIGHT)]
    frames = [await provider.frame() for _ in range(IN_FLIGHT)]
    told = await consumer.relay(body)
    assert told.problem == (429, "busy")
    assert told.retry_after == "1"
    await provider.reply(frames[0], consumer.node)
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    more = consumer.ask(body)
    frames.append(await provider.frame())
    for frame in frames[1:]:
        await provider.send(t="res", id=frame["id"], body="x")
    assert {(await task).status for task in [*waiting, more]} == {200, 503}


async def test_channel_that_breaks_ends_the_wait(
    consumer: Caller, stranger: Node
) -> None:
    """503 at once, not 504 after a while."""
    async with calling(stranger) as caller, caller.channel() as channel:
        waiting = consumer.ask(asked(consumer.node, stranger))
        await channel.frame()
        await channel.line.close()
        assert (await waiting).problem == (503, "no-channel")


# --- providers that misbehave -----------------------------------------------------


BadReply = Callable[[str, Node, Node], str]


@pytest.mark.parametrize(
    "bad",
    [
        lambda sealed, provider, consumer: "x",
        lambda sealed, provider, consumer: provider.key.sign(REPLY, {"v": 1}),
        lambda sealed, provider, consumer: sealed,
        lambda sealed, provider, consumer: replied(sealed, provider, provider),
    ],
    ids=["garbage", "unsealed", "the request", "for somebody else"],
)
async def test_what_is_no_sealed_reply_to_the_consumer_is_kept_back(
    consumer: Caller, provider: Provider, bad: BadReply
) -> None:
    """503: an unsealed answer must not travel on, nor one to somebody else."""
    waiting = consumer.ask(asked(consumer.node, provider.node))
    frame = await provider.frame()
    body = bad(frame["body"], provider.node, consumer.node)
    await provider.send(t="res", id=frame["id"], body=body)
    assert (await waiting).problem == (503, "no-channel")


async def test_reply_is_given_once(consumer: Caller, provider: Provider) -> None:
    """A second reply to the same request reaches nobody."""
    waiting = consumer.ask(asked(consumer.node, provider.node))
    frame = await provider.frame()
    made = await provider.reply(frame, consumer.node)
    await provider.reply(frame, consumer.node)
    assert (await waiting).body == made
    again = consumer.ask(asked(consumer.node, provider.node))
    made = await provider.reply(await provider.frame(), consumer.node)
    assert (await again).body == made
