# SPDX-License-Identifier: Apache-2.0
"""Signed messages: what passes, and what a wrong key or a changed byte does."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey

from agent.crypto import jose
from agent.errors import BadSignature, MalformedMessage
from tests.support import vectors
from tests.support.tries import tries

CAP = 65_535
KEY = vectors.key("sign")
GOOD = vectors.message("batch_full")["jws"]

RFC_7517_A1 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}


def test_kid_is_the_rfc_7638_thumbprint():
    """The EC key of RFC 7517 A.1 has the kid that the wire format prints."""
    kid = "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"
    assert jose.thumbprint({**RFC_7517_A1, "use": "enc", "kid": "1"}) == kid
    known = jose.PublicKey.from_jwk({**RFC_7517_A1, "alg": "ES256", "purpose": "sign"})
    assert known.kid == kid


def test_ed25519_audit_key_has_an_okp_thumbprint():
    """The Ed25519 key of RFC 8037 A.2 has the kid of A.3."""
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "alg": "Ed25519",
        "purpose": "audit",
    }
    kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert jose.PublicKey.from_jwk(jwk).kid == kid


def test_signed_message_verifies_and_is_split_as_signed():
    """What was signed comes back, with kid, typ and digest."""
    text = KEY.sign("fep-batch+jws", b'{"a":1}')
    seen = jose.verify(jose.split(text, cap=CAP), KEY.public, typ="fep-batch+jws")
    assert (seen.payload, seen.kid, seen.typ) == (
        b'{"a":1}',
        KEY.public.kid,
        "fep-batch+jws",
    )
    assert seen.digest == jose.message_digest(text)
    assert seen.text == text


def test_header_is_exactly_alg_kid_typ():
    """The header has three members, compact, in this order."""
    head = KEY.sign("fep-batch+jws", b"{}").split(".")[0]
    assert json.loads(jose.from_base64url(head, at="header")) == {
        "alg": "ES256",
        "kid": KEY.public.kid,
        "typ": "fep-batch+jws",
    }


def test_two_signatures_of_a_message_have_one_digest():
    """A re-made signature does not make another message."""
    first, second = (KEY.sign("fep-batch+jws", b"{}") for _ in range(2))
    assert first != second
    assert jose.message_digest(first) == jose.message_digest(second)


@pytest.mark.parametrize("typ", sorted(jose.PURPOSE))
def test_key_of_another_purpose_neither_signs_nor_verifies(typ: str):
    """The purpose table holds on both sides."""
    wanted = jose.PURPOSE[typ]
    right = jose.PrivateKey.generate(wanted)
    other = jose.PrivateKey.generate("tls")
    with pytest.raises(ValueError, match="does not sign"):
        other.sign(typ, b"{}")
    message = jose.split(right.sign(typ, b"{}"), cap=CAP)
    assert jose.verify(message, right.public, typ=typ).typ == typ
    twin = jose.PrivateKey.from_pem(right.pem(), purpose="tls")
    with pytest.raises(BadSignature, match="purpose tls"):
        jose.verify(message, twin.public, typ=typ)


def test_typ_of_another_message_is_refused():
    """A receipt cannot pass as a position."""
    key = vectors.key("receipt")
    message = jose.split(key.sign("fep-receipt+jws", b"{}"), cap=CAP)
    with pytest.raises(MalformedMessage, match="fep-position"):
        jose.verify(message, key.public, typ="fep-position+jws")


def test_message_over_its_cap_is_refused_before_decoding():
    """One byte above the cap is too much."""
    assert jose.split(GOOD, cap=len(GOOD)).kid == KEY.public.kid
    with pytest.raises(MalformedMessage, match="at most"):
        jose.split(GOOD, cap=len(GOOD) - 1)
    with pytest.raises(MalformedMessage, match="at most"):
        jose.split(GOOD.encode(), cap=len(GOOD) - 1)


@pytest.mark.parametrize("purpose", ["audit", "witness", "other"])
def test_purposes_of_other_suites_have_no_p256_key(purpose: str):
    """Ed25519 and unknown purposes are refused when a key is made."""
    with pytest.raises(ValueError, match="purpose"):
        jose.PrivateKey.generate(purpose)


def test_private_value_never_shows():
    """Neither repr nor str of a key holds its value."""
    assert repr(KEY) == f"PrivateKey({KEY.public.kid}, sign)"
    assert "d" not in KEY.public.jwk


@pytest.mark.parametrize(
    "pem",
    [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"],
)
def test_pem_that_is_no_key_is_a_value_error(pem: bytes):
    """Whatever the file holds, the error is one."""
    with pytest.raises(ValueError, match="P-256"):
        jose.PrivateKey.from_pem(pem, purpose="sign")


@pytest.mark.parametrize(
    "change",
    [
        {"y": RFC_7517_A1["x"]},
        {"x": RFC_7517_A1["x"] + "="},
        {"x": RFC_7517_A1["x"][:-1]},
        {"x": 1},
        {"crv": "P-384"},
        {"kty": "RSA"},
        {"kty": "OKP"},
        {"alg": "ES384"},
        {"alg": "none"},
        {"purpose": "signing"},
        {"kid": "x"},
        {"d": "AA"},
    ],
)
def test_jwk_of_another_shape_is_refused(change: dict[str, object]):
    """Curve, point, alg, purpose and members are exact."""
    jwk = {**RFC_7517_A1, "alg": "ES256", "purpose": "sign", **change}
    with pytest.raises(MalformedMessage):
        jose.PublicKey.from_jwk(jwk)


@pytest.mark.parametrize("jwk", [None, [], "x", {}, {"kty": []}])
def test_jwk_that_is_no_object_of_text_is_refused(jwk: object):
    """Any JSON value gives our error."""
    with pytest.raises(MalformedMessage):
        jose.PublicKey.from_jwk(jwk)


REFUSED = vectors.load("wire_refused.json")["messages"]
UNREADABLE = [m for m in REFUSED if m["name"].startswith(("header", "base64", "seg"))]


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda m: m["name"])
def test_form_is_refused_before_a_library_sees_it(case: dict[str, str]):
    """Bad headers and encodings end in our error, never in a library's."""
    key = vectors.key(case["key"]).public
    with pytest.raises((MalformedMessage, BadSignature)):
        jose.verify(jose.split(case["text"], cap=CAP), key, typ=case["typ"])


@tries(100)
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_any_text_is_a_message_or_our_error(text: bytes | str):
    """Garbage never ends in another exception."""
    try:
        jose.split(text, cap=200)
    except MalformedMessage:
        return
    assert len(text) <= 200


@tries(100)
@given(st.integers(0, len(GOOD) - 1), st.characters(max_codepoint=255))
def test_changed_character_never_verifies(at: int, character: str):
    """One other character anywhere breaks the message or its signature."""
    text = GOOD[:at] + character + GOOD[at + 1 :]
    if text == GOOD:
        return
    with pytest.raises((MalformedMessage, BadSignature)):
        jose.verify(jose.split(text, cap=CAP), KEY.public, typ="fep-batch+jws")


@tries(50)
@given(st.binary(max_size=40))
def test_base64url_has_one_form(data: bytes):
    """Encoding and decoding agree, and no second text gives the same bytes."""
    text = jose.base64url(data)
    assert jose.from_base64url(text, at="x") == data
    with pytest.raises(MalformedMessage):
        jose.from_base64url(text + "=", at="x")


@pytest.mark.parametrize(
    "signature",
    [
        bytes(63),
        bytes(65),
        bytes(64),
        b"\xff" * 64,
        b"\x00" * 32 + b"\x01" * 32,
        b"\x30",
    ],
    ids=["63", "65", "zeros", "too large", "r zero", "DER begins so"],
)
def test_signature_of_another_form_is_bad(signature: bytes):
    """64 bytes, both numbers in range; never an exception of a library."""
    text = f"{GOOD.rpartition('.')[0]}.{jose.base64url(signature)}"
    with pytest.raises(BadSignature, match="does not verify"):
        jose.verify(jose.split(text, cap=CAP), KEY.public, typ="fep-batch+jws")


def test_joserfc_verifies_what_we_sign():
    """Another implementation in Python takes our compact form."""
    text = KEY.sign("fep-batch+jws", b'{"a":1}')
    bare = {n: KEY.public.jwk[n] for n in ("kty", "crv", "x", "y")}
    found = joserfc_jws.deserialize_compact(text, ECKey.import_key(bare), ["ES256"])
    assert found.payload == b'{"a":1}'


def test_we_verify_what_joserfc_signs():
    """And we its."""
    header = {"alg": "ES256", "kid": KEY.public.kid, "typ": "fep-batch+jws"}
    text = joserfc_jws.serialize_compact(
        header, b"{}", ECKey.import_key(KEY.pem()), ["ES256"]
    )
    message = jose.split(text, cap=CAP)
    assert jose.verify(message, KEY.public, typ="fep-batch+jws").payload == b"{}"


def test_pem_of_another_curve_signs_nothing():
    """P-384 is refused when it is read."""
    pem = ECKey.generate_key("P-384", auto_kid=False).as_pem(private=True)
    with pytest.raises(ValueError, match="P-256"):
        jose.PrivateKey.from_pem(pem, purpose="sign")


def test_encrypted_pem_is_a_value_error():
    """There is nobody to ask for a password."""
    pem = ECKey.generate_key("P-256", auto_kid=False).as_pem(True, password="x")
    with pytest.raises(ValueError, match="unencrypted"):
        jose.PrivateKey.from_pem(pem, purpose="sign")


def test_a_key_of_one_kind_is_no_key_of_the_other():
    """A P-256 key has no Ed25519 side, and the other way round."""
    with pytest.raises(MalformedMessage, match="Ed25519"):
        _ = KEY.public.ed25519
    with pytest.raises(MalformedMessage, match="P-256"):
        _ = vectors.note_key("audit").public.point
