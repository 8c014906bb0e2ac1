# SPDX-License-Identifier: Apache-2.0
"""What the daemon and the opener say to each other.

One socket with frames (:mod:`agent.child.frames`). The daemon's first frame is KEYS,
to which the opener says READY. Then the daemon asks (ASK) under numbers of its own, and
the opener answers each, in any order, with VERIFIED, UNVERIFIED or FAULT. It gives a
sign of life (BEAT) when it has nothing to do.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from agent.crypto.jose import PrivateKey, PublicKey, Unverified, Verified, payload_of
from agent.crypto.jose import split as split_message
from agent.crypto.jwe import Sealed
from agent.errors import (
    BadSignature,
    FepError,
    MalformedMessage,
    PeerFault,
    Undecryptable,
)
from agent.wire.lookup import REQUEST_CAP, REQUEST_TYP


class Kind:
    """What a frame is."""

    KEYS: Final = 1
    READY: Final = 2
    ASK: Final = 3
    VERIFIED: Final = 4
    UNVERIFIED: Final = 5
    FAULT: Final = 6
    BEAT: Final = 7


CAP = REQUEST_CAP + 256 * 1024
"""Longest body of a frame, bytes: a request, and its sender's keys."""
BEAT_S = 5.0
"""It is idle for so long before it gives a sign of life, seconds."""

_FAULTS = {c.code: c for c in (MalformedMessage, BadSignature, Undecryptable)}
_SIZE = struct.Struct(">I")


def keys_body(keys: Sequence[PrivateKey]) -> bytes:
    """The body of KEYS: what opens requests. Secret."""
    return json.dumps([key.pem().decode("ascii") for key in keys]).encode()


def keys_of(body: bytes) -> dict[str, PrivateKey]:
    """The keys of a body by kid."""
    found = [
        PrivateKey.from_pem(pem.encode("ascii"), purpose="decrypt")
        for pem in json.loads(body)
    ]
    return {key.public.kid: key for key in found}


def ask_body(sealed: Sealed, candidates: tuple[PublicKey, ...]) -> bytes:
    """The body of ASK."""
    head = _head(candidates)
    return b"".join((_SIZE.pack(len(head)), head, sealed.packed()))


def ask_of(body: bytes) -> tuple[Sealed, tuple[PublicKey, ...]]:
    """What a body asks.

    Raises:
        ValueError: not what :func:`ask_body` makes.
    """
    (size,) = _SIZE.unpack_from(body)
    at = _SIZE.size + size
    return Sealed.unpacked(body[at:]), _candidates(body[_SIZE.size : at])


@lru_cache(maxsize=1024)
def _head(candidates: tuple[PublicKey, ...]) -> bytes:
    return json.dumps([dict(k.jwk) for k in candidates if _signs(k)]).encode()


@lru_cache(maxsize=1024)
def _candidates(head: bytes) -> tuple[PublicKey, ...]:
    """Their kids are computed here, so a key cannot stand under a foreign one."""
    return tuple(PublicKey.from_jwk(jwk) for jwk in json.loads(head))


def _signs(key: PublicKey) -> bool:
    return key.purpose == "sign"


def answer_frame(found: Unverified | Verified | PeerFault) -> tuple[int, bytes]:
    """Kind and body of an answer."""
    if isinstance(found, Verified):
        return Kind.VERIFIED, f"{found.kid}\n{found.digest}\n{found.text}".encode()
    if isinstance(found, Unverified):
        return Kind.UNVERIFIED, found.text.encode()
    return Kind.FAULT, f"{found.code}\n{found.detail}".encode()


def answer_of(kind: int, body: bytes) -> Unverified | Verified | PeerFault:
    """The answer of a frame.

    Raises:
        ValueError: not what :func:`answer_frame` makes.
    """
    text = body.decode()
    try:
        match kind:
            case Kind.VERIFIED:
                kid, digest, message = text.split("\n")
                payload = payload_of(message)
                return Verified(kid, REQUEST_TYP, payload, digest, message)
            case Kind.UNVERIFIED:
                return split_message(text, cap=REQUEST_CAP)
            case Kind.FAULT:
                code, _, detail = text.partition("\n")
                return _FAULTS[code](detail)
    except (FepError, LookupError) as e:
        raise ValueError("not an answer") from e
    raise ValueError(f"frame of kind {kind}")
