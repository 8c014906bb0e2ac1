# SPDX-License-Identifier: Apache-2.0
"""Canonical text, frames and digests of plain values."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import frames
from tests.support import vectors
from tests.support.tries import tries

ROWS = [
    (
        "110101199003070011",
        "张三",
        Decimal("100.00"),
        datetime(2026, 11, 21, 8, tzinfo=UTC),
        date(1990, 3, 7),
        True,
        0.1,
        b"\x00\xff",
        None,
    ),
    (
        "110101199003070022",
        "李四 ",
        Decimal("-0.00"),
        datetime(1969, 12, 31, 23, 59, 59, 123456, tzinfo=UTC),
        date(1, 1, 1),
        False,
        -0.0,
        b"",
        "",
    ),
]
DIGESTS = ["5537c57f9b8173378af31a0ff977e4de", "7d54faf27c1ee76d28b7542a0ea2d069"]
SUM = "d28cc07217a05aa4b3aa6e3a081ab547"


def test_row_digests_are_those_of_the_wire_format():
    """The two printed rows have the printed digests and sum."""
    digests = [frames.row_digest(vectors.items(), row) for row in ROWS]
    assert [frames.digest_text(d) for d in digests] == DIGESTS
    assert frames.digest_text(frames.add_digests(digests)) == SUM


def test_rows_of_the_vector_file_are_those_bytes():
    """Canonical bytes, frames and key of each row are pinned."""
    items = vectors.items()
    for row, pinned in zip(ROWS, vectors.load("rows.json")["rows"], strict=True):
        made = [frames.canonical(i.type, v) for i, v in zip(items, row, strict=True)]
        assert [m if m is None else m.hex() for m in made] == pinned["canonical_hex"]
        assert frames.frames(items, row).hex() == pinned["frames_hex"]
        assert frames.frames(items[:1], row[:1]).hex() == pinned["key_frames_hex"]


@pytest.mark.parametrize(
    ("letter", "value", "text"),
    [
        ("C", " a\u0301 ", " a\u0301 "),
        ("M", "", ""),
        ("N", Decimal("1E+3"), "1000"),
        ("N", Decimal("1E-7"), "0.0000001"),
        ("N", Decimal("-0.00"), "0"),
        ("N", Decimal("9" * 38), "9" * 38),
        ("N", Decimal("10.10"), "10.1"),
        ("Y", Decimal("-1.5000"), "-1.5"),
        ("I", -(2**63), str(-(2**63))),
        ("D", date(1, 1, 1), "0001-01-01"),
        ("T", datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
        (
            "T",
            datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))),
            "2026-01-01T00:00:00.000000Z",
        ),
        ("L", False, "false"),
        ("B", 1.0, "3ff0000000000000"),
        ("F", -0.0, "0000000000000000"),
        ("F", -1.5, "bff8000000000000"),
    ],
)
def test_canonical_text(letter: str, value: frames.Value, text: str):
    """Each type has one text."""
    assert frames.canonical(letter, value) == text.encode()


def test_null_is_not_the_empty_text():
    """NULL is one zero byte; '' has a type and a length."""
    assert frames.frame("C", None) == b"\x00"
    assert frames.frame("C", "") == b"\x01\x00\x00\x00\x00"


def test_naive_instant_is_refused():
    """A time without zone is nobody's instant."""
    with pytest.raises(ValueError, match="time zone"):
        frames.canonical("T", datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


def test_other_type_than_bytes_is_refused_for_g():
    """Text never passes as bytes."""
    with pytest.raises(TypeError, match="bytes"):
        frames.canonical("G", "x")


def test_single_values_of_the_vector_file_have_their_frames():
    """A frame is type byte, length and canonical bytes."""
    for entry in vectors.load("rows.json")["values"]:
        made = bytes.fromhex(entry["frame_hex"])
        if entry["canonical_hex"] is None:
            assert made == b"\x00"
            continue
        data = bytes.fromhex(entry["canonical_hex"])
        letter = entry["type"][0]
        head = bytes([frames.TYPE_BYTES[letter]]) + len(data).to_bytes(4, "big")
        assert made == head + data


@tries(100)
@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_number_text_keeps_the_value_and_the_grammar(value: Decimal):
    """No digit is lost, none says nothing."""
    text = frames.number_text(value)
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", text)
    assert text != "-0"
    assert Decimal(text) == value


@pytest.mark.parametrize("bits", range(17))
def test_bucket_is_the_first_bits_of_the_key_s_hash(bits: int):
    """0 bits is one bucket; each further bit halves."""
    number = frames.bucket(b"key", bits)
    assert 0 <= number < 1 << bits
    assert frames.bucket(b"key", 16) >> (16 - bits) == number
