# SPDX-License-Identifier: Apache-2.0
"""Compare a source table with the centre's, row by row, with foreign eyes.

Both are read by the command line programs of their databases (``sqlite3``, ``psql``,
``mariadb``); nothing of this project is imported. Run as a script it prints one JSON
object::

    compare.py --centre centre.db population --column id:I:key --column name:C ... \\
        sqlite rsj.db population
    compare.py ... postgres population -- psql -h /tmp/pg -d postgres
    compare.py ... mariadb population -- mariadb -S /tmp/my/s town

A column is ``item:TYPE[:key][=source column]``. How a source value is made comparable
(written from the wire description, not from the code):

====  =====================================================================
C M   the text itself
I     the integer
N Y   decimal text without leading or trailing zeros, never ``-0``
D     the first ten characters, ``YYYY-MM-DD``
T     the naive time in ``--timezone``, as UTC ``YYYY-MM-DDTHH:MM:SS.ffffffZ``
B F   the 16 hex digits of the big-endian IEEE 754 bits (not of MariaDB)
L     0 or 1
====  =====================================================================

The object: ``source`` and ``centre`` count rows; ``equal`` keys are on both sides with
equal values, ``different`` with others; ``missing`` source rows are not at the centre
(NULL keys and second rows of a key included); ``extra`` are at the centre alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

Key = tuple[Any, ...]
Row = list[Any]


@dataclass(frozen=True)
class Column:
    """One item and the source column behind it."""

    item: str
    type: str
    key: bool
    source: str

    @classmethod
    def parse(cls, text: str) -> Column:
        """From ``item:TYPE[:key][=source column]``."""
        spec, _, source = text.partition("=")
        item, kind, *rest = spec.split(":")
        return cls(item, kind, rest == ["key"], source or item)


@dataclass
class Found:
    """What the comparison counted."""

    source: int = 0
    centre: int = 0
    equal: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0


def _lines(command: list[str]) -> Iterator[Row]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as run:
        assert run.stdout is not None
        for line in run.stdout:
            yield json.loads(line)
    if run.returncode:
        raise SystemExit(f"{command[0]} ended with {run.returncode}")


def _sqlite_value(name: str, kind: str) -> str:
    return f'hex(ieee754_to_blob("{name}"))' if kind in "BF" else f'"{name}"'


def sqlite(path: str, table: str, names: list[str], columns: list[Column]) -> list[str]:
    """Command that prints a SQLite table as JSON arrays in order of the key."""
    pairs = list(zip(names, columns, strict=True))
    values = ",".join(_sqlite_value(name, c.type) for name, c in pairs)
    order = ",".join(f'"{name}"' for name, c in pairs if c.key)
    query = f'select json_array({values}) from "{table}" order by {order}'
    return ["sqlite3", "-batch", "-readonly", path, query]


def _postgres_value(column: Column) -> str:
    name = f'"{column.source}"'
    if column.type in "BF":
        return f"upper(encode(float8send({name}),'hex'))"
    return name if column.type in "IL" else f"{name}::text"


def postgres(psql: list[str], table: str, columns: list[Column]) -> list[str]:
    """Command that prints a PostgreSQL table as JSON arrays in order of the key."""
    values = ",".join(_postgres_value(c) for c in columns)
    order = ",".join(
        f'"{c.source}"' + ("" if c.type in "INYDT" else ' collate "C"')
        for c in columns
        if c.key
    )
    query = f"select json_build_array({values}) from {table} order by {order}"
    return [*psql, "-X", "-q", "-A", "-t", "-v", "FETCH_COUNT=20000", "-c", query]


def mariadb(program: list[str], table: str, columns: list[Column]) -> list[str]:
    """Command that prints a MariaDB table as JSON arrays in order of the key."""
    if any(c.type in "BF" for c in columns):
        raise SystemExit("MariaDB does not print the bits of a float")
    values = ",".join(
        f"`{c.source}`" if c.type in "IL" else f"cast(`{c.source}` as char)"
        for c in columns
    )
    order = ",".join(
        f"`{c.source}`" if c.type in "INYDT" else f"cast(`{c.source}` as binary)"
        for c in columns
        if c.key
    )
    query = f"select json_array({values}) from {table} order by {order}"
    flags = ["-N", "-B", "-r", "--quick", "--default-character-set=utf8mb4"]
    return [*program, *flags, "-e", query]


def _decimal(value: Any) -> str:
    number = Decimal(str(value)).normalize()
    return "0" if number == 0 else f"{number:f}"


def _instant(zone: ZoneInfo) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        there = datetime.fromisoformat(value).replace(tzinfo=zone)
        return f"{there.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"

    return convert


def converters(columns: list[Column], zone: ZoneInfo) -> list[Callable[[Any], Any]]:
    """For each column: source value (never None) to what the centre should hold."""
    by_type: dict[str, Callable[[Any], Any]] = {
        "N": _decimal,
        "Y": _decimal,
        "D": lambda v: v[:10],
        "T": _instant(zone),
        "L": int,
        "I": int,
    }
    return [by_type.get(c.type, lambda v: v) for c in columns]


def _grouped(rows: Iterator[Row], at: list[int]) -> Iterator[tuple[Key, list[Row]]]:
    for key, same in groupby(rows, key=lambda row: tuple(row[i] for i in at)):
        yield key, list(same)


def compare(
    source: Iterator[Row], centre: Iterator[Row], columns: list[Column], zone: ZoneInfo
) -> Found:
    """Walk through both, which are in order of the key."""
    found = Found()
    at = [i for i, c in enumerate(columns) if c.key]
    convert = converters(columns, zone)
    there = _grouped(centre, at)
    theirs = next(there, None)
    for key, rows in _grouped(source, at):
        found.source += len(rows)
        if None in key:
            found.missing += len(rows)
            continue
        while theirs is not None and theirs[0] < key:
            _extra(found, theirs[1])
            theirs = next(there, None)
        if theirs is None or theirs[0] != key:
            found.missing += len(rows)
            continue
        _match(found, rows, theirs[1], convert)
        theirs = next(there, None)
    while theirs is not None:
        _extra(found, theirs[1])
        theirs = next(there, None)
    return found


def _extra(found: Found, rows: list[Row]) -> None:
    found.centre += len(rows)
    found.extra += len(rows)


def _match(
    found: Found, rows: list[Row], theirs: list[Row], convert: list[Callable[..., Any]]
) -> None:
    found.centre += len(theirs)
    found.extra += len(theirs) - 1
    found.missing += len(rows) - 1
    equal = any(_made(row, convert) == theirs[0] for row in rows)
    found.equal += equal
    found.different += not equal


def _made(row: Row, convert: list[Callable[..., Any]]) -> Row | None:
    try:
        return [None if v is None else f(v) for v, f in zip(row, convert, strict=True)]
    except (ValueError, ArithmeticError):
        return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--centre", nargs=2, metavar=("FILE", "TABLE"), required=True)
    parser.add_argument("--column", action="append", type=Column.parse, required=True)
    parser.add_argument("--timezone", default="Asia/Shanghai", type=ZoneInfo)
    kinds = parser.add_subparsers(dest="kind", required=True)
    lite = kinds.add_parser("sqlite")
    lite.add_argument("file")
    lite.add_argument("table")
    pg = kinds.add_parser("postgres")
    pg.add_argument("table")
    pg.add_argument("program", nargs="+")
    maria = kinds.add_parser("mariadb")
    maria.add_argument("table")
    maria.add_argument("program", nargs="+")
    return parser.parse_args()


def main() -> int:
    """Print the object; exit 0 if every centre row equals its source row."""
    args = _options()
    columns: list[Column] = args.column
    if args.kind == "sqlite":
        read = sqlite(args.file, args.table, [c.source for c in columns], columns)
    else:
        printed = {"postgres": postgres, "mariadb": mariadb}[args.kind]
        read = printed(args.program, args.table, columns)
    kept = sqlite(*args.centre, [c.item for c in columns], columns)
    found = compare(_lines(read), _lines(kept), columns, args.timezone)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")
    return 0 if found.different == found.extra == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
