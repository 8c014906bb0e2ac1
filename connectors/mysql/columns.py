# SPDX-License-Identifier: Apache-2.0
"""How each column is read so that no value changes, and in which order rows come.

Every value is sent as the server's text. Where the item has a type of its own, it is
parsed while it is received (``wire.py``), or by Arrow if it is a ``double``. A page in
which a text is not exactly such a value keeps that column as text: zero dates, unsigned
numbers above 2^63, decimals of more digits than the item has. What the text protocol
itself would change is asked for differently:

* ``float`` is printed with six digits, so ``+ 0e0`` asks for the double that it is;
* ``bit`` comes as raw bytes, so it is asked for as a number, or as its digits;
* texts in a character set of East Asia come as their bytes and are decoded here, since
  the server writes ``?`` for what it cannot map; those in another character set with
  holes come with a byte FF, which UTF-8 never holds, and their bytes where they lie in
  one;
* ``timestamp`` is an instant: the session's zone is UTC, and as text it ends in
  ``+00:00``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import ColumnSpec, SourceError, StreamSpec
from connectors.mysql.catalog import Column, Table, quoted
from connectors.mysql.wire import Form, parses
from connectors.sql import FAMILIES, Key, KeyPart, KeyValue, decoded, literal

FITS: Mapping[str, frozenset[str]] = {**FAMILIES, "bit": frozenset("ILNCM")}
"""Family of a column's type -> item types that it may be bound to."""

RAW_CHARSETS: Mapping[str, str] = {
    "gbk": "gb18030",
    "gb2312": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "eucjpms": "euc_jp",
    "ujis": "euc_jp",
    "sjis": "cp932",
    "cp932": "cp932",
    "euckr": "euc_kr",
    "ascii": "ascii",
}
"""Character set of a column -> Python's codec for its bytes."""

_WHOLE = frozenset({"utf8mb4", "utf8mb3", "utf8", "ucs2", "utf16", "utf16le", "utf32"})
_WHOLE |= {"latin1", "latin2", "latin5", "latin7", "koi8r", "koi8u", "cp850", "cp852"}
_WHOLE |= {"cp866", "keybcs2", "macce", "macroman"}
"""Character sets of which the server maps all bytes that may stand in a column."""

_DIRECT = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii", "latin1"})
"""Character sets in which a text compares alike as a literal in utf8mb4."""

_SHAPES = frozenset({"geometry", "point", "linestring", "polygon", "multipoint"}) | {
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
}

_PLAIN = frozenset({"integer", "number", "date", "time"})
"""Families whose values are equal exactly if their texts are."""


@dataclass(frozen=True)
class Reading:
    """How one column is read.

    Args:
        name: of the column.
        value: SQL of the value.
        target: Arrow type to parse the texts to; None if they stay texts.
        encoding: codec of its bytes; None if the column gives bytes.
        suffix: to be put behind each text: the zone of an instant.
    """

    name: str
    value: str
    target: pa.DataType | None = None
    encoding: str | None = "utf-8"
    suffix: str = ""

    @property
    def path(self) -> str:
        """``native`` or ``text``, as ``Caps`` has it."""
        return "text" if self.target is None else "native"

    @property
    def received(self) -> pa.DataType:
        """What the texts are made while they are received: parsed, or left as bytes."""
        if self.target is None or not parses(self.target):
            return pa.binary()
        return self.target

    def finished(self, raw: pa.Array[Any]) -> pa.Array[Any]:
        """The column of a page from what was received."""
        if self.encoding is None or not pa.types.is_binary(raw.type):
            return raw
        texts = decoded(raw, self.encoding)
        if not pa.types.is_string(texts.type):
            return texts
        if self.suffix:
            join: Any = pc.binary_join_element_wise
            texts = join(texts, self.suffix, "")
        if self.target == pa.float64():
            with suppress(pa.ArrowInvalid):
                return texts.cast(self.target)
        return texts


@dataclass(frozen=True)
class KeyColumn:
    """A key column in the order of the rows.

    Args:
        place: of the column in the stream.
        part: what is ordered and compared.
        written: how a value is compared: ``number``, ``text``, ``ascii`` or ``bytes``.
    """

    place: int
    part: KeyPart
    written: str


@dataclass(frozen=True)
class Query:
    """All that is needed to read a stream.

    Args:
        table: it, quoted and qualified.
        readings: one a column, in the stream's order.
        keys: in the order of ORDER BY.
        width: bytes of a row on disk, or None.
        rows: estimate, or None.
        snapshot: the table is read in the transaction's snapshot.
    """

    table: str
    readings: tuple[Reading, ...]
    keys: tuple[KeyColumn, ...]
    width: float | None
    rows: int | None
    snapshot: bool

    @property
    def form(self) -> Form:
        """What is received: of a key that is parsed, the text as well."""
        types = tuple(reading.received for reading in self.readings)
        also = (
            key.place for key in self.keys if not pa.types.is_binary(types[key.place])
        )
        return Form(types, tuple(also))

    @property
    def parts(self) -> tuple[KeyPart, ...]:
        """The key columns in ORDER BY."""
        return tuple(key.part for key in self.keys)

    def select(self, *conditions: str) -> str:
        """The statement, for rows that fulfil all conditions."""
        columns = ", ".join(reading.value for reading in self.readings)
        given = " and ".join(f"({c})" for c in conditions if c)
        order = ", ".join(part.expression for part in self.parts)
        where = f" where {given}" if given else ""
        return f"select {columns} from {self.table} as t{where} order by {order}"  # noqa: S608

    def literal(self, i: int, value: KeyValue) -> str:
        """A value of the i-th key column as SQL."""
        written = self.keys[i].written
        if written == "ascii":
            return literal(_ascii(value))
        text = value if isinstance(value, bytes) else str(value).encode()
        if written == "bytes" or isinstance(value, bytes):
            return f"x'{text.hex()}'"
        if written == "number" and _is_number(str(value)):
            return str(value)
        return literal(str(value))

    def rows_of(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        """A page as it was received as the contract wants it."""
        arrays = [r.finished(raw.column(i)) for i, r in enumerate(self.readings)]
        return pa.RecordBatch.from_arrays(arrays, names=[r.name for r in self.readings])

    def key_at(self, raw: pa.RecordBatch, i: int) -> Key:
        """The key of row i in the order of ORDER BY, as the protocol has it."""
        also, width = self.form.also, len(self.readings)
        places = [
            width + also.index(key.place) if key.place in also else key.place
            for key in self.keys
        ]
        return tuple(_key_value(raw.column(place)[i].as_py()) for place in places)


def _key_value(value: bytes | None) -> KeyValue:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _ascii(value: KeyValue) -> str:
    """The text of a key in a column declared ascii.

    Raises:
        SourceError: text: it is none, so that nothing in the column's order equals it.
    """
    if isinstance(value, bytes) or not str(value).isascii():
        raise SourceError("text", "a key holds other bytes than its column's ascii")
    return str(value)


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


def query_of(table: Table, stream: StreamSpec, encoding: str | None) -> Query:
    """Decide how a stream is read.

    Args:
        table: has every column of the stream.
        stream: what is bound.
        encoding: what columns declared latin1 really hold, or None.

    Raises:
        SourceError: type: a column cannot fit its item, or no column is a key.
    """
    name = ".".join(table.name)
    for spec in stream.columns:
        column = table.columns[spec.name]
        if spec.type not in FITS[column.family]:
            raise SourceError(
                "type",
                f"{name}.{spec.name}: expected a type that fits {spec.type},"
                f" got {column.native}",
            )
    readings = tuple(
        reading_of(spec, table.columns[spec.name], encoding) for spec in stream.columns
    )
    keys = [i for i, c in enumerate(stream.columns) if c.key]
    if not keys:
        raise SourceError("type", f"{name}: no key column is bound")
    names = {stream.columns[i].name for i in keys}
    alone = next((u for u in table.unique if set(u) == names), None)
    if alone is not None:
        keys.sort(key=lambda i: alone.index(stream.columns[i].name))
    return Query(
        table.quoted,
        readings,
        tuple(
            _key(table.columns[stream.columns[i].name], i, readings[i], alone)
            for i in keys
        ),
        table.width,
        table.rows,
        table.transactional,
    )


def reading_of(spec: ColumnSpec, column: Column, encoding: str | None) -> Reading:
    """How a column is read for its item."""
    at = f"t.{quoted(spec.name)}"
    if column.family == "bytes":
        return Reading(spec.name, at, pa.binary(), encoding=None)
    if column.family == "text":
        return _text(spec, column, at, encoding)
    if column.family == "bit":
        return _bits(spec, column, at)
    if column.family == "time":
        return _time(spec, column, at)
    value = f"st_astext({at})" if column.base in _SHAPES else at
    if column.base == "float":
        value = f"({at} + 0e0)"
    target = _parsed(spec, _PARSED.get(column.family, ""))
    return Reading(spec.name, value, target)


_PARSED: Mapping[str, str] = {
    "integer": "INYL",
    "number": "NY",
    "float": "BF",
    "date": "D",
}
"""Family -> item types that its texts are parsed to."""


_NATIVE: Mapping[str, pa.DataType] = {
    "I": pa.int64(),
    "L": pa.bool_(),
    "B": pa.float64(),
    "F": pa.float64(),
    "D": pa.date32(),
}


def _parsed(spec: ColumnSpec, allowed: str) -> pa.DataType | None:
    """The item's own type, or None if the column's texts are not parsed."""
    if spec.type not in allowed:
        return None
    if spec.type not in "NY":
        return _NATIVE[spec.type]
    if spec.type == "Y":
        return pa.decimal128(19, 4)
    return pa.decimal128(spec.length or 38, spec.scale or 0)


def _bits(spec: ColumnSpec, column: Column, at: str) -> Reading:
    if spec.type in "CM":
        width = column.size[0] if column.size else 1
        return Reading(spec.name, f"lpad(bin({at} + 0), {width}, '0')")
    return Reading(spec.name, f"({at} + 0)", _parsed(spec, "INL"))


def _text(spec: ColumnSpec, column: Column, at: str, encoding: str | None) -> Reading:
    target = pa.string() if spec.type in "CM" else None
    codec = RAW_CHARSETS.get(column.charset or "")
    if column.charset == "latin1" and encoding is not None:
        codec = encoding
    if codec is not None:
        return Reading(spec.name, f"cast({at} as binary)", target, encoding=codec)
    value = at if column.charset in _WHOLE else _sound(at, str(column.charset))
    return Reading(spec.name, value, target)


def _sound(at: str, charset: str) -> str:
    """A text in UTF-8, or FF and its bytes where the server would write ``?``."""
    text, raw = f"convert({at} using utf8mb4)", f"cast({at} as binary)"
    same = f"cast(convert({text} using {charset}) as binary) = {raw}"
    known = f"locate(x'efbfbd', cast({text} as binary)) = 0"  # no U+FFFD
    return f"if({same} and {known}, cast({text} as binary), concat(x'ff', {raw}))"


def _time(spec: ColumnSpec, column: Column, at: str) -> Reading:
    """Instants of ``timestamp`` in UTC, wall-clock times of ``datetime``."""
    zone = "UTC" if column.base == "timestamp" else None
    suffix = "+00:00" if zone else ""
    target = None
    if spec.type == "T":
        target = pa.timestamp("us", zone) if zone else pa.timestamp("us")
    return Reading(spec.name, at, target, suffix=suffix)


def _key(
    column: Column, place: int, reading: Reading, alone: tuple[str, ...] | None
) -> KeyColumn:
    """The column in its own order if equal there is equal in text, else by bytes."""
    at = f"t.{quoted(column.name)}"
    if column.family in ("integer", "number"):
        return KeyColumn(place, KeyPart(at, column.nullable), "number")
    if column.family in _PLAIN and reading.value == at:
        return KeyColumn(place, KeyPart(at, column.nullable), "text")
    plain = reading.value == at or column.charset == "ascii"
    direct = column.charset in _DIRECT and plain
    direct = direct and column.family == "text" and column.base not in ("enum", "set")
    if alone is not None and direct:
        written = "ascii" if column.charset == "ascii" else "text"
        return KeyColumn(place, KeyPart(at, column.nullable), written)
    value = reading.value
    if reading.encoding == "utf-8" and plain:
        value = f"cast(convert({value} using utf8mb4) as binary)"
    return KeyColumn(place, KeyPart(value, column.nullable), "bytes")
