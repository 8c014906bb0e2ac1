# SPDX-License-Identifier: Apache-2.0
"""What a binary COPY may say, and what becomes of it in C."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from ctypes import CFUNCTYPE, POINTER, c_int, c_void_p
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import SourceError
from connectors.postgres.copy import Copy, Line, Strange, Wanted
from tests.support.tries import tries

HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TAIL = b"\xff\xff"
EPOCH = 10957
FULL = 8 << 20

_RECEIVE = CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), c_int)
_RELEASE = CFUNCTYPE(None, c_void_p)


@dataclass
class Sent:
    """libpq as C sees it: gives messages, each in memory of exactly its size."""

    messages: Sequence[bytes]
    end: int = -1
    held: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._coming = iter(self.messages)
        self._receive, self._release = _RECEIVE(self._next), _RELEASE(self._free)

    def _next(self, _: int, out: Any, __: int) -> int:
        for message in self._coming:
            memory = (ctypes.c_char * len(message)).from_buffer_copy(message)
            out[0] = ctypes.addressof(memory)
            self.held[out[0]] = memory
            return len(message)
        return self.end

    def _free(self, address: int) -> None:
        del self.held[address]

    def copy(self, *columns: Wanted) -> Copy:
        receive = ctypes.cast(self._receive, c_void_p).value
        release = ctypes.cast(self._release, c_void_p).value
        assert receive
        assert release
        return Copy(Line(1, receive, release), columns)


def of(*types: pa.DataType) -> list[Wanted]:
    return [Wanted(f"c{i}", kind) for i, kind in enumerate(types)]


def row(*values: bytes | None) -> bytes:
    parts = [struct.pack(">h", len(values))]
    for value in values:
        parts.append(struct.pack(">i", -1 if value is None else len(value)))
        parts.append(value or b"")
    return b"".join(parts)


def read(columns: Sequence[Wanted], *messages: bytes) -> pa.RecordBatch:
    sent = Sent(messages)
    found, state = sent.copy(*columns).page(100, FULL)
    assert state == "end"
    assert not sent.held
    found.validate(full=True)
    return found


def one(kind: pa.DataType, value: bytes | None) -> Any:
    found = read(of(kind), HEAD + row(value), TAIL)
    return found.column(0)[0].as_py()


def numeric(value: Decimal, spare: int = 0) -> bytes:
    """As numeric_send has it, with further zeros at the end."""
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    text += "0" * (exponent % 4)
    exponent -= exponent % 4
    text = text.zfill(-(-len(text) // 4) * 4)
    groups = [int(text[i : i + 4]) for i in range(0, len(text), 4)] + [0] * spare
    weight = len(groups) - spare - 1 + exponent // 4
    head = struct.pack(">HhHH", len(groups), weight, 0x4000 if sign else 0, 0)
    return head + struct.pack(f">{len(groups)}H", *groups)


def test_each_kind_becomes_its_column() -> None:
    """A row of everything, one of NULL, and the same buffers as Arrow would make."""
    types = (
        pa.int64(), pa.int64(), pa.int64(), pa.bool_(), pa.float64(), pa.date32(),
        pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.decimal128(5, 2), pa.string(),
        pa.binary(),
    )  # fmt: skip
    values = (
        struct.pack(">h", -3), struct.pack(">i", -4), struct.pack(">q", -(2**63)),
        b"\1", struct.pack(">d", -0.5), struct.pack(">i", -EPOCH),
        struct.pack(">q", 0), struct.pack(">q", -1), numeric(Decimal("-1.25")),
        "张".encode(), b"\0\xff",
    )  # fmt: skip
    nothing = [None] * len(types)
    found = read(of(*types), HEAD + row(*values), row(*nothing), TAIL)
    wanted = [
        [-3, None], [-4, None], [-(2**63), None], [True, None], [-0.5, None],
        [0, None], [EPOCH * 86_400_000_000, None], [EPOCH * 86_400_000_000 - 1, None],
        [Decimal("-1.25"), None], ["张", None], [b"\0\xff", None],
    ]  # fmt: skip
    arrays = [pa.array(v, t) for v, t in zip(wanted, types, strict=True)]
    assert found.columns == arrays


@pytest.mark.parametrize("messages", [[HEAD + TAIL], [HEAD, TAIL]])
def test_no_row_is_an_end(messages: list[bytes]) -> None:
    """A header and a trailer, together or apart."""
    assert read(of(pa.int64()), *messages).num_rows == 0


def test_a_page_ends_with_its_rows_or_bytes() -> None:
    """And the next one begins with the next row."""
    texts = [row(b"x" * 10) for _ in range(7)]
    copy = (sent := Sent([HEAD, *texts, TAIL])).copy(*of(pa.string()))
    sizes = [copy.page(*most) for most in ((3, FULL), (100, 15), (100, 1), (100, FULL))]
    assert [(page.num_rows, state) for page, state in sizes] == [
        (3, "more"), (2, "more"), (1, "more"), (1, "end")
    ]  # fmt: skip
    assert not sent.held


@pytest.mark.parametrize("end", [-1, -2])
def test_rows_without_an_end_have_failed(end: int) -> None:
    """A COPY that the server or the line broke off is never taken for a short one."""
    found = Sent([HEAD, row(b"x")], end).copy(*of(pa.string())).page(100, FULL)
    assert found[1] == "failed"


MALFORMED = {
    "no header": [row(b"\1"), TAIL],
    "another signature": [HEAD.replace(b"\r", b" ") + row(b"\1")],
    "unknown flags": [HEAD[:11] + b"\0\1\0\0" + bytes(4) + row(b"\1")],
    "an extension beyond the message": [HEAD[:-1] + b"\xff"],
    "half a header": [HEAD[:18]],
    "nothing in a message": [HEAD, b""],
    "half a count": [HEAD, b"\0"],
    "a column too few": [HEAD, row()],
    "a column too many": [HEAD, row(b"\1", b"\1")],
    "no length": [HEAD, b"\0\1\0\0"],
    "a length below NULL": [HEAD, b"\0\1\xff\xff\xff\xfe"],
    "a length beyond the message": [HEAD, b"\0\1\0\0\0\2\1"],
    "the greatest length": [HEAD, b"\0\1\x7f\xff\xff\xff\1"],
    "something after the row": [HEAD, row(b"\1") + b"\0"],
    "something after the trailer": [HEAD, TAIL + b"\0"],
    "a row after the trailer": [HEAD, TAIL, row(b"\1")],
    "a header twice": [HEAD, HEAD],
}


@pytest.mark.parametrize("messages", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_copy_is_refused(messages: list[bytes]) -> None:
    """Lengths that lie, and all that the format does not have."""
    with pytest.raises(SourceError, match="another form"):
        Sent(messages).copy(*of(pa.bool_())).page(100, FULL)


WRONG = [
    (pa.int64(), b"\0\0\0"),
    (pa.int64(), b""),
    (pa.bool_(), b"\2"),
    (pa.bool_(), b"\0\0"),
    (pa.float64(), b"\0\0\0\0"),
    (pa.date32(), bytes(8)),
    (pa.timestamp("us"), bytes(4)),
    (pa.decimal128(9, 2), bytes(7)),
    (pa.decimal128(9, 2), numeric(Decimal(1))[:-1]),
    (pa.decimal128(9, 2), numeric(Decimal(1)) + b"\0\0"),
    (pa.decimal128(9, 2), struct.pack(">HhHHH", 1, 0, 0, 0, 10000)),
    (pa.decimal128(9, 2), struct.pack(">HhHHH", 1, 0, 0x1000, 0, 1)),
]


@pytest.mark.parametrize(("kind", "value"), WRONG)
def test_a_value_of_another_form_is_refused(kind: pa.DataType, value: bytes) -> None:
    """It is no value of the column's type, and none is guessed."""
    with pytest.raises(SourceError, match="another form"):
        one(kind, value)


DAY = 86_400_000_000
FIRST, LAST = -719_162 - EPOCH, 2_932_896 - EPOCH
STRANGE = [
    *((pa.date32(), struct.pack(">i", n)) for n in (FIRST - 1, LAST + 1)),
    *((pa.date32(), struct.pack(">i", n)) for n in (-(2**31), 2**31 - 1)),
    *((pa.timestamp("us"), struct.pack(">q", n)) for n in (-(2**63), 2**63 - 1)),
    (pa.timestamp("us"), struct.pack(">q", FIRST * DAY - 1)),
    (pa.timestamp("us"), struct.pack(">q", (LAST + 1) * DAY)),
    *((pa.decimal128(9, 2), struct.pack(">HhHH", 0, 0, sign, 0))
      for sign in (0xC000, 0xD000, 0xF000)),
    (pa.decimal128(9, 2), numeric(Decimal("10000000"))),
    (pa.decimal128(9, 2), numeric(Decimal("0.001"))),
    (pa.decimal128(9, 2), numeric(Decimal("0.00000001"))),
    (pa.decimal128(38, 0), numeric(Decimal(10) ** 38)),
    (pa.decimal128(38, 0), struct.pack(">HhHHH", 1, 32767, 0, 0, 1)),
    (pa.decimal128(38, 0), struct.pack(">HhHHH", 1, -32768, 0, 0, 1)),
    (pa.decimal128(38, 38), numeric(Decimal(1))),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), STRANGE)
def test_what_a_column_cannot_hold_is_strange(kind: pa.DataType, value: bytes) -> None:
    """Without a text instead nothing is made of it; with one it is that text."""
    with pytest.raises(Strange):
        one(kind, value)
    beside = [*of(kind), Wanted("o", pa.string(), instead=True)]
    found = read(beside, HEAD, row(value, b"text"), row(None, None), TAIL)
    assert found.to_pylist() == [{"c0": None, "o": "text"}, {"c0": None, "o": None}]


def test_a_strange_value_without_its_text_is_told() -> None:
    """The server did not think it strange: nothing is left out in silence."""
    beside = [*of(pa.date32()), Wanted("o", pa.string(), instead=True)]
    with pytest.raises(Strange):
        read(beside, HEAD, row(STRANGE[0][1], None), TAIL)


def test_the_ends_of_time_are_usual() -> None:
    """The first and the last day of the profile, and their first and last moment."""
    assert str(one(pa.date32(), struct.pack(">i", FIRST))) == "0001-01-01"
    assert str(one(pa.date32(), struct.pack(">i", LAST))) == "9999-12-31"
    moments = (FIRST * DAY, (LAST + 1) * DAY - 1)
    found = [str(one(pa.timestamp("us"), struct.pack(">q", n))) for n in moments]
    assert found == ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"]


@given(st.data())
@tries(300)
def test_every_decimal_that_fits_is_exact(data: st.DataObject) -> None:
    """Of any precision and scale, however its digits are cut; any other is strange."""
    precision = data.draw(st.integers(1, 38))
    scale = data.draw(st.integers(0, precision))
    units = data.draw(st.integers(-(10**39), 10**39) | st.integers(-(10**9), 10**9))
    power = data.draw(st.integers(-40, 4))
    with localcontext(prec=100):
        value = Decimal(units).scaleb(power)
        scaled = value.scaleb(scale)
        fits = scaled == int(scaled) and abs(scaled) < 10**precision
    sent = numeric(value, data.draw(st.integers(0, 3)))
    if fits:
        assert one(pa.decimal128(precision, scale), sent) == value
    else:
        with pytest.raises(Strange):
            one(pa.decimal128(precision, scale), sent)


@given(st.lists(st.binary(max_size=20) | st.text().map(str.encode), max_size=4))
@tries(300)
def test_only_utf8_is_text(values: list[bytes]) -> None:
    """A page with other bytes has them as bytes; Python judges them alike."""
    rows = [row(value, value) for value in values]
    found = read(of(pa.string(), pa.binary()), HEAD, *rows, TAIL)
    assert found.column(1).to_pylist() == values
    try:
        texts = [value.decode() for value in values]
    except UnicodeDecodeError:
        assert found.column(0) == found.column(1)
    else:
        assert found.column(0).to_pylist() == texts


UTF8_ENDS = ["80", "c1bf", "c280", "e09fbf", "e0a080", "ed9fbf", "eda080", "efbfbf"]
UTF8_ENDS += ["f08fbfbf", "f0908080", "f48fbfbf", "f4908080", "f5808080", "e4b8", "ff"]


@pytest.mark.parametrize("end", UTF8_ENDS)
@pytest.mark.parametrize("before", [b"", b"abc", "张".encode(), b"12345678"])
def test_the_ends_of_utf8_are_where_python_has_them(end: str, before: bytes) -> None:
    """Overlong forms, halves of UTF-16, what is cut off, what lies beyond."""
    value = before + bytes.fromhex(end)
    wanted = value.decode(errors="replace").encode() == value
    page = read(of(pa.string()), HEAD, row(value), row(b"next"), TAIL)
    assert pa.types.is_string(page.schema.field(0).type) == wanted


def test_the_page_after_undecodable_text_is_text_again() -> None:
    """Only the page is binary."""
    copy = Sent([HEAD, row(b"\xff"), row(b"x"), TAIL]).copy(*of(pa.string()))
    kinds = [copy.page(1, FULL)[0].schema.field(0).type for _ in range(2)]
    assert kinds == [pa.binary(), pa.string()]


TYPES = (pa.int64(), pa.bool_(), pa.date32(), pa.decimal128(9, 2), pa.string())


def mutated(draw: Any) -> Iterator[bytes]:
    good = row(b"\0\1", b"\1", bytes(4), numeric(Decimal("1.5")), b"text")
    for message in (HEAD + good, good, TAIL):
        changed = bytearray(message)
        for _ in range(draw(st.integers(0, 3))):
            at = draw(st.integers(0, len(changed)))
            changed[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
        yield bytes(changed)


@given(st.data())
@tries(300)
def test_no_bytes_break_it(data: st.DataObject) -> None:
    """Mutated and random messages are rows, strange, or refused; all are released."""
    sent = Sent(
        data.draw(st.lists(st.binary(max_size=60), max_size=4))
        if data.draw(st.booleans())
        else list(mutated(data.draw))
    )
    try:
        found, _ = sent.copy(*of(*TYPES)).page(100, FULL)
    except SourceError:
        pass
    else:
        assert found.num_columns == len(TYPES)
        found.validate(full=True)
    assert not sent.held
