# SPDX-License-Identifier: Apache-2.0
"""The statement of a lookup, and canonical key texts as values of the columns' types.

Rules

1. A key is compared in its column's own type, so that an index serves. The text goes
   to the server as a parameter of that type, and only if it is a value of the type: an
   invalid one would fail the statement and all keys beside it.
2. Where equal to the server is not equal in text (collations that ignore case, citext,
   ``1.0`` and ``1.00``), the server's text is compared, too.
3. A text column cannot be compared with the canonical text of a number or a date:
   ``007`` and ``7`` are one number. That is refused, not missed.
4. Texts that are longer than their item allows come cut, and longer than allowed still.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from connectors.contract import ColumnSpec, LookupSpec, SourceError
from connectors.postgres.catalog import Column, Table
from connectors.sql import FAMILIES, quoted

Convert = Callable[[str], str | None]
"""A canonical text as the server's, or None if the column cannot hold it."""

_LONG = 1024 * 1024
_OTHER = 4096
"""Characters of a number or date; what is longer is none."""

_RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?[0-9]{1,38}(\.[0-9]{1,38})?")
_NUMERIC = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?|NaN")
_WORD = re.compile("true|false")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9.]{2,9}Z")
_CITEXT = re.compile(r"(?:(\w+)\.)?citext")


@dataclass(frozen=True)
class Compared:
    """How a key column is compared.

    Args:
        type: SQL type of the parameter's elements.
        condition: ``{k}`` stands for the key.
        convert: see there.
    """

    type: str
    condition: str
    convert: Convert


@dataclass(frozen=True)
class Question:
    """All that is needed to ask.

    Args:
        sql: the statement; a parameter, an array, for each key column. It gives the
            server's clock in the first row, the key's number from 1, whether there is
            a row, and the columns.
        columns: of the answer.
        compared: of each key column.
        encoding: of texts.
    """

    sql: str
    columns: tuple[ColumnSpec, ...]
    compared: tuple[Compared, ...]
    encoding: str

    def parameters(
        self, keys: Sequence[tuple[str, ...]]
    ) -> tuple[list[int], list[bytes]]:
        """The numbers of those keys that a row may have, and the parameters."""
        places: list[int] = []
        columns: list[list[bytes]] = [[] for _ in self.compared]
        for i, key in enumerate(keys):
            found = self._converted(key)
            if found is not None:
                places.append(i)
                for column, value in zip(columns, found, strict=True):
                    column.append(value)
        return places, [b"{" + b",".join(column) + b"}" for column in columns]

    def _converted(self, key: tuple[str, ...]) -> list[bytes] | None:
        """A key's texts as elements of array literals."""
        found = []
        for compared, text in zip(self.compared, key, strict=True):
            value = None if "\0" in text else compared.convert(text)
            if value is None:
                return None
            value = value.replace("\\", "\\\\").replace('"', '\\"')
            try:
                found.append(f'"{value}"'.encode(self.encoding))
            except UnicodeError:
                return None
        return found


def question_of(
    table: Table,
    spec: LookupSpec,
    *,
    server_encoding: str,
    encoding: str,
    timezone: str,
) -> Question:
    """Decide how a table is asked.

    Args:
        table: has every column of the stream.
        spec: what is asked.
        server_encoding: as PostgreSQL names it.
        encoding: of a SQL_ASCII database, a codec of Python.
        timezone: of times without zone.

    Raises:
        SourceError: type: a column cannot fit its item, or not be compared.
    """
    raw = server_encoding == "SQL_ASCII"
    specs = {column.name: column for column in spec.stream.columns}
    for column in spec.stream.columns:
        _fits(table, column, FAMILIES[table.columns[column.name].family])
    compared = [_compared(table, specs[name], ZoneInfo(timezone)) for name in spec.keys]
    chosen = [
        f"{_chosen(column, table.columns[column.name], raw=raw)} as c{i}"
        for i, column in enumerate(spec.stream.columns)
    ]
    names = [f"k{i}" for i in range(len(compared))]
    arrays = [f"${i}::{c.type}[]" for i, c in enumerate(compared, 1)]
    where = [c.condition.format(k=f"k.k{i}") for i, c in enumerate(compared)]
    at = f"{quoted(table.name[0])}.{quoted(table.name[1])}"
    sql = (
        "select case when k.n = 1 then to_char(statement_timestamp() at time zone"  # noqa: S608
        " 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') end, k.n, r.*"
        f" from unnest({', '.join(arrays)}) with ordinality as k({', '.join(names)}, n)"
        f" left join lateral (select true as hit, {', '.join(chosen)} from {at} as t"
        f" where {' and '.join(where)} limit 2) as r on true"
    )
    return Question(
        sql, spec.stream.columns, tuple(compared), encoding if raw else "utf-8"
    )


def _fits(table: Table, spec: ColumnSpec, letters: frozenset[str]) -> None:
    column = table.columns[spec.name]
    if spec.type not in letters:
        raise SourceError(
            "type",
            f"{'.'.join(table.name)}.{spec.name}: expected a type that fits"
            f" {spec.type}, got {column.native}",
        )


# --- columns of the answer --------------------------------------------------------

_PLAIN = frozenset({"int2", "int4", "int8", "float4", "float8", "date"})
_PLAIN_TOO = frozenset({"timestamp", "timestamptz", "bytea", "text", "varchar"})


def _chosen(spec: ColumnSpec, column: Column, *, raw: bool) -> str:
    """SQL of a column's text as the server sends it, bounded by its item."""
    at = f"t.{quoted(spec.name)}"
    if spec.type == "G":
        return f"substr({at}, 1, {_LONG + 1})"
    if (column.base, spec.type) == ("timestamptz", "T"):
        return f"({at} at time zone 'UTC')::text || '+00'"  # no year 10000 in the east
    plain = column.base in _PLAIN | _PLAIN_TOO or (
        column.base == "bool" and spec.type == "L"
    )
    text = at if plain else f"{at}::text"
    if column.base == "bpchar":
        text = at
    if spec.type in "CM":
        return _cut(spec, column, text, raw=raw)
    if column.family == "text" or (column.base == "numeric" and not column.numeric):
        return f"case when octet_length({text}) > {_OTHER} then '?' else {text} end"
    return text


def _cut(spec: ColumnSpec, column: Column, text: str, *, raw: bool) -> str:
    """A text no longer than it takes to be too long; it is not changed otherwise."""
    most = _LONG if spec.type == "M" else spec.length or 0
    if column.family not in ("text", "other", "number") or column.numeric:
        return text
    if column.length is not None and column.length <= most:
        return text
    if column.base == "bpchar":  # a cast would strip its blanks
        text = _unstripped(text)
    if raw:  # the server counts bytes: enough of them in any encoding
        most = 2 * _LONG + 8 if spec.type == "M" else 4 * most + 4
    return f"left({text}, {most + 1})"


def _unstripped(at: str) -> str:
    return f"case when {at} is not null then concat({at}) end"


# --- comparing --------------------------------------------------------------------


def _compared(table: Table, spec: ColumnSpec, zone: ZoneInfo) -> Compared:
    column = table.columns[spec.name]
    at = f"t.{quoted(spec.name)}"
    found = _typed(column, spec, at, zone)
    if found is None and spec.type in "CM" and column.family != "bytes":
        found = _as_text(column, at)
    if found is None:
        raise SourceError(
            "type",
            f"{'.'.join(table.name)}.{spec.name}: a key of type {spec.type} cannot be"
            f" compared in a column of type {column.native}",
        )
    return found


def _typed(
    column: Column, spec: ColumnSpec, at: str, zone: ZoneInfo
) -> Compared | None:
    """In the column's own type; None if its values have other texts than the item's."""
    condition = f"{at} = {{k}}"
    match column.base, spec.type:
        case ("int2" | "int4" | "int8") as base, "I" | "N" | "Y" | "C" | "M":
            convert = _integer(_RANGES[base])
        case "numeric", "C" | "M":
            condition += f' and {at}::text collate "C" = {{k}}::text'
            convert = _matching(_NUMERIC)
        case ("numeric", "I" | "N" | "Y") | ("float4" | "float8", "N" | "Y"):
            convert = _matching(_NUMBER)
        case "bool", "L":
            convert = _matching(_WORD)
        case "uuid", _:
            convert = _matching(_UUID)
        case "date", "D":
            convert = _day
        case "timestamptz", "T":
            convert = _instant
        case "timestamp", "T":
            convert = _wall(zone)
        case _:
            return None
    return Compared(column.base, condition, convert)


def _as_text(column: Column, at: str) -> Compared:
    """As text, through an index on the column if it has text's own equality."""
    citext = _CITEXT.fullmatch(column.native)
    if column.base == "bpchar":
        sure = column.length and column.deterministic
        exact = "" if sure else f" and {_unstripped(at)} = {{k}}"
        return Compared("text", f"{at} = {{k}}::bpchar{exact}", _any)
    if column.family == "text":
        exact = "" if column.deterministic else f' and {at} collate "C" = {{k}}'
        return Compared("text", f"{at} = {{k}}{exact}", _any)
    exact = f'{at}::text collate "C" = {{k}}'
    if citext is not None and citext[1]:
        schema = quoted(citext[1])
        like = f"{at} operator({schema}.=) {{k}}::{schema}.citext"
        return Compared("text", f"{like} and {exact}", _any)
    return Compared("text", exact, _any)


def _any(text: str) -> str | None:
    return text


def _matching(form: re.Pattern[str]) -> Convert:
    return lambda text: text if form.fullmatch(text) else None


def _integer(end: int) -> Convert:
    def convert(text: str) -> str | None:
        return text if _INTEGER.fullmatch(text) and -end <= int(text) < end else None

    return convert


def _day(text: str) -> str | None:
    try:
        return date.fromisoformat(text).isoformat() if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if _INSTANT.fullmatch(text) else None
    except ValueError:
        return None


def _instant(text: str) -> str | None:
    return None if _moment(text) is None else text


def _wall(zone: ZoneInfo) -> Convert:
    """An instant as the clock on the wall showed it."""

    def convert(text: str) -> str | None:
        at = _moment(text)
        try:
            return None if at is None else at.astimezone(zone).isoformat(" ")[:26]
        except OverflowError:
            return None

    return convert
