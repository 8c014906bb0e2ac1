# SPDX-License-Identifier: Apache-2.0
"""Tables made at random, and what a database's own texts of their rows mean.

``meant`` reads one text at a time with Python's own types, not as the agent does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from agent.model.item import Item, ItemType
from agent.model.job import BoundItem
from tests.support.centre import Arrived, exact

ZONE = ZoneInfo("Asia/Shanghai")
NAMES = (
    "select",
    "order",
    "表",
    "编号 1",
    'a"b',
    "a'b",
    "a`b",
    "a.b",
    "%s",
    "?",
    ":k",
    "é",
)
NAMES += (
    "$1",
    "back\\slash",
    "--x",
    "{y}",
    "null",
    "t",
    "c0",
    "o0",
    "rowid_",
    "ｆｕｌｌ",
)
SIZES = {"C": ((4000, None), (40, None), (3, None)),
         "N": ((38, 20), (38, 0), (12, 2), (20, 10))}  # fmt: skip

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("张𠮷䶮\ue863'\"\\\t\n\r ,{}%0"),
    max_size=6,
)
digits = st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{1,22})?", fullmatch=True)
small = st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{1,2})?", fullmatch=True)
floats = st.floats(allow_nan=False, allow_infinity=False).map(repr)
days = st.dates().map(str)
moments = st.datetimes().map(str)


def whole(bits: int) -> st.SearchStrategy[str]:
    """Whole numbers of so many bits, with a sign."""
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


@dataclass(frozen=True)
class Kind:
    """A type of a database.

    Args:
        native: as it is declared.
        letters: types of items that it fits.
        inputs: texts (or values) to write.
        key: whether it serves as a key.
    """

    native: str
    letters: str
    inputs: st.SearchStrategy[Any]
    key: bool = False


@dataclass(frozen=True)
class Made:
    """A table.

    Args:
        name: of the table.
        kinds: of the columns.
        items: what they are bound to, the keys first.
        rows: inputs.
        indexed: the keys are its primary key.
    """

    name: str
    kinds: tuple[Kind, ...]
    items: tuple[BoundItem, ...]
    rows: tuple[tuple[Any, ...], ...]
    indexed: bool


@st.composite
def tables(draw: st.DrawFn, kinds: Sequence[Kind]) -> Made:
    """A table of one to three keys and up to five other columns, all of them odd."""
    keys = draw(st.lists(st.sampled_from([k for k in kinds if k.key]), min_size=1,
                         max_size=3))  # fmt: skip
    own = [*keys, *draw(st.lists(st.sampled_from(kinds), max_size=5))]
    names = draw(
        st.lists(st.sampled_from(NAMES), min_size=len(own) + 1, max_size=len(own) + 1,
                 unique=True)
    )  # fmt: skip
    items = tuple(
        _item(draw, kind, names[i], i, key=i < len(keys)) for i, kind in enumerate(own)
    )
    values = [k.inputs if i < len(keys) else st.none() | k.inputs
              for i, k in enumerate(own)]  # fmt: skip
    width = len(keys)
    rows = draw(
        st.lists(st.tuples(*values), max_size=8, unique_by=lambda row: row[:width])
    )
    return Made(names[-1], tuple(own), items, tuple(rows), draw(st.booleans()))


def _item(draw: st.DrawFn, kind: Kind, name: str, i: int, *, key: bool) -> BoundItem:
    letter = kind.letters[0] if key else draw(st.sampled_from(kind.letters))
    length, scale = draw(st.sampled_from(SIZES.get(letter, ((None, None),))))
    if key and letter == "N":
        length, scale = 38, 20
    return BoundItem(Item(f"i{i}", ItemType(letter), length, scale, key, "1"), name)


class _Lost(Exception):
    """The item cannot carry the value."""


def compare(made: Made, told: Sequence[Sequence[Any]], found: Arrived) -> bool:
    """Hold what arrived to what the database tells of its rows.

    Args:
        made: the table.
        told: its rows, each value as the database's text, bytes or None.
        found: what the centre has.

    Returns:
        whether there was anything to compare: no key stood twice.
    """
    wanted, lost, width = [], 0, sum(b.item.key for b in made.items)
    for row in told:
        try:
            wanted.append(
                tuple(_value(b, v) for b, v in zip(made.items, row, strict=True))
            )
        except _Lost:
            lost += 1
            continue
        if None in wanted[-1][:width]:
            del wanted[-1]
            lost += 1
    keys = [row[:width] for row in wanted]
    if len(set(keys)) < len(keys):
        return False
    got = [
        tuple(exact(row[b.item.name]) for b in made.items)
        for row in found.rows
        if row["_op"] == "u"
    ]
    assert sorted(map(repr, got)) == sorted(map(repr, wanted))
    assert len(found.withheld) == lost
    return True


def _value(bound: BoundItem, told: Any) -> object:
    return None if told is None else exact(meant(bound.item, told))


def meant(item: Item, told: str | bytes) -> object:
    """The value of an item that a text (bytes for G) says.

    Raises:
        _Lost: the item cannot carry it.
    """
    if isinstance(told, bytes):
        assert item.type is ItemType.G
        return told
    if item.type is ItemType.C or item.type is ItemType.M:
        if "\0" in told or len(told) > (item.length or 2**20):
            raise _Lost
        return told
    return _READ[item.type](item, told.strip(" \t"))


def _number(told: str, pattern: str) -> Decimal:
    if not re.fullmatch(pattern, told, re.ASCII):
        raise _Lost
    return Decimal(told)


def _decimal(item: Item, told: str) -> Decimal:
    number = _number(told, r"[+-]?(\d+\.?\d*|\.\d+)")
    size, scale = (19, 4) if item.type is ItemType.Y else (item.length, item.scale)
    assert size is not None
    assert scale is not None
    shifted = number.scaleb(scale, Context(prec=5000))
    if shifted != shifted.to_integral_value() or shifted.copy_abs() >= 10**size:
        raise _Lost
    return number


def _integer(_: Item, told: str) -> int:
    number = int(_number(told, r"[+-]?\d+(\.0*)?"))
    if not -(2**63) <= number < 2**63:
        raise _Lost
    return number


def _float(_: Item, told: str) -> float:
    number = _number(told, r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
    value = float(told)
    if not isfinite(value):
        raise _Lost
    count = len("".join(map(str, number.as_tuple().digits)).rstrip("0")) or 1
    near = Context(prec=count, rounding=ROUND_HALF_EVEN).create_decimal(Decimal(value))
    if number not in (near, Decimal(repr(value))):
        raise _Lost
    return value


def _boolean(_: Item, told: str) -> bool:
    yes = told.lower() in ("t", "true", "1", "y", "yes", "on", "是")
    if not yes and told.lower() not in ("f", "false", "0", "n", "no", "off", "否"):
        raise _Lost
    return yes


def _date(_: Item, told: str) -> date:
    day = re.fullmatch(r"(\d{4}-\d\d-\d\d|\d{8})([ T]00:00:00(\.0+)?)?", told, re.ASCII)
    try:
        if day:
            return date.fromisoformat(day[1])
    except ValueError:
        pass
    raise _Lost


def _instant(_: Item, told: str) -> datetime:
    if re.fullmatch(r"\d{14}", told, re.ASCII):
        told = (
            f"{told[:4]}-{told[4:6]}-{told[6:8]} {told[8:10]}:{told[10:12]}:{told[12:]}"
        )
    clock = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?([+-]\d\d(:\d\d(:\d\d)?)?)?"
    if not re.fullmatch(clock, told, re.ASCII):
        raise _Lost
    try:
        found = datetime.fromisoformat(told)
        if found.tzinfo is None:
            found = found.replace(tzinfo=ZONE)
            if found.utcoffset() != found.replace(fold=1).utcoffset():
                raise _Lost
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Lost from None


_READ = {
    ItemType.N: _decimal,
    ItemType.Y: _decimal,
    ItemType.I: _integer,
    ItemType.B: _float,
    ItemType.F: _float,
    ItemType.L: _boolean,
    ItemType.D: _date,
    ItemType.T: _instant,
}
