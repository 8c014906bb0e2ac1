# SPDX-License-Identifier: Apache-2.0
"""The centre's tables: columns by item type, and rows between Arrow and SQLite.

N, Y, D and T stand as their canonical text, L as 0 or 1, the rest as SQLite has it.
Text compares by bytes, so keys are equal iff their canonical bytes are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.crypto.frames import number_text
from agent.model.item import Item
from agent.wire.arrow import schema_of, type_of

_STEP = 8192
"""Rows that are Python objects at once."""

_SQL: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys("CMNYDT", "text"),
        **dict.fromkeys("IL", "integer"),
        **dict.fromkeys("BF", "real"),
        "G": "blob",
    }
)


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def names(items: Iterable[Item]) -> str:
    """Columns, separated by commas."""
    return ", ".join(quoted(item.name) for item in items)


def keys(items: Iterable[Item]) -> list[Item]:
    """The key items."""
    return [item for item in items if item.key]


def table_sql(table: str, items: Sequence[Item]) -> str:
    """``CREATE TABLE`` of a resource, or of its key alone."""
    columns = [
        f"{quoted(i.name)} {_SQL[i.type]}{' not null' if i.key else ''}" for i in items
    ]
    return (
        f"create table {quoted(table)} ({', '.join(columns)},"
        f" primary key ({names(keys(items))})) without rowid"
    )


def column_sql(item: Item) -> str:
    """A column to append."""
    return f"{quoted(item.name)} {_SQL[item.type]}"


def insert_sql(table: str, items: Sequence[Item]) -> str:
    """One row in, over the one with its key."""
    marks = ", ".join("?" * len(items))
    return (
        f"insert or replace into {quoted(table)} ({names(items)})"  # noqa: S608 - quoted
        f" values ({marks})"
    )


def delete_sql(table: str, items: Sequence[Item]) -> str:
    """The row of a key out."""
    same = " and ".join(f"{quoted(i.name)} = ?" for i in keys(items))
    return f"delete from {quoted(table)} where {same}"  # noqa: S608 - quoted


def same_key(left: str, right: str, items: Sequence[Item]) -> str:
    """Whether two tables' rows have one key, as SQL."""
    return " and ".join(
        f"{quoted(left)}.{quoted(i.name)} = {quoted(right)}.{quoted(i.name)}"
        for i in keys(items)
    )


def rows_of(batch: pa.RecordBatch, items: Sequence[Item]) -> Iterator[tuple[Any, ...]]:
    """Values as SQLite stores them, row by row."""
    for start in range(0, batch.num_rows, _STEP):
        part = batch.slice(start, _STEP)
        yield from zip(*(_out(part.column(i.name), i.type) for i in items), strict=True)


def _out(column: Any, letter: str) -> list[Any]:
    if letter in "NY":
        column = _number(column)
    elif letter == "D":
        column = pc.cast(column, pa.string())
    elif letter == "T":
        column = _instant(column)
    values: list[Any] = column.to_pylist()
    return values


def _instant(column: Any) -> Any:
    """Canonical text; Arrow writes a blank for the T, and is fast without a zone."""
    text = pc.cast(pc.cast(column, pa.timestamp("us")), pa.string())
    marked = pc.binary_replace_slice(text.view(pa.binary()), 10, 11, b"T")
    return pc.binary_join_element_wise(marked, b"Z", b"").view(pa.string())


def _number(column: Any) -> Any:
    scale = column.type.scale
    if scale > 6:  # Arrow would write small numbers with an exponent
        values = (None if v is None else number_text(v) for v in column.to_pylist())
        return pa.array(list(values), pa.string())
    text = pc.cast(column, pa.string())
    return pc.utf8_rtrim(pc.utf8_rtrim(text, "0"), ".") if scale else text


def batch_of(rows: Sequence[tuple[Any, ...]], items: Sequence[Item]) -> pa.RecordBatch:
    """Rows of the centre's table in the Arrow types of their items."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(items)
    arrays = [_in(values, item) for values, item in zip(columns, items, strict=True)]
    fields = list(schema_of(items))[1:]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _in(values: Sequence[Any], item: Item) -> Any:
    kind = type_of(item)
    if item.type in "NY":
        exact = [None if v is None else Decimal(v) for v in values]
        return pa.array(exact, kind)
    if item.type in "DT":
        return pc.cast(pa.array(values, pa.string()), kind)
    if item.type == "L":
        return pc.cast(pa.array(values, pa.int8()), kind)
    return pa.array(values, kind)
