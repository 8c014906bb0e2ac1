# SPDX-License-Identifier: Apache-2.0
"""The chain of a node's key statements."""

from __future__ import annotations

import pytest

from agent.crypto.jose import PrivateKey
from agent.errors import BadSignature, MalformedMessage, UnknownKey
from agent.wire import keys
from tests.support import vectors

NODE = "11990100000000019F/front-1"
AT = "2026-11-21T08:00:00Z"
ONE = vectors.message("keys_1")["jws"]
TWO = vectors.message("keys_2")["jws"]
SIGN, SIGN2 = vectors.key("sign"), vectors.key("sign2")


def _statement(n: int, *private: PrivateKey, node: str = NODE) -> keys.KeyStatement:
    return keys.KeyStatement(node, n, tuple(p.public for p in private), AT)


def _signed(statement: keys.KeyStatement, by: PrivateKey) -> str:
    return by.sign(keys.TYP, statement.payload())


def test_chain_of_two_holds_old_and_new_keys():
    """Live keys are the newest statement's; keys are never removed."""
    chain = keys.chain([ONE, TWO])
    assert chain.node == NODE
    assert SIGN2.public in chain.live
    assert SIGN.public not in chain.live
    assert {SIGN.public.kid, SIGN2.public.kid} <= set(chain.all)
    assert chain.digest == vectors.message("keys_1")["digest"]


def test_first_statement_signed_by_another_key_is_refused():
    """Statement 1 is signed by its own sign key."""
    with pytest.raises(UnknownKey):
        keys.chain([_signed(_statement(1, SIGN), SIGN2)])


def test_successor_signed_by_its_own_key_is_refused():
    """Who steals nothing of statement n cannot write n+1."""
    forged = _signed(_statement(2, SIGN2), SIGN2)
    with pytest.raises(UnknownKey):
        keys.chain([ONE, forged])


def test_successor_claiming_the_right_kid_needs_the_right_key():
    """The kid is a claim; the signature decides."""
    good = TWO.split(".")
    forged = _signed(_statement(2, SIGN2), SIGN2).split(".")
    with pytest.raises(BadSignature):
        keys.chain([ONE, ".".join([good[0], good[1], forged[2]])])


@pytest.mark.parametrize("texts", [[], [TWO], [ONE, ONE], [TWO, ONE]])
def test_gap_or_repetition_is_refused(texts: list[str]):
    """Statements come as 1, 2, 3."""
    with pytest.raises(MalformedMessage):
        keys.chain(texts)


def test_statement_of_another_node_breaks_the_chain():
    """A chain has one node."""
    other = _signed(_statement(2, SIGN2, node="11990100000000019F/b"), SIGN)
    with pytest.raises(MalformedMessage, match="front-1"):
        keys.chain([ONE, other])


def test_other_message_is_no_statement():
    """typ is looked at before the payload."""
    with pytest.raises(MalformedMessage, match="typ"):
        keys.chain([vectors.message("catalog")["jws"]])
