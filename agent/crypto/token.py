# SPDX-License-Identifier: Apache-2.0
"""Private keys that never leave a token: PKCS#11, for ``sign`` and ``audit``.

A key file names such a key by a PKCS#11 URI (RFC 7512) on its one line::

    pkcs11:token=fep;object=fep-sign?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/fep/secrets/pin

Rules

1. Token, object, module and PIN source must be named; a PIN never stands in the URI.
2. The token signs; what it gives is checked with the public key before it is used, so a
   token that was swapped or is broken is noticed here and not by the exchange.
3. A process is logged in to a token once, and all keys of ours share that session,
   however often their files are read again. One that is lost is opened anew once; then
   the error says so.
4. A PIN that the token refused is not tried again by this process: a token that counts
   would lock itself. Another PIN is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
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

from agent.errors import SecretUnreadable, TokenFailed, TokenPinRefused

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


class Tokens:
    """The tokens that this process is logged in to; safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logins: dict[tuple[str, str], Login] = {}

    def login(self, found: Place) -> Login:
        """The one of the token that a place names.

        Raises:
            SecretUnreadable: the library is not installed.
        """
        with self._lock:
            at = (found.module, found.token)
            if at not in self._logins:
                self._logins[at] = Login(*at, _library())
            return self._logins[at]

    def troubles(self) -> list[TokenPinRefused]:
        """Of the tokens that refused our PIN and were not given another one."""
        with self._lock:
            logins = tuple(self._logins.values())
        return [e for login in logins if (e := login.trouble) is not None]

    def close(self) -> None:
        """Log out and end all sessions; the next use logs in again."""
        with self._lock:
            for login in self._logins.values():
                login.close()


class Login:
    """One token, and our session there.

    Args:
        module: absolute path of the PKCS#11 library.
        token: its label.
        library: ``pkcs11``.

    Attributes:
        trouble: the PIN was refused, and there was no other one since.
    """

    def __init__(self, module: str, token: str, library: Any) -> None:
        self._module = module
        self._token = token
        self._library = library
        self._lock = threading.RLock()
        self._session: Any = None
        self._refused: str | None = None
        self.trouble: TokenPinRefused | None = None

    def use(self, pin: Callable[[], str], work: Callable[[Any], bytes]) -> bytes:
        """Do something in the session; if it was lost, again in a new one.

        Args:
            pin: reads the PIN, where a session is opened.
            work: given the session.

        Raises:
            TokenPinRefused: the PIN is wrong, or was and is still the same.
            TokenFailed: the token does not answer, or lacks what the work needs.
        """
        faults = self._library.PKCS11Error
        with self._lock:
            if self._session is not None:
                try:
                    return work(self._session)
                except faults:
                    self.close()
            try:
                return work(self._opened(pin()))
            except faults as e:
                self.close()
                raise TokenFailed(type(e).__name__) from None

    def _opened(self, pin: str) -> Any:
        if self.trouble is not None and pin == self._refused:
            raise TokenPinRefused(self.trouble.detail)
        faults = self._library.exceptions
        token = self._library.lib(self._module).get_token(token_label=self._token)
        try:
            self._session = token.open(user_pin=pin)
        except faults.UserAlreadyLoggedIn:
            self._session = token.open()  # somebody else in this process is
        except (
            faults.PinIncorrect,
            faults.PinInvalid,
            faults.PinLenRange,
            faults.PinExpired,
            faults.PinLocked,
        ) as e:
            self._refused = pin
            self.trouble = TokenPinRefused(f"token {self._token}: {type(e).__name__}")
            raise self.trouble from None
        self._refused = self.trouble = None
        return self._session

    def close(self) -> None:
        """Log out and end the session."""
        with self._lock:
            session, self._session = self._session, None
            if session is not None:
                with suppress(self._library.PKCS11Error):  # it was lost before
                    session.close()


class Hand:
    """Signs with one private key of a token; safe to call from any thread.

    Args:
        found: where the key is.
        pin: reads the PIN; called whenever a session is opened.
        tokens: where this process is logged in.

    Attributes:
        point: the public key: 65 bytes of P-256, or 32 of Ed25519.

    Raises:
        TokenFailed: no such module, token or key, or another kind of key.
        TokenPinRefused: a wrong PIN.
        SecretUnreadable: the library is not installed.
    """

    def __init__(self, found: Place, pin: Callable[[], str], tokens: Tokens) -> None:
        self._place = found
        self._pin = pin
        self._pkcs11 = _library()
        self._login = tokens.login(found)
        self._found: tuple[Any, Any] = (None, None)
        self.point = self._use(self._look)

    def sign(self, data: bytes) -> bytes:
        """Over the SHA-256 of the data with P-256 (r and s), else over the data itself.

        Raises:
            TokenFailed: the token does not answer, or does not have this key any more.
            TokenPinRefused: the session was lost, and the PIN is wrong by now.
        """
        return self._use(lambda session: self._once(session, data))

    def _use(self, work: Callable[[Any], bytes]) -> bytes:
        try:
            return self._login.use(self._pin, work)
        except TokenFailed as e:
            at = f"token {self._place.token}, object {self._place.object}"
            raise TokenFailed(f"{at}: {e.detail}") from None

    # --- in a session ---------------------------------------------------------------

    def _once(self, session: Any, data: bytes) -> bytes:
        if self._found[0] is not session and self._look(session) != self.point:
            raise TokenFailed("the token has another key by this name")
        key, mechanism = self._found[1], self._pkcs11.Mechanism
        if len(self.point) == _ED25519_POINT:
            found = bytes(key.sign(data, mechanism=mechanism.EDDSA))
            good = _verifies_ed25519(self.point, found, data)
        else:
            digest = _sha256(data)
            found = bytes(key.sign(digest, mechanism=mechanism.ECDSA))
            good = _verifies_p256(self.point, found, digest)
        if not good:
            raise TokenFailed("its signature does not verify")
        return found

    def _look(self, session: Any) -> bytes:
        """Find the key; its public point."""
        classes, names = self._pkcs11.ObjectClass, self._pkcs11.Attribute
        label = self._place.object
        public = session.get_key(object_class=classes.PUBLIC_KEY, label=label)
        key = session.get_key(object_class=classes.PRIVATE_KEY, label=label)
        point = self._point(
            bytes(public[names.EC_POINT]), bytes(public[names.EC_PARAMS])
        )
        self._found = (session, key)
        return point

    def _point(self, encoded: bytes, params: bytes) -> bytes:
        """The point of a DER octet string."""
        point = encoded[2:] if encoded[:1] == b"\x04" else b""
        p256 = len(point) == _P256_POINT and params == _P256_PARAMS
        if not p256 and len(point) != _ED25519_POINT:
            raise TokenFailed("expected a key of P-256 or Ed25519")
        return point


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
