# SPDX-License-Identifier: Apache-2.0
"""Signed messages: compact JWS with the header ``{alg, kid, typ}`` (wire.md §1).

Rules

1. Form is checked here, before anything is computed: sizes, alphabet, padding, loose
   bits, duplicate header members. JOSE libraries differ in what they let pass, and
   little of theirs is left to do after these checks (docs/adr/0004).
2. What is not verified (:class:`Unverified`) and what is (:class:`Verified`) are
   different types.
3. ``typ`` decides the purpose of the key that may sign; ``alg`` comes from the key,
   never from the message.
4. "The same message" means the same signing input: an ECDSA signature can be
   re-encoded, its input cannot.
5. A signature is 64 bytes: r and s, 32 bytes each, big-endian (RFC 7518, 3.4).
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Protocol, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agent.errors import BadSignature, MalformedMessage

PURPOSE: Mapping[str, str] = MappingProxyType(
    {
        "fep-batch+jws": "sign",
        "fep-catalog+jws": "sign",
        "fep-keys+jws": "sign",
        "fep-lookup-req+jws": "sign",
        "fep-lookup-res+jws": "sign",
        "fep-reconcile-req+jws": "sign",
        "fep-heartbeat+jws": "sign",
        "fep-leave+jws": "sign",
        "fep-command-result+jws": "sign",
        "fep-receipt+jws": "receipt",
        "fep-position+jws": "receipt",
        "fep-reconcile-res+jws": "receipt",
        "fep-directory+jws": "receipt",
        "fep-command+jws": "command",
    }
)
"""``typ`` -> purpose of the key that signs it."""

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "tls": "ES256",
        "sign": "ES256",
        "receipt": "ES256",
        "command": "ES256",
        "decrypt": "ECDH-ES+A256KW",
        "audit": "Ed25519",
        "witness": "Ed25519",
    }
)
"""Purpose -> ``alg`` of the JWK in suite ``es256``."""

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
"""Characters that only other forms of base64 have become ones that none has."""
_LAST = ("", None, "AQgw", "AEIMQUYcgkosw048")
"""By length modulo 4: the last characters that have no loose bits; "" is any."""
_KID = re.compile(r"[A-Za-z0-9_-]{43}")
_MEMBERS = {"alg", "kid", "typ"}
_PAIRS = json.JSONDecoder(object_pairs_hook=tuple)
_COMPACT = json.JSONEncoder(separators=(",", ":"))
_COORDINATES = {"EC": ("x", "y"), "OKP": ("x",)}
_CURVES = {"EC": "P-256", "OKP": "Ed25519"}
_USUAL_HEADER = 512
_ES256 = ec.ECDSA(hashes.SHA256())
_P256 = ec.SECP256R1()


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    text = binascii.b2a_base64(data, newline=False).translate(_TO_URL)
    return text.rstrip(b"=").decode("ascii")


def from_base64url(text: str, *, at: str) -> bytes:
    """The bytes of base64url text.

    Raises:
        MalformedMessage: other characters, padding, an impossible length, loose bits.
    """
    last = _LAST[len(text) % 4]
    if last is None:
        raise MalformedMessage(f"{at}: expected base64url, got a bad length")
    if last and text[-1] not in last:
        raise MalformedMessage(f"{at}: expected base64url without loose bits")
    try:
        data = text.encode("ascii").translate(_FROM_URL)
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except ValueError:
        raise MalformedMessage(f"{at}: expected base64url without padding") from None


def header_json(header: Mapping[str, Any]) -> str:
    """The JSON of a protected header."""
    return _COMPACT.encode(header)


def encode_header(header: Mapping[str, Any]) -> str:
    """A protected header as it stands in a message."""
    return base64url(header_json(header).encode("ascii"))


def decode_header(segment: str, *, at: str) -> object:
    """A protected header; its objects as tuples of pairs, so that doubles show.

    Raises:
        MalformedMessage: not base64url of JSON.
    """
    data = from_base64url(segment, at=at)
    try:
        return _PAIRS.decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise MalformedMessage(f"{at}: expected a JSON object") from e


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The ``kid``: RFC 7638 SHA-256 thumbprint of a JWK's required members."""
    names = ("crv", "kty", *_COORDINATES[jwk["kty"]])
    text = json.dumps({n: jwk[n] for n in names}, separators=(",", ":"))
    return base64url(hashlib.sha256(text.encode("ascii")).digest())


@dataclass(frozen=True)
class PublicKey:
    """A public key of one purpose.

    Args:
        kid: its RFC 7638 thumbprint.
        alg: the one algorithm that it is used with.
        purpose: ``tls``, ``sign``, ``decrypt``, ``audit``, ``receipt``, ``command`` or
            ``witness``.
        jwk: the members on the wire, ``alg`` and ``purpose`` among them.
    """

    kid: str
    alg: str
    purpose: str
    jwk: Mapping[str, str] = field(repr=False, hash=False)

    @classmethod
    def from_jwk(cls, obj: object) -> Self:
        """The key of a JWK; its members must be exactly those of wire.md §1.

        Raises:
            MalformedMessage: another shape, curve, alg or purpose, or a point that is
                not on the curve.
        """
        jwk = _strings(obj)
        kty, purpose = jwk.get("kty", ""), jwk.get("purpose", "")
        coordinates = _COORDINATES.get(kty)
        wanted_kty = "OKP" if ALGORITHMS.get(purpose) == "Ed25519" else "EC"
        if coordinates is None or kty != wanted_kty or purpose not in ALGORITHMS:
            raise MalformedMessage(
                f"jwk: expected a known kty and purpose, got {kty[:64]!r} for"
                f" {purpose[:64]!r}"
            )
        wanted = {"kty", "crv", "alg", "purpose", *coordinates}
        if set(jwk) != wanted:
            raise MalformedMessage(f"jwk: expected the members {sorted(wanted)}")
        if jwk["crv"] != _CURVES[kty] or jwk["alg"] != ALGORITHMS[purpose]:
            raise MalformedMessage(
                f"jwk: expected {_CURVES[kty]} and {ALGORITHMS[purpose]} for {purpose}"
            )
        for name in coordinates:
            if len(from_base64url(jwk[name], at=f"jwk.{name}")) != 32:
                raise MalformedMessage(f"jwk.{name}: expected 32 bytes")
        key = cls(thumbprint(jwk), jwk["alg"], purpose, MappingProxyType(jwk))
        _ = key.point if kty == "EC" else key.ed25519
        return key

    @cached_property
    def point(self) -> ec.EllipticCurvePublicKey:
        """The P-256 key itself, parsed once.

        Raises:
            MalformedMessage: it is no P-256 key, or no point on the curve.
        """
        if self.jwk["kty"] != "EC":
            raise MalformedMessage(f"jwk: expected a P-256 key for {self.purpose}")
        encoded = p256_bytes(self.jwk["x"], self.jwk["y"], at="jwk")
        return p256_point(encoded, at="jwk")

    @cached_property
    def ed25519(self) -> ed25519.Ed25519PublicKey:
        """The Ed25519 key itself, parsed once.

        Raises:
            MalformedMessage: it is no Ed25519 key.
        """
        if self.jwk["kty"] != "OKP":
            raise MalformedMessage(f"jwk: expected an Ed25519 key for {self.purpose}")
        x = from_base64url(self.jwk["x"], at="jwk.x")
        return ed25519.Ed25519PublicKey.from_public_bytes(x)


def p256_bytes(x: str, y: str, *, at: str) -> bytes:
    """Two coordinates in base64url, 32 bytes each, as an uncompressed point (SEC 1).

    Raises:
        MalformedMessage: other text, or another length; ``at`` is its place in the
            message.
    """
    raw = [from_base64url(v, at=f"{at}.{n}") for n, v in (("x", x), ("y", y))]
    if [len(r) for r in raw] != [32, 32]:
        raise MalformedMessage(f"{at}: expected coordinates of 32 bytes")
    return b"\x04" + b"".join(raw)


def p256_point(encoded: bytes, *, at: str) -> ec.EllipticCurvePublicKey:
    """The P-256 key of an uncompressed point.

    Raises:
        MalformedMessage: it is not on the curve; ``at`` is its place in the message.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, encoded)
    except ValueError as e:
        raise MalformedMessage(f"{at}: expected a point on the curve") from e


def coordinates_of(key: ec.EllipticCurvePublicKey) -> tuple[str, str]:
    """The x and y of a P-256 key in base64url, as a JWK has them."""
    encoded = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return base64url(encoded[1:33]), base64url(encoded[33:])


def _strings(obj: object) -> dict[str, str]:
    if not isinstance(obj, Mapping):
        raise MalformedMessage("jwk: expected an object")
    if not all(isinstance(v, str) for v in obj.values()):
        raise MalformedMessage("jwk: expected text members only")
    return dict(obj)


class Signer(Protocol):
    """Whoever holds a private key that signs messages."""

    def sign(self, typ: str, payload: bytes) -> str:
        """The compact JWS of a payload."""
        ...


class PrivateKey:
    """A private P-256 key of one purpose; its value never shows in ``repr``."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, purpose: str) -> None:
        self._key = key
        x, y = coordinates_of(key.public_key())
        jwk = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        self.public = PublicKey.from_jwk(
            {**jwk, "alg": ALGORITHMS[purpose], "purpose": purpose}
        )
        self._heads: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.kid}, {self.public.purpose})"

    @classmethod
    def generate(cls, purpose: str) -> Self:
        """A new P-256 key for one of the purposes of suite ``es256``."""
        _refuse_ed25519(purpose)
        return cls(ec.generate_private_key(_P256), purpose)

    @classmethod
    def from_pem(
        cls, pem: bytes, *, purpose: str, passphrase: bytes | None = None
    ) -> Self:
        """The key of a PKCS#8 PEM file; with a passphrase, of a sealed one.

        Raises:
            ValueError: no private P-256 key, or not sealed so.
        """
        _refuse_ed25519(purpose)
        try:
            key = load_pem_private_key(pem, password=passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            raise ValueError(_expected(passphrase, "P-256")) from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(
            key.curve, ec.SECP256R1
        ):
            raise ValueError("expected a P-256 private key in PEM")  # noqa: TRY004
        return cls(key, purpose)

    def pem(self, passphrase: bytes | None = None) -> bytes:
        """The private key as PKCS#8 PEM, sealed if there is a passphrase."""
        return self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, sealing(passphrase)
        )

    def sign(self, typ: str, payload: bytes) -> str:
        """The compact JWS of a payload.

        Raises:
            ValueError: a key of this purpose does not sign such messages.
        """
        signing_input = f"{self._head(typ)}.{base64url(payload)}"
        der = self._key.sign(signing_input.encode("ascii"), _ES256)
        r, s = decode_dss_signature(der)
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signing_input}.{base64url(signature)}"

    def _head(self, typ: str) -> str:
        """The header of messages of a type; the same every time, so made once."""
        if typ not in self._heads:
            if PURPOSE.get(typ) != self.public.purpose:
                raise ValueError(f"a {self.public.purpose} key does not sign {typ}")
            header = {"alg": self.public.alg, "kid": self.public.kid, "typ": typ}
            self._heads[typ] = encode_header(header)
        return self._heads[typ]

    def agree(self, point: ec.EllipticCurvePublicKey) -> bytes:
        """The ECDH secret with another's key, 32 bytes.

        Raises:
            ValueError: a key of this purpose does not decrypt.
        """
        if self.public.purpose != "decrypt":
            raise ValueError(f"a {self.public.purpose} key does not decrypt")
        return self._key.exchange(ec.ECDH(), point)


def sealing(passphrase: bytes | None) -> KeySerializationEncryption:
    """How a private key is written: PBES2, or open."""
    return BestAvailableEncryption(passphrase) if passphrase else NoEncryption()


def _expected(passphrase: bytes | None, kind: str) -> str:
    how = "an unencrypted" if passphrase is None else "a sealed"
    return f"expected {how} {kind} private key in PEM"


def _refuse_ed25519(purpose: str) -> None:
    if ALGORITHMS.get(purpose, "Ed25519") == "Ed25519":
        raise ValueError(f"no P-256 key has the purpose {purpose!r}")


@dataclass(frozen=True)
class Unverified:
    """A message of right form whose signature nobody has checked yet.

    Args:
        kid: what the header says, to find the key by.
        alg: what the header says.
        typ: what the header says.
        payload: decoded bytes; not to be acted upon.
        digest: the message digest.
        text: the exact compact JWS.
    """

    kid: str
    alg: str
    typ: str
    payload: bytes = field(repr=False)
    digest: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class Verified:
    """A message whose signature was made by the key ``kid``; see :func:`verify`."""

    kid: str
    typ: str
    payload: bytes = field(repr=False)
    digest: str
    text: str = field(repr=False)


def message_digest(text: str) -> str:
    """``sha256:`` and the hex digest of a compact JWS's signing input."""
    signing_input = text.rpartition(".")[0].encode("ascii")
    return "sha256:" + hashlib.sha256(signing_input).hexdigest()


def payload_of(text: str) -> bytes:
    """The payload of a compact JWS whose form was checked.

    Raises:
        MalformedMessage: it has none.
    """
    return from_base64url(text.split(".", 2)[1], at="payload")


def split(text: str | bytes, *, cap: int) -> Unverified:
    """Take a compact JWS apart, strictly.

    Args:
        text: the message as received, nothing before or after it.
        cap: most bytes that it may have.

    Raises:
        MalformedMessage: any other form than rule 1 allows.
    """
    if len(text) > cap:
        raise MalformedMessage(f"message: expected at most {cap} bytes")
    try:
        line = text.decode("ascii") if isinstance(text, bytes) else text
        line.encode("ascii")
    except UnicodeError as e:
        raise MalformedMessage("message: expected ASCII") from e
    parts = line.split(".")
    if len(parts) != 3:
        raise MalformedMessage(f"message: expected 3 segments, got {len(parts)}")
    header = _header(parts[0])
    payload = from_base64url(parts[1], at="payload")
    if not from_base64url(parts[2], at="signature"):
        raise MalformedMessage("signature: expected one, got none")
    if not _KID.fullmatch(header["kid"]):
        raise MalformedMessage("header.kid: expected a thumbprint of 43 characters")
    return Unverified(
        kid=header["kid"],
        alg=header["alg"],
        typ=header["typ"],
        payload=payload,
        digest=message_digest(line),
        text=line,
    )


def _header(segment: str) -> Mapping[str, str]:
    """What a header says; whoever signs sends the same one each time."""
    short = len(segment) <= _USUAL_HEADER
    return _header_known(segment) if short else _header_read(segment)


def _header_read(segment: str) -> Mapping[str, str]:
    """Exactly ``alg``, ``kid`` and ``typ``, each once, each a string."""
    pairs = decode_header(segment, at="header")
    if not isinstance(pairs, tuple):  # an array is a list
        raise MalformedMessage("header: expected a JSON object")
    header = dict(pairs)
    if len(pairs) != 3 or header.keys() != _MEMBERS:
        raise MalformedMessage("header: expected exactly alg, kid and typ, each once")
    for value in header.values():
        if not isinstance(value, str):
            raise MalformedMessage("header: expected text members")
    return MappingProxyType(header)


_header_known = lru_cache(maxsize=1024)(_header_read)


def verify(message: Unverified, key: PublicKey, *, typ: str) -> Verified:
    """Check a message against the key that the directory has for its ``kid``.

    Args:
        message: from :func:`split`.
        key: found by ``message.kid`` in the directory, never in a message.
        typ: the one type that is expected here.

    Raises:
        MalformedMessage: another ``typ``.
        BadSignature: another kid, alg or purpose, or the signature does not verify.
    """
    if message.typ != typ:
        raise MalformedMessage(f"header.typ: expected {typ}, got {message.typ[:64]!r}")
    if message.kid != key.kid:
        raise BadSignature(f"{typ}: expected kid {key.kid}, got {message.kid}")
    if message.alg != key.alg:
        raise BadSignature(f"{typ}: expected alg {key.alg}, got {message.alg[:64]!r}")
    if PURPOSE.get(typ) != key.purpose:
        raise BadSignature(f"{typ}: a key of purpose {key.purpose} may not sign it")
    signing_input, _, last = message.text.rpartition(".")
    signature = from_base64url(last, at="signature")
    if not _verifies(key, signature, signing_input.encode("ascii")):
        raise BadSignature(f"{typ}: signature of {key.kid} does not verify")
    return Verified(message.kid, typ, message.payload, message.digest, message.text)


def _verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    if len(signature) != 64:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key.point.verify(encode_dss_signature(r, s), data, _ES256)
    except InvalidSignature:
        return False
    return True
