# SPDX-License-Identifier: Apache-2.0
"""A worker whose source digests its rows: two passes give what one would give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agent.model.batch import Quality, Rows
from agent.model.item import Item, ItemType
from agent.model.job import (
    BoundItem,
    Ended,
    Failed,
    Job,
    Line,
    Packed,
    Progress,
    States,
)
from agent.pipeline.worker.run import Run
from agent.pipeline.worker.tagged import FEW_KEYS, MOST_KEYS, Choice, name_of
from connectors.tags import TaggedKeys
from tests.support.fake_source import FakeConnector, job, tools


@dataclass
class Done:
    """What one run said, and what was asked of its source."""

    heard: list[Any]
    asked: list[str]

    @property
    def end(self) -> Any:
        return self.heard[-1]

    @property
    def rows(self) -> Rows:
        found: Rows = self.end.rows
        return found


class Desk:
    """Runs of one stream, each compared with the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.known = folder, 0, None  # type: ignore[var-annotated]

    def run(self, *, tags: str | None = "t", **source: Any) -> Done:
        """The next run; what ended is what the next is compared with."""
        self.number += 1
        work = job(
            str(self.folder), source={"rows": 40, "page": 4, "tags": tags, **source}
        )
        work = replace(
            work,
            mode="full" if self.known is None else "diff",
            states=States(str(self.state(self.number)), self.known),
        )
        done = self.go(work)
        if isinstance(done.end, Ended):
            self.known = str(self.state(self.number))
        return done

    def go(self, work: Job) -> Done:
        heard: list[Any] = []

        def hear() -> Line:
            packed = [m for m in heard if isinstance(m, Packed)][-1]
            return Line(
                packed.part, "x", str(self.folder / f"{self.number}.{packed.part}")
            )

        source = FakeConnector()
        Run(work, tell=heard.append, hear=hear, tools=tools(source)).go()
        return Done(heard, source.asked)

    def state(self, number: int) -> Path:
        return self.folder / "diff" / f"{number}.diff"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_diff_reads_tags_first_and_then_what_differs(desk: Desk) -> None:
    """The rows that are as they were sent are never read, but counted."""
    assert desk.run().asked[-1] == "tagged None"
    done = desk.run(rows=42, names={"3": "changed", "7": "keep"})
    assert done.asked[-2:] == ["tags", "tagged 4"]
    assert done.rows == Rows(3, 0, 0)
    assert done.end.quality == Quality(42, 1, 38)


HISTORY: tuple[dict[str, Any], ...] = (
    {"names": {"5": "keep", "9": "drop"}},
    {"names": {"3": "changed", "5": "keep", "9": "drop", "11": "keep"}},
    {"names": {"3": "changed", "5": "keep", "9": "drop", "11": "keep"}, "rows": 38},
    {"names": {"5": "mended", "9": "drop", "11": "warn"}, "rows": 45},
    {"names": {"9": "mended"}, "rows": 45},
    {"names": {"9": "mended"}, "rows": 45},
)


def test_two_passes_account_for_every_row_as_one_does(tmp_path: Path) -> None:
    """Sent, deleted, withheld, skipped: nothing is lost or counted twice."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one, two = Desk(tmp_path / "one"), Desk(tmp_path / "two")
    for source in HISTORY:
        plain, tagged = one.run(tags=None, **source), two.run(**source)
        assert tagged.rows == plain.rows
        assert tagged.end.quality == plain.end.quality
        assert tagged.end.reasons == plain.end.reasons
    assert not any("tag" in asked for asked in plain.asked)
    assert tagged.asked[-2:] == ["tags", "tagged 0"]


@pytest.mark.parametrize(
    "change",
    [
        {"severity": {"odd": "warn"}},
        {"timezone": "UTC"},
        {"items": (*job("").items[:2], replace(job("").items[2], required=True))},
        {"items": (*job("").items[:2], replace(job("").items[2], rules=("r",)))},
    ],
)
def test_tags_of_other_rules_are_not_compared(change: dict[str, Any]) -> None:
    """What was judged or rendered otherwise is read and judged once more."""
    work = job("")
    assert name_of(work, "t") == name_of(replace(work), "t")
    assert name_of(replace(work, **change), "t") != name_of(work, "t")
    assert name_of(work, "u") != name_of(work, "t")


def test_a_server_that_digests_otherwise_is_read_once_and_nothing_is_sent_for_it(
    desk: Desk,
) -> None:
    """Upgraded: a change of the same run leaves, and the next one asks for tags."""
    desk.run()
    done = desk.run(tags="upgraded", names={"3": "changed"})
    assert done.asked[-1] == "tagged None"
    assert done.rows == Rows(1, 0, 0)
    done = desk.run(tags="upgraded", names={"3": "changed"})
    assert done.asked[-2:] == ["tags", "tagged 0"]
    assert done.rows == Rows(0, 0, 0)


def test_a_source_that_digests_no_more_is_read_as_before(desk: Desk) -> None:
    """Nothing changes but the speed."""
    desk.run()
    done = desk.run(tags=None, names={"3": "changed"})
    assert done.asked[-1] == "read"
    assert done.rows == Rows(1, 0, 0)
    assert desk.run(names={"3": "changed"}).asked[-1] == "tagged None"


@pytest.mark.parametrize("during", ["tags", "tagged"])
@pytest.mark.parametrize("fail", ["unreachable", "bug"])
def test_a_source_that_fails_in_either_pass_leaves_the_old_state(
    desk: Desk, during: str, fail: str
) -> None:
    """Nothing is lost: the next run finds all that this one would have."""
    desk.run()
    done = desk.run(names={"3": "changed"}, fail_in=during, fail=fail)
    assert isinstance(done.end, Failed)
    assert not desk.state(2).exists()
    assert desk.run(names={"3": "changed"}, rows=39).rows == Rows(1, 1, 0)


def test_a_row_that_is_there_and_does_not_come_wants_a_full_read(desk: Desk) -> None:
    """It would be missing at the centre, and each further diff might end likewise."""
    desk.run()
    done = desk.run(names={"3": "changed"}, loses=True)
    assert done.end.code == "digests-unfit"
    assert "did not give 1 rows" in done.end.detail


def test_keys_that_cannot_be_asked_for_are_read_with_all_rows(desk: Desk) -> None:
    """Bytes that are no text of the source: no statement can name them."""
    desk.run()
    done = desk.run(names={"3": "changed"}, cut_keys=True)
    assert done.asked[-2:] == ["tags", "tagged None"]
    assert done.rows == Rows(1, 0, 0)
    assert done.end.quality == Quality(40, 0, 39)


def test_progress_counts_each_row_once(desk: Desk) -> None:
    """A row that is met in both passes is one row."""
    desk.run()
    clock = iter(range(10_000))
    source = FakeConnector()
    heard: list[Any] = []
    work = replace(
        job(str(desk.folder), source={"rows": 40, "tags": "t", "names": {"3": "x"}}),
        mode="diff",
        states=States(str(desk.state(2)), desk.known),
    )
    hear = lambda: Line(1, "x", str(desk.folder / "2.1"))  # noqa: E731
    run = Run(work, tell=heard.append, hear=hear,
              tools=tools(source, clock=lambda: float(next(clock))))  # fmt: skip
    run.go()
    assert isinstance(heard[-1], Ended)
    told = [m.read for m in heard if isinstance(m, Progress)]
    assert told[-1] == max(told) == 40


class Recorder:
    """A meeting that finds every row different."""

    def differing(self, keys: pa.RecordBatch, tags: Any, good: Any) -> Any:
        return np.ones(keys.num_rows, np.bool_)


@pytest.mark.parametrize(
    ("rows", "differing", "by_keys"),
    [
        (FEW_KEYS, FEW_KEYS, True),
        (FEW_KEYS * 4, FEW_KEYS, True),
        (FEW_KEYS + 1, FEW_KEYS + 1, False),
        (MOST_KEYS + 1, MOST_KEYS + 1, False),
    ],
)
def test_where_much_differs_all_rows_are_read(
    rows: int, differing: int, by_keys: bool
) -> None:
    """Asking for single rows costs more than reading, and keys cost memory."""
    item = BoundItem(Item("id", ItemType.I, None, None, True, "1"), "id")
    choice = Choice([item], "UTC", Recorder())  # type: ignore[arg-type]
    keys = pa.record_batch({"id": pa.array(range(differing), pa.int64())})
    choice.add(TaggedKeys(keys, pa.array([1] * differing, pa.int64())))
    choice.read = rows
    assert (choice.wanted() is not None) == by_keys


def test_a_number_that_stands_in_a_text_is_judged_among_all_rows() -> None:
    """Its place in the order decides whether it may be sent: no row is judged alone."""
    item = BoundItem(Item("id", ItemType.I, None, None, True, "1"), "id")
    choice = Choice([item], "UTC", Recorder())  # type: ignore[arg-type]
    keys = pa.record_batch({"id": pa.array(["1", "10", "2"])})
    choice.add(TaggedKeys(keys, pa.array([1, 2, 3], pa.int64())))
    assert choice.wanted() is None
