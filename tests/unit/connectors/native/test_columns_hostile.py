# SPDX-License-Identifier: Apache-2.0
"""Columns that grow in C: what they hold, and where they end.

These run a second time with a library that ends the process at the first byte that it
may not touch: tests/contract/connectors/test_native_memory.py.
"""

from __future__ import annotations

import gc
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.native.page import LARGE, OK, Page
from tests.support.native_rows import Rows
from tests.support.tries import tries

NUMBER = Decimal("9" * 36 + ".99")
LEAST = NUMBER.copy_negate()
KINDS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=40),
    pa.binary(): st.binary(max_size=40),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.timestamp("us"): st.datetimes(),
    pa.decimal128(38, 2): st.decimals(LEAST, NUMBER, places=2),
}
LONGEST: dict[pa.DataType, Any] = {
    pa.string(): "x" * 300,
    pa.binary(): b"\xff" * 300,
    pa.bool_(): True,
    pa.date32(): date(9999, 12, 31),
    pa.int64(): -(2**63),
    pa.float64(): -0.5,
    pa.timestamp("us"): datetime(9999, 12, 31),  # noqa: DTZ001 - as columns are
    pa.decimal128(38, 2): LEAST,
}
TOP = 2**31 - 1


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Compiled once."""
    return Rows(tmp_path_factory.mktemp("rows"))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[pa.DataType], list[list[Any]]]:
    """Types, and up to 40 rows of values or nothing."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=5))
    one = st.tuples(*(st.none() | KINDS[kind] for kind in kinds)).map(list)
    return kinds, draw(st.lists(one, max_size=40))


@given(table=tables(), spare=st.integers(0, 3))
@tries(100)
def test_arrow_sees_what_was_put_in(
    rows: Rows, table: tuple[list[pa.DataType], list[list[Any]]], spare: int
) -> None:
    """Any values of any types, and nothing where there is none."""
    kinds, values = table
    page = Page(kinds, max(1, len(values) + spare))
    for value in values:
        rows.row(page, value)
    names = [str(i) for i in range(len(kinds))]
    batch = page.batch(names)
    batch.validate(full=True)
    columns = [[row[i] for row in values] for i in range(len(kinds))]
    arrays = [pa.array(c, k) for c, k in zip(columns, kinds, strict=True)]
    assert batch.equals(pa.RecordBatch.from_arrays(arrays, names=names))
    assert (page.rows, batch.schema.types) == (len(values), kinds)


@pytest.mark.parametrize("most", [1, 7, 8, 9, 63, 64, 65])
@pytest.mark.parametrize("kind", list(KINDS), ids=str)
def test_a_page_takes_its_last_row(rows: Rows, kind: pa.DataType, most: int) -> None:
    """It says that it is full, and every place of it could be used and be without."""
    some = LONGEST[kind]
    for hole in range(most):
        page = Page([kind], most)
        values = [None if i == hole else some for i in range(most)]
        room = [rows.row(page, [value]) for value in values]
        assert room == [True] * (most - 1) + [False]
        batch = page.batch(["a"])
        batch.validate(full=True)
        assert batch.column(0).to_pylist() == values
        assert batch.column(0).null_count == 1


@pytest.mark.parametrize("kind", list(KINDS), ids=str)
def test_a_page_without_a_row_is_a_table_without_a_row(kind: pa.DataType) -> None:
    """A source that sends none leaves columns that Arrow takes."""
    page = Page([kind], 5)
    batch = page.batch(["a"])
    batch.validate(full=True)
    assert (batch.num_rows, page.rows, page.bytes) == (0, 0, 0)


def test_a_column_grows_to_whatever_it_is_given(rows: Rows) -> None:
    """Far more than was thought of: many small values, a large one, none."""
    texts = ["", "一" * 5, "x" * 100_000, "", "y" * 1_000_000, "z"]
    page = Page([pa.string()], len(texts))
    for text in texts:
        rows.row(page, [text])
    assert page.batch(["a"]).column(0).to_pylist() == texts
    assert page.bytes == sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize(
    ("used", "size"),
    [
        (TOP, 1),
        (TOP - 3, 4),
        (0, TOP + 1),
        (1, TOP),
        (5, 2**64 - 1),
        (TOP, 2**64 - TOP),
    ],
)
def test_a_column_of_two_gib_is_refused(rows: Rows, used: int, size: int) -> None:
    """Arrow's offsets end there; sizes that would wrap round are no way past it."""
    page = Page([pa.string()], 4)
    assert rows.far(page, 0, used, size) == LARGE
    assert rows.put(page, 0, "still works") == OK


@pytest.mark.parametrize("most", [-(2**63), -1, 0, 2**31, 2**63 - 1])
def test_a_page_of_no_sensible_size_cannot_be_had(most: int) -> None:
    """No rows, less than none, or more than Arrow counts."""
    with pytest.raises(MemoryError):
        Page([pa.int64()], most)


def test_a_page_that_would_begin_too_large_cannot_be_had() -> None:
    """Its columns of text would be 2 GiB before the first row."""
    with pytest.raises(MemoryError):
        Page([pa.string(), pa.int64()], 2**28)


def test_a_page_without_columns_cannot_be_had() -> None:
    """A row of nothing is no row."""
    with pytest.raises(MemoryError):
        Page([], 5)


def test_columns_outlive_their_page(rows: Rows) -> None:
    """A slice of one column, kept by nobody else, holds the whole page."""
    page = Page([pa.string(), pa.int64()], 100)
    for i in range(100):
        rows.row(page, [f"value {i}", i])
    kept = page.batch(["a", "b"]).column(0).slice(90, 5)
    del page
    gc.collect()
    others = [Page([pa.string()], 100) for _ in range(20)]
    for other in others:
        for _ in range(100):
            rows.row(other, ["overwritten"])
    assert kept.to_pylist() == [f"value {i}" for i in range(90, 95)]
