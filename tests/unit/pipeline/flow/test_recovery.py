# SPDX-License-Identifier: Apache-2.0
"""Rare ways: what a restart finds, what a worker may say, a very small spool."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit.events import (
    BatchPurged,
    EpochOpened,
    ExchangeTrouble,
    RowsQuarantined,
    RunEnded,
)
from agent.errors import ExchangeRefused, ExchangeUnreachable, RunUnknown
from agent.model.item import Item, ItemType
from agent.model.job import Failed, Line, Message, Progress, Written
from agent.pipeline.spool import Quota
from agent.state import State
from tests.support.exchange_double import ExchangeDouble
from tests.support.push import (
    AUD,
    FIRM,
    ITEMS,
    KEY,
    NODE,
    PERSON,
    Resource,
    World,
    until,
)
from tests.support.worker_double import Chunk

CUT = ExchangeUnreachable("cut")


def tamper(world: World, sql: str) -> None:
    """Change the state between two lives, as a crash at that moment would leave it."""
    state = world.open_state()
    with state._connection.transaction() as db:
        db.execute(sql)
    state.close()


async def test_a_run_whose_last_word_was_lost_is_complete(tmp_path: Path) -> None:
    """Its final batch is registered: the counts come from the batches, told anew."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(3, quarantined=1), Chunk(2))
    await world.pulled()
    (withheld,) = world.told(RowsQuarantined)
    (told,) = world.told(RunEnded)
    world.events.clear()
    tamper(world, "UPDATE runs SET state = 'reading', totals = NULL, ended_at = NULL")
    async with world.serving() as flow:
        status = flow.resource(PERSON)
    assert status.run is not None
    assert (status.run.state, status.run.read, status.balanced) == ("read", 6, True)
    assert len(world.scripts[PERSON].runs) == 1
    assert world.told(RowsQuarantined) == [withheld]
    (again,) = world.told(RunEnded)
    assert replace(again, seconds=told.seconds) == told


async def test_a_run_of_a_resource_that_is_gone_is_given_up(tmp_path: Path) -> None:
    """Its document was taken away while the daemon was down."""
    world = World(tmp_path, resources=(Resource(PERSON), Resource(FIRM)))
    script = world.scripts[FIRM]
    script.hold = asyncio.Event()
    async with world.serving() as flow:
        run = await flow.request_pull(FIRM)
        await until(flow, lambda s: s.state == "running", FIRM)
    world.resources = (Resource(PERSON),)
    async with world.serving() as flow:
        with pytest.raises(RunUnknown):
            await flow.wait(run)
    assert _run(world.open_state(), run) == ("failed", "gone")


def _run(state: State, run: str) -> tuple[str, str | None]:
    found = state.run(run)
    state.close()
    assert found is not None
    return found.state, found.code


NAME = Item("name", ItemType.C, 20, None, False, "1")
LOOSE = Resource(PERSON, 1, (*ITEMS, NAME))


@pytest.mark.parametrize(
    "now",
    [ITEMS, (*ITEMS, replace(NAME, share="2")), (*ITEMS, replace(NAME, name="alias"))],
)
async def test_what_waits_does_not_leave_once_the_gate_has_narrowed(
    tmp_path: Path, now: tuple[Item, ...]
) -> None:
    """An item is withheld, or shared under conditions, while its batches wait."""
    world = World(tmp_path, resources=(LOOSE,))
    world.exchange.fail("upload", *[CUT] * 1000)
    async with world.serving() as flow:
        await flow.wait(await flow.request_pull(PERSON))
    waiting = _spooled(tmp_path)
    world.exchange = ExchangeDouble(AUD, NODE, KEY.public, world.clock.now)
    world.resources = (Resource(PERSON, 2, now),)
    async with world.serving() as flow:
        status = await until(
            flow,
            lambda s: s.state == "idle" and not any(p.exists() for p in waiting),
        )
    kept = world.exchange.batches.values()
    assert waiting
    assert {k.manifest.catalog.version for k in kept} == {2}
    assert len(world.exchange.catalogs) == 1
    assert (status.balanced, len(world.scripts[PERSON].runs)) == (True, 2)


def _spooled(folder: Path) -> set[Path]:
    return set(folder.rglob("*.fepb"))


async def test_what_waits_leaves_when_the_gate_has_only_widened(
    tmp_path: Path,
) -> None:
    """An item more is no reason to read again."""
    world = World(tmp_path)
    world.exchange.fail("upload", *[CUT] * 3)
    async with world.serving() as flow:
        await flow.wait(await flow.request_pull(PERSON))
    world.resources = (Resource(PERSON, 2, LOOSE.items),)
    async with world.serving() as flow:
        await until(flow, lambda s: s.state == "idle")
    kept = world.exchange.batches.values()
    assert {k.manifest.catalog.version for k in kept} == {1}
    assert len(world.scripts[PERSON].runs) == 1


async def test_a_run_nobody_asked_for_is_unknown(tmp_path: Path) -> None:
    """Waiting for it would never end."""
    world = World(tmp_path)
    async with world.serving() as flow:
        with pytest.raises(RunUnknown):
            await flow.wait("018bcfe5-6802-7000-8000-000000000000")


async def test_a_rejection_just_before_a_crash_still_ends_the_run(
    tmp_path: Path,
) -> None:
    """The run that read then is not taken for a person's pull."""
    world = World(tmp_path)
    world.exchange.refuse_seq[2] = "bad-payload"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "held")
    tamper(world, "UPDATE batches SET final = 0")
    tamper(world, "UPDATE runs SET state = 'reading'")
    async with world.serving() as flow:
        await asyncio.sleep(0.02)
        status = flow.resource(PERSON)
    assert status.state == "held"
    assert status.run is not None
    assert (status.run.state, status.run.code) == ("failed", "batch-rejected")


async def test_what_an_epoch_dropped_is_read_again_after_a_crash(
    tmp_path: Path,
) -> None:
    """The epoch was opened, nobody had yet asked for the run."""
    world = World(tmp_path)
    await world.pulled()
    tamper(world, "UPDATE batches SET state = 'dropped'")
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle" and s.stream.seq == 4)
    assert (len(world.scripts[PERSON].runs), status.balanced) == (2, True)


async def test_a_rejection_takes_a_waiting_repetition_away(tmp_path: Path) -> None:
    """Only a person goes on after a rejection."""
    world = World(tmp_path)
    await world.pulled()
    world.scripts[PERSON].die_at = 2
    world.exchange.down, slept = CUT, world.clock.sleep
    world.exchange.refuse_seq[3] = "bad-payload"
    reading = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if 4 < seconds < 5:  # reading's wait; a microsecond of its 5 s is over
            await reading.wait()
        await slept(seconds)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(flow, lambda s: s.run is not None and s.run.code == "worker-died")
        world.exchange.down = None
        status = await until(flow, lambda s: s.state == "held")
        reading.set()
        taken = await flow.wait(run)
    assert status.stream.halted == "bad-payload"
    assert (taken.state, taken.code) == ("failed", "batch-rejected")


async def test_a_spool_smaller_than_a_run_still_ends_it(tmp_path: Path) -> None:
    """What the exchange signed as stored makes room for the parts behind it."""
    world = World(tmp_path, quota=Quota(200_000, 0))
    world.scripts[PERSON].chunks = [Chunk(1, size=60_000)] * 8
    report = await world.pulled()
    assert (report.delivered, report.balanced, report.read) == (True, True, 8)
    assert len(world.told(BatchPurged)) >= 5


async def test_a_stored_batch_that_the_exchange_forgot_is_read_again(
    tmp_path: Path,
) -> None:
    """No receipt of it any more: the position decides."""
    world = World(tmp_path)
    world.exchange.loading = False
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 2)
        world.exchange.forget(PERSON)
        world.exchange.loading = True
        status = await until(flow, lambda s: s.state == "idle")
    assert (status.stream.epoch, status.balanced) == (2, True)
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "first"]


async def test_a_directory_that_cannot_be_had_does_not_hide_the_trouble(
    tmp_path: Path,
) -> None:
    """The refusal stays what status shows; the refresh's fault is told beside it."""
    world = World(tmp_path)
    world.refresh_fails = CUT
    world.exchange.fail("upload", ExchangeRefused("", problem="key-revoked"))
    assert (await world.pulled()).delivered
    codes = [e.code for e in world.told(ExchangeTrouble)]
    assert codes == ["exchange-refused", "exchange-unreachable"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("worker-died", "worker-died"),
        ("exchange-refused", "internal"),
        ("nobody-knows", "internal"),
    ],
)
async def test_whatever_a_worker_fails_with_has_a_code(
    tmp_path: Path, code: str, shown: str
) -> None:
    """A code that makes no sense from a worker is a defect."""
    world = World(tmp_path)
    world.scripts[PERSON].failures = [Failed(code, "detail")]
    async with world.serving() as flow:
        report = await flow.wait(await flow.request_pull(PERSON))
        await until(flow, lambda s: s.state == "idle")
    assert (report.state, report.code) == ("failed", shown)


@pytest.mark.parametrize("odd", [Written(1), Line(1, "", ""), Progress(1, None)])
async def test_a_worker_that_breaks_the_protocol_is_a_dead_worker(
    tmp_path: Path, odd: Message
) -> None:
    """Out of turn, or gone without a last word: the run is repeated."""
    world = World(tmp_path)
    world.scripts[PERSON].odd = [odd]
    async with world.serving() as flow:
        report = await flow.wait(await flow.request_pull(PERSON))
        await until(flow, lambda s: s.state == "idle")
    assert (report.state, report.code) == ("failed", "worker-died")
