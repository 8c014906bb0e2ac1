# SPDX-License-Identifier: Apache-2.0
"""How the keys of a stream stand in the state of a diff: 8 bytes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from agent.model.item import Item, ItemType
from agent.pipeline.diff_state import Frames, Hashes, blanks
from agent.pipeline.fingerprint import fingerprints
from agent.wire.arrow import key_frames
from agent.wire.key_text import key_columns

_SIGN = np.uint64(1 << 63)


class Keys(Protocol):
    """How the keys of a stream stand in its state."""

    form: str
    """Name of the way."""

    def hashes(self, rows: pa.RecordBatch, salt: bytes) -> Hashes:
        """What stands for each row's key."""
        ...

    def frames(self, rows: pa.RecordBatch) -> Frames:
        """What is kept besides."""
        ...

    def columns(self, hashes: Hashes, frames: Frames) -> Mapping[str, Any]:
        """The values of the key items by name."""
        ...


class WholeNumbers:
    """A key of one item of type I: it is kept itself, in its order."""

    form = "whole"

    def __init__(self, item: Item) -> None:
        self._name = item.name

    def hashes(self, rows: pa.RecordBatch, salt: bytes) -> Hashes:  # noqa: ARG002
        """The number itself, moved so that none is below 0."""
        values = rows.column(self._name).to_numpy(zero_copy_only=False)
        found: Hashes = values.view(np.uint64) ^ _SIGN
        return found

    def frames(self, rows: pa.RecordBatch) -> Frames:
        """Nothing."""
        return blanks(rows.num_rows)

    def columns(self, hashes: Hashes, frames: Frames) -> Mapping[str, Any]:  # noqa: ARG002
        """The numbers again."""
        return {self._name: (hashes ^ _SIGN).view(np.int64)}


class DigestedKeys:
    """Any key: the first word of a fingerprint, salted, and the canonical key."""

    form = "digest"

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items
        self._keys = [item for item in items if item.key]

    def hashes(self, rows: pa.RecordBatch, salt: bytes) -> Hashes:
        """A digest of the key."""
        columns = [rows.column(item.name) for item in self._keys]
        number = int.from_bytes(salt[:8], "big")
        return fingerprints(columns, rows.num_rows, number)[:, 0].copy()

    def frames(self, rows: pa.RecordBatch) -> Frames:
        """The canonical keys."""
        return pa.array(key_frames(rows, self._items), pa.binary())

    def columns(self, hashes: Hashes, frames: Frames) -> Mapping[str, Any]:  # noqa: ARG002
        """The values of the canonical keys."""
        return key_columns(frames.to_pylist(), self._keys)


def keys_of(items: Sequence[Item]) -> Keys:
    """How keys of these items stand in a state."""
    keys = [item for item in items if item.key]
    if len(keys) == 1 and keys[0].type is ItemType.I:
        return WholeNumbers(keys[0])
    return DigestedKeys(items)
