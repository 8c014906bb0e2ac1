# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import errors
from agent.child.source import FAULTS, source_faults, stream_of
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job
from agent.model.pacing import Pacing, Rate
from agent.pipeline.extract import reading, split
from connectors.contract import (
    ColumnSpec,
    Frontier,
    Kind,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from tests.support.fake_source import FakeConnector, job
from tests.support.tries import tries

ITEMS = (
    BoundItem(Item("id_no", ItemType.C, 18, None, True, "1"), "ID_NO"),
    BoundItem(Item("pay", ItemType.N, 12, 2, False, "2"), "PAY"),
)
JOB = Job(
    kind="pull",
    resource="11/000001/0001",
    run="019abcde-0000-7000-8000-000000000001",
    connector="fake",
    source={},
    table=("hr", "person"),
    items=ITEMS,
    timezone="Asia/Urumqi",
    severity={},
    batch_raw_bytes=1000,
    max_rows_per_batch=100,
    quarantine="",
    statement_timeout_s=77,
)


class Source:
    """A connector and session that notes what it is asked."""

    def __init__(
        self, slices: int = 1, fail: str = "", estimate: int | None = 2
    ) -> None:
        self.asked: list[object] = []
        self.slices = slices
        self.fail = fail
        self.estimate = estimate

    @contextmanager
    def open(self, config: Mapping[str, Any], limits: Limits) -> Iterator[Source]:
        self.asked += ["open", limits]
        if self.fail == "open":
            raise SourceError("login", "role fep")
        yield self
        self.asked.append("close")

    def frontier(self, stream: StreamSpec) -> Frontier:
        self.asked += ["frontier", stream]
        return Frontier("f", "2026-11-21T08:00:00Z", "note")

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        self.asked.append("plan")
        return [Slice(stream, self.estimate)] * self.slices

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        self.asked.append("read")
        yield page(2)
        if self.fail == "read":
            raise SourceError("timeout", "after 77 s")


def page(rows: int, width: int = 8) -> Page:
    return Page(pa.record_batch({"a": ["x" * width] * rows}), f"t{rows}")


def test_frontier_is_taken_before_reading() -> None:
    """The frontier is asked for before the plan and before the first page."""
    source = Source()
    with reading(source, JOB) as opened:
        list(opened.pieces(raw_bytes=1000, max_rows=100))

    asked = [a for a in source.asked if isinstance(a, str)]
    assert asked == ["open", "frontier", "plan", "read", "close"]


def test_only_bound_columns_are_asked_for() -> None:
    """A stream names exactly the columns of the job's items, with their types."""
    assert stream_of(JOB.table, JOB.items) == StreamSpec(
        ("hr", "person"),
        (
            ColumnSpec("ID_NO", "C", 18, None, True),
            ColumnSpec("PAY", "N", 12, 2, False),
        ),
    )


def test_limits_come_from_the_job() -> None:
    """Time-out and zone reach the connector; no page is larger than a batch."""
    source = Source()
    with reading(source, JOB):
        pass

    assert source.asked[1] == Limits(
        statement_timeout_s=77, page_rows=100, timezone="Asia/Urumqi"
    )


@pytest.mark.parametrize(
    ("pacing", "seconds"),
    [
        (Pacing("hr"), 77),
        (Pacing("hr", Rate(rows=1000)), 86_400),
        (Pacing("hr", probe_s=10.0), 86_400),
    ],
)
def test_a_read_that_may_be_slowed_down_is_not_ended_for_it(
    pacing: Pacing, seconds: int
) -> None:
    """The server counts the rest between two pages as time of the statement."""
    source = Source()
    with reading(source, replace(JOB, pacing=pacing)):
        pass
    assert source.asked[1].statement_timeout_s == seconds


@pytest.mark.parametrize(("each", "all_"), [(2, 6), (None, None)])
def test_estimate_is_the_sum_or_nothing(each: int | None, all_: int | None) -> None:
    """One slice without an estimate leaves the whole without one."""
    with reading(Source(slices=3, estimate=each), JOB) as opened:
        assert opened.estimate == all_


def test_all_slices_are_read_in_order() -> None:
    """Every slice of the plan is read."""
    with reading(Source(slices=3), JOB) as opened:
        pieces = list(opened.pieces(raw_bytes=1000, max_rows=100))

    assert [p.rows.num_rows for p in pieces] == [2, 2, 2]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_source_error_has_a_fault(kind: Kind) -> None:
    """No kind of the contract is left without a class of ours."""
    with pytest.raises(FAULTS[kind], match="column PAY"), source_faults():
        raise SourceError(kind, "column PAY")


def test_unknown_kind_is_still_a_source_fault() -> None:
    """A connector of a third party that invents a kind does not break the run."""
    with pytest.raises(errors.SourceFailed), source_faults():
        raise SourceError("odd", "x")  # type: ignore[arg-type]


def test_error_while_opening_is_translated() -> None:
    """A refused login is a SourceLogin."""
    with (
        pytest.raises(errors.SourceLogin, match="role fep"),
        reading(Source(fail="open"), JOB),
    ):
        pass


def test_error_between_two_pages_is_translated() -> None:
    """An error of the iteration is translated too, not only one of the call."""
    with (
        pytest.raises(errors.SourceFailed, match="statement timeout: after 77 s"),
        reading(Source(fail="read"), JOB) as opened,
    ):
        list(opened.pieces(raw_bytes=1000, max_rows=100))


def test_page_that_fits_stays_whole() -> None:
    """A page below one and a half batches is one piece with the page's token."""
    (piece,) = split(page(100), raw_bytes=1000, max_rows=1000)

    assert (piece.rows.num_rows, piece.token) == (100, "t100")


def test_only_the_last_piece_of_a_page_has_a_token() -> None:
    """One can resume only where a page ends."""
    pieces = list(split(page(100), raw_bytes=300, max_rows=1000))

    assert [p.token for p in pieces] == [None, None, None, "t100"]


def test_long_value_does_not_swell_its_neighbours() -> None:
    """Pieces are cut by bytes: rows with long texts get pieces of their own."""
    rows = pa.record_batch({"a": ["x" * 1000] * 10 + ["x"] * 1000})

    pieces = list(split(Page(rows, "t"), raw_bytes=1000, max_rows=10_000))

    assert max(p.rows.nbytes for p in pieces) < 3000


def test_empty_page_gives_nothing() -> None:
    """A page without rows has no piece."""
    assert list(split(page(0), raw_bytes=1000, max_rows=100)) == []


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=60),
    st.integers(1, 3000),
    st.integers(1, 70),
)
@tries(80)
def test_pieces_are_the_page(widths: list[int], raw_bytes: int, max_rows: int) -> None:
    """However a page is cut, its rows come out once, in order, within the limits."""
    rows = pa.record_batch(
        {"a": ["x" * w for w in widths], "n": list(range(len(widths)))}
    )

    pieces = list(split(Page(rows, "t"), raw_bytes=raw_bytes, max_rows=max_rows))

    assert pa.Table.from_batches([p.rows for p in pieces]).equals(
        pa.Table.from_batches([rows])
    )
    assert all(1 <= p.rows.num_rows <= max_rows for p in pieces)
    assert [p.token for p in pieces][-1] == "t"


def test_every_way_of_reading_is_held_back() -> None:
    """Rows, tags, tagged rows and changes: each page of them is paid for."""
    held: list[tuple[int, int]] = []
    given = job("", source={"rows": 10, "page": 4, "tags": "t", "changed": 3})
    size: dict[str, int] = {"raw_bytes": 10**6, "max_rows": 100}
    with reading(FakeConnector(), given, hold=lambda *p: held.append(p)) as source:
        for way in (
            source.pieces(**size),
            source.tags(),
            source.tagged(None, **size),
            source.changes("f0", **size),
        ):
            assert held == []
            list(way)
            assert sum(rows for rows, _ in held) in (10, 3)
            assert all(read > 0 for _, read in held)
            held.clear()
