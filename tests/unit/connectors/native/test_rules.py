# SPDX-License-Identifier: Apache-2.0
"""Rules over columns in C mark what plain Python does not take, row by row.

These run a second time with a library that ends the process at the first byte that it
may not touch: tests/contract/connectors/test_native_memory.py. So nothing of the agent
is asked here; the agent's own checks are compared with beside its rules.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.native.rules import (
    MOST,
    doubtful_citizen_ids,
    doubtful_credit_codes,
    unlisted,
)
from tests.support.tries import tries

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
WRONG_DAYS = (
    "00000101", "00000229", "19000229", "20010229", "20000230", "20000001", "20001301",
    "20000100", "20000132", "20000431", "20009999", "99999999",
)  # fmt: skip
RIGHT_DAYS = ("00010101", "20000229", "20040229", "19000228", "20000131", "99991231")

Value = tuple[str, bool]
"""A text, and whether a null lies over it."""


def citizen_check(first: str) -> str:
    """ISO 7064, MOD 11-2, step by step."""
    total = 0
    for digit in first:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11]


def is_citizen_id(text: str) -> bool:
    if not re.fullmatch("[0-9]{17}[0-9X]", text):
        return False
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return citizen_check(text[:17]) == text[17]


def credit_check(first: str) -> str:
    total = sum(ALPHABET.index(c) * 3**i for i, c in enumerate(first))
    return ALPHABET[-total % 31]


def is_credit_code(text: str) -> bool:
    if not re.fullmatch(f"[{ALPHABET}]{{18}}", text):
        return False
    return credit_check(text[:17]) == text[17]


def _digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=count, max_size=count)


_day = st.dates().map(lambda d: f"{d.year:04}{d.month:02}{d.day:02}")
_days = _day | st.sampled_from([*WRONG_DAYS, *RIGHT_DAYS])
_citizens = st.builds(
    lambda region, day, number: (
        region + day + number + citizen_check(region + day + number)
    ),
    _digits(6),
    _days,
    _digits(3),
)
_codes = st.text(ALPHABET, min_size=17, max_size=17).map(lambda t: t + credit_check(t))
_any = st.text(max_size=20) | st.text(min_size=1, max_size=4).map(lambda t: t * 50)


def altered(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """With another character, or one more or less."""
    other = st.sampled_from([*"019AIOSVXZYx/:@[ \0", "０", "é", "你", ""])
    return st.builds(
        lambda text, at, c, kept: text[:at] + c + text[at + kept :],
        texts,
        st.integers(0, 18),
        other,
        st.integers(0, 1),
    )


def columns(texts: st.SearchStrategy[str]) -> st.SearchStrategy[list[Value]]:
    return st.lists(st.tuples(texts, st.booleans()), max_size=30)


def column(values: list[Value], begin: int, end: int) -> Any:
    """The values from ``begin`` to ``end``; what a null lies over is still there."""
    array = pa.array([text for text, _ in values], pa.string())
    _, offsets, data = array.buffers()
    there = np.array([not null for _, null in values], np.bool_)
    bits = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    valid = None if there.all() else bits
    whole = pa.Array.from_buffers(pa.string(), len(values), [valid, offsets, data])
    return whole.slice(begin, max(0, end - begin))


def marks(found: Any, rows: int) -> list[bool]:
    """A mask as a list; None is said where no row is marked, and only there."""
    assert found is None or found.any()
    return [False] * rows if found is None else [bool(one) for one in found]


def wrong(values: list[Value], good: Callable[[str], bool]) -> list[bool]:
    return [not null and not good(text) for text, null in values]


@tries(400)
@given(columns(_citizens | altered(_citizens) | _any),
       st.integers(0, 9), st.integers(0, 30))  # fmt: skip
def test_citizen_numbers_are_doubted_that_are_none(
    values: list[Value], begin: int, end: int
) -> None:
    """Valid ones, nearly valid ones and any texts; parts of columns; nulls."""
    part = values[begin : max(begin, end)]
    found = doubtful_citizen_ids(column(values, begin, end))
    assert marks(found, len(part)) == wrong(part, is_citizen_id)


@tries(400)
@given(columns(_codes | altered(_codes) | _any),
       st.integers(0, 9), st.integers(0, 30))  # fmt: skip
def test_credit_codes_are_doubted_that_are_none(
    values: list[Value], begin: int, end: int
) -> None:
    """Valid ones, nearly valid ones and any texts; parts of columns; nulls."""
    part = values[begin : max(begin, end)]
    found = doubtful_credit_codes(column(values, begin, end))
    assert marks(found, len(part)) == wrong(part, is_credit_code)


def test_a_day_of_birth_was() -> None:
    """All months and days of ordinary years, leap years, the first, and of year 0."""
    years = ("0000", "0001", "1900", "2000", "2001", "2004", "2100", "9999")
    firsts = [f"990100{year}{day:04}001" for year in years for day in range(10_000)]
    texts = [first + citizen_check(first) for first in firsts]
    found = marks(doubtful_citizen_ids(pa.array(texts)), len(texts))
    assert found == [not is_citizen_id(text) for text in texts]
    assert found.count(False) == 5 * 365 + 2 * 366


@pytest.mark.parametrize(
    ("judge", "good", "first"),
    [
        (doubtful_citizen_ids, is_citizen_id, "99010020000229001"),
        (doubtful_credit_codes, is_credit_code, "11990100000000000"),
    ],
)
def test_every_character_of_a_number_counts(judge: Any, good: Any, first: str) -> None:
    """Any ASCII character at any place, with each check character, and with none."""
    firsts = [
        first[:at] + chr(c) + first[at + 1 :] for at in range(17) for c in range(128)
    ]
    texts = [text + check for text in firsts for check in ALPHABET + "IOSVZ/:@[x"]
    found = marks(judge(pa.array(texts)), len(texts))
    assert found == [not good(text) for text in texts]
    assert found.count(False) > 17 * 5


_words = st.text("ab你", max_size=3)
_listed = _words | st.builds(
    lambda middle: "begins  " + middle + "  it ends", st.text("ab你", max_size=5)
)
"""Few enough that a text often is in a list, or differs from one in its middle only."""


@tries(400)
@given(st.lists(_listed | _any, max_size=12, unique=True), columns(_listed | _any),
       st.integers(0, 9), st.integers(0, 30), st.data())  # fmt: skip
def test_what_is_in_no_list_is_marked(
    listed: list[str], values: list[Value], begin: int, end: int, draw: st.DataObject
) -> None:
    """Byte for byte; of any lists, such that are parts of columns among them."""
    if listed:
        values = values + draw.draw(columns(st.sampled_from(listed)))
    skipped = draw.draw(st.integers(0, len(listed)))
    found = unlisted(
        column(values, begin, end), pa.array(listed, pa.string()).slice(skipped)
    )
    part = values[begin : max(begin, end)]
    assert marks(found, len(part)) == wrong(part, listed[skipped:].__contains__)


@pytest.mark.parametrize("size", [*range(1, 20), 23, 24, 25, 300])
def test_texts_of_a_list_differ_in_any_byte(size: int) -> None:
    """Of each length: one byte changed, one more, one less; the last one at the end."""
    value = "0123456789ABCDEFGHIJ"[:size].ljust(size, "-")
    near = [value[:at] + "~" + value[at + 1 :] for at in range(size)]
    texts = [*near, value + "~", "~" + value, value[1:], value[:-1], value]
    found = marks(unlisted(pa.array(texts), pa.array([value])), len(texts))
    assert found == [True] * (len(texts) - 1) + [False]


@pytest.mark.parametrize("size", [*range(1, 20), 23, 24, 25, 300])
def test_texts_of_one_character_differ_in_their_length(size: int) -> None:
    """Their first and last bytes are the same, whatever their length."""
    texts = ["a" * count for count in range(310)]
    found = marks(unlisted(pa.array(texts), pa.array(["a" * size])), len(texts))
    assert found == [count != size for count in range(310)]


@pytest.mark.parametrize("text", ["{:08}-the end", "begins--{:08}"])
def test_texts_that_meet_in_the_table_are_told_apart(text: str) -> None:
    """A full list of texts that differ in one half, and thousands that do so, too."""
    texts = [text.format(i) for i in range(4000)]
    found = marks(unlisted(pa.array(texts), pa.array(texts[:MOST])), len(texts))
    assert found == [i >= MOST for i in range(4000)]


def test_a_list_may_have_so_many_values_and_no_more() -> None:
    """A full one finds each of its values; one more or a null, and it is refused."""
    full = pa.array([f"{i}号" for i in range(MOST)])
    assert unlisted(full, full) is None
    assert marks(unlisted(pa.array(["128号", "号"]), full), 2) == [True, True]
    for values in ([*full.to_pylist(), "128号"], ["a", None]):
        with pytest.raises(ValueError, match="at most 128 values and no null"):
            unlisted(full, pa.array(values, pa.string()))


def test_columns_without_values_have_nothing_wrong() -> None:
    """No rows, with or without buffers; nothing but nulls."""
    some = pa.array(["a"])
    for empty in (pa.array([], pa.string()), some.slice(1), pa.nulls(9, pa.string())):
        assert doubtful_citizen_ids(empty) is None
        assert doubtful_credit_codes(empty) is None
        assert unlisted(empty, some) is None
    assert marks(unlisted(some, pa.array([], pa.string())), 1) == [True]


_data = st.binary(max_size=40) | st.tuples(_citizens | _codes, st.binary()).map(
    lambda parts: parts[0].encode() + parts[1]
)
_lies = st.integers(-3, 43) | st.sampled_from([0, 18, 2**31 - 1, -(2**31)])


@tries(300)
@given(_data, st.lists(_lies, max_size=6))
def test_offsets_that_lie_lead_nowhere(data: bytes, between: list[int]) -> None:
    """A value that does not lie in the data is marked; nothing beside it is read."""
    offsets = [0, *between, len(data)]  # Arrow itself has looked at the first and last
    at = pa.py_buffer(struct.pack(f"<{len(offsets)}i", *offsets))
    rows = len(offsets) - 1
    text = pa.Array.from_buffers(pa.string(), rows, [None, at, pa.py_buffer(data)])
    found = [
        data[begin:end] if 0 <= begin <= end <= len(data) else None
        for begin, end in pairwise(offsets)
    ]
    allowed = pa.array({value for value in found if value is not None}, pa.binary())
    assert marks(unlisted(text, allowed), rows) == [value is None for value in found]
    for judge, good in (
        (doubtful_citizen_ids, is_citizen_id),
        (doubtful_credit_codes, is_credit_code),
    ):
        wrongs = [value is None or not good(value.decode("latin-1")) for value in found]
        assert marks(judge(text), rows) == wrongs
    if None in found:
        with pytest.raises(ValueError, match="no null"):
            unlisted(allowed, text)


def test_a_value_that_lies_beside_the_data_is_not_the_one_before() -> None:
    """Two valid numbers, and between them offsets that go back."""
    number = "99010020000229001" + citizen_check("99010020000229001")
    at = pa.py_buffer(struct.pack("<5i", 0, 18, 0, 18, 36))
    buffers = [None, at, pa.py_buffer(number.encode() * 2)]
    text = pa.Array.from_buffers(pa.string(), 4, buffers)
    assert marks(doubtful_citizen_ids(text), 4) == [False, True, False, False]
    assert marks(unlisted(text, pa.array([number])), 4) == [False, True, False, False]
