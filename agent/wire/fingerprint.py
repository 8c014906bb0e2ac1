# SPDX-License-Identifier: Apache-2.0
"""The digest of key statement 1 as people compare it (wire.md §6).

Eight words are read over the telephone. They are the first eight of the BIP-39 sentence
of the digest's 32 bytes, so every language has a library that makes them; each stands
for 11 bits. With 88 bits a stranger cannot make keys that have the same words; with
eight words of a list of 256 (64 bits) he could. The Chinese ones are single characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from mnemonic import Mnemonic

WORDS = 8


@dataclass(frozen=True)
class Fingerprint:
    """Which keys of which node.

    Args:
        node: ``<USCC>/<name>``.
        statement: message digest of its key statement 1, ``sha256:<hex>``.
    """

    node: str
    statement: str

    @property
    def en(self) -> tuple[str, ...]:
        """Eight English words."""
        return _words(self.statement, "english")

    @property
    def zh(self) -> tuple[str, ...]:
        """Eight Chinese characters."""
        return _words(self.statement, "chinese_simplified")

    @property
    def uris(self) -> str:
        """What the QR code holds: the two URIs of the certificate request."""
        hexes = self.statement.removeprefix("sha256:")
        return f"fep:node/{self.node} fep:keys/sha256/{hexes}"

    def agrees(self, said: str) -> bool:
        """Whether that is this one: words of one language, digest, or the QR code."""
        plain = "".join(said.split()).lower()
        forms = (
            "".join(self.en),
            "".join(self.zh),
            self.statement,
            "".join(self.uris.lower().split()),
        )
        return plain in forms


def _words(statement: str, language: str) -> tuple[str, ...]:
    digest = bytes.fromhex(statement.removeprefix("sha256:"))
    return tuple(_list(language).to_mnemonic(digest).split()[:WORDS])


@cache
def _list(language: str) -> Mnemonic:
    return Mnemonic(language)
