# SPDX-License-Identifier: Apache-2.0
"""A confirmation of deletes has a number, and covers that many and no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.errors import NothingHeld
from agent.model.batch import ANY_NUMBER
from agent.model.job import Failed
from agent.pipeline.flow.push import PushFlow
from tests.support.push import PERSON, World, pull, until
from tests.support.worker_double import Chunk

GONE = Failed("source-unreachable", "db:5432")


async def loaded(tmp_path: Path, rows: int = 5000) -> World:
    """A world whose exchange has so many rows of the resource."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(rows),)
    await world.pulled()
    return world


def leave(world: World, *rows: int) -> None:
    """The source has so many rows now, read in so many parts."""
    world.scripts[PERSON].chunks = tuple(Chunk(n) for n in rows)


def wait_forever(world: World) -> None:
    """The wait of a repetition ends only when a person prods it."""
    forever, slept = asyncio.Event(), world.clock.sleep

    async def sleep(seconds: float) -> None:
        if 4 < seconds < 6:
            await forever.wait()
        await slept(seconds)

    world.clock.sleep = sleep  # type: ignore[method-assign]


def said(world: World) -> list[int | None]:
    """``deletes_confirmed.count`` of every manifest that arrived."""
    manifests = [k.manifest for k in world.exchange.batches.values()]
    return [m.deletes_confirmed and m.deletes_confirmed.count for m in manifests]


async def confirmed(flow: PushFlow, run: str) -> int | None:
    """How many deletes a run may bring."""
    return (await flow.look(run)).deletes_confirmed


async def test_confirmed_deletes_are_said_on_the_final_part(tmp_path: Path) -> None:
    """The swap goes through; the manifest has the number of the held run."""
    world = await loaded(tmp_path)
    leave(world, 1, 1)
    async with world.serving() as flow:
        held = await pull(flow)
        assert (held.state, held.keys_gone) == ("held", 4998)
        done = await pull(flow, confirm_deletes=True)
        assert (done.delivered, done.deletes_confirmed) == (True, 4998)
        assert flow.resource(PERSON).state == "idle"
    assert said(world)[-2:] == [None, 4998]
    assert set(said(world)[:-1]) == {None}


async def test_a_source_emptied_after_the_confirmation_is_held_again(
    tmp_path: Path,
) -> None:
    """A person agreed to 2,000; 5,000 are another question with its own number."""
    world = await loaded(tmp_path)
    leave(world, 3000)
    async with world.serving() as flow:
        assert (await pull(flow)).keys_gone == 2000
        leave(world, 0)
        again = await pull(flow, confirm_deletes=True)
        assert (again.state, again.code, again.keys_gone) == (
            "held",
            "mass-delete",
            5000,
        )
        assert world.exchange.loaded_rows[PERSON] == 5000
        assert (await pull(flow, confirm_deletes=True)).deletes_confirmed == 5000
    assert world.exchange.loaded_rows[PERSON] == 0


async def test_a_repetition_keeps_the_number_and_no_more(tmp_path: Path) -> None:
    """The source fails, is emptied, and comes back: the bound is still the old one."""
    world = await loaded(tmp_path)
    leave(world, 3000)
    async with world.serving() as flow:
        await pull(flow)
        world.scripts[PERSON].failures = [GONE]
        leave(world, 0)
        failed = await pull(flow, confirm_deletes=True)
        assert failed.successor is not None
        repeated = await flow.wait(failed.successor)
    assert (repeated.state, repeated.deletes_confirmed) == ("held", 2000)
    assert world.exchange.loaded_rows[PERSON] == 5000


async def test_a_restart_keeps_the_number(tmp_path: Path) -> None:
    """A confirmed run that was cut goes on with what was confirmed."""
    world = await loaded(tmp_path)
    leave(world, 1)
    async with world.serving() as flow:
        await pull(flow)
        world.scripts[PERSON].hold = asyncio.Event()
        run = await flow.request_pull(PERSON, confirm_deletes=True)
        await until(flow, lambda s: s.state == "running")
    world.scripts[PERSON].hold = None
    async with world.serving() as flow:
        done = await flow.wait(run, delivered=True)
    assert (done.delivered, done.deletes_confirmed) == (True, 4999)


async def test_a_waiting_repetition_can_be_confirmed(tmp_path: Path) -> None:
    """--confirm-deletes reaches the run that is already queued."""
    world = await loaded(tmp_path)
    leave(world, 1)
    wait_forever(world)
    async with world.serving() as flow:
        await pull(flow)
        world.scripts[PERSON].failures = [GONE]
        failed = await pull(flow)
        assert failed.successor is not None
        assert await confirmed(flow, failed.successor) is None
        done = await pull(flow, confirm_deletes=True)
    assert (done.run, done.delivered) == (failed.successor, True)
    assert done.deletes_confirmed == 4999


@pytest.mark.parametrize("before", ["nothing", "mended", "secrecy"])
async def test_with_nothing_held_a_confirmation_is_refused(
    tmp_path: Path, before: str
) -> None:
    """No blank cheque: not without a held run, nor once another run has replaced it."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        if before != "nothing":
            leave(world, 1)
            assert (await pull(flow)).state == "held"
            leave(world, 4999)
        if before == "secrecy":
            world.scripts[PERSON].failures = [Failed("secrecy-marker", "机密★")]
        if before != "nothing":
            await pull(flow)
        runs = len(world.scripts[PERSON].runs)
        with pytest.raises(NothingHeld, match=PERSON):
            await flow.request_pull(PERSON, confirm_deletes=True)
        assert len(world.scripts[PERSON].runs) == runs


async def rejected(flow: PushFlow, world: World) -> None:
    """The exchange counts deletes that we do not see, and signs a rejection."""
    world.exchange.refuse_seq[2] = "mass-delete"
    await flow.request_pull(PERSON)
    await until(flow, lambda s: s.stream.halted == "mass-delete")
    world.exchange.refuse_seq.clear()


async def test_after_a_signed_rejection_there_is_no_bound(tmp_path: Path) -> None:
    """Only the exchange knows its number: this one run may delete any."""
    world = await loaded(tmp_path)
    leave(world, 4999)
    async with world.serving() as flow:
        await rejected(flow, world)
        leave(world, 1)
        done = await pull(flow, confirm_deletes=True)
    assert (done.delivered, done.deletes_confirmed) == (True, ANY_NUMBER)
    assert said(world)[-1] == ANY_NUMBER


async def test_what_has_no_bound_is_not_inherited(tmp_path: Path) -> None:
    """The source fails and comes back empty: the repetition has nobody's word."""
    world = await loaded(tmp_path)
    leave(world, 4999)
    async with world.serving() as flow:
        await rejected(flow, world)
        world.scripts[PERSON].failures = [GONE]
        leave(world, 0)
        failed = await pull(flow, confirm_deletes=True)
        assert failed.deletes_confirmed == ANY_NUMBER
        assert failed.successor is not None
        repeated = await flow.wait(failed.successor)
    assert (repeated.state, repeated.deletes_confirmed) == ("held", None)
    assert world.exchange.loaded_rows[PERSON] == 5000
