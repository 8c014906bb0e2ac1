# SPDX-License-Identifier: Apache-2.0
"""Canonical keys read back into values (wire.md §2): the inverse of key frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from agent.crypto.frames import TYPE_BYTES
from agent.model.item import Item

_HEAD = 5
"""Type byte and u32 length before each value."""

_VALUE: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "C": str,
        "I": int,
        "N": Decimal,
        "Y": Decimal,
        "D": date.fromisoformat,
        "T": datetime.fromisoformat,
    }
)


def texts_of(frames: bytes, count: int) -> list[str]:
    """The canonical texts of a key of so many items.

    Raises:
        ValueError: these are no such frames.
    """
    found, at = [], 0
    for _ in range(count):
        size = int.from_bytes(frames[at + 1 : at + _HEAD], "big")
        end = at + _HEAD + size
        if at + _HEAD > len(frames) or end > len(frames):
            raise ValueError("the frames of a key end early")
        found.append(frames[at + _HEAD : end].decode())
        at = end
    if at != len(frames):
        raise ValueError("the frames of a key are too long")
    return found


def frames_of(texts: Sequence[str], items: Sequence[Item]) -> bytes:
    """The canonical key of these canonical texts.

    Raises:
        ValueError: not a text for each item.
    """
    parts = []
    for text, item in zip(texts, items, strict=True):
        data = text.encode()
        parts += [bytes([TYPE_BYTES[item.type]]), len(data).to_bytes(4, "big"), data]
    return b"".join(parts)


def key_columns(keys: Sequence[bytes], items: Sequence[Item]) -> dict[str, list[Any]]:
    """Values of the key items by name, one a key.

    Args:
        keys: frames of the key items, of each key.
        items: the key items.

    Raises:
        ValueError: these are no such frames.
    """
    rows = [texts_of(key, len(items)) for key in keys]
    return {
        item.name: [_VALUE[item.type.value](row[i]) for row in rows]
        for i, item in enumerate(items)
    }
