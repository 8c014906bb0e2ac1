# SPDX-License-Identifier: Apache-2.0
"""Transactions of the state: what is advanced together, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import ChainMoved, StateDamaged
from agent.model.batch import Quality, Rows
from agent.model.run import RunKind, ScheduledKind
from agent.model.stream import Head
from agent.state import (
    ALL,
    Catalog,
    Complete,
    Count,
    Epoch,
    KeptDue,
    KeptRecall,
    NewBatch,
    NewReceipt,
    Run,
    RunEnd,
    RunTotals,
    State,
    StreamKey,
)

KEY = StreamKey("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001")
HEAD = Head(1, 0, None, "a" * 32, "first")
NOON, LATER = "2026-11-21T12:00:00Z", "2026-11-21T13:00:00Z"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state with one stream at epoch 1 and a run that reads."""
    state = State(tmp_path / "state.db", new_incarnation=lambda: "a" * 32)
    stream = state.stream(KEY)
    state.open_epoch(stream.id, Epoch(HEAD, "position", NOON))
    state.add_run(Run("run-1", stream.id, "queued", None, NOON))
    state.start_run("run-1", at=NOON)
    yield state
    state.close()


def batch(head: Head, *, run: str = "run-1", final: bool = False) -> NewBatch:
    seq = head.seq + 1
    return NewBatch(
        stream=1,
        head=head,
        digest=f"sha256:{head.epoch:032x}{seq:032x}",
        run=run,
        file=f"{head.epoch}.{seq}",
        size=100,
        content_size=90,
        content_digest="sha256:" + "c" * 64,
        mode="full",
        part=seq,
        rows=Rows(3, 0, 1),
        quality=Quality(5, 2, 0),
        distinct=8 if final else None,
        token=None if final else f"after {seq}",
        final=final,
        frontier="frontier" if final else None,
        as_of=NOON,
        at=NOON,
    )


def register(state: State, count: int, *, run: str = "run-1") -> list[NewBatch]:
    made = []
    for number in range(1, count + 1):
        head = state.stream(KEY).head
        made.append(batch(head, run=run, final=number == count))
        state.register(made[-1])
    return made


def receipt(new: NewBatch, state: str, code: str | None = None) -> NewReceipt:
    rows = new.rows if state == "loaded" else None
    seq = new.head.seq + 1
    return NewReceipt(new.head.epoch, seq, state, code, rows, NOON, f"jws {state}")  # type: ignore[arg-type]


def keep(state: State, new: NewBatch, what: str, code: str | None = None) -> None:
    state.keep_receipt(1, receipt(new, what, code), at=LATER)


def states(state: State) -> list[str]:
    return [b.state for b in reversed(state.recent(1, 100))]


def test_a_new_stream_knows_nothing(tmp_path: Path) -> None:
    """Epoch 0: the position was never asked."""
    state = State(tmp_path / "state.db", new_incarnation=lambda: "a" * 32)
    stream = state.stream(KEY)
    assert stream.head == Head(0, 0, None, "a" * 32, None)
    assert state.stream(KEY).id == stream.id
    assert state.stream(replace(KEY, resource="330100001/000002")).id != stream.id
    state.close()


def test_registering_advances_seq_prev_and_the_token_together(state: State) -> None:
    """And takes the epoch's reason away."""
    first = batch(HEAD)
    state.register(first)
    assert state.stream(KEY).head == Head(1, 1, first.digest, "a" * 32, None)
    assert state.stream(KEY).head == HEAD.after(first.digest)
    kept = state.batch(1, 1, 1)
    assert kept is not None
    assert (kept.state, kept.rows, kept.final) == ("waiting", Rows(3, 0, 1), False)


@pytest.mark.parametrize(
    "head",
    [
        replace(HEAD, seq=1),
        replace(HEAD, epoch=2),
        replace(HEAD, prev="sha256:" + "0" * 64),
        replace(HEAD, incarnation="b" * 32),
        replace(HEAD, reason=None),
    ],
    ids=["seq", "epoch", "prev", "incarnation", "reason"],
)
def test_a_batch_of_another_head_is_refused_whole(state: State, head: Head) -> None:
    """Nothing of the transaction stays."""
    with pytest.raises(ChainMoved):
        state.register(batch(head))
    assert state.stream(KEY).head == HEAD
    assert state.recent(1, 10) == ()


def test_one_identity_is_registered_once(state: State) -> None:
    """The second manifest of an identity finds the head moved."""
    state.register(batch(HEAD))
    with pytest.raises(ChainMoved):
        state.register(replace(batch(HEAD), digest="sha256:" + "f" * 64))
    assert len(state.recent(1, 10)) == 1


def test_the_frontier_moves_with_the_last_batch_only(state: State) -> None:
    """Before it, only the resume token moves."""
    with state._connection.transaction() as db:
        ask = "SELECT (SELECT token FROM runs), (SELECT value FROM frontiers)"
        state.register(batch(HEAD))
        assert db.execute(ask).fetchone() == ("after 1", None)
        state.register(batch(state.stream(KEY).head, final=True))
        assert db.execute(ask).fetchone() == (None, "frontier")


@pytest.mark.parametrize(
    ("kind", "method"), [("diff", None), ("full", "diff"), ("incremental", "diff")]
)
def test_a_diff_that_ends_after_its_first_part_is_followed_by_a_full_read(
    state: State, kind: RunKind, method: str | None
) -> None:
    """What it sent is in no state of digests: rows that change back would be missed."""
    ended = replace(batch(HEAD, final=True), method="diff")
    state.register(ended)
    state.end_run("run-1", RunTotals(Rows(3, 0, 1), Quality(5, 2, 0), {}, {}), at=NOON)
    state.add_run(Run("run-2", ended.stream, "queued", None, NOON, kind=kind))
    state.start_run("run-2", at=NOON)
    state.settle_run("run-2", kind=kind, basis="")

    state.register(batch(state.stream(KEY).head, run="run-2"))
    cut = state.frontier(ended.stream)
    last = batch(state.stream(KEY).head, run="run-2", final=True)
    state.register(replace(last, method="diff"))
    whole = state.frontier(ended.stream)

    assert cut is not None
    assert whole is not None
    assert (cut.method, whole.method) == (method, "diff")


def test_a_batch_of_an_unknown_run_is_refused_whole(state: State) -> None:
    """Foreign keys hold; the chain does not move."""
    with pytest.raises(StateDamaged):
        state.register(batch(HEAD, run="nobody's"))
    assert state.stream(KEY).head == HEAD


def test_threads_take_turns(state: State) -> None:
    """Of many that seal on one head, one wins."""
    outcomes: list[str] = []

    def go(number: int) -> None:
        try:
            state.register(replace(batch(HEAD), digest=f"sha256:{number:064x}"))
            outcomes.append("registered")
        except ChainMoved:
            outcomes.append("moved")

    threads = [threading.Thread(target=go, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["moved"] * 5 + ["registered"]


def test_receipts_only_move_forward(state: State) -> None:
    """A late stored does not undo loaded; every text is kept."""
    (only,) = register(state, 1)
    for what in ("stored", "loaded", "stored"):
        keep(state, only, what)
    assert states(state) == ["loaded"]
    assert [r.state for r in state.receipts_of(1, 1, 1)] == ["stored", "loaded"]
    assert [r.jws for r in state.receipts(1, limit=1)] == ["jws loaded"]
    assert state.last_loaded(1) == (1, 1)


def test_a_rejection_halts_and_drops_what_stands_beside_it(state: State) -> None:
    """The stream keeps the code; nothing can be registered until a new epoch."""
    made = register(state, 3)
    keep(state, made[0], "stored")
    keep(state, made[1], "rejected", "bad-payload")
    stream = state.stream(KEY)
    assert (stream.halt_code, stream.halt_at) == ("bad-payload", LATER)
    assert states(state) == ["dropped", "rejected", "dropped"]
    with pytest.raises(ChainMoved):
        state.register(batch(stream.head))


def test_a_new_epoch_drops_what_waits_and_ends_the_halt(state: State) -> None:
    """Loaded batches stay loaded."""
    made = register(state, 2)
    for new in made:
        keep(state, new, "loaded")
    state.add_run(Run("run-2", 1, "queued", None, NOON))
    late = register(state, 2, run="run-2")
    keep(state, late[0], "rejected", "bad-payload")
    head = Head(2, 0, late[0].digest, "a" * 32, "rejected")
    with pytest.raises(ChainMoved):  # only a person's word ends a halt
        state.open_epoch(1, Epoch(head, "position", LATER, cause="restored"))
    assert state.stream(KEY).halt_code == "bad-payload"
    state.open_epoch(1, Epoch(head, "position", LATER, cause="rejected"))
    assert state.stream(KEY).head == head
    assert state.stream(KEY).halt_code is None
    assert state.epoch_base(1, 2) == late[0].digest
    assert states(state) == ["loaded", "loaded", "rejected", "dropped"]


def test_a_loaded_snapshot_ends_what_older_ones_left(state: State) -> None:
    """Parts of a run that died stay stored at the exchange and never load."""
    state.register(batch(HEAD))
    keep(state, batch(HEAD), "stored")
    state.add_run(Run("run-2", 1, "queued", None, NOON))
    second = register(state, 2, run="run-2")
    keep(state, second[0], "stored")
    keep(state, second[1], "loaded")
    assert states(state) == ["dropped", "stored", "loaded"]
    assert [b.seq for b in state.settling(1)] == [2]


def test_parts_settle_once_the_final_one_is_stored(state: State) -> None:
    """Before that nobody need ask for news."""
    made = register(state, 2)
    keep(state, made[0], "stored")
    assert state.settling(1) == ()
    keep(state, made[1], "stored")
    assert [b.seq for b in state.settling(1)] == [1, 2]


def test_what_may_be_purged(state: State) -> None:
    """Loaded and rejected after their time, stored after a longer one, dropped now."""
    made = register(state, 3)
    keep(state, made[0], "loaded")
    keep(state, made[1], "stored")

    def purgeable(loaded: str, stored: str) -> list[int]:
        found = state.purgeable(loaded_before=loaded, stored_before=stored)
        assert all(resource == KEY.resource for resource, _ in found)
        return [b.seq for _, b in found]

    assert purgeable(NOON, NOON) == []
    assert purgeable(LATER, NOON) == [1]
    assert purgeable(LATER, LATER) == [1, 2]
    state.mark_gone([b for b in state.recent(1, 3) if b.seq == 1])
    assert purgeable(LATER, LATER) == [2]
    assert state.files() == {"1.2": 100, "1.3": 100}


def test_sums_add_up_three_sources(state: State) -> None:
    """Loaded by receipts, open by batches, quality by manifests."""
    made = register(state, 3)
    keep(state, made[0], "loaded")
    keep(state, made[1], "stored")
    sums = state.sums("run-1")
    assert (sums.loaded_upsert, sums.open_upsert, sums.lost_upsert) == (3, 6, 0)
    assert (sums.quality, sums.rows.keep) == (Quality(15, 6, 0), 3)
    assert sums.states == {"loaded": 1, "stored": 1, "waiting": 1}
    assert state.amount(1, "waiting") == (1, 100)


def test_the_brake_compares_with_what_stands(state: State) -> None:
    """A rejected snapshot does not count; a waiting one does."""
    assert state.last_distinct(1) is None
    made = register(state, 2)
    assert state.last_distinct(1) == 8
    keep(state, made[1], "rejected", "mass-delete")
    assert state.last_distinct(1) is None


def test_a_run_and_the_one_that_repeats_it_are_one_step(state: State) -> None:
    """Either both are there or the run still reads."""
    end = RunEnd("failed", "worker-died", "SIGKILL", LATER)
    again = Run("run-2", 1, "queued", 12, LATER)
    with pytest.raises(StateDamaged):
        state.stop_run("run-1", end, successor=replace(again, id="run-1"))
    assert [r.state for r in state.unfinished_runs()] == ["reading"]
    state.stop_run("run-1", end, successor=again)
    old, new = state.run("run-1"), state.run("run-2")
    assert old is not None
    assert (old.state, old.code, old.successor) == ("failed", "worker-died", "run-2")
    assert new is not None
    assert (new.state, new.deletes_confirmed) == ("queued", 12)
    assert [r.id for r in state.unfinished_runs()] == ["run-2"]
    assert state.last_run(1) == new
    assert state.last_run(1, ("failed",)) == old


def test_totals_come_back_as_they_went_in(state: State) -> None:
    """Reasons with their Chinese names too."""
    totals = RunTotals(Rows(3, 0, 1), Quality(5, 2, 0), {"required": 2}, {"身份证": 1})
    state.end_run("run-1", totals, at=LATER)
    run = state.run("run-1")
    assert run is not None
    assert (run.state, run.totals, run.ended_at) == ("read", totals, LATER)
    state.confirm_run("run-1", 7)
    assert state.run("nobody's") is None
    register(state, 1)
    final = state.final_of("run-1")
    assert final is not None
    assert final.distinct == 8


def test_a_catalog_version_is_kept_once(state: State) -> None:
    """What was signed never changes; it can be sent again."""
    made = Catalog(1, "sha256:" + "d" * 64, "jws", False)
    state.add_catalog(1, made)
    with pytest.raises(StateDamaged):
        state.add_catalog(1, replace(made, jws="other"))
    assert state.unsent_catalogs(1) == (made,)
    state.mark_catalog(1, 1, sent_at=NOON)
    assert state.unsent_catalogs(1) == ()
    assert state.catalog(1, 1) == replace(made, sent=True)
    assert state.catalog(1, 2) is None
    state.forget_catalogs(1)
    assert state.unsent_catalogs(1) == (made,)


def test_pauses_are_kept(state: State) -> None:
    """One, all, and the end of all."""
    state.pause("330100001/000001", at=NOON)
    state.pause(ALL, at=NOON)
    assert state.pauses() == {"330100001/000001", ALL}
    state.resume("330100001/000001")
    assert state.pauses() == {ALL}
    state.pause("330100001/000001", at=NOON)
    state.resume(ALL)
    assert state.pauses() == frozenset()


# --- times --------------------------------------------------------------------------


def test_a_run_and_the_next_moment_are_kept_together(state: State) -> None:
    """A crash between them is impossible: if one cannot be kept, neither is."""
    run = Run("run-2", 1, "queued", None, NOON)
    nowhere = KeptDue(99, "full", "every 1h", LATER, NOON)
    with pytest.raises(StateDamaged):
        state.add_run(run, due=nowhere)
    assert state.run("run-2") is None
    here = replace(nowhere, stream=1)
    state.add_run(run, due=here)
    assert (state.run("run-2"), state.dues()) == (run, (here,))


def test_complete_is_what_the_exchange_has_loaded(state: State) -> None:
    """A registered or stored snapshot does not count, nor does a search for deletes."""
    register(state, 1)
    assert state.complete(1) is None
    receipt = NewReceipt(1, 1, "loaded", None, Rows(3, 0, 1), NOON, "jws")
    state.keep_receipt(1, receipt, at=LATER)
    assert state.complete(1) == Complete(as_of=NOON, at=LATER)
    state.add_run(Run("run-2", 1, "queued", None, NOON, kind="deletes"))
    register(state, 1, run="run-2")
    state.keep_receipt(1, replace(receipt, seq=2), at="2026-11-21T14:00:00Z")
    assert state.complete(1) == Complete(as_of=NOON, at=LATER)


def test_nothing_is_complete_after_a_recall(state: State) -> None:
    """Neither the old snapshot, nor what was counted of it, says what is there."""
    register(state, 1)
    receipt = NewReceipt(1, 1, "loaded", None, Rows(3, 0, 1), NOON, "jws")
    state.keep_receipt(1, receipt, at=LATER)
    totals = RunTotals(Rows(3, 0, 0), Quality(3, 0, 0), {}, {})
    (whole,) = state.unfinished_runs()
    state.end_run(whole.id, totals, at=NOON)
    state.keep_count(1, Count(whole.id, 3, NOON))
    assert state.last_whole(1) is not None
    state.add_run(Run("run-2", 1, "queued", None, NOON, kind="recall"))
    state.reconciles.begin_recall(1, KeptRecall("run-2", 3, NOON))
    assert state.count(1) is None
    register(state, 1, run="run-2")
    state.end_run("run-2", totals, at=NOON)
    state.keep_receipt(1, replace(receipt, seq=2), at=LATER)
    assert (state.complete(1), state.last_whole(1)) == (None, None)


def test_a_forgotten_moment_is_gone(state: State) -> None:
    """Of this kind only."""
    kinds: tuple[ScheduledKind, ...] = ("full", "deletes")
    for kind in kinds:
        state.keep_due(KeptDue(1, kind, "every 1h", LATER, None))
    state.forget_due(1, "full")
    assert [due.kind for due in state.dues()] == ["deletes"]


def test_what_is_open_is_found_without_looking_at_all_that_ever_was(
    state: State,
) -> None:
    """Batches are never deleted: each look would take longer than the one before."""
    asked: list[str] = []
    with state._connection.transaction() as db:
        db.conn.set_trace_callback(asked.append)
    state.batches(1, ("waiting",), limit=1)
    state.batches(1, ("waiting", "stored"))
    state.amount(1, "stored")
    state.settling(1)
    with state._connection.transaction() as db:
        db.conn.set_trace_callback(None)
        plans = [
            [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}").fetchall()]
            for text in asked
            if text.startswith("SELECT")
        ]
    assert len(plans) == 4
    assert all("batches_open" in plan[0] for plan in plans), plans
