# SPDX-License-Identifier: Apache-2.0
"""A worker that looks for deletes finds the centre's keys that the source has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.model.batch import Rows
from agent.model.job import (
    AskKeys,
    CentreKeys,
    Ended,
    Gone,
    Line,
    Message,
    Packed,
)
from agent.pipeline.deletes import Tally, bucket_of
from agent.pipeline.worker.run import Run
from agent.wire.key_text import frames_of
from tests.support.fake_source import ITEMS, job, tools

BITS = 3
KEYS = tuple(b.item for b in ITEMS if b.item.key)


class Centre:
    """A daemon that knows which keys the centre has."""

    def __init__(self, folder: Path, numbers: Sequence[int]) -> None:
        self.folder = folder
        self.keys = {
            frames_of([text], KEYS): text for text in (f"{n:018d}" for n in numbers)
        }
        self.heard: list[Message] = []

    def run(self, **source: object) -> Message:
        tally = Tally(BITS)
        tally.add(self.keys)
        work = replace(
            job(str(self.folder), source={"rows": 10, **source}),
            mode="deletes",
            centre=tuple(tally.counts),
        )
        Run(work, tell=self.heard.append, hear=self.answer, tools=tools()).go()
        return self.heard[-1]

    def answer(self) -> Message:
        last = next(m for m in reversed(self.heard) if isinstance(m, AskKeys | Packed))
        if isinstance(last, Packed):
            return Line(last.part, "x", str(self.folder / f"{last.part}"))
        asked = frozenset(last.buckets)
        inside = (t for k, t in self.keys.items() if bucket_of(k, BITS) in asked)
        return CentreKeys(tuple((text,) for text in inside))

    def packed(self) -> list[Packed]:
        return [m for m in self.heard if isinstance(m, Packed)]


def test_the_centres_keys_that_are_gone_become_deletes(tmp_path: Path) -> None:
    """Their number is told before the first is sealed; no frontier moves."""
    centre = Centre(tmp_path, [*range(10), 70, 71, 72])
    ended = centre.run()
    assert isinstance(ended, Ended)
    assert ended.rows == Rows(0, 3, 0)
    assert [m for m in centre.heard if isinstance(m, Gone)] == [Gone(3, 13)] * 2
    (packed,) = centre.packed()
    assert (packed.mode, packed.frontier, packed.distinct) == ("diff", None, None)
    kinds = [type(m).__name__ for m in centre.heard]
    assert kinds.index("Gone") < kinds.index("AskKeys") < kinds.index("Packed")


def test_a_new_row_hides_a_delete_of_its_bucket_only_until_it_is_loaded(
    tmp_path: Path,
) -> None:
    """What the centre does not have yet is never deleted."""
    centre = Centre(tmp_path, [*range(3, 10), 70])
    ended = centre.run()
    assert isinstance(ended, Ended)
    assert ended.rows.delete in {0, 1}


def test_nothing_gone_asks_nothing_and_says_nothing_of_changes(tmp_path: Path) -> None:
    """A batch without rows, not ``unchanged``: nobody looked for changes."""
    centre = Centre(tmp_path, range(10))
    ended = centre.run()
    assert isinstance(ended, Ended)
    (packed,) = centre.packed()
    assert (packed.mode, packed.rows) == ("diff", Rows(0, 0, 0))
    assert packed.size > 0
    assert not [m for m in centre.heard if isinstance(m, AskKeys | Gone)]


@pytest.mark.parametrize("rows", [0, 10])
def test_an_empty_centre_has_nothing_to_delete(tmp_path: Path, rows: int) -> None:
    """Whatever the source holds."""
    ended = Centre(tmp_path, []).run(rows=rows)
    assert isinstance(ended, Ended)
    assert ended.rows == Rows(0, 0, 0)
