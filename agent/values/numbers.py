# SPDX-License-Identifier: Apache-2.0
"""Numbers and booleans from text."""

from __future__ import annotations

from math import isfinite

import pyarrow as pa
import pyarrow.compute as pc

from agent.model.item import Item, ItemType
from agent.values import reasons
from agent.values.columns import (
    Column,
    Fast,
    Parsed,
    Slow,
    cast,
    letters,
    matching,
    missing,
    only,
    trim,
    two_paths,
)
from agent.values.floats import SURE, carries
from agent.wire.texts import lengths

PRECISION = 38
"""Most digits of a decimal128."""

_DIGITS = letters(b"0123456789-")
_DECIMALS = letters(b"0123456789+-.")


_NUMBER = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)$"


def _plain(text: Column) -> Column:
    """Without the zeros that mean nothing, so that a cast cannot stumble over them."""
    text = pc.replace_substring_regex(text, r"(\.[0-9]*?)0+$", r"\1")
    text = pc.replace_substring_regex(text, r"^([+-]?)\.", r"\10.")
    return pc.replace_substring_regex(text, r"^([+-]?)0+([0-9])", r"\1\2")


def decimal(text: Column, item: Item) -> Parsed:
    """N and Y: exactly within precision and scale, no exponent."""
    precision, scale = decimal_size(item)
    usual = (
        rf"^-?[0-9]{{1,{max(1, precision - scale)}}}(\.[0-9]{{1,{max(1, scale)}}})?$"
    )
    return two_paths(text, *_decimal(precision, scale), usual=usual)


def _decimal(precision: int, scale: int) -> tuple[Fast, Slow]:
    to = pa.decimal128(precision, scale)
    fits = rf"^[+-]?0*[0-9]{{0,{precision - scale}}}(\.[0-9]{{0,{scale}}}0*)?$"

    def fast(text: Column) -> Column | None:
        # A cast of more digits than a decimal128 holds overflows without a word.
        if lengths(text).max(initial=0) > PRECISION - scale:
            return None
        return cast(text, to) if only(text, _DECIMALS) else None

    def slow(text: Column) -> Parsed:
        text = trim(text)
        numbers = matching(text, _NUMBER)
        fitting = matching(numbers, fits)
        return Parsed(
            _plain(fitting).cast(to),
            {
                reasons.BAD_NUMBER: missing(numbers, text),
                reasons.OUT_OF_RANGE: missing(fitting, numbers),
            },
        )

    return fast, slow


def decimal_size(item: Item) -> tuple[int, int]:
    """Precision and scale of an N or Y item."""
    if item.type is ItemType.Y:
        return 19, 4
    return item.length or 38, item.scale or 0


def integer(text: Column) -> Parsed:
    """I: 64 bits; a fraction of zeros does not count."""
    return two_paths(text, _fast_integer, _slow_integer, usual="^-?[0-9]{1,18}$")


def _fast_integer(text: Column) -> Column | None:
    return cast(text, pa.int64()) if only(text, _DIGITS) else None


def _slow_integer(text: Column) -> Parsed:
    text = trim(text)
    numbers = matching(text, r"^[+-]?[0-9]+(\.0*)?$")
    short = matching(numbers, r"^[+-]?0*[0-9]{1,19}(\.0*)?$")
    wide = _plain(short).cast(pa.decimal128(38, 0))
    low, high = (pa.scalar(v, pa.decimal128(38, 0)) for v in (-(2**63), 2**63 - 1))
    inside = pc.and_(pc.greater_equal(wide, low), pc.less_equal(wide, high))
    values = pc.if_else(inside, wide, pa.scalar(None, wide.type)).cast(pa.int64())
    return Parsed(
        values,
        {
            reasons.BAD_NUMBER: missing(numbers, text),
            reasons.OUT_OF_RANGE: missing(values, numbers),
        },
    )


def floating(text: Column) -> Parsed:
    """B and F: the 64-bit float that the text names; finite."""
    usual = rf"^-?[0-9.]{{1,{SURE}}}$"
    return two_paths(text, _fast_float, _slow_float, usual=usual)


def _fast_float(text: Column) -> Column | None:
    if lengths(text).max(initial=0) > SURE:
        return None
    return cast(text, pa.float64()) if only(text, _DECIMALS) else None


def all_finite(values: Column) -> bool:
    """Whether no value is NaN or infinite."""
    return pc.all(pc.is_finite(values), min_count=0).as_py() is not False


def _slow_float(text: Column) -> Parsed:
    text = trim(text)
    pattern = _NUMBER.removesuffix("$") + r"([eE][+-]?[0-9]+)?$"
    numbers = matching(text, pattern)
    values = numbers.cast(pa.float64())
    kept = [
        value if value is not None and isfinite(value) and carries(value, str(written))
        else None
        for value, written in zip(values.to_pylist(), numbers.to_pylist(), strict=True)
    ]  # fmt: skip
    carried = pa.array(kept, pa.float64())
    return Parsed(
        carried,
        {
            reasons.BAD_NUMBER: missing(numbers, text),
            reasons.OUT_OF_RANGE: missing(carried, numbers),
        },
    )


# --- booleans ---------------------------------------------------------------------

_TRUE = ("t", "true", "1", "y", "yes", "on", "是")
_FALSE = ("f", "false", "0", "n", "no", "off", "否")
_WORDS = pa.array(_TRUE + _FALSE)


def boolean(text: Column) -> Parsed:
    """L: the words of :data:`_TRUE` and :data:`_FALSE`, capitals or not."""
    return two_paths(text, _fast_boolean, _slow_boolean)


def _fast_boolean(text: Column) -> Column | None:
    places: Column = pc.index_in(text, _WORDS)
    if places.null_count != text.null_count:
        return None
    return pc.less(places, pa.scalar(len(_TRUE)))


def _slow_boolean(text: Column) -> Parsed:
    places = pc.index_in(pc.utf8_lower(trim(text)), _WORDS)
    values = pc.less(places, pa.scalar(len(_TRUE)))
    return Parsed(values, {reasons.BAD_BOOLEAN: missing(values, text)})
