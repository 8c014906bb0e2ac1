# SPDX-License-Identifier: Apache-2.0
"""Mutated valid messages and payloads: a value or our error, nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadPayload, BadSignature, MalformedMessage
from agent.model.batch import Rows
from agent.wire import (
    arrow,
    batch,
    catalog,
    command,
    directory,
    keys,
    lookup,
    position,
    problem,
    receipt,
    reconcile,
)
from tests.support import commands, vectors
from tests.support.tries import tries

PARSERS: dict[str, Callable[[bytes], Any]] = {
    "batch_full": batch.parse,
    "batch_unchanged": batch.parse,
    "batch_cdc_restored": batch.parse,
    "catalog": catalog.parse,
    "keys_1": keys.parse,
    "receipt_loaded": receipt.parse,
    "position": position.parse,
    "directory": directory.parse,
    "reconcile_request": reconcile.parse_request,
    "reconcile_response": reconcile.parse_response,
    "request_get": lookup.parse_request,
    "request_verify": lookup.parse_request,
    "reply_get": lookup.parse_reply,
    "reply_verify": lookup.parse_reply,
    "reply_denied": lookup.parse_reply,
    "problem": lambda data: problem.parse(data, status=400),
    "command": command.parse,
    "command_result": command.parse_result,
}
SEEDS = {m["name"]: m["payload"] for m in vectors.load("wire.json")["messages"]}
SEEDS |= {m["name"]: m["payload"] for m in vectors.load("lookup.json")["messages"]}
SEEDS["command"] = commands.command("run", commands.RESOURCE).payload().decode()
SEEDS["command_result"] = commands.result().payload().decode()
SEEDS["problem"] = problem.Problem.of("chain-gap", "x", expected_seq=2).body().decode()

ODD = st.sampled_from(
    [None, True, 0, -1, 2**53 - 1, "", "x" * 300, "\n", "1", [], [[]], {}, {"v": 1}]
).map(copy.deepcopy)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, index) of everything inside a JSON value."""
    if isinstance(value, dict):
        inner: list[Any] = list(value)
    elif isinstance(value, list):
        inner = list(range(len(value)))
    else:
        return []
    found = [(value, i) for i in inner]
    for i in inner:
        found += _places(value[i])
    return found


@pytest.mark.parametrize("name", sorted(PARSERS))
@tries(60)
@given(data=st.data())
def test_odd_member_gives_a_value_or_our_error(name: str, data: st.DataObject):
    """Any member replaced, removed or added."""
    obj = json.loads(SEEDS[name])
    for _ in range(data.draw(st.integers(1, 2))):
        container, at = data.draw(st.sampled_from(_places(obj)))
        if isinstance(container, list) and at >= len(container):
            continue
        how = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "replace":
            container[at] = data.draw(ODD)
        elif how == "add" and isinstance(container, dict):
            container["added"] = data.draw(ODD)
        elif at in container or isinstance(container, list):
            del container[at]
        if not obj:
            break
    try:
        value = PARSERS[name](json.dumps(obj, ensure_ascii=False).encode())
    except MalformedMessage as e:
        assert len(e.detail) < 300  # noqa: PT017 - both ends are right
    else:
        again = value.body() if name == "problem" else value.payload()
        assert PARSERS[name](again) == value


@pytest.mark.parametrize("name", sorted(PARSERS))
@tries(40)
@given(at=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_odd_byte_gives_a_value_or_our_error(
    name: str, at: int, byte: int, *, cut: bool
):
    """Any byte changed, or everything after it gone."""
    seed = SEEDS[name].encode()
    at %= len(seed)
    text = seed[:at] if cut else seed[:at] + bytes([byte]) + seed[at + 1 :]
    try:
        PARSERS[name](text)
    except MalformedMessage:
        return
    assert text


@tries(60)
@given(
    at=st.integers(0, 10**4),
    byte=st.characters(max_codepoint=127),
    order=st.permutations([0, 1]),
)
def test_odd_chain_gives_a_value_or_our_error(at: int, byte: str, order: list[int]):
    """Statements shuffled and changed."""
    texts = [vectors.message(f"keys_{n}")["jws"] for n in (1, 2)]
    at %= len(texts[0])
    texts[0] = texts[0][:at] + byte + texts[0][at + 1 :]
    try:
        chain = keys.chain([texts[i] for i in order])
    except (MalformedMessage, BadSignature):
        return
    assert len(chain.statements) == 2


SAMPLE = (vectors.VECTORS / "990100001_000001.1.1.fepb").read_bytes()
PAYLOAD = SAMPLE[SAMPLE.index(b"\n") + 1 :]


@tries(100)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(PAYLOAD) - 1), st.binary(min_size=1, max_size=8)),
        min_size=1,
        max_size=3,
    ),
    cut=st.integers(0, len(PAYLOAD)) | st.just(len(PAYLOAD)),
)
def test_odd_payload_gives_rows_or_bad_payload(
    changes: list[tuple[int, bytes]], cut: int
):
    """Any bytes changed or cut; what passes can be digested."""
    data = bytearray(PAYLOAD)
    for at, piece in changes:
        data[at : at + len(piece)] = piece
    items, rows = vectors.items(), Rows(2, 0, 1)
    try:
        for part in arrow.read_payload(
            bytes(data[:cut]), items, mode="full", raw_size=10_000, rows=rows
        ):
            assert arrow.row_digest_sum(part, items) < 1 << 128
    except BadPayload:
        return
