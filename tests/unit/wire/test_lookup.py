# SPDX-License-Identifier: Apache-2.0
"""Lookup requests and replies: shapes, contradictions, and what answers what."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import jose, jwe
from agent.errors import BadSignature, MalformedMessage, Undecryptable
from agent.wire import lookup
from agent.wire.lookup import LookupItem, Reply, Request, Result
from tests.support import lookup_vectors as made
from tests.support import vectors
from tests.support.tries import tries

VECTORS = vectors.load("lookup.json")
MESSAGES = {m["name"]: m for m in VECTORS["messages"]}
SECRET = "110101199003070011"


def payload(name: str) -> dict[str, Any]:
    """A pinned payload."""
    found: dict[str, Any] = json.loads(MESSAGES[name]["payload"])
    return found


def data_of(obj: object) -> bytes:
    """JSON of anything."""
    return json.dumps(obj, ensure_ascii=False).encode()


def reply(name: str) -> Reply:
    """A pinned reply."""
    return lookup.parse_reply(MESSAGES[f"reply_{name}"]["payload"].encode())


REQUESTS = {"get": made.GET, "verify": made.VERIFY, "exists": made.EXISTS}
PARSE = {lookup.REQUEST_TYP: lookup.parse_request, lookup.REPLY_TYP: lookup.parse_reply}


@pytest.mark.parametrize("name", MESSAGES)
def test_pinned_payloads_come_back_byte_for_byte(name: str):
    """Nothing is lost, reordered or added between the bytes and the value."""
    pinned = MESSAGES[name]
    value: Request | Reply = PARSE[pinned["typ"]](pinned["payload"].encode())
    assert value.payload().decode() == pinned["payload"]


@pytest.mark.parametrize("name", MESSAGES)
def test_pinned_messages_verify(name: str):
    """The recorded signature, digest and signing input."""
    pinned = MESSAGES[name]
    key = vectors.key(pinned["key"])
    message = jose.split(pinned["jws"], cap=lookup.REQUEST_CAP)
    assert (
        jose.verify(message, key.public, typ=pinned["typ"]).digest == pinned["digest"]
    )
    again = key.sign(pinned["typ"], pinned["payload"].encode())
    assert again.rpartition(".")[0] == pinned["signing_input"]


@pytest.mark.parametrize("op", REQUESTS)
def test_a_request_is_the_one_that_was_made(op: str):
    """Every member, keys and claims included."""
    pinned = MESSAGES[f"request_{op}"]["payload"].encode()
    assert lookup.parse_request(pinned) == REQUESTS[op]
    assert REQUESTS[op].key_names == ("id_number",)


@pytest.mark.parametrize("op", REQUESTS)
def test_a_reply_answers_its_request(op: str):
    """Pinned request and reply belong together."""
    digest = MESSAGES[f"request_{op}"]["digest"]
    lookup.check_answer(reply(op), REQUESTS[op], req_sha256=digest)


@pytest.mark.parametrize("case", VECTORS["contradictions"], ids=lambda c: c["name"])
def test_header_and_inside_that_differ_are_refused(case: dict[str, str]):
    """Everything opens; kid, typ, iss or aud is not what it was outside."""
    sealed = jwe.split_sealed(case["text"], cap=lookup.REQUEST_CAP)
    inner = jose.split(sealed.open(vectors.key(case["to"])), cap=lookup.REQUEST_CAP)
    key = vectors.key("consumer_sign").public

    def receive() -> None:
        message = jose.verify(inner, key, typ=lookup.REQUEST_TYP)
        request = lookup.parse_request(message.payload)
        outside = (sealed.cty, sealed.iss, sealed.aud)
        if outside != (lookup.REQUEST_TYP, request.iss, request.aud):
            raise MalformedMessage("header")

    with pytest.raises((MalformedMessage, BadSignature)):
        receive()


# --- requests -------------------------------------------------------------------------

ITEM = {"keys": {"id_number": SECRET}}
MANY = [f"f{n}" for n in range(1025)]


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"op": "list"},
        {"op": "batch"},
        {"op": None},
        {"iss": "11990100MB0000018H"},
        {"aud": "yunxi.exchange"},
        {"jti": "1"},
        {"jti": "01939f5e-7c00-4000-8000-000000000001"},
        {"iat": "1795248000"},
        {"iat": -1},
        {"exp": 1.5},
        {"resource": "990100001"},
        {"resource": "990100001/*"},
        {"items": []},
        {"items": [ITEM] * 1001},
        {"items": ITEM},
        {"items": [None]},
        {"items": [{}]},
        {"items": [{"keys": {}}]},
        {"items": [{"keys": []}]},
        {"items": [{"keys": {"id_number": None}}]},
        {"items": [{"keys": {"id_number": 110101199003070}}]},
        {"items": [{"keys": {"id_number": ["x"]}}]},
        {"items": [{"keys": {"id_number": "x" * 4001}}]},
        {"items": [{"keys": {"ID": "x"}}]},
        {"items": [{"keys": {"id number": "x"}}]},
        {"items": [{"keys": {f"k{n}": "x" for n in range(9)}}]},
        {"items": [{**ITEM, "claims": {"name": "x"}}]},
        {"items": [{**ITEM, "claims": None}]},
        {"items": [{**ITEM, "where": "1=1"}]},
        {"items": [ITEM, {"keys": {"other": "x"}}]},
        {"items": [ITEM, {"keys": {"id_number": "x", "other": "x"}}]},
        {"fields": []},
        {"fields": ["name", "name"]},
        {"fields": ["*"]},
        {"fields": ["Name"]},
        {"fields": "name"},
        {"fields": [1]},
        {"fields": MANY},
        {"purpose": "curiosity"},
        {"purpose": ["work_reference"]},
        {"basis": ""},
        {"basis": "x" * 257},
        {"basis": None},
        {"matter": None},
        {"matter": ""},
        {"approval": None},
        {"approval": "yes"},
        {"officer": {}},
        {"officer": "zhang"},
        {"officer": {"id": "", "auth": "x"}},
        {"officer": {"id": "x", "auth": "x", "name": "x"}},
        {"extra": 1},
        {"reply_key": {}},
    ],
    ids=lambda c: str(c)[:60],
)
def test_a_request_of_another_shape_is_refused(changes: dict[str, Any]):
    """Each rule of the page, and no complaint tells what stood there."""
    with pytest.raises(MalformedMessage) as caught:
        lookup.parse_request(data_of({**payload("request_get"), **changes}))
    assert SECRET not in str(caught.value)
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize("name", sorted(payload("request_get").keys() - {"matter"}))
def test_a_member_that_is_missing_is_refused(name: str):
    """Only matter and approval may be absent."""
    body = payload("request_get")
    del body[name]
    with pytest.raises(MalformedMessage):
        lookup.parse_request(data_of(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"claims": {"name": "x"}},
        {"claims": {"name": "x", "note": None, "more": None}},
        {"claims": {"name": "x", "note": 1}},
        {"claims": {}},
        {"claims": None},
    ],
)
def test_claims_are_exactly_the_fields(changes: dict[str, Any]):
    """verify compares what was asked for, no more and no less."""
    body = payload("request_verify")
    body["items"][0].update(changes)
    with pytest.raises(MalformedMessage):
        lookup.parse_request(data_of(body))


def test_exists_asks_for_no_field():
    """It would be a get."""
    with pytest.raises(MalformedMessage, match="exactly for exists"):
        replace(made.EXISTS, fields=("name",)).payload()


def test_what_would_be_refused_is_not_made():
    """A request is checked before it is signed."""
    with pytest.raises(MalformedMessage):
        replace(made.GET, items=()).payload()


def test_the_most_items_and_the_longest_keys_pass():
    """1,000 items, 8 keys, 4,000 characters, each at its bound."""
    items = tuple(LookupItem({"id_number": f"{n}"}) for n in range(1000))
    assert (
        len(lookup.parse_request(replace(made.GET, items=items).payload()).items)
        == 1000
    )
    keys = {f"k{n}": "张" * 4000 for n in range(8)}
    request = replace(made.GET, items=(LookupItem(keys),))
    assert lookup.parse_request(request.payload()) == request
    assert lookup.parse_request(
        replace(made.GET, items=(LookupItem({"id_number": ""}),)).payload()
    )


def test_a_megabyte_of_claims_is_read_in_time():
    """The largest request that fits its cap takes well under a second."""
    claims = {f"f{n}": "x" * 650 for n in range(800)}
    request = replace(
        made.VERIFY,
        items=(LookupItem({"id_number": SECRET}, claims),),
        fields=tuple(claims),
    )
    jws = vectors.key("consumer_sign").sign(lookup.REQUEST_TYP, request.payload())
    assert len(jws) <= lookup.REQUEST_ROOM
    text = jwe.seal(
        jws,
        to=vectors.key("decrypt").public,
        cty=lookup.REQUEST_TYP,
        iss=request.iss,
        aud=request.aud,
    )
    start = time.process_time()
    sealed = jwe.split_sealed(text, cap=lookup.REQUEST_CAP)
    message = jose.split(sealed.open(vectors.key("decrypt")), cap=lookup.REQUEST_CAP)
    assert lookup.parse_request(message.payload) == request
    assert time.process_time() - start < 1


def test_deep_json_is_refused():
    """Beyond 8 levels, before the parser recurses."""
    deep = b'{"v":1,"items":' + b"[" * 500_000 + b"]" * 500_000 + b"}"
    with pytest.raises(MalformedMessage, match="levels"):
        lookup.parse_request(deep)


@pytest.mark.parametrize("member", ["officer", "basis", "items", "matter"])
def test_a_complaint_never_quotes_a_person(member: str):
    """A number or a text in the wrong place stays out of the log."""
    for value in (SECRET, 13800138000, [SECRET], {SECRET: SECRET}):
        body = {**payload("request_get"), member: value}
        if member in ("basis", "matter") and isinstance(value, str):
            continue
        with pytest.raises(MalformedMessage) as caught:
            lookup.parse_request(data_of(body))
        assert SECRET not in str(caught.value)
        assert "13800138000" not in str(caught.value)


def test_nothing_personal_shows_in_repr():
    """Values that a debugger or a log line would print."""
    text = repr(made.VERIFY) + repr(reply("get"))
    assert not [word for word in (SECRET, "张", "zhang.san", "CS-2026") if word in text]


# --- replies --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("get", {"status": "maybe"}),
        ("get", {"results": []}),
        ("get", {"reasons": ["grant"]}),
        ("get", {"masked": ["name", "name"]}),
        ("get", {"masked": ["*"]}),
        ("get", {"req_sha256": "abc"}),
        ("get", {"irt": "x"}),
        ("get", {"policy": {"rev": -1, "decision_id": made.UUID + "d"}}),
        ("get", {"policy": {"rev": 1}}),
        ("get", {"policy": {"rev": 1, "rule": None, "decision_id": made.UUID + "d"}}),
        ("denied", {"reasons": []}),
        ("error", {"reasons": []}),
        ("denied", {"reasons": ["because"]}),
        ("denied", {"reasons": ["grant", "grant"]}),
        ("denied", {"results": [{"i": 0, "status": "ok", "as_of": made.AS_OF}]}),
        ("pending", {"results": [{"i": 0, "status": "ok", "as_of": made.AS_OF}]}),
    ],
)
def test_a_reply_of_another_shape_is_refused(name: str, changes: dict[str, Any]):
    """Each rule of the page."""
    with pytest.raises(MalformedMessage):
        lookup.parse_reply(data_of({**payload(f"reply_{name}"), **changes}))


@pytest.mark.parametrize(
    ("name", "at", "changes"),
    [
        ("get", 0, {"i": 1}),
        ("get", 1, {"i": 0}),
        ("get", 0, {"status": "no_match"}),
        ("get", 0, {"as_of": "yesterday"}),
        ("get", 0, {"data": {"name": 1}}),
        ("get", 0, {"data": None}),
        ("get", 1, {"data": {"name": "x"}}),
        ("get", 0, {"verdicts": {"name": "match"}}),
        ("verify", 0, {"verdicts": {"name": "maybe"}}),
        ("verify", 0, {"verdicts": {"name": "no_record", "note": "no_record"}}),
        ("verify", 1, {"verdicts": {"name": "match", "note": "no_record"}}),
        ("verify", 0, {"verdicts": {"name": ["match"], "note": "match"}}),
        ("exists", 0, {"status": "yes"}),
    ],
)
def test_a_result_of_another_shape_is_refused(
    name: str, at: int, changes: dict[str, Any]
):
    """Numbers in order, data only with a row, verdicts of the list."""
    body = payload(f"reply_{name}")
    body["results"][at].update(changes)
    with pytest.raises(MalformedMessage):
        lookup.parse_reply(data_of(body))


def test_members_of_a_later_version_are_ignored_in_replies():
    """At every level; requests refuse them."""
    body = payload("reply_get")
    plain = lookup.parse_reply(data_of(body))
    body["later"] = body["policy"]["later"] = body["results"][0]["later"] = [1]
    assert lookup.parse_reply(data_of(body)) == plain


@pytest.mark.parametrize(
    ("op", "changes"),
    [
        ("get", {"iss": made.CONSUMER}),
        ("get", {"aud": made.PROVIDER}),
        ("get", {"irt": made.UUID + "2"}),
        ("get", {"req_sha256": "sha256:" + "0" * 64}),
        ("get", {"results": reply("get").results[:1]}),
        ("get", {"results": reply("exists").results}),
        ("get", {"results": reply("verify").results}),
        ("get", {"masked": ("id_number",)}),
        ("verify", {"results": reply("get").results}),
        ("verify", {"results": reply("exists").results}),
        ("exists", {"results": reply("get").results}),
        ("exists", {"results": reply("verify").results}),
    ],
)
def test_a_reply_to_something_else_is_no_answer(op: str, changes: dict[str, Any]):
    """Of another, for another, to another request, or with other contents."""
    digest = MESSAGES[f"request_{op}"]["digest"]
    with pytest.raises(MalformedMessage):
        lookup.check_answer(
            replace(reply(op), **changes), REQUESTS[op], req_sha256=digest
        )


def test_a_get_that_gives_more_or_less_is_no_answer():
    """Exactly the fields, in every row."""
    digest = MESSAGES["request_get"]["digest"]
    results = reply("get").results
    for data in ({"name": "x"}, {**(results[0].data or {}), "more": "x"}):
        other = (Result(0, "ok", data, None, made.AS_OF), results[1])
        with pytest.raises(MalformedMessage, match="not what was asked"):
            lookup.check_answer(
                replace(reply("get"), results=other), made.GET, req_sha256=digest
            )


def test_a_refusal_answers_whatever_was_asked():
    """Denied, pending and error have no results to compare."""
    digest = MESSAGES["request_get"]["digest"]
    for name in ("denied", "pending", "error"):
        lookup.check_answer(reply(name), made.GET, req_sha256=digest)


texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)


@tries(100)
@given(
    st.dictionaries(names, texts, min_size=1, max_size=8),
    st.dictionaries(names, st.none() | texts, min_size=1, max_size=8),
    st.integers(1, 5),
)
def test_any_verify_request_comes_back(
    keys: dict[str, str], claims: dict[str, str | None], count: int
):
    """Whatever the texts, NULL and empty text apart."""
    request = replace(
        made.VERIFY, items=(LookupItem(keys, claims),) * count, fields=tuple(claims)
    )
    assert lookup.parse_request(request.payload()) == request


@tries(100)
@given(
    st.lists(
        st.none() | st.dictionaries(names, st.none() | texts, min_size=1),
        min_size=1,
        max_size=5,
    )
)
def test_any_get_reply_comes_back(rows: list[dict[str, str | None] | None]):
    """Rows that are there and rows that are not."""
    results = tuple(
        Result(i, "no_match" if row is None else "ok", row, None, made.AS_OF)
        for i, row in enumerate(rows)
    )
    value = replace(reply("get"), results=results)
    assert lookup.parse_reply(value.payload()) == value


@pytest.mark.parametrize("case", VECTORS["refused_sealed"], ids=lambda c: c["name"])
def test_no_forgery_tells_a_secret(case: dict[str, str]):
    """What is refused is described by its form only."""
    with pytest.raises((MalformedMessage, Undecryptable)) as caught:
        jwe.split_sealed(case["text"], cap=lookup.REQUEST_CAP).open(
            vectors.key(case["to"])
        )
    assert SECRET not in str(caught.value)
    assert len(caught.value.detail) < 250
