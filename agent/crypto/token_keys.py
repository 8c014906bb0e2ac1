# SPDX-License-Identifier: Apache-2.0
"""Keys of a token in the shape that ``cryptography`` gives every private key.

So whoever signs does not know where a key is. What would bring the key out is refused.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from agent.crypto.token import Hand
from agent.errors import SecretUnreadable


def _refuse() -> NoReturn:
    raise SecretUnreadable("a private key in a token does not leave it")


class TokenP256(ec.EllipticCurvePrivateKey):
    """A P-256 key of a token; it signs over SHA-256.

    Raises:
        ValueError: the token has a key of another kind.
    """

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._public = ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP256R1(), hand.point
        )

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public key."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        """DER signature over the SHA-256 of data, which is the one algorithm."""
        if not isinstance(signature_algorithm.algorithm, SHA256):
            raise ValueError("expected SHA-256")  # noqa: TRY004 - of its parameter
        raw = self._hand.sign(bytes(data))
        r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
        return encode_dss_signature(r, s)

    def exchange(self, *_: Any) -> bytes:
        """Refused: it only signs."""
        _refuse()

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refused."""
        _refuse()

    def private_bytes(self, *_: Any) -> bytes:
        """Refused."""
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self


class TokenEd25519(Ed25519PrivateKey):
    """An Ed25519 key of a token.

    Raises:
        ValueError: the token has a key of another kind.
    """

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._public = Ed25519PublicKey.from_public_bytes(hand.point)

    def public_key(self) -> Ed25519PublicKey:
        """Its public key."""
        return self._public

    def sign(self, data: Any) -> bytes:
        """The signature, 64 bytes."""
        return self._hand.sign(bytes(data))

    def private_bytes(self, *_: Any) -> bytes:
        """Refused."""
        _refuse()

    def private_bytes_raw(self) -> bytes:
        """Refused."""
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self
