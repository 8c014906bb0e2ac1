# SPDX-License-Identifier: Apache-2.0
"""A worker whose source tells no changes: full reads note, diffs send what differs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.model.batch import Quality, Rows
from agent.model.job import (
    Ended,
    Failed,
    Gone,
    Job,
    Line,
    Message,
    Packed,
    Resume,
    States,
    Way,
)
from agent.pipeline.worker.run import Run
from agent.wire.arrow import read_payload
from tests.support.fake_source import ITEMS, FakeConnector, job, tools

PLAIN = tuple(b.item for b in ITEMS)


@dataclass
class Desk:
    """Runs of one stream, each with its state in a file of its own."""

    folder: Path
    heard: list[Message] = field(default_factory=list)
    number: int = 0

    def run(self, mode: Any = "diff", *, of: int | None = None, **source: Any) -> Any:
        """What was heard last of a run that is compared with that of a number."""
        self.number += 1
        self.heard = []
        known = None if of is None else str(self.state(of))
        work = replace(
            job(str(self.folder), source={"rows": 10, "page": 4, **source}),
            mode=mode,
            states=States(str(self.state(self.number)), known),
            resume=source.get("resume"),
        )
        return self.go(work)

    def go(self, work: Job) -> Message:
        Run(work, tell=self.heard.append, hear=self.hear, tools=tools()).go()
        return self.heard[-1]

    def state(self, number: int) -> Path:
        return self.folder / "diff" / f"{number}.diff"

    def hear(self) -> Message:
        packed = self.of(Packed)[-1]
        return Line(packed.part, "x", str(self.folder / f"{self.number}.{packed.part}"))

    def of(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.heard if isinstance(m, kind)]

    def sent(self) -> list[tuple[str, str, str | None]]:
        """Operation, number and name of each row of the last run."""
        rows: list[dict[str, Any]] = []
        for packed in self.of(Packed):
            path = self.folder / f"{self.number}.{packed.part}"
            data = path.read_bytes().partition(b"\n")[2]
            for batch in read_payload(
                data,
                PLAIN,
                mode=packed.mode,
                raw_size=packed.raw_size,
                rows=packed.rows,
            ):
                rows += pa.Table.from_batches([batch]).to_pylist()
        return [(r["_op"], str(int(r["id"])), r["name"]) for r in rows]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_full_read_notes_what_it_sends_and_says_so(desk: Desk) -> None:
    """The state is there, and the way is told before the part that makes it count."""
    ended = desk.run("full")
    assert isinstance(ended, Ended)
    assert ended.rows == Rows(10, 0, 0)
    assert desk.state(1).exists()
    kinds = [type(m).__name__ for m in desk.heard]
    assert kinds.index("Way") < kinds.index("Packed")
    assert desk.of(Way) == [Way("diff", ())]


def test_a_diff_sends_what_differs_and_what_is_gone(desk: Desk) -> None:
    """Changed, new and deleted rows leave; the others are skipped, and counted."""
    desk.run("full")
    ended = desk.run(of=1, rows=12, names={"3": "changed", "7": "keep"})
    assert isinstance(ended, Ended)
    assert sorted(desk.sent()) == [
        ("u", "10", "张10"),
        ("u", "11", "张11"),
        ("u", "3", "changed"),
    ]
    assert ended.quality == Quality(12, 1, 8)
    assert not desk.of(Gone)

    desk.run(of=2, rows=9)
    assert sorted(desk.sent()) == [
        ("d", "10", None),
        ("d", "11", None),
        ("d", "9", None),
        ("u", "3", "张3"),
    ]
    assert desk.of(Gone) == [Gone(3, 12)]
    kinds = [type(m).__name__ for m in desk.heard]
    assert kinds.index("Gone") < kinds.index("Packed")
    assert all(p.mode == "diff" and p.token is None for p in desk.of(Packed))
    assert desk.of(Packed)[-1].frontier is not None


def test_nothing_changed_is_one_batch_without_bytes(desk: Desk) -> None:
    """The frontier moves on, and its state is there under the new name."""
    desk.run("full")
    ended = desk.run(of=1)
    assert isinstance(ended, Ended)
    (packed,) = desk.of(Packed)
    assert (packed.mode, packed.size, packed.rows) == ("unchanged", 0, Rows(0, 0, 0))
    assert packed.quality == Quality(10, 0, 10)
    assert desk.state(2).samefile(desk.state(1))


@pytest.mark.parametrize("damage", ["flip", "gone", "unnamed"])
def test_a_state_that_is_damaged_is_named(desk: Desk, damage: str) -> None:
    """The run ends by its code before any part; a full read can follow."""
    desk.run("full")
    path = desk.state(1)
    if damage == "flip":
        data = bytearray(path.read_bytes())
        data[4100] ^= 1
        path.write_bytes(data)
    elif damage == "gone":
        path.unlink()
    failed = desk.run(of=None if damage == "unnamed" else 1)
    assert isinstance(failed, Failed)
    assert failed.code == "digests-unfit"
    assert not desk.of(Packed)


def test_a_full_read_of_a_table_with_a_key_twice_makes_no_state(desk: Desk) -> None:
    """All rows leave; without a state nobody says that a diff can follow."""
    ended = desk.run("full", twice=True)
    assert isinstance(ended, Ended)
    assert not desk.of(Way)
    assert not desk.state(1).exists()


def test_a_read_that_goes_on_in_the_middle_makes_no_state(desk: Desk) -> None:
    """It does not see the first rows again."""
    resume = Resume(
        "after 3", None, 1, Rows(4, 0, 0), Quality(4, 0, 0), {}, {}, "f1",
        "2026-11-21T08:00:00Z", "",
    )  # fmt: skip
    ended = desk.run("full", resume=resume)
    assert isinstance(ended, Ended)
    assert not desk.of(Way)
    assert not desk.state(1).exists()


def test_a_source_that_tells_its_changes_needs_no_state(tmp_path: Path) -> None:
    """Nothing of its keys is kept here."""
    desk = Desk(tmp_path)
    connector = FakeConnector(tells_changes=True)
    work = replace(job(str(tmp_path)), states=States(str(desk.state(1))), mode="full")
    desk.number = 1
    Run(work, tell=desk.heard.append, hear=desk.hear, tools=tools(connector)).go()
    assert isinstance(desk.heard[-1], Ended)
    assert desk.of(Way) == [Way("fake", ())]
    assert not desk.state(1).exists()
