# SPDX-License-Identifier: Apache-2.0
"""Day keys: pseudonyms, commitments and boxes, and what destroying the key does."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import daykey, frames
from agent.crypto.daykey import DayKey
from agent.crypto.jose import base64url, from_base64url
from agent.errors import EvidenceDamaged
from tests.support.tries import tries

SECRET = bytes(range(32))
KEY = DayKey(SECRET)
PERSON = frames.frame("C", "110101199003070011")
DECISION = "01939f5e-7c00-7000-8000-00000000000d"


def test_a_subject_is_one_name_on_one_day():
    """The same person has one pseudonym under a key, another under another key."""
    assert KEY.subject(PERSON) == DayKey(SECRET).subject(PERSON)
    assert len(KEY.subject(PERSON)) == 22
    assert KEY.subject(PERSON) != DayKey.generate().subject(PERSON)
    assert KEY.subject(PERSON) != KEY.subject(PERSON + b"x")


def test_a_subject_is_the_documented_hmac():
    """HKDF-Expand and HMAC-SHA256, as written down."""
    use = hmac.digest(SECRET, b"fep/audit/v1/subject\x01", "sha256")
    wanted = base64url(hmac.digest(use, PERSON, "sha256")[:16])
    assert KEY.subject(PERSON) == wanted


def test_a_commitment_opens_with_its_salt_and_value():
    """Whoever has the salt and knows the value can check it with SHA-256 alone."""
    made = KEY.commit(DECISION, "basis", "案:1")
    salt = from_base64url(KEY.reveal(DECISION, "basis"), at="salt")
    digest = hashlib.sha256(salt + "basis\n案:1".encode()).digest()
    assert made == base64url(digest) == daykey.opened(salt, "basis", "案:1")


def test_commitments_tell_nothing_of_equal_values():
    """The same value in another decision, or under another name, looks different."""
    made = {
        KEY.commit(DECISION, "basis", "x"),
        KEY.commit(DECISION, "matter", "x"),
        KEY.commit(DECISION[:-1] + "e", "basis", "x"),
        DayKey.generate().commit(DECISION, "basis", "x"),
    }
    assert len(made) == 4


@tries(50)
@given(st.binary(max_size=200), st.binary(max_size=40))
def test_a_box_opens_only_where_it_belongs(plaintext: bytes, aad: bytes):
    """The same bytes come back; under other associated data nothing does."""
    box = KEY.box(plaintext, aad)
    assert KEY.unbox(box, aad) == plaintext
    with pytest.raises(EvidenceDamaged):
        KEY.unbox(box, aad + b"x")


@tries(50)
@given(st.integers(0, 31), st.integers(1, 255))
def test_a_changed_bit_opens_nothing(at: int, change: int):
    """Nonce, ciphertext and tag are covered."""
    box = bytearray(KEY.box(b"1234", b"a"))
    box[at] ^= change
    with pytest.raises(EvidenceDamaged):
        KEY.unbox(bytes(box), b"a")


@pytest.mark.parametrize("size", [0, 1, 11, 12, 27])
def test_a_cut_box_opens_nothing(size: int):
    """Not an exception of a library."""
    with pytest.raises(EvidenceDamaged):
        KEY.unbox(KEY.box(b"1234", b"a")[:size], b"a")


def test_without_its_key_a_day_is_gone():
    """Another key opens no box of the day."""
    with pytest.raises(EvidenceDamaged):
        DayKey.generate().unbox(KEY.box(b"x", b""), b"")


def test_two_boxes_of_one_text_differ():
    """The nonce is new each time."""
    assert KEY.box(b"x", b"") != KEY.box(b"x", b"")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_secret_has_32_bytes(size: int):
    """A torn key file is not taken for a key."""
    with pytest.raises(ValueError, match="32"):
        DayKey(bytes(size))


def test_the_secret_never_shows():
    """In no repr, and only by name."""
    assert repr(KEY) == "DayKey(...)"
    assert KEY.secret == SECRET
    assert len(DayKey.generate().secret) == 32
