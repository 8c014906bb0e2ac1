# SPDX-License-Identifier: Apache-2.0
"""A server's text to the exact type of an item, a column at a time, faults per value.

Rules

1. A value is carried exactly or not at all: no rounding, no cutting, no guessing.
2. The same text gives the same result whatever stands around it. The fast path (one
   cast of the whole column) accepts a part of what the slow path accepts and gives the
   same values; ``tests/unit/values/test_parse.py`` holds them together.
3. Only odd values pay for the slow path, or at most the ``columns.PIECE`` rows around
   one that looked usual and was not.
4. Blanks and tabs around a number, a date or a boolean do not count; ``''`` is not NULL
   and is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from agent.model.item import Item, ItemType
from agent.values import dates, numbers, reasons
from agent.values.columns import Column, Parsed, cast, missing, two_paths
from agent.values.zone import Zone

_PARSERS: Mapping[ItemType, Callable[[Column, Item], Parsed]] = {
    ItemType.N: numbers.decimal,
    ItemType.Y: numbers.decimal,
    ItemType.I: lambda text, _: numbers.integer(text),
    ItemType.B: lambda text, _: numbers.floating(text),
    ItemType.F: lambda text, _: numbers.floating(text),
    ItemType.L: lambda text, _: numbers.boolean(text),
    ItemType.D: lambda text, _: dates.date(text),
    ItemType.G: lambda text, _: Parsed(text.cast(pa.binary()), {}),
}


def parse(text: Column, item: Item, zone: Zone) -> Parsed:
    """The values of a string column.

    Args:
        text: type ``string``.
        item: any type but C and M, whose text is the value.
        zone: of times without an offset.
    """
    if item.type is ItemType.T:
        return dates.time(text, zone)
    return _PARSERS[item.type](text, item)


def decode(raw: Column) -> Parsed:
    """Bytes as UTF-8 text; what is not UTF-8 is ``undecodable``."""
    return two_paths(raw, lambda part: cast(part, pa.string()), _slow_decode)


def _slow_decode(raw: Column) -> Parsed:
    values = [_decoded(v) for v in raw.to_pylist()]
    text = pa.array(values, pa.string())
    return Parsed(text, {reasons.UNDECODABLE: missing(text, raw)})


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None
