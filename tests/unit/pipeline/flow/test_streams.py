# SPDX-License-Identifier: Apache-2.0
"""Old copies and second machines: what is found, and what follows from it."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path

from agent.audit.events import EpochOpened, SpoolIncomplete, StreamMoved
from agent.errors import AuditWriteFailed, ExchangeUnreachable, NodeCloned
from tests.support.push import FIRM, PERSON, Resource, World, pull, until

CUT = ExchangeUnreachable("cut")
TWO = (Resource(PERSON), Resource(FIRM))


def moved(world: World) -> list[tuple[str, str, str]]:
    """Cause, ours and theirs of what was recorded."""
    return [(e.cause, e.ours, e.theirs) for e in world.told(StreamMoved)]


def back_to(world: World, backup: bytes) -> None:
    """Put an old copy of the state in place."""
    (world.folder / "state.db").write_bytes(backup)


async def test_a_state_that_was_put_back_is_found_at_the_start(tmp_path: Path) -> None:
    """Before anything waits: a new life begins, and the source is read again."""
    world = World(tmp_path)
    await world.pulled()
    backup = (tmp_path / "state.db").read_bytes()
    await world.pulled()
    back_to(world, backup)
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    assert moved(world) == [("restored", "1/2", "1/4")]
    assert status.stream.cause == "restored"
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


async def test_all_streams_of_an_old_copy_share_the_new_life(tmp_path: Path) -> None:
    """Each finds it for itself; the first one names it."""
    world = World(tmp_path, resources=TWO)
    async with world.serving() as flow:
        await pull(flow, PERSON)
        await pull(flow, FIRM)
    backup = (tmp_path / "state.db").read_bytes()
    async with world.serving() as flow:
        await pull(flow, PERSON)
        await pull(flow, FIRM)
    back_to(world, backup)
    async with world.serving() as flow:
        for resource in (PERSON, FIRM):
            await until(
                flow, lambda s: s.state == "idle" and s.stream.epoch == 2, resource
            )
    lives = {
        k.manifest.stream.incarnation
        for k in world.exchange.batches.values()
        if k.manifest.stream.epoch == 2
    }
    assert len(lives) == 1
    assert [cause for cause, _, _ in moved(world)] == ["restored"] * 2


async def test_what_left_in_a_life_that_was_forgotten_is_not_numbered_anew(
    tmp_path: Path,
) -> None:
    """The exchange never stored it, so the position fits; the audit log knows."""
    world = World(tmp_path)
    await world.pulled()
    backup = (tmp_path / "state.db").read_bytes()
    world.exchange.fail("upload", *[CUT] * 1000)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda _: len(world.left) == 3)
    back_to(world, backup)
    world.exchange._before.clear()
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    identities = [(e.epoch, e.seq) for e in world.left]
    assert identities == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "restored"]


async def test_an_exchange_that_was_put_back_is_told_loudly(tmp_path: Path) -> None:
    """What it signed as loaded is read again; our own life goes on."""
    world = World(tmp_path)
    await world.pulled()
    places, batches = copy.deepcopy((world.exchange.places, world.exchange.batches))
    await world.pulled()
    world.exchange.places, world.exchange.batches = places, batches
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    assert moved(world) == [("exchange-restored", "1/4", "1/2")]
    assert status.stream.cause == "exchange-restored"
    lives = {k.manifest.stream.incarnation for k in world.exchange.batches.values()}
    assert len(lives) == 1


async def test_an_exchange_that_goes_back_while_we_rest_is_found(
    tmp_path: Path,
) -> None:
    """The position is asked now and then, though nothing waits."""
    world = World(tmp_path)
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.forget(PERSON)
        world.clock.move(3601)
        await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    assert moved(world) == [("exchange-restored", "1/2", "0/0")]


async def test_a_second_machine_holds_everything_of_this_one(tmp_path: Path) -> None:
    """The chain was ours in this life, and now has a batch that we did not make."""
    world = World(tmp_path, resources=TWO)
    async with world.serving() as flow:
        await pull(flow, PERSON)
        await pull(flow, FIRM)
        offered = len(world.exchange.offered)
        _somebody_else_sends(world)
        world.clock.move(world.limits.fresh_s)
        await flow.request_pull(PERSON)
        status = await until(flow, lambda s: s.state == "held")
        other = await until(flow, lambda s: s.state == "held", FIRM)
        assert flow.status().healthy is False
    for found in (status, other):
        assert found.stream.halted == NodeCloned.code
        assert found.trouble is not None
        assert found.trouble.code == NodeCloned.code
    assert moved(world) == [("cloned", "1/2", "1/3")]
    assert len(world.exchange.offered) == offered

    async with world.serving() as flow:
        await asyncio.sleep(0.02)
        assert flow.resource(PERSON).state == "held"
        assert (await pull(flow)).delivered
        status = flow.resource(PERSON)
        assert flow.resource(FIRM).state == "held"
    assert (status.stream.epoch, status.stream.cause) == (2, "cloned")
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


def _somebody_else_sends(world: World) -> None:
    place = world.exchange.places[PERSON]
    place.seq, place.digest = place.seq + 1, "sha256:" + "f" * 64


async def test_nothing_moves_that_the_audit_log_does_not_know(tmp_path: Path) -> None:
    """A log that cannot be written: no epoch; it follows once it can."""
    world = World(tmp_path)
    await world.pulled()
    world.exchange.forget(PERSON)
    world.log_fails = AuditWriteFailed("disk full")
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.trouble is not None)
        assert status.stream.epoch == 1
        world.log_fails = None
        flow.resume(PERSON)
        await until(flow, lambda s: s.stream.epoch == 2)


async def test_a_spool_that_was_emptied_is_told_at_the_start(tmp_path: Path) -> None:
    """What waited is read again in a new epoch, and nothing of the old one leaves."""
    world = World(tmp_path)
    world.exchange.down = CUT
    world.exchange.fail("upload", *[CUT] * 3)
    world.exchange.down = None
    async with world.serving() as flow:
        await flow.wait(await flow.request_pull(PERSON))
    _empty(tmp_path / "spool" / "out")
    world.exchange._before.clear()
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.state == "idle" and s.stream.epoch == 2)
    assert status.stream.cause == "spool-lost"
    assert {b.epoch for b in world.exchange.batches} == {2}
    assert [e.files for e in world.told(SpoolIncomplete)] == [2]


def _empty(folder: Path) -> None:
    for file in folder.rglob("*.fepb"):
        file.unlink()
