# SPDX-License-Identifier: Apache-2.0
"""A connector's column to the canonical texts of a lookup (wire.md §2 and §4).

Rules

1. The values are those of a push: ``agent.values`` decides, and what it finds faulty is
   ``BAD``.
2. Few rows come at a time, and Arrow takes longer to begin than they take to finish. So
   values in their usual form go a short way in Python; one value of another form sends
   its whole column the long way. Property tests hold both together.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agent.lookup.query.ask import BAD, Value
from agent.model.item import Item, ItemType
from agent.values.numbers import decimal_size
from agent.values.typed import typed
from agent.values.zone import Zone
from agent.wire.arrow import LONG_CAP, canonical_columns

Column = Any
"""An Arrow array; the stubs' own type fits no function that takes several kinds."""

Short = Callable[[Any], Value]
"""A value in its usual form to its text; raises :class:`Unusual` for any other."""


class Unusual(Exception):
    """A value that is not in its usual form."""


class Texts:
    """The texts of one item.

    Args:
        item: what the column is.
        zone: of times without an offset.
        timezone: its name.
    """

    def __init__(self, item: Item, zone: Zone, timezone: str) -> None:
        self._item = item
        self._zone = zone
        self._ways = _ways(item, ZoneInfo(timezone))

    def __call__(self, column: Column) -> list[Value]:
        """A text for each row, None for NULL, ``BAD`` for what the item cannot carry.

        Raises:
            SourceTypeChanged: a column that the item's type cannot take.
        """
        short = self._ways.get(column.type)
        if short is not None:
            try:
                return [None if v is None else short(v) for v in column.to_pylist()]
            except Unusual:
                pass
        return self.long_way(column)

    def long_way(self, column: Column) -> list[Value]:
        """The same through ``agent.values``, for any column."""
        parsed = typed(column, self._item, self._zone)
        values = parsed.values
        if not parsed.faults:
            return self._written(values)
        faulty = np.logical_or.reduce(list(parsed.faults.values()))
        good = pc.if_else(pa.array(faulty), pa.scalar(None, values.type), values)
        texts = self._written(good)
        return [BAD if f else t for t, f in zip(texts, faulty, strict=True)]

    def _written(self, values: Column) -> list[Value]:
        match self._item.type:
            case ItemType.G:
                return [
                    None if v is None else base64_text(v) for v in values.to_pylist()
                ]
            case ItemType.B | ItemType.F:
                return [
                    None if v is None else float_text(v) for v in values.to_pylist()
                ]
        batch = pa.RecordBatch.from_arrays([values], names=[self._item.name])
        (texts,) = canonical_columns(batch, [self._item])
        return [None if t is None else t.decode() for t in texts]


def base64_text(value: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def float_text(value: float) -> str:
    """A finite float as RFC 8785 writes it: ECMAScript's Number::toString."""
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    minus = "-" if sign else ""
    if len(text) <= point <= 21:
        return f"{minus}{text}{'0' * (point - len(text))}"
    if 0 < point <= 21:
        return f"{minus}{text[:point]}.{text[point:]}"
    if -6 < point <= 0:
        return f"{minus}0.{'0' * -point}{text}"
    fraction = f".{text[1:]}" if len(text) > 1 else ""
    return f"{minus}{text[0]}{fraction}e{point - 1:+d}"


# --- the short way ----------------------------------------------------------------

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_FLOAT = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,3})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(\.[0-9]{1,6})?([+-][0-9]{2}(:[0-9]{2})?|Z)?"
)
_WORDS = {
    **dict.fromkeys(("t", "true", "1"), "true"),
    **dict.fromkeys(("f", "false", "0"), "false"),
}


def _ways(item: Item, zone: ZoneInfo) -> dict[pa.DataType, Short]:
    """Type of a column -> the short way for its values."""
    floats: dict[pa.DataType, Short] = {pa.string(): _float, pa.float64(): _finite}
    decimals: dict[pa.DataType, Short] = {}
    if item.type in (ItemType.N, ItemType.Y):
        decimals[pa.string()] = _decimal(*decimal_size(item))
    ways: dict[ItemType, dict[pa.DataType, Short]] = {
        ItemType.C: {pa.string(): _bounded(item.length or 0)},
        ItemType.M: {pa.string(): _long},
        ItemType.G: {pa.binary(): _bytes},
        ItemType.I: {pa.string(): _integer, pa.int64(): str},
        ItemType.N: decimals,
        ItemType.Y: decimals,
        ItemType.B: floats,
        ItemType.F: floats,
        ItemType.L: {pa.string(): _word, pa.bool_(): _truth},
        ItemType.D: {pa.string(): _day},
        ItemType.T: {pa.string(): lambda text: _instant(text, zone)},
    }
    return ways[item.type]


def _bounded(most: int) -> Short:
    return lambda text: BAD if len(text) > most or "\0" in text else text


def _long(text: str) -> Value:
    return BAD if "\0" in text or len(text.encode()) > LONG_CAP else text


def _bytes(value: bytes) -> Value:
    return BAD if len(value) > LONG_CAP else base64_text(value)


def _integer(text: str) -> Value:
    if _INTEGER.fullmatch(text):
        return text
    raise Unusual


@lru_cache(maxsize=64)
def _decimal(precision: int, scale: int) -> Short:
    whole = precision - scale
    digits = rf"(0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    pattern = rf"-?{digits}(\.[0-9]{{1,{scale}}})?" if scale else f"-?{digits}"
    form = re.compile(pattern)

    def short(text: str) -> Value:
        if not form.fullmatch(text):
            raise Unusual
        plain = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if plain == "-0" else plain

    return short


def _float(text: str) -> Value:
    if _FLOAT.fullmatch(text):
        return _finite(float(text))
    raise Unusual


def _finite(value: float) -> Value:
    if math.isfinite(value):
        return float_text(value)
    raise Unusual


def _word(text: str) -> Value:
    try:
        return _WORDS[text]
    except KeyError:
        raise Unusual from None


def _truth(value: bool) -> Value:
    return "true" if value else "false"


def _day(text: str) -> Value:
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            pass
    raise Unusual


def _instant(text: str, zone: ZoneInfo) -> Value:
    """A time with an offset, or a local one that was exactly once."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Unusual
    day, clock, fraction, offset, _ = found.groups()
    try:
        at = datetime.fromisoformat(
            f"{day}T{clock}.{(fraction or '.')[1:]:0<6}{offset or ''}"
        )
        if offset is None:
            at = at.replace(tzinfo=zone)
            if at.utcoffset() != at.replace(fold=1).utcoffset():
                raise Unusual
        utc = at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusual from None
    return f"{utc.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def texts_of(rows: pa.RecordBatch, items: Sequence[Texts]) -> list[tuple[Value, ...]]:
    """The rows of a page, each as its texts."""
    columns = [texts(column) for texts, column in zip(items, rows.columns, strict=True)]
    return list(zip(*columns, strict=True))
