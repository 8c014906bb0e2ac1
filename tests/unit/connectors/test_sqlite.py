# SPDX-License-Identifier: Apache-2.0
"""Values of SQLite, each with a type of its own; orders, files and findings."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import ColumnSpec, Limits, Page, Slice, SourceError, StreamSpec
from connectors.sqlite import CONNECTOR
from connectors.sqlite.file import rowid_name
from connectors.sqlite.values import column as values_of
from connectors.sqlite.values import finished
from tests.support.tries import tries

KEY = ColumnSpec("k", "C", 20, None, key=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "库 %?#.db"


def run(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    with db:
        for statement in statements:
            db.execute(statement)
    db.close()


def pages(path: Path, stream: StreamSpec, **limits: Any) -> list[Page]:
    with CONNECTOR.open({"path": str(path)}, Limits(**limits)) as session:
        (part,) = session.plan(stream)
        return list(session.read(part))


def column(path: Path, letter: str, values: Sequence[str]) -> pa.Array[Any]:
    """Values, as SQL, of a column of no declared type."""
    rows = ", ".join(f"({i}, {value})" for i, value in enumerate(values))
    run(
        path,
        "create table t (k integer primary key, v)",
        f"insert into t values {rows}",
    )
    spec = ColumnSpec("v", letter, 38, 2, key=False)
    key = ColumnSpec("k", "I", None, None, key=True)
    (page,) = pages(path, StreamSpec(("t",), (key, spec)))
    return page.rows.column(1)


@pytest.mark.parametrize(
    ("letter", "values", "kind", "wanted"),
    [
        ("I", ["1", "-9223372036854775808", "null"], pa.int64(), [1, -(2**63), None]),
        ("I", ["1", "'2'", "3.5"], pa.string(), ["1", "2", "3.5"]),
        ("N", ["100", "0.1", "'1.10'"], pa.string(), ["100", "0.1", "1.10"]),
        ("N", ["1e16", "1e-7"], pa.string(), ["10000000000000000", "0.0000001"]),
        ("N", ["0.1 + 0.2"], pa.string(), ["0.30000000000000004"]),
        ("N", ["9e999", "-9e999"], pa.string(), ["inf", "-inf"]),
        (
            "N",
            ["100", "0.1", "-0.0", "null"],
            pa.decimal128(38, 2),
            [Decimal("100.00"), Decimal("0.10"), Decimal(0), None],
        ),
        (
            "N",
            ["9999999999999.99"],
            pa.decimal128(38, 2),
            [Decimal("9999999999999.99")],
        ),
        ("N", ["10000000000000.01"], pa.string(), ["10000000000000.01"]),
        ("N", ["0.125", "1"], pa.string(), ["0.125", "1"]),
        ("I", ["1", "3.5"], pa.string(), ["1", "3.5"]),
        ("I", ["1", "4.0"], pa.string(), ["1", "4.0"]),
        ("B", ["1", "0.5"], pa.float64(), [1.0, 0.5]),
        ("B", ["9007199254740993", "0.5"], pa.string(), ["9007199254740993", "0.5"]),
        ("L", ["0", "1", "null"], pa.bool_(), [False, True, None]),
        ("L", ["0", "2"], pa.string(), ["0", "2"]),
        ("L", ["'true'", "1"], pa.string(), ["true", "1"]),
        ("C", ["1", "1.5", "'a'"], pa.string(), ["1", "1.5", "a"]),
        ("C", ["'a' || char(0) || 'b'"], pa.string(), ["a\0b"]),
        ("C", ["'张'", "x'ff'"], pa.binary(), ["张".encode(), b"\xff"]),
        (
            "C",
            ["cast(x'ff41' as text)", "'张'"],
            pa.binary(),
            [b"\xffA", "张".encode()],
        ),
        ("D", ["'2024-02-30'", "20240101"], pa.string(), ["2024-02-30", "20240101"]),
        ("G", ["x'00ff'", "'text'", "null"], pa.binary(), [b"\0\xff", b"text", None]),
        ("M", ["null"], pa.string(), [None]),
    ],
)
def test_values_keep_their_own_types(
    path: Path, letter: str, values: list[str], kind: pa.DataType, wanted: list[Any]
) -> None:
    """A column is native only if all its values are; nothing is converted silently."""
    found = column(path, letter, values)
    assert found.type == kind
    assert found.to_pylist() == wanted


def test_text_that_is_not_utf8_is_told_by_no_error(path: Path) -> None:
    """Undecodable text in the middle of a table ends no run and loses no row."""
    run(path, "create table t (k text, v text)")
    db = sqlite3.connect(path)
    with db:
        db.executemany(
            "insert into t values (?, 'x')", [(f"{i:04}",) for i in range(500)]
        )
        db.execute("insert into t values ('0250a', cast(x'd5c5' as text))")
        db.execute("insert into t values (cast(x'ffff' as text), 'last')")
    db.close()
    stream = StreamSpec(("t",), (KEY, ColumnSpec("v", "C", 9, None, key=False)))
    found = pages(path, stream, page_rows=100)
    values = [v for page in found for v in page.rows.column(1).to_pylist()]
    assert len(values) == 502
    assert b"\xd5\xc5" in values
    assert "last" in values


def test_a_declared_encoding_decodes(path: Path) -> None:
    """Texts of a database that holds GB 18030 arrive as UTF-8 if the source says so."""
    run(path, "create table t (k text)", "insert into t values (cast(x'd5c5' as text))")
    config = {"path": str(path), "encoding": "gb18030"}
    with CONNECTOR.open(config, Limits()) as session:
        (page,) = session.read(Slice(StreamSpec(("t",), (KEY,)), None))
    assert page.rows.column(0).to_pylist() == ["张"]


def test_a_number_and_its_text_are_one_key(path: Path) -> None:
    """1 and '1' are the same text key, so they stand side by side."""
    run(
        path,
        "create table t (k)",
        "insert into t values (1), (2), ('1'), (x'31'), ('2')",
    )
    found = [
        value
        for page in pages(path, StreamSpec(("t",), (KEY,)), page_rows=1)
        for value in page.rows.column(0).to_pylist()
    ]
    texts = [v.decode() if isinstance(v, bytes) else v for v in found]
    assert texts == ["1", "1", "1", "2", "2"]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_any_key_can_be_resumed(path: Path, rows: int, encoding: str) -> None:
    """After any page the rest comes, whatever types the key's values have."""
    run(
        path,
        f"pragma encoding = '{encoding}'",
        "create table t (k, j)",
        "insert into t values"
        " (1, 'a'), ('1', null), (x'31', 2), (null, 1), (null, null), (1.5, x'ff'),"
        " (cast(x'ff' as text), 'b'), (cast(x'ff' as text), 'b'),"
        " ('', '')",
    )
    stream = StreamSpec(("t",), (KEY, ColumnSpec("j", "C", 20, None, key=True)))
    found = pages(path, stream, page_rows=rows)
    done = 0
    for page in found:
        done += page.rows.num_rows
        with CONNECTOR.open({"path": str(path)}, Limits(page_rows=3)) as session:
            rest = list(session.read(Slice(stream, None), page.token))
        assert sum(p.rows.num_rows for p in rest) == 9 - done


def test_what_is_read_of_a_closed_session_is_an_error(path: Path) -> None:
    """Rows that are still to come are never taken for the end of the table."""
    run(path, "create table t (k text)", "insert into t values ('a'), ('b'), ('c')")
    stream = StreamSpec(("t",), (KEY,))
    with CONNECTOR.open({"path": str(path)}, Limits(page_rows=1)) as session:
        reading = iter(session.read(Slice(stream, None)))
        next(reading)
    with pytest.raises(SourceError):
        list(reading)


def test_names_are_asked_for_while_rows_are_read(path: Path) -> None:
    """Texts come as bytes to the one and as texts to the other."""
    run(path, "create table t (k text)", "insert into t values ('a'), ('b'), ('c')")
    stream = StreamSpec(("t",), (KEY,))
    with CONNECTOR.open({"path": str(path)}, Limits(page_rows=1)) as session:
        found = []
        for page in session.read(Slice(stream, None)):
            found += page.rows.column(0).to_pylist()
            session.plan(stream)
    assert found == ["a", "b", "c"]


def test_a_place_that_was_kept_as_bytes_is_found_again(path: Path) -> None:
    """A key of bytes that are a text is that text, also in an older token."""
    run(path, "create table t (k)", "insert into t values ('a'), (x'61'), ('b')")
    stream = StreamSpec(("t",), (KEY,))
    with CONNECTOR.open({"path": str(path)}, Limits()) as session:
        token = '{"key":[{"hex":"61"}],"rows":1}'
        (page,) = session.read(Slice(stream, None), token)
    assert page.rows.column(0).to_pylist() == ["a", "b"]


def test_a_page_ends_where_a_column_comes_otherwise(path: Path) -> None:
    """One text among thousands of numbers costs the page around it, and no value."""
    run(
        path,
        "create table t (k integer primary key, v)",
        "with recursive r(i) as (select 0 union all select i + 1 from r where i < 2999)"
        " insert into t select i, case when i = 1500 then 'x' else i end from r",
    )
    number = ColumnSpec("k", "I", None, None, key=True)
    stream = StreamSpec(("t",), (number, ColumnSpec("v", "I", None, None, key=False)))
    found = pages(path, stream)
    assert [page.rows.schema.field("v").type for page in found] == [
        pa.int64(),
        pa.string(),
        pa.int64(),
    ]
    values = [str(v) for page in found for v in page.rows.column(1).to_pylist()]
    assert values == [str(i) if i != 1500 else "x" for i in range(3000)]


@tries(200)
@given(
    values=st.lists(
        st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**63), 2**63 - 1)
        | st.decimals(-(10**13), 10**13, places=2).map(float),
        min_size=1,
        max_size=5,
    ),
    scale=st.integers(0, 17),
)
def test_a_float_is_the_decimal_that_it_is_printed_as(
    values: list[float | None], scale: int
) -> None:
    """Whether native or text, a number is the shortest decimal of its float."""
    spec = ColumnSpec("v", "N", 38, scale, key=False)
    found = finished(values_of(values, "N"), spec)
    wanted = [None if v is None else Decimal(repr(v)) for v in values]
    told = [None if v is None else Decimal(v) for v in found.to_pylist()]
    assert told == wanted


@pytest.mark.parametrize(
    ("definition", "wanted"),
    [
        ("k integer primary key", "k"),
        ("v, K Integer, primary key (k)", "K"),
        ("k integer primary key desc", None),
        ("k int primary key", None),
        ("k integer unique", None),
        ("k integer, v, primary key (k, v)", None),
    ],
)
def test_only_a_rowid_is_taken_for_whole_numbers(
    path: Path, definition: str, wanted: str | None
) -> None:
    """Any other column may hold texts, whatever it is declared as."""
    run(path, f"create table t ({definition})")
    with closing(sqlite3.connect(path)) as db:
        assert rowid_name(db, "t") == wanted
        db.execute("create table w (k integer primary key) without rowid")
        assert rowid_name(db, "w") is None


def test_an_index_is_used_for_the_order(path: Path) -> None:
    """Without an index on the key check warns; what it prints removes the warning."""
    run(path, 'create table "t ""x" (k text, v text)')
    stream = StreamSpec(('t "x',), (KEY,))
    found = CONNECTOR.check({"path": str(path)}, [stream])
    (warning,) = (f for f in found if f.code == "key-not-indexed")
    run(path, warning.remedy or "")
    found = CONNECTOR.check({"path": str(path)}, [stream])
    assert "key-not-indexed" not in [f.code for f in found]


def test_a_running_read_does_not_see_later_rows(path: Path) -> None:
    """A session reads one snapshot while a writer goes on."""
    run(path, "pragma journal_mode = wal", "create table t (k text)",
        "insert into t values ('a')")  # fmt: skip
    stream = StreamSpec(("t",), (KEY,))
    with CONNECTOR.open({"path": str(path)}, Limits()) as session:
        run(path, "insert into t values ('b')")
        (page,) = session.read(Slice(stream, None))
        assert page.rows.num_rows == 1


def test_a_read_that_takes_too_long_is_cancelled(path: Path) -> None:
    """A statement beyond the timeout ends as ``timeout``."""
    run(path, "create table t (k text)", "insert into t values ('a')",
        "create view slow as with recursive r(i) as (select 1 union all"
        " select i + 1 from r where i < 100000000)"
        " select max(i) as k from r")  # fmt: skip
    stream = StreamSpec(("slow",), (KEY,))
    with (
        CONNECTOR.open({"path": str(path)}, Limits(statement_timeout_s=0)) as session,
        pytest.raises(SourceError) as caught,
    ):
        list(session.read(Slice(stream, None)))
    assert caught.value.kind == "timeout"


def test_a_source_is_never_written(path: Path) -> None:
    """The file is the same after check, discover and a read."""
    run(path, "create table t (k text)", "insert into t values ('a')")
    before = path.read_bytes()
    stream = StreamSpec(("t",), (KEY,))
    CONNECTOR.check({"path": str(path)}, [stream])
    CONNECTOR.discover({"path": str(path)})
    pages(path, stream)
    assert path.read_bytes() == before


def test_a_misspelt_column_is_not_read_as_its_own_name(path: Path) -> None:
    """SQLite takes an unknown name in double quotes for a text; we do not."""
    run(path, "create table t (k text)", "insert into t values ('a')")
    stream = StreamSpec(("t",), (KEY, ColumnSpec("nmae", "C", 9, None, key=False)))
    with pytest.raises(SourceError, match="nmae"):
        pages(path, stream)


def test_declared_types_become_drafts(path: Path) -> None:
    """Discover reads lengths, precisions and keys from the declarations."""
    run(path, "create table t (id integer primary key, name varchar(30) not null,"
        " born date, at timestamp, pay decimal(12,2), free numeric, photo blob,"
        " ratio double, ok boolean, note)")  # fmt: skip
    (table,) = CONNECTOR.discover({"path": str(path)})
    drafts = {c.name: (c.type, c.length, c.scale, c.key) for c in table.columns}
    assert drafts == {
        "id": ("I", None, None, True),
        "name": ("C", 30, None, False),
        "born": ("D", None, None, False),
        "at": ("T", None, None, False),
        "pay": ("N", 12, 2, False),
        "free": ("N", 38, 10, False),
        "photo": ("G", None, None, False),
        "ratio": ("B", None, None, False),
        "ok": ("L", None, None, False),
        "note": ("M", None, None, False),
    }
