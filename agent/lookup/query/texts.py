# SPDX-License-Identifier: Apache-2.0
"""A connector's values to the canonical texts of a lookup (wire.md §2 and §4).

Rules

1. The values are those of a push: ``agent.values`` decides, and what it finds faulty is
   ``BAD``.
2. Few rows come at a time, and Arrow takes longer to begin than they take to finish. So
   values in their usual form go a short way in Python; one value of another form sends
   its whole column the long way. Property tests hold both together.
3. Arrow is loaded with the first value that goes the long way, often never.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from agent.lookup.query.ask import BAD, Value
from agent.model.item import Item, ItemType
from agent.values.floats import carries
from agent.wire.text import LONG_CAP, MONEY

Told = str | bytes | None
"""A value as a connector tells it."""

Short = Callable[[str | bytes], Value]
"""A value in its usual form to its text; raises :class:`Unusual` for any other."""


class Unusual(Exception):
    """A value that is not in its usual form."""


class Texts:
    """The texts of one item.

    Args:
        item: what the column is.
        timezone: IANA name, of times without an offset.
        encoding: what its texts really are, as ``BoundItem`` has it.
    """

    def __init__(self, item: Item, timezone: str, encoding: str | None = None) -> None:
        self._item = item
        self._timezone = timezone
        self._encoding = encoding
        self._short = _short(item, ZoneInfo(timezone))

    def __call__(self, column: Sequence[Told]) -> list[Value]:
        """A text for each value, None for NULL, ``BAD`` for what the item cannot carry.

        Args:
            column: text, bytes or None, as ``LookupPage`` has them.
        """
        short = self._short
        if self._encoding and not all(t is None or t.isascii() for t in column):
            return self.long_way(column)
        try:
            return [None if told is None else short(told) for told in column]
        except Unusual:
            return self.long_way(column)

    def long_way(self, column: Sequence[Told]) -> list[Value]:
        """The same through ``agent.values``, for any value."""
        from agent.lookup.query.long_way import values_of

        values, faulty = values_of(column, self._item, self._timezone, self._encoding)
        write = _WRITERS.get(self._item.type, str)
        return [
            BAD if bad else None if value is None else write(value)
            for value, bad in zip(values, faulty, strict=True)
        ]


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


_WRITERS: Mapping[ItemType, Callable[[Any], str]] = {
    ItemType.G: base64_text,
    ItemType.B: float_text,
    ItemType.F: float_text,
}
"""Texts of those items whose canonical form is not text; all others are text."""

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


def _short(item: Item, zone: ZoneInfo) -> Short:
    if item.type is ItemType.G:
        return _bytes
    if item.type in (ItemType.N, ItemType.Y):
        short = _decimal(*_size(item))
    else:
        ways: Mapping[ItemType, Callable[[str], Value]] = {
            ItemType.C: _bounded(item.length or 0),
            ItemType.M: _long,
            ItemType.I: _integer,
            ItemType.B: _float,
            ItemType.F: _float,
            ItemType.L: _word,
            ItemType.D: _day,
            ItemType.T: lambda text: _instant(text, zone),
        }
        short = ways[item.type]

    def of_text(told: str | bytes) -> Value:
        if isinstance(told, bytes):
            raise Unusual
        return short(told)

    return of_text


def _size(item: Item) -> tuple[int, int]:
    """Precision and scale, as in ``agent.values.numbers``, which loads Arrow."""
    return MONEY if item.type is ItemType.Y else (item.length or 38, item.scale or 0)


def _bounded(most: int) -> Callable[[str], Value]:
    return lambda text: BAD if len(text) > most or "\0" in text else text


def _long(text: str) -> Value:
    return BAD if "\0" in text or len(text.encode()) > LONG_CAP else text


def _bytes(told: str | bytes) -> Value:
    value = told.encode() if isinstance(told, str) else told
    return BAD if len(value) > LONG_CAP else base64_text(value)


def _integer(text: str) -> Value:
    if _INTEGER.fullmatch(text):
        return text
    raise Unusual


@lru_cache(maxsize=64)
def _decimal(precision: int, scale: int) -> Callable[[str], Value]:
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
    if _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return float_text(value) if carries(value, text) else BAD
    raise Unusual


def _word(text: str) -> Value:
    try:
        return _WORDS[text]
    except KeyError:
        raise Unusual from None


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


def texts_of(
    columns: Sequence[Sequence[Told]], items: Sequence[Texts]
) -> list[tuple[Value, ...]]:
    """The rows of a page, each as its texts."""
    texts = [text(column) for text, column in zip(items, columns, strict=True)]
    return list(zip(*texts, strict=True))
