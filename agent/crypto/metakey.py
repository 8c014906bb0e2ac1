# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys of the people and machines that sign the city's repository.

Python-tuf verifies; what is here only makes keys, seals them and signs.
"""

from __future__ import annotations

from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from agent.crypto.jose import sealing


class MetadataKey:
    """A private key; its value never shows in ``repr``."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()
        """The public key, 32 bytes (RFC 8032)."""

    def __repr__(self) -> str:
        return f"MetadataKey({self.public.hex()})"

    @classmethod
    def generate(cls) -> Self:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes, *, passphrase: bytes | None = None) -> Self:
        """The key of a PKCS#8 PEM file; with a passphrase, of a sealed one.

        Raises:
            ValueError: no private Ed25519 key, or the passphrase is another.
        """
        try:
            key = load_pem_private_key(pem, password=passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            how = "an unencrypted" if passphrase is None else "with this passphrase an"
            raise ValueError(f"expected {how} Ed25519 private key in PEM") from e
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("expected an Ed25519 private key in PEM")  # noqa: TRY004
        return cls(key)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """The private key as PKCS#8 PEM, sealed if there is a passphrase."""
        return self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, sealing(passphrase)
        )

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes (RFC 8032)."""
        return self._key.sign(data)
