# SPDX-License-Identifier: Apache-2.0
"""Rows of SQLite as columns, without a Python object for each value (docs/adr/0012).

SQLite's values have types of their own, one by one; the driver here gives each column
one type, that of its first rows, and would print a float with 15 digits where the
column is a text. So

1. it is only asked where the file can be read in order without sorting, and a column
   that might give it a float among texts is asked for such that a float cannot pass;
2. what it gives is taken where that is exact, see :func:`exact`; whatever else comes
   ends the reading by :class:`Unfit` before a row of that page is given, and the page
   is read value by value instead;
3. its connection reads the very snapshot of the session's own, see :func:`beside`.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_sqlite import dbapi

from connectors.contract import ColumnSpec, StreamSpec
from connectors.sql import PAGE_BYTES, decoded
from connectors.sqlite.file import BUSY_S, Column, name_of

if TYPE_CHECKING:
    Array = pa.Array[Any]

BLOCK_ROWS = 4096
"""Most rows that the driver makes at once: their size is known only afterwards."""

_BLOCKS = 8
"""A page is this many blocks, if all rows are as wide as the first."""

_TRIES = 5
_EXACT = 2**53
"""Whole numbers below are floats, and no two of them the same."""

_DIGITS = 10**15
"""Decimals with fewer digits are told apart by their floats."""

_SCALE = 15
"""Most decimals; 10**15 is a float."""

_ROWS = "adbc.sqlite.query.batch_rows"

Check = Callable[[], None]


class Unfit(Exception):
    """What comes next has to be read value by value."""


def affinity(declared: str) -> str:
    """``integer``, ``text``, ``blob``, ``real`` or ``numeric``.

    Source: SQLite, "Determination Of Column Affinity" (datatype3.html 3.1).
    """
    name = declared.upper()
    if "INT" in name:
        return "integer"
    if re.search("CHAR|CLOB|TEXT", name):
        return "text"
    if "BLOB" in name or not name:
        return "blob"
    return "real" if re.search("REAL|FLOA|DOUB", name) else "numeric"


@dataclass(frozen=True)
class Way:
    """How one column is asked for.

    Args:
        spec: of the stream.
        held: no value of the column can be a number.
    """

    spec: ColumnSpec
    held: bool

    @property
    def number(self) -> bool:
        """Whether the item is one."""
        return self.spec.type in "ILNYBF"

    @property
    def guarded(self) -> bool:
        """Whether a float comes as bytes that are no text."""
        return not self.held and not self.number

    def sql(self, at: str) -> str:
        """SQL of the value."""
        return f"iif(typeof({at}) = 'real', x'ff', {at})" if self.guarded else at


def ways_of(
    db: sqlite3.Connection, stream: StreamSpec, declared: Mapping[str, Column]
) -> tuple[Way, ...] | None:
    """How the columns are asked for; None if they have to be read value by value."""
    if any(spec.type == "G" for spec in stream.columns):
        return None
    kept = _stored(db, name_of(stream))
    return tuple(
        Way(spec, kept and affinity(declared[spec.name].declared) == "text")
        for spec in stream.columns
    )


def _stored(db: sqlite3.Connection, table: str) -> bool:
    """Whether it is a table of the file itself, no view and no module's.

    Only there values are held to the affinities of their columns.
    """
    found = db.execute(
        "select type = 'table' and rootpage > 0 from main.sqlite_master"
        " where name = ? and type in ('table', 'view')",
        (table,),
    ).fetchone()
    return bool(found and found[0])


def in_order(db: sqlite3.Connection, sql: str) -> bool:
    """Whether a statement gives its order without sorting."""
    plan = db.execute(f"explain query plan {sql}")
    return not any("TEMP B-TREE" in str(row[3]) for row in plan)


@contextmanager
def beside(path: Path, begin: Callable[[], None]) -> Iterator[Any]:
    """A second connection in the same snapshot, or None if there can be none.

    Args:
        path: of the file.
        begin: takes the snapshot of the first connection, anew if need be.

    Raises:
        sqlite3.Error: by ``begin``.
    """
    with ExitStack() as stack:
        other = _opened(path, stack)
        if other is None or not _together(other, begin):
            other = None
            begin()
        yield other


def _together(other: Any, begin: Callable[[], None]) -> bool:
    """Begin both in one snapshot.

    The second one looks at the file's version before and after the first one begins:
    if nothing was committed in between, both see the same.
    """
    for _ in range(_TRIES):
        try:
            version = _value(other, "pragma data_version")
            begin()
            _value(other, "begin")
            _value(other, "select count(*) from main.sqlite_master")
            if _value(other, "pragma data_version") == version:
                return True
            _value(other, "rollback")
        except dbapi.Error:
            return False
    return False


def _opened(path: Path, stack: ExitStack) -> Any:
    try:
        uri = f"file:{quote(str(path.absolute()))}?mode=ro"
        other = stack.enter_context(dbapi.connect(uri, autocommit=True))
        for setting in (
            f"busy_timeout = {BUSY_S * 1000:.0f}",
            "query_only = 1",
            "trusted_schema = 0",
        ):
            _value(other, f"pragma {setting}")
    except dbapi.Error:
        return None
    return other


def _value(other: Any, sql: str) -> Any:
    """The only value of a statement, or None."""
    with other.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row[0] if row else None


def blocks(
    other: Any, sql: str, width: float, most: int, check: Check
) -> Generator[pa.RecordBatch, None, None]:
    """Rows of a statement as the driver gives them, about a page at a time.

    Args:
        other: the connection.
        sql: the statement.
        width: bytes of a row, as far as known.
        most: rows of a page.
        check: called from time to time; raises to end the reading.

    Raises:
        Unfit: a value is not of its column's type, or the driver failed.
    """
    rows = max(min(int(PAGE_BYTES / _BLOCKS / max(width, 1)), BLOCK_ROWS, most), 1)
    taken: list[pa.RecordBatch] = []
    with _failing(), other.cursor() as cursor:
        cursor.adbc_statement.set_options(**{_ROWS: str(rows)})
        cursor.execute(sql)
        with cursor.fetch_record_batch() as reader:
            for block in reader:
                check()
                if not block.num_rows:
                    continue
                taken.append(block)
                count = sum(b.num_rows for b in taken)
                size = sum(b.nbytes for b in taken)
                if size >= PAGE_BYTES or count + rows > most:
                    yield from _joined(taken)
                    taken = []
                if block.nbytes > PAGE_BYTES and block.num_rows > 1:
                    break  # rows have become much wider
            else:
                if taken:
                    yield from _joined(taken)
                return
    if taken:
        yield from _joined(taken)
    raise Unfit


def _joined(blocks: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from pa.Table.from_batches(blocks).combine_chunks().to_batches()


@contextmanager
def _failing() -> Iterator[None]:
    """What the driver complains of may hold values and stays behind."""
    try:
        yield
    except (dbapi.Error, OSError, pa.ArrowException, UnicodeDecodeError):
        raise Unfit from None


def exact(array: Array, way: Way) -> Array:
    """A column as ``values.column`` would have made it, or equal to it.

    Raises:
        Unfit: that cannot be known from what the driver gave.
    """
    spec = way.spec
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_integer(array.type):
        return _whole(array, spec)
    if pa.types.is_floating(array.type):
        return _floats(array, spec)
    if way.number and not way.held:
        raise Unfit  # a float may be among the texts
    found = decoded(array.view(pa.binary()))
    if way.guarded and not pa.types.is_string(found.type):
        raise Unfit
    return found


def _whole(array: Array, spec: ColumnSpec) -> Array:
    if spec.type == "I":
        return array
    if spec.type == "L" and _within(array, 0, 1):
        return array.cast(pa.bool_())
    if spec.type in "BF" and _within(array, -_EXACT, _EXACT):
        return array.cast(pa.float64())
    texts: Array = array.cast(pa.string())
    return texts


def _within(array: Array, low: int, high: int) -> bool:
    ends: Any = pc.min_max(array).as_py()
    return bool(low <= ends["min"] and ends["max"] <= high)


def _floats(array: Array, spec: ColumnSpec) -> Array:
    """Floats; whole numbers may be among them, and below 2**53 are the same."""
    values = array.fill_null(0).to_numpy()
    if spec.type in "BF":
        if not (np.abs(values) < _EXACT).all():
            raise Unfit
        return array
    precision, scale = (19, 4) if spec.type == "Y" else (spec.length, spec.scale or 0)
    if spec.type not in "NY" or not precision or scale > _SCALE:
        raise Unfit
    return _decimals(array, values, precision, scale)


def _decimals(array: Array, values: Any, precision: int, scale: int) -> Array:
    """The decimals that are the shortest texts of the floats.

    A decimal of at most 15 digits is the shortest one that gives its float, so it is
    enough that the float divided anew is the same.
    """
    most = min(_DIGITS, 10**precision)
    scaled = np.rint(values * 10.0**scale)
    if not (np.abs(scaled) < most).all() or (scaled / 10.0**scale != values).any():
        raise Unfit
    words = np.empty((len(values), 2), np.int64)
    words[:, 0] = scaled.astype(np.int64)
    words[:, 1] = words[:, 0] >> 63
    valid = None
    if array.null_count:
        bits = np.packbits(array.is_valid().to_numpy(False), bitorder="little")
        valid = pa.py_buffer(bits.tobytes())
    found: Array = pa.Array.from_buffers(
        pa.decimal128(precision, scale), len(values), [valid, pa.py_buffer(words.data)]
    )
    return found
