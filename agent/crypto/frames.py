# SPDX-License-Identifier: Apache-2.0
"""Canonical text, frames and digests of rows, for plain Python values (wire.md §2).

The frame of a value is its type byte, the big-endian u32 length of its canonical bytes,
and these bytes; the frame of NULL is the single byte 00. ``agent.wire.arrow`` computes
the same over columns; a test holds the two together.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from agent.model.item import Item

CANON = 1
"""Version of these rules; stands in catalog statements as ``canon``."""

TYPE_BYTES: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys("CM", 1),
        **dict.fromkeys("NYI", 2),
        "D": 3,
        "T": 4,
        "L": 5,
        **dict.fromkeys("BF", 6),
        "G": 7,
    }
)
"""Letter of an item type -> first byte of its frames."""

NULL_FRAME = b"\x00"
_MODULUS = 1 << 128

Value = str | int | float | bool | bytes | date | datetime | Decimal | None


def number_text(value: Decimal | int) -> str:
    """Digits without trailing zeros, sign or point that say nothing; never ``-0``."""
    text = format(Decimal(value), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _instant_text(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("expected an instant with a time zone")
    utc = value.astimezone(UTC)
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _float_text(value: float) -> str:
    return struct.pack(">d", value + 0.0).hex()  # -0.0 + 0.0 is +0.0


_TEXT: Mapping[str, Callable[[Any], str]] = MappingProxyType(
    {
        **dict.fromkeys("CM", str),
        **dict.fromkeys("NYI", number_text),
        "D": lambda value: value.isoformat(),
        "T": _instant_text,
        "L": lambda value: "true" if value else "false",
        **dict.fromkeys("BF", _float_text),
    }
)


def canonical(letter: str, value: Value) -> bytes | None:
    """Canonical bytes of a value of an item type, None for NULL.

    Args:
        letter: C M N Y I D T L B F or G.
        value: str, Decimal, int, date, aware datetime, bool, float or bytes, as the
            type has it; must already fit the type.
    """
    if value is None:
        return None
    if letter == "G":
        if not isinstance(value, bytes):
            raise TypeError("expected bytes")
        return value
    return _TEXT[letter](value).encode("utf-8")


def frame(letter: str, value: Value) -> bytes:
    """The frame of a value."""
    data = canonical(letter, value)
    if data is None:
        return NULL_FRAME
    return struct.pack(">BI", TYPE_BYTES[letter], len(data)) + data


def frames(items: Sequence[Item], values: Sequence[Value]) -> bytes:
    """Frames of several values in order; of the key items: the canonical key."""
    pairs = zip(items, values, strict=True)
    return b"".join(frame(item.type, value) for item, value in pairs)


def digest_of_frames(data: bytes) -> int:
    """First 16 bytes of SHA-256, big-endian."""
    return int.from_bytes(hashlib.sha256(data).digest()[:16], "big")


def row_digest(items: Sequence[Item], values: Sequence[Value]) -> int:
    """Digest of one row, an accident check: 0 <= n < 2^128."""
    return digest_of_frames(frames(items, values))


def add_digests(digests: Iterable[int]) -> int:
    """Digest of a table: the sum of its rows' digests modulo 2^128."""
    return sum(digests) % _MODULUS


def digest_text(digest: int) -> str:
    """32 lower hex digits."""
    return f"{digest % _MODULUS:032x}"


def bucket(key_frames: bytes, bits: int) -> int:
    """First ``bits`` bits of SHA-256 over a canonical key, for reconciling."""
    head = int.from_bytes(hashlib.sha256(key_frames).digest()[:4], "big")
    return head >> (32 - bits)
