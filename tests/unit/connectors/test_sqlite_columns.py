# SPDX-License-Identifier: Apache-2.0
"""SQLite by columns: the same rows as by rows, whatever the values are."""

from __future__ import annotations

import ctypes
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.contract import ColumnSpec, Limits, Page, Slice, SourceError, StreamSpec
from connectors.native.loader import library
from connectors.sql import KeyPart
from connectors.sqlite.columnar import TEXT_ROWS
from connectors.sqlite.handle import Handle, functions, functions_of
from connectors.sqlite.session import Query, session
from connectors.sqlite.text import text_of
from tests.support.tries import tries

PATIENCE_S = 60.0
KEY = ColumnSpec("k", "I", None, None, key=True)

anything = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.integers(-2, 2)
    | st.floats(allow_nan=False)
    | st.decimals(-(10**13), 10**13, places=2).map(float)
    | st.text(max_size=5)
    | st.sampled_from(["1", "1.0", "-0", "a\0b", ""])
    | st.binary(max_size=5)
)
"""What a column of any declared type may hold."""

few = st.sampled_from([None, 0, 1, 1.0, 0.5, "1", "a", b"1", b"\xff"])
"""Keys that are often the same, or the same text."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "库.db"


def make(path: Path, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma synchronous = off")
        db.execute("begin")
        db.execute(f"create table t ({columns})")
        marks = ", ".join("?" for _ in columns.split(","))
        db.executemany(f"insert into t values ({marks})", rows)
        db.execute("commit")


def read(
    path: Path, stream: StreamSpec, by: str, resume: str | None = None, **limits: Any
) -> list[Page]:
    """All pages, by ``columns`` or by ``rows``."""
    with session({"path": str(path)}, Limits(**limits)) as open_:
        assert open_.handle is not None
        found = open_ if by == "columns" else replace(open_, handle=None)
        return list(found.read(Slice(stream, None), resume))


def rows_of(pages: Sequence[Page], stream: StreamSpec) -> list[tuple[Any, ...]]:
    """Rows, each value as what it means for its item."""
    return [
        tuple(_meaning(v, c.type) for v, c in zip(row, stream.columns, strict=True))
        for page in pages
        for row in zip(*(c.to_pylist() for c in page.rows.columns), strict=True)
    ]


def _meaning(value: Any, letter: str) -> Any:
    """Numbers as numbers, all else as bytes: a page may have either form."""
    if value is None:
        return None
    if isinstance(value, bool | float):
        value = repr(int(value) if isinstance(value, bool) else value)
    raw = value if isinstance(value, bytes) else str(value).encode()
    if letter in "ILBFNY":
        with suppress(ArithmeticError, UnicodeDecodeError):
            return Decimal(raw.decode())
    return raw


@tries(200)
@given(
    rows=st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=8),
    letters=st.tuples(*[st.sampled_from("CMINYLBFDTG")] * 3),
    declared=st.sampled_from(["", "text", "numeric", "integer", "real", "blob"]),
    page_rows=st.sampled_from([1, 2, 3, 100]),
    scale=st.integers(0, 20),
)
def test_both_readers_give_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[Any, ...]],
    letters: tuple[str, ...],
    declared: str,
    page_rows: int,
    scale: int,
) -> None:
    """Whatever a column holds, C and Python read the same values in the same order."""
    path = tmp_path_factory.getbasetemp() / "both.db"
    make(path, f"a {declared}, b {declared}, k integer primary key",
         [(a, b, i) for i, (a, b, _) in enumerate(rows)])  # fmt: skip
    a, b, _ = (
        ColumnSpec(n, x, 38, scale, key=False)
        for n, x in zip("abc", letters, strict=True)
    )
    for key in (KEY, replace(KEY, type="C")):
        stream = StreamSpec(("t",), (a, key, b))
        found = read(path, stream, "columns", page_rows=page_rows)
        wanted = read(path, stream, "rows", page_rows=page_rows)
        assert rows_of(found, stream) == rows_of(wanted, stream)
        assert all(page.rows.num_rows <= page_rows for page in found)
        for page in found:
            page.rows.validate(full=True)


@tries(200)
@given(
    keys=st.lists(st.tuples(few | anything, few), min_size=1, max_size=8),
    letters=st.sampled_from(["CC", "IC", "NC", "GC", "CI"]),
    readers=st.tuples(*[st.sampled_from(["columns", "rows"])] * 2),
)
def test_one_reader_goes_on_where_the_other_stopped(
    tmp_path_factory: pytest.TempPathFactory,
    keys: list[tuple[Any, int]],
    letters: str,
    readers: tuple[str, str],
) -> None:
    """A token of either reader is a place of the other's; no row is missing."""
    path = tmp_path_factory.getbasetemp() / "on.db"
    make(path, "k, j", keys)
    stream = StreamSpec(
        ("t",),
        tuple(
            ColumnSpec(n, x, 38, 2, key=True)
            for n, x in zip("kj", letters, strict=True)
        ),
    )
    whole = rows_of(read(path, stream, "columns"), stream)
    pages = read(path, stream, readers[0], page_rows=2)
    assert rows_of(pages, stream) == whole
    done = 0
    for page in pages:
        done += page.rows.num_rows
        rest = rows_of(read(path, stream, readers[1], page.token), stream)
        assert rest[len(rest) - len(whole) + done :] == whole[done:]
        if readers == ("columns", "columns"):
            assert len(rest) == len(whole) - done


def test_each_page_may_be_the_last_of_its_session(path: Path) -> None:
    """Doubles that a token counts are passed over, as many as are left, and no others.

    The first token is of a table that had one more row of its key.
    """
    stream = StreamSpec(("t",), (ColumnSpec("k", "C", 9, None, key=True),))
    make(path, "k text", [(k,) for k in ("aa", "ab", "ac", "ac", "ac", "ad", "ae")])
    token, found = '{"key":["ab"],"rows":2}', []
    while pages := read(path, stream, "columns", token, page_rows=1):
        found += pages[0].rows.column(0).to_pylist()
        token = pages[0].token
    assert found == ["ac", "ac", "ac", "ad", "ae"]


@tries(300)
@given(
    value=st.floats(allow_nan=False)
    | st.integers(-1074, 1023).map(lambda e: 2.0**e)
    | st.integers(-1074, 1023).map(lambda e: -(2.0**e) * (1 + 2**-52))
    | st.decimals(-(10**17), 10**17, places=3).map(float)
)
@example(2.0**-44)
@example(5e-324)
@example(1e16)
@example(-0.0)
@example(float("inf"))
def test_a_float_has_the_same_text_in_both(value: float) -> None:
    """The shortest decimal that gives the float again, without an exponent."""
    write = library().fep_sqlite_float
    write.restype, write.argtypes = ctypes.c_size_t, [ctypes.c_double, ctypes.c_char_p]
    out = ctypes.create_string_buffer(400)
    size = write(value, out)
    assert out.raw[:size].decode() == text_of(value)


def test_texts_among_numbers_cost_few_pages(path: Path) -> None:
    """A column of texts alone is read in whole pages; one in 1,000 makes few small."""
    count, rows = 40_000, 4_000
    make(path, "k integer primary key, a, b",
         [(i, str(i) if i > 600 else i, "x" if i % 1000 == 999 else i)
          for i in range(count)])  # fmt: skip
    for name in "ab":
        stream = StreamSpec(("t",), (KEY, ColumnSpec(name, "I", None, None, key=False)))
        found = read(path, stream, "columns", page_rows=rows)
        assert sum(page.rows.num_rows for page in found) == count
        assert len(found) < count / rows + 12
        assert {str(page.rows.schema.types[1]) for page in found} == {"int64", "string"}


def test_a_text_later_on_costs_the_rows_after_it(path: Path) -> None:
    """The page ends before it; numbers come as numbers again behind its page."""
    make(path, "k integer primary key, v",
         [(i, "x" if i == 2000 else i) for i in range(5000)])  # fmt: skip
    stream = StreamSpec(("t",), (KEY, ColumnSpec("v", "I", None, None, key=False)))
    found = [
        (p.rows.num_rows, p.rows.schema.types[1]) for p in read(path, stream, "columns")
    ]
    assert found == [(2000, pa.int64()), (TEXT_ROWS, pa.string()),
                     (3000 - TEXT_ROWS, pa.int64())]  # fmt: skip


def test_a_row_that_is_taken_back_leaves_nothing(path: Path) -> None:
    """What was written of it before its strange value is not counted to the page."""
    rows = [(i, i, "x", i) for i in range(1000)]
    make(path, "k integer primary key, a, b, v", [*rows, (1000, None, "x" * 99, "y")])
    letters = {"a": "I", "b": "C", "v": "I"}
    columns = [ColumnSpec(n, x, 99, None, key=False) for n, x in letters.items()]
    first, second = read(path, StreamSpec(("t",), (KEY, *columns)), "columns")
    assert [c.null_count for c in first.rows.columns] == [0, 0, 0, 0]
    assert first.rows.column(2).buffers()[2].size == 1000
    assert second.rows.num_rows == 1


@pytest.mark.parametrize(
    ("length", "scale", "value", "native"),
    [
        (5, 2, 999, True),
        (5, 2, 999.99, True),
        (5, 2, 1000, False),
        (5, 2, 1000.5, False),
        (38, 15, 2**63 - 1, True),
        (38, 0, -(2**63), True),
        (18, 15, 999, True),
        (38, 16, 1, False),
    ],
)
def test_a_decimal_has_at_most_its_digits(
    path: Path, length: int, scale: int, value: float, native: bool
) -> None:
    """What does not fit into precision and scale comes as text and is judged later."""
    make(path, "k integer primary key, v", [(1, value)])
    spec = ColumnSpec("v", "N", length, scale, key=False)
    (page,) = read(path, StreamSpec(("t",), (KEY, spec)), "columns")
    page.rows.validate(full=True)
    assert pa.types.is_decimal(page.rows.schema.types[1]) == native
    (found,) = page.rows.column(1).to_pylist()
    assert Decimal(found) == Decimal(repr(value))


# --- one connection, one snapshot ---------------------------------------------------


@pytest.fixture
def many(path: Path) -> tuple[Path, StreamSpec]:
    make(path, "k integer primary key, v", [(i, f"text {i}") for i in range(20_000)])
    return path, StreamSpec(("t",), (KEY, ColumnSpec("v", "C", 20, None, key=False)))


def texts(pages: Iterator[Page]) -> list[str]:
    return list(chain(*(page.rows.column(1).to_pylist() for page in pages)))


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_pages_are_of_one_snapshot_while_a_writer_tries(
    many: tuple[Path, StreamSpec], mode: str
) -> None:
    """Rows, frontier and estimate are of one state: a writer waits or is not seen."""
    path, stream = many
    with closing(sqlite3.connect(path, timeout=0)) as writer:
        writer.execute(f"pragma journal_mode = {mode}")
        with session({"path": str(path)}, Limits(page_rows=500)) as open_:
            pages = open_.read(Slice(stream, None))
            first = next(pages)
            try:
                with writer:
                    writer.execute("update t set v = 'other'")
            except sqlite3.OperationalError:
                assert mode == "delete"
            found = first.rows.column(1).to_pylist() + texts(pages)
            again = texts(open_.read(Slice(stream, None)))
    assert found == again == [f"text {i}" for i in range(20_000)]


def test_a_file_that_is_replaced_is_read_to_its_end(
    many: tuple[Path, StreamSpec], tmp_path: Path
) -> None:
    """Another file under the same name gives no row to a session that was open."""
    path, stream = many
    with session({"path": str(path)}, Limits(page_rows=500)) as open_:
        other = tmp_path / "other.db"
        make(other, "k integer primary key, v", [(i, "other") for i in range(9)])
        other.rename(path)
        assert texts(open_.read(Slice(stream, None)))[-1] == "text 19999"


def test_a_snapshot_that_is_gone_is_an_error(many: tuple[Path, StreamSpec]) -> None:
    """SQLite ends a transaction after some errors: no page of another one follows."""
    path, stream = many
    with session({"path": str(path)}, Limits()) as open_:
        open_.db.rollback()
        with pytest.raises(SourceError, match="snapshot"):
            list(open_.read(Slice(stream, None)))


SLOW = (
    "create view slow as with recursive r(i) as (select 0 union all select i + 1 from r"
    " where i < 1000000000) select i as k, i / 1000000 as v from r where i % 1000 = 0"
)
"""Rows that take for ever, one after the other: it has no key that is looked through
first."""


def test_a_step_that_takes_too_long_is_cancelled(many: tuple[Path, StreamSpec]) -> None:
    """The clock is asked while C waits for a row, in the thread that reads ahead."""
    path, stream = many
    asked = threading.Event()
    with session({"path": str(path)}, Limits(page_rows=500)) as open_:
        pages = open_.read(Slice(stream, None))
        next(pages)
        open_.db.set_progress_handler(asked.is_set, 100)
        asked.set()
        with pytest.raises(SourceError) as caught:
            list(pages)
    assert caught.value.kind == "timeout"


def test_a_session_is_closed_while_another_thread_steps(path: Path) -> None:
    """A statement that would step for minutes ends, and its memory is left alone."""
    make(path, "k integer primary key", [(1,)])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(SLOW)
    caught: list[SourceError] = []
    stepping = threading.Event()
    with session({"path": str(path)}, Limits()) as open_:
        handle = open_.handle
        assert handle is not None
        open_.db.set_progress_handler(lambda: stepping.set() or False, 1000)  # type: ignore[func-returns-value]
        columns = (KEY, ColumnSpec("v", "I", None, None, key=False))
        query = Query(StreamSpec(("slow",), columns), "main.slow", (0,),
                      (KeyPart("t.k", True),), plain=True)  # fmt: skip

        def read_on() -> None:
            try:
                list(open_._columns(handle, query, None))
            except SourceError as e:
                caught.append(e)

        thread = threading.Thread(target=read_on)
        thread.start()
        assert stepping.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert [e.kind for e in caught] == ["timeout"]


def test_a_closed_session_gives_no_statement(many: tuple[Path, StreamSpec]) -> None:
    """Its handle points at nothing any more."""
    path, _ = many
    with session({"path": str(path)}, Limits()) as open_:
        handle = open_.handle
        assert handle is not None
        left = handle.prepare("select 1", {})
    assert left.pointer is None
    handle.finished(left)
    with pytest.raises(SourceError, match="closed"):
        handle.prepare("select 1", {})


@pytest.mark.parametrize("by", ["columns", "rows"])
def test_a_damaged_file_is_told_as_such(many: tuple[Path, StreamSpec], by: str) -> None:
    """Both readers end with SQLite's own name of the error; nothing is skipped."""
    path, stream = many
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = b"\xa5" * (len(raw) - len(raw) // 2)
    path.write_bytes(raw)
    with pytest.raises(SourceError) as caught:
        read(path, stream, by, page_rows=500)
    assert caught.value.kind == "failed"
    assert caught.value.detail.startswith("SQLITE_CORRUPT")


# --- the one library ----------------------------------------------------------------


def test_a_handle_is_that_of_its_connection(many: tuple[Path, StreamSpec]) -> None:
    """What another thread opens meanwhile is not taken for it."""
    path, _ = many
    found = functions()
    assert found is not None

    def opening() -> sqlite3.Connection:
        thread = threading.Thread(target=lambda: sqlite3.connect(":memory:").close())
        thread.start()
        thread.join(PATIENCE_S)
        return sqlite3.connect(path)

    db, pointer = found.opened(opening)
    with closing(db):
        db.execute("create temp table own (k)")
        statement = Handle(found, pointer or 0).prepare("select * from own", {})
        statement.handle.finished(statement)


def test_a_connection_of_another_library_has_no_handle() -> None:
    """Where ours opens nothing, rows are read as Python's module gives them."""
    found = functions()
    assert found is not None
    with closing(sqlite3.connect(":memory:")) as other:
        db, pointer = found.opened(lambda: other)
        assert db is other
        assert pointer is None


def test_a_library_that_hides_its_functions_is_no_error() -> None:
    """A Python with SQLite inside and no symbols still reads, by rows."""
    assert functions_of(ctypes.CDLL("libc.so.6")) is None
