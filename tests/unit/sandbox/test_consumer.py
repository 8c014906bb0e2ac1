# SPDX-License-Identifier: Apache-2.0
"""A consumer's questions and what it believes of the answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey, message_digest, split, verify
from agent.errors import FepError, MalformedMessage, UnknownKey, UsageFault
from agent.wire import keys, strict
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeFile,
    KeyStatus,
    NodeEntry,
    RevokedFile,
)
from agent.wire.keys import KeyStatement
from agent.wire.lookup import REPLY_TYP, REQUEST_TYP, Request, parse_request
from sandbox.consumer import Consumer, Question
from tests.support.lookup_client import uuid7

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
ASKER, GIVER = "11990100MB1234567X/ask", "11990100MB7654321Y/give"
RESOURCE = "990100/rk/person"
ASK: dict[str, Any] = {
    "op": "exists",
    "resource": RESOURCE,
    "items": [{"keys": {"id": "1"}}],
    "fields": [],
    "purpose": "work_reference",
    "basis": "b",
    "officer": {"id": "9", "auth": "password"},
}


class Party:
    """A node's keys with their statement."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.sign, self.decrypt, self.newer = (
            PrivateKey.generate(p) for p in ("sign", "decrypt", "decrypt")
        )
        own = (self.sign.public, self.decrypt.public, self.newer.public)
        statement = KeyStatement(node, 1, own, "2026-11-21T08:00:00Z")
        self.statement = self.sign.sign(keys.TYP, statement.payload())

    def entry(self, **status: Literal["active", "retired", "revoked"]) -> NodeEntry:
        """With the status of its keys, by their names here."""
        since = "2026-11-21T08:00:00Z"
        listed = tuple(
            KeyStatus(
                getattr(self, name).public.kid, status.get(name, "active"), since, None
            )
            for name in ("sign", "decrypt", "newer")
        )
        return NodeEntry(self.node, "active", (self.statement,), listed)


@pytest.fixture(scope="module")
def asker() -> Party:
    return Party(ASKER)


@pytest.fixture(scope="module")
def giver() -> Party:
    return Party(GIVER)


def directory(*entries: NodeEntry) -> Directory:
    files = {}
    for entry in entries:
        department = entry.node[:18]
        owned = {RESOURCE: entry.node} if entry.node == GIVER else {}
        files[department] = DepartmentFile(department, (entry,), owned)
    return Directory(0, files, ExchangeFile(()), RevokedFile({}, {}))


def consumer(asker: Party, *entries: NodeEntry) -> Consumer:
    return Consumer(ASKER, asker.sign, asker.decrypt, directory(*entries), lambda: NOW)


@pytest.fixture
def one(asker: Party, giver: Party) -> Consumer:
    return consumer(asker, asker.entry(), giver.entry())


def reply(
    question: Question,
    giver: Party,
    asker: Party,
    *,
    members: dict[str, Any] | None = None,
    header: dict[str, str] | None = None,
) -> str:
    body = {
        "v": 1,
        "iss": GIVER,
        "aud": ASKER,
        "jti": uuid7(),
        "irt": question.request.jti,
        "req_sha256": message_digest(question.jws),
        "iat": 0,
        "status": "ok",
        "results": [{"i": 0, "status": "ok", "as_of": "2026-11-21T08:00:00Z"}],
        "masked": [],
        "policy": {"rev": 1, "decision_id": uuid7()},
        "reasons": [],
    } | (members or {})
    text = giver.sign.sign(REPLY_TYP, strict.dumps(body))
    names = {"cty": REPLY_TYP, "iss": GIVER, "aud": ASKER} | (header or {})
    return jwe.seal(text, to=asker.decrypt.public, **names)


def test_question_is_signed_and_sealed(
    one: Consumer, asker: Party, giver: Party
) -> None:
    """For the owner of the resource if no other is named; one minute long."""
    question = one.build(one.request(ASK))
    sealed = jwe.split_sealed(question.jwe, cap=1 << 20)
    text = sealed.open(giver.newer)
    assert text == question.jws
    message = verify(split(text, cap=1 << 20), asker.sign.public, typ=REQUEST_TYP)
    found: Request = parse_request(message.payload)
    assert (found.iss, found.aud) == (ASKER, GIVER)
    assert (found.iat, found.exp - found.iat) == (int(NOW.timestamp()), 60)


def test_newest_active_key_is_sealed_to(asker: Party, giver: Party) -> None:
    """A retired or revoked one is passed over; without any there is no question."""
    entries = asker.entry(), giver.entry(newer="retired")
    question = consumer(asker, *entries).build(consumer(asker, *entries).request(ASK))
    assert jwe.split_sealed(question.jwe, cap=1 << 20).kid == giver.decrypt.public.kid
    none = consumer(asker, giver.entry(newer="retired", decrypt="revoked"))
    with pytest.raises(UnknownKey, match="no active decrypt key"):
        none.build(none.request(ASK))


def test_resource_without_owner_needs_a_provider(one: Consumer) -> None:
    """Nobody is guessed."""
    with pytest.raises(UsageFault, match="aud"):
        one.request(ASK | {"resource": "1/2"})


def test_two_questions_have_two_numbers(one: Consumer) -> None:
    """A jti is never used again by itself."""
    assert one.request(ASK).jti != one.request(ASK).jti


def test_retry_seals_the_same_message_again(one: Consumer, giver: Party) -> None:
    """Another seal, the same signed text."""
    question = one.build(one.request(ASK))
    again = one.seal(question.request, question.jws)
    assert again.jwe != question.jwe
    sealed = jwe.split_sealed(again.jwe, cap=1 << 20)
    assert sealed.open(giver.newer) == question.jws


def test_good_answer_is_believed(one: Consumer, asker: Party, giver: Party) -> None:
    """And its exact text kept."""
    question = one.build(one.request(ASK))
    heard = one.open(reply(question, giver, asker), question)
    assert heard.reply.status == "ok"
    assert split(heard.jws, cap=1 << 20).typ == REPLY_TYP


@pytest.mark.parametrize(
    "members",
    [
        {"irt": uuid7()},
        {"req_sha256": "sha256:" + "0" * 64},
        {"iss": ASKER},
        {"aud": GIVER},
        {"results": []},
        {"status": "denied"},
    ],
    ids=lambda m: next(iter(m)),
)
def test_answer_to_something_else_is_not_believed(
    one: Consumer, asker: Party, giver: Party, members: dict[str, Any]
) -> None:
    """Each claim binds it to the question."""
    question = one.build(one.request(ASK))
    with pytest.raises(MalformedMessage):
        one.open(reply(question, giver, asker, members=members), question)


@pytest.mark.parametrize("name", ["cty", "iss", "aud"])
def test_header_must_say_what_is_inside(
    one: Consumer, asker: Party, giver: Party, name: str
) -> None:
    """A relay could have turned it."""
    question = one.build(one.request(ASK))
    other = {"cty": REQUEST_TYP, "iss": ASKER, "aud": GIVER}[name]
    with pytest.raises(MalformedMessage, match="JWE header"):
        one.open(reply(question, giver, asker, header={name: other}), question)


def test_answer_to_an_earlier_question_is_not_believed(
    one: Consumer, asker: Party, giver: Party
) -> None:
    """Replies of two questions exchanged on the way are both refused."""
    first, second = (one.build(one.request(ASK)) for _ in range(2))
    with pytest.raises(MalformedMessage, match="irt"):
        one.open(reply(first, giver, asker), second)


def test_retired_signer_is_not_believed(asker: Party, giver: Party) -> None:
    """Nor a revoked one, nor a stranger."""
    good = consumer(asker, asker.entry(), giver.entry())
    question = good.build(good.request(ASK))
    text = reply(question, giver, asker)
    for status in ("retired", "revoked"):
        entries = asker.entry(), giver.entry(sign=status)
        with pytest.raises(UnknownKey):
            replace(good, directory=directory(*entries)).open(text, question)
    stranger = reply(question, Party(GIVER), asker)
    with pytest.raises(UnknownKey):
        good.open(stranger, question)


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.b.c.d.e", "{}", "é" * 50])
def test_garbage_is_no_answer(one: Consumer, text: str) -> None:
    """Our own error, whatever came."""
    question = one.build(one.request(ASK))
    with pytest.raises(FepError):
        one.open(text, question)
