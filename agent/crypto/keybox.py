# SPDX-License-Identifier: Apache-2.0
"""Something secret under a passphrase: a compact JWE that any JOSE library opens.

PBES2-HS512+A256KW (RFC 7518 §4.8) around A256GCM: it opens whole or not at all.
"""

from __future__ import annotations

import json
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from agent.crypto.jose import base64url, from_base64url
from agent.errors import MalformedMessage, PassphraseWrong

ALG, ENC = "PBES2-HS512+A256KW", "A256GCM"
ROUNDS = 210_000
"""Of PBKDF2; OWASP's number of 2023 for SHA-512."""
MOST_ROUNDS = 2_000_000
"""A file may not make us work for longer than seconds."""
_MEMBERS = {"alg", "enc", "p2c", "p2s", "typ"}
_SALT = 16
_NONCE = 12
_TAG = 16


def lock(data: bytes, passphrase: bytes, *, typ: str, rounds: int = ROUNDS) -> str:
    """The compact JWE of something secret.

    Args:
        data: the secret.
        passphrase: of whoever shall open it.
        typ: what it is.
        rounds: of PBKDF2.
    """
    salt, nonce, content = os.urandom(_SALT), os.urandom(_NONCE), os.urandom(32)
    head = {
        "alg": ALG,
        "enc": ENC,
        "p2c": rounds,
        "p2s": base64url(salt),
        "typ": typ,
    }
    protected = base64url(json.dumps(head, separators=(",", ":")).encode())
    wrapped = aes_key_wrap(_stretched(passphrase, salt, rounds), content)
    sealed = AESGCM(content).encrypt(nonce, data, protected.encode())
    parts = (wrapped, nonce, sealed[:-_TAG], sealed[-_TAG:])
    return ".".join([protected, *(base64url(part) for part in parts)])


def unlock(text: str, passphrase: bytes, *, typ: str) -> bytes:
    """The secret of a compact JWE.

    Raises:
        MalformedMessage: it is none of ours.
        PassphraseWrong: it does not open.
    """
    parts = text.split(".")
    if len(parts) != 5:
        raise MalformedMessage("expected a compact JWE of five parts")
    wrapped, nonce, sealed, tag = (from_base64url(p, at="jwe") for p in parts[1:])
    rounds, salt = _head(parts[0], typ)
    try:
        content = aes_key_unwrap(_stretched(passphrase, salt, rounds), wrapped)
        return AESGCM(content).decrypt(nonce, sealed + tag, parts[0].encode())
    except (InvalidUnwrap, InvalidTag, ValueError):
        raise PassphraseWrong("it does not open, or was altered") from None


def _head(protected: str, typ: str) -> tuple[int, bytes]:
    """Rounds and salt of the header, its form checked."""
    try:
        head = json.loads(from_base64url(protected, at="jwe.header"))
    except (ValueError, RecursionError) as e:
        raise MalformedMessage("jwe.header: expected JSON") from e
    if not isinstance(head, dict) or head.keys() != _MEMBERS:
        raise MalformedMessage(f"jwe.header: expected {', '.join(sorted(_MEMBERS))}")
    if (head["alg"], head["enc"], head["typ"]) != (ALG, ENC, typ):
        raise MalformedMessage(f"jwe.header: expected {ALG}, {ENC}, {typ}")
    rounds, salt = head["p2c"], head["p2s"]
    if type(rounds) is not int or not 1000 <= rounds <= MOST_ROUNDS:
        raise MalformedMessage(f"jwe.header.p2c: expected 1000 to {MOST_ROUNDS}")
    if not isinstance(salt, str) or len(salt) < 11:
        raise MalformedMessage("jwe.header.p2s: expected at least 8 bytes")
    return rounds, from_base64url(salt, at="jwe.header.p2s")


def _stretched(passphrase: bytes, salt: bytes, rounds: int) -> bytes:
    whole = ALG.encode() + b"\0" + salt
    return PBKDF2HMAC(hashes.SHA512(), 32, whole, rounds).derive(passphrase)
