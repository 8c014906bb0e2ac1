# SPDX-License-Identifier: Apache-2.0
"""Enrolment over Secure Transport, RFC 7030: requests in, certificates out.

``cacerts`` and issued certificates travel as PKCS#7 certs-only in base64, requests as
base64 PKCS#10. The first request of a node binds it to its key statement: a later one
with another digest is refused until an admin resets it.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from agent.errors import MalformedMessage
from sandbox.tls import Authority, NotAClient, read_uris

CAP = 16 * 1024
"""Longest request that is read, bytes of base64."""
MEDIA_TYPE = "application/pkcs7-mime; smime-type=certs-only"
CACERTS_TYPE = "application/pkcs7-mime"


class Csr:
    """A certificate request whose own signature verifies.

    Args:
        body: base64 PKCS#10, line breaks allowed.

    Raises:
        MalformedMessage: no such thing, another curve, or other URIs.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self._read(base64.b64decode(b"".join(body.split()), validate=True))
        except binascii.Error as e:
            raise MalformedMessage(f"certificate request: {e}") from e

    @classmethod
    def of_der(cls, der: bytes) -> Csr:
        """The same of a request in DER."""
        return cls(base64.b64encode(der))

    def _read(self, der: bytes) -> None:
        try:
            self.request = x509.load_der_x509_csr(der)
            key = self.request.public_key()
            self.node, self.statement = read_uris(self.request.extensions)
        except (ValueError, UnsupportedAlgorithm, NotAClient) as e:
            raise MalformedMessage(f"certificate request: {e}") from e
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise MalformedMessage("certificate request: expected a P-256 key")
        if not isinstance(key.curve, ec.SECP256R1):
            raise MalformedMessage("certificate request: expected a P-256 key")
        if not self.request.is_signature_valid:
            raise MalformedMessage("certificate request: its signature does not verify")


def certs_only(certificate: x509.Certificate) -> bytes:
    """A certificate as PKCS#7 certs-only in base64 lines."""
    der = pkcs7.serialize_certificates([certificate], serialization.Encoding.DER)
    return base64.encodebytes(der)


def issue(authority: Authority, csr: Csr, *, now: datetime, days: int) -> bytes:
    """The answer to an approved request."""
    return certs_only(authority.issue_client(csr.request, now=now, days=days))
