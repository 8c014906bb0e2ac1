# SPDX-License-Identifier: Apache-2.0
"""Rows digested by the server: ``hash_record_extended`` over exact expressions.

The hash of a record is made of the hashes of its columns, 64 bits each. What a type's
own hash function leaves out would be a change that nobody sees:

* ``numeric`` leaves out the sign, and ``int8``, ``timestamp`` and ``timestamptz`` are
  folded to 32 bits first (hashfunc.c, numeric.c). They go in as the bytes that the
  server would send, and so do floats, whose -0 and NaN are several.
* ``char(n)`` leaves out blanks at the end, of which each value of a declared length has
  what its text needs, so that length is part of the tags' name; without one it goes in
  as bytes.
* Texts go in byte by byte, whatever their collation takes for equal.
* Every other type goes in as the text that is read of it.

Other servers than PostgreSQL 14 and newer have no such function. Where the server does
not know the encoding of its texts, rows are not digested by it either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import psycopg
import pyarrow as pa

from connectors.contract import StreamSpec
from connectors.postgres.catalog import Column, Table
from connectors.postgres.columns import Query, texts
from connectors.postgres.copy import Wanted
from connectors.sql import literal, quoted

SINCE_VERSION = 140000
"""The first server that has ``hash_record_extended``."""

SEED = 0x6665702D746167

TAG = "tag"
"""Name of the tag's column; those of values are ``c0, c1, …`` and ``o0, o1, …``."""

TAGGED = Wanted(TAG, pa.int64())

ASKED_KEYS = 16_384
"""Most keys that a statement names. Each further statement costs the reader memory, and
the server a look through the table where no index serves."""

_ITSELF = frozenset({"int2", "int4", "bool", "date", "uuid", "bytea"})
"""Types whose own hash distinguishes all values."""

_SENT: Mapping[str, str] = {
    "int8": "int8send",
    "numeric": "numeric_send",
    "float4": "float4send",
    "float8": "float8send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
}
"""Type -> function that gives a value's bytes."""

Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Tagging:
    """How a stream's rows are digested.

    Args:
        name: equal if tags can be compared.
        expression: SQL of the tag, of a table ``t``.
    """

    name: str
    expression: str

    @property
    def column(self) -> str:
        """As it is selected."""
        return f"{self.expression} as {TAG}"


def tagging(
    db: psycopg.Connection[Any], table: Table, stream: StreamSpec, query: Query
) -> Tagging | None:
    """How the server can digest a stream's rows; None if it cannot."""
    expression = expression_of(table, stream)
    found = Tagging("", expression)
    try:
        db.execute(f"explain {query.select('', found.column)}".encode())
        said = db.execute(
            "select version(), current_setting('server_encoding'),"
            " current_setting('TimeZone')"
        ).fetchone()
    except psycopg.Error:
        return None
    if said is None or said[1] == "SQL_ASCII":  # whose key texts go back as bytes only
        return None
    columns = [table.columns[spec.name] for spec in stream.columns]
    padded = [column.native for column in columns if column.base == "bpchar"]
    what = repr((said, query.select("", found.column), query.encoding, padded))
    return replace(found, name=hashlib.sha256(what.encode()).hexdigest()[:32])


def expression_of(table: Table, stream: StreamSpec) -> str:
    """SQL of the tag of a row of ``t``."""
    values = ", ".join(_hashed(table.columns[spec.name]) for spec in stream.columns)
    return f"hash_record_extended(row({values}), {SEED})"


def _hashed(column: Column) -> str:
    """What of a column goes in."""
    at = f"t.{quoted(column.name)}"
    if column.base in _ITSELF:
        return f"{at}::{column.base}"
    if (send := _SENT.get(column.base)) is not None:
        return f"{send}({at})"
    if column.base == "bpchar":
        if column.length is None:
            return f"bpcharsend({at})"
        return f'{at}::bpchar collate "C"'
    return f'({at})::text collate "C"'


def keys_only(query: Query) -> Query:
    """The query of a stream without what is no key; the order stays."""
    places = sorted(key.place for key in query.keys)
    keys = tuple(replace(key, place=places.index(key.place)) for key in query.keys)
    readings = tuple(query.readings[place] for place in places)
    return replace(query, readings=readings, keys=keys)


def conditions(query: Query, keys: Sequence[pa.RecordBatch]) -> Iterator[str]:
    """Conditions that together are fulfilled by the rows of some keys, by each once.

    They follow each other in the order of the rows; keys with a NULL come last.

    Args:
        query: of the stream.
        keys: in the order of the rows, a key perhaps several times in a row.
    """
    whole = (key for key in _each(query, keys) if None not in key)
    while some := list(islice(whole, ASKED_KEYS)):
        condition = _among(query, some)
        del some  # as many texts are not kept while rows are read
        yield condition
    if any(column.null_count for piece in keys for column in piece.columns):
        empty = (f"{part.expression} is null" for part in query.parts)
        yield " or ".join(empty)


def _each(query: Query, keys: Sequence[pa.RecordBatch]) -> Iterator[Key]:
    """Each key once, its values in the order of ORDER BY."""
    own = keys_only(query)
    last: Key | None = None
    for some in keys:
        columns = [texts(some.column(key.place)).to_pylist() for key in own.keys]
        for key in zip(*columns, strict=True):
            if key != last:
                yield key
            last = key


def _among(query: Query, keys: Sequence[Key]) -> str:
    arrays = [
        f"{literal(_array(values))}::{key.type}[]"
        for key, values in zip(query.keys, zip(*keys, strict=True), strict=True)
    ]
    names = ", ".join(part.expression for part in query.parts)
    if len(arrays) == 1:
        return f"{names} = any({arrays[0]})"
    return f"({names}) in (select * from unnest({', '.join(arrays)}))"  # noqa: S608


def _array(values: Sequence[str | None]) -> str:
    """An array as PostgreSQL reads it."""
    escaped = ((v or "").replace("\\", "\\\\").replace('"', '\\"') for v in values)
    return "{" + ",".join(f'"{value}"' for value in escaped) + "}"
