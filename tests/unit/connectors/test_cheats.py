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
from connectors.conformance import BrokenRule, Subject
from connectors.contract import Limits, Page, Slice, SourceError
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


@dataclass
class Cheating(FakeConnector):
    session: type[Cheat] = Cheat

    @contextmanager
    def open(self, config: Any, limits: Limits) -> Iterator[FakeSession]:
        with super().open(config, limits) as good:
            yield self.session(self, good.rows, limits)


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
