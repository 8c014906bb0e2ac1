# SPDX-License-Identifier: Apache-2.0
"""Certificates as EST hands them out (RFC 7030: PKCS#7, certificates only)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agent.crypto.jose import coordinates_of, thumbprint
from agent.errors import MalformedMessage


@dataclass(frozen=True)
class Certificate:
    """What is needed of a certificate.

    Args:
        pem: the certificate itself.
        sha256: lower hex over its DER, as on the slip.
        kid: thumbprint of its public key; None if that is no P-256 key.
        not_before: begin, aware UTC.
        not_after: end, aware UTC.
    """

    pem: bytes
    sha256: str
    kid: str | None
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """The first certificate of a PEM text.

        Raises:
            MalformedMessage: there is none.
        """
        return cls._of(_load(pem))

    @classmethod
    def _of(cls, found: x509.Certificate) -> Self:
        return cls(
            pem=found.public_bytes(Encoding.PEM),
            sha256=hashlib.sha256(found.public_bytes(Encoding.DER)).hexdigest(),
            kid=_kid(found),
            not_before=found.not_valid_before_utc,
            not_after=found.not_valid_after_utc,
        )

    def issued_by(self, ca: Certificate) -> bool:
        """Whether the CA's key signed it, and their names agree."""
        try:
            _load(self.pem).verify_directly_issued_by(_load(ca.pem))
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True


def certificates_of_pkcs7(der: bytes) -> tuple[Certificate, ...]:
    """The certificates of a PKCS#7 message.

    Raises:
        MalformedMessage: not such a message.
    """
    try:
        found = pkcs7.load_der_pkcs7_certificates(der)
        return tuple(Certificate._of(c) for c in found)  # noqa: SLF001 - own class
    except _UNREADABLE as e:
        raise MalformedMessage("EST: expected PKCS#7 with certificates") from e


_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What the library raises for bytes of a stranger; some only when a part is asked."""


def _load(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except _UNREADABLE as e:
        raise MalformedMessage("certificate: expected X.509 in PEM") from e


def _kid(certificate: x509.Certificate) -> str | None:
    try:
        key = certificate.public_key()
    except _UNREADABLE:  # such as SM2
        return None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        return None
    x, y = coordinates_of(key)
    return thumbprint({"kty": "EC", "crv": "P-256", "x": x, "y": y})
