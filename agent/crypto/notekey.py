# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys that sign notes: checkpoints of a log, and a witness's cosignatures."""

from __future__ import annotations

from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from agent.crypto.jose import ALGORITHMS, PublicKey, base64url, sealing
from agent.errors import BadSignature

PURPOSES = tuple(purpose for purpose, alg in ALGORITHMS.items() if alg == "Ed25519")
"""``audit`` and ``witness``."""


class NoteKey:
    """A private Ed25519 key of one purpose; its value never shows in ``repr``."""

    def __init__(self, key: Ed25519PrivateKey, purpose: str) -> None:
        if purpose not in PURPOSES:
            raise ValueError(f"no Ed25519 key has the purpose {purpose!r}")
        self._key = key
        self.public = PublicKey.from_jwk(
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "x": base64url(key.public_key().public_bytes_raw()),
                "alg": "Ed25519",
                "purpose": purpose,
            }
        )

    def __repr__(self) -> str:
        return f"NoteKey({self.public.kid}, {self.public.purpose})"

    @classmethod
    def generate(cls, purpose: str) -> Self:
        """A new key for ``audit`` or ``witness``."""
        return cls(Ed25519PrivateKey.generate(), purpose)

    @classmethod
    def from_pem(
        cls, pem: bytes, *, purpose: str, passphrase: bytes | None = None
    ) -> Self:
        """The key of a PKCS#8 PEM file; with a passphrase, of a sealed one.

        Raises:
            ValueError: no private Ed25519 key, or not sealed so.
        """
        try:
            key = load_pem_private_key(pem, password=passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            how = "an unencrypted" if passphrase is None else "a sealed"
            raise ValueError(f"expected {how} Ed25519 private key in PEM") from e
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("expected an Ed25519 private key in PEM")  # noqa: TRY004
        return cls(key, purpose)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """The private key as PKCS#8 PEM, sealed if there is a passphrase."""
        return self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, sealing(passphrase)
        )

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8032)."""
        return self._key.sign(data)


def verify_note(public: PublicKey, signature: bytes, data: bytes) -> None:
    """Check a signature of :meth:`NoteKey.sign`.

    Args:
        public: of purpose ``audit`` or ``witness``, from the directory.
        signature: 64 bytes.
        data: what was signed.

    Raises:
        BadSignature: it does not verify, or a key of this purpose signs no notes.
    """
    if public.purpose not in PURPOSES:
        raise BadSignature(f"a key of purpose {public.purpose} signs no notes")
    try:
        public.ed25519.verify(signature, data)
    except InvalidSignature as e:
        raise BadSignature(f"note: signature of {public.kid} does not verify") from e
