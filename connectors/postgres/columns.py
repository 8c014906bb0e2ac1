# SPDX-License-Identifier: Apache-2.0
"""How each column is read so that no value changes, and in which order rows come.

The row reader is exact for whole numbers, booleans, ``float8``, texts and bytes, for
dates and times of the years 1 to 9999, and for finite ``numeric(p,s)``. Every other
value is strange to it, and it says so (``copy.py``).

* A read that can begin anew at any key asks for the values alone. At the first strange
  one it goes on with the statement that any other read begins with: there, what a
  column holds beyond its range comes once more in a second column, nearly always NULL,
  as the server's text; a page that has any is text (ADR 0011).
* Every other type comes as the server's text.
* Where the server does not know the encoding of its texts they come as bytes.

Each value has the type that the catalogue told, by a cast or because the statement was
held and looked at: a column that has another one since then ends the read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import ColumnSpec, SourceError, StreamSpec
from connectors.postgres.catalog import Column, Index, Table
from connectors.postgres.copy import Wanted
from connectors.sql import (
    FAMILIES,
    Key,
    KeyPart,
    KeyValue,
    decoded,
    encoded,
    literal,
    quoted,
)

C_COLLATION = 950
"""Oid of the collation "C" (pg_collation.dat)."""

_NATIVE: Mapping[tuple[str, str], pa.DataType] = {
    ("int2", "I"): pa.int64(),
    ("int4", "I"): pa.int64(),
    ("int8", "I"): pa.int64(),
    ("bool", "L"): pa.bool_(),
    ("float8", "B"): pa.float64(),
    ("float8", "F"): pa.float64(),
    ("bytea", "G"): pa.binary(),
}
"""(base type, item type) -> Arrow type, where the reader is exact for every value."""

_RANGES: Mapping[str, tuple[str, str]] = {
    "date": ("0001-01-01", "9999-12-31"),
    "timestamp": ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    "timestamptz": ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
}
"""Base type -> first and last value that the Arrow profile has."""

_OIDS: Mapping[str, int] = {
    "bool": 16,
    "bytea": 17,
    "int8": 20,
    "int2": 21,
    "int4": 23,
    "text": 25,
    "float8": 701,
    "bpchar": 1042,
    "varchar": 1043,
    "date": 1082,
    "timestamp": 1114,
    "timestamptz": 1184,
    "numeric": 1700,
}
"""Base type -> its oid, the same in every server (pg_type.dat)."""

_PLAIN = frozenset({"int2", "int4", "int8", "date", "timestamp", "timestamptz", "uuid"})
"""Types whose values are equal exactly if their texts are."""


@dataclass(frozen=True)
class Reading:
    """How one column is read.

    Args:
        name: of the column.
        value: SQL of the value.
        odd: SQL of the server's text where ``value`` is strange and NULL elsewhere;
            None if no value can be, or nobody asks for it.
        target: Arrow type of the native values, or None for text.
        raw: ``value`` gives the bytes of a text.
        bare: SQL of the column itself, and the oid of the type with which it gives
            what ``value`` gives; None if it may give something else.
        oid: of the type that ``value`` must have; None if it has it by a cast.
    """

    name: str
    value: str
    odd: str | None = None
    target: pa.DataType | None = None
    raw: bool = False
    bare: tuple[str, int] | None = None
    oid: int | None = None

    @property
    def quick(self) -> Reading:
        """The same without texts of strange values, and without a cast."""
        if self.bare is None:
            return replace(self, odd=None)
        value, oid = self.bare
        return replace(self, odd=None, value=value, oid=oid)

    @property
    def path(self) -> str:
        """``native`` or ``text``, as ``Caps`` has it."""
        return "text" if self.target is None else "native"

    @property
    def type(self) -> pa.DataType:
        """In which values come from the row reader."""
        return pa.binary() if self.raw else self.target or pa.string()


@dataclass(frozen=True)
class KeyColumn:
    """A key column in the order of the rows.

    Args:
        place: of the column in the stream.
        part: what is ordered and compared.
        type: SQL type that a compared literal is cast to.
    """

    place: int
    part: KeyPart
    type: str


@dataclass(frozen=True)
class Query:
    """All that is needed to read a stream.

    Args:
        table: it, quoted and qualified.
        readings: one a column, in the stream's order.
        keys: in the order of ORDER BY.
        indexed: an index gives this order.
        encoding: of texts that come as bytes.
        rows: estimate, or None.
    """

    table: str
    readings: tuple[Reading, ...]
    keys: tuple[KeyColumn, ...]
    indexed: bool
    encoding: str
    rows: int | None

    @property
    def parts(self) -> tuple[KeyPart, ...]:
        """The key columns in ORDER BY."""
        return tuple(key.part for key in self.keys)

    @property
    def quick(self) -> Query:
        """The same without texts of strange values, and without casts.

        A server that is asked for columns as they stand need not make new rows of them:
        a twelfth of its CPU. Whoever asks looks whether its types :meth:`fits`.
        """
        readings = tuple(reading.quick for reading in self.readings)
        return replace(self, readings=readings)

    def wanted(self, *more: Wanted) -> list[Wanted]:
        """The columns of :meth:`select`.

        Args:
            more: the further ones.
        """
        columns = list(more)
        for i, reading in enumerate(self.readings):
            columns.append(Wanted(f"c{i}", reading.type))
            if reading.odd is not None:
                columns.append(Wanted(f"o{i}", pa.string(), instead=True))
        return columns

    def select(self, where: str, *more: str) -> str:
        """The statement; values are ``c0, c1, …``, odd ones ``o<number>``.

        Args:
            where: the clause, or ``""``.
            more: SQL of further columns, with their names.
        """
        columns = list(more)
        for i, reading in enumerate(self.readings):
            columns.append(f"{reading.value} as c{i}")
            if reading.odd is not None:
                columns.append(f"{reading.odd} as o{i}")
        order = ", ".join(part.expression for part in self.parts)
        return (
            f"select {', '.join(columns)} from {self.table} as t"  # noqa: S608
            f"{where} order by {order}"
        )

    def fits(self, types: Iterable[int]) -> bool:
        """Whether the columns of the statement have the types that they are read as.

        Args:
            types: their oids.
        """
        pairs = zip(self.readings, types, strict=True)
        return all(reading.oid in (None, oid) for reading, oid in pairs)

    def literal(self, i: int, value: KeyValue) -> str:
        """A value of the i-th key column as SQL."""
        if isinstance(value, str):  # a token of an older version has no bytes
            value = self._stored(i, value)
        if isinstance(value, bytes):
            escaped = "".join(f"\\x{byte:02x}" for byte in value)
            return f"E'{escaped}'::{self.keys[i].type}"
        return f"{literal(str(value))}::{self.keys[i].type}"

    def rows_of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of the reader as the contract wants it."""
        arrays = []
        for i, reading in enumerate(self.readings):
            odd = None if reading.odd is None else batch.column(f"o{i}")
            arrays.append(_finished(reading, batch.column(f"c{i}"), odd, self.encoding))
        return pa.RecordBatch.from_arrays(arrays, names=[r.name for r in self.readings])

    def key_at(self, rows: pa.RecordBatch, i: int) -> Key:
        """The key of row i in the order of ORDER BY."""
        values = (_key_value(rows.column(key.place), i) for key in self.keys)
        return tuple(self._stored(k, value) for k, value in enumerate(values))

    def _stored(self, i: int, value: KeyValue) -> KeyValue:
        """A value of the i-th key column as the server has it.

        Where texts have another encoding than UTF-8 that the server does not know, they
        stand there as bytes. Else a text is one whatever stands beside it in its page.
        """
        if self.readings[self.keys[i].place].raw and self.encoding != "utf-8":
            return encoded(value, self.encoding)
        if isinstance(value, bytes):
            with suppress(UnicodeDecodeError):
                return value.decode()
        return value


def _finished(
    reading: Reading, value: pa.Array[Any], odd: pa.Array[Any] | None, encoding: str
) -> Any:
    if reading.raw:
        return decoded(value, encoding)
    if odd is not None and odd.null_count < len(odd):
        safe = pc.if_else(pc.is_valid(odd), pa.scalar(None, value.type), value)
        return pc.coalesce(odd, texts(safe))
    return value


def texts(values: pa.Array[Any]) -> pa.Array[Any]:
    """Values as the server reads them; native decimals without all of their zeros."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_decimal(values.type):  # Arrow would print 1E-7
        plain = [None if v is None else format(v, "f") for v in values.to_pylist()]
        return pa.array(plain, pa.string())
    return values.cast(pa.string())


def _key_value(column: pa.Array[Any], i: int) -> KeyValue:
    """A value as text (or bytes), the same whether its page is native or text."""
    one = column.slice(i, 1)
    if not pa.types.is_binary(one.type):
        one = texts(one)
    value = one[0].as_py()
    return value if value is None or isinstance(value, bytes) else str(value)


def query_of(
    table: Table, stream: StreamSpec, *, server_encoding: str, encoding: str
) -> Query:
    """Decide how a stream is read.

    Args:
        table: has every column of the stream.
        stream: what is bound.
        server_encoding: as PostgreSQL names it.
        encoding: of a SQL_ASCII database, a codec of Python.

    Raises:
        SourceError: type: a column cannot fit its item, or no column is a key.
    """
    name = ".".join(table.name)
    for spec in stream.columns:
        column = table.columns[spec.name]
        if spec.type not in FAMILIES[column.family]:
            raise SourceError(
                "type",
                f"{name}.{spec.name}: expected a type that fits {spec.type},"
                f" got {column.native}",
            )
    raw = server_encoding == "SQL_ASCII"
    readings = tuple(
        reading_of(spec, table.columns[spec.name], raw=raw) for spec in stream.columns
    )
    keys, indexed = _order(table, stream)
    if not keys:
        raise SourceError("type", f"{name}: no key column is bound")
    qualified = f"{quoted(table.name[0])}.{quoted(table.name[1])}"
    return Query(
        qualified,
        readings,
        keys,
        indexed,
        encoding if raw else "utf-8",
        table.rows,
    )


def reading_of(spec: ColumnSpec, column: Column, *, raw: bool) -> Reading:
    """How a column is read for its item.

    Args:
        spec: the item.
        column: the column.
        raw: texts must come as bytes, for the server does not know their encoding.
    """
    at = f"t.{quoted(spec.name)}"
    if raw:
        return _raw(spec, column, at)
    target = pa.string() if spec.type in "CM" else None
    if column.family == "text":  # char(n) with its blanks, which ::text would strip
        same = "bpchar" if column.base == "bpchar" else "varchar"
        bare = _bare(column, at)
        return Reading(spec.name, f"{at}::{same}", target=target, bare=bare)
    return _native(spec, column, at) or Reading(spec.name, f"{at}::text")


def _raw(spec: ColumnSpec, column: Column, at: str) -> Reading:
    """Reading in a database without encoding: texts are not converted on the way."""
    native = _native(spec, column, at)
    if native is not None:
        return native
    text = _unstripped(at) if column.base == "bpchar" else f"{at}::text"
    text_item = column.family == "text" and spec.type in "CM"
    target = pa.string() if text_item else None
    value = f"convert_to({text}, 'SQL_ASCII')"
    return Reading(spec.name, value, raw=True, target=target)


def _unstripped(at: str) -> str:
    """``char(n)`` as text with its blanks, which a cast would strip."""
    return f"case when {at} is not null then concat({at}) end"


def _native(spec: ColumnSpec, column: Column, at: str) -> Reading | None:
    """Reading in the item's own type; None if it is not exact or not the item's."""
    target = _NATIVE.get((column.base, spec.type))
    if target is not None:
        bare = _bare(column, at)
        return Reading(spec.name, f"{at}::{column.base}", target=target, bare=bare)
    match column.base, spec.type:
        case "date", "D":
            return _ranged(spec.name, column, at, pa.date32())
        case "timestamp", "T":
            return _ranged(spec.name, column, at, pa.timestamp("us"))
        case "timestamptz", "T":
            return _ranged(spec.name, column, at, pa.timestamp("us", "UTC"))
        case "numeric", "N" | "Y":
            return _decimal(spec, column, at)
        case _:
            return None


def _bare(column: Column, at: str) -> tuple[str, int] | None:
    oid = _OIDS.get(column.base)
    return None if oid is None else (at, oid)


def _ranged(name: str, column: Column, at: str, target: pa.DataType) -> Reading:
    base = column.base
    first, last = (f"{literal(v)}::{base}" for v in _RANGES[base])
    odd = f"case when {at} not between {first} and {last} then {at}::text end"
    return Reading(name, f"{at}::{base}", odd, target, bare=_bare(column, at))


def _decimal(spec: ColumnSpec, column: Column, at: str) -> Reading | None:
    """``numeric(p,s)`` if every value of it fits the item; only NaN is odd."""
    wanted = (19, 4) if spec.type == "Y" else (spec.length or 38, spec.scale or 0)
    if column.numeric is None:
        return None
    precision, scale = column.numeric
    fits = wanted[1] >= scale and wanted[0] - wanted[1] >= precision - scale
    if not (0 <= scale <= precision <= 38 and fits):
        return None
    odd = f"case when {at} = 'NaN'::numeric then 'NaN'::text end"
    target, bare = pa.decimal128(*wanted), _bare(column, at)
    return Reading(spec.name, f"{at}::numeric", odd, target, bare=bare)


def _order(table: Table, stream: StreamSpec) -> tuple[tuple[KeyColumn, ...], bool]:
    """The key columns as an index orders them; else as they stand, in byte order."""
    specs = {c.name: (i, c) for i, c in enumerate(stream.columns) if c.key}
    numbers = {table.columns[name].number: name for name in specs}
    for index in table.indexes:
        head = index.columns[: len(numbers)]
        if set(head) == set(numbers) and _same_way(index, len(head)):
            named = [(numbers[n], index.collations[i]) for i, n in enumerate(head)]
            keys = [_by_index(table, *specs[n], collation) for n, collation in named]
            if None not in keys:
                return tuple(k for k in keys if k is not None), True
    return tuple(_by_bytes(table, place, spec) for place, spec in specs.values()), False


def _same_way(index: Index, width: int) -> bool:
    """The index runs ascending, NULLs last, forwards or backwards."""
    options = set(index.options[:width])
    return index.plain and options in ({0}, {3})


def _by_index(
    table: Table, place: int, spec: ColumnSpec, collation: int
) -> KeyColumn | None:
    """The column in an index's order; None if equal there is not equal in text."""
    column = table.columns[spec.name]
    at = f"t.{quoted(spec.name)}"
    if _groups_as_text(column, spec):
        return KeyColumn(place, KeyPart(at, column.nullable), _cast(column))
    if column.family == "text" and (column.base != "bpchar" or column.length):
        if collation == column.collation and column.deterministic:
            return KeyColumn(place, KeyPart(at, column.nullable), _cast(column))
        if collation == C_COLLATION:
            part = KeyPart(f'{at} collate "C"', column.nullable)
            return KeyColumn(place, part, _cast(column))
    return None


def _by_bytes(table: Table, place: int, spec: ColumnSpec) -> KeyColumn:
    """The column in its own order if equal there is equal in text, else as text."""
    column = table.columns[spec.name]
    at = f"t.{quoted(spec.name)}"
    if _groups_as_text(column, spec):
        return KeyColumn(place, KeyPart(at, column.nullable), _cast(column))
    if column.base == "bpchar":
        at = _unstripped(at)
    text = f'({at})::text collate "C"'
    return KeyColumn(place, KeyPart(text, column.nullable), "text")


def _groups_as_text(column: Column, spec: ColumnSpec) -> bool:
    """Values are equal to the server exactly if their canonical texts are."""
    if column.base == "numeric":
        return spec.type in "NYI" or column.numeric is not None
    return column.base in _PLAIN


def _cast(column: Column) -> str:
    return "text" if column.base in ("text", "varchar") else column.base
