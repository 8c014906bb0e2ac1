# SPDX-License-Identifier: Apache-2.0
"""SQLite read by columns: the same values as one by one, of the same snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal, InvalidOperation
from itertools import chain, count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.contract import ColumnSpec, Limits, StreamSpec
from connectors.sqlite import columnar
from connectors.sqlite.session import SqliteSession, session
from tests.support.tries import tries

DECLARED = ("integer", "text", "", "numeric(12,2)", "real", "datetime", "blob")
LETTERS = "ILNYBFCMDT"
PAGE = 8
"""Rows of a page, and so of what the driver takes a column's type from."""

SPECIAL = (
    0.1 + 0.2, 1e300, -0.0, float("inf"), 2.0**53, 2**53 + 1, -(2**63), 100, 100.0,
    12345.67, 0.005, 1e-7, 123456789012.34, "", "1.10", "张\0三", b"\xff", b"abc", None,
)  # fmt: skip


def values() -> st.SearchStrategy[Any]:
    numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    return st.sampled_from(SPECIAL) | numbers | texts | st.binary(max_size=3)


def runs() -> st.SearchStrategy[list[Any]]:
    """Long runs of one value with others between, as columns in earnest have."""
    run = st.tuples(values(), st.integers(1, 2 * PAGE))
    return st.lists(run, min_size=1, max_size=6).map(
        lambda found: [value for value, times in found for _ in range(times)]
    )


numbers_of_files = count()


def table(folder: Path, declared: str, column: Sequence[Any]) -> Path:
    path = folder / f"{next(numbers_of_files)}.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma synchronous = off")
        db.execute(f"create table t (k integer primary key, v {declared})")
        db.executemany("insert into t values (?, ?)", enumerate(column))
    return path


def stream(letter: str) -> StreamSpec:
    length, scale = (12, 2) if letter == "N" else (4000, None)
    key = ColumnSpec("k", "I", None, None, key=True)
    return StreamSpec(("t",), (key, ColumnSpec("v", letter, length, scale, key=False)))


def read(found: SqliteSession, letter: str) -> Iterator[pa.Array[Any]]:
    (part,) = found.plan(stream(letter))
    for page in found.read(part):
        page.rows.validate(full=True)
        yield page.rows.column(1)


def plain(value: Any, letter: str) -> object:
    """What the centre would make of it: bytes are the text that they are."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return value
    if letter not in "CM" and value is not None:
        try:
            return Decimal(str(value if not isinstance(value, bool) else int(value)))
        except InvalidOperation:
            return value
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@tries(400)
@example("", "B", [0.5] * 20 + [2**53 + 1])
@example("numeric", "C", ["a"] * 20 + [0.1 + 0.2])
@given(st.sampled_from(DECLARED), st.sampled_from(LETTERS), runs())
def test_columns_hold_what_the_values_are(
    folder: Path, declared: str, letter: str, column: list[Any]
) -> None:
    """Whatever stands in a column of whatever type, both ways give the same."""
    path = table(folder, declared, column)
    with session({"path": str(path)}, Limits(page_rows=PAGE)) as found:
        assert found.other is not None
        by_columns = list(chain(*(a.to_pylist() for a in read(found, letter))))
        found.other = None
        by_values = list(chain(*(a.to_pylist() for a in read(found, letter))))
    path.unlink()
    assert len(by_values) == len(column)
    assert [plain(v, letter) for v in by_columns] == [
        plain(v, letter) for v in by_values
    ]


def test_only_the_first_page_is_read_value_by_value(folder: Path) -> None:
    """A usual column goes the fast way: floats arrive as decimals."""
    path = table(folder, "numeric(12,2)", [i / 100 for i in range(-50, 50)])
    with session({"path": str(path)}, Limits(page_rows=PAGE)) as found:
        first, *rest = read(found, "N")
    assert first.type == pa.string()
    assert {a.type for a in rest} == {pa.decimal128(12, 2)}
    texts = chain(*(a.to_pylist() for a in (first, *rest)))
    assert [Decimal(str(t)) for t in texts] == [
        Decimal(i) / 100 for i in range(-50, 50)
    ]


def test_after_an_odd_value_columns_are_tried_again(folder: Path) -> None:
    """One text in a column of numbers costs a page or two, and not the table."""
    path = table(folder, "numeric", [1.5] * 100 + ["?"] + [2.5] * 400)
    with session({"path": str(path)}, Limits(page_rows=PAGE)) as found:
        pages = list(read(found, "N"))
    by_values = [a for a in pages if a.type == pa.string()]
    assert len(by_values) < 8
    assert sum(a.to_pylist().count("?") for a in by_values) == 1


def test_both_connections_see_one_snapshot(folder: Path) -> None:
    """A commit between the two beginnings makes them begin anew."""
    path = table(folder, "text", ["a"])
    with (
        closing(sqlite3.connect(path)) as writer,
        closing(sqlite3.connect(path)) as one,
    ):
        writer.execute("pragma journal_mode = wal")
        one.isolation_level = None
        wanted = iter([2, 3])

        def begin() -> None:
            if one.in_transaction:
                one.execute("rollback")
            one.execute("begin")
            one.execute("select count(*) from t").fetchone()
            for key in (k for k in [next(wanted, None)] if k is not None):
                with writer:
                    writer.execute("insert into t values (?, 'later')", (key,))

        with columnar.beside(path, begin) as other, other.cursor() as cursor:
            with writer:
                writer.execute("insert into t values (9, 'after both')")
            cursor.execute("select count(*) from t")
            assert cursor.fetchone() == one.execute("select count(*) from t").fetchone()


def test_a_file_that_never_rests_is_read_value_by_value(folder: Path) -> None:
    """If no snapshot can be shared, there is no second connection."""
    path = table(folder, "text", ["a"])
    with closing(sqlite3.connect(path)) as writer:
        keys = count(10)

        def begin() -> None:
            with writer:
                writer.execute("insert into t values (?, 'x')", (next(keys),))

        with columnar.beside(path, begin) as other:
            assert other is None
