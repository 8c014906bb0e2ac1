# SPDX-License-Identifier: Apache-2.0
"""A column as the connector gave it to a column of the item's exact wire type."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.errors import SourceTypeChanged
from agent.model.item import Item, ItemType
from agent.values import reasons
from agent.values.columns import (
    Column,
    Faults,
    Parsed,
    truth,
    within,
)
from agent.values.dates import LOCAL_TIME, localised
from agent.values.numbers import all_finite, decimal_size
from agent.values.parse import decode, parse
from agent.values.zone import Zone
from agent.wire.arrow import DAYS, LONG_CAP, MICROS, type_of
from agent.wire.texts import fit, may_have_nul

_TEXT = (ItemType.C, ItemType.M)


def typed(column: Column, item: Item, zone: Zone) -> Parsed:
    """The values of a column in their wire type; faulty rows have no meaning.

    Args:
        column: of the wire type, or ``string``, or ``binary`` (text that cannot be
            decoded), or for T ``timestamp[us]`` without zone.
        item: what the column should be.
        zone: of times without an offset.

    Raises:
        SourceTypeChanged: the column has another type.
    """
    if column.type == pa.binary() and item.type is not ItemType.G:
        decoded = decode(column)
        parsed = typed(decoded.values, item, zone)
        return Parsed(parsed.values, {**parsed.faults, **decoded.faults})
    if item.type in _TEXT and column.type == pa.string():
        return Parsed(column, _text_faults(column, item))
    if column.type == type_of(item):
        return Parsed(column, _native_faults(column, item))
    if column.type == pa.string():
        parsed = parse(column, item, zone)
        if item.type is ItemType.G:
            return Parsed(parsed.values, _native_faults(parsed.values, item))
        return parsed
    if item.type is ItemType.T and column.type == LOCAL_TIME:
        return localised(column, zone)
    raise SourceTypeChanged(
        f"item {item.name}: expected {type_of(item)} or string, got {column.type}"
    )


def _text_faults(text: Column, item: Item) -> Faults:
    faults: Faults = {}
    if may_have_nul(text):
        faults[reasons.NUL] = truth(pc.match_substring(text, "\0"))
    if item.type is ItemType.M:
        _note(faults, pc.greater(pc.binary_length(text), pa.scalar(LONG_CAP)))
    elif not fit(text, item.length or 0):
        _note(faults, pc.greater(pc.utf8_length(text), pa.scalar(item.length or 0)))
    return faults


def _note(faults: Faults, wrong: Column) -> None:
    mask = truth(wrong)
    if reasons.NUL in faults:
        mask &= ~faults[reasons.NUL]
    if mask.any():
        faults[reasons.TOO_LONG] = mask


def _native_faults(column: Column, item: Item) -> Faults:
    if item.type is ItemType.G:
        long = truth(pc.greater(pc.binary_length(column), pa.scalar(LONG_CAP)))
        return {reasons.TOO_LONG: long} if long.any() else {}
    if item.type in (ItemType.B, ItemType.F):
        if all_finite(column):
            return {}
        return {reasons.OUT_OF_RANGE: truth(pc.invert(pc.is_finite(column)))}
    bounds = _bounds(column, item)
    if bounds is None or within(*bounds):
        return {}
    values, low, high = bounds
    outside = pc.or_(
        pc.less(values, pa.scalar(low, values.type)),
        pc.greater(values, pa.scalar(high, values.type)),
    )
    return {reasons.OUT_OF_RANGE: truth(outside)}


def _bounds(column: Column, item: Item) -> tuple[Column, Any, Any] | None:
    """The column in a form that compares, and the least and greatest value."""
    match item.type:
        case ItemType.D:
            return column.view(pa.int32()), *DAYS
        case ItemType.T:
            return column.view(pa.int64()), *MICROS
        case ItemType.N | ItemType.Y:
            precision, scale = decimal_size(item)
            most = Decimal((0, (9,) * precision, -scale))
            return column, most.copy_negate(), most
        case _:
            return None
