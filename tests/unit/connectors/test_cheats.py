# SPDX-License-Identifier: Apache-2.0
"""The conformance suite catches connectors that break a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest

from connectors import conformance
from connectors import conformance_increments as increments
from connectors.conformance import BrokenRule, Subject
from connectors.contract import (
    Frontier,
    FrontierLost,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from tests.support.fake_connector import FakeConnector, FakeSession
from tests.support.subjects import fake_subject


class Cheat(FakeSession):
    """A session to break one rule with."""


class Reverses(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        for page in super().read(part, resume):
            backwards = pa.array(range(page.rows.num_rows - 1, -1, -1))
            yield replace(page, rows=page.rows.take(backwards))


class DropsNullKeys(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        for page in super().read(part, resume):
            rows = page.rows.filter(page.rows.column(0).is_valid())
            if rows.num_rows:
                yield replace(page, rows=rows)


class SkipsDoubles(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        if resume is not None:
            resume = resume.replace('"rows":', '"rows":1')
        yield from super().read(part, resume)


class StripsBlanks(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        for page in super().read(part, resume):
            columns = [
                pa.array([str(v).strip() for v in c.to_pylist()])
                if c.type == pa.string()
                else c
                for c in page.rows.columns
            ]
            names = page.rows.schema.names
            yield replace(page, rows=pa.RecordBatch.from_arrays(columns, names=names))


class ReadsLive(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        self.rows = {n: tuple(t.rows) for n, t in self.connector.tables.items()}
        yield from super().read(part, resume)


class IgnoresLimits(Cheat):
    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        self.limits = Limits()
        yield from super().read(part, resume)


class RaisesItsOwn(Cheat):
    def plan(self, stream: Any) -> Sequence[Slice]:
        try:
            return super().plan(stream)
        except SourceError as e:
            raise KeyError(stream.table) from e


class GoesToTheLargestSeen(Cheat):
    def frontier(self, stream: StreamSpec) -> Frontier:
        self.upto = max([0, *(by for _, by in self.seen[stream.table])]) + 1
        return super().frontier(stream)


class WaitsForTheOldest(Cheat):
    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        seen = tuple(v for v in self.seen[stream.table] if v[1] < self.upto)
        self.seen = {**self.seen, stream.table: seen}
        yield from super().changes(stream, since, until, resume)


class BeginsAtZero(Cheat):
    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        try:
            yield from super().changes(stream, since, until, resume)
        except FrontierLost:
            return


class ChangesAsText(Cheat):
    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        for page in super().changes(stream, since, until, resume):
            texts = [c.cast(pa.binary()) if str(c.type) == "string" else c
                     for c in page.rows.columns]  # fmt: skip
            names = page.rows.schema.names
            yield replace(page, rows=pa.RecordBatch.from_arrays(texts, names=names))


@dataclass
class Cheating(FakeConnector):
    session: type[Cheat] = Cheat

    @contextmanager
    def open(self, config: Any, limits: Limits) -> Iterator[FakeSession]:
        with super().open(config, limits) as good:
            yield self.session(self, good.rows, limits, good.seen, good.upto)


def subject(session: type[Cheat]) -> Subject:
    honest = fake_subject()
    connector = Cheating(honest.connector.tables, session=session)  # type: ignore[attr-defined]
    return replace(honest, connector=connector)


@pytest.mark.parametrize(
    ("cheat", "rule"),
    [
        (Reverses, conformance.rows_in_key_order),
        (DropsNullKeys, conformance.null_keys_come_too),
        (SkipsDoubles, conformance.resumes_within_doubles),
        (SkipsDoubles, conformance.resumes_after_every_page),
        (StripsBlanks, conformance.values_are_not_changed),
        (StripsBlanks, conformance.text_keys_are_told_apart),
        (ReadsLive, conformance.frontier_before_reading),
        (IgnoresLimits, conformance.page_rows_is_kept),
        (GoesToTheLargestSeen, increments.late_commits_come),
        (GoesToTheLargestSeen, increments.late_updates_come),
        (GoesToTheLargestSeen, increments.many_writers_lose_nothing),
        (WaitsForTheOldest, increments.nothing_waits_for_a_forgotten_session),
        (SkipsDoubles, increments.increments_can_be_resumed),
        (BeginsAtZero, increments.a_foreign_frontier_is_refused),
        (BeginsAtZero, increments.a_table_made_anew_is_noticed),
        (ChangesAsText, increments.what_changed_is_read_alike),
    ],
)
def test_a_cheat_is_caught(cheat: type[Cheat], rule: Any) -> None:
    """Each way to break the contract breaks the rule that speaks of it."""
    with pytest.raises(BrokenRule):
        rule(subject(cheat))


def test_an_error_of_the_drivers_own_is_caught() -> None:
    """A connector that lets another exception through does not pass."""
    with pytest.raises(KeyError):
        conformance.missing_things_are_told(subject(RaisesItsOwn))
