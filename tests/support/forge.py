# SPDX-License-Identifier: Apache-2.0
"""Sealed messages as nobody should make them: every part can be another one.

Written from RFC 7516 and RFC 7518 alone, apart from the product's own code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from agent.crypto.jose import PublicKey

ALG, ENC = "ECDH-ES+A256KW", "A256GCM"


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Forge:
    """What goes into one sealed message; change it, then :meth:`text`.

    Args:
        to: the key that it is encrypted to.
        inner: what is inside, unpadded.
        cty: of the header.
        iss: of the header.
        aud: of the header.
    """

    def __init__(
        self, to: PublicKey, inner: str, *, cty: str, iss: str, aud: str
    ) -> None:
        self.to = to
        self.one_time = ec.generate_private_key(ec.SECP256R1())
        numbers = self.one_time.public_key().public_numbers()
        self.epk: dict[str, Any] = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.y.to_bytes(32, "big")),
        }
        self.header: dict[str, Any] = {
            "alg": ALG,
            "enc": ENC,
            "kid": to.kid,
            "epk": self.epk,
            "cty": cty,
            "iss": iss,
            "aud": aud,
        }
        self.head: bytes | None = None
        """The header's exact bytes, if they are not those of ``header``."""
        self.plain = inner.encode().ljust(1024)
        self.nonce = os.urandom(12)

    def text(self) -> str:
        """The compact JWE, computed as its header says it is."""
        head = self.head or json.dumps(self.header, separators=(",", ":")).encode()
        first = b64(head)
        content_key = os.urandom(32)
        made = AESGCM(content_key).encrypt(self.nonce, self.plain, first.encode())
        wrapped = aes_key_wrap(self._wrapping_key(), content_key)
        parts = (wrapped, self.nonce, made[:-16], made[-16:])
        return ".".join((first, *map(b64, parts)))

    def _wrapping_key(self) -> bytes:
        secret = self.one_time.exchange(ec.ECDH(), self.to.point)
        info = b"".join(
            struct.pack(">I", len(part)) + part for part in (ALG.encode(), b"", b"")
        )
        data = struct.pack(">I", 1) + secret + info + struct.pack(">I", 256)
        return hashlib.sha256(data).digest()
