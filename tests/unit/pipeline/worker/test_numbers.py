# SPDX-License-Identifier: Apache-2.0
"""A worker whose source has nothing but a growing number: who chooses what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.model.job import (
    Ended,
    Failed,
    Line,
    Message,
    Packed,
    States,
    Unfit,
    Way,
)
from agent.pipeline.numbered import kept
from agent.pipeline.worker.run import Run
from connectors.contract import Highest, Limits, Page, StreamSpec
from tests.support.fake_source import FakeConnector, FakeSession, job, page_of, tools

NOON = "2026-11-21T12:00:00+00:00"
LATER = "2026-11-21T12:01:00+00:00"


@dataclass
class NumberedSession(FakeSession):
    """Row n of the fake has the number n + 1; nobody writes."""

    def oldest_writer(self, stream: StreamSpec) -> str | None:
        return LATER

    def highest(self, stream: StreamSpec) -> Highest:
        return Highest(self.config["rows"], self.config.get("nulls", False))

    def server_time(self) -> str:
        return NOON

    def goes_on(self, since: str, until: str) -> None:
        assert since == until == "f1"

    def numbered(
        self,
        stream: StreamSpec,
        windows: Sequence[tuple[int, int | None]],
        resume: str | None = None,
    ) -> Iterator[Page]:
        self.connector.asked.append(f"numbered {stream.columns[0].name}")
        for first, last in windows:
            first = max(first, 1)
            end = min(last or self.config["rows"], self.config["rows"])
            if end < first:
                continue
            if stream.columns[0].name == "SEQ":
                yield Page(pa.record_batch({"SEQ": list(range(first, end + 1))}), "")
            else:
                yield Page(page_of(first - 1, end, self.config), "")


@dataclass
class NumberedConnector(FakeConnector):
    @contextmanager
    def open(self, config: Mapping[str, Any], limits: Limits) -> Iterator[FakeSession]:
        yield NumberedSession(self, config)


@dataclass
class Desk:
    """Runs of one stream."""

    folder: Path
    rows: int = 10
    files: int = 0

    def run(self, *, since: str | None = None, **source: Any) -> Message:
        self.heard: list[Message] = []
        self.connector = NumberedConnector()
        settings = {"rows": self.rows, **source}
        self.work = replace(
            job(str(self.folder), source=settings),
            mode="full" if since is None else "incremental",
            since=since,
            number=self.number,
            states=States(str(self.folder / "new.diff")),
        )
        given = tools(self.connector)
        Run(self.work, tell=self.heard.append, hear=self.hear, tools=given).go()
        return self.heard[-1]

    number: str | None = "SEQ"

    def hear(self) -> Message:
        self.files += 1
        path = self.folder / f"{self.files}.tmp"
        return Line(self.of(Packed)[-1].part, "x", str(path))

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.heard if isinstance(m, kind)]

    @property
    def ways(self) -> list[str]:
        return [way.method for way in self.of(Way)]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_full_read_ends_with_the_ledger(desk: Desk) -> None:
    """It is told how changes are found, and no digests are kept beside."""
    ended = desk.run()
    assert isinstance(ended, Ended)
    (packed,) = desk.of(Packed)
    assert desk.ways == ["number"]
    assert kept(packed.frontier).ledger.high == 10
    assert not (desk.folder / "new.diff").exists()


def test_an_increment_sends_the_rows_of_new_numbers(desk: Desk) -> None:
    """And its frontier is the ledger after them."""
    since = _last(desk)
    desk.rows = 13
    ended = desk.run(since=since)
    assert isinstance(ended, Ended)
    assert (ended.rows.upsert, kept(ended.frontier).ledger.high) == (3, 13)
    assert desk.connector.asked[-2:] == ["numbered SEQ", "numbered ID"]


def test_an_increment_without_new_numbers_says_unchanged(desk: Desk) -> None:
    """Not a row is asked for."""
    desk.run(since=_last(desk))
    (packed,) = desk.of(Packed)
    assert packed.mode == "unchanged"
    assert desk.connector.asked[-1] == "numbered SEQ"


def test_a_frontier_of_another_way_is_not_gone_on_from(desk: Desk) -> None:
    """Whoever had changes told by the database before reads all again."""
    last = desk.run(since="f0")
    assert isinstance(last, Failed)
    assert (last.code, last.detail.partition(":")[0]) == (
        "frontier-lost",
        "unreadable",
    )


def test_a_source_that_tells_changes_keeps_its_own_way(desk: Desk) -> None:
    """A number is for tables with nothing else."""
    desk.run(changed=0)
    assert desk.ways == ["fake"]
    assert not any(asked.startswith("numbered") for asked in desk.connector.asked)


def test_without_a_number_rows_are_compared(desk: Desk) -> None:
    """As before: the connector could, but nobody named a column."""
    desk.number = None
    desk.run()
    assert desk.ways == ["diff"]


def test_a_number_that_is_unfit_is_named_and_rows_are_compared(desk: Desk) -> None:
    """What increments would miss is found by digests."""
    assert isinstance(desk.run(nulls=True), Ended)
    (unfit,) = desk.of(Unfit)
    assert unfit.reason == "number-null: NULL stands in SEQ"
    assert desk.ways == ["diff"]
    assert (desk.folder / "new.diff").exists()


def _last(desk: Desk) -> str:
    desk.run()
    return str(desk.of(Packed)[-1].frontier)
