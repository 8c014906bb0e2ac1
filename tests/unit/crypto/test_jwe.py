# SPDX-License-Identifier: Apache-2.0
"""Sealed messages: what opens, what is refused before a key is used, and by what."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import ECKey

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey, from_base64url
from agent.crypto.jwe import Sealed
from agent.errors import MalformedMessage, Undecryptable
from tests.support import vectors
from tests.support.forge import Forge
from tests.support.tries import tries

CAP = 1 << 20
TYP = "fep-lookup-req+jws"
OPENER = vectors.key("decrypt")
SIGNER = vectors.key("consumer_sign")
VECTORS = vectors.load("lookup.json")
JWS = SIGNER.sign(TYP, b'{"v":1}')
ENDS = {"cty": TYP, "iss": "a/b", "aud": "c/d"}


def sealed(jws: str = JWS) -> str:
    """A message to the test key."""
    return jwe.seal(jws, to=OPENER.public, **ENDS)


GOOD = sealed()


def opened(text: str | bytes, key: PrivateKey = OPENER) -> str:
    """What is inside."""
    return jwe.split_sealed(text, cap=CAP).open(key)


def test_what_was_sealed_opens_and_names_its_ends():
    """The same JWS comes out; kid, cty, iss and aud stand outside."""
    found = jwe.split_sealed(GOOD.encode(), cap=CAP)
    assert found.open(OPENER) == JWS
    assert (found.kid, found.cty) == (OPENER.public.kid, TYP)
    assert (found.iss, found.aud, found.text) == ("a/b", "c/d", GOOD)


def test_the_header_has_seven_members_and_a_bare_key():
    """Nothing of the message stands outside but what a relay needs."""
    head: dict[str, Any] = json.loads(from_base64url(GOOD.split(".")[0], at="header"))
    assert set(head) == {"alg", "enc", "kid", "epk", "cty", "iss", "aud"}
    assert set(head["epk"]) == {"kty", "crv", "x", "y"}


def test_nothing_is_used_twice():
    """Two seals of one message share neither key, nonce nor ciphertext."""
    first, second = GOOD.split("."), sealed().split(".")
    assert not set(first) & set(second)


@pytest.mark.parametrize("message", VECTORS["messages"], ids=lambda m: m["name"])
def test_pinned_messages_open(message: dict[str, str]):
    """Every golden nested message opens to its pinned JWS."""
    assert opened(message["jwe"], vectors.key(message["to"])) == message["jws"]


@pytest.mark.parametrize("case", VECTORS["refused_sealed"], ids=lambda c: c["name"])
def test_pinned_forgeries_do_not_open(case: dict[str, str]):
    """Each ends in our error, whatever a library would make of it."""
    with pytest.raises((MalformedMessage, Undecryptable)):
        opened(case["text"], vectors.key(case["to"]))


LATE = {"altered_wrap", "altered_iv", "altered_tag"} | {
    c["name"]
    for c in VECTORS["refused_sealed"]
    if c["name"].startswith(("padding_tabs", "padding_z", "padding_f", "inside"))
}


@pytest.mark.parametrize(
    "case",
    [c for c in VECTORS["refused_sealed"] if c["name"] not in LATE],
    ids=lambda c: c["name"],
)
def test_form_is_refused_before_a_key_is_used(case: dict[str, str]):
    """Header, sizes and encoding are judged without any key."""
    with pytest.raises(MalformedMessage):
        jwe.split_sealed(case["text"], cap=CAP)


def test_a_key_that_is_not_meant_opens_nothing():
    """Another decrypt key is refused by its kid, without trying."""
    with pytest.raises(Undecryptable, match="expected kid"):
        opened(GOOD, PrivateKey.generate("decrypt"))


def test_a_message_to_another_key_under_our_kid_does_not_open():
    """The kid is a claim; the key decides."""
    other = PrivateKey.generate("decrypt")
    forge = Forge(other.public, JWS, **ENDS)
    forge.header["kid"] = OPENER.public.kid
    with pytest.raises(Undecryptable, match="does not open"):
        opened(forge.text())


@pytest.mark.parametrize("purpose", ["tls", "sign", "receipt", "command"])
def test_only_decrypt_keys_seal_and_open(purpose: str):
    """A signing key never encrypts, not even by mistake."""
    key = PrivateKey.generate(purpose)
    with pytest.raises(ValueError, match=purpose):
        jwe.seal(JWS, to=key.public, **ENDS)
    with pytest.raises(ValueError, match=purpose):
        key.agree(OPENER.public.point)


def test_an_unknown_type_is_not_sealed():
    """Only messages of the format travel."""
    with pytest.raises(ValueError, match="no message"):
        jwe.seal(JWS, to=OPENER.public, cty="JWT", iss="a", aud="b")


def test_a_message_over_its_cap_is_refused():
    """Before anything is decoded."""
    assert jwe.split_sealed(GOOD, cap=len(GOOD))
    with pytest.raises(MalformedMessage, match="at most"):
        jwe.split_sealed(GOOD, cap=len(GOOD) - 1)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        (5, 1024),
        (1024, 1024),
        (1025, 4096),
        (4097, 16_384),
        (16_385, 65_536),
        (65_537, 131_072),
        (131_073, 196_608),
    ],
)
def test_lengths_are_hidden_in_steps(size: int, padded: int):
    """1, 4, 16, 64 KiB, then multiples of 64 KiB."""
    jws = f"a.{'b' * (size - 4)}.c"
    text = sealed(jws)
    assert len(from_base64url(text.split(".")[3], at="body")) == padded
    assert opened(text) == jws


@pytest.mark.parametrize("cap", [100_000, 1 << 20, 4 << 20])
def test_what_has_room_fits(cap: int):
    """The longest message that may be sealed stays under the cap, a step more not."""
    room = jwe.most_inside(cap)
    names = {"cty": TYP, "iss": "A" * 51, "aud": "A" * 51}
    for size, fits in ((room, True), (room + 65_536, False)):
        text = jwe.seal(f"a.{'b' * (size - 4)}.c", to=OPENER.public, **names)
        assert (len(text) <= cap) is fits


def test_no_room_is_no_room():
    """A cap below the smallest message leaves none."""
    assert jwe.most_inside(2048) == 0


def test_a_megabyte_of_claims_opens():
    """The largest request that there may be."""
    room = jwe.most_inside(CAP)
    jws = SIGNER.sign(TYP, b"x" * (room * 3 // 4 - 300))
    assert opened(sealed(jws)) == jws


@tries(50)
@given(st.integers(1, 2000), st.text("ABCab019-_", min_size=1, max_size=50))
def test_every_message_comes_back(size: int, name: str):
    """Whatever its length and whoever its ends."""
    jws = f"a.{'b' * size}.c"
    text = jwe.seal(jws, to=OPENER.public, cty=TYP, iss=name, aud=name + "x")
    found = jwe.split_sealed(text, cap=CAP)
    assert (found.open(OPENER), found.iss, found.aud) == (jws, name, name + "x")


@tries(200)
@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=255))
def test_one_changed_character_opens_nothing(at: int, character: str):
    """Anywhere in the message, header and padding included."""
    text = GOOD[:at] + character + GOOD[at + 1 :]
    if text == GOOD:
        return
    with pytest.raises((MalformedMessage, Undecryptable)):
        opened(text)


@tries(100)
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_text_is_a_message_or_our_error(text: bytes | str):
    """Garbage never ends in another exception."""
    with pytest.raises(MalformedMessage):
        jwe.split_sealed(text, cap=200)


@tries(100)
@given(
    st.integers(0, 5000),
    st.text("ABCab019-_张\n\U0001f600", min_size=1, max_size=50),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64),
)
def test_what_was_taken_apart_travels_whole(size: int, iss: str, aud: str):
    """Packed and unpacked it is equal, its text is exact, and it opens."""
    jws = f"a.{'b' * size}.c"
    text = jwe.seal(jws, to=OPENER.public, cty=TYP, iss=iss, aud=aud)
    found = jwe.split_sealed(text, cap=CAP)
    again = Sealed.unpacked(found.packed())
    assert again == found
    assert (again.text, again.size) == (text, len(text))
    assert again.open(OPENER) == jws


@tries(300)
@given(st.data())
def test_what_was_packed_and_damaged_is_refused_or_opens_nothing(data: st.DataObject):
    """Cut, longer or turned over anywhere: ValueError, or an error of ours."""
    packed = jwe.split_sealed(GOOD, cap=CAP).packed()
    at = data.draw(st.integers(0, len(packed) - 1))
    more = data.draw(st.binary(min_size=1, max_size=9))
    odd = data.draw(
        st.sampled_from(
            (packed[:at], packed + more, packed[:at] + more + packed[at + 1 :])
        )
    )
    try:
        found = Sealed.unpacked(odd)
    except ValueError:
        return
    names = (found.kid, found.cty, found.iss, found.aud)
    if odd != packed and names == (OPENER.public.kid, TYP, ENDS["iss"], ENDS["aud"]):
        with pytest.raises((MalformedMessage, Undecryptable)):
            found.open(OPENER)


@tries(300)
@given(st.binary(max_size=4000))
def test_any_bytes_are_packed_or_a_value_error(data: bytes):
    """Garbage never ends in another exception."""
    with contextlib.suppress(ValueError):
        assert Sealed.unpacked(data).packed() == data


@tries(100)
@given(st.lists(st.integers(0, 400), min_size=5, max_size=5), st.binary(max_size=3000))
def test_any_sizes_are_packed_or_a_value_error(sizes: list[int], data: bytes):
    """Also if the sizes are ones that there may be."""
    with contextlib.suppress(ValueError):
        Sealed.unpacked(struct.pack(">5H", *sizes) + data)


@pytest.mark.parametrize("name", ["iss", "aud", "kid", "cty"])
def test_half_a_character_is_no_text(name: str):
    """JSON can write one, but nothing that leaves this process can."""
    forge = Forge(OPENER.public, JWS, **ENDS)
    forge.header[name] = "a\udc00/b"
    with pytest.raises(MalformedMessage):
        jwe.split_sealed(forge.text(), cap=CAP)


_PEER = joserfc_jwe.JWERegistry(
    algorithms=[jwe.ALG, jwe.ENC], strict_check_header=False
)


def test_joserfc_opens_what_we_seal():
    """Another implementation in Python finds the same JWS."""
    found = joserfc_jwe.decrypt_compact(
        GOOD, ECKey.import_key(OPENER.pem()), registry=_PEER
    )
    assert found.plaintext is not None
    assert found.plaintext.rstrip(b" ").decode() == JWS


def test_we_open_what_joserfc_seals():
    """Its compact form and its members are those of our rules."""
    header = {"alg": jwe.ALG, "enc": jwe.ENC, "kid": OPENER.public.kid, **ENDS}
    bare = {n: OPENER.public.jwk[n] for n in ("kty", "crv", "x", "y")}
    text = joserfc_jwe.encrypt_compact(
        header, JWS.encode().ljust(1024), ECKey.import_key(bare), registry=_PEER
    )
    assert opened(text) == JWS


def test_nothing_of_the_inside_shows():
    """Neither repr nor a complaint quotes a message."""
    assert JWS not in repr(jwe.split_sealed(GOOD, cap=CAP))
    forge = Forge(OPENER.public, "secret text", **ENDS)
    with pytest.raises(MalformedMessage) as caught:
        opened(forge.text())
    assert "secret" not in str(caught.value)
