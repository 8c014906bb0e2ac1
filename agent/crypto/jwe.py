# SPDX-License-Identifier: Apache-2.0
"""Sealed messages: a compact JWE around a compact JWS (wire.md §4).

Rules

1. ECDH-ES+A256KW and A256GCM, nothing else. The protected header is exactly ``alg``,
   ``enc``, ``kid``, ``epk``, ``cty``, ``iss``, ``aud``; its form is checked before
   anything is computed.
2. The plaintext is the JWS and spaces after it, :func:`padded_size` bytes, so that the
   length of a message tells little about what is in it.
3. ``iss`` and ``aud`` stand outside so that a relay can route; they are worth nothing
   until they equal the claims of the signed message inside, which the caller compares.
4. The recipient's key comes from the directory, never from a message.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, lru_cache
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from agent.crypto.jose import (
    PURPOSE,
    PrivateKey,
    PublicKey,
    base64url,
    coordinates_of,
    decode_header,
    from_base64url,
    header_json,
    p256_bytes,
    p256_point,
)
from agent.errors import MalformedMessage, Undecryptable

ALG = "ECDH-ES+A256KW"
ENC = "A256GCM"
HEADER_CAP = 2048
"""Longest protected header, characters of base64url."""
STEP = 64 * 1024
SIZES = (1024, 4 * 1024, 16 * 1024, STEP)
"""Sizes of a padded message, bytes; above the last, multiples of it."""

_HEADER = frozenset({"alg", "aud", "cty", "enc", "epk", "iss", "kid"})
_EPK = frozenset({"crv", "kty", "x", "y"})
_KID = re.compile(r"[A-Za-z0-9_-]{43}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_JWS = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+")
_NONCE, _TAG, _WRAPPED, _POINT = 12, 16, 40, 65
_SIZES = struct.Struct(">5H")
_P256 = ec.SECP256R1()
_KDF_TAIL = b"".join(
    (struct.pack(">I", len(ALG)), ALG.encode(), bytes(8), struct.pack(">I", 256))
)
"""OtherInfo of the Concat KDF (RFC 7518, 4.6.2); apu and apv are empty."""


def padded_size(size: int) -> int:
    """So many bytes a message of ``size`` bytes is padded to."""
    return next((s for s in SIZES if size <= s), -(-size // STEP) * STEP)


def most_inside(cap: int) -> int:
    """Longest JWS whose sealed form is sure to fit into ``cap`` characters."""
    room = (cap - HEADER_CAP - 256) * 3 // 4
    return (
        max((s for s in SIZES if s <= room), default=0)
        if room < STEP
        else (room // STEP * STEP)
    )


def seal(
    jws: str, *, to: PublicKey, cty: str, iss: str, aud: str, least: int = 0
) -> str:
    """The compact JWE of a message.

    Args:
        jws: the signed message.
        to: an active ``decrypt`` key of the recipient, from the directory.
        cty: the message's ``typ``.
        iss: as inside.
        aud: as inside.
        least: it is padded as if it had so many bytes, if it has fewer.

    Raises:
        ValueError: the key is no ``decrypt`` key, or there is no such ``cty``.
    """
    if to.purpose != "decrypt":
        raise ValueError(f"a {to.purpose} key does not encrypt")
    if cty not in PURPOSE:
        raise ValueError(f"there is no message of type {cty}")
    ephemeral = ec.generate_private_key(_P256)
    x, y = coordinates_of(ephemeral.public_key())
    before, between, after = _header_around(to.kid, cty, iss, aud)
    head = base64url(f"{before}{x}{between}{y}{after}".encode("ascii"))
    content_key, nonce = os.urandom(32), os.urandom(_NONCE)
    wrapping = _wrapping_key(ephemeral.exchange(ec.ECDH(), to.point))
    plain = jws.encode("ascii")
    plain = plain.ljust(padded_size(max(len(plain), least)))
    made = AESGCM(content_key).encrypt(nonce, plain, head.encode("ascii"))
    wrapped = aes_key_wrap(wrapping, content_key)
    parts = (wrapped, nonce, made[:-_TAG], made[-_TAG:])
    return ".".join((head, *(base64url(part) for part in parts)))


@lru_cache(maxsize=1024)
def _header_around(kid: str, cty: str, iss: str, aud: str) -> tuple[str, str, str]:
    """The JSON of a header around x and y, the only members that are always new."""
    mark = "?"
    while mark in iss or mark in aud:
        mark += "?"
    header = {
        "alg": ALG,
        "enc": ENC,
        "kid": kid,
        "epk": {"kty": "EC", "crv": "P-256", "x": mark, "y": mark},
        "cty": cty,
        "iss": iss,
        "aud": aud,
    }
    before, between, after = header_json(header).split(mark)
    return before, between, after


@dataclass(frozen=True)
class Parcel:
    """A signed message and for whom it is to be sealed; :func:`seal` says the rest.

    Sealing needs no key of ours, so another process can do it.
    """

    text: str = field(repr=False)
    _: KW_ONLY
    to: PublicKey
    cty: str
    iss: str
    aud: str
    least: int = 0

    def seal(self) -> str:
        """The compact JWE; another one at each call."""
        return seal(
            self.text,
            to=self.to,
            cty=self.cty,
            iss=self.iss,
            aud=self.aud,
            least=self.least,
        )


@dataclass(frozen=True)
class Sealed:
    """An encrypted message of right form; nobody has vouched for its header yet.

    Args:
        kid: of the key that it is encrypted to.
        cty: type of the message inside.
        iss: who says to have sent it.
        aud: for whom.
        head: the exact protected header.
        epk: the sender's one-time key, an uncompressed point.
        parts: encrypted key, iv, ciphertext and tag.
    """

    kid: str
    cty: str
    iss: str
    aud: str
    head: str = field(repr=False)
    epk: bytes = field(repr=False)
    parts: tuple[bytes, bytes, bytes, bytes] = field(repr=False)

    @property
    def text(self) -> str:
        """The exact compact JWE."""
        return ".".join((self.head, *(base64url(part) for part in self.parts)))

    @property
    def size(self) -> int:
        """Characters of the compact JWE."""
        return len(self.head) + sum(1 - -4 * len(part) // 3 for part in self.parts)

    @cached_property
    def point(self) -> ec.EllipticCurvePublicKey:
        """The sender's one-time key.

        Raises:
            MalformedMessage: no point on the curve.
        """
        return p256_point(self.epk, at="JWE header.epk")

    def packed(self) -> bytes:
        """For another process: what was taken apart need not be again."""
        texts = [
            t.encode() for t in (self.kid, self.cty, self.iss, self.aud, self.head)
        ]
        wrapped, nonce, body, tag = self.parts
        sizes = _SIZES.pack(*map(len, texts))
        return b"".join((sizes, *texts, self.epk, wrapped, nonce, tag, body))

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """What :meth:`packed` gave; only sizes are looked at.

        The header's members are not read from the header again. That proves nothing
        less: whoever can lie here can seal a message with any header.

        Raises:
            ValueError: not that.
        """
        if len(data) < _SIZES.size:
            raise ValueError("expected a sealed message, got too few bytes")
        at, texts = _SIZES.size, []
        sizes = _SIZES.unpack_from(data)
        if max(sizes) > HEADER_CAP:
            raise ValueError("expected a sealed message, got a long header")
        for size in sizes:
            texts.append(data[at : at + size].decode())
            at += size
        cut = []
        for size in (_POINT, _WRAPPED, _NONCE, _TAG):
            cut.append(data[at : at + size])
            at += size
        epk, wrapped, nonce, tag = cut
        body = data[at:]
        if not body or padded_size(len(body)) != len(body):
            raise ValueError("expected a sealed message, got another size")
        kid, cty, iss, aud, head = texts
        return cls(kid, cty, iss, aud, head, epk, (wrapped, nonce, body, tag))

    def open(self, key: PrivateKey) -> str:
        """The compact JWS inside, without its padding.

        Args:
            key: the ``decrypt`` key whose thumbprint is :attr:`kid`.

        Raises:
            Undecryptable: another key, or a message that was altered.
            MalformedMessage: what is inside is no JWS.
        """
        if key.public.kid != self.kid:
            raise Undecryptable(f"JWE: expected kid {key.public.kid}, got {self.kid}")
        wrapped, nonce, body, tag = self.parts
        try:
            content_key = aes_key_unwrap(_wrapping_key(key.agree(self.point)), wrapped)
            plain = AESGCM(content_key).decrypt(nonce, body + tag, self.head.encode())
        except (InvalidUnwrap, InvalidTag, ValueError) as e:
            raise Undecryptable("JWE: it does not open with its key") from e
        inner = plain.rstrip(b" ")
        if not _JWS.fullmatch(inner):
            raise MalformedMessage("JWE: expected a compact JWS and spaces inside")
        return inner.decode("ascii")


def split_sealed(text: str | bytes, *, cap: int, curve: bool = True) -> Sealed:
    """Take a compact JWE apart, strictly.

    Args:
        text: the message as received, nothing before or after it.
        cap: most bytes that it may have.
        curve: look whether ``epk`` is on the curve; else whoever opens it does.

    Raises:
        MalformedMessage: any other form than rules 1 and 2 allow.
    """
    if len(text) > cap:
        raise MalformedMessage(f"JWE: expected at most {cap} bytes")
    try:
        line = text.decode("ascii") if isinstance(text, bytes) else text
        line.encode("ascii")
    except UnicodeError as e:
        raise MalformedMessage("JWE: expected ASCII") from e
    parts = line.split(".")
    if len(parts) != 5:
        raise MalformedMessage(f"JWE: expected 5 segments, got {len(parts)}")
    header, epk = _header(parts[0])
    binary = _binary(parts)
    if (header["alg"], header["enc"]) != (ALG, ENC):
        raise MalformedMessage(f"JWE header: expected {ALG} and {ENC}")
    if not _KID.fullmatch(header["kid"]):
        raise MalformedMessage("JWE header.kid: expected a thumbprint of 43 characters")
    if header["cty"] not in PURPOSE:
        raise MalformedMessage("JWE header.cty: expected the typ of a known message")
    found = Sealed(
        kid=header["kid"],
        cty=header["cty"],
        iss=header["iss"],
        aud=header["aud"],
        head=parts[0],
        epk=p256_bytes(epk["x"], epk["y"], at="JWE header.epk"),
        parts=binary,
    )
    if curve:
        _ = found.point  # or malformed
    return found


def _binary(parts: list[str]) -> tuple[bytes, bytes, bytes, bytes]:
    """The four segments after the header, each of a size that there may be."""
    wrapped = from_base64url(parts[1], at="JWE encrypted key")
    nonce = from_base64url(parts[2], at="JWE iv")
    body = from_base64url(parts[3], at="JWE ciphertext")
    tag = from_base64url(parts[4], at="JWE tag")
    sizes = (len(wrapped), len(nonce), len(tag))
    if sizes != (_WRAPPED, _NONCE, _TAG):
        raise MalformedMessage(
            f"JWE: expected {_WRAPPED}, {_NONCE} and {_TAG} bytes of encrypted key, iv"
            f" and tag, got {sizes[0]}, {sizes[1]} and {sizes[2]}"
        )
    if not body or padded_size(len(body)) != len(body):
        raise MalformedMessage(
            "JWE: expected a plaintext of 1, 4, 16, 64 KiB or a multiple of 64 KiB,"
            f" got {len(body)} bytes"
        )
    return wrapped, nonce, body, tag


def _header(segment: str) -> tuple[dict[str, str], dict[str, str]]:
    """The seven members, and those of ``epk``; each once, each a string."""
    if len(segment) > HEADER_CAP:
        raise MalformedMessage(f"JWE header: expected at most {HEADER_CAP} characters")
    pairs = decode_header(segment, at="JWE header")
    header = _members(pairs, _HEADER, "JWE header")
    epk = _members(header.pop("epk"), _EPK, "JWE header.epk")
    texts: list[object] = [*header.values(), *epk.values()]
    for text in texts:
        if not isinstance(text, str) or not 1 <= len(text) <= 256:
            raise MalformedMessage("JWE header: expected texts of 1 to 256 characters")
        if not text.isascii() and _SURROGATE.search(text):
            raise MalformedMessage("JWE header: expected texts of whole characters")
    if (epk["kty"], epk["crv"]) != ("EC", "P-256"):
        raise MalformedMessage("JWE header.epk: expected a P-256 key")
    return header, epk


def _members(pairs: object, names: frozenset[str], at: str) -> dict[str, str]:
    """The members of an object, which :func:`decode_header` gives as a tuple."""
    if not isinstance(pairs, tuple):
        raise MalformedMessage(f"{at}: expected an object")
    members: dict[str, str] = dict(pairs)
    if len(pairs) != len(names) or members.keys() != names:
        wanted = ", ".join(sorted(names))
        raise MalformedMessage(f"{at}: expected exactly {wanted}, each once")
    return members


def _wrapping_key(secret: bytes) -> bytes:
    """Concat KDF with SHA-256, one round (RFC 7518, 4.6.2)."""
    return hashlib.sha256(b"\x00\x00\x00\x01" + secret + _KDF_TAIL).digest()
