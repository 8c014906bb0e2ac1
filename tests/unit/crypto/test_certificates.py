# SPDX-License-Identifier: Apache-2.0
"""Certificates of a stranger: a value or our error, never another exception."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import example, given

from agent.crypto.certificates import certificates_of_pkcs7
from agent.errors import MalformedMessage
from tests.support.tries import tries

P256 = bytes.fromhex("06082a8648ce3d030107")
OTHER_CURVE = bytes.fromhex("06082a8648ce3d030106")


def _message() -> bytes:
    key, begin = (
        ec.generate_private_key(ec.SECP256R1()),
        datetime(2026, 1, 1, tzinfo=UTC),
    )
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return pkcs7.serialize_certificates([made], Encoding.DER)


MESSAGE = _message()


def test_a_certificate_of_another_curve_has_no_kid() -> None:
    """It may stand beside the pinned one, as SM2 certificates do."""
    (found,) = certificates_of_pkcs7(MESSAGE.replace(P256, OTHER_CURVE))
    assert found.kid is None
    assert not found.issued_by(found)


def test_pkcs7_of_another_kind_is_malformed() -> None:
    """Plain data instead of certificates."""
    with pytest.raises(MalformedMessage, match="PKCS#7"):
        certificates_of_pkcs7(bytes.fromhex("300f06092a864886f70d010701a0020400"))


_spots: Any = st.lists(
    st.tuples(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255)), min_size=1
)


@pytest.mark.filterwarnings("ignore:PKCS#7 certificates could not be parsed as DER")
@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@tries(100)
@given(_spots)
@example([(25, 128)])  # BER that the library still takes, with a warning
@example([(59, 0)])  # as is a serial number of nothing
def test_spoilt_certificates_are_a_value_or_our_error(
    spots: list[tuple[int, int]],
) -> None:
    """Nobody has verified cacerts when it is parsed."""
    spoilt = bytearray(MESSAGE)
    for place, byte in spots:
        spoilt[place] = byte
    with suppress(MalformedMessage):
        for found in certificates_of_pkcs7(bytes(spoilt)):
            found.issued_by(found)
