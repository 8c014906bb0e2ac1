# SPDX-License-Identifier: Apache-2.0
"""Quoting, keyset conditions, resume tokens and decoding."""

from __future__ import annotations

import sqlite3
from itertools import product
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import SourceError
from connectors.sql import (
    KeyPart,
    Mark,
    decoded,
    dotted,
    encoded,
    from_key,
    literal,
    mark_after,
    mark_of,
    order_by,
    quoted,
    text_or_bytes,
    token_of,
)
from tests.support.tries import tries

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
VALUES = (
    st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
)


@tries(60)
@given(NAMES.filter(bool), NAMES)
def test_no_name_or_text_ends_its_quotes(name: str, text: str) -> None:
    """Whatever a name or a text holds, SQL reads it back as it was."""
    db = sqlite3.connect(":memory:")
    db.execute(f"create table {dotted(['main', name])} (x text)".replace("sqlite_", ""))
    (found,) = db.execute(f"select {literal(text)} as {quoted(name)}").fetchone()
    db.close()
    assert found == text


def test_a_name_with_nul_is_missing() -> None:
    """No database has a name with U+0000; it never reaches one."""
    with pytest.raises(SourceError, match="missing"):
        quoted("a\0b")


@tries(60)
@given(st.lists(VALUES, min_size=1, max_size=8), st.integers(1, 9))
def test_a_token_gives_back_its_place(key: list[Any], rows: int) -> None:
    """Texts, numbers, bytes and NULLs of a key survive the token."""
    mark = Mark(tuple(key), rows)
    assert mark_of(token_of(mark), len(key)) == mark


@pytest.mark.parametrize(
    "token",
    [
        "",
        "{}",
        "[]",
        '{"key":["a"],"rows":0}',
        '{"key":["a","b"],"rows":1}',
        '{"key":[["a"]],"rows":1}',
        '{"key":[{"hex":"zz"}],"rows":1}',
        '{"key":["a"],"rows":true}',
    ],
)
def test_a_strange_token_is_refused(token: str) -> None:
    """A token that is not ours, or of another key, is a SourceError."""
    with pytest.raises(SourceError):
        mark_of(token, 1)


@pytest.mark.parametrize("nulls", ["first", "last"])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_the_condition_selects_exactly_the_rest(width: int, nulls: Any) -> None:
    """From any key on, the condition gives the rows that ORDER BY puts there."""
    names = ["a", "b", "c"][:width]
    db = sqlite3.connect(":memory:")
    db.execute(f"create table t ({', '.join(names)})")
    rows = list(product([None, 1, 2], repeat=width))
    db.executemany(f"insert into t values ({', '.join('?' * width)})", rows)
    parts = [KeyPart(name, nullable=True) for name in names]
    order = ", ".join(f"{p.expression} nulls {nulls}" for p in parts)
    ordered = db.execute(f"select * from t order by {order}").fetchall()
    for i, key in enumerate(ordered):
        where = from_key(parts, key, lambda _, value: str(value), nulls=nulls)
        found = db.execute(f"select * from t where {where} order by {order}").fetchall()
        assert found == ordered[i:], (key, where)
    db.close()
    assert order_by(parts) == ", ".join(names)


def test_a_key_without_null_is_sought_in_the_index() -> None:
    """The bound of the first column stands alone, where an index can use it."""
    parts = [KeyPart("a", nullable=False), KeyPart("b", nullable=False)]
    where = from_key(parts, (1, 2), lambda _, v: str(v), nulls="last")
    assert where.startswith("a >= 1 and ")


def test_rows_of_one_key_are_counted_over_pages() -> None:
    """The mark counts delivered rows of its key, also those of earlier pages."""
    first = mark_after(3, [("a",), ("b",), ("b",)].__getitem__, None)
    second = mark_after(2, [("b",), ("b",)].__getitem__, first)
    third = mark_after(2, [("b",), ("c",)].__getitem__, second)
    assert (first, second, third) == (
        Mark(("b",), 2),
        Mark(("b",), 4),
        Mark(("c",), 1),
    )


def test_bytes_of_another_encoding_are_never_taken_for_text() -> None:
    """What the encoding cannot decode stays apart, even if it is UTF-8 by chance."""
    by_chance = "é".encode()
    assert text_or_bytes(by_chance, "ascii") == b"\xff" + by_chance
    raw = pa.array(["张".encode("gb18030"), b"\xff\xff", None], pa.binary())
    assert decoded(raw, "gb18030").to_pylist() == ["张".encode(), b"\xff\xff", None]
    assert decoded(raw).type == pa.binary()
    good = pa.array(["张".encode("gb18030"), None], pa.binary())
    assert decoded(good, "gb18030").to_pylist() == ["张", None]


@pytest.mark.parametrize("name", ["gb18030", "ascii", "utf-8"])
@pytest.mark.parametrize("odd", [[], [b"\xff\xfe"]], ids=["texts", "with-an-odd-one"])
def test_a_key_goes_back_as_the_bytes_that_it_was(name: str, odd: list[bytes]) -> None:
    """In a page of texts as in one with a value that cannot be decoded."""
    raw = [b"", b"a", "张三".encode("gb18030"), "é".encode(), "张".encode(), *odd]
    values = decoded(pa.array(raw, pa.binary()), name).to_pylist()
    assert [encoded(value, name) for value in values] == raw
    assert (encoded(None, name), encoded(5, name)) == (None, 5)
