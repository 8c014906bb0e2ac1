# SPDX-License-Identifier: Apache-2.0
"""The child's side: sessions that break, rows that are not meant, texts that leak."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.child.inside import Lines
from agent.errors import ConfigInvalid
from agent.lookup.query.ask import BAD, TWICE
from agent.lookup.query.talk import (
    Fault,
    Found,
    Opening,
    Query,
    Shape,
    answer_of,
    query_line,
    shape_line,
)
from agent.lookup.query.worker import Form, Lane, Worker, answer, matched
from connectors.contract import Limits, LookupPage, LookupSpec, SourceError
from tests.support.columns import bound
from tests.support.fake_connector import FakeConnector

AS_OF = "2026-11-21T08:00:00Z"
OPENING = Opening("fake", {}, 3, "Asia/Shanghai")
SHAPE = Shape(
    ("person",), (bound("id", "C", 18, key=True), bound("pay", "N", 12, 2)), ("id",)
)
CANARY = "110101199003070011"


@dataclass
class Scripted(FakeConnector):
    """Each fetch takes the next of ``script``: a page's columns, or an error to raise.

    ``opened`` and ``closed`` count sessions.
    """

    script: list[Any] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    refuse: SourceError | None = None

    @contextmanager
    def lookup(self, config: Mapping[str, Any], limits: Limits) -> Iterator[Any]:
        if self.refuse is not None:
            raise self.refuse
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    def fetch(self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]) -> LookupPage:
        found = self.script.pop(0)
        if isinstance(found, BaseException):
            raise found
        which, *columns = found
        return LookupPage(columns, which, AS_OF)


def worker_of(connector: FakeConnector, sock: Any = None) -> Worker:
    return Worker(OPENING, Lines(sock), lambda _: connector)  # type: ignore[arg-type,return-value]


def form_of(shape: Shape = SHAPE) -> Form:
    return worker_of(Scripted())._form(shape)


def lane_of(connector: Scripted) -> Lane:
    return Lane(connector, {}, Limits())


def told(lane: Lane, *keys: str, split: Sequence[int] | None = None) -> Found | Fault:
    query = Query(1, 0, tuple(split or [1] * len(keys)), [[k] for k in keys])
    (line,) = answer(lane, query, form_of())
    return answer_of(line)


def test_rows_are_answered_ask_by_ask() -> None:
    """Keys of several asks come back apart, in their order."""
    lane = lane_of(Scripted(script=[([0, 2], ["a", "c"], ["1.50", None])]))
    found = told(lane, "a", "b", "c", split=[1, 2])

    assert isinstance(found, Found)
    assert found.asks == [[["a", "1.5"]], [None, ["c", None]]]
    assert found.as_of == AS_OF


@pytest.mark.parametrize("own", ["a ", "A", "ａ", "", None, b"\xff", "b"], ids=repr)
def test_a_row_whose_own_key_is_not_the_asked_text_is_no_row(own: Any) -> None:
    """Whatever the database calls equal, the text decides."""
    page = LookupPage([[own], ["1"]], [0], AS_OF)
    assert matched(page, form_of(), [("a",)]) == [None]


def test_a_row_beside_one_that_is_not_meant_is_not_double() -> None:
    """Two rows of which one is equal are one row; two that are equal are TWICE."""
    page = LookupPage([["A", "a", "b", "b"], ["1", "2", "3", "4"]], [0, 0, 1, 1], AS_OF)
    assert matched(page, form_of(), [("a",), ("b",)]) == [("a", "2"), TWICE]


def test_a_key_that_its_item_cannot_carry_is_no_row() -> None:
    """A key above its length, or undecodable, equals nothing; another item is BAD."""
    page = LookupPage([["x" * 19, "a"], ["1", "x"]], [0, 1], AS_OF)
    assert matched(page, form_of(), [("x" * 19,), ("a",)]) == [None, ("a", BAD)]


def test_a_broken_session_costs_nobody_an_answer() -> None:
    """A session that had worked is opened anew, and the query asked once more."""
    good = ([0], ["a"], ["1"])
    gone = SourceError("unreachable", "the connection broke")
    connector = Scripted(script=[good, gone, good])
    lane = lane_of(connector)

    assert isinstance(told(lane, "a"), Found)
    assert isinstance(told(lane, "a"), Found)
    assert (connector.opened, connector.closed) == (2, 1)


def test_a_fresh_session_that_breaks_is_not_tried_again() -> None:
    """A source that is away is told at once; the next query opens another session."""
    gone = SourceError("unreachable", "the connection broke")
    connector = Scripted(script=[gone, ([0], ["a"], ["1"])])
    lane = lane_of(connector)

    assert told(lane, "a") == Fault(1, "source-unreachable", "the connection broke")
    assert isinstance(told(lane, "a"), Found)
    assert (connector.opened, connector.closed) == (2, 1)


def test_a_timeout_is_not_repeated() -> None:
    """It would take as long again; the session is closed and the next one works."""
    slow = SourceError("timeout", "SQLSTATE 57014")
    connector = Scripted(script=[([], [], []), slow, ([0], ["a"], ["1"])])
    lane = lane_of(connector)
    told(lane, "a")

    assert told(lane, "a") == Fault(
        1, "source-timeout", "statement timeout: SQLSTATE 57014"
    )
    assert isinstance(told(lane, "a"), Found)
    assert (connector.opened, connector.closed) == (2, 1)


def test_a_refused_login_is_told() -> None:
    """What opening fails of is the query's fault."""
    connector = Scripted(
        refuse=SourceError("login", "hr@db: user or password is wrong")
    )
    found = told(lane_of(connector), "a")

    assert found == Fault(1, "source-login", "hr@db: user or password is wrong")


@pytest.mark.parametrize(
    "error",
    [KeyError(CANARY), ValueError(f"invalid input: {CANARY}"), MemoryError(CANARY)],
)
def test_a_foreign_error_tells_its_class_alone(error: Exception) -> None:
    """A connector that breaks its contract leaks no key through its message."""
    lane = lane_of(Scripted(script=[error]))
    assert told(lane, CANARY) == Fault(1, "internal", type(error).__name__)


def test_a_page_of_the_wrong_form_is_a_defect() -> None:
    """Columns of another length are never guessed at."""
    lane = lane_of(Scripted(script=[([0, 0], ["a"], ["1"])]))
    assert told(lane, "a") == Fault(1, "internal", "ValueError")


def test_a_connector_without_lookups_is_refused() -> None:
    """A third party's connector may only push."""
    with pytest.raises(ConfigInvalid, match="answers no lookups"):
        worker_of(FakeConnector())


def test_lanes_answer_at_a_time() -> None:
    """A slow query does not hold up those behind it."""
    waiting = threading.Event()

    class Slow(Scripted):
        def fetch(
            self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]
        ) -> LookupPage:
            if keys[0][0] == "slow":
                waiting.wait(10)
            return LookupPage([[keys[0][0]], ["1"]], [0], AS_OF)

    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as answers:
        serving = threading.Thread(target=worker_of(Slow(), theirs).serve, daemon=True)
        serving.start()
        ours.sendall(shape_line(0, SHAPE))
        for i, key in enumerate(("slow", "a", "slow", "b"), 1):
            ours.sendall(query_line(Query(i, 0, (1,), [[key]])))
        quick = {json.loads(answers.readline())["id"] for _ in range(2)}
        waiting.set()
        late = {json.loads(answers.readline())["id"] for _ in range(2)}
        ours.shutdown(socket.SHUT_WR)
        serving.join(10)

    assert (quick, late) == ({2, 4}, {1, 3})
    assert not serving.is_alive()
