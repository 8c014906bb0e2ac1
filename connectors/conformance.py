# SPDX-License-Identifier: Apache-2.0
"""The suite that every connector runs against itself; see docs/connectors.md.

A connector's author describes a test database as a :class:`Subject` and runs each of
:data:`RULES` with it. A rule returns when the contract holds and raises
:class:`BrokenRule` when it does not. With pytest::

    @pytest.mark.parametrize("rule", RULES, ids=rule_name)
    def test_contract(rule, subject):
        rule(subject)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa

from connectors.contract import (
    API,
    ColumnSpec,
    Connector,
    Kind,
    Limits,
    Page,
    Session,
    Slice,
    SourceError,
    StreamSpec,
)

Row = Sequence[Any]

CANARY = "机密値-9f3c"
"""A value that must not appear in any error."""

AS_OF = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")


class BrokenRule(AssertionError):
    """The connector does not do what the contract says."""


class Transaction(Protocol):
    """An open transaction on the test database, on a connection of its own."""

    def put(self, table: tuple[str, ...], row: Row) -> None:
        """Update the row whose first column has this value; insert it if none has."""
        ...

    def save(self) -> None:
        """Set a savepoint; what is put afterwards belongs to it."""
        ...

    def undo(self) -> None:
        """Roll back to the last savepoint."""
        ...

    def commit(self) -> None:
        """End the transaction and close the connection."""
        ...

    def rollback(self) -> None:
        """Give up the transaction and close the connection."""
        ...


@dataclass(frozen=True)
class Subject:
    """A connector and a database to try it on.

    Args:
        connector: to be tried.
        config: settings of a source that works.
        create: makes an empty table and returns its qualified name. Arguments: its
            plain name and its columns; ``native`` of the columns that the database
            should choose by itself is their item type. No key may be declared: rows
            with equal and with NULL keys are added.
        add: inserts rows (str, int, Decimal, float, bool, date, datetime, bytes, None)
            into a table that ``create`` returned, and commits.
        broken: kind -> settings of a source that fails so, such as ``unreachable`` or
            ``login``; the more the better.
        begin: opens a transaction of its own, for connectors that promise increments.
        stamp: column that ``create`` adds to every table and the database sets with
            every insert and update, if increments need one.
    """

    connector: Connector
    config: Mapping[str, Any]
    create: Callable[[str, Sequence[ColumnSpec]], tuple[str, ...]]
    add: Callable[[tuple[str, ...], Sequence[Row]], None]
    broken: Mapping[Kind, Mapping[str, Any]]
    begin: Callable[[], Transaction] | None = None
    stamp: str | None = None

    def stream(
        self, name: str, columns: Sequence[ColumnSpec], rows: Sequence[Row]
    ) -> StreamSpec:
        """A new table with rows, and all its columns bound."""
        table = self.create(name, columns)
        self.add(table, rows)
        return StreamSpec(table, tuple(columns), self.stamp)


ID = ColumnSpec("id", "I", None, None, key=True)
CODE = ColumnSpec("code", "C", 20, None, key=True)
NOTE = ColumnSpec("note", "C", 200, None, key=False)

SAMPLES: Mapping[str, tuple[ColumnSpec, tuple[Any, ...]]] = {
    "C": (
        ColumnSpec("c", "C", 200, None, key=False),
        ("", " 两端空格 ", "tab\tnew\nline\\N", "𠮷😀", "'\"; --", "a" * 200),
    ),
    "N": (
        ColumnSpec("n", "N", 18, 4, key=False),
        tuple(map(Decimal, ("0", "-0.0001", "100.10", "99999999999999.9999"))),
    ),
    "Y": (
        ColumnSpec("y", "Y", None, None, key=False),
        tuple(map(Decimal, ("0.01", "-12345.6789"))),
    ),
    "I": (
        ColumnSpec("i", "I", None, None, key=False),
        (0, 1, -1, 2**63 - 1, -(2**63)),
    ),
    "D": (
        ColumnSpec("d", "D", None, None, key=False),
        (date(1, 1, 1), date(1582, 10, 10), date(2024, 2, 29), date(9999, 12, 31)),
    ),
    "T": (
        ColumnSpec("t", "T", None, None, key=False),
        (
            datetime(1, 1, 1),  # noqa: DTZ001 - wall-clock times are meant
            datetime(1969, 12, 31, 23, 59, 59, 123456),  # noqa: DTZ001
            datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
        ),
    ),
    "L": (ColumnSpec("l", "L", None, None, key=False), (True, False)),
    "B": (
        ColumnSpec("b", "B", None, None, key=False),
        (0.1, 0.0, -1.5, 1e300, 5e-324, 1 / 3),
    ),
    "G": (
        ColumnSpec("g", "G", None, None, key=False),
        (b"", b"\x00\xff\x80", bytes(range(256))),
    ),
}
"""Item type -> a column of it, and values that must arrive as they are."""


def named_columns_only(subject: Subject) -> None:
    """A page has the stream's columns in its order, and no others (rule 2)."""
    columns = (ID, NOTE, ColumnSpec("hidden", "C", 20, None, key=False))
    stream = subject.stream("conf_columns", columns, [(1, "a", CANARY)])
    chosen = replace(stream, columns=(NOTE, ID))
    (page,) = _pages(subject, chosen)
    require(page.rows.schema.names == ["note", "id"], "columns of another order")


def frontier_before_reading(subject: Subject) -> None:
    """Rows that are committed after the frontier are not read (rule 1)."""
    stream = subject.stream("conf_frontier", (ID, NOTE), [(1, "before")])
    caps = subject.connector.capabilities(subject.config, stream)
    with subject.connector.open(subject.config, Limits()) as session:
        frontier = session.frontier(stream)
        found = AS_OF.fullmatch(frontier.as_of)
        require(found, f"as_of breaks the grammar: {frontier.as_of}")
        if caps.snapshot:
            subject.add(stream.table, [(2, "after")])
            rows = _rows(_read(session, stream))
            require([r[0] for r in rows] == [1], "the read goes beyond its frontier")


def nothing_from_an_empty_table(subject: Subject) -> None:
    """An empty table gives no page."""
    stream = subject.stream("conf_empty", (ID, NOTE), [])
    require(_pages(subject, stream) == [], "a page without rows")


def rows_in_key_order(subject: Subject) -> None:
    """Rows come in an order of the key, equal keys side by side (rule 3)."""
    rows = [(i * 7919 % 101, f"k{i % 3}", str(i)) for i in range(300)]
    stream = subject.stream("conf_order", (ID, CODE, NOTE), rows)
    found = _rows(_pages(subject, stream, page_rows=64))
    require(_bag(found) == _bag(rows), "rows are missing or read twice")
    keys = [row[:2] for row in found]
    require(_grouped(keys), "rows of one key do not stand side by side")
    ordered = keys in (sorted(keys), sorted(keys, key=lambda k: (k[1], k[0])))
    require(ordered, "numbers and ASCII texts of the key are out of order")


def null_keys_come_too(subject: Subject) -> None:
    """Rows whose key is NULL are read, for the quality stage to judge (rule 3)."""
    rows = [(1, "a", "x"), (None, "a", "y"), (1, None, "z"), (None, None, "w")]
    rows += [(i, "b", "v") for i in range(2, 20)]
    stream = subject.stream("conf_nulls", (ID, CODE, NOTE), rows)
    whole = _rows(_pages(subject, stream))
    require(_bag(whole) == _bag(rows), "rows with NULL in the key are missing")
    _resumes_everywhere(subject, stream, page_rows=1)


def resumes_after_every_page(subject: Subject) -> None:
    """A token goes on exactly after its page, in another session (rule 3)."""
    rows = [(i, f"{i % 5}'\\\"张", str(i)) for i in range(50)]
    stream = subject.stream("conf_resume", (ID, CODE, NOTE), rows)
    _resumes_everywhere(subject, stream, page_rows=7)


def resumes_within_doubles(subject: Subject) -> None:
    """A page's end between rows of one key loses none and repeats none (rule 3)."""
    rows = [(1, "a", str(i)) for i in range(20)] + [(2, "b", "x"), (2, "b", "x")]
    stream = subject.stream("conf_doubles", (ID, CODE, NOTE), rows)
    _resumes_everywhere(subject, stream, page_rows=3)


def text_keys_are_told_apart(subject: Subject) -> None:
    """Keys that differ by case, blanks or width only are different keys (rule 3)."""
    codes = ["a", "A", "a ", " a", "ａ", "á", "a", "", "张", "𠮷", "A"]
    rows = [(code, str(i)) for i, code in enumerate(codes)]
    stream = subject.stream("conf_text_keys", (CODE, NOTE), rows)
    found = _rows(_pages(subject, stream, page_rows=2))
    require(_bag(found) == _bag(rows), "rows are missing, changed or read twice")
    require(_grouped([row[0] for row in found]), "equal texts are apart")
    _resumes_everywhere(subject, stream, page_rows=1)


def values_are_not_changed(subject: Subject) -> None:
    """Every value arrives exactly, natively or as text (rule 4)."""
    for letter, (column, values) in SAMPLES.items():
        rows = [(i, value) for i, value in enumerate((*values, None))]
        stream = subject.stream(f"conf_type_{letter.lower()}", (ID, column), rows)
        found = _rows(_pages(subject, stream))
        for (_, sent), (_, got) in zip(rows, found, strict=True):
            same = repr(got) == repr(value_of(sent, letter))
            require(same, f"type {letter}: sent {sent!r}, got {got!r}")


def types_are_the_items_or_text(subject: Subject) -> None:
    """A column is of its item's Arrow type, string, or binary (rule 4)."""
    for letter, (column, values) in SAMPLES.items():
        rows = [(i, value) for i, value in enumerate(values)]
        stream = subject.stream(f"conf_arrow_{letter.lower()}", (ID, column), rows)
        allowed = [*_native(column), pa.string(), pa.binary()]
        for page in _pages(subject, stream):
            got = page.rows.schema.types[1]
            require(got in allowed, f"type {letter} arrives as {got}")
            page.rows.validate(full=True)


def wide_rows_make_short_pages(subject: Subject) -> None:
    """A page of wide rows stays small, whatever page_rows says (rule 6)."""
    rows = [(i, "宽" * 300_000) for i in range(60)]
    column = ColumnSpec("wide", "M", None, None, key=False)
    stream = subject.stream("conf_wide", (ID, column), rows)
    sizes = [page.rows.nbytes for page in _pages(subject, stream)]
    require(max(sizes) < 64 * 1024 * 1024, f"pages of {sizes} bytes")


def page_rows_is_kept(subject: Subject) -> None:
    """No page has more rows than the session's limit (rule 6)."""
    rows = [(i, "x") for i in range(100)]
    stream = subject.stream("conf_pages", (ID, NOTE), rows)
    sizes = [p.rows.num_rows for p in _pages(subject, stream, page_rows=16)]
    require(max(sizes) <= 16, f"pages of {sizes} rows")
    require(min(sizes) > 0, "a page without rows")


def missing_things_are_told(subject: Subject) -> None:
    """A missing table or column is ``missing`` before a row is read (rule 7)."""
    stream = subject.stream("conf_missing", (ID, NOTE), [(1, CANARY)])
    absent = ColumnSpec("absent", "C", 20, None, key=False)
    for wrong in (
        replace(stream, table=(*stream.table[:-1], "conf_no_such_table")),
        replace(stream, columns=(ID, absent)),
        replace(stream, table=(*stream.table[:-1], 'x"; drop table y; --')),
    ):
        with subject.connector.open(subject.config, Limits()) as session:
            fails("missing", subject.config, partial(session.plan, wrong))
        found = subject.connector.check(subject.config, [wrong])
        require(any(f.severity == "error" for f in found), "check finds no error")


def failures_are_source_errors(subject: Subject) -> None:
    """A broken source is a SourceError of its kind and tells no secret (rule 5)."""
    for kind, config in subject.broken.items():

        def enter(config: Mapping[str, Any] = config) -> None:
            with subject.connector.open(config, Limits()):
                pass

        fails(kind, config, enter)
        fails(kind, config, partial(subject.connector.discover, config))
        found = subject.connector.check(config, [])
        require(any(f.severity == "error" for f in found), "check finds no error")
        told = json.dumps([(f.en, f.zh, f.remedy) for f in found], ensure_ascii=False)
        _tells_nothing(told, config)


def a_good_stream_has_no_error(subject: Subject) -> None:
    """``check`` finds no error in a stream that can be read; it speaks twice."""
    stream = subject.stream("conf_good", (ID, NOTE), [(1, "x")])
    found = subject.connector.check(subject.config, [stream])
    errors = [f.en for f in found if f.severity == "error"]
    require(not errors, f"check finds {errors}")
    require(found and all(f.en and f.zh for f in found), "a finding is not bilingual")


def tables_are_discovered(subject: Subject) -> None:
    """``discover`` lists a table with its columns in order and types that fit."""
    stream = subject.stream("conf_discover", (ID, NOTE), [(1, "x")])
    tables = subject.connector.discover(subject.config)
    found = [t for t in tables if t.table[-1] == stream.table[-1]]
    require(len(found) == 1, f"the table was found {len(found)} times")
    names = [c.name for c in found[0].columns if c.name != subject.stamp]
    require(names == ["id", "note"], f"columns {names}")
    require(found[0].columns[0].type in "IN", "a whole number is not drafted as one")
    require(found[0].columns[1].type in "CM", "a text is not drafted as one")


def promises_cover_the_columns(subject: Subject) -> None:
    """``capabilities`` names a path for each column and keeps to it."""
    stream = subject.stream("conf_caps", (ID, NOTE), [(1, "x")])
    caps = subject.connector.capabilities(subject.config, stream)
    require(set(caps.paths) == {"id", "note"}, f"paths of {sorted(caps.paths)}")
    require(set(caps.paths.values()) <= {"native", "text"}, "an unknown path")
    require(caps.ordered, "rows must come in key order")
    found = subject.connector.check(subject.config, [stream])
    told = {f.column: f.path for f in found if f.code == "column-path"}
    require(told in ({}, caps.paths), "check tells other paths than are promised")


def reading_may_be_broken_off(subject: Subject) -> None:
    """A read that is given up does not hinder closing, nor the next session."""
    stream = subject.stream("conf_abandon", (ID, NOTE), [(i, "x") for i in range(99)])
    with subject.connector.open(subject.config, Limits(page_rows=1)) as session:
        reading = iter(_read(session, stream))
        next(reading)
    require(len(_rows(_pages(subject, stream))) == 99, "rows are missing afterwards")


def settings_are_described(subject: Subject) -> None:
    """``spec`` is a JSON Schema; the connector speaks this contract."""
    spec = subject.connector.spec()
    json.dumps(spec)
    require(subject.connector.api == API, "another version of the contract")
    require(spec.get("type") == "object", "spec must describe an object")
    unknown = set(subject.config) - set(spec.get("properties", {}))
    require(not unknown, f"spec does not know {sorted(unknown)}")
    for name, setting in spec["properties"].items():
        secret = "password" in name or "secret" in name
        require(not secret or setting.get("secret"), f"{name} is not marked secret")


RULES: tuple[Callable[[Subject], None], ...] = (
    settings_are_described,
    a_good_stream_has_no_error,
    tables_are_discovered,
    promises_cover_the_columns,
    named_columns_only,
    frontier_before_reading,
    nothing_from_an_empty_table,
    rows_in_key_order,
    null_keys_come_too,
    resumes_after_every_page,
    resumes_within_doubles,
    text_keys_are_told_apart,
    values_are_not_changed,
    types_are_the_items_or_text,
    page_rows_is_kept,
    wide_rows_make_short_pages,
    missing_things_are_told,
    failures_are_source_errors,
    reading_may_be_broken_off,
)
"""All rules; each is a function of a :class:`Subject`."""


def rule_name(rule: Callable[[Subject], None]) -> str:
    """A rule's name, for test ids."""
    return rule.__name__


def require(holds: object, otherwise: str) -> None:
    """Raise :class:`BrokenRule` unless it holds."""
    if not holds:
        raise BrokenRule(otherwise)


def _read(session: Session, stream: StreamSpec) -> Iterable[Page]:
    for part in session.plan(stream):
        yield from session.read(part)


def _pages(
    subject: Subject, stream: StreamSpec, *, page_rows: int = 65_536
) -> list[Page]:
    limits = Limits(page_rows=page_rows)
    with subject.connector.open(subject.config, limits) as session:
        session.frontier(stream)
        return list(_read(session, stream))


def _rows(pages: Iterable[Page]) -> list[tuple[Any, ...]]:
    """Rows as Python values; text of a typed column is parsed as simply as can be."""
    found: list[tuple[Any, ...]] = []
    for page in pages:
        letters = [LETTERS.get(name, "C") for name in page.rows.schema.names]
        columns = [
            [value_of(v, letter) for v in column.to_pylist()]
            for column, letter in zip(page.rows.columns, letters, strict=True)
        ]
        found += zip(*columns, strict=True)
    return found


LETTERS = {
    column.name: column.type for column in (ID, *(c for c, _ in SAMPLES.values()))
}
"""Column name -> item type, of the tables made here."""


def value_of(got: Any, letter: str) -> Any:
    """A value, text of a typed column parsed as simply as can be."""
    if letter in "NY" and isinstance(got, str | Decimal):
        return _shortest(Decimal(got))
    parse = _PARSERS.get(letter)
    return parse(got) if parse is not None and isinstance(got, str) else got


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "I": int,
    "D": date.fromisoformat,
    "T": datetime.fromisoformat,
    "L": lambda text: {"1": True, "t": True, "true": True}.get(text, False),
    "B": float,
}


def _shortest(value: Decimal) -> Decimal:
    """Without trailing zeros: 100.10 and 100.1000 are one number."""
    text = format(value, "f")
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return Decimal("0" if short in ("-0", "") else short)


def _native(column: ColumnSpec) -> tuple[pa.DataType, ...]:
    """Arrow types of an item's values; wall-clock times have no zone."""
    if column.type == "N":
        return (pa.decimal128(column.length or 38, column.scale or 0),)
    return _NATIVE.get(column.type, ())


_NATIVE: Mapping[str, tuple[pa.DataType, ...]] = {
    "Y": (pa.decimal128(19, 4),),
    "T": (pa.timestamp("us", "UTC"), pa.timestamp("us")),
    "I": (pa.int64(),),
    "D": (pa.date32(),),
    "L": (pa.bool_(),),
    "B": (pa.float64(),),
}


def _bag(rows: Iterable[Row]) -> list[str]:
    return sorted(repr(tuple(row)) for row in rows)


def _grouped(keys: Sequence[Any]) -> bool:
    changes = sum(a != b for a, b in pairwise(keys))
    return changes + 1 == len(set(keys)) or not keys


def _resumes_everywhere(
    subject: Subject, stream: StreamSpec, *, page_rows: int
) -> None:
    pages = _pages(subject, stream, page_rows=page_rows)
    require(len(pages) > 1, "one page only, so nothing to resume")
    places = [i for i, column in enumerate(stream.columns) if column.key]
    whole = [tuple(row[i] for i in places) for row in _rows(pages)]
    done = 0
    with subject.connector.open(subject.config, Limits()) as session:
        session.frontier(stream)
        for page in pages:
            done += page.rows.num_rows
            read = _rows(session.read(Slice(stream, None), resume=page.token))
            rest = [tuple(row[i] for i in places) for row in read]
            require(
                _bag(whole[:done] + rest) == _bag(whole),
                f"resuming after row {done} gives {len(rest)} rows"
                f" of {len(whole) - done}",
            )


def fails(kind: Kind, config: Mapping[str, Any], act: Callable[[], object]) -> None:
    """Require a SourceError of a kind that tells no value and no secret."""
    try:
        act()
    except SourceError as e:
        require(e.kind == kind, f"expected {kind}, got {e.kind}: {e.detail}")
        _tells_nothing(str(e), config)
        require(e.__cause__ is None or e.__suppress_context__, "a driver's error shows")
    else:
        raise BrokenRule(f"expected a SourceError of kind {kind}, got none")


def _tells_nothing(text: str, config: Mapping[str, Any]) -> None:
    secret = config.get("password")
    require(not secret or str(secret) not in text, "the password is told")
    require(CANARY not in text, "a value of a row is told")
