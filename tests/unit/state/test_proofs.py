# SPDX-License-Identifier: Apache-2.0
"""Manifests, receipts and counts as evidence."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from agent.model.batch import Quality, Rows
from agent.model.stream import Head
from agent.state import (
    Count,
    Epoch,
    NewBatch,
    NewReceipt,
    Run,
    State,
    StreamKey,
)
from agent.state.migrations import STEP_6, STEPS
from agent.state.proofs import vouchers

KEY = StreamKey("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001")
HEAD = Head(1, 0, None, "a" * 32, "first")
NOON, LATER = "2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z"


def opened(folder: Path) -> State:
    return State(folder / "state.db", new_incarnation=lambda: "a" * 32)


def begun(folder: Path) -> State:
    """A stream at epoch 1 with three batches, all loaded."""
    state = opened(folder)
    stream = state.stream(KEY)
    state.open_epoch(stream.id, Epoch(HEAD, "position", NOON))
    state.add_run(Run("run-1", stream.id, "queued", None, NOON))
    for _ in range(3):
        state.register(batch(state.stream(KEY).head))
    for seq in (1, 2, 3):
        for what in ("stored", "loaded"):
            state.keep_receipt(1, receipt(seq, what, NOON), at=NOON)
    return state


def batch(head: Head) -> NewBatch:
    seq = head.seq + 1
    return NewBatch(
        stream=1,
        head=head,
        digest=f"sha256:{seq:064x}",
        run="run-1",
        file=f"1.{seq}",
        size=100,
        content_size=90,
        content_digest="sha256:" + "c" * 64,
        mode="incremental",
        part=seq,
        rows=Rows(3, 0, 0),
        quality=Quality(3, 0, 0),
        distinct=None,
        token=None,
        final=seq == 3,
        frontier=None,
        as_of=NOON,
        at=NOON,
        line=f"line.{seq}.x",
    )


def receipt(seq: int, state: str, at: str) -> NewReceipt:
    rows = Rows(3, 0, 0) if state == "loaded" else None
    return NewReceipt(1, seq, state, None, rows, at, f"jws {at}", "5a" * 32)  # type: ignore[arg-type]


def test_a_receipt_is_found_with_its_manifest_and_voucher(tmp_path: Path) -> None:
    """By batch, oldest first; pages end between batches."""
    with closing(begun(tmp_path)) as state:
        found = state.proofs(1, since=NOON, after=(0, 0), limit=2)
        assert [(p.receipt.seq, p.receipt.state, p.line) for p in found] == [
            (1, "stored", "line.1.x"),
            (1, "loaded", "line.1.x"),
            (2, "stored", "line.2.x"),
            (2, "loaded", "line.2.x"),
        ]
        assert {p.receipt.voucher for p in found} == {"5a" * 32}
        rest = state.proofs(1, since=NOON, after=(1, 2), limit=2)
        assert [p.receipt.seq for p in rest] == [3, 3]
        assert state.proofs(1, since=LATER, after=(0, 0), limit=2) == ()


def test_digests_that_receipts_name_are_found_in_steps(tmp_path: Path) -> None:
    """All of them over the steps, each once; a receipt without one names none."""
    with closing(begun(tmp_path)) as state:
        other = replace(receipt(3, "loaded", LATER), voucher="6b" * 32)
        state.keep_receipt(1, other, at=LATER)
        none = replace(receipt(2, "loaded", LATER), voucher=None)
        state.keep_receipt(1, none, at=LATER)
        assert state.vouchers() == {"5a" * 32, "6b" * 32}
    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        seen, after = set(), 0
        while after is not None:
            named, after = vouchers(Database(db), after, 3)
            seen |= named
        assert seen == {"5a" * 32, "6b" * 32}


@pytest.mark.parametrize("since", ["2026-11-21T12:00:00Z", "2026-11-21T12:00:00.5Z"])
def test_a_fraction_of_a_second_hides_no_receipt(tmp_path: Path, since: str) -> None:
    """Times are texts; ``12:00:00.5Z`` sorts before ``12:00:00Z``."""
    with closing(begun(tmp_path)) as state:
        assert state.proofs(1, since=since, after=(0, 0), limit=9)


def test_every_receipt_of_a_batch_is_kept_and_counted_once(tmp_path: Path) -> None:
    """Sent again, loaded again: both receipts stay, the rows are counted once."""
    with closing(begun(tmp_path)) as state:
        assert state.wait_again(1, (1, 2)) == 1
        waiting = state.sums("run-1")
        assert (waiting.loaded_upsert, waiting.open_upsert) == (6, 3)
        state.keep_receipt(1, receipt(3, "loaded", LATER), at=LATER)
        state.keep_receipt(1, receipt(3, "loaded", LATER), at=LATER)
        assert [r.at for r in state.receipts_of(1, 1, 3)] == [NOON, NOON, LATER]
        sums = state.sums("run-1")
        assert (sums.loaded_upsert, sums.open_upsert) == (9, 0)


def test_what_is_not_there_cannot_wait_again(tmp_path: Path) -> None:
    """A batch whose file was purged stays settled."""
    with closing(begun(tmp_path)) as state:
        third = state.batch(1, 1, 3)
        assert third is not None
        state.mark_gone([third])
        assert state.wait_again(1, (1, 1)) == 1
        assert [b.state for b in state.offered(1, after=(1, 1))] == [
            "waiting",
            "loaded",
        ]
        assert [b.seq for b in state.kept_files(1, after=(0, 0), limit=9)] == [1, 2]


def test_a_count_takes_the_place_of_the_last(tmp_path: Path) -> None:
    """One a stream."""
    with closing(begun(tmp_path)) as state:
        assert state.count(1) is None
        state.keep_count(1, Count("run-1", 9, NOON))
        state.keep_count(1, Count("run-1", 8, LATER))
        assert state.count(1) == Count("run-1", 8, LATER)


def test_a_stream_is_found_without_being_made(tmp_path: Path) -> None:
    """A typing error in a code leaves no stream behind."""
    with closing(begun(tmp_path)) as state:
        assert state.stream_of(KEY) == 1
        assert state.stream_of(replace(KEY, resource="9/9")) is None


def test_receipts_of_before_are_still_there(tmp_path: Path) -> None:
    """The table is made anew with what it held; what was not kept is not known."""
    path = tmp_path / "state.db"
    before = STEPS[: STEPS.index(STEP_6)]
    with closing(sqlite3.connect(path)) as db:
        for statement in (s for step in before for s in step):
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('incarnation', ?)", ["a" * 32])
        db.execute(
            "INSERT INTO streams VALUES (1,?,?,?,1,1,'d','a',NULL,NULL,NULL,NULL)",
            [KEY.producer, KEY.aud, KEY.resource],
        )
        db.execute(
            "INSERT INTO runs (id, stream, state, asked_at) VALUES ('r',1,'read',?)",
            [NOON],
        )
        db.execute(
            "INSERT INTO batches VALUES (1,1,1,'r','d','f',1,1,'c','full',1,1,3,"
            "3,0,0,3,0,0,'loaded',0,?,?)",
            [NOON, NOON],
        )
        for what in ("stored", "loaded"):
            db.execute(
                "INSERT INTO receipts VALUES (1,1,1,?,NULL,3,0,0,?,?,?)",
                [what, NOON, f"jws {what}", NOON],
            )
        db.execute(f"PRAGMA user_version = {len(before)}")
        db.execute(f"PRAGMA application_id = {0x46455041}")
        db.commit()
    with closing(opened(tmp_path)) as state:
        found = state.proofs(1, since=NOON, after=(0, 0), limit=9)
        assert [(p.receipt.jws, p.receipt.voucher, p.line) for p in found] == [
            ("jws stored", None, None),
            ("jws loaded", None, None),
        ]
        assert state.sums("r").loaded_upsert == 3
