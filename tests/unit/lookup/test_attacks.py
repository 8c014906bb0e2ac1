# SPDX-License-Identifier: Apache-2.0
"""Attacks on a lookup, by name; each ends as wire.md §4 says.

Before the consumer's signature has verified: an unsigned problem that says no more than
its kind. Afterwards: a signed refusal with a reason of the closed list. Never: a query.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from agent.audit.events import AdminAction, LookupRefused, ReplayAttempt
from agent.audit.log import FLOOR
from agent.crypto.jose import (
    PrivateKey,
    base64url,
    encode_header,
    from_base64url,
    message_digest,
)
from agent.lookup.flow import DENIED_KEPT
from agent.lookup.intake import Bounds
from agent.lookup.opener.process import Opener
from agent.wire.directory import Directory, RevokedFile
from agent.wire.keys import TYP as KEYS_TYP
from agent.wire.keys import KeyStatement
from agent.wire.lookup import REQUEST_TYP, LookupItem, Reply
from agent.wire.problem import Problem
from tests.support.lookup import (
    PROVIDER,
    STRANGER,
    ZHANG,
    World,
    denied,
    refused,
)
from tests.support.opener import opened
from tests.support.requester import (
    AT,
    Party,
    Requester,
    altered,
    directory_of,
    forged,
    item,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEY = ZHANG["citizen_id"]


OUR = Party(PROVIDER)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opener() -> AsyncIterator[Opener]:
    """A process that opens requests, for all of this module."""
    opener = Opener([OUR.decrypt])
    async with opened(opener):
        yield opener


@pytest.fixture(params=["daemon", "opener"])
def world(
    request: pytest.FixtureRequest, tmp_path: Path, opener: Opener
) -> Iterator[World]:
    """The sample department; whatever happens, its source is never asked.

    Every attack ends in the same way whoever opens the requests.
    """
    used = opener if request.param == "opener" else None
    world = World(tmp_path, provider=OUR, opener=used)
    yield world
    assert world.sources.asked == []
    assert opener.up


def header(world: World, **members: object) -> dict[str, object]:
    """The header of a true request, with other members."""
    kid = world.consumer.sign.public.kid
    return {"alg": "ES256", "kid": kid, "typ": REQUEST_TYP, **members}


def payload(world: World) -> bytes:
    """Of a true request."""
    return world.asker.request(jti=world.next_id()).payload()


async def sent(world: World, jws: str) -> Reply | Problem:
    """Seal a message truly and send it."""
    async with world.serving():
        found = await world.send(world.asker.seal(jws))
        assert await world.records() == []
    return found


# --- before the signature -----------------------------------------------------------


@pytest.mark.parametrize("alg", ["none", "HS256", "ES384", "RS256", "EdDSA", ""])
async def test_algorithm_swap(world: World, alg: str):
    """The directory says which algorithm a key is used with, not the message."""
    key = world.consumer.sign
    jws = forged(header(world, alg=alg), payload(world), key=key)
    status, code = refused(await sent(world, jws))
    assert (status, code) in {(422, "bad-signature"), (400, "malformed")}


async def test_alg_none_without_a_signature(world: World):
    """An empty third part is no JWS."""
    head, body, _ = forged(header(world, alg="none"), payload(world)).split(".")
    async with world.serving():
        found = await world.send(world.asker.seal(f"{head}.{body}.x"))
    assert refused(found)[0] in {400, 422}


async def test_foreign_key(world: World):
    """Signed by somebody else under the consumer's kid."""
    jws = forged(header(world), payload(world), key=PrivateKey.generate("sign"))
    assert refused(await sent(world, jws)) == (422, "bad-signature")


async def test_key_of_another_department(world: World):
    """A true key, but of a node that is not the one that the claims name."""
    kid = world.stranger.sign.public.kid
    jws = forged(header(world, kid=kid), payload(world), key=world.stranger.sign)
    assert refused(await sent(world, jws)) == (422, "bad-signature")


@pytest.mark.parametrize("purpose", ["tls", "decrypt"])
async def test_key_of_another_purpose(world: World, purpose: str):
    """The consumer's own keys for TLS and for decrypting sign nothing."""
    key: PrivateKey = getattr(world.consumer, purpose)
    jws = forged(header(world, kid=key.public.kid), payload(world), key=key)
    assert refused(await sent(world, jws)) == (422, "bad-signature")


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "crit", "zip"])
async def test_a_key_in_the_message(world: World, name: str):
    """The header has three members; a fourth is refused before anything is done."""
    mine = PrivateKey.generate("sign")
    value: object = {"jwk": dict(mine.public.jwk), "crit": ["exp"]}.get(name, "x")
    jws = forged(header(world, **{name: value}), payload(world), key=mine)
    assert refused(await sent(world, jws)) == (400, "malformed")


@pytest.mark.parametrize("how", ["status", "list"])
async def test_revoked_key(world: World, how: str):
    """By its status or by revoked.json, at once."""
    entries = (world.provider.entry(), world.stranger.entry())
    kid = world.consumer.sign.public.kid
    if how == "status":
        own = world.consumer.entry({"sign": "revoked"})
        world.directory = directory_of(*entries, own)
    else:
        own = world.consumer.entry()
        world.directory = directory_of(*entries, own, revoked=(kid,))
    jws = world.asker.sign(world.asker.request())
    assert refused(await sent(world, jws)) == (422, "key-revoked")


async def test_retired_key(world: World):
    """It signs batches of old, no lookups."""
    own = world.consumer.entry({"sign": "retired"})
    world.directory = directory_of(world.provider.entry(), own)
    jws = world.asker.sign(world.asker.request())
    assert refused(await sent(world, jws)) == (422, "key-revoked")


async def test_key_that_the_newest_statement_has_left_out(world: World):
    """Where the directory says nothing of it, silence is no permission."""
    old = world.consumer
    new = replace(old, sign=PrivateKey.generate("sign"))
    keys = tuple(k.public for k in (new.sign, new.decrypt, new.tls, new.audit))
    second = KeyStatement(old.node, 2, keys, AT)
    own = old.entry()
    statements = (*own.statements, old.sign.sign(KEYS_TYP, second.payload()))
    own = replace(own, statements=statements, keys=())
    world.directory = directory_of(world.provider.entry(), own)
    jws = world.asker.sign(world.asker.request())
    assert refused(await sent(world, jws)) == (422, "key-revoked")
    asker = replace(world.asker, me=new)
    jws = asker.sign(asker.request(purpose="collaboration"))
    async with world.serving():
        assert denied(await world.send(asker.seal(jws))) == ("purpose",)


async def test_a_department_that_the_directory_does_not_have(world: World):
    """Nobody is not somebody."""
    world.directory = directory_of(world.provider.entry())
    jws = world.asker.sign(world.asker.request())
    assert refused(await sent(world, jws)) == (422, "bad-signature")


async def test_a_consumer_to_whom_no_reply_could_be_sealed(world: World):
    """Its decrypt key is revoked: nothing is answered, so nothing is asked."""
    own = world.consumer.entry({"decrypt": "revoked"})
    world.directory = directory_of(world.provider.entry(), own)
    jws = world.asker.sign(world.asker.request())
    assert refused(await sent(world, jws)) == (422, "bad-signature")


async def test_altered_claims(world: World):
    """Another basis under the old signature."""
    jws = altered(world.asker.sign(world.asker.request()), basis="case:TA-2026-00018")
    assert refused(await sent(world, jws)) == (422, "bad-signature")


async def test_sealed_to_another_key(world: World):
    """A message for somebody else cannot be opened here."""
    other = Requester(world.consumer, world.stranger, world.asker.template)
    jws = world.asker.sign(world.asker.request())
    async with world.serving():
        found = await world.send(other.seal(jws, aud=PROVIDER))
    assert refused(found) == (422, "bad-signature")


async def test_altered_on_the_way(world: World):
    """One character of the sealed text turned over."""
    head, key, iv, body, tag = world.asker.ask().split(".")
    turned = body[:-2] + ("A" if body[-2] != "A" else "B") + body[-1]
    async with world.serving():
        found = await world.send(".".join((head, key, iv, turned, tag)))
    assert refused(found)[0] in {400, 422}


async def test_half_a_character_in_the_header(world: World):
    """What cannot be written down anywhere is no name."""
    jws = world.asker.sign(world.asker.request())
    async with world.serving():
        for header in ({"iss": "\ud800"}, {"aud": "x\udfff"}):
            found = await world.send(world.asker.seal(jws, **header))
            assert refused(found) == (400, "malformed")
        assert world.flow.trouble is None


async def test_a_bare_signed_message(world: World):
    """Unencrypted requests are refused on every path."""
    async with world.serving():
        found = await world.send(world.asker.sign(world.asker.request()))
    assert refused(found) == (400, "malformed")


async def test_another_type_inside(world: World):
    """A true signature under something that is no lookup, and a cty that lies."""
    text = world.consumer.sign.sign("fep-heartbeat+jws", payload(world))
    assert refused(await sent(world, text)) == (400, "malformed")
    async with world.serving():
        lying = world.asker.seal(text, cty="fep-heartbeat+jws")
        assert refused(await world.send(lying)) == (400, "malformed")


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("unknown op", {"op": "delete"}),
        ("unknown purpose", {"purpose": "curiosity"}),
        ("unknown member", {"sql": "1"}),
        ("no items", {"items": []}),
        ("1,001 items", {"items": [{"keys": {"citizen_id": "1"}}] * 1001}),
        ("mixed keys", {"items": [{"keys": {"a": "1"}}, {"keys": {"b": "1"}}]}),
        ("a number as key", {"items": [{"keys": {"citizen_id": 1}}]}),
        ("a wildcard object", {"items": [{"keys": {"citizen_id": {"like": "%"}}}]}),
        ("a null key", {"items": [{"keys": {"citizen_id": None}}]}),
        ("a field twice", {"fields": ["name", "name"]}),
        ("claims with get", {"items": [{"keys": {"a": "1"}, "claims": {"b": "1"}}]}),
        ("a fraction", {"iat": 1.5}),
        ("another version", {"v": 2}),
        ("null matter", {"matter": None}),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
async def test_a_request_of_another_shape(
    world: World, what: str, change: dict[str, Any]
):
    """It is malformed, whoever signed it."""
    body = json.loads(payload(world)) | change
    data = json.dumps(body).encode()
    jws = forged(header(world), data, key=world.consumer.sign)
    assert refused(await sent(world, jws)) == (400, "malformed"), what


async def test_a_one_time_key_that_is_not_on_the_curve(world: World):
    """It is malformed, whoever it is that opens the request."""
    first, _, rest = world.asker.ask().partition(".")
    head = json.loads(from_base64url(first, at="header"))
    y = from_base64url(head["epk"]["y"], at="y")
    head["epk"]["y"] = base64url(y[:-1] + bytes([y[-1] ^ 1]))
    async with world.serving() as flow:
        found = await flow.answer(f"{encode_header(head)}.{rest}")
    assert isinstance(found, Problem)
    assert (found.status, found.code) == (400, "malformed")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"v":1,"v":1}',
        b'{"a":' * 20 + b"1" + b"}" * 20,
        b'{"v":1,"iat":1e400}',
        b'{"v":1,"iss":"\\ud800"}',
        b"\xff\xfe{}",
        b"null",
        b"",
    ],
    ids=["deep", "twice", "nested", "huge", "surrogate", "utf16", "null", "empty"],
)
async def test_hostile_json(world: World, data: bytes):
    """Deep, doubled, huge or no JSON at all."""
    jws = forged(header(world), data, key=world.consumer.sign)
    assert refused(await sent(world, jws)) == (400, "malformed")


async def test_claims_of_a_megabyte(world: World):
    """More than fits is refused by its size, before a key is used."""
    async with world.serving() as flow:
        found = await flow.answer("A" * (1024 * 1024 + 1))
    assert refused(found) == (413, "too-large")  # type: ignore[arg-type]


async def test_an_unsigned_refusal_repeats_nothing_of_the_message(world: World):
    """It travels in the clear: no value, no member name, no key of the inside."""
    body = json.loads(payload(world))
    body[f"x{KEY}"] = ZHANG["name"]
    jws = forged(header(world), json.dumps(body).encode(), key=world.consumer.sign)
    found = await sent(world, jws)
    assert isinstance(found, Problem)
    text = found.body().decode()
    assert KEY not in text
    assert ZHANG["name"] not in text


async def test_unsigned_refusals_are_one_record(world: World):
    """Counted by code, told once a minute; nothing of them is kept."""
    async with world.serving() as flow:
        for text in ("x", "a.b.c.d.e", "A" * 2_000_000):
            await flow.answer(text)
        await flow.answer(world.asker.seal(forged(header(world), payload(world))))
        await flow.record_refused()
        await flow.record_refused()
        (record,) = await world.records("lookup.refused")
        assert flow.counts().refused == 4
    assert record["codes"] == {"malformed": 2, "too-large": 1, "bad-signature": 1}
    assert len(world.told(LookupRefused)) == 1


# --- after the signature ------------------------------------------------------------


async def refused_signed(world: World, text: str) -> tuple[str, ...]:
    """Reasons of a signed refusal, which is recorded with them."""
    async with world.serving():
        reasons = denied(await world.send(text))
        (record,) = await world.records()
        assert (record["status"], tuple(record["reasons"])) == ("denied", reasons)
    return reasons


async def test_wrong_audience(world: World):
    """Meant for another department, sealed to us: refused, and signed."""
    text = world.asker.sign(world.asker.request(aud=STRANGER))
    assert await refused_signed(world, world.asker.seal(text, aud=STRANGER)) == (
        "audience",
    )


async def test_a_header_that_is_not_the_message(world: World):
    """What the relay was told is not what was signed."""
    jws = world.asker.sign(world.asker.request())
    assert await refused_signed(world, world.asker.seal(jws, iss=STRANGER)) == (
        "header",
    )


@pytest.mark.parametrize(
    ("iat", "exp"),
    [(-181, -61), (61, 120), (0, 121), (0, 0), (10, -10), (-4000, -3940)],
    ids=["expired", "future", "too-long", "no-time", "backwards", "long-ago"],
)
async def test_out_of_time(world: World, iat: int, exp: int):
    """Expired, of the future, or valid for longer than two minutes."""
    now = world.iat
    text = world.asker.ask(iat=now + iat, exp=now + exp)
    assert await refused_signed(world, text) == ("time",)


async def test_a_refusal_for_its_time_is_not_kept(world: World):
    """The same message is judged again when its time has come."""
    text = world.asker.ask(iat=world.iat + 61, exp=world.iat + 120, fields=("name",))
    async with world.serving():
        assert denied(await world.send(text)) == ("time",)
        world.clock.move(2)
        assert not isinstance(found := await world.send(text), Problem)
    assert found.status == "ok"
    world.sources.asked.clear()


async def test_after_a_restore_nothing_old_is_taken(world: World):
    """Until the witness agrees, a request may be one that our log forgot."""
    world.witnessed = False
    async with world.serving():
        text = world.asker.ask(iat=world.iat + 59, exp=world.iat + 120)
        assert denied(await world.send(text)) == ("time",)
        world.clock.move(62)
        found = await world.ask(iat=world.iat, exp=world.iat + 60)
        assert isinstance(found, Reply)
        assert found.status == "ok"
        world.witnessed = True
        again = await world.send(text)
        assert isinstance(again, Reply)
        assert again.status == "ok"
    world.sources.asked.clear()


async def test_after_a_power_cut_nothing_old_is_taken(world: World):
    """The witness agrees with what is left, but the last record was lost."""
    ledger = world.folder / "lookup.db"
    async with world.serving():
        kept = {p: p.read_bytes() for p in world.folder.glob("lookup.db*")}
        text = world.asker.ask(iat=world.iat + 59, exp=world.iat + 120)
        assert isinstance(await world.send(text), Reply)
    assert ledger in kept
    for path in world.folder.glob("lookup.db*"):
        path.unlink()
    for path, data in kept.items():
        path.write_bytes(data)
    world.boot = "second"
    async with world.serving():
        assert denied(await world.send(text)) == ("time",)
        world.clock.move(62)
        found = await world.ask(iat=world.iat, exp=world.iat + 60)
        assert isinstance(found, Reply)
        assert found.status == "ok"
    assert world.sources.asked == [(KEY,), (KEY,)]
    world.sources.asked.clear()


async def test_replay_after_the_clock_was_ahead_and_set_right(world: World):
    """What was forgotten while the clock was wrong is not asked a second time."""
    async with world.serving():
        text = world.asker.ask(jti=world.next_id())
        await world.send(text)
        world.clock.move(3600)
        await world.log.purge(evidence_days=30)
        world.clock.move(-3600)
        assert denied(await world.send(text)) == ("time",)
        world.clock.move(1)
        fresh = await world.ask(iat=world.iat, exp=world.iat + 60)
        assert isinstance(fresh, Reply)
        assert fresh.status == "ok"
    assert world.sources.asked == [(KEY,), (KEY,)]
    world.sources.asked.clear()


async def test_the_length_of_a_reply_says_nothing_of_the_person(world: World):
    """To who carries it, a row, no row and a refusal are of one length."""
    fields = ("name", "address", "birth_date")
    long = {**ZHANG, "name": "张" * 200, "citizen_id": "110101199003070022"}
    world.sources.rows.append(long)
    keys = (KEY, "110101199003070022", "110101199003070999")
    async with world.serving() as flow:
        asked = [
            world.asker.ask(jti=world.next_id(), fields=fields, items=(item(key),))
            for key in keys
        ]
        asked.append(world.asker.ask(jti=world.next_id(), purpose="collaboration"))
        sizes = {len(str(await flow.answer(text))) for text in asked}
    assert len(sizes) == 1
    assert len(world.sources.asked) == len(keys)
    world.sources.asked.clear()


async def test_replay_with_other_bytes(world: World):
    """Another message under a used id: denied, recorded, alarm; no second query."""
    jti = world.next_id()
    async with world.serving():
        await world.ask(jti=jti, fields=("name",))
        again = await world.ask(jti=jti, fields=("address",))
        assert denied(again) == ("replay",)
        statuses = [r["status"] for r in await world.records()]
    assert statuses == ["ok", "denied"]
    assert len(world.told(ReplayAttempt)) == 1
    assert world.sources.asked == [(KEY,)]
    world.sources.asked.clear()


async def test_replay_with_other_bytes_while_the_first_runs(world: World):
    """It does not wait for it."""
    gate = world.sources.gate = asyncio.Event()
    jti = world.next_id()
    async with world.serving():
        first = asyncio.create_task(world.ask(jti=jti, fields=("name",)))
        await asyncio.sleep(0.05)
        assert denied(await world.ask(jti=jti, fields=("address",))) == ("replay",)
        gate.set()
        found = await first
    assert isinstance(found, Reply)
    assert found.status == "ok"
    world.sources.asked.clear()


async def test_replay_with_other_bytes_beside_a_retry(world: World):
    """The answered message keeps its reply, also while another one claims its id."""
    jti = world.next_id()
    first = world.asker.ask(jti=jti, fields=("name",))
    other = world.asker.ask(jti=jti, fields=("address",))
    async with world.serving():
        reply = await world.send(first)
        found = await asyncio.gather(world.send(other), world.send(first))
    assert denied(found[0]) == ("replay",)
    assert found[1] == reply
    world.sources.asked.clear()


async def test_the_same_id_of_two_departments(tmp_path: Path):
    """Ids belong to who made them; neither hears of the other's answer."""
    world = World(tmp_path)
    jti = world.next_id()
    other = Requester(
        world.stranger, world.provider, replace(world.asker.template, iss=STRANGER)
    )
    async with world.serving() as flow:
        await world.ask(jti=jti, fields=("name",))
        answer = await flow.answer(other.ask(jti=jti))
    assert isinstance(answer, str)
    assert other.open(answer).reasons == ("grant",)


GRANT: list[tuple[str, dict[str, Any], str]] = [
    ("another department", {}, "grant"),
    ("unknown resource", {"resource": "9/9"}, "grant"),
    ("purpose outside", {"purpose": "work_reference"}, "purpose"),
    ("basis outside", {"basis": "because"}, "basis"),
    ("basis with a tail", {"basis": "case:TA-2026-00017; drop"}, "basis"),
    ("basis in look-alikes", {"basis": "case:TA-２０２６-00017"}, "basis"),
    ("field outside", {"fields": ("name", "region_code")}, "field"),
    ("field not shared", {"fields": ("mobile",)}, "field"),
    ("field of SQL", {"fields": ("name_from_person_union_select",)}, "field"),
    ("a partial key", {"items": (item("1101011990030700"),) * 1}, ""),
    ("two keys", {"items": (LookupItem({"citizen_id": KEY, "name": "张三"}),)}, "key"),
    ("key that is no key", {"items": (LookupItem({"name": "张三"}),)}, "key"),
    ("wildcard", {"items": (item("%"),)}, "key"),
    ("underscore", {"items": (item("_" * 18),)}, "key"),
    ("full width", {"items": (item("１１０１０１１９９００３０７００１１"),)}, "key"),
    ("look-alike", {"items": (item("11010119900307001Х"),)}, "key"),
    ("a space", {"items": (item(KEY + " "),)}, "key"),
    ("SQL", {"items": (item("' OR '1'='1"),)}, "key"),
    ("NUL", {"items": (item(KEY + "\0"),)}, "key"),
    ("good and bad items", {"items": (item(), item("%"))}, "key"),
    ("too many items", {"items": (item(),) * 101}, "quota"),
]


@pytest.mark.parametrize(
    ("what", "change", "reason"), GRANT, ids=[g[0].replace(" ", "-") for g in GRANT]
)
async def test_outside_the_grant(
    world: World, what: str, change: dict[str, Any], reason: str
):
    """All items are denied together, and nothing is asked of the source."""
    if what == "another department":
        asker = Requester(
            world.stranger, world.provider, replace(world.asker.template, iss=STRANGER)
        )
        async with world.serving() as flow:
            answer = await flow.answer(asker.ask())
        assert isinstance(answer, str)
        assert asker.open(answer).reasons == (reason,)
        return
    async with world.serving():
        found = await world.ask(**change)
    assert isinstance(found, Reply)
    if reason:
        assert found.status == "denied", what
        assert found.reasons == (reason,), what
        return
    assert found.results[0].status == "no_match"
    world.sources.asked.clear()


# --- too many -----------------------------------------------------------------------


async def test_a_consumer_that_fills_the_disk_does_not_stop_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    """Its messages are evidence; the last of the disk is not for them."""
    async with world.serving():
        monkeypatch.setattr("agent.audit.log.free_bytes", lambda _: FLOOR - 1)
        found = await world.ask(purpose="collaboration")
        assert refused(found) == (503, "busy")
        assert world.flow.trouble is not None
        assert world.flow.trouble.code == "audit-write-failed"
        assert world.log.trouble is None
        await world.log.append(AdminAction(0, "pause", None))
        monkeypatch.setattr("agent.audit.log.free_bytes", lambda _: FLOOR)
        assert denied(await world.ask(purpose="collaboration")) == ("purpose",)
        assert world.flow.trouble is None


async def test_long_requests_that_are_denied_do_not_fill_the_disk(tmp_path: Path):
    """The digest and the reply stay; allowed or short, the request does too."""
    world = World(tmp_path)
    items = tuple(item(f"1101011990030{n:05d}") for n in range(1000))
    long = world.asker.request(jti=world.next_id(), items=items)
    short = world.asker.request(jti=world.next_id(), purpose="collaboration")
    allowed = world.asker.request(jti=world.next_id(), items=items[:100])
    texts = [world.asker.sign(each) for each in (long, short, allowed)]
    async with world.serving() as flow:
        for text in texts:
            assert isinstance(await flow.answer(world.asker.seal(text)), str)
        found = [await world.log.evidence(r["n"]) for r in await world.records()]
        again = await world.send(world.asker.seal(texts[0]))
        records = await world.records()
    assert denied(again) == ("quota",)
    assert [r["request"] for r in records] == [message_digest(t) for t in texts]
    assert len(texts[0]) > DENIED_KEPT
    assert [None if e is None else e.request for e in found] == [None, *texts[1:]]
    assert all(e is not None and e.reply for e in found)


async def test_one_consumer_cannot_take_all_places(tmp_path: Path):
    """Its own share is full: 429; others still come in."""
    world = World(tmp_path, bounds=Bounds(in_flight=8, peer_in_flight=2))
    gate = world.sources.gate = asyncio.Event()
    other = Requester(
        world.stranger, world.provider, replace(world.asker.template, iss=STRANGER)
    )
    async with world.serving() as flow:
        busy = [asyncio.create_task(world.ask(fields=("name",))) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert refused(await world.ask()) == (429, "busy")
        answer = await flow.answer(other.ask())
        assert isinstance(answer, str)
        gate.set()
        await asyncio.gather(*busy)


async def test_a_storm_of_cut_lines_gathers_no_work(tmp_path: Path):
    """Requests whose line was cut are bounded; the same text still joins the first."""
    world = World(tmp_path, at_work=3)
    gate = world.sources.gate = asyncio.Event()
    texts = [world.asker.ask(jti=world.next_id(), fields=("name",)) for _ in range(5)]
    async with world.serving() as flow:
        for text in [*texts[:3], *texts[:3]]:
            cut = asyncio.create_task(flow.answer(text))
            await asyncio.sleep(0.02)
            cut.cancel()
            await asyncio.wait({cut})
        assert flow.inside == 0
        assert [refused(await world.send(text)) for text in texts[3:]] == [
            (503, "busy")
        ] * 2
        assert flow.counts().refused == 2
        again = [asyncio.create_task(world.send(text)) for text in texts[:3]]
        await asyncio.sleep(0.02)
        gate.set()
        found = await asyncio.gather(*again)
        assert [r.status for r in found if isinstance(r, Reply)] == ["ok"] * 3
        later = await world.send(texts[3])
        assert isinstance(later, Reply)
    assert len(world.sources.asked) == 4


# --- a peer that is revoked while its channel lives -----------------------------------


async def test_revoked_peer_on_a_live_channel_is_refused(world: World):
    """The channel is the exchange's: whom it lets through does not count."""
    async with world.serving():
        world.directory = without(world, kid=world.consumer.sign.public.kid)
        by_key = await world.ask()
        world.directory = without(world, node=world.consumer.node)
        by_node = await world.ask()
        assert await world.records() == []
    assert isinstance(by_key, Problem)
    assert isinstance(by_node, Problem)


def without(world: World, *, kid: str = "", node: str = "") -> Directory:
    """The directory after a revocation."""
    at = "2026-11-21T08:00:00Z"
    gone = RevokedFile({kid: at} if kid else {}, {node: at} if node else {})
    return replace(world.directory, revoked=gone)
