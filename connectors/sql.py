# SPDX-License-Identifier: Apache-2.0
"""What SQL connectors share: quoting, keyset paging, resume tokens, decoding."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from connectors.contract import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

KeyValue = str | int | float | bytes | None
Key = tuple[KeyValue, ...]
"""Values of a key as the database compares them."""

PAGE_BYTES = 8 * 1024 * 1024
"""Aim for the bytes of a page, those of a batch: only pages can be resumed after."""


def quoted(name: str) -> str:
    """A name in double quotes, as in the SQL standard.

    Raises:
        SourceError: missing: no database has a name with U+0000 in it.
    """
    if "\0" in name:
        raise SourceError("missing", "a table or column name holds U+0000")
    return '"' + name.replace('"', '""') + '"'


def dotted(table: Sequence[str]) -> str:
    """A qualified name, each part in double quotes."""
    return ".".join(quoted(part) for part in table)


def literal(text: str) -> str:
    """A text in single quotes, as in the SQL standard (no backslash escapes)."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Mark:
    """A place in the order of a stream: the last row that was delivered.

    Args:
        key: its key.
        rows: delivered rows that have this key: to be skipped when reading resumes at
            the key, so that no double is lost or read twice.
    """

    key: Key
    rows: int


def token_of(mark: Mark) -> str:
    """The resume token of a place."""
    key = [{"hex": v.hex()} if isinstance(v, bytes) else v for v in mark.key]
    return json.dumps({"key": key, "rows": mark.rows}, separators=(",", ":"))


def mark_of(token: str, width: int) -> Mark:
    """The place that a token names.

    Args:
        token: from :func:`token_of`.
        width: number of key columns now.

    Raises:
        SourceError: failed: it is not a token of this stream.
    """
    try:
        found = json.loads(token)
        key, rows = tuple(_key_value(v) for v in found["key"]), found["rows"]
    except (ValueError, TypeError, KeyError) as e:
        raise SourceError("failed", "the resume token cannot be read") from e
    if len(key) != width or type(rows) is not int or rows < 1:
        raise SourceError("failed", "the resume token belongs to another stream")
    return Mark(key, rows)


def _key_value(found: object) -> KeyValue:
    match found:
        case {"hex": str(digits)}:
            return bytes.fromhex(digits)
        case None | str() | int() | float():
            return found
        case _:
            raise TypeError("not a key value")


@dataclass(frozen=True)
class KeyPart:
    """A key column in ORDER BY and in comparisons.

    Args:
        expression: SQL that is ordered and compared.
        nullable: whether NULL may stand in it.
    """

    expression: str
    nullable: bool


def order_by(parts: Sequence[KeyPart]) -> str:
    """The list after ORDER BY."""
    return ", ".join(part.expression for part in parts)


def from_key(
    parts: Sequence[KeyPart],
    key: Key,
    write: Callable[[int, Any], str],
    *,
    nulls: Literal["first", "last"],
) -> str:
    """A condition: the row's key is ``key`` or comes after it.

    The bound on the first column stands in front of the lexicographic condition, for
    that is what an index can use.

    Args:
        parts: the key columns.
        key: a value for each.
        write: (column number, value) -> SQL of a value that is not None.
        nulls: where the database's ORDER BY puts NULL.
    """

    def after(i: int) -> str:
        """Columns from ``i`` on are equal to or after the key's."""
        part, value, last = parts[i], key[i], i == len(parts) - 1
        column = part.expression
        if value is None:
            equal = f"{column} is null" + ("" if last else f" and {after(i + 1)}")
            if nulls == "first":
                equal = f"{column} is not null or ({equal})"
            return f"({equal})"
        text = write(i, value)
        if last:
            found = f"{column} >= {text}"
        else:
            found = f"{column} > {text} or ({column} = {text} and {after(i + 1)})"
        if part.nullable and nulls == "last":
            found += f" or {column} is null"
        return f"({found})"

    first = parts[0]
    if len(parts) == 1 or key[0] is None or (first.nullable and nulls == "last"):
        return after(0)
    return f"{first.expression} >= {write(0, key[0])} and {after(0)}"


def check_whole(table: Sequence[str], name: str, found: tuple[str, str] | None) -> None:
    """Look whether a column can be a table's growing number.

    Args:
        table: its name, outermost first.
        name: of the column.
        found: its family and native type; None if the table has no such column.

    Raises:
        SourceError: missing; type: it holds no whole numbers.
    """
    at = dotted(table)
    if found is None:
        raise SourceError("missing", f"{at} has no column {name}")
    family, native = found
    if family != "integer":
        raise SourceError("type", f"{at}.{name}: expected a whole number, got {native}")


def in_windows(column: str, windows: Sequence[tuple[int, int | None]]) -> str:
    """A condition: a number lies in one of the windows.

    Args:
        column: SQL of a whole number.
        windows: first and last, None for no end.
    """
    parts = [
        f"{column} >= {first}" if last is None
        else f"{column} between {first} and {last}"
        for first, last in windows
    ]  # fmt: skip
    return f"({' or '.join(parts)})" if parts else "(1 = 0)"


def mark_after(rows: int, key_at: Callable[[int], Key], before: Mark | None) -> Mark:
    """The place after a page.

    Args:
        rows: of the page, at least one.
        key_at: row number -> its key.
        before: the place before the page.
    """
    last = key_at(rows - 1)
    count = 1
    while count < rows and key_at(rows - 1 - count) == last:
        count += 1
    if count == rows and before is not None and before.key == last:
        count += before.rows
    return Mark(last, count)


def text_or_bytes(raw: bytes, encoding: str) -> str | bytes:
    """A text, or the bytes that ``encoding`` cannot decode.

    Bytes that happen to be UTF-8 although the source's own encoding cannot decode them
    get a byte FF before them, which UTF-8 never holds, lest they be taken for text.
    """
    try:
        return raw.decode(encoding)
    except UnicodeError:
        pass
    try:
        raw.decode()
    except UnicodeDecodeError:
        return raw
    return b"\xff" + raw


def decoded(raw: pa.Array[Any], encoding: str = "utf-8") -> pa.Array[Any]:
    """Bytes as ``string``, or as ``binary`` if a value cannot be decoded (rule 4).

    Args:
        raw: type ``binary``.
        encoding: of the source, a codec of Python.
    """
    import pyarrow as pa  # lookups have no need of it

    from connectors.native.text import as_text

    if encoding in ("utf-8", "ascii"):
        found = as_text(raw)
        texts = raw if found is None else found
        if encoding == "utf-8" or _all_ascii(texts):
            return texts
    values = [
        None if v is None else text_or_bytes(v, encoding) for v in raw.to_pylist()
    ]
    if not any(isinstance(v, bytes) for v in values):
        return pa.array(values, pa.string())
    return pa.array(
        [v.encode() if isinstance(v, str) else v for v in values], pa.binary()
    )


def _all_ascii(texts: pa.Array[Any]) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_string(texts.type):
        return False
    return pc.all(pc.string_is_ascii(texts), min_count=0).as_py() is not False


def encoded(value: KeyValue, encoding: str) -> KeyValue:
    """The bytes of one value before :func:`decoded`; what is no text stays."""
    if isinstance(value, str):
        return value.encode(encoding)
    if not isinstance(value, bytes) or not value:
        return value
    try:
        return value.decode().encode(encoding)
    except UnicodeError:
        pass
    marked = value[:1] == b"\xff" and text_or_bytes(value[1:], encoding) == value
    return value[1:] if marked else value


FAMILIES: Mapping[str, frozenset[str]] = {
    "integer": frozenset("INYBFCML"),
    "number": frozenset("NYIBFCM"),
    "float": frozenset("BFNYCM"),
    "boolean": frozenset("LCM"),
    "date": frozenset("DCM"),
    "time": frozenset("TCM"),
    "text": frozenset("CMNYIDTLBF"),
    "bytes": frozenset("G"),
    "other": frozenset("CM"),
}
"""Family of a column's type -> item types that it may be bound to.

A timestamp may not be bound to a date: half of the value would be lost."""
