# SPDX-License-Identifier: Apache-2.0
"""Lookups between us and npm jose: it opens what we seal, we take what it builds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.crypto import jose, jwe
from agent.errors import BadSignature, MalformedMessage, Undecryptable
from agent.wire import lookup
from agent.wire.lookup import LookupItem
from tests.support import lookup_vectors as made
from tests.support import peers, vectors
from tests.support.lookup import World

pytestmark = pytest.mark.contract

MESSAGES = {m["name"]: m for m in vectors.load("lookup.json")["messages"]}
SIGNERS = [dict(vectors.key(n).public.jwk) for n in ("sign", "consumer_sign")]


def foreign_open(text: str, to: str, typ: str) -> dict[str, Any]:
    """What npm jose finds inside."""
    return peers.ask(
        "lookup.mjs",
        {
            "do": "open",
            "jwe": text,
            "key": vectors.key(to).pem().decode(),
            "keys": SIGNERS,
            "typ": typ,
        },
    )


def foreign_build(payload: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A request that npm jose signs and encrypts, from the consumer to the provider."""
    signer = vectors.key("consumer_sign")
    job = {
        "do": "build",
        "payload": payload,
        "typ": lookup.REQUEST_TYP,
        "key": signer.pem().decode(),
        "kid": signer.public.kid,
        "to": dict(vectors.key("decrypt").public.jwk),
        "iss": payload["iss"],
        "aud": payload["aud"],
        **changes,
    }
    return peers.ask("lookup.mjs", job)


def received(text: str) -> lookup.Request:
    """The request as the agent takes it."""
    sealed = jwe.split_sealed(text, cap=lookup.REQUEST_CAP)
    jws = sealed.open(vectors.key("decrypt"))
    message = jose.split(jws, cap=lookup.REQUEST_CAP)
    key = vectors.key("consumer_sign").public
    verified = jose.verify(message, key, typ=lookup.REQUEST_TYP)
    return lookup.parse_request(verified.payload)


@pytest.mark.parametrize("name", MESSAGES)
def test_npm_jose_opens_our_nested_message(name: str) -> None:
    """Outer and inner header, signature and payload are what the page says."""
    pinned = MESSAGES[name]
    answer = foreign_open(pinned["jwe"], pinned["to"], pinned["typ"])
    assert answer["ok"], answer
    assert answer["payload"] == json.loads(pinned["payload"])
    assert answer["jws"] == pinned["jws"]
    assert answer["size"] in jwe.SIZES
    outer = answer["outer"]
    assert set(outer) == {"alg", "enc", "kid", "epk", "cty", "iss", "aud"}
    claims = answer["payload"]
    assert (outer["iss"], outer["aud"]) == (claims["iss"], claims["aud"])
    assert answer["inner"].keys() == {"alg", "kid", "typ"}


@pytest.mark.parametrize("request_", [made.GET, made.VERIFY, made.EXISTS])
def test_we_accept_a_request_of_npm_jose(request_: lookup.Request) -> None:
    """Built from the page alone by another implementation."""
    built = foreign_build(json.loads(request_.payload()))
    assert built["ok"], built
    assert received(built["jwe"]) == request_


def test_a_large_request_of_npm_jose_fits_the_padding() -> None:
    """More than 64 KiB: multiples of 64 KiB on both sides."""
    items = tuple(LookupItem({"id_number": f"{n:0200}"}) for n in range(1000))
    payload = json.loads(made.replace(made.GET, items=items).payload())
    built = foreign_build(payload)
    assert len(received(built["jwe"]).items) == 1000


def test_a_reply_for_somebody_else_does_not_open_there() -> None:
    """The consumer's key opens nothing that is sealed to the provider."""
    pinned = MESSAGES["request_get"]
    answer = foreign_open(pinned["jwe"], "consumer_decrypt", pinned["typ"])
    assert not answer["ok"]


@pytest.mark.parametrize(
    "changes",
    [
        {"typ": lookup.REPLY_TYP},
        {"key": vectors.key("sign").pem().decode()},
        {"kid": vectors.key("sign").public.kid},
        {"to": dict(vectors.key("consumer_decrypt").public.jwk)},
        {"iss": ""},
    ],
    ids=["typ", "signer", "kid", "recipient", "iss"],
)
def test_a_wrong_request_of_npm_jose_is_refused(changes: dict[str, Any]) -> None:
    """Another type, signer or recipient."""
    built = foreign_build(json.loads(made.GET.payload()), **changes)
    assert built["ok"], built
    with pytest.raises((MalformedMessage, BadSignature, Undecryptable)):
        received(built["jwe"])


@pytest.mark.parametrize("op", ["get", "verify", "exists"])
async def test_a_consumer_of_npm_jose_is_answered(tmp_path: Path, op: str) -> None:
    """The agent's flow answers; what asks and opens is no code of ours."""
    world = World(tmp_path)
    payload = json.loads(world.asker.template.payload()) | {"op": op}
    if op == "verify":
        payload["items"][0]["claims"] = {"name": "张三"}
    if op == "exists":
        payload["fields"] = []
    built = foreign_build(
        payload,
        key=world.consumer.sign.pem().decode(),
        kid=world.consumer.sign.public.kid,
        to=dict(world.provider.decrypt.public.jwk),
    )
    async with world.serving() as flow:
        answer = await flow.answer(built["jwe"])
    assert isinstance(answer, str), answer
    opened = peers.ask(
        "lookup.mjs",
        {
            "do": "open",
            "jwe": answer,
            "key": world.consumer.decrypt.pem().decode(),
            "keys": [dict(world.provider.sign.public.jwk)],
            "typ": lookup.REPLY_TYP,
        },
    )
    assert opened["ok"], opened
    reply, (result,) = opened["payload"], opened["payload"]["results"]
    assert (reply["irt"], reply["status"]) == (payload["jti"], "ok")
    assert reply["req_sha256"] == jose.message_digest(built["jws"])
    told = {name: result.get(name) for name in ("data", "verdicts")}
    assert (
        told
        == {
            "get": {"data": {"name": "张三"}, "verdicts": None},
            "verify": {"data": None, "verdicts": {"name": "match"}},
            "exists": {"data": None, "verdicts": None},
        }[op]
    )
