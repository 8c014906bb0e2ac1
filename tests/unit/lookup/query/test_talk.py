# SPDX-License-Identifier: Apache-2.0
"""Lines between daemon and lookup worker: whole, bounded, and nothing invented."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from agent.lookup.query.ask import BAD, MOST_KEYS, TWICE
from agent.lookup.query.talk import (
    LARGE,
    Fault,
    Found,
    Opening,
    Query,
    Shape,
    answer_of,
    asked_of,
    fault_line,
    found_lines,
    opening_line,
    opening_of,
    query_line,
    row_of,
    shape_line,
)
from agent.model.job import LINE_CAP
from tests.support.columns import bound
from tests.support.tries import tries

AS_OF = "2026-11-21T08:00:00.000001Z"
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def query(*split: int) -> Query:
    return Query(7, 3, split, [["k"]] * sum(split))


def test_an_opening_goes_over_whole() -> None:
    """Settings and secrets arrive as they were."""
    opening = Opening("postgres", {"password": '"\n密'}, 3, "Asia/Shanghai")
    assert opening_of(opening_line(opening)) == opening


def test_a_shape_goes_over_whole() -> None:
    """Table, items and keys arrive as they were; rules of a push stay behind."""
    items = (bound("id", "C", 18, key=True), bound("pay", "N", 12, 2))
    slot, shape = asked_of(shape_line(5, Shape(("hr", "person"), items, ("id",))))

    assert slot == 5
    assert (shape.table, shape.items, shape.keys) == (("hr", "person"), items, ("id",))


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=4))
@tries(200)
def test_keys_go_over_whole(keys: list[tuple[str, str]]) -> None:
    """Any text of Python, half surrogates and U+0000 too, in one line."""
    sent = Query(1, 0, (len(keys),), keys)
    line = query_line(sent)
    got = asked_of(line)

    assert line.count(b"\n") == 1
    assert isinstance(got, Query)
    assert [tuple(key) for key in got.keys] == keys
    assert (got.id, got.slot, got.split) == (1, 0, (len(keys),))


@given(st.lists(_texts | st.none() | st.just(BAD), max_size=4))
@tries(200)
def test_rows_go_over_whole(row: list[Any]) -> None:
    """A row, no row, a double key and a faulty value arrive as such."""
    (line,) = found_lines(query(1, 3), AS_OF, [[tuple(row)], [None, TWICE, ("x",)]])
    got = answer_of(line)

    assert isinstance(got, Found)
    assert (got.id, got.last, got.as_of, got.size) == (7, True, AS_OF, len(line))
    assert [list(map(row_of, rows)) for rows in got.asks] == [
        [tuple(row)],
        [None, TWICE, ("x",)],
    ]


def test_long_answers_make_several_lines() -> None:
    """No line is above the cap; asks stay whole and in order."""
    text = "字" * 500_000
    asks = [[(text, str(i))] for i in range(7)]
    lines = list(found_lines(query(*[1] * 7), AS_OF, asks))
    found = [answer_of(line) for line in lines]

    assert all(len(line) <= LINE_CAP for line in lines)
    assert [f.last for f in found] == [False] * (len(lines) - 1) + [True]
    assert [row[0][1] for f in found for row in f.asks] == [str(i) for i in range(7)]


def test_an_ask_above_a_line_is_large_and_the_others_are_not() -> None:
    """What fits in no line is told as too large; its neighbours have their rows."""
    asks = [[("a",)], [("\x01" * 800_000,)], [("b",)]]
    found = [answer_of(line) for line in found_lines(query(1, 1, 1), AS_OF, asks)]

    assert [ask for f in found for ask in f.asks] == [[["a"]], LARGE, [["b"]]]


def test_a_fault_goes_over_whole() -> None:
    """Its code and detail arrive as they were."""
    fault = Fault(3, "source-text", "SQLSTATE 22P05")
    assert answer_of(fault_line(fault)) == fault


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b"1", b"null", b"{}", b'{"id": 1}', b'{"id": 1, "asks": []}',
     b'{"code": "x"}', b'{"id": "x", "last": true, "as_of": "", "asks": []}'],
)  # fmt: skip
def test_garbage_of_a_worker_is_a_value_error(line: bytes) -> None:
    """What is no answer is refused as such."""
    with pytest.raises(ValueError):  # noqa: PT011 - that it is one is the promise
        answer_of(line)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"shape": 1}', b'{"id": 1}', b"x"])
def test_garbage_of_a_daemon_is_a_value_error(line: bytes) -> None:
    """What is no query and no shape is refused as such."""
    with pytest.raises(ValueError):  # noqa: PT011 - that it is one is the promise
        asked_of(line)


def test_keys_of_a_query_fit_what_they_may_find() -> None:
    """Short items allow a thousand keys, long texts only a few, and always one."""
    short = Shape(("t",), (bound("id", "C", 18), bound("n", "I")), ("id",))
    long = Shape(("t",), (bound("id", "C", 18), *[bound("m", "M")] * 40), ("id",))

    assert short.most_keys == MOST_KEYS
    assert long.most_keys == 1
