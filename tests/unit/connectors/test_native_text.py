# SPDX-License-Identifier: Apache-2.0
"""Columns of bytes that are texts, and those that only look like it."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.native.text import as_text, surely_texts
from tests.support.tries import tries

BAD = (
    "80", "BF", "C0 80", "C1 BF", "C2", "C2 41", "E0 80 80", "E0 9F BF", "E4 BD",
    "ED A0 80", "ED BF BF", "F0 80 80 80", "F0 8F BF BF", "F0 9F 98", "F4 90 80 80",
    "F5 80 80 80", "FE", "FF", "C2 80 80", "E4 BD A0 80", "F0 9F 98 80 80",
)  # fmt: skip
"""Bytes that are no UTF-8 (RFC 3629), each for a reason of its own."""

GOOD = ("", "a", "\x7f", "\x80", "߿", "ࠀ", "퟿", "\ue000", "\uffff", "𐀀", "\U0010ffff")
"""The first and last characters of each length."""


def column(values: list[bytes | None]) -> pa.Array[Any]:
    return pa.array(values, pa.binary())


def is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def pieces() -> st.SearchStrategy[bytes]:
    """Characters whole, cut and joined."""
    whole = st.text(max_size=4).map(str.encode) | st.sampled_from(GOOD).map(str.encode)
    odd = st.sampled_from([bytes.fromhex(bad) for bad in BAD]) | st.binary(max_size=3)
    part = st.tuples(whole, st.integers(0, 4)).map(lambda v: v[0][v[1] :])
    return st.lists(whole | odd | part, max_size=3).map(b"".join)


@tries(200)
@given(st.lists(st.none() | pieces() | st.text(max_size=40).map(str.encode)),
       st.integers(0, 3))  # fmt: skip
def test_a_column_is_text_if_each_value_is(
    values: list[bytes | None], begin: int
) -> None:
    """Also a part of a column, and one whose values make a character together."""
    found = as_text(column(values).slice(begin))
    rest = values[begin:]
    if all(is_text(value) for value in rest if value is not None):
        assert found is not None
        found.validate(full=True)
        assert found.to_pylist() == [v if v is None else v.decode() for v in rest]
    else:
        assert found is None


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("before", [0, 1, 2, 3, 15, 16, 17])
def test_what_is_no_character_is_no_text(bad: str, before: int) -> None:
    """Overlong, surrogate, beyond the last one, cut short, begun without its start."""
    value = bytes.fromhex(bad)
    for text in ("你" * before, "a" * before):
        for after in (b"", b"a", "你".encode(), b"a" * 20):
            assert as_text(column([b"x", text.encode() + value + after])) is None


def test_two_halves_of_a_character_are_no_texts() -> None:
    """A column's bytes may be UTF-8 as a whole and no value of it."""
    assert as_text(column(["a你".encode()[:3], "a你".encode()[3:]])) is None
    assert as_text(column([b"", "你".encode(), None, b""])) is not None


def somebodys(data: bytes, places: list[int], begin: int = 0) -> pa.Array[Any] | None:
    """Texts at places that somebody claims; None if nobody gets such a column."""
    at = pa.py_buffer(struct.pack(f"<{len(places)}i", *places))
    buffers = [None, at, pa.py_buffer(data)]
    rows = len(places) - 1 - begin
    try:
        return pa.Array.from_buffers(pa.string(), rows, buffers, offset=begin)
    except pa.ArrowInvalid:
        return None


@tries(300)
@given(pieces() | st.text(max_size=40).map(str.encode),
       st.lists(st.integers(-2, 45), min_size=1, max_size=6),
       st.booleans(), st.integers(0, 2))  # fmt: skip
def test_only_texts_at_places_that_ascend_within_the_data_are_sure(
    data: bytes, places: list[int], ascending: bool, begin: int
) -> None:
    """Whatever is claimed, C reads nothing outside, and believes only what is so."""
    places = sorted(places) if ascending else places
    claimed = somebodys(data, places, begin) if begin < len(places) else None
    if claimed is None:
        return
    at = places[begin:]
    values = [data[a:b] for a, b in pairwise(at)]
    sound = at[0] >= 0 and at == sorted(at) and at[-1] <= len(data)
    true = sound and all(map(is_text, values))
    assert surely_texts(claimed) == (true and bool(values) and bool(data))


def test_of_nothing_c_is_not_sure() -> None:
    """Arrow looks at that; of other texts C is, and of what lies under nulls."""
    assert surely_texts(pa.array(["\u4f60", "a"]))
    assert surely_texts(pa.array(["\u4f60", "a"]).slice(1))
    assert surely_texts(pa.array(["\u4f60", None]))
    assert not surely_texts(pa.array(["\u4f60"]).slice(1))
