# SPDX-License-Identifier: Apache-2.0
"""The key of one day of evidence: pseudonyms, commitments, encryption.

Everything personal in the audit log hangs on the key of its day. When that key is
destroyed, the evidence of the day cannot be read any more, subjects cannot be found and
commitments cannot be opened, while the log itself stays whole.

From the 32 secret bytes HKDF-Expand with SHA-256 makes one key for each use:

- ``fep/audit/v1/subject``: HMAC-SHA256 over a canonical key, first 16 bytes, base64url.
- ``fep/audit/v1/salt``: HMAC-SHA256 over decision id, LF, name; its first 16 bytes are
  the salt of a commitment, base64url of SHA-256 over salt, name, LF, value.
- ``fep/audit/v1/box``: AES-256-GCM; a box is nonce (12 bytes, random), ciphertext, tag.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.crypto.jose import base64url
from agent.errors import EvidenceDamaged

SIZE = 32
"""Bytes of the secret."""
_NONCE = 12
_SHORT = 16


class DayKey:
    """The key of a day; its value never shows in ``repr``.

    Args:
        secret: 32 random bytes.

    Raises:
        ValueError: another number of bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SIZE:
            raise ValueError(f"expected {SIZE} secret bytes, got {len(secret)}")
        self._secret = secret
        self._subject = _expand(secret, "subject")
        self._salt = _expand(secret, "salt")
        self._box = AESGCM(_expand(secret, "box"))

    def __repr__(self) -> str:
        return "DayKey(...)"

    @classmethod
    def generate(cls) -> Self:
        """A new one."""
        return cls(os.urandom(SIZE))

    @property
    def secret(self) -> bytes:
        """What to keep in a file of mode 0400, and nowhere else."""
        return self._secret

    def subject(self, key_frames: bytes) -> str:
        """The pseudonym of a person or thing on this day, 22 characters.

        Args:
            key_frames: the canonical key, ``agent.crypto.frames.frames`` of its items.
        """
        return base64url(_hmac(self._subject, key_frames)[:_SHORT])

    def commit(self, decision_id: str, name: str, value: str) -> str:
        """A commitment to a value, 43 characters, that tells nothing about it.

        Args:
            decision_id: of the decision that it belongs to.
            name: of the value, such as ``basis``; no line feed.
            value: the exact text.
        """
        return opened(self._salt_of(decision_id, name), name, value)

    def reveal(self, decision_id: str, name: str) -> str:
        """The salt with which whoever knows the value can check its commitment."""
        return base64url(self._salt_of(decision_id, name))

    def box(self, plaintext: bytes, aad: bytes) -> bytes:
        """Encrypt evidence.

        Args:
            plaintext: what to keep.
            aad: what it belongs to; must be the same when it is opened.
        """
        nonce = os.urandom(_NONCE)
        return nonce + self._box.encrypt(nonce, plaintext, aad)

    def unbox(self, box: bytes, aad: bytes) -> bytes:
        """Decrypt evidence.

        Raises:
            EvidenceDamaged: altered, of another day, or of another place.
        """
        try:
            return self._box.decrypt(box[:_NONCE], box[_NONCE:], aad)
        except (InvalidTag, ValueError) as e:
            raise EvidenceDamaged("evidence: its day key does not open it") from e

    def _salt_of(self, decision_id: str, name: str) -> bytes:
        return _hmac(self._salt, f"{decision_id}\n{name}".encode())[:_SHORT]


def opened(salt: bytes, name: str, value: str) -> str:
    """The commitment that a revealed salt and a value give."""
    data = salt + f"{name}\n{value}".encode()
    return base64url(hashlib.sha256(data).digest())


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _expand(secret: bytes, use: str) -> bytes:
    """HKDF-Expand (RFC 5869) to 32 bytes: one round."""
    return _hmac(secret, f"fep/audit/v1/{use}".encode() + b"\x01")
