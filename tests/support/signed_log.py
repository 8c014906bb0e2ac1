# SPDX-License-Identifier: Apache-2.0
"""A node's audit log and its checkpoints, by hand from RFC 6962 and the C2SP texts.

Slow and plain: roots and proofs follow the recursive definitions of the RFC, and
nothing is shared with agent or sandbox.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.support.exchange_client import AuditKey, unb64

DASH = "\N{EM DASH}"


def root(leaves: Sequence[bytes]) -> bytes:
    """Merkle tree hash (RFC 6962, 2.1)."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = _half(len(leaves))
    return hashlib.sha256(b"\x01" + root(leaves[:k]) + root(leaves[k:])).digest()


def consistency(old: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Proof that the first ``old`` leaves are the begin (RFC 6962, 2.1.2)."""
    return [] if old == 0 else _subproof(old, leaves, whole=True)


def _subproof(old: int, leaves: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [root(leaves)]
    k = _half(len(leaves))
    if old <= k:
        return [*_subproof(old, leaves[:k], whole=whole), root(leaves[k:])]
    return [*_subproof(old - k, leaves[k:], whole=False), root(leaves[:k])]


def _half(size: int) -> int:
    k = 1
    while k * 2 < size:
        k *= 2
    return k


def line(name: str, key_id: bytes, data: bytes) -> str:
    """A signature line of a note."""
    return f"{DASH} {name} {base64.b64encode(key_id + data).decode()}\n"


def key_id(name: str, kind: int, raw: bytes) -> bytes:
    """The four bytes that name a key."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + raw).digest()[:4]


@dataclass
class Log:
    """A log of a node; change ``leaves`` to lie."""

    node: str
    key: AuditKey
    leaves: list[bytes] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """Its name."""
        return f"{self.node}/audit"

    def grow(self, count: int) -> None:
        """Add leaves."""
        begin = len(self.leaves)
        self.leaves += [f"leaf {i}".encode() for i in range(begin, begin + count)]

    def body(self, size: int | None = None) -> str:
        """A checkpoint's text."""
        leaves = self.leaves[:size]
        encoded = base64.b64encode(root(leaves)).decode()
        return f"{self.origin}\n{len(leaves)}\n{encoded}\n"

    def signed(self, body: str, key: AuditKey | None = None) -> str:
        """A note, signed by the log's key or another."""
        key = key or self.key
        data = key.private.sign(body.encode())
        identity = key_id(self.origin, 1, key.raw)
        return f"{body}\n{line(self.origin, identity, data)}"

    def submission(
        self,
        old: int,
        *,
        size: int | None = None,
        proof: Sequence[bytes] | None = None,
        note: str | None = None,
    ) -> bytes:
        """The body of ``add-checkpoint``; parts may be replaced."""
        leaves = self.leaves[:size]
        if proof is None:
            proof = consistency(old, leaves) if old <= len(leaves) else []
        lines = [f"old {old}", *(base64.b64encode(p).decode() for p in proof), ""]
        return (
            "\n".join(lines) + "\n" + (note or self.signed(self.body(size)))
        ).encode()


def cosigned_at(text: str, body: str, *, name: str, jwk: dict[str, str]) -> int:
    """When a witness cosigned a checkpoint (tlog-cosignature); its line is checked."""
    dash, got_name, encoded = text.removesuffix("\n").split(" ")
    raw = unb64(jwk["x"])
    data = base64.b64decode(encoded)
    assert (dash, got_name, data[:4]) == (DASH, name, key_id(name, 4, raw))
    assert len(data) == 4 + 8 + 64
    time = int.from_bytes(data[4:12], "big")
    message = f"cosignature/v1\ntime {time}\n{body}".encode()
    Ed25519PublicKey.from_public_bytes(raw).verify(data[12:], message)
    return time
