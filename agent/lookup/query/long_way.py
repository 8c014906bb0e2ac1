# SPDX-License-Identifier: Apache-2.0
"""Any values of a connector through ``agent.values``, as a push would take them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agent.model.item import Item, ItemType
from agent.values.encoding import repaired
from agent.values.typed import typed
from agent.values.zone import Zone
from agent.wire.arrow import canonical_columns

_PLAIN = (ItemType.B, ItemType.F, ItemType.G)
"""Items whose canonical bytes are not text."""


def values_of(
    column: Sequence[str | bytes | None],
    item: Item,
    timezone: str,
    encoding: str | None = None,
) -> tuple[list[Any], list[bool]]:
    """Canonical texts (floats and bytes as they are), and which are faulty.

    Args:
        column: values as a connector tells them.
        item: what they are.
        timezone: IANA name, of times without an offset.
        encoding: what the texts really are, as ``BoundItem`` has it.
    """
    arrow: Any = _arrow(column, item)
    if encoding is not None:
        arrow = repaired(arrow, encoding)
    parsed = typed(arrow, item, _zone(timezone))
    values: Any = parsed.values
    faulty = np.zeros(len(column), np.bool_)
    for mask in parsed.faults.values():
        faulty |= mask
    if faulty.any():
        values = pc.if_else(pa.array(faulty), pa.scalar(None, values.type), values)
    if item.type in _PLAIN:
        return values.to_pylist(), faulty.tolist()
    batch = pa.RecordBatch.from_arrays([values], names=[item.name])
    (texts,) = canonical_columns(batch, [item])
    return [None if t is None else t.decode() for t in texts], faulty.tolist()


def _arrow(column: Sequence[str | bytes | None], item: Item) -> pa.Array[Any]:
    if item.type is not ItemType.G and not any(isinstance(v, bytes) for v in column):
        return pa.array(column, pa.string())
    return pa.array(
        [v.encode() if isinstance(v, str) else v for v in column], pa.binary()
    )


@lru_cache(maxsize=4)
def _zone(timezone: str) -> Zone:
    return Zone(timezone)
