# SPDX-License-Identifier: Apache-2.0
"""Whether a text is the canonical text of a value of an item (wire.md §2, §4).

Keys and claims of lookups are such texts. One value has one text: ``01``, ``+1``,
``1.0``, ``-0``, blanks and full-width digits are other texts of a number or none at
all, and are refused rather than read kindly, so that what a policy judged is what the
source is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from types import MappingProxyType

from agent.model.item import Item

LONG_CAP = 1024 * 1024
"""Longest M text, bytes."""
MONEY = (19, 4)
"""Precision and scale of type Y."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?:\.([0-9]*[1-9]))?")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z"
)


def canonical(item: Item, text: str) -> bool:
    """Whether a text is the canonical text of some value of an item.

    Args:
        item: its type, length and scale count.
        text: as it stands in the message.

    Returns:
        False for types B, F and G, which are neither key nor claim.
    """
    rule = _RULES.get(item.type)
    return rule is not None and rule(item, text)


def _short(item: Item, text: str) -> bool:
    return len(text) <= (item.length or 0) and _plain(text)


def _long(_: Item, text: str) -> bool:
    return _plain(text) and len(text.encode("utf-8")) <= LONG_CAP


def _plain(text: str) -> bool:
    """No U+0000 and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


def _number(item: Item, text: str) -> bool:
    return _decimal(text, item.length or 0, item.scale or 0)


def _money(_: Item, text: str) -> bool:
    return _decimal(text, *MONEY)


def _decimal(text: str, precision: int, scale: int) -> bool:
    match = _NUMBER.fullmatch(text)
    if match is None or text == "-0":
        return False
    whole = 0 if match[1] == "0" else len(match[1])
    return whole <= precision - scale and len(match[2] or "") <= scale


def _integer(_: Item, text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and -(1 << 63) <= int(text) < 1 << 63


def _day(_: Item, text: str) -> bool:
    match = _DATE.fullmatch(text)
    return match is not None and _exists(lambda: date(*map(int, match.groups())))


def _instant(_: Item, text: str) -> bool:
    match = _INSTANT.fullmatch(text)
    return match is not None and _exists(
        lambda: datetime(*map(int, match.groups()))  # type: ignore[arg-type]  # noqa: DTZ001 - existence only
    )


def _exists(make: Callable[[], date]) -> bool:
    try:
        make()
    except ValueError:
        return False
    return True


def _logical(_: Item, text: str) -> bool:
    return text in ("true", "false")


_RULES: Mapping[str, Callable[[Item, str], bool]] = MappingProxyType(
    {
        "C": _short,
        "M": _long,
        "N": _number,
        "Y": _money,
        "I": _integer,
        "D": _day,
        "T": _instant,
        "L": _logical,
    }
)
