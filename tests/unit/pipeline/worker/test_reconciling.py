# SPDX-License-Identifier: Apache-2.0
"""A worker that compares: what is told, what is sent again, and what is left alone."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.frames import bucket, digest_text
from agent.model.batch import Quality, Rows
from agent.model.job import (
    AskKeys,
    CentreKeys,
    Compared,
    Ended,
    Failed,
    Gone,
    Job,
    Line,
    Message,
    Packed,
    Progress,
    States,
)
from agent.model.run import RunKind
from agent.pipeline.diff import Diff
from agent.pipeline.differences import Bounds
from agent.pipeline.extract import Piece, reading
from agent.pipeline.pack import Load
from agent.pipeline.worker.modes import Ground
from agent.pipeline.worker.reconciling import repaired
from agent.pipeline.worker.run import Run
from agent.pipeline.worker.sieve import QualitySieve
from agent.wire.arrow import key_frames, row_digests, schema_of
from tests.support.fake_source import (
    ITEMS,
    FakeConnector,
    FakeSieve,
    job,
    page_of,
    tools,
)
from tests.support.tries import tries

BITS = 3
ALL = tuple(b.item for b in ITEMS)
SCHEMA = schema_of(ALL)

Row = tuple[str, str | None, int | None]


def rows_of(count: int, **config: Any) -> dict[str, Row]:
    """What the source sends of its first rows, by key."""
    page = FakeSieve(job("")).sift(page_of(0, count, config)).rows.to_pylist()
    return {r["id"]: (r["id"], r["name"], r["age"]) for r in page if r["_op"] == "u"}


class Centre:
    """A daemon, and the rows that the exchange has."""

    def __init__(self, folder: Path, rows: Mapping[str, Row]) -> None:
        self.folder = folder
        names = [i.name for i in ALL]
        values = [
            dict(zip(names, r, strict=True)) | {"_op": "u"} for r in rows.values()
        ]
        batch = _batch(values)
        self.rows = list(
            zip(rows, key_frames(batch, ALL), row_digests(batch, ALL), strict=True)
        )
        self.heard: list[Message] = []
        self.connector = FakeConnector()
        self.sent: list[bytes] = []

    def job(self, mode: RunKind, source: Mapping[str, Any], **changes: Any) -> Job:
        """What is to be compared, with what the centre holds."""
        counts, sums = [0] * (1 << BITS), [0] * (1 << BITS)
        for _, key, digest in self.rows:
            counts[bucket(key, BITS)] += 1
            sums[bucket(key, BITS)] += digest
        return replace(
            job(str(self.folder), source=source),
            mode=mode,
            centre=tuple(counts),
            sums=tuple(map(digest_text, sums)),
            **changes,
        )

    def run(self, mode: RunKind, source: Mapping[str, Any], **changes: Any) -> Message:
        """The last word of a worker that compares."""
        work = self.job(mode, source, **changes)
        given = tools(self.connector)
        Run(work, tell=self.heard.append, hear=self.answer, tools=given).go()
        return self.heard[-1]

    def answer(self) -> Message:
        last = next(m for m in reversed(self.heard) if isinstance(m, AskKeys | Packed))
        if isinstance(last, Packed):
            self.sent.append(b"")
            return Line(last.part, "x", str(self.folder / f"{len(self.sent)}.tmp"))
        inside = [r for r in self.rows if bucket(r[1], BITS) in last.buckets]
        return CentreKeys(
            tuple((r[0],) for r in inside), tuple(digest_text(r[2]) for r in inside)
        )

    def told(self, kind: type[Any]) -> list[Any]:
        return [m for m in self.heard if isinstance(m, kind)]


def _batch(values: list[dict[str, Any]]) -> Any:
    return pa.RecordBatch.from_pylist(values, schema=SCHEMA)


def altered(row: Row) -> Row:
    return (row[0], "另一人", row[2])


def test_what_differs_is_told_before_it_is_sent_again(tmp_path: Path) -> None:
    """One missing, one altered, two that only the centre has; the rest is skipped."""
    rows = rows_of(10)
    keys = sorted(rows)
    theirs = {k: r for k, r in rows.items() if k != keys[3]}
    theirs[keys[5]] = altered(rows[keys[5]])
    theirs["x1"], theirs["x2"] = ("x1", "谁", 1), ("x2", None, None)
    centre = Centre(tmp_path, theirs)
    ended = centre.run("reconcile", {"rows": 10})
    assert isinstance(ended, Ended), ended
    assert centre.told(Compared) == [Compared(10, 11, missing=1, stale=1, extra=2)]
    assert centre.told(Gone) == [Gone(2, 11)]
    (packed,) = centre.told(Packed)
    assert (packed.mode, packed.rows, packed.frontier) == (
        "repair",
        Rows(2, 2, 0),
        None,
    )
    assert (ended.rows, ended.quality) == (Rows(2, 2, 0), Quality(10, 0, 8))
    kinds = [type(m).__name__ for m in centre.heard]
    assert kinds.index("AskKeys") < kinds.index("Compared") < kinds.index("Packed")
    assert kinds.index("Gone") < kinds.index("Packed")


@pytest.mark.parametrize("mode", ["reconcile", "compare"])
def test_equal_rows_make_no_batch_and_ask_nothing(
    tmp_path: Path, mode: RunKind
) -> None:
    """One pass over the source, and that is all."""
    centre = Centre(tmp_path, rows_of(10))
    ended = centre.run(mode, {"rows": 10})
    assert isinstance(ended, Ended)
    assert ended.quality == Quality(10, 0, 10)
    assert centre.told(Compared) == [Compared(10, 10)]
    assert not centre.told(AskKeys) + centre.told(Packed) + centre.told(Gone)
    assert centre.connector.asked.count("read") == 1


def test_a_comparison_alone_sends_nothing(tmp_path: Path) -> None:
    """Neither rows nor deletes, whatever differs."""
    centre = Centre(tmp_path, {"x": ("x", None, None)})
    ended = centre.run("compare", {"rows": 10})
    assert isinstance(ended, Ended)
    assert centre.told(Compared) == [Compared(10, 1, missing=10, extra=1)]
    assert not centre.told(Packed) + centre.told(Gone)


def test_a_withheld_row_is_no_difference(tmp_path: Path) -> None:
    """The centre keeps its last version; what it never had, it need not have."""
    names = {"2": "keep", "4": "keep"}
    kept = rows_of(10)
    del kept[sorted(kept)[4]]
    centre = Centre(tmp_path, kept)
    ended = centre.run("reconcile", {"rows": 10, "names": names})
    assert isinstance(ended, Ended)
    assert centre.told(Compared) == [Compared(8, 9, withheld=1)]
    assert ended.quality == Quality(10, 2, 8)
    assert ended.reasons == {"bad-name": 2}
    assert not centre.told(Packed)


def test_what_changed_after_the_last_read_is_left_to_the_next_one(
    tmp_path: Path,
) -> None:
    """By the connector's own changes since the frontier."""
    centre = Centre(tmp_path, dict(list(rows_of(10).items())[4:]))
    ended = centre.run("reconcile", {"rows": 10, "changed": 3}, since="f0")
    assert isinstance(ended, Ended)
    (found,) = centre.told(Compared)
    assert found == Compared(10, 6, missing=1, late=3, told_by="frontier")
    assert "changes f0 f1" in centre.connector.asked
    (packed,) = centre.told(Packed)
    assert packed.rows == Rows(1, 0, 0)


def test_with_a_lost_frontier_nobody_can_tell_what_is_late(tmp_path: Path) -> None:
    """Then all of it is sent again, which is never wrong."""
    centre = Centre(tmp_path, {})
    ended = centre.run("reconcile", {"rows": 4, "changed": 3}, since="lost")
    assert isinstance(ended, Ended)
    assert centre.told(Compared) == [Compared(4, 0, missing=4)]


def test_digests_of_what_was_sent_tell_what_is_late(tmp_path: Path) -> None:
    """A row that is as it was sent was changed at the centre, another at the source."""
    sent = rows_of(10, names={"7": "以前"})
    before = kept(tmp_path, sent)
    keys = sorted(sent)
    theirs = sent | {keys[2]: altered(sent[keys[2]])}
    centre = Centre(tmp_path, theirs)
    states = States(str(tmp_path / "fresh.diff"), str(before))
    ended = centre.run("reconcile", {"rows": 10}, states=states)
    assert isinstance(ended, Ended), ended
    (found,) = centre.told(Compared)
    assert found == Compared(10, 10, stale=1, late=1, told_by="digests")
    assert not (tmp_path / "fresh.diff").exists()


def test_a_delete_that_the_next_diff_tells_is_left_to_it(tmp_path: Path) -> None:
    """What is kept must follow: else a row that is back never came back there."""
    here, gone = rows_of(10), {"x1": ("x1", "谁", 1)}
    before = kept(tmp_path, here | gone)
    centre = Centre(tmp_path, here | gone | {"x2": ("x2", None, None)})
    states = States(str(tmp_path / "fresh.diff"), str(before))
    ended = centre.run("reconcile", {"rows": 10}, states=states)
    assert isinstance(ended, Ended), ended
    (found,) = centre.told(Compared)
    assert found == Compared(10, 12, extra=1, late=1, told_by="digests")
    assert centre.told(Gone) == [Gone(1, 12)]
    assert ended.rows == Rows(0, 1, 0)


def kept(folder: Path, rows: Mapping[str, Row]) -> Path:
    """What a run that sent these rows keeps of them."""
    path = folder / "before.diff"
    names = [i.name for i in ALL]
    values = [dict(zip(names, r, strict=True)) | {"_op": "u"} for r in rows.values()]
    with Diff(ALL, old=None, folder=folder, salt=bytes(8)) as diff:
        diff.changes(_batch(values))
        diff.finish(path)
    return path


def test_a_report_holds_the_keys_and_only_we_may_read_it(tmp_path: Path) -> None:
    """An older one is replaced; no key stands in a message."""
    theirs = {"x": ("x", None, None)}
    path = tmp_path / "reports" / "keys.jsonl"
    for rows in (3, 2):
        centre = Centre(tmp_path, theirs)
        centre.run("compare", {"rows": rows}, report=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [
        {"class": "missing", "key": [f"{0:018d}"]},
        {"class": "missing", "key": [f"{1:018d}"]},
        {"class": "extra", "key": ["x"]},
    ]
    assert [p.name for p in path.parent.iterdir()] == ["keys.jsonl"]


def test_withheld_rows_come_into_no_quarantine_once_more(tmp_path: Path) -> None:
    """Several passes would fill it with the same rows; this is the real stage."""
    work = replace(job(str(tmp_path)), mode="reconcile", severity={})
    sieve = QualitySieve(work)
    sieve.sift(page_of(0, 3, {}))
    sieve.close()
    assert not Path(work.quarantine).exists()


def test_a_secrecy_marker_ends_a_comparison(tmp_path: Path) -> None:
    """What may not leave is not digested either."""
    centre = Centre(tmp_path, {})
    last = centre.run("reconcile", {"rows": 3, "names": {"1": "机密★"}})
    assert isinstance(last, Failed)
    assert last.code == "secrecy-marker"


def test_progress_is_told_though_nothing_is_packed(tmp_path: Path) -> None:
    """A daemon that hears nothing for long would kill the worker."""
    centre = Centre(tmp_path, rows_of(20))
    clock = iter(range(10_000))
    work = replace(
        job(str(tmp_path), source={"rows": 20}),
        mode="compare",
        centre=(0,),
        sums=("0" * 32,),
    )
    given = tools(centre.connector, clock=lambda: float(next(clock)))
    Run(work, tell=centre.heard.append, hear=centre.answer, tools=given).go()
    assert [p.read for p in centre.told(Progress)][:5] == [4, 8, 12, 16, 20]
    assert {p.estimate for p in centre.told(Progress)} == {20}


@tries(100)
@given(
    gone=st.sets(st.integers(0, 29)),
    wrong=st.sets(st.integers(0, 29)),
    extra=st.sets(st.integers(0, 9)),
    held=st.sets(st.integers(0, 29)),
    changed=st.integers(0, 12),
)
def test_every_row_is_in_exactly_one_class(
    tmp_path_factory: pytest.TempPathFactory,
    gone: set[int],
    wrong: set[int],
    extra: set[int],
    held: set[int],
    changed: int,
) -> None:
    """Whatever both sides hold: missing, stale, extra, late, withheld, or equal."""
    folder = tmp_path_factory.mktemp("w")
    names = {str(n): "keep" for n in held}
    ours = [f"{n:018d}" for n in range(30)]
    every = rows_of(30)
    theirs = {k: r for n, k in enumerate(ours) if n not in gone for r in [every[k]]}
    theirs |= {ours[n]: altered(every[ours[n]]) for n in wrong - gone}
    theirs |= {f"x{n}": (f"x{n}", None, n) for n in extra}
    centre = Centre(folder, theirs)
    source = {"rows": 30, "names": names, "changed": changed}
    ended = centre.run("reconcile", source, since="f0")
    assert isinstance(ended, Ended), ended
    late = {n for n in (gone | wrong) - held if n < changed}
    missing, stale = gone - held - late, wrong - gone - held - late
    (found,) = centre.told(Compared)
    assert (found.rows, found.centre) == (30 - len(held), len(theirs))
    assert (found.missing, found.stale) == (len(missing), len(stale))
    assert (found.extra, found.late) == (len(extra), len(late))
    assert ended.rows == Rows(len(missing) + len(stale), len(extra), 0)
    assert ended.quality == Quality(30, len(held), 30 - len(held) - ended.rows.upsert)


def test_too_many_differences_are_left_and_told(tmp_path: Path) -> None:
    """Memory is bounded; the next run goes on."""
    centre = Centre(tmp_path, {k: altered(r) for k, r in rows_of(40).items()})
    few = Bounds(group_rows=1, most=2)
    sent = repair(centre, {"rows": 40}, few)
    (found,) = centre.told(Compared)
    assert found.stale == sent
    assert 2 < found.stale < 40
    assert 0 < found.left < 1 << BITS
    assert not found.clean
    assert not centre.told(Gone)


def test_the_brake_knows_the_deletes_of_buckets_that_were_left(tmp_path: Path) -> None:
    """Else each run would delete a little, and nobody would be asked."""
    extra = {f"x{n}": (f"x{n}", None, n) for n in range(60)}
    centre = Centre(tmp_path, rows_of(10) | extra)
    few = Bounds(group_rows=1, most=2)
    sent = repair(centre, {"rows": 10, "names": {"1": "keep"}}, few)
    (found,) = centre.told(Compared)
    assert sent == found.extra < 60
    assert found.left
    assert centre.told(Gone) == [Gone(60, 70)]


def test_deletes_are_told_though_other_differences_filled_the_memory(
    tmp_path: Path,
) -> None:
    """Those of the buckets that nobody looked into."""
    theirs = {k: altered(r) for k, r in rows_of(40).items()}
    extra = {f"x{n}": (f"x{n}", None, n) for n in range(200)}
    late = {n: r for n, r in extra.items() if bucket_of(tmp_path, n, r) > 0}
    centre = Centre(tmp_path, theirs | late)
    repair(centre, {"rows": 40}, Bounds(group_rows=1, most=0))
    (found,) = centre.told(Compared)
    assert found.extra == 0
    assert centre.told(Gone) == [Gone(len(late), 40 + len(late))]


def bucket_of(folder: Path, name: str, row: Row) -> int:
    """Where a row of the centre stands."""
    ((_, key, _),) = Centre(folder, {name: row}).rows
    return bucket(key, BITS)


def repair(centre: Centre, source: Mapping[str, Any], bounds: Bounds) -> int:
    """Rows that a repair within these bounds sends."""
    work = centre.job("reconcile", source)

    def sifted(piece: Piece) -> Load:
        return Load(FakeSieve(work).sift(piece.rows).rows, piece.rows.num_rows, None)

    def asked(buckets: tuple[int, ...]) -> CentreKeys:
        centre.heard.append(AskKeys(buckets))
        answer = centre.answer()
        assert isinstance(answer, CentreKeys)
        return answer

    with reading(centre.connector, work) as source_read:
        ground = Ground(
            work, source_read, sifted, centre.heard.append, asked, lambda: sifted, int
        )
        return sum(load.rows.num_rows for load in repaired(ground, bounds=bounds))
