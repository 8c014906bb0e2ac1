# SPDX-License-Identifier: Apache-2.0
"""Text to exact types: every value exactly, or one fault."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import example, given

from agent.model.item import Item
from agent.values import dates, numbers
from agent.values.columns import PIECE, Parsed
from agent.values.parse import decode, parse
from agent.values.zone import Zone
from tests.support.columns import item
from tests.support.tries import tries

SHANGHAI = Zone("Asia/Shanghai")
MONEY = item("N", 12, 2)


def read(values: list[str | None], what: Item, zone: Zone = SHANGHAI) -> Parsed:
    return parse(pa.array(values, pa.string()), what, zone)


def one(value: str, what: Item, zone: Zone = SHANGHAI) -> Any:
    """The value of a text, or the name of its fault."""
    parsed = read([value], what, zone)
    [found] = parsed.values.to_pylist()
    faults = [reason for reason, mask in parsed.faults.items() if mask[0]]
    assert len(faults) == (1 if found is None else 0), (value, found, faults)
    return faults[0] if faults else found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", Decimal("5.00")),
        ("05", Decimal("5.00")),
        ("+5", Decimal("5.00")),
        ("-0.00", Decimal("0.00")),
        (".5", Decimal("0.50")),
        ("5.", Decimal("5.00")),
        (" 5\t", Decimal("5.00")),
        ("1.2300", Decimal("1.23")),
        ("0" * 60 + "1.5" + "0" * 60, Decimal("1.50")),
        ("9999999999.99", Decimal("9999999999.99")),
        ("10000000000", "out_of_range"),
        ("1.239", "out_of_range"),
        ("1" * 60, "out_of_range"),
        ("1e30", "bad_number"),
        ("1e2", "bad_number"),
        ("NaN", "bad_number"),
        ("infinity", "bad_number"),
        ("", "bad_number"),
        (".", "bad_number"),
        ("-", "bad_number"),
        ("1.2.3", "bad_number"),
        ("1,000.00", "bad_number"),
        ("１２", "bad_number"),
        ("12元", "bad_number"),
    ],
)
def test_decimal_is_exact_or_a_fault(text: str, value: object) -> None:
    """N(12,2): nothing is rounded, no exponent is taken."""
    assert one(text, MONEY) == value


def test_money_has_four_digits_after_the_point() -> None:
    """Y is decimal(19,4)."""
    assert one("12.3456", item("Y")) == Decimal("12.3456")
    assert one("12.34567", item("Y")) == "out_of_range"
    assert one("1000000000000000", item("Y")) == "out_of_range"


def test_decimal_of_full_precision() -> None:
    """38 digits pass, 39 do not."""
    assert one("9" * 38, item("N", 38, 0)) == Decimal("9" * 38)
    assert one("9" * 39, item("N", 38, 0)) == "out_of_range"
    assert one("0." + "9" * 38, item("N", 38, 38)) == Decimal("0." + "9" * 38)
    assert one("1", item("N", 38, 38)) == "out_of_range"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-05", -5),
        ("+5", 5),
        ("5.00", 5),
        (" 7 ", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", "out_of_range"),
        ("9" * 60, "out_of_range"),
        ("5.5", "bad_number"),
        ("0x1F", "bad_number"),
        ("1e3", "bad_number"),
        ("", "bad_number"),
        ("--5", "bad_number"),
        ("1_000", "bad_number"),
    ],
)
def test_integer_is_exact_or_a_fault(text: str, value: object) -> None:
    """I: 64 bits; a fraction of zeros does not count, hex is no number."""
    assert one(text, item("I")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e5", 1e5),
        ("-.5", -0.5),
        ("+1.", 1.0),
        ("1e-400", "out_of_range"),
        ("0e-400", 0.0),
        ("1e-99999999999999999999", "out_of_range"),
        ("5e-324", 5e-324),
        ("9007199254740992", 2.0**53),
        ("9007199254740993", "out_of_range"),
        ("0.10000000000000001", 0.1),
        ("0.30000000000000001", "out_of_range"),
        ("0.50000000000000000000", 0.5),
        ("0.12345678901234567890", "out_of_range"),
        ("1e999", "out_of_range"),
        ("NaN", "bad_number"),
        ("inf", "bad_number"),
        ("-Infinity", "bad_number"),
        ("0x10", "bad_number"),
        ("1e", "bad_number"),
    ],
)
def test_float_is_finite_or_a_fault(text: str, value: object) -> None:
    """B and F: the number that is named, to its last digit, or none."""
    assert one(text, item("B")) == value
    assert one(text, item("F")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("t", True),
        ("TRUE", True),
        ("1", True),
        (" Yes ", True),
        ("是", True),
        ("f", False),
        ("False", False),
        ("0", False),
        ("off", False),
        ("否", False),
        ("2", "bad_boolean"),
        ("", "bad_boolean"),
        ("maybe", "bad_boolean"),
    ],
)
def test_boolean_words(text: str, value: object) -> None:
    """L: a closed list of words."""
    assert one(text, item("L")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1985-03-17", date(1985, 3, 17)),
        ("19850317", date(1985, 3, 17)),
        ("1985/3/17", date(1985, 3, 17)),
        ("1985.3.17", date(1985, 3, 17)),
        (" 1985-3-7 ", date(1985, 3, 7)),
        ("1985-03-17 00:00:00", date(1985, 3, 17)),
        ("1985-03-17T00:00:00.000", date(1985, 3, 17)),
        ("1900-01-01", date(1900, 1, 1)),
        ("0001-01-01", date(1, 1, 1)),
        ("9999-12-31", date(9999, 12, 31)),
        ("2000-02-29", date(2000, 2, 29)),
        ("1900-02-29", "bad_date"),
        ("0000-00-00", "bad_date"),
        ("0000-01-01", "bad_date"),
        ("10000-01-01", "bad_date"),
        ("1985-13-01", "bad_date"),
        ("1985-03/17", "bad_date"),
        ("1985-03-17 08:00:00", "bad_date"),
        ("1985-03-17 BC", "bad_date"),
        ("infinity", "bad_date"),
        ("", "bad_date"),
        ("17.3.1985", "bad_date"),
        ("850317", "bad_date"),
        ("１９８５-03-17", "bad_date"),
    ],
)
def test_date_forms(text: str, value: object) -> None:
    """D: four forms are read, the impossible is a fault, 1900-01-01 stays as it is."""
    assert one(text, item("D")) == value


NOON = datetime(2015, 1, 1, 4, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2015-01-01 12:00:00", NOON),
        ("2015-01-01T12:00:00", NOON),
        ("2015-01-01 12:00", NOON),
        ("2015/1/1 12:00:00", NOON),
        ("20150101120000", NOON),
        ("2015-01-01 12:00:00.000001", NOON + timedelta(microseconds=1)),
        ("2015-01-01 12:00:00.5", NOON + timedelta(milliseconds=500)),
        ("2015-01-01 04:00:00Z", NOON),
        ("2015-01-01 12:00:00+08", NOON),
        ("2015-01-01 12:00:00+0800", NOON),
        ("2015-01-01 12:00:00+08:00", NOON),
        ("2015-01-01 12:05:43+08:05:43", NOON),
        ("2014-12-31 23:00-05", NOON),
        ("2015-01-01 12:00:00.1234567", "bad_time"),
        ("2015-01-01 24:00:00", "bad_time"),
        ("2015-01-01 12:60:00", "bad_time"),
        ("2015-01-01 12:00:60", "bad_time"),
        ("2015-01-01", "bad_time"),
        ("2015-01-01 12", "bad_time"),
        ("0000-00-00 00:00:00", "bad_time"),
        ("2015-02-29 12:00:00", "bad_time"),
        ("2015-01-01 12:00:00 BC", "bad_time"),
        ("2015-01-01 12:00:00+24", "bad_time"),
        ("infinity", "bad_time"),
        ("上周五下午", "bad_time"),
        ("0001-01-01 00:00:00", "out_of_range"),
        ("0001-01-01 00:00:00+08", "out_of_range"),
        ("9999-12-31 23:59:59.999999-01", "out_of_range"),
        (
            "9999-12-31 23:59:59.999999Z",
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ),
    ],
)
def test_time_forms(text: str, value: object) -> None:
    """T: to the microsecond; without an offset it is Shanghai's; no hour is guessed."""
    assert one(text, item("T")) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1940-06-01 00:30:00", "time_gap"),
        ("1986-05-04 02:30:00", "time_gap"),
        ("1986-09-14 01:30:00", "time_ambiguous"),
        ("1986-09-14 01:30:00+09", datetime(1986, 9, 13, 16, 30, tzinfo=UTC)),
        ("1986-07-01 12:00:00", datetime(1986, 7, 1, 3, 0, tzinfo=UTC)),
    ],
)
def test_summer_time_of_china(text: str, value: object) -> None:
    """A local time that never was, or was twice, is a fault; an offset decides it."""
    assert one(text, item("T")) == value


def test_mixed_offsets_in_one_column() -> None:
    """Times with and without an offset stand side by side."""
    parsed = read(
        ["2015-01-01 12:00:00", None, "2015-01-01 12:00:00Z", "nonsense"], item("T")
    )
    assert parsed.values.to_pylist() == [NOON, None, NOON + timedelta(hours=8), None]
    assert [list(m) for m in parsed.faults.values()] == [[False, False, False, True]]


def test_bytes_of_a_generic_item_come_from_text_as_they_are() -> None:
    """G: a text column is its UTF-8 bytes."""
    assert read(["王", None], item("G")).values.to_pylist() == ["王".encode(), None]


def test_undecodable_bytes_are_a_fault_of_their_row_only() -> None:
    """Text that is not UTF-8 is named; its neighbours are read."""
    raw = [b"ok", "王".encode(), "王".encode("gbk"), None] * 100
    parsed = decode(pa.array(raw, pa.binary()))
    assert parsed.values.to_pylist() == ["ok", "王", None, None] * 100
    assert list(parsed.faults["undecodable"]) == [False, False, True, False] * 100


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_a_bad_value_does_not_disturb_its_neighbours(size: int) -> None:
    """Wherever the bad value stands, all others are read and only it is a fault."""
    for bad in {0, size // 2, size - 1}:
        texts: list[str | None] = [str(i) for i in range(size)]
        texts[bad] = "x"
        parsed = read(texts, item("I"))
        expected = [None if i == bad else i for i in range(size)]
        assert parsed.values.to_pylist() == expected
        assert [i for i, m in enumerate(parsed.faults["bad_number"]) if m] == [bad]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "reason"),
    [
        ("D", "2001-02-28", "2001-02-30", "bad_date"),
        ("T", "2001-02-28 08:00:00", "2001-02-30 08:00:00", "bad_time"),
        ("T", "2001-02-28 08:00:00", "1986-05-04 02:30:00", "time_gap"),
    ],
)
def test_a_value_that_only_looks_usual_does_not_disturb_its_neighbours(
    kind: str, good: str, bad: str, reason: str
) -> None:
    """The day that is not in the calendar is found among many that are."""
    texts: list[str | None] = [good] * (3 * PIECE)
    texts[PIECE + 3], texts[7] = bad, None
    parsed = read(texts, item(kind))
    assert [i for i, m in enumerate(parsed.faults[reason]) if m] == [PIECE + 3]
    nulls = [i for i, v in enumerate(parsed.values.to_pylist()) if v is None]
    assert nulls == [7, PIECE + 3]


def test_a_slice_of_a_column_is_read_as_itself() -> None:
    """Offsets of a sliced array are respected in both paths."""
    column = pa.array(["x", "1", None, "2", "y", "3"], pa.string())
    assert parse(column.slice(1, 3), item("I"), SHANGHAI).values.to_pylist() == [
        1,
        None,
        2,
    ]
    parsed = parse(column.slice(3), item("I"), SHANGHAI)
    assert parsed.values.to_pylist() == [2, None, 3]


# --- both paths, and a reference of plain Python ------------------------------------

_digits = st.text("0123456789", max_size=6)
_noise = st.text("0123456789+-./: eETZxnaN\t", max_size=12)
_number = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["", "-", "+", " "]),
    _digits,
    st.sampled_from(["", ".", ".0", ".00", ".123", ".1200"]),
    st.sampled_from(["", " ", "e3"]),
)
_date = st.builds(
    lambda y, m, d, sep, short: (
        f"{y:04d}{sep}{m}{sep}{d}" if short else f"{y:04d}{sep}{m:02d}{sep}{d:02d}"
    ),
    st.integers(0, 9999),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["-", "/", ".", ""]),
    st.booleans(),
)
_time = st.builds(
    lambda day, sep, h, m, s, f, z: f"{day}{sep}{h:02d}:{m:02d}{s}{f}{z}",
    _date,
    st.sampled_from([" ", "T"]),
    st.integers(0, 25),
    st.integers(0, 61),
    st.sampled_from(["", ":00", ":59", ":60"]),
    st.sampled_from(["", ".5", ".123456", ".1234567"]),
    st.sampled_from(["", "Z", "+08", "-0530", "+08:00", "+08:05:43", "+24:00"]),
)
_texts = st.lists(
    st.none() | _number | _date | _time | _noise | st.sampled_from("tf01"), max_size=6
)
KINDS = [item("N", 8, 2), item("Y"), item("I"), item("D"), item("T"), item("L")]
KINDS += [item("B"), item("F")]


@tries(60)
@given(_texts, st.sampled_from(KINDS))
@example(["2015-01-01 00+08:00", "2015-01-01 00:00"], item("T"))
@example(["9999-12-31 23:59:59"], item("T"))
def test_a_value_does_not_depend_on_its_neighbours(
    texts: list[str | None], what: Item
) -> None:
    """A column gives what each of its values gives alone, in whichever path."""
    parsed = read(texts, what)
    slow = read([*texts, "not a value"], what)
    values = parsed.values.to_pylist()
    assert [one(t, what) if t is not None else None for t in texts] == [
        _fault_at(parsed, i) or v for i, v in enumerate(values)
    ]
    assert slow.values.to_pylist()[:-1] == values


def _fault_at(parsed: Parsed, row: int) -> str | None:
    return next((r for r, mask in parsed.faults.items() if mask[row]), None)


@tries(60)
@given(st.integers(-(10**14), 10**14), st.integers(0, 6))
def test_decimals_equal_pythons(digits: int, scale: int) -> None:
    """Any decimal text gives the same number as Python's decimal, or does not fit."""
    value = Decimal(digits).scaleb(-scale)
    fits = value == value.quantize(Decimal("0.01")) and abs(value) < 10**10
    assert one(f"{value:f}", MONEY) == (value if fits else "out_of_range")


@tries(60)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(value: float) -> None:
    """The shortest text of a float gives the same 64 bits again."""
    assert struct.pack(">d", one(repr(value), item("B"))) == struct.pack(">d", value)


@tries(60)
@given(st.dates())
def test_every_date_is_read(value: date) -> None:
    """Years 1 to 9999, in all four forms."""
    for form in (
        value.isoformat(),
        value.isoformat().replace("-", ""),
        f"{value.year:04d}/{value.month}/{value.day}",
        f"{value.year:04d}.{value.month}.{value.day}",
    ):
        assert one(form, item("D")) == value


_instants = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants it naive
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=8)), timezone.min]),
)


@tries(60)
@given(_instants)
def test_every_instant_with_offset_is_read(value: datetime) -> None:
    """An offset is applied exactly."""
    assert one(value.isoformat(), item("T")) == value


def test_modules_agree_on_the_ends_of_time() -> None:
    """What a date text may say is what a native date may say."""
    assert one("9999-12-31", item("D")) == date.max
    assert numbers.decimal_size(item("Y")) == (19, 4)
    assert pa.timestamp("us", tz="UTC") == dates.UTC_TIME
