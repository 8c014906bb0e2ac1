# SPDX-License-Identifier: Apache-2.0
"""Rows go into the centre's table and come out again with the same digests."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from agent.model.item import Item, ItemType
from agent.wire import arrow
from sandbox import columns
from tests.support.tries import tries

ITEMS = tuple(
    Item(name, ItemType(letter), length, scale, key=name == "k", share="1")
    for name, letter, length, scale in (
        ("k", "C", 20, None),
        ("m", "M", None, None),
        ("n", "N", 12, 2),
        ("tiny", "N", 38, 30),
        ("whole", "N", 5, 0),
        ("y", "Y", None, None),
        ("i", "I", None, None),
        ("d", "D", None, None),
        ("t", "T", None, None),
        ("l", "L", None, None),
        ("b", "B", None, None),
        ("g", "G", None, None),
    )
)
SCHEMA = pa.schema(list(arrow.schema_of(ITEMS))[1:])


def decimals(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-scale))


TEXT = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
MOMENT = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - naive
ROW = st.tuples(
    st.none() | TEXT,
    st.none() | decimals(12, 2),
    st.none() | decimals(15, 30),
    st.none() | decimals(5, 0),
    st.none() | decimals(19, 4),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.dates(date(1, 1, 1)),
    st.none() | MOMENT.map(lambda m: m.replace(tzinfo=UTC)),
    st.none() | st.booleans(),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.binary(max_size=20),
)


def record(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    listed = list(zip(*rows, strict=True)) if rows else [()] * len(ITEMS)
    arrays = [pa.array(v, f.type) for v, f in zip(listed, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@tries(60)
@given(st.dictionaries(TEXT, ROW, max_size=5))
def test_table_gives_back_what_was_put_in(
    rows: dict[str, tuple[Any, ...]],
) -> None:
    """The digest of the rows read back is that of the rows as sent."""
    sent = record([(key, *row) for key, row in rows.items()])
    database = sqlite3.connect(":memory:")
    database.execute(columns.table_sql("a_b", ITEMS))
    database.executemany(columns.insert_sql("a_b", ITEMS), columns.rows_of(sent, ITEMS))
    names = columns.names(ITEMS)
    kept = database.execute(f'select {names} from "a_b"').fetchall()
    back = columns.batch_of(kept, ITEMS)
    database.close()
    assert len(kept) == len(rows)
    assert arrow.row_digest_sum(back, ITEMS) == arrow.row_digest_sum(sent, ITEMS)


def test_names_are_quoted() -> None:
    """A name is a name, whatever it holds."""
    assert columns.quoted('a"b') == '"a""b"'


def test_delete_names_the_whole_key() -> None:
    """Every key item, nothing else."""
    items = [
        Item(n, ItemType.C, 5, None, key=n != "v", share="1") for n in ("a", "b", "v")
    ]
    sql = columns.delete_sql("t", items)
    assert sql == 'delete from "t" where "a" = ? and "b" = ?'
