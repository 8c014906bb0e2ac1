# SPDX-License-Identifier: Apache-2.0
"""A backlog whose key was revoked is sealed anew, and read no second time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import EpochOpened
from agent.crypto.jose import PrivateKey, split
from agent.errors import (
    ChainMoved,
    ExchangeRefused,
    ExchangeUnreachable,
    SpoolWriteFailed,
)
from agent.model.batch import BatchId
from agent.pipeline.flow.report import ResourceStatus
from agent.pipeline.spool import Quota
from agent.wire import catalog as wire_catalog
from tests.support.exchange_double import ExchangeDouble, Kept
from tests.support.push import (
    AUD,
    FIRM,
    KEY,
    NODE,
    PERSON,
    Resource,
    World,
    pull,
    until,
)

CUT = ExchangeUnreachable("cut")
FRESH = PrivateKey.generate("sign")


def settled(status: ResourceStatus) -> bool:
    """Everything is at the exchange, in the second epoch."""
    waiting = status.waiting.batches + status.stored.batches
    return status.state == "idle" and status.stream.epoch == 2 and not waiting


class Cutting(ExchangeDouble):
    """Takes so many batches, then the line is cut; no statement of a spent key."""

    takes = 1000
    takes_catalogs = True
    spent: frozenset[str] = frozenset()

    async def put_catalog(self, statement: str) -> None:
        if not self.takes_catalogs:
            raise CUT
        if split(statement, cap=wire_catalog.CAP).kid in self.spent:
            raise ExchangeRefused("it is over", problem="key-revoked")
        await super().put_catalog(statement)

    async def _upload(self, path: Path, size: int, batch: BatchId) -> str | None:
        if self.takes == 0:
            raise CUT
        self.takes -= 1
        return await super()._upload(path, size, batch)


async def with_backlog(folder: Path, *, stored: int = 0) -> World:
    """One pull is loaded; of another so many parts are stored, the others wait."""
    world, line = at_work(folder)
    await world.pulled()
    line.takes = stored
    await pulled_as_far(world, stored=stored)
    line.takes = 1000
    return world


def at_work(folder: Path, *resources: Resource) -> tuple[World, Cutting]:
    """Nothing was sent yet."""
    world = World(folder, resources=resources or (Resource(PERSON),))
    world.exchange = line = Cutting(AUD, NODE, KEY.public, world.clock.now)
    return world, line


async def pulled_as_far(world: World, *, stored: int = 0) -> None:
    """A pull of each stream in a life of its own: so many parts are stored."""
    async with world.serving() as flow:
        for told in world.resources:
            await flow.wait(await flow.request_pull(told.resource))
            await until(
                flow,
                lambda s: (s.waiting.batches, s.stored.batches) == (2 - stored, stored),
                told.resource,
            )


def change_key(world: World) -> None:
    """The key is revoked, and another one in use."""
    world.signer, world.exchange.sign_key = FRESH, FRESH.public
    world.spent = {KEY.public.kid}
    assert isinstance(world.exchange, Cutting)
    world.exchange.spent = frozenset(world.spent)


def sent(world: World, epoch: int) -> list[Kept]:
    """What came in an epoch."""
    found = world.exchange.batches.values()
    return [k for k in found if k.manifest.stream.epoch == epoch]


async def test_what_waits_is_sealed_anew_and_the_source_is_not_asked(
    tmp_path: Path,
) -> None:
    """The same payloads, in a new epoch of reason `rekeyed`, signed by the new key."""
    world = await with_backlog(tmp_path)
    change_key(world)
    async with world.serving() as flow:
        status = await until(flow, settled)
        assert status.stream.cause == "rekeyed"
        await pull(flow)  # the chain goes on from there
    assert len(world.scripts[PERSON].jobs) == 3
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "rekeyed"]
    kept = sent(world, 2)
    assert [k.manifest.stream.reason for k in kept] == ["rekeyed", None, None, None]
    assert [k.state for k in kept] == ["loaded"] * 4
    assert kept[0].manifest.stream.prev == sent(world, 1)[-1].digest
    identities = [(e.epoch, e.seq) for e in world.left if e.epoch == 2]
    assert identities[:2] == [(2, 1), (2, 2)]
    files = sorted(p.name for p in (tmp_path / "spool" / "out").rglob("*.fepb"))
    assert not [name for name in files if ".1.3." in name or ".1.4." in name]


async def test_a_snapshot_whose_first_part_is_stored_is_completed(
    tmp_path: Path,
) -> None:
    """The part under the old key stays; the rest follows in the new epoch."""
    world = await with_backlog(tmp_path, stored=1)
    change_key(world)
    async with world.serving() as flow:
        await until(flow, settled)
    assert len(world.scripts[PERSON].jobs) == 2
    (last,) = sent(world, 2)
    assert last.manifest.snapshot is not None
    assert (last.manifest.snapshot.part, last.state) == (2, "loaded")


async def test_a_key_that_is_retired_still_counts(tmp_path: Path) -> None:
    """A rotation alone seals nothing anew: batches are taken for 30 days."""
    world = await with_backlog(tmp_path)
    world.signer = FRESH
    async with world.serving() as flow:
        await until(flow, lambda s: s.state == "idle" and not s.waiting.batches)
    assert sent(world, 2) == []


async def test_without_room_for_a_copy_the_source_is_read_again(
    tmp_path: Path,
) -> None:
    """The epoch is begun all the same, for the same reason."""
    world = await with_backlog(tmp_path)
    change_key(world)
    world.quota = Quota(1, 0)
    async with world.serving() as flow:
        await until(flow, settled)
    assert len(world.scripts[PERSON].jobs) == 3
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "rekeyed"]


async def test_a_catalog_that_was_never_sent_is_signed_anew(tmp_path: Path) -> None:
    """The first batches of all wait, and the exchange never saw their catalog."""
    world, line = at_work(tmp_path)
    line.takes_catalogs = False
    async with world.serving() as flow:
        await flow.wait(await flow.request_pull(PERSON))
    line.takes_catalogs = True
    change_key(world)
    async with world.serving() as flow:
        await until(flow, settled)
    (catalog,) = world.exchange.catalogs
    assert {k.manifest.catalog.digest for k in sent(world, 2)} == {catalog}
    assert len(world.scripts[PERSON].jobs) == 1


class Stumbling:
    """A part of which one method fails once."""

    def __init__(self, inner: Any, method: str, error: BaseException) -> None:
        self._inner, self._method, self._errors = inner, method, [error]

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self._errors:
            return self._fail
        return getattr(self._inner, name)

    def _fail(self, *_: object, **__: object) -> None:
        raise self._errors.pop()


async def test_ended_before_the_change_nothing_has_changed(tmp_path: Path) -> None:
    """The new files are orphans; the next try seals anew, and all arrives once."""
    world = await with_backlog(tmp_path)
    change_key(world)
    stumbles: list[Stumbling] = []

    def wrap(name: str, part: Any) -> Any:
        if name == "spool" and not stumbles:
            stumbles.append(Stumbling(part, "publish", ChainMoved("ended here")))
            return stumbles[0]
        return part

    world.wrap = wrap
    async with world.serving() as flow:
        await until(flow, settled)
    assert [k.state for k in sent(world, 2)] == ["loaded"] * 2
    assert len(world.scripts[PERSON].jobs) == 2


async def test_ended_after_the_change_the_old_files_are_orphans(
    tmp_path: Path,
) -> None:
    """The next life sends what was sealed anew, and cleans up."""
    world = await with_backlog(tmp_path)
    change_key(world)

    def wrap(name: str, part: Any) -> Any:
        ended = ChainMoved("ended here")
        return Stumbling(part, "remove", ended) if name == "spool" else part

    world.wrap = wrap
    world.exchange.fail("upload", *[CUT] * 1000)
    async with world.serving() as flow:
        await until(flow, lambda s: s.stream.epoch == 2)
    world.exchange.mend("upload")
    world.wrap = lambda _name, part: part
    async with world.serving() as flow:
        await until(flow, settled)
    assert len(sent(world, 2)) == 2
    assert len(list((tmp_path / "spool" / "out").rglob("*.fepb"))) == 4


class Meeting:
    """A spool of which the first two publish at the same time."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._first = inner, threading.Semaphore(2)
        self._both = threading.Barrier(2, timeout=60)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def publish(self, *told: Any, **named: Any) -> None:
        if self._first.acquire(blocking=False):
            self._both.wait()
        self._inner.publish(*told, **named)


async def test_two_streams_are_sealed_anew_at_the_same_time(tmp_path: Path) -> None:
    """Each writes files of its own."""
    both = (Resource(PERSON), Resource(FIRM))
    world, line = at_work(tmp_path, *both)
    for told in both:
        await world.pulled(told.resource)
    line.takes = 0
    await pulled_as_far(world)
    line.takes = 1000
    change_key(world)
    world.wrap = lambda name, part: Meeting(part) if name == "spool" else part
    async with world.serving() as flow:
        for told in both:
            await until(flow, lambda s: settled(s) or world.task.done(), told.resource)
            assert not world.task.done()
    assert [k.state for k in sent(world, 2)] == ["loaded"] * 4
    assert {len(world.scripts[told.resource].jobs) for told in both} == {2}


async def test_a_damaged_file_of_a_spent_key_is_read_again(tmp_path: Path) -> None:
    """The epoch is another one; what was sealed anew before it leaves nothing."""
    world = await with_backlog(tmp_path)
    change_key(world)
    out = tmp_path / "spool" / "out"
    (damaged,) = out.rglob("*.1.4.fepb")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    spools: list[Any] = []

    def wrap(name: str, part: Any) -> Any:
        spools.extend([part] if name == "spool" else [])
        return part

    world.wrap = wrap
    async with world.serving() as flow:
        status = await until(flow, settled)
        assert status.stream.cause == "spool-lost"
    assert len(world.scripts[PERSON].jobs) == 3
    assert [k.state for k in sent(world, 2)] == ["loaded"] * 2
    assert spools[-1].used == sum(p.stat().st_size for p in out.rglob("*.fepb"))


async def test_a_full_disk_is_no_damaged_file(tmp_path: Path) -> None:
    """The daemon ends; what waits is as it was, and the next life goes on."""
    world = await with_backlog(tmp_path)
    change_key(world)

    class Full:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def tmp(self, *_: object) -> Path:
            return Path("/dev/full")

    world.wrap = lambda name, part: Full(part) if name == "spool" else part
    async with world.serving():
        with pytest.raises(SpoolWriteFailed):
            await asyncio.wait_for(world.task, 60)
    world.wrap = lambda _name, part: part
    async with world.serving() as flow:
        status = await until(flow, settled)
        assert status.stream.cause == "rekeyed"
    assert len(world.scripts[PERSON].jobs) == 2


@pytest.mark.parametrize("stumbles", [0, 1])
async def test_a_lost_catalog_of_a_spent_key_is_signed_anew(
    tmp_path: Path, stumbles: int
) -> None:
    """The exchange lost it: batches name the new one, even if that takes two tries."""
    world, line = at_work(tmp_path)
    await world.pulled()
    change_key(world)
    line.takes = 0
    await pulled_as_far(world)
    line.takes = 1000
    line.catalogs.clear()
    errors = [ChainMoved("ended here")] * stumbles

    def wrap(name: str, part: Any) -> Any:
        if name == "spool" and errors:
            return Stumbling(part, "publish", errors.pop())
        return part

    world.wrap = wrap
    async with world.serving() as flow:
        status = await until(flow, settled)
        assert status.stream.cause == "rekeyed"
    (catalog,) = line.catalogs
    assert {k.manifest.catalog.digest for k in sent(world, 2)} == {catalog}
    assert len(world.scripts[PERSON].jobs) == 2


async def test_an_old_catalog_of_a_spent_key_is_not_sent_again(
    tmp_path: Path,
) -> None:
    """What waits names a newer one: it alone is put, and nothing is sealed anew."""
    world, line = at_work(tmp_path)
    await world.pulled()
    change_key(world)
    world.resources = (Resource(PERSON, version=2),)
    line.takes = 0
    await pulled_as_far(world)
    line.takes = 1000
    line.catalogs.clear()
    async with world.serving() as flow:
        await until(flow, lambda s: s.state == "idle" and not s.waiting.batches)
    (catalog,) = line.catalogs
    newest = list(line.batches.values())[-2:]
    assert {k.manifest.catalog.digest for k in newest} == {catalog}
    assert [e.reason for e in world.told(EpochOpened)] == ["first"]


@pytest.mark.parametrize("hold_at", [1, 2])
async def test_a_run_that_reads_meanwhile_goes_on_in_the_new_epoch(
    tmp_path: Path, hold_at: int
) -> None:
    """It is cut, so that it moves no chain, and names the new statement then."""
    world, line = at_work(tmp_path)
    await world.pulled()
    change_key(world)
    line.takes = 0
    await pulled_as_far(world)
    script = world.scripts[PERSON]
    script.hold, script.hold_at = asyncio.Event(), hold_at
    async with world.serving() as flow:
        run = await flow.request_pull(PERSON)
        await until(
            flow,
            lambda s: s.progress is not None and s.waiting.batches == hold_at + 1,
        )
        line.catalogs.clear()
        line.takes = 1000
        await until(flow, lambda s: s.stream.epoch == 2 and not s.waiting.batches)
        script.hold.set()
        await flow.wait(run, delivered=True)
        await until(flow, settled)
    (catalog,) = line.catalogs
    manifests = [k.manifest for k in sent(world, 2)]
    assert {m.catalog.digest for m in manifests} == {catalog}
    first, last = (m.snapshot for m in manifests[2:])
    assert first is not None
    assert last is not None
    assert (first.part, last.part, last.id) == (1, 2, first.id)
    assert (first.id == run) == (hold_at > 1)  # without a part it begins anew
    assert len(script.jobs) == 4
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "rekeyed"]


async def test_a_statement_that_nobody_takes_is_tried_with_growing_pauses(
    tmp_path: Path,
) -> None:
    """Even one of the key in use may be refused, after each word that it is unknown."""
    world, line = at_work(tmp_path)
    await world.pulled()
    change_key(world)
    line.takes = 0
    await pulled_as_far(world)
    line.spent |= {FRESH.public.kid}
    line.takes = 1000
    line.catalogs.clear()
    world.clock.slept.clear()
    async with world.serving() as flow:
        await until(flow, lambda s: world.clock.slept.count(600) > 3)
        assert flow.resource(PERSON).trouble is not None
    pauses = [s for s in world.clock.slept if s in {5, 10, 20, 40, 80, 160, 320}]
    assert pauses[-6:] == [10, 20, 40, 80, 160, 320]
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "rekeyed"]
