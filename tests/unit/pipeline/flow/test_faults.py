# SPDX-License-Identifier: Apache-2.0
"""Faults of the exchange, the line, the disk and the source, one at a time."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.audit.events import (
    BatchPurged,
    EpochOpened,
    ExchangeTrouble,
    OrphansRemoved,
    ReceiptKept,
    RowsReturned,
    RunFailed,
    RunHeld,
    SpoolBlocked,
)
from agent.crypto.jose import PrivateKey
from agent.errors import (
    AuditWriteFailed,
    Busy,
    ExchangeRefused,
    ExchangeUnreachable,
    ResourceUnknown,
    SpoolWriteFailed,
    WorkerDied,
)
from agent.model.job import Failed
from agent.pipeline.flow.seams import Limits
from agent.pipeline.spool import Quota
from agent.wire.problem import CODES
from tests.support.push import FIRM, ITEMS, PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk, Script

CUT = ExchangeUnreachable("cut")
TWO = (Resource(PERSON), Resource(FIRM))


def refused(code: str, retry_after: float | None = None) -> ExchangeRefused:
    return ExchangeRefused("", problem=code, retry_after=retry_after)


# --- receipts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 2},
        {"epoch": 7},
        {"resource": FIRM},
        {"producer": "11330100MB0000000A/fep-02"},
        {"exchange": "another.exchange"},
        {"manifest": "sha256:" + "0" * 64},
    ],
    ids=lambda c: next(iter(c)),
)
async def test_a_receipt_of_another_batch_is_not_kept(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """It is told as false, nothing is stored, the batch is offered again."""
    world = World(tmp_path)
    world.exchange.rewrite("upload", world.exchange.false(**changes))
    report = await world.pulled()
    assert report.delivered
    assert [e.code for e in world.told(ExchangeTrouble)] == ["false-receipt"]
    assert world.exchange.calls.count("upload") == 3
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


@pytest.mark.parametrize("text", ["", "x.y.z", "a" * 3000, "not a receipt"])
async def test_garbage_for_a_receipt_is_offered_again(
    tmp_path: Path, text: str
) -> None:
    """Whatever stands in its place, the batch stays until a receipt verifies."""
    world = World(tmp_path)
    world.exchange.rewrite("upload", lambda _receipt: text)
    assert (await world.pulled()).delivered
    assert [e.code for e in world.told(ExchangeTrouble)] == ["false-receipt"]


async def test_a_receipt_of_an_unknown_key_refreshes_the_directory(
    tmp_path: Path,
) -> None:
    """The exchange may have a new key; the receipt at hand does not count."""
    world = World(tmp_path)
    exchange, real = world.exchange, world.exchange.key
    forged = PrivateKey.generate("receipt")

    def forge(text: str) -> str:
        exchange.key = forged
        try:
            return str(exchange.false()(text))
        finally:
            exchange.key = real

    exchange.rewrite("upload", forge)
    assert (await world.pulled()).delivered
    assert world.refreshes == 1


async def test_an_upload_without_a_receipt_asks_for_it(tmp_path: Path) -> None:
    """A plain tus server says nothing; the receipt is fetched."""
    world = World(tmp_path)
    world.exchange.rewrite("upload", lambda _text: None)
    assert (await world.pulled()).delivered
    assert world.exchange.calls.count("upload") == 2


async def test_parts_wait_as_stored_until_the_final_one_is_loaded(
    tmp_path: Path,
) -> None:
    """Receipts are asked for until every part is loaded; each one is kept."""
    world = World(tmp_path)
    world.exchange.loading = False
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        status = await until(flow, lambda s: s.stored.batches == 2)
        assert status.state == "waiting"
        assert status.run is not None
        assert (status.run.in_flight, status.run.balanced) in {(5, True), (5, None)}
        world.exchange.load(PERSON)
        report = await flow.wait(run, delivered=True)
    assert report.delivered
    kept = sorted((e.seq, e.state) for e in world.told(ReceiptKept))
    assert kept == [(1, "loaded"), (1, "stored"), (2, "loaded"), (2, "stored")]


# --- the line -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["position", "put_catalog", "upload"])
async def test_a_request_that_fails_twice_then_works(
    tmp_path: Path, method: str
) -> None:
    """It is repeated after full-jitter waits and the push ends as if nothing was."""
    world = World(tmp_path)
    world.exchange.fail(method, CUT, CUT)
    assert (await world.pulled()).delivered
    waits = [e.wait_s for e in world.told(ExchangeTrouble)]
    assert waits == [5.0, 10.0]


@pytest.mark.parametrize("method", ["position", "put_catalog", "upload"])
async def test_a_lost_answer_makes_nothing_twice(tmp_path: Path, method: str) -> None:
    """The exchange did it, we did not hear: the same bytes are offered again."""
    world = World(tmp_path)
    world.exchange.fail_after(method, CUT)
    assert (await world.pulled()).delivered
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())
    assert len(world.exchange.batches) == 2


async def test_a_cut_that_never_ends_loses_nothing(tmp_path: Path) -> None:
    """Everything waits in the spool; a person's pull ends the wait."""
    world = World(tmp_path)
    await world.pulled()
    world.exchange.down = CUT
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        status = await until(
            flow, lambda s: s.waiting.batches == 2 and s.trouble is not None
        )
        assert status.state == "trouble"
        assert status.trouble is not None
        assert (status.trouble.code, bool(status.trouble.next_try)) == (CUT.code, True)
        world.exchange.down = None
        await until(flow, lambda s: s.state == "idle")
    assert len(world.exchange.batches) == 4


@pytest.mark.parametrize("code", [*CODES, "http-502", "something-new"])
async def test_a_problem_never_halts_a_stream(tmp_path: Path, code: str) -> None:
    """Problems are unsigned: whatever they say, the batch is offered again."""
    world = World(tmp_path)
    world.exchange.fail("upload", refused(code), refused(code))
    report = await world.pulled()
    assert report.delivered
    assert [e.epoch for e in world.told(EpochOpened)] == [1]
    assert len(world.told(ExchangeTrouble)) == 2


async def test_retry_after_is_obeyed_up_to_the_cap(tmp_path: Path) -> None:
    """A proxy that says a year is not believed."""
    world = World(tmp_path)
    world.exchange.fail("upload", refused("busy", 7.0), refused("busy", 3e7))
    assert (await world.pulled()).delivered
    assert [e.wait_s for e in world.told(ExchangeTrouble)] == [7.0, 600.0]


async def test_an_unknown_catalog_is_sent_again(tmp_path: Path) -> None:
    """catalog-unknown: PUT, then the batch."""
    world = World(tmp_path)
    await world.pulled()
    world.exchange.catalogs.clear()
    assert (await world.pulled()).delivered
    assert world.exchange.calls.count("put_catalog") == 2


@pytest.mark.parametrize("code", ["chain-gap", "stale-epoch", "fork"])
async def test_a_chain_problem_asks_for_the_position(tmp_path: Path, code: str) -> None:
    """The signed position decides; it fits, so nothing new is opened."""
    world = World(tmp_path)
    world.exchange.fail("upload", refused(code))
    assert (await world.pulled()).delivered
    assert world.exchange.calls.count("position") == 2
    assert len(world.told(EpochOpened)) == 1


@pytest.mark.parametrize("code", ["bad-signature", "key-revoked", "not-owner"])
async def test_a_key_problem_refreshes_the_directory(tmp_path: Path, code: str) -> None:
    """Our picture of keys and owners may be old."""
    world = World(tmp_path)
    world.exchange.fail("upload", refused(code))
    assert (await world.pulled()).delivered
    assert world.refreshes == 1


async def test_a_defect_of_ours_stops_neither_this_stream_nor_others(
    tmp_path: Path,
) -> None:
    """An exception nobody foresaw is told by class and place, and tried again."""
    world = World(tmp_path)
    world.exchange.fail("upload", RuntimeError("张三 110101199003070011"))
    assert (await world.pulled()).delivered
    (trouble,) = world.told(ExchangeTrouble)
    assert trouble.code == "internal"
    assert "张三" not in trouble.detail


# --- position -----------------------------------------------------------------------


async def test_a_clock_an_hour_off_is_told_and_waits(tmp_path: Path) -> None:
    """Nothing is sealed on a position of another hour."""
    world = World(tmp_path)
    ours = world.clock.now
    world.exchange.now = lambda: ours() + timedelta(hours=1)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        status = await until(flow, lambda s: s.trouble is not None)
        assert status.trouble is not None
        assert status.trouble.code == "clock-skew"
        assert "+3600 s" in status.trouble.detail
        world.exchange.now = ours
        await until(flow, lambda s: s.state == "idle")


async def test_a_clock_that_goes_off_later_is_told_too(tmp_path: Path) -> None:
    """The date of an answer raises the doubt, the signed position decides."""
    world = World(tmp_path)
    ours = world.clock.now
    await world.pulled()
    async with world.serving() as flow:
        world.exchange.clock_offset_s = 3600.0
        world.exchange.now = lambda: ours() + timedelta(hours=1)
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.trouble is not None and s.waiting.batches > 0)
        trouble = flow.resource(PERSON).trouble
        assert trouble is not None
        assert trouble.code == "clock-skew"
        world.exchange.now = ours
        await until(flow, lambda s: s.state == "idle")


async def test_a_date_that_nobody_signed_stops_nothing(tmp_path: Path) -> None:
    """A proxy with a wrong clock stands before an exchange with a right one."""
    world = World(tmp_path)
    world.exchange.clock_offset_s = 3600.0
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        assert (await flow.wait(run, delivered=True)).delivered


async def test_an_old_position_is_not_believed(tmp_path: Path) -> None:
    """A replayed answer has another nonce."""
    world = World(tmp_path)
    old = await world.exchange.position(PERSON, "n" * 22)
    world.exchange.rewrite("position", lambda _text: old)
    assert (await world.pulled()).delivered
    assert [e.code for e in world.told(ExchangeTrouble)] == ["malformed"]


async def test_a_lost_state_begins_the_next_epoch_on_the_position(
    tmp_path: Path,
) -> None:
    """Epoch + 1, prev = the position's digest, reason spool_lost."""
    world = World(tmp_path)
    await world.pulled()
    last = list(world.exchange.batches.values())[-1].digest
    (tmp_path / "state.db").unlink()
    shutil.rmtree(tmp_path / "spool")
    assert (await world.pulled()).delivered
    first = list(world.exchange.batches.values())[2].manifest.stream
    assert (first.epoch, first.seq, first.prev) == (2, 1, last)
    assert first.reason == "spool_lost"


async def test_a_restored_backup_begins_an_epoch_of_a_new_incarnation(
    tmp_path: Path,
) -> None:
    """The position is ahead of the old state: reason restored, other incarnation."""
    world = World(tmp_path)
    await world.pulled()
    backup = (tmp_path / "state.db").read_bytes()
    await world.pulled()
    (tmp_path / "state.db").write_bytes(backup)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    streams = [k.manifest.stream for k in world.exchange.batches.values()]
    assert [(s.epoch, s.seq) for s in streams][-2:] == [(2, 1), (2, 2)]
    assert streams[4].reason == "restored"
    assert streams[4].incarnation != streams[3].incarnation
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


async def test_an_exchange_that_lost_the_stream_gets_it_anew(tmp_path: Path) -> None:
    """The position is empty although we hold receipts: first again, read again."""
    world = World(tmp_path)
    await world.pulled()
    world.exchange.forget(PERSON)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    first = next(iter(world.exchange.batches.values())).manifest.stream
    assert (first.epoch, first.seq, first.prev, first.reason) == (2, 1, None, "first")


# --- rejected -----------------------------------------------------------------------


async def test_a_signed_rejection_halts_its_own_stream_only(tmp_path: Path) -> None:
    """It shows the code and waits; the other resource is loaded."""
    world = World(tmp_path, resources=TWO)
    world.exchange.loading = False
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 2)
        world.exchange.reject(PERSON, "bad-payload")
        status = await until(flow, lambda s: s.state == "held")
        world.exchange.loading = True
        assert (await pull(flow, FIRM)).delivered
    assert status.stream.halted == "bad-payload"
    assert status.trouble is not None
    assert status.trouble.code == "batch-rejected"
    assert status.trouble.detail == "bad-payload: batch 1/2"


async def test_a_halted_stream_stays_halted_over_a_restart(tmp_path: Path) -> None:
    """Nothing is offered until a person pulls."""
    world = World(tmp_path)
    world.exchange.refuse_seq[1] = "bad-payload"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "held")
    uploads = world.exchange.calls.count("upload")
    async with world.serving() as flow:
        await asyncio.sleep(0.05)
        assert flow.resource(PERSON).state == "held"
    assert world.exchange.calls.count("upload") == uploads


async def test_a_pull_after_a_rejection_opens_an_epoch_on_the_position(
    tmp_path: Path,
) -> None:
    """Reason rejected, chained to the rejected batch, everything read again."""
    world = World(tmp_path)
    world.exchange.refuse_seq[2] = "bad-payload"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "held")
        assert (await pull(flow)).delivered
        status = await until(flow, lambda s: s.state == "idle")
    kept = list(world.exchange.batches.values())
    first = kept[2].manifest.stream
    assert (first.epoch, first.seq, first.prev) == (2, 1, kept[1].digest)
    assert first.reason == "rejected"
    assert status.balanced is True


async def test_a_rejection_ends_the_run_that_still_reads(tmp_path: Path) -> None:
    """What stands on a rejected batch would be stale."""
    world = World(tmp_path)
    script = world.scripts[PERSON] = Script((Chunk(1), Chunk(1), Chunk(1)))
    script.hold, script.hold_at = asyncio.Event(), 3
    world.exchange.refuse_seq[1] = "bad-payload"
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        report = await flow.wait(run)
    assert (report.state, report.code) == ("failed", "batch-rejected")
    assert script.killed == 1


async def test_a_stale_final_part_names_the_part_that_was_refused(
    tmp_path: Path,
) -> None:
    """Behind rejected: stale-epoch stands the real reason."""
    world = World(tmp_path)
    world.exchange.loading = False
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 2)
        first, final = world.exchange.batches.values()
        first.state, first.code = "rejected", "bad-payload"
        final.state, final.code = "rejected", "stale-epoch"
        status = await until(flow, lambda s: s.state == "held")
    assert status.stream.halted == "bad-payload"


@pytest.mark.parametrize("fails", [None, WorkerDied("killed")])
async def test_rejected_rows_come_back_before_the_stream_is_halted(
    tmp_path: Path, fails: BaseException | None
) -> None:
    """With file, catalog and code; where it fails the stream is halted all the same."""
    world = World(tmp_path)
    world.give_fails = fails
    world.exchange.refuse_seq[2] = "bad-payload"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "held")
    (found,) = world.returned
    assert (found.resource, found.epoch, found.seq) == (PERSON, 1, 2)
    assert (found.code, found.ops) == ("bad-payload", ("u", "d", "k"))
    assert [i.name for i in found.items] == [i.name for i in ITEMS]
    told = [e.rows for e in world.told(RowsReturned)]
    assert told == ([] if fails else [7])


async def test_a_batch_of_a_broken_chain_brings_no_rows_back(tmp_path: Path) -> None:
    """Nothing is wrong with them."""
    world = World(tmp_path)
    world.exchange.refuse_seq[2] = "snapshot-incomplete"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "held")
    assert world.returned == []


# --- the spool ----------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "cut", "line", "gone", "empty"])
async def test_a_damaged_file_never_leaves_and_is_read_again(
    tmp_path: Path, damage: str
) -> None:
    """A new epoch with reason spool_lost; the end is whole."""
    world = World(tmp_path)
    await world.pulled()
    world.exchange.down = CUT
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 2)
    _damage(files(world)[-2], damage)
    world.exchange.down = None
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle")
    assert (status.stream.epoch, status.balanced) == (2, True)
    streams = [k.manifest.stream for k in world.exchange.batches.values()]
    assert [s.reason for s in streams] == ["first", None, "spool_lost", None]
    assert "spool-damaged" in {e.code for e in world.told(ExchangeTrouble)}


def files(world: World) -> list[Path]:
    return sorted(world.folder.glob("spool/out/*/*/*.fepb"))


def _damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    flipped = data[:-1] + bytes([data[-1] ^ 1])
    line = data.replace(b".", b"!", 1)
    path.write_bytes(
        {"flip": flipped, "cut": data[:-5], "line": line, "empty": b""}[how]
    )


async def test_a_full_spool_stops_reading_and_loses_nothing(tmp_path: Path) -> None:
    """The worker waits for its line until the exchange has taken something."""
    world = World(tmp_path, quota=Quota(150_000, 0))
    await world.pulled()
    world.scripts[PERSON].chunks = [Chunk(1, size=60_000)] * 6
    world.exchange.down = CUT
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: bool(world.told(SpoolBlocked)))
        await asyncio.sleep(0.02)
        status = flow.status()
        assert (status.spool.blocked, status.healthy) == (True, False)
        assert status.resources[0].waiting.batches == 1
        trouble = status.resources[0].trouble
        assert trouble is not None
        assert trouble.code == "spool-full"
        world.exchange.down = None
        report = await flow.wait(run, delivered=True)
    assert (report.delivered, report.read) == (True, 6)
    assert len(world.told(SpoolBlocked)) == 1


async def test_the_free_space_floor_stops_reading(tmp_path: Path) -> None:
    """Others on the disk keep their room."""
    world = World(tmp_path, quota=Quota(10**9, 10**6), free=10**6)
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: bool(world.told(SpoolBlocked)))
        world.free = 10**12
        assert (await flow.wait(run, delivered=True)).delivered


async def test_orphans_of_a_crash_are_deleted_and_their_number_reused(
    tmp_path: Path,
) -> None:
    """Files that were never registered never leave."""
    world = World(tmp_path)
    await world.pulled()
    folder = files(world)[0].parent
    (folder / f"{folder.name}.1.3.fepb").write_bytes(b"signed, renamed, not registered")
    (tmp_path / "spool/tmp/run.1.tmp").write_bytes(b"half")
    await world.pulled()
    assert [e.files for e in world.told(OrphansRemoved)] == [2]
    assert [b.seq for b in world.exchange.batches] == [1, 2, 3, 4]


async def test_a_refusing_disk_ends_the_daemon(tmp_path: Path) -> None:
    """A failed rename is not tried again: serve raises, exit code 74."""
    world = World(tmp_path)
    async with world.serving() as flow:
        shutil.rmtree(tmp_path / "spool" / "out")
        (tmp_path / "spool" / "out").write_text("a file where a folder was")
        await flow.request_pull(PERSON)
        with pytest.raises(SpoolWriteFailed):
            await world.task


async def test_a_worker_that_cannot_write_ends_the_daemon(tmp_path: Path) -> None:
    """fsync failed there: it counts as here."""
    world = World(tmp_path)
    world.scripts[PERSON].failure = Failed("spool-write-failed", "fsync: EIO")
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        with pytest.raises(SpoolWriteFailed):
            await world.task


# --- the brake ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "held"),
    [(5000, 4000, False), (5000, 3999, True), (3, 0, True), (0, 0, False)],
)
async def test_a_swap_that_deletes_too_much_is_held(
    tmp_path: Path, before: int, after: int, held: bool
) -> None:
    """More than max(1000, 5 %) fewer, or none at all any more."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(before),)
    await world.pulled()
    world.scripts[PERSON].chunks = (Chunk(after),)
    async with world.serving() as flow:
        report = await pull(flow)
        status = flow.resource(PERSON)
    assert (report.state == "held", bool(world.told(RunHeld))) == (held, held)
    assert (status.state == "held") is held
    assert world.exchange.loaded_rows[PERSON] == (before if held else after)


# --- the source ---------------------------------------------------------------------


async def test_a_source_that_fails_twice_then_works(tmp_path: Path) -> None:
    """The run is repeated by itself; each repetition is a new snapshot."""
    world = World(tmp_path)
    gone = Failed("source-unreachable", "db:5432")
    world.scripts[PERSON].failures = [gone, gone]
    async with world.serving() as flow:
        first = await flow.wait(await flow.request_pull(PERSON))
        await until(flow, lambda s: s.state == "idle")
    assert (first.state, first.code) == ("failed", "source-unreachable")
    assert first.successor is not None
    assert len(set(world.scripts[PERSON].runs)) == 3
    assert len(world.told(RunFailed)) == 2
    assert world.exchange.loaded_rows == {PERSON: 5}


async def test_a_dead_worker_is_repeated_from_part_1(tmp_path: Path) -> None:
    """Its registered parts are sent; the new snapshot stands behind them."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.die_at = 2

    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: bool(world.told(RunFailed)))
        script.die_at = None
        status = await until(flow, lambda s: s.state == "idle")
    snapshots = [k.manifest.snapshot for k in world.exchange.batches.values()]
    assert [s.part for s in snapshots if s][-2:] == [1, 2]
    assert (status.balanced, status.stored.batches) == (True, 0)


async def test_a_wrong_password_is_not_repeated_fast(tmp_path: Path) -> None:
    """Fast repetition locks accounts: the wait's bound is the cap."""
    world = World(tmp_path)
    world.scripts[PERSON].failures = [Failed("source-login", "role fep")]
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "idle")
    assert max(world.clock.slept) > 590


async def test_a_pull_ends_the_wait_of_a_failed_run(tmp_path: Path) -> None:
    """Who has mended the source need not wait."""
    world = World(tmp_path)
    forever = asyncio.Event()
    slept = world.clock.sleep

    async def sleep(seconds: float) -> None:
        if 1 < seconds < 60:
            await forever.wait()
        await slept(seconds)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    world.scripts[PERSON].failures = [Failed("source-unreachable", "db:5432")]
    async with world.serving() as flow:
        failed = await flow.wait(await flow.request_pull(PERSON))
        run = await flow.request_pull(PERSON)
        assert run == failed.successor
        assert (await flow.wait(run, delivered=True)).delivered


async def test_a_broken_source_does_not_stop_the_other(tmp_path: Path) -> None:
    """The other resource goes on."""
    world = World(tmp_path, resources=TWO, limits=Limits(workers=1))
    world.scripts[PERSON].failure = Failed("source-missing", "person.name")
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        assert (await pull(flow, FIRM)).delivered
        status = await until(flow, lambda s: s.trouble is not None)
    assert status.trouble is not None
    assert status.trouble.code == "source-missing"


async def test_a_secrecy_marking_holds_the_run(tmp_path: Path) -> None:
    """It waits for a person and is not repeated."""
    world = World(tmp_path)
    reasons = {"secrecy-marker": 1}
    world.scripts[PERSON].failures = [Failed("secrecy-marker", "item name", reasons)]
    async with world.serving() as flow:
        report = await pull(flow)
        await asyncio.sleep(0.02)
        status = flow.resource(PERSON)
    assert (report.state, report.code) == ("held", "secrecy-marker")
    assert (status.state, len(world.scripts[PERSON].runs)) == ("held", 1)


async def test_other_items_need_another_version(tmp_path: Path) -> None:
    """A version that was sent never changes; the run says what to do."""
    world = World(tmp_path)
    await world.pulled()
    item = world.resources[0].items[0]
    world.resources = (Resource(PERSON, 1, (replace(item, name="other"),)),)
    report = await world.pulled()
    assert (report.state, report.code) == ("failed", "catalog-invalid")
    assert "higher version" in (report.detail or "")
    world.resources = (Resource(PERSON, 2, (replace(item, name="other"),)),)
    assert (await world.pulled()).delivered
    assert len(world.exchange.catalogs) == 2


# --- people and the life of the daemon ----------------------------------------------


async def test_a_pause_cuts_the_run_and_a_resume_repeats_it(tmp_path: Path) -> None:
    """Also over a restart; a paused resource takes no pull."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), 2
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        flow.pause()
        status = await until(flow, lambda s: s.run is None or s.run.state == "queued")
        assert status.state == "paused"
        with pytest.raises(Busy):
            await flow.request_pull(PERSON)
    script.hold = None
    async with world.serving() as flow:
        assert flow.status().paused
        flow.resume()
        await until(flow, lambda s: s.state == "idle")
    assert world.exchange.loaded_rows == {PERSON: 5}


async def test_a_resource_that_reads_is_busy(tmp_path: Path) -> None:
    """One run of a resource at a time; others are unknown."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.hold = asyncio.Event()
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "running")
        with pytest.raises(Busy):
            await flow.request_pull(PERSON)
        with pytest.raises(ResourceUnknown):
            await flow.request_pull("999/1")


async def test_a_drain_lets_the_run_end_and_begins_nothing_new(tmp_path: Path) -> None:
    """serve returns by itself; what waits is sent by the next life."""
    world = World(tmp_path, resources=TWO)
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), 2
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        drain = asyncio.create_task(flow.drain(5))
        await asyncio.sleep(0.01)
        await flow.request_pull(FIRM)
        script.hold.set()
        await drain
        await world.task
        run = flow.resource(PERSON).run
        assert run is not None
        assert run.state == "read"
        assert world.scripts[FIRM].runs == []


async def test_a_drain_that_takes_too_long_cuts(tmp_path: Path) -> None:
    """The run begins again in the next life."""
    world = World(tmp_path)
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), 2
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.progress is not None)
        await flow.drain(0.01)
        await world.task
    script.hold = None
    async with world.serving() as flow:
        await until(flow, lambda s: s.state == "idle")
    assert world.exchange.loaded_rows == {PERSON: 5}


async def test_one_upload_of_a_stream_at_a_time_streams_side_by_side(
    tmp_path: Path,
) -> None:
    """Two streams upload together, never more."""
    world = World(tmp_path, resources=TWO)
    world.scripts[PERSON].chunks = world.scripts[FIRM].chunks = [Chunk(1)] * 5
    async with world.serving() as flow:
        one = asyncio.create_task(pull(flow, PERSON))
        two = asyncio.create_task(pull(flow, FIRM))
        await asyncio.gather(one, two)
    assert world.exchange.most_uploads <= 2


async def test_loaded_payloads_are_purged_after_their_time(tmp_path: Path) -> None:
    """The files go, batches and receipts stay."""
    world = World(tmp_path, limits=Limits(keep_loaded_s=3600))
    await world.pulled()
    assert len(files(world)) == 2
    world.clock.move(3601)
    async with world.serving() as flow:
        await until(flow, lambda _s: len(world.told(BatchPurged)) == 2)
        views = flow.batches(PERSON)
    assert files(world) == []
    assert [[r.state for r in v.receipts][-1] for v in views] == ["loaded", "loaded"]


# --- the audit log ------------------------------------------------------------------


async def test_what_leaves_is_recorded_once_before(tmp_path: Path) -> None:
    """One record a batch, though its upload was cut and went on."""
    world = World(tmp_path)
    world.exchange.fail("upload", CUT, CUT)
    report = await world.pulled()
    assert report.delivered
    identities = [(e.resource, e.epoch, e.seq, e.digest) for e in world.left]
    kept = {
        (b.resource, b.epoch, b.seq, k.digest)
        for b, k in world.exchange.batches.items()
    }
    assert set(identities) == kept
    assert len(identities) == len(kept)
    assert sum(e.upsert for e in world.left) == report.upsert


async def test_a_batch_without_a_record_does_not_leave(tmp_path: Path) -> None:
    """The log cannot be written: nothing is sent, and it goes on when it can."""
    world = World(tmp_path)
    world.log_fails = AuditWriteFailed("disk full")
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        found = await until(flow, lambda status: status.trouble is not None)
        assert found.trouble is not None
        assert found.trouble.code == AuditWriteFailed.code
        assert not world.exchange.batches
        world.log_fails = None
        flow.resume(PERSON)
        assert (await flow.wait(run, delivered=True)).delivered
    assert len(world.left) == len(world.exchange.batches)
