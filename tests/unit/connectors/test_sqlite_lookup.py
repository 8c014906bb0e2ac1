# SPDX-License-Identifier: Apache-2.0
"""Lookups in SQLite, where each value has a type of its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.contract import ColumnSpec, Limits, LookupSpec, SourceError, StreamSpec
from connectors.sqlite import CONNECTOR
from connectors.sqlite.lookup import lookup

NOTE = ColumnSpec("note", "C", 20, None, key=False)
Make = Callable[..., Path]


def key(letter: str, length: int | None = None, scale: int | None = None) -> ColumnSpec:
    return ColumnSpec("k", letter, length, scale, key=True)


def spec(column: ColumnSpec) -> LookupSpec:
    return LookupSpec(StreamSpec(("t",), (column, NOTE)), ("k",))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a file with a table of keys and notes."""

    def made(declared: str, rows: Sequence[tuple[Any, str]], index: str = "") -> Path:
        path = tmp_path / "a.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.execute("pragma journal_mode = wal")
            db.execute(f"create table t (k {declared}, note text)")
            db.executemany("insert into t values (?, ?)", rows)
            db.execute(index or "create index i on t (k)")
            db.commit()
        return path

    return made


def ask(path: Path, column: ColumnSpec, *keys: str, **config: Any) -> dict[str, str]:
    """Key -> notes of the rows that come."""
    with lookup(
        {"path": str(path), **config}, Limits(statement_timeout_s=5)
    ) as session:
        page = session.fetch(spec(column), [(k,) for k in keys])
    found = dict.fromkeys(keys, "")
    for i, note in zip(page.which, page.columns[1], strict=True):
        found[keys[i]] += str(note)
    return found


STORED = [(1, "a"), ("1", "b"), (b"1", "c"), (1.0, "d"), ("01", "e"), (0.1, "f")]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("", {"1": "ab", "01": "e", "0.1": "f", "1.0": "d", " 1": ""}),
        ("text", {"1": "ab", "01": "e", "0.1": "f", "1.0": "d", " 1": ""}),
        ("integer", {"1": "ab", "01": "", "0.1": "f", "1.0": "", " 1": ""}),
    ],
)
def test_one_text_of_several_storage_classes(
    make: Make, declared: str, expected: dict[str, str]
) -> None:
    """As C: 1, '1' and x'31' are the text 1, of which two come; 1.0 is another."""
    assert ask(make(declared, STORED), key("C", 9), *expected) == expected


def test_bytes_that_are_the_text_are_found(make: Make) -> None:
    """A BLOB whose bytes are the key's UTF-8 is the same text to a push."""
    path = make("", [("张三".encode(), "a"), (b"\xb5\xc2", "b")])
    assert ask(path, key("C", 9), "张三", "µ") == {"张三": "a", "µ": ""}


@pytest.mark.parametrize(("letter", "size"), [("I", ()), ("N", (38, 10)), ("Y", ())])
def test_one_number_of_several_storage_classes(
    make: Make, letter: str, size: tuple[int, ...]
) -> None:
    """As a number 1, 1.0 and '1' are one, and neighbours are not."""
    near = [(2**53, "g"), (2**53 + 1, "h"), (2**63 - 1, "i")]
    found = ask(
        make("", [*STORED, *near]), key(letter, *size), "1", "2", str(2**53 + 1)
    )

    ones = found.pop("1")
    assert found == {"2": "", str(2**53 + 1): "h"}
    assert len(ones) == 2
    assert set(ones) < set("abcde")


def test_decimals_stand_as_floats_and_as_texts(make: Make) -> None:
    """0.1 is found as REAL and as text; 0.10 is another text of the same number."""
    path = make("", [(0.1, "a"), ("0.1", "b"), (100, "c"), ("100.5", "d")])
    assert ask(path, key("N", 9, 2), "0.1", "100", "100.5") == {
        "0.1": "ab",
        "100": "c",
        "100.5": "d",
    }


@pytest.mark.parametrize("collation", ["nocase", "rtrim"])
def test_a_collation_that_likes_more_finds_the_exact_text(
    make: Make, collation: str
) -> None:
    """Of many that are equal to the index the one with the same letters comes."""
    rows = [("AB", "1"), ("ab ", "2"), ("Ab", "3"), ("ab", "4"), ("aB", "5")]
    path = make(f"text collate {collation}", rows)
    found = ask(path, key("C", 9), "aB", "ab", "ab ", "ab  ")

    assert found == {"aB": "5", "ab": "4", "ab ": "2", "ab  ": ""}


@pytest.mark.parametrize("declared", ["", "text", "text collate nocase", "integer"])
def test_the_index_serves(make: Make, declared: str) -> None:
    """No form of the key defeats an index on the column."""
    path = make(declared, [("x", "y")])
    found = CONNECTOR.check_lookup({"path": str(path)}, [spec(key("C", 9))])  # type: ignore[attr-defined]
    assert found == []


def test_texts_of_another_encoding_are_found_in_it(make: Make) -> None:
    """gb18030 in a file: keys go and values come in that encoding."""
    path = make("text", [])
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "insert into t values (cast(? as text), cast(? as text))",
            ("张三".encode("gb18030"), "李四".encode("gb18030")),
        )
        db.commit()
    found = ask(path, key("C", 9), "张三", "\ud800", encoding="gb18030")
    assert found == {"张三": "李四", "\ud800": ""}


@pytest.mark.parametrize("letter", "TLBFG")
def test_types_without_exact_equality_are_refused(make: Make, letter: str) -> None:
    """A time has many texts in SQLite: refused, and not answered with no row."""
    with pytest.raises(SourceError) as e:
        ask(make("", []), key(letter), "x")
    assert e.value.kind == "type"


def test_a_number_in_a_text_column_is_warned_of(make: Make) -> None:
    """``007`` is not found by 7, which check tells beforehand."""
    path = make("varchar(9)", [("007", "a")])
    found = CONNECTOR.check_lookup({"path": str(path)}, [spec(key("I"))])  # type: ignore[attr-defined]

    assert [f.code for f in found] == ["lookup-key-text"]
    assert ask(path, key("I"), "7") == {"7": ""}


def test_a_file_that_was_replaced_is_noticed(make: Make, tmp_path: Path) -> None:
    """A restored file has the old one's name and other rows: the session ends."""
    path = make("text", [("x", "old")])
    config = {"path": str(path)}
    with lookup(config, Limits()) as session:
        assert session.fetch(spec(key("C", 9)), [("x",)]).columns[1] == ["old"]
        path.rename(tmp_path / "old.db")
        with pytest.raises(SourceError) as gone:
            session.fetch(spec(key("C", 9)), [("x",)])
        make("text", [("x", "new")])
        with pytest.raises(SourceError) as other:
            session.fetch(spec(key("C", 9)), [("x",)])

    assert (gone.value.kind, other.value.kind) == ("unreachable", "unreachable")
    assert ask(path, key("C", 9), "x") == {"x": "new"}


def test_a_fetch_that_takes_too_long_is_a_timeout(make: Make) -> None:
    """A scan beyond the limit is broken off, and the session goes on."""
    path = make("text", [(str(i), "x") for i in range(20_000)], "select 1")
    with lookup({"path": str(path)}, Limits(statement_timeout_s=5)) as session:
        session.clock = iter([0.0, *[9.0] * 10_000]).__next__
        with pytest.raises(SourceError) as e:
            session.fetch(spec(key("C", 9)), [("no",)] * 50)
        assert e.value.kind == "timeout"
        session.clock = lambda: 0.0
        assert list(session.fetch(spec(key("C", 9)), [("7",)]).which) == [0]


def test_a_lookup_holds_no_writer_back(make: Make) -> None:
    """Between two fetches no transaction is open, and rows are those of now."""
    path = make("text", [("x", "old")])
    with (
        lookup({"path": str(path)}, Limits()) as session,
        closing(sqlite3.connect(path, timeout=0)) as writer,
    ):
        session.fetch(spec(key("C", 9)), [("x",)])
        writer.execute("update t set note = 'new'")
        writer.commit()
        writer.execute("pragma wal_checkpoint(truncate)")
        assert session.fetch(spec(key("C", 9)), [("x",)]).columns[1] == ["new"]


def test_nothing_can_be_written(make: Make) -> None:
    """The connection of a lookup only reads."""
    path = make("text", [])
    with (
        lookup({"path": str(path)}, Limits()) as session,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        session.db.execute("delete from t")


def test_values_that_are_much_too_long_are_cut(make: Make) -> None:
    """Many megabytes do not enter the process; what comes is still too long."""
    path = make("text", [("x", "a")])
    with closing(sqlite3.connect(path)) as db:
        db.execute("update t set note = cast(zeroblob(20000000) as text)")
        db.execute("insert into t values ('y', zeroblob(20000000))")
        db.commit()
    with lookup({"path": str(path)}, Limits()) as session:
        page = session.fetch(spec(key("C", 9)), [("x",), ("y",)])

    assert [len(note) for note in page.columns[1] if note is not None] == [84, 84]
