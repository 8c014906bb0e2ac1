# SPDX-License-Identifier: Apache-2.0
"""One-time codes, with which a machine's first request is let in (wire.md §6).

A code is 24 characters of Crockford's base32 in six groups::

    7QK2-M4XR-0V9T-AHJ3-C8WD-5EZN
    id   secret, 90 bits        check

It travels as HTTP Basic authentication (RFC 7030 §3.2.3): the id is the user, the rest
the password. The last two characters are the remainder, by 1021, of the 22 before them
read as one number: one wrong character, or any two exchanged, never go unnoticed, so
that a typing error ends here and not as a failure at the exchange.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.errors import CodeMistyped

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LIKE = str.maketrans("OIL", "011", "- \t\r\n")
"""Letters that are read as digits, and what stands between groups."""
_ID, _SECRET, _CHECK = 4, 18, 2
_LENGTH = _ID + _SECRET + _CHECK
_MODULUS = 1021
"""The largest prime of two characters."""
_GROUP = 4
TEXT_CAP = 256
"""Longest text that is looked at."""


@dataclass(frozen=True)
class Code:
    """A code that is well formed.

    Args:
        id: public, 4 characters.
        secret: 18 random characters, 90 bits.
    """

    id: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls, bits: Callable[[int], int] = secrets.randbits) -> Code:
        """A new one.

        Args:
            bits: gives a number of so many random bits.
        """
        text = _digits(bits(5 * (_ID + _SECRET)), _ID + _SECRET)
        return cls(text[:_ID], text[_ID:])

    @classmethod
    def parse(cls, text: str) -> Code:
        """A code as somebody typed it: case, blanks and dashes do not count.

        Raises:
            CodeMistyped: another length, another character, or its check fails.
        """
        if len(text) > TEXT_CAP:
            raise CodeMistyped(f"expected {_LENGTH} characters, got {len(text)}")
        found = text.upper().translate(_LIKE)
        if len(found) != _LENGTH:
            raise CodeMistyped(f"expected {_LENGTH} characters, got {len(found)}")
        if not set(found) <= set(ALPHABET):
            raise CodeMistyped("expected digits and letters without U")
        code = cls(found[:_ID], found[_ID:-_CHECK])
        if code._check != found[-_CHECK:]:
            raise CodeMistyped("expected other check characters at its end")
        return code

    @classmethod
    def of_login(cls, header: str) -> Code:
        """The code in an ``Authorization`` header.

        Raises:
            CodeMistyped: it is no Basic login with a code.
        """
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic" or len(encoded) > TEXT_CAP:
            raise CodeMistyped("expected HTTP Basic authentication")
        try:
            login = base64.b64decode(encoded, validate=True).decode("ascii")
        except (binascii.Error, ValueError) as e:
            raise CodeMistyped("expected HTTP Basic authentication") from e
        return cls.parse(login.replace(":", "", 1))

    @property
    def text(self) -> str:
        """As it is printed and typed, in groups."""
        whole = self.id + self.secret + self._check
        starts = range(0, _LENGTH, _GROUP)
        return "-".join(whole[start : start + _GROUP] for start in starts)

    def login(self) -> str:
        """The ``Authorization`` header that carries it."""
        user, _, password = self.text.partition("-")
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def hash(self) -> str:
        """What an exchange keeps of it: SHA-256, lower hex.

        A slow hash is for secrets that people choose. Nobody tries 2^90 of them, and a
        slow one would let strangers use up the exchange's processors.
        """
        return hashlib.sha256(f"fep-code:{self.id}{self.secret}".encode()).hexdigest()

    @property
    def _check(self) -> str:
        number = 0
        for character in self.id + self.secret:
            number = number * 32 + ALPHABET.index(character)
        return _digits(number % _MODULUS, _CHECK)


def _digits(number: int, length: int) -> str:
    shifts = range(5 * (length - 1), -1, -5)
    return "".join(ALPHABET[number >> shift & 31] for shift in shifts)
