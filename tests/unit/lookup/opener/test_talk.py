# SPDX-License-Identifier: Apache-2.0
"""What daemon and opener say to each other: it comes as it went, or it is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import jose, jwe
from agent.crypto.jose import PrivateKey
from agent.errors import (
    BadSignature,
    MalformedMessage,
    PeerFault,
    Undecryptable,
)
from agent.lookup.opener.talk import (
    Kind,
    answer_frame,
    answer_of,
    ask_body,
    ask_of,
    keys_body,
    keys_of,
)
from agent.wire.lookup import REQUEST_CAP, REQUEST_TYP
from tests.support.tries import tries

SIGN, DECRYPT = PrivateKey.generate("sign"), PrivateKey.generate("decrypt")
TEXT = SIGN.sign(REQUEST_TYP, '{"name":"张三"}'.encode())
MESSAGE = jose.split(TEXT, cap=REQUEST_CAP)
SEALED = jwe.split_sealed(
    jwe.seal(TEXT, to=DECRYPT.public, cty=REQUEST_TYP, iss="a/b", aud="c/d"),
    cap=REQUEST_CAP,
)


def test_what_is_asked_comes_as_it_went() -> None:
    """The message, and of the keys those that sign."""
    asked = ask_of(ask_body(SEALED, (DECRYPT.public, SIGN.public)))
    assert asked == (SEALED, (SIGN.public,))
    assert ask_of(ask_body(SEALED, ())) == (SEALED, ())


def test_keys_come_as_they_went() -> None:
    """Under the kids that they have."""
    (found,) = keys_of(keys_body([DECRYPT])).items()
    assert (found[0], found[1].pem()) == (DECRYPT.public.kid, DECRYPT.pem())


@pytest.mark.parametrize(
    "found",
    [MESSAGE, jose.verify(MESSAGE, SIGN.public, typ=REQUEST_TYP)],
    ids=["unverified", "verified"],
)
def test_an_answer_comes_as_it_went(found: jose.Unverified | jose.Verified) -> None:
    """Every member of it."""
    assert answer_of(*answer_frame(found)) == found


@pytest.mark.parametrize("cls", [MalformedMessage, BadSignature, Undecryptable])
@pytest.mark.parametrize("detail", ["", "header.typ: expected x", "two\nlines 张"])
def test_a_fault_comes_as_it_went(cls: type[PeerFault], detail: str) -> None:
    """Its class and its words."""
    found = answer_of(*answer_frame(cls(detail)))
    assert isinstance(found, PeerFault)
    assert (type(found), found.detail) == (cls, detail)


@tries(300)
@given(st.sampled_from([0, *range(Kind.KEYS, Kind.BEAT + 2)]), st.binary(max_size=99))
def test_any_bytes_are_an_answer_or_a_value_error(kind: int, body: bytes) -> None:
    """Garbage never ends in another exception."""
    with contextlib.suppress(ValueError):
        answer_of(kind, body)


@tries(300)
@given(
    st.sampled_from([Kind.VERIFIED, Kind.UNVERIFIED, Kind.FAULT]),
    st.lists(st.sampled_from(["\n", ".", "a", "e30", "=", "张", TEXT]), max_size=9),
)
def test_any_words_are_an_answer_or_a_value_error(kind: int, words: list[str]) -> None:
    """Also where they are nearly right."""
    with contextlib.suppress(ValueError):
        answer_of(kind, "".join(words).encode())
