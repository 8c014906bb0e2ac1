# SPDX-License-Identifier: Apache-2.0
"""A provider's own listener: the exchange calls the node itself and nobody else."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.contract.exchange.conftest import enrolled
from tests.support.exchange_client import GAJ, RSJ, Node
from tests.support.lookup_client import Caller, asked, calling, replied
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
JOSE = "application/jose"


@pytest.fixture
async def consumer(node: Node) -> AsyncIterator[Caller]:
    async with calling(node) as found:
        yield found


@asynccontextmanager
async def listening(owner: Node, handler: Handler) -> AsyncIterator[str]:
    """A listener with a node's certificate that wants one from its client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(owner.folder / "tls.pem", owner.folder / "tls.key")
    context.load_verify_locations(owner._ca)
    context.verify_mode = ssl.CERT_REQUIRED
    app = web.Application(client_max_size=2 << 20)
    app.add_routes([web.post("/v1/lookups", handler)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def told(
    sandbox: SandboxProcess, owner: Node, handler: Handler, *, of: Node | None = None
) -> AsyncIterator[None]:
    """An exchange that believes to reach ``of`` (the owner) there."""
    name = (of or owner).node
    async with listening(owner, handler) as url:
        sandbox.ask("POST", "/inbound", {"node": name, "url": url})
        try:
            yield
        finally:
            sandbox.ask("POST", "/inbound", {"node": name, "url": None})


def names(request: web.Request) -> list[str]:
    """SAN URIs of the client's certificate, as openssl reads them."""
    der = request.get_extra_info("ssl_object").getpeercert(binary_form=True)
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-ext"]
    made = subprocess.run(
        [*command, "subjectAltName,extendedKeyUsage"],
        input=der,
        check=True,
        capture_output=True,
    )
    return [line.strip() for line in made.stdout.decode().splitlines()]


async def test_listener_is_asked_by_the_exchange_itself(
    sandbox: SandboxProcess, consumer: Caller, stranger: Node
) -> None:
    """Its certificate names fep:exchange/<aud>, and the text comes unchanged."""
    seen: list[object] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.text()
        seen.extend([body, request.content_type, *names(request)])
        made = replied(body, stranger, consumer.node)
        seen.append(made)
        return web.Response(text=made, content_type=JOSE)

    sent = asked(consumer.node, stranger)
    async with told(sandbox, stranger, handler):
        answer = await consumer.relay(sent)
    assert (answer.status, answer.media_type) == (200, JOSE)
    assert seen[:2] == [sent, JOSE]
    assert f"URI:fep:exchange/{sandbox.aud}" in seen
    assert "TLS Web Client Authentication" in seen
    assert answer.body == seen[-1]


async def test_listener_goes_before_the_channel(
    sandbox: SandboxProcess, consumer: Caller, stranger: Node
) -> None:
    """And the channel is asked again once the admin has taken the listener away."""

    async def handler(request: web.Request) -> web.Response:
        made = replied(await request.text(), stranger, consumer.node)
        return web.Response(text=made, content_type=JOSE)

    async with calling(stranger) as caller, caller.channel() as provider:
        async with told(sandbox, stranger, handler):
            answer = await consumer.relay(asked(consumer.node, stranger))
            assert answer.status == 200
        waiting = consumer.ask(asked(consumer.node, stranger))
        made = await provider.reply(await provider.frame(), consumer.node)
        assert (await waiting).body == made


async def test_another_nodes_listener_is_never_sent_anything(
    sandbox: SandboxProcess, consumer: Caller, stranger: Node
) -> None:
    """503: the handshake ends before the request leaves."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(await request.text())
        return web.Response(text="x")

    async with told(sandbox, consumer.node, handler, of=stranger):
        answer = await consumer.relay(asked(consumer.node, stranger))
    assert answer.problem == (503, "no-channel")
    assert seen == []


async def test_problem_of_the_listener_goes_through(
    sandbox: SandboxProcess, consumer: Caller, stranger: Node
) -> None:
    """With its status and code."""

    async def handler(_: web.Request) -> web.Response:
        body = b'{"type":"urn:fep:problem:bad-signature","status":422}'
        kind = "application/problem+json"
        return web.Response(status=422, body=body, content_type=kind)

    async with told(sandbox, stranger, handler):
        answer = await consumer.relay(asked(consumer.node, stranger))
    assert answer.problem == (422, "bad-signature")


@pytest.mark.parametrize("kind", ["redirect", "text", "huge", "error", "cut"])
async def test_listener_that_misbehaves_is_not_there(
    sandbox: SandboxProcess, consumer: Caller, stranger: Node, kind: str
) -> None:
    """503, whatever else it says; nothing of that reaches the consumer."""

    async def handler(request: web.Request) -> web.Response:
        if kind == "cut":
            assert request.transport is not None
            request.transport.abort()
        if kind == "redirect":
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        if kind == "huge":
            return web.Response(text="x" * (5 << 20))
        return web.Response(status=500 if kind == "error" else 200, text="secret")

    async with told(sandbox, stranger, handler):
        answer = await consumer.relay(asked(consumer.node, stranger))
    assert answer.problem == (503, "no-channel")
    assert "secret" not in answer.body


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "https://a", "https://a:1/x", "https://u@a:1", "x"]
)
def test_only_a_plain_https_base_is_taken(sandbox: SandboxProcess, url: str) -> None:
    """400 for anything else."""
    with pytest.raises(RuntimeError, match="400"):
        sandbox.ask("POST", "/inbound", {"node": GAJ, "url": url})


async def test_listener_is_remembered(tmp_path: Path) -> None:
    """A restart does not forget what the admin said."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        left = enrolled(sandbox, tmp_path / "left", node=RSJ)
        right = enrolled(sandbox, tmp_path / "right", node=GAJ)

        async def handler(request: web.Request) -> web.Response:
            made = replied(await request.text(), right, left)
            return web.Response(text=made, content_type=JOSE)

        async with listening(right, handler) as url:
            sandbox.ask("POST", "/inbound", {"node": GAJ, "url": url})
            sandbox.stop()
            sandbox.start()
            async with calling(left) as consumer:
                answer = await consumer.relay(asked(left, right))
    assert answer.status == 200
