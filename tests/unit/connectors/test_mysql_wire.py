# SPDX-License-Identifier: Apache-2.0
"""Packets of a result, cut into pages and columns, however they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import SourceError
from connectors.mysql import wire
from connectors.mysql.login import ServerError
from connectors.sql import PAGE_BYTES
from tests.support.tries import tries

Row = Sequence[bytes | None]
END = b"\xfe\0\0\2\0"


def counted(value: bytes | None) -> bytes:
    """A length-encoded string."""
    if value is None:
        return b"\xfb"
    size = len(value)
    if size < 251:
        return bytes([size]) + value
    if size < 2**16:
        return b"\xfc" + size.to_bytes(2, "little") + value
    return b"\xfd" + size.to_bytes(3, "little") + value


def packets(contents: Sequence[bytes]) -> bytes:
    found = bytearray()
    for number, content in enumerate(contents):
        found += len(content).to_bytes(3, "little") + bytes([number % 256]) + content
    return bytes(found)


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


def read(data: bytes, width: int, *, most: int, sizes: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    for cut in wire.cut_pages(arriving(data, sizes), most):
        page = wire.batch(cut, width)
        page.validate(full=True)
        assert 0 < page.num_rows <= most
        columns = [column.to_pylist() for column in page.columns]
        rows += zip(*columns, strict=True)
    return rows


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
    assert read(sent(rows), width, most=most, sizes=sizes) == rows


def test_a_page_is_no_larger_than_its_bytes() -> None:
    """Many rows are more pages; a row that is larger than a page is one of its own."""
    wide, giant = b"x" * 60_000, b"y" * (PAGE_BYTES + 9)
    rows: list[Row] = [(wide,)] * 150 + [(giant,), (b"z",)]
    cuts = list(wire.cut_pages(arriving(sent(rows), [2**20]), 65_536))
    assert [len(cut.starts) for cut in cuts] == [139, 11, 2]
    found = [v for cut in cuts for v in wire.batch(cut, 1).column(0).to_pylist()]
    assert found == [row[0] for row in rows]


def test_rows_before_an_error_are_given() -> None:
    """An error of the server in the middle ends the rows, and is not taken for one."""
    data = sent([(b"a",), (b"b",)], end=b"\xff\x25\x07#70100interrupted")
    cuts = wire.cut_pages(arriving(data, [5]), 65_536)
    assert wire.batch(next(cuts), 1).column(0).to_pylist() == [b"a", b"b"]
    with pytest.raises(ServerError) as caught:
        next(cuts)
    assert caught.value.code == 0x0725


def test_a_connection_that_is_closed_gives_nothing_more() -> None:
    """The thread that receives is told so, and not by an error of the interpreter."""
    db = wire.RawConnection(defer_connect=True)
    with pytest.raises(SourceError, match="closed"):
        db._received(memoryview(bytearray(9)))
