# SPDX-License-Identifier: Apache-2.0
"""Canonical texts of keys and claims: one text for one value."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import frames
from agent.model.item import Item, ItemType
from agent.wire.text import canonical
from tests.support.tries import tries


def item(letter: str, length: int | None = None, scale: int | None = None) -> Item:
    """An item of a type."""
    return Item("x", ItemType(letter), length, scale, True, "1")


GOOD = [
    (item("C", 3), ["", "abc", " a ", "张三丰", "\U00020bb7" * 3, "a\n", "e\u0301"]),
    (item("M"), ["", "x" * 5000, "张" * 100_000]),
    (item("I"), ["0", "-1", "10", str(2**63 - 1), str(-(2**63))]),
    (item("N", 5, 2), ["0", "0.1", "-0.01", "123.45", "999", "-999.99", "100"]),
    (item("N", 2, 2), ["0", "0.12", "-0.9"]),
    (item("N", 38, 0), ["9" * 38, "-" + "9" * 38]),
    (item("Y"), ["0.0001", "9" * 15, "-1.5"]),
    (item("D"), ["0001-01-01", "9999-12-31", "2024-02-29"]),
    (item("T"), ["0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"]),
    (item("L"), ["true", "false"]),
]
BAD = [
    (item("C", 3), ["abcd", "a\0", "\ud800", "\udfff"]),
    (item("M"), ["a\0b", "x" * (2**20 + 1), "张" * 350_000, "\udc00"]),
    (
        item("I"),
        [
            "",
            "-0",
            "+1",
            "01",
            "-01",
            "1.0",
            "1.",
            " 1",
            "1 ",
            "1\n",
            "1e3",
            "1_0",
            "１",
            "١",
            "²",
            str(2**63),
            str(-(2**63) - 1),
            "9" * 5000,
        ],
    ),
    (
        item("N", 5, 2),
        [
            "",
            "-",
            "-0",
            "-0.0",
            "0.0",
            "+1",
            "01",
            "1.0",
            "1.10",
            ".5",
            "5.",
            "1,5",
            "１",
            "1．5",
            "0.123",
            "1234",
            "1e2",
            "NaN",
            "1 ",
            " 1",
            "1\n",
            "0x1",
        ],
    ),
    (item("N", 2, 2), ["1", "0.123", "-1"]),
    (item("N", 38, 0), ["9" * 39, "0.1"]),
    (item("Y"), ["0.00001", "9" * 16, "1.50"]),
    (
        item("D"),
        [
            "",
            "2023-02-29",
            "0000-01-01",
            "2024-2-29",
            "2024-02-29\n",
            "2024-02-30",
            "2024/02/29",
            "20240229",
            "２024-02-29",
            "-001-01-01",
            "10000-01-01",
            "2024-02-29T00:00:00.000000Z",
        ],
    ),
    (
        item("T"),
        [
            "2024-02-29T00:00:00Z",
            "2024-02-29T00:00:00.000Z",
            "2024-02-29",
            "2024-02-29T24:00:00.000000Z",
            "2024-02-29T23:59:60.000000Z",
            "2024-02-29t00:00:00.000000z",
            "2024-02-29T00:00:00.000000+00:00",
            "2024-02-30T00:00:00.000000Z",
            "2024-02-29T00:00:00.00000０Z",
        ],
    ),
    (item("L"), ["", "True", "TRUE", "1", "0", "yes", "true ", "\u662f"]),
    (item("B"), ["", "0", "1.5", "0000000000000000"]),
    (item("F"), ["0", "3ff0000000000000"]),
    (item("G"), ["", "AAAA", "00"]),
]


@pytest.mark.parametrize(
    ("of", "text"), [(of, text) for of, texts in GOOD for text in texts]
)
def test_the_text_of_a_value_is_taken(of: Item, text: str):
    """Each type, and its ends."""
    assert canonical(of, text)


@pytest.mark.parametrize(
    ("of", "text"), [(of, text) for of, texts in BAD for text in texts]
)
def test_another_text_is_refused(of: Item, text: str):
    """Signs, zeros, blanks, other digits, values that do not fit, types without key."""
    assert not canonical(of, text)


@tries(200)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, max_value=10**9))
def test_number_texts_are_those_of_the_frames(value: Decimal):
    """What the digest calls the text of a number is taken, a variant is not."""
    of, text = item("N", 38, 4), frames.number_text(value)
    if abs(value) < 10**33:
        assert canonical(of, text)
    for other in (
        f"+{text}",
        f"0{text}",
        f"{text} ",
        f"{text}0" if "." in text else "-0",
    ):
        assert not canonical(of, other)


@tries(100)
@given(
    st.dates(), st.datetimes(timezones=st.just(UTC)), st.integers(-(2**63), 2**63 - 1)
)
def test_other_texts_are_those_of_the_frames(day: date, at: datetime, number: int):
    """Dates, instants and integers."""
    for letter, value in (("D", day), ("T", at), ("I", number)):
        data = frames.canonical(letter, value)
        assert data is not None
        assert canonical(item(letter), data.decode())


@tries(200)
@given(st.sampled_from([of for of, _ in GOOD]), st.text(max_size=30))
def test_any_text_is_canonical_or_not(of: Item, text: str):
    """Never an exception."""
    assert canonical(of, text) in (True, False)


@tries(200)
@given(st.text("0123456789-+.eE_ \uff11\u0661", max_size=8))
def test_a_number_has_one_text(text: str):
    """Of all texts that Python reads as one number, one is canonical."""
    of = item("N", 38, 19)
    if canonical(of, text):
        assert frames.number_text(Decimal(text)) == text
