# SPDX-License-Identifier: Apache-2.0
"""The rules of tags, for connectors whose source digests rows; beside conformance.py.

Each rule is a function of a Subject whose connector can tag a table's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from connectors.conformance import (
    CODE,
    ID,
    NOTE,
    SAMPLES,
    BrokenRule,
    Row,
    Subject,
    _bag,
    _read,
    _rows,
    require,
)
from connectors.contract import ColumnSpec, Limits, Slice, StreamSpec
from connectors.tags import TaggingSession


def tags_tell_values_apart(subject: Subject) -> None:
    """Two values of a type never have one tag, nor has NULL (tags, rule 1)."""
    for letter, (column, values) in SAMPLES.items():
        rows = [(i, value) for i, value in enumerate((*values, None))]
        stream = subject.stream(f"conf_tags_{letter.lower()}", (ID, column), rows)
        with _tagging(subject, _without_id(subject, stream, column)) as (session, part):
            found = [
                tag for some in session.tags(part) for tag in some.tags.to_pylist()
            ]
            values_read = _rows(_read(session, part.stream))
        distinct = len(_bag(values_read))
        require(len(found) == len(rows), f"type {letter}: tags are missing")
        require(len(set(found)) == distinct, f"type {letter}: values share a tag")


def a_change_changes_the_tag(subject: Subject) -> None:
    """A row that was written anew has another tag; all others keep theirs (rule 2)."""
    stream = subject.stream("conf_tags_change", (ID, NOTE), [(1, "a"), (2, "b")])
    before, name = _tags(subject, stream)
    subject.add(stream.table, [(3, "c")])
    after, again = _tags(subject, stream)
    require(name == again, "the way of digesting changes by itself")
    require(
        after[:2] == before and len(after) == 3, "a row that nobody touched changed"
    )
    require(len({tag for _, tag in after}) == 3, "rows share a tag")


def tags_and_rows_are_one_read(subject: Subject) -> None:
    """Tags come in the order of the rows, both ways, in one snapshot (rules 3, 4)."""
    rows: list[tuple[Any, ...]] = [
        (i * 7919 % 101, f"k{i % 3}", str(i)) for i in range(300)
    ]
    rows += [(None, "k", "x"), (5, None, "y"), (7, "k1", "double")]
    stream = subject.stream("conf_tags_order", (ID, CODE, NOTE), rows)
    with _tagging(subject, stream, page_rows=64) as (session, part):
        keys, tags = _all(session, part)
        subject.add(stream.table, [(1000, "late", "not in the snapshot")])
        pages = list(session.tagged(part))
        found = _rows(pages)
        require(_bag(found) == _bag(rows), "tagged rows are others than those there")
        require([row[:2] for row in found] == keys, "tags come in another order")
        with_rows = [tag for page in pages for tag in page.tags.to_pylist()]
        require(sorted(with_rows) == sorted(tags), "a row has two tags")
        plain = _rows(_read(session, stream))
        require(_bag(plain) == _bag(rows), "rows changed within the session")


def rows_of_chosen_keys_come(subject: Subject) -> None:
    """All rows of the keys asked for come, each once, and no others (rule 4)."""
    texts = ["", "a", "A", "a ", "'\\\"{},", "null", "NULL", "张", "𠮷", "x" * 20]
    rows: list[tuple[Any, ...]] = [
        (i, text, f"{i}{text}") for i in range(4) for text in texts
    ]
    rows += [(1, "a", "double"), (None, "a", "n1"), (None, None, "n2"), (2, None, "n3")]
    stream = subject.stream("conf_tags_chosen", (ID, CODE, NOTE), rows)
    with _tagging(subject, stream, page_rows=8) as (session, part):
        pieces = [some.keys for some in session.tags(part)]
        for chosen in (
            lambda key: key[0] == 1,
            lambda key: None in key,
            lambda _: False,
        ):
            wanted = [_filtered(keys, chosen) for keys in pieces]
            found = _rows(list(session.tagged(part, wanted)))
            due = [row for row in rows if chosen(row[:2])]
            require(_bag(found) == _bag(due), f"{len(due)} rows due, {len(found)} came")


def text_keys_are_asked_for_exactly(subject: Subject) -> None:
    """A text that differs by case, blanks or width only is another key (rule 4)."""
    codes = ["a", "A", "a ", " a", "ａ", "á", "", "张", "𠮷", "{a}", "\\", '"']
    rows = [(code, str(i)) for i, code in enumerate(codes)]
    stream = subject.stream("conf_tags_texts", (CODE, NOTE), rows)
    with _tagging(subject, stream) as (session, part):
        [found] = session.tags(part)
        for i in range(found.keys.num_rows):
            wanted = [found.keys.slice(i, 1)]
            got = _rows(list(session.tagged(part, wanted)))
            key = found.keys.column(0)[i].as_py()
            require([row[0] for row in got] == [key], f"asked for {key!r}, got {got!r}")


TAG_RULES: tuple[Callable[[Subject], None], ...] = (
    tags_tell_values_apart,
    a_change_changes_the_tag,
    tags_and_rows_are_one_read,
    rows_of_chosen_keys_come,
    text_keys_are_asked_for_exactly,
)
"""All of them."""


@contextmanager
def _tagging(
    subject: Subject, stream: StreamSpec, **limits: Any
) -> Iterator[tuple[TaggingSession, Slice]]:
    """A session that tags the stream's rows, and what to read."""
    with subject.connector.open(subject.config, Limits(**limits)) as session:
        if not isinstance(session, TaggingSession):
            raise BrokenRule("the session has no tags")
        session.frontier(stream)
        (part,) = session.plan(stream)
        require(session.tagging(stream), "the source cannot digest these rows")
        yield session, part


def _without_id(subject: Subject, stream: StreamSpec, column: ColumnSpec) -> StreamSpec:
    """The column alone, as a key: no other one makes tags different."""
    key = ColumnSpec(column.name, column.type, column.length, column.scale, key=True)
    return StreamSpec(stream.table, (key,), subject.stamp)


def _all(session: TaggingSession, part: Slice) -> tuple[list[Row], list[int]]:
    keys: list[Row] = []
    tags: list[int] = []
    for some in session.tags(part):
        require(some.keys.num_rows == len(some.tags), "not one tag a key")
        keys += [tuple(row.values()) for row in some.keys.to_pylist()]
        tags += some.tags.to_pylist()
    return keys, tags


def _tags(subject: Subject, stream: StreamSpec) -> tuple[list[tuple[Row, int]], str]:
    with _tagging(subject, stream) as (session, part):
        found = list(zip(*_all(session, part), strict=True))
        return found, session.tagging(stream) or ""


def _filtered(keys: pa.RecordBatch, chosen: Callable[[Sequence[Any]], bool]) -> Any:
    mask = [chosen(tuple(row.values())) for row in keys.to_pylist()]
    return keys.filter(pa.array(mask, pa.bool_()))
