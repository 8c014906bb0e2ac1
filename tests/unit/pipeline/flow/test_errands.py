# SPDX-License-Identifier: Apache-2.0
"""Looking at what is kept, mending it, sending again what the exchange lost."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import EpochOpened, ExchangeTrouble, StreamMoved
from agent.errors import Busy, ExchangeUnreachable, ResourceUnknown, UnderWay
from agent.model.item import Item, ItemType
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.tools import SpoolTools
from tests.support.push import PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk, Script

LONG_AGO = "2026-01-01T00:00:00Z"
CUT = ExchangeUnreachable("cut")
NAME = Item("name", ItemType.C, 20, None, False, "1")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A flow whose snapshots have three parts."""
    world = World(tmp_path)
    world.scripts[PERSON] = Script(chunks=(Chunk(3), Chunk(2), Chunk(1)))
    return world


def file_of(flow: PushFlow, seq: int, epoch: int = 1) -> Path:
    """A batch's file."""
    view = flow.batch(PERSON, epoch=epoch, seq=seq)
    assert view is not None
    return Path(view.path)


def damage(path: Path, at: int = -1) -> None:
    """Flip a bit of a byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def signature_of(path: Path) -> int:
    """Where the signature of line 1 is."""
    return path.read_bytes().partition(b"\n")[0].rindex(b".") + 20


async def test_what_is_whole_is_compared_and_found_whole(world: World) -> None:
    """All files, nothing wrong, nothing left to look at."""
    async with world.serving() as flow:
        await pull(flow)
        found = await flow.tools.look(PERSON, after=(0, 0))
        assert (found.files, found.damages, found.next) == (3, (), None)
        assert (await flow.tools.look(PERSON, after=(1, 2))).files == 1


async def test_a_flipped_bit_is_named_wherever_it_is(world: World) -> None:
    """In the payload, in the signature, which no digest covers, and a lost file."""
    async with world.serving() as flow:
        await pull(flow)
        damage(file_of(flow, 1))
        damage(file_of(flow, 2), signature_of(file_of(flow, 2)))
        file_of(flow, 3).unlink()
        found = await flow.tools.look(PERSON, after=(0, 0))
        assert [(d.seq, d.code, d.cure) for d in found.damages] == [
            (1, "spool-damaged", "remove"),
            (2, "spool-damaged", "remove"),
            (3, "spool-damaged", "remove"),
        ]
        assert "signature" in found.damages[1].detail


async def test_a_signature_that_flipped_while_it_waited_never_leaves(
    world: World,
) -> None:
    """The exchange would refuse it for ever; a new epoch reads the rows again."""
    world.exchange.fail("upload", *[CUT] * 999)
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 3 and s.trouble is not None)
        damage(file_of(flow, 1), signature_of(file_of(flow, 1)))
        world.exchange.mend("upload")
        flow.resume(PERSON)
        status = await until(flow, lambda s: s.stream.loaded_epoch == 2)
        assert status.healthy
    assert [e.epoch for e in world.told(EpochOpened)] == [1, 2]


async def test_a_damaged_copy_of_what_is_loaded_only_goes(world: World) -> None:
    """The exchange has it: no new epoch, nothing is read again."""
    async with world.serving() as flow:
        await pull(flow)
        damage(file_of(flow, 2))
        done = await flow.tools.mend(PERSON, [(1, 1), (1, 2), (9, 9)])
        assert (done.removed, done.epoch) == (1, None)
        assert not file_of(flow, 2).exists()
        assert (await flow.tools.look(PERSON, after=(0, 0))).damages == ()
        assert flow.resource(PERSON).stream.epoch == 1


async def test_damage_to_what_waits_begins_an_epoch(world: World) -> None:
    """At once, not when its turn comes; the rows are there in the end."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 999)
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 3 and s.trouble is not None)
        damage(file_of(flow, 3))
        found = await flow.tools.look(PERSON, after=(0, 0))
        assert [(d.seq, d.cure) for d in found.damages] == [(3, "reread")]
        done = await flow.tools.mend(PERSON, [(1, 3)])
        assert (done.removed, done.epoch) == (0, 2)
        world.exchange.mend("upload")
        await until(flow, lambda s: s.stream.loaded_epoch == 2)
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())
    (lost,) = world.recorded
    assert isinstance(lost, StreamMoved)
    assert (lost.cause, lost.ours, lost.theirs) == ("spool-lost", "0/0", "0/0")


async def test_a_damaged_file_is_shown_as_long_as_the_line_is_down(
    world: World,
) -> None:
    """One trouble since its beginning, with what keeps it from being mended."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 999)
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 3 and s.trouble is not None)
        damage(file_of(flow, 1))
        world.exchange.down = CUT
        flow.resume(PERSON)
        first = await until(flow, lambda s: "spool" in str(s.trouble))
        seen = set()
        for _ in range(3):
            tries = len(world.clock.slept)
            flow.resume(PERSON)
            await until(flow, lambda _, n=tries: len(world.clock.slept) > n)
            trouble = flow.resource(PERSON).trouble
            assert trouble is not None
            seen.add((trouble.code, trouble.since))
            assert "exchange-unreachable: cut" in trouble.detail
        assert first.trouble is not None
        assert seen == {("spool-damaged", first.trouble.since)}
        world.exchange.down = None
        world.exchange.mend("upload")
        flow.resume(PERSON)
        await until(flow, lambda s: s.stream.loaded_epoch == 2 and s.trouble is None)


async def test_mending_says_that_the_exchange_does_not_answer(world: World) -> None:
    """Only a signed position begins an epoch; nothing is changed before."""
    async with world.serving() as flow:
        world.exchange.fail("upload", *[CUT] * 999)
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 3 and s.trouble is not None)
        damage(file_of(flow, 3))
        world.exchange.down = CUT
        with pytest.raises(ExchangeUnreachable):
            await flow.tools.mend(PERSON, [(1, 3)])
        assert flow.resource(PERSON).stream.epoch == 1


async def test_what_the_exchange_has_is_not_sent_again(world: World) -> None:
    """It is asked, and nothing changes: not a byte leaves."""
    async with world.serving() as flow:
        await pull(flow)
        uploads = world.exchange.calls.count("upload")
        found = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert (found.action, found.lost, found.position) == ("none", 0, (1, 3))
        assert [(b.seq, b.state, b.lost) for b in found.batches] == [
            (1, "loaded", False),
            (2, "loaded", False),
            (3, "loaded", False),
        ]
        assert world.exchange.calls.count("upload") == uploads


async def test_what_the_exchange_lost_is_sent_again_as_it_was_sealed(
    world: World,
) -> None:
    """The very manifests, no source read, each new receipt kept beside the old one."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 1)
        looked = await flow.tools.replay(PERSON, LONG_AGO, do=False)
        assert (looked.action, looked.lost, looked.done) == ("send", 2, False)
        assert flow.resource(PERSON).waiting.batches == 0
        done = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert done.done
        await until(flow, lambda s: s.stored.batches + s.waiting.batches == 0)
        status = await until(flow, lambda s: s.stream.loaded_seq == 3)
        assert (status.stream.epoch, status.balanced) == (1, True)
        view = flow.batch(PERSON, epoch=1, seq=3)
        assert view is not None
        assert len(view.receipts) == 2
    assert len(world.scripts[PERSON].jobs) == 1
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


async def test_what_the_exchange_lost_is_sent_again_over_the_border_of_an_epoch(
    world: World,
) -> None:
    """The position is asked in between, and by the next life: it fits all the time."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.fail("upload", *[CUT] * 999)
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 3 and s.trouble is not None)
        damage(file_of(flow, 4))
        world.exchange.mend("upload")
        flow.resume(PERSON)
        await until(flow, lambda s: s.stream.loaded_epoch == 2 and s.state == "idle")
        world.exchange.rewind(PERSON, 1, 2)
        world.exchange.fail("upload", *[CUT] * 999)
        found = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert (found.action, found.lost) == ("send", 4)
        await until(flow, lambda s: s.waiting.batches == 4 and s.trouble is not None)
        world.clock.move(world.limits.fresh_s)
        asked = world.exchange.calls.count("position")
        flow.resume(PERSON)
        await until(flow, lambda _: world.exchange.calls.count("position") > asked)
    world.exchange.mend("upload")
    async with world.serving() as flow:
        status = await until(flow, lambda s: s.stored.batches + s.waiting.batches == 0)
    assert (status.stream.epoch, status.stream.loaded_epoch) == (2, 2)
    assert (world.exchange.places[PERSON].epoch, status.healthy) == (2, True)
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "spool_lost"]
    assert len(world.scripts[PERSON].jobs) == 3
    assert all(len(digests) == 1 for digests in world.exchange.offered.values())


async def test_what_cannot_be_sent_again_is_read_again(world: World) -> None:
    """Its file is gone: a new epoch, and the centre has everything in the end."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 1)
        file_of(flow, 2).unlink()
        found = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert found.action == "read"
        assert found.why is not None
        assert "1/2" in found.why
        await until(flow, lambda s: s.stream.loaded_epoch == 2)
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "restored"]
    assert world.told(StreamMoved) == [
        StreamMoved(PERSON, "exchange-restored", "1/3", "1/1")
    ]


async def test_what_may_not_leave_any_more_is_not_sent_again(world: World) -> None:
    """An item was withheld since: what holds it stays, its range is read again."""
    world.resources = (Resource(PERSON, items=(*Resource(PERSON).items, NAME)),)
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 1)
    world.resources = (Resource(PERSON, version=2),)
    async with world.serving() as flow:
        await until(flow, lambda s: s.stream.epoch >= 1)
        found = await flow.tools.replay(PERSON, LONG_AGO, do=False)
        assert found.action == "read"
        assert "gate-closed" in str(found.why)


async def test_a_later_since_than_the_loss_reads_again(world: World) -> None:
    """A gap would be left otherwise; the dry run says from when on it is lost."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 1)
        found = await flow.tools.replay(PERSON, "2030-01-01T00:00:00Z", do=False)
        assert (found.action, found.batches) == ("read", ())
        assert "is lost too" in str(found.why)


async def test_what_stood_on_a_rejected_batch_is_read_again(world: World) -> None:
    """Its chain leads over a batch that was given up and must not leave again."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.loading = False
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 3)
        world.exchange.reject(PERSON, "bad-payload")
        await until(flow, lambda s: s.stream.halted is not None)
        world.exchange.loading = True
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 3)
        found = await flow.tools.replay(PERSON, LONG_AGO, do=False)
        assert (found.action, found.position) == ("read", (1, 3))
        assert "given up" in str(found.why)


async def test_an_exchange_on_another_chain_reads_again(world: World) -> None:
    """It has a batch of ours that we never sealed: nothing of ours chains to it."""
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.places[PERSON].digest = "sha256:" + "0" * 64
        found = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert found.action == "read"
        await until(flow, lambda s: s.stream.loaded_epoch == 2)
    assert [e.reason for e in world.told(EpochOpened)] == ["first", "restored"]


async def test_who_asks_at_a_bad_moment_is_told_why(world: World) -> None:
    """Paused, rejected, unknown: a sentence, and nothing is queued."""
    async with world.serving() as flow:
        flow.pause(PERSON)
        with pytest.raises(Busy, match="paused"):
            await flow.tools.mend(PERSON, [])
        flow.resume(PERSON)
        with pytest.raises(ResourceUnknown):
            await flow.tools.replay("9/9", LONG_AGO, do=False)
        world.exchange.refuse_seq[1] = "bad-payload"
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stream.halted is not None)
        with pytest.raises(Busy, match="rejected"):
            await flow.tools.replay(PERSON, LONG_AGO, do=False)


class Held:
    """An exchange whose position, or uploads, wait until somebody lets them go."""

    def __init__(self, inner: Any, method: str) -> None:
        self._inner = inner
        self._method = method
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.armed = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return partial(self._hold, found) if name == self._method else found

    async def _hold(self, call: Any, *args: Any, **named: Any) -> Any:
        if self.armed:
            self.entered.set()
            await self.leave.wait()
        return await call(*args, **named)


async def test_who_waits_too_long_for_what_has_begun_is_told_that_it_goes_on(
    world: World,
) -> None:
    """It is done all the same: nobody may be told that it was not."""
    held = Held(world.exchange, "position")
    world.wrap = lambda name, part: held if name == "exchange" else part
    async with world.serving() as flow:
        await pull(flow)
        world.exchange.rewind(PERSON, 1, 1)
        file_of(flow, 2).unlink()
        held.armed = True
        tools = SpoolTools(flow._lane, lambda: flow._parts, patience=held.entered.wait)
        with pytest.raises(UnderWay, match=PERSON):
            await tools.replay(PERSON, LONG_AGO, do=True)
        held.leave.set()
        await until(flow, lambda s: s.stream.loaded_epoch == 2)


async def test_what_fails_when_nobody_waits_any_more_is_in_the_journal(
    world: World,
) -> None:
    """With its code; the next one who asks is answered."""
    held = Held(world.exchange, "position")
    world.wrap = lambda name, part: held if name == "exchange" else part
    async with world.serving() as flow:
        await pull(flow)
        held.armed = True
        tools = SpoolTools(flow._lane, lambda: flow._parts, patience=held.entered.wait)
        with pytest.raises(UnderWay):
            await tools.replay(PERSON, LONG_AGO, do=True)
        world.exchange.fail("position", CUT)
        held.leave.set()
        found = await flow.tools.replay(PERSON, LONG_AGO, do=True)
        assert found.action == "none"
    (told,) = world.told(ExchangeTrouble)
    assert (told.resource, told.code) == (PERSON, "exchange-unreachable")


async def test_what_could_not_begin_in_time_is_never_done(world: World) -> None:
    """Who was told that it is busy does not find an epoch begun later."""
    held = Held(world.exchange, "upload")
    world.wrap = lambda name, part: held if name == "exchange" else part
    async with world.serving() as flow:
        await pull(flow)
        held.armed = True
        await flow.request_pull(PERSON)
        await held.entered.wait()
        world.exchange.rewind(PERSON, 1, 1)
        tools = SpoolTools(
            flow._lane, lambda: flow._parts, patience=partial(asyncio.sleep, 0)
        )
        with pytest.raises(Busy, match="nothing was done"):
            await tools.mend(PERSON, [(1, 1)])
        assert flow._lane(PERSON).errand is None
        held.leave.set()


async def test_receipts_are_kept_with_manifest_and_voucher(world: World) -> None:
    """Each of them, by batch, from a time on and from a place on."""
    async with world.serving() as flow:
        await pull(flow)
        found, more = await flow.tools.proofs(PERSON, since=LONG_AGO, after=(0, 0))
        assert more is None
        assert [(p.receipt.seq, p.receipt.state) for p in found] == [
            (1, "stored"),
            (1, "loaded"),
            (2, "stored"),
            (2, "loaded"),
            (3, "loaded"),
        ]
        for proof in found:
            first = file_of(flow, proof.receipt.seq).read_bytes().partition(b"\n")[0]
            assert proof.line == first.decode()
            assert proof.receipt.voucher == world.exchange.voucher
        late = await flow.tools.proofs(
            PERSON, since="2030-01-01T00:00:00Z", after=(0, 0)
        )
        assert late == ((), None)
        rest, _ = await flow.tools.proofs(PERSON, since=LONG_AGO, after=(1, 2))
        assert [p.receipt.seq for p in rest] == [3]


async def test_a_rejection_is_evidence_too(world: World) -> None:
    """With line 1 of what was rejected, and what vouches for who rejected it."""
    world.exchange.refuse_seq[2] = "bad-payload"
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stream.halted is not None)
        found, _ = await flow.tools.proofs(PERSON, since=LONG_AGO, after=(1, 1))
    (proof,) = found
    assert (proof.receipt.state, proof.receipt.code) == ("rejected", "bad-payload")
    assert proof.line is not None
    assert proof.receipt.voucher == world.exchange.voucher


async def test_receipts_outlive_their_resource(world: World) -> None:
    """A resource that may not leave any more keeps its evidence."""
    async with world.serving() as flow:
        await pull(flow)
    world.resources = ()
    async with world.serving() as flow:
        assert await flow.tools.resources() == (PERSON,)
        found, _ = await flow.tools.proofs(PERSON, since=LONG_AGO, after=(0, 0))
        assert len(found) == 5
        with pytest.raises(ResourceUnknown):
            await flow.tools.proofs("9/9", since=LONG_AGO, after=(0, 0))


async def test_a_count_that_is_wrong_is_red(world: World) -> None:
    """The centre has one row more than it was sent: not healthy, and it says why."""
    world.exchange.too_many = 1
    async with world.serving() as flow:
        await pull(flow)
        status = await until(flow, lambda s: s.accounts[-1].ok is not None)
        assert (status.accounts[-1].name, status.accounts[-1].ok) == ("resource", False)
        assert (status.state, status.healthy) == ("idle", False)


async def test_a_whole_read_is_counted_at_the_centre(world: World) -> None:
    """Source rows = centre's rows + never sent + in flight, by three who count."""
    world.scripts[PERSON] = Script(chunks=(Chunk(8, 2, 1), Chunk(8, 2, 1)))
    async with world.serving() as flow:
        await pull(flow)
        status = await until(flow, lambda s: s.accounts[-1].ok is not None)
        assert status.healthy, status
        account = status.accounts[-1]
        assert (account.left, account.right) == (
            {"source": 20},
            {"centre": 16, "never_sent": 4, "in_flight": 0},
        )


async def test_a_centre_that_does_not_count_is_not_known(world: World) -> None:
    """Unknown is neither green nor red, and no trouble."""
    world.exchange.fail("reconcile", CUT)
    async with world.serving() as flow:
        await pull(flow)
        status = await until(flow, lambda s: "reconcile" in world.exchange.calls)
        account = status.accounts[-1]
        assert (account.ok, account.why, status.healthy) == (None, "not-counted", True)
        assert status.trouble is None
