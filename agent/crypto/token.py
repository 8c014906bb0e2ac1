# SPDX-License-Identifier: Apache-2.0
"""Private keys that never leave a token: PKCS#11, for ``sign`` and ``audit``.

A key file names such a key by a PKCS#11 URI (RFC 7512) on its one line::

    pkcs11:token=fep;object=fep-sign?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/fep/secrets/pin

Rules

1. Token, object, module and PIN source must be named; a PIN never stands in the URI.
2. The token signs; what it gives is checked with the public key before it is used, so a
   token that was swapped or is broken is noticed here and not by the exchange.
3. A session that is lost is opened anew once; then the error says so. A process is
   logged in, not a session: another key of ours may have logged in, or out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    encode_dss_signature,
)

from agent.errors import SecretUnreadable, TokenFailed

PREFIX = "pkcs11:"
_P256_PARAMS = bytes.fromhex("06082a8648ce3d030107")
"""DER of the object identifier of P-256."""
_P256_POINT = 65
_ED25519_POINT = 32


@dataclass(frozen=True)
class Place:
    """Where a key is.

    Args:
        token: label of the token.
        object: label of the key pair.
        module: absolute path of the PKCS#11 library.
        pin_source: ``file:/path``, ``/path`` or ``credential:NAME``.
    """

    token: str
    object: str
    module: str
    pin_source: str


def place(uri: str, *, at: str) -> Place:
    """The place that a URI names.

    Args:
        uri: ``pkcs11:...``.
        at: the key file, for complaints.

    Raises:
        SecretUnreadable: a part is missing, unknown or not allowed.
    """
    path, _, query = uri.removeprefix(PREFIX).partition("?")
    parts = [part.partition("=") for part in path.split(";")]
    found = {name: unquote(value) for name, _, value in parts}
    found |= dict(parse_qsl(query.replace("+", "%2B")))
    wanted = {"token", "object", "module-path", "pin-source"}
    if set(found) - {"type"} != wanted or not all(found.values()):
        raise SecretUnreadable(f"{at}: expected a PKCS#11 URI with {sorted(wanted)}")
    if not found["module-path"].startswith("/"):
        raise SecretUnreadable(f"{at}: module-path: expected an absolute path")
    return Place(
        found["token"], found["object"], found["module-path"], found["pin-source"]
    )


class Hand:
    """Signs with one private key of a token; safe to call from any thread.

    Args:
        found: where the key is.
        pin: reads the PIN; called whenever a session is opened.

    Attributes:
        point: the public key: 65 bytes of P-256, or 32 of Ed25519.

    Raises:
        TokenFailed: no such module, token or key, or another kind of key.
        SecretUnreadable: a wrong PIN, or the library is not installed.
    """

    def __init__(self, found: Place, pin: Callable[[], str]) -> None:
        self._place = found
        self._pin = pin
        self._lock = threading.Lock()
        self._pkcs11 = _library()
        self._key: Any = None
        self._session: Any = None
        with self._lock:
            self.point = self._told(self._open)

    def sign(self, data: bytes) -> bytes:
        """Over the SHA-256 of the data with P-256 (r and s), else over the data itself.

        Raises:
            TokenFailed: the token does not answer, or does not have this key any more.
        """
        with self._lock:
            return self._told(lambda: self._signed(data))

    def close(self) -> None:
        """End the session."""
        with self._lock:
            self._forget()

    # --- with the lock held ---------------------------------------------------------

    def _signed(self, data: bytes) -> bytes:
        if self._key is not None:
            try:
                return self._once(data)
            except self._pkcs11.PKCS11Error:
                self._forget()
        if self._open() != self.point:
            raise TokenFailed(f"{self._name}: the token has another key by this name")
        return self._once(data)

    def _once(self, data: bytes) -> bytes:
        mechanism = self._pkcs11.Mechanism
        if len(self.point) == _ED25519_POINT:
            found = bytes(self._key.sign(data, mechanism=mechanism.EDDSA))
            good = _verifies_ed25519(self.point, found, data)
        else:
            digest = _sha256(data)
            found = bytes(self._key.sign(digest, mechanism=mechanism.ECDSA))
            good = _verifies_p256(self.point, found, digest)
        if not good:
            raise TokenFailed(f"{self._name}: its signature does not verify")
        return found

    def _open(self) -> bytes:
        """Open a session and find the key; its public point."""
        classes, names = self._pkcs11.ObjectClass, self._pkcs11.Attribute
        token = self._pkcs11.lib(self._place.module).get_token(
            token_label=self._place.token
        )
        try:
            self._session = token.open(user_pin=self._pin())
        except self._pkcs11.exceptions.UserAlreadyLoggedIn:
            self._session = token.open()  # by another key of this process
        label = self._place.object
        public = self._session.get_key(object_class=classes.PUBLIC_KEY, label=label)
        self._key = self._session.get_key(object_class=classes.PRIVATE_KEY, label=label)
        return self._point(
            bytes(public[names.EC_POINT]), bytes(public[names.EC_PARAMS])
        )

    def _point(self, encoded: bytes, params: bytes) -> bytes:
        """The point of a DER octet string."""
        point = encoded[2:] if encoded[:1] == b"\x04" else b""
        p256 = len(point) == _P256_POINT and params == _P256_PARAMS
        if not p256 and len(point) != _ED25519_POINT:
            raise TokenFailed(f"{self._name}: expected a key of P-256 or Ed25519")
        return point

    def _forget(self) -> None:
        session, self._session, self._key = self._session, None, None
        if session is not None:
            try:
                session.close()
            except self._pkcs11.PKCS11Error:
                return  # it was lost before

    def _told(self, work: Callable[[], bytes]) -> bytes:
        try:
            return work()
        except self._pkcs11.exceptions.PinIncorrect:
            self._forget()  # nobody tries again: the token would lock itself
            raise SecretUnreadable(f"{self._name}: expected its PIN") from None
        except self._pkcs11.PKCS11Error as e:
            self._forget()
            raise TokenFailed(f"{self._name}: {type(e).__name__}") from None

    @property
    def _name(self) -> str:
        return f"token {self._place.token}, object {self._place.object}"


def _library() -> Any:
    """The library, loaded only where a key is in a token."""
    try:
        import pkcs11
    except ImportError as e:
        wanted = "expected the library python-pkcs11 (extra pkcs11)"
        raise SecretUnreadable(wanted) from e
    return pkcs11


def _sha256(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def _verifies_p256(point: bytes, signature: bytes, digest: bytes) -> bool:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
    try:
        key.verify(encode_dss_signature(r, s), digest, algorithm)
    except InvalidSignature:
        return False
    return len(signature) == 64


def _verifies_ed25519(point: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(point).verify(signature, data)
    except InvalidSignature:
        return False
    return True
