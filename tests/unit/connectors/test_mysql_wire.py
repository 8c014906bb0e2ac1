# SPDX-License-Identifier: Apache-2.0
"""Packets of a result, cut into pages and columns, however they arrive."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.contract import SourceError
from connectors.mysql import wire
from connectors.mysql.login import ServerError
from connectors.mysql.wire import Form, RawConnection
from connectors.sql import PAGE_BYTES
from tests.support.tries import tries

Row = Sequence[bytes | None]
END = b"\xfe\0\0\2\0"
PARSED: tuple[pa.DataType, ...] = (
    pa.int64(),
    pa.bool_(),
    pa.date32(),
    pa.timestamp("us"),
    pa.decimal128(12, 2),
    pa.decimal128(38, 10),
)
ODD = b"0000-00-00"


def counted(value: bytes | None) -> bytes:
    """A length-encoded string."""
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    if size < 2**16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    if size < 2**24:
        return b"\xfd" + size.to_bytes(3, "little") + value
    return b"\xfe" + size.to_bytes(8, "little") + value


def packets(contents: Sequence[bytes]) -> bytes:
    found = bytearray()
    for number, content in enumerate(contents):
        for piece in pieces(content):
            found += len(piece).to_bytes(3, "little") + bytes([number % 256]) + piece
    return bytes(found)


def pieces(content: bytes) -> Iterator[bytes]:
    """A packet of 2^24 - 1 bytes goes on in another one, which may be empty."""
    most = 2**24 - 1
    for at in range(0, len(content) + 1, most):
        yield content[at : at + most]


def sent(rows: Sequence[Row], end: bytes = END) -> bytes:
    return packets([*(b"".join(map(counted, row)) for row in rows), end])


def arriving(data: bytes, sizes: Sequence[int]) -> Callable[[memoryview], int]:
    """A socket that gives so many bytes at a time, over and over."""
    at = turn = 0

    def receive(into: memoryview) -> int:
        nonlocal at, turn
        piece = data[at : at + min(sizes[turn % len(sizes)], len(into))]
        assert piece, "nothing comes after the end of a result"
        into[: len(piece)] = piece
        at, turn = at + len(piece), turn + 1
        return len(piece)

    return receive


def pages(
    data: bytes, form: Form, *, most: int = 65_536, sizes: Sequence[int] = (2**20,)
) -> Iterator[pa.RecordBatch]:
    for page in wire.cut_pages(arriving(data, sizes), form, most):
        page.validate(full=True)
        assert 0 < page.num_rows <= most
        yield page


def texts(width: int) -> Form:
    return Form((pa.binary(),) * width)


def column(
    values: Sequence[bytes | None], kind: pa.DataType, most: int = 65_536
) -> list[tuple[pa.DataType, list[Any]]]:
    """Type and values of each page of a result with one column."""
    rows: list[Row] = [(v,) for v in values]
    found = pages(sent(rows), Form((kind,)), most=most)
    return [(p.column(0).type, p.column(0).to_pylist()) for p in found]


def cells() -> st.SearchStrategy[bytes | None]:
    short = st.binary(max_size=3) | st.sampled_from([b"\xfb", b"\xfe", b"\xff"])
    long = st.integers(249, 300).map(lambda n: b"\xfe" * n)
    return st.none() | short | long


@tries(200)
@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.tuples(*[cells()] * width), max_size=12)
    ),
    st.integers(1, 5),
    st.lists(st.integers(1, 900), min_size=1, max_size=4),
)
def test_rows_are_what_was_sent(
    rows: list[tuple[bytes | None, ...]], most: int, sizes: list[int]
) -> None:
    """Any values, any pages, any pieces: NULL, markers and ends are not mixed up."""
    width = len(rows[0]) if rows else 1
    found: list[Row] = []
    for page in pages(sent(rows), texts(width), most=most, sizes=sizes):
        found += zip(*(c.to_pylist() for c in page.columns), strict=True)
    assert found == rows


def test_a_page_is_no_larger_than_its_bytes() -> None:
    """Many rows are more pages; a row that is larger than a page is one of its own."""
    wide, giant = b"x" * 60_000, b"y" * (PAGE_BYTES + 9)
    rows: list[Row] = [*[(wide,)] * 150, (giant,), (b"z",)]
    found = list(pages(sent(rows), texts(1)))
    assert [page.num_rows for page in found] == [139, 11, 1, 1]
    assert [v for p in found for v in p.column(0).to_pylist()] == [r[0] for r in rows]


@pytest.mark.parametrize("size", [2**24 - 5, 2**24 - 1, 2**24 + 3, 2**25])
def test_the_pieces_of_a_long_row_are_joined(size: int) -> None:
    """Also if a value behind them is odd, and the row is looked at twice."""
    value = bytes(range(251)) * (size // 251 + 1)
    rows: list[Row] = [(b"a", b"2024-01-01"), (value[:size], ODD), (b"b", b"")]
    form = Form((pa.binary(), pa.date32()))
    found = list(pages(sent(rows), form, sizes=[2**22]))
    assert [p.column(1).type for p in found] == [pa.date32(), pa.binary(), pa.binary()]
    assert [v for p in found for v in p.column(0).to_pylist()] == [r[0] for r in rows]


def test_rows_before_an_error_are_given() -> None:
    """An error of the server in the middle ends the rows, and is not taken for one."""
    data = sent([(b"a",), (b"b",)], end=b"\xff\x25\x07#70100interrupted")
    found = pages(data, texts(1), sizes=[5])
    assert next(found).column(0).to_pylist() == [b"a", b"b"]
    with pytest.raises(ServerError) as caught:
        next(found)
    assert caught.value.code == 0x0725


@pytest.mark.parametrize(
    "row",
    [b"", b"\1", b"\5abc", b"\1a", b"\1a\1b\1c", b"\xfc\1", b"\xfe\1\0\0\0\0\0\0\0",
     b"\xfd\xff\xff\xff", b"\1a\xff", b"\xfe" + b"\xff" * 8 + b"\1a", b"\xff\1"],
)  # fmt: skip
def test_a_row_whose_lengths_lie_is_refused(row: bytes) -> None:
    """Nothing beyond a row is read, and the read ends with an error of the source."""
    with pytest.raises(SourceError, match="malformed"):
        list(pages(packets([row, END, END]), texts(2)))


@tries(300)
@given(st.data())
def test_mutated_packets_are_rows_or_an_error(data: st.DataObject) -> None:
    """Whatever comes, it ends: with pages that are whole, or with an error."""
    kind: st.SearchStrategy[pa.DataType] = st.sampled_from((pa.binary(), *PARSED))
    kinds = data.draw(st.lists(kind, min_size=1))
    form = Form(tuple(kinds), (0,))
    cell = cells() | st.sampled_from([b"1", b"2024-02-29", b"2024-02-29 01:02:03", ODD])
    rows = data.draw(st.lists(st.tuples(*[cell] * len(kinds)), max_size=9))
    stream = bytearray(sent(rows))
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(stream) - 1), st.integers(0, 255)))
    ):
        stream[at] = byte
    stream = stream[data.draw(st.integers(0, 9)) :]

    def receive(into: memoryview) -> int:
        piece = bytes(stream[: min(7, len(into))])
        if not piece:
            raise EOFError
        into[: len(piece)] = piece
        del stream[: len(piece)]
        return len(piece)

    with suppress(EOFError, SourceError, ServerError):
        for page in wire.cut_pages(receive, form, 4):
            page.validate(full=True)


# --- values that are parsed ---------------------------------------------------------


def server_texts() -> st.SearchStrategy[tuple[pa.DataType, bytes, Any]]:
    """A type, a text as the server prints it, and its value."""
    whole = st.integers(-(2**63), 2**63 - 1).map(
        lambda v: (pa.int64(), str(v).encode(), v)
    )
    zeros = st.integers(0, 10**6).map(lambda v: (pa.int64(), b"%030d" % v, v))
    truth = st.booleans().map(lambda v: (pa.bool_(), b"01"[v : v + 1], v))
    day = st.dates().map(lambda v: (pa.date32(), v.isoformat().encode(), v))
    money = st.integers(1 - 10**12, 10**12 - 1).map(
        lambda v: (pa.decimal128(12, 2), printed(v, 2), Decimal(v).scaleb(-2))
    )
    wide = st.integers(0, 10).flatmap(
        lambda scale: st.integers(1 - 10 ** (28 + scale), 10 ** (28 + scale) - 1).map(
            lambda v: (
                pa.decimal128(38, 10),
                printed(v, scale),
                Decimal(printed(v, scale).decode()),
            )
        )
    )
    return whole | zeros | truth | day | money | wide | moments()


def printed(value: int, scale: int) -> bytes:
    """A number of the database: all digits after the point, at least one before it."""
    sign, digits = "-" * (value < 0), str(abs(value)).rjust(scale + 1, "0")
    if not scale:
        return f"{sign}{digits}".encode()
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}".encode()


def moments() -> st.SearchStrategy[tuple[pa.DataType, bytes, Any]]:
    def of(moment: datetime, places: int) -> tuple[pa.DataType, bytes, Any]:
        rest = moment.microsecond // 10 ** (6 - places) * 10 ** (6 - places)
        text = f"{moment.replace(microsecond=0).isoformat(' ')}.{rest:06}"
        text = text[: 20 + places].rstrip(".")
        return pa.timestamp("us"), text.encode(), moment.replace(microsecond=rest)

    return st.builds(of, st.datetimes(), st.integers(0, 6))


@tries(500)
@given(server_texts())
def test_what_the_server_prints_is_parsed_exactly(
    printed_one: tuple[pa.DataType, bytes, Any],
) -> None:
    """Whole numbers, decimals, days, moments and truths keep their values."""
    kind, text, value = printed_one
    assert column([text, None, text], kind) == [(kind, [value, None, value])]


def strange() -> st.SearchStrategy[bytes]:
    """Texts near those that are parsed."""
    near = st.text("0019-:. +eT", max_size=27).map(str.encode)
    shape = st.from_regex(
        rb"\A(-?[0-9]{0,40}(\.[0-9]{0,12})?|[0-9]{4}-[01][0-9]-[0-3][0-9]"
        rb"( [0-2][0-9](:[0-6][0-9]){2}(\.[0-9]{0,7})?)?)\Z"
    )
    return near | shape


@tries(500)
@example(pa.date32(), b"0000-01-01")
@example(pa.timestamp("us"), b"0000-01-01 00:00:00")
@given(st.sampled_from(PARSED), strange())
def test_what_is_parsed_is_what_another_parser_finds(
    kind: pa.DataType, text: bytes
) -> None:
    """Any text is a value that Arrow finds in it too, or stays as it was sent."""
    (page,) = pages(sent([(text,)]), Form((kind,)))
    found = page.column(0)
    if pa.types.is_binary(found.type):
        assert found.to_pylist() == [text]
    else:
        other: pa.Array[Any] = pa.array([text.decode()]).cast(kind)
        assert found.equals(other)  # not in Python, which has no year 0


@pytest.mark.parametrize(
    ("kind", "odd"),
    [
        (pa.int64(), b"18446744073709551615"),
        (pa.int64(), b"9223372036854775808"),
        (pa.int64(), b"-9223372036854775809"),
        (pa.int64(), b"1.0"),
        (pa.int64(), b"-"),
        (pa.int64(), b""),
        (pa.bool_(), b"2"),
        (pa.bool_(), b"-1"),
        (pa.bool_(), b"01"),
        (pa.date32(), ODD),
        (pa.date32(), b"2024-00-15"),
        (pa.date32(), b"2024-02-00"),
        (pa.date32(), b"2023-02-29"),
        (pa.date32(), b"1900-02-29"),
        (pa.date32(), b"2024-13-01"),
        (pa.date32(), b"2024-04-31"),
        (pa.date32(), b"10000-01-01"),
        (pa.timestamp("us"), b"0000-00-00 00:00:00"),
        (pa.timestamp("us"), b"2024-01-01 24:00:00"),
        (pa.timestamp("us"), b"2024-01-01 00:60:00"),
        (pa.timestamp("us"), b"2024-01-01 00:00:60"),
        (pa.timestamp("us"), b"2024-01-01 00:00:00."),
        (pa.timestamp("us"), b"2024-01-01 00:00:00.1234567"),
        (pa.timestamp("us"), b"838:59:59"),
        (pa.decimal128(12, 2), b"1.001"),
        (pa.decimal128(12, 2), b"10000000000"),
        (pa.decimal128(12, 2), b"1e5"),
        (pa.decimal128(12, 2), b".5"),
        (pa.decimal128(12, 2), b"5."),
        (pa.decimal128(38, 0), b"9" * 39),
        (pa.decimal128(38, 0), str(2**128 + 5).encode()),
        (pa.decimal128(38, 30), b"9" * 9),
    ],
)
def test_what_no_type_can_carry_stays_as_it_was_sent(
    kind: pa.DataType, odd: bytes
) -> None:
    """Zero dates, numbers beyond their type, digits that would be lost."""
    assert column([odd], kind) == [(pa.binary(), [odd])]


def test_an_odd_value_makes_the_rest_of_its_page_text() -> None:
    """The page ends before its row; that column is text until a page is full."""
    days = [f"2024-01-{day:02}".encode() for day in range(1, 10)]
    found = column([*days[:3], ODD, *days[3:]], pa.date32(), most=4)
    assert found == [
        (pa.date32(), [date(2024, 1, day) for day in (1, 2, 3)]),
        (pa.binary(), [ODD, *days[3:6]]),
        (pa.date32(), [date(2024, 1, day) for day in (7, 8, 9)]),
    ]


def test_odd_values_everywhere_cost_one_short_page_a_column() -> None:
    """Columns that are odd by turns do not make every row a page."""
    good = (b"1", b"2024-01-01", b"1", b"7")
    rows: list[Row] = [
        tuple(b"odd" if i % 3 == place else v for place, v in enumerate(good))
        for i in range(1000)
    ]
    form = Form((pa.int64(), pa.date32(), pa.bool_(), pa.int64()), (3,))
    found = list(pages(sent(rows), form, most=100))
    assert len(found) < 45
    assert all(page.column(3).type == pa.int64() for page in found)
    assert [v for p in found for v in p.column(4).to_pylist()] == [b"7"] * 1000


def test_nothing_is_left_of_a_row_that_was_begun() -> None:
    """What stood before the odd value of its row, NULL too, is written once."""
    rows: list[Row] = [(b"a", b"1", None, b"1")] * 3
    rows.append((None, b"1", b"2024-01-01", b"odd"))
    rows.append((b"", None, None, None))
    form = Form((pa.binary(), pa.bool_(), pa.date32(), pa.int64()), (1,))
    first, second = pages(sent(rows), form)
    assert [c.null_count for c in first.columns] == [0, 0, 3, 0, 0]
    assert [c.to_pylist() for c in second.columns] == [
        [None, b""], [True, None], [date(2024, 1, 1), None], [b"odd", None],
        [b"1", None],
    ]  # fmt: skip


def test_a_connection_that_is_closed_gives_nothing_more() -> None:
    """The thread that receives is told so, and not by an error of the interpreter."""
    db = wire.RawConnection(defer_connect=True)
    with pytest.raises(SourceError, match="closed"):
        db._received(memoryview(bytearray(9)))


def test_a_line_that_is_closed_gives_no_more_rows() -> None:
    """Whatever still arrives is not what the server sent, if it is a TLS line's."""
    db = RawConnection(defer_connect=True)
    db._rfile = SimpleNamespace(raw=SimpleNamespace(readinto=lambda _into: 3))
    db._closing = True
    with pytest.raises(SourceError, match="closed"):
        db._received(memoryview(bytearray(9)))
    db._rfile = None


class Encrypted(socket.socket):
    """As ``ssl.SSLSocket``: its own shutdown leaves a line without encryption."""

    def shutdown(self, how: int, /) -> None:
        raise AssertionError(how)


def test_hanging_up_leaves_the_encryption_on() -> None:
    """Else the receiver would read the rest of the stream as it is on the wire."""
    ours, theirs = socket.socketpair()
    db = RawConnection(defer_connect=True)
    with Encrypted(fileno=ours.detach()) as line, theirs:
        db._sock, db._receiving = line, True
        db._hang_up()
        db._sock = None
        assert theirs.recv(1) == b""
