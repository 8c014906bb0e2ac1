# SPDX-License-Identifier: Apache-2.0
"""Comparing with the centre and recalling: what is asked, kept, held and proven."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import (
    FrontierGone,
    ResourceRecalled,
    RowsCompared,
    RowsQuarantined,
)
from agent.crypto.frames import digest_text
from agent.errors import (
    Busy,
    ExchangeRefused,
    ExchangeUnreachable,
    NothingHeld,
    NothingLoaded,
    ResourceUnknown,
    SpoolWriteFailed,
    UsageFault,
)
from agent.model.batch import Rows
from agent.model.job import Compared, Failed, Gone, Way
from agent.model.run import RunKind
from agent.pipeline.flow.centre import TRIES
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import ResourceStatus, RunReport
from agent.retry import Backoff
from agent.state import KeptDue, Run, State
from tests.support.push import (
    A_DAY_S,
    ITEMS,
    PERSON,
    Clock,
    Resource,
    World,
    pull,
    until,
)
from tests.support.worker_double import Chunk

DUE = "2026-11-22T00:00:00Z"


async def loaded(tmp_path: Path, rows: int = 3) -> World:
    """A world whose exchange has so many rows of the resource."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(rows),)
    world.scripts[PERSON].way = Way("fake", ())
    await world.pulled()
    world.exchange.calls.clear()  # it was perhaps asked for a count by then
    world.exchange.rows[PERSON] = {n: digest_text(n) for n in range(rows)}
    return world


def modes(world: World) -> list[str]:
    """Of all batches that arrived."""
    return [k.manifest.mode for k in world.exchange.batches.values()]


async def recalled(flow: PushFlow) -> RunReport:
    """The word of a person, after the number was shown, until it is proven."""
    await pull(flow, kind="recall")
    done = await pull(flow, kind="recall", confirm_deletes=True)
    await proven(flow)
    return done


async def proven(flow: PushFlow) -> ResourceStatus:
    """The status once the exchange signed that it has no rows."""
    return await until(
        flow,
        lambda s: bool(
            s.state == "recalled" and s.recalled is not None and s.recalled.proven_at
        ),
    )


async def test_a_comparison_knows_the_centre_and_the_frontier(tmp_path: Path) -> None:
    """Rows and digests by buckets, asked for before the source is opened."""
    world = await loaded(tmp_path)
    world.scripts[PERSON].found = Compared(3, 3)
    async with world.serving() as flow:
        done = await pull(flow, kind="reconcile")
    assert (done.state, done.delivered, done.found) == ("read", True, Compared(3, 3))
    job = world.scripts[PERSON].jobs[-1]
    assert (job.mode, job.centre, job.sums) == ("reconcile", (3,), (digest_text(3),))
    assert job.since == f"frontier {world.scripts[PERSON].runs[0]}"
    assert job.report is None
    assert modes(world) == ["full"]


async def test_a_table_that_grew_is_asked_about_by_more_buckets(tmp_path: Path) -> None:
    """A bucket with everything would be too large to tell its keys."""
    world = await loaded(tmp_path)
    world.exchange.rows[PERSON] = {n: digest_text(n) for n in range(1000)}
    world.scripts[PERSON].found = Compared(1000, 1000)
    async with world.serving() as flow:
        await pull(flow, kind="compare")
    job = world.scripts[PERSON].jobs[-1]
    assert job.centre is not None
    assert (len(job.centre), sum(job.centre)) == (8, 1000)


async def test_withheld_rows_are_told_once_not_at_every_comparison(
    tmp_path: Path,
) -> None:
    """Their file is of the run that withheld them."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.found, script.repairs = Compared(3, 3, stale=1), (Chunk(1, quarantined=2),)
    async with world.serving() as flow:
        done = await pull(flow, kind="reconcile")
    assert done.quarantined == 2
    assert not world.told(RowsQuarantined)


async def test_a_repair_goes_the_usual_way_and_is_shown(tmp_path: Path) -> None:
    """Sealed, sent, loaded; what was found is kept, recorded and survives a restart."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.found, script.repairs = Compared(3, 3, stale=2), (Chunk(2),)
    async with world.serving() as flow:
        done = await pull(flow, kind="reconcile")
        assert done.delivered
        frontier = world.scripts[PERSON].jobs[-1].since
        await pull(flow, kind="incremental")
    assert script.jobs[-1].since == frontier
    assert modes(world)[1] == "repair"
    (told,) = [e for e in world.recorded if isinstance(e, RowsCompared)]
    assert (told.resource, told.run, told.stale) == (PERSON, done.run, 2)
    async with world.serving() as flow:
        last = flow.resource(PERSON).reconciled
    assert last is not None
    assert (last.run, last.found.stale, last.repaired) == (done.run, 2, True)


async def test_a_comparison_alone_is_not_a_repair(tmp_path: Path) -> None:
    """What differs stays, and status says so."""
    world = await loaded(tmp_path)
    world.scripts[PERSON].found = Compared(3, 3, missing=1)
    async with world.serving() as flow:
        await pull(flow, kind="compare")
        last = flow.resource(PERSON).reconciled
    assert last is not None
    assert not last.repaired


async def test_what_is_in_flight_is_waited_for(tmp_path: Path) -> None:
    """A batch that is not loaded would look missing."""
    world = await loaded(tmp_path)
    world.scripts[PERSON].found = Compared(3, 3)
    world.exchange.loading = False
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.stored.batches == 1 and s.state == "waiting")
        world.clock.slept.clear()
        world.exchange.calls.clear()  # the count after a full read asks, too
        run = await flow.request_pull(PERSON, kind="compare")
        await until(flow, lambda s: s.run is not None and s.run.state == "reading")
        assert "reconcile" not in world.exchange.calls
        world.exchange.load(PERSON)
        assert (await flow.wait(run)).state == "read"


async def test_what_never_loads_is_tried_later(tmp_path: Path) -> None:
    """The wait is bounded, and so is the number of questions."""
    world = await loaded(tmp_path)
    busy = ExchangeRefused("loading", problem="busy")
    world.exchange.fail("reconcile", *[busy] * TRIES)
    async with world.serving() as flow:
        done = await pull(flow, kind="compare")
    assert (done.state, done.code) == ("failed", "exchange-refused")
    assert done.successor is not None
    assert world.exchange.calls.count("reconcile") == TRIES


@pytest.mark.parametrize("problem", ["busy", "stale-epoch"])
async def test_a_batch_loaded_meanwhile_is_asked_about_again(
    tmp_path: Path, problem: str
) -> None:
    """The same run goes on."""
    world = await loaded(tmp_path)
    world.scripts[PERSON].found = Compared(3, 3)
    world.exchange.fail("reconcile", ExchangeRefused("later", problem=problem))
    async with world.serving() as flow:
        assert (await pull(flow, kind="compare")).state == "read"
    assert world.exchange.calls.count("reconcile") == 2


async def test_keys_come_with_the_digests_of_their_rows(tmp_path: Path) -> None:
    """As the exchange signed them."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.asks, script.found = (0,), Compared(3, 3)
    async with world.serving() as flow:
        await pull(flow, kind="compare")
    (answer,) = script.keys
    assert answer.texts == (("0",), ("1",), ("2",))
    assert answer.digests == tuple(digest_text(n) for n in range(3))


async def test_rows_that_change_between_two_answers_end_the_run(
    tmp_path: Path,
) -> None:
    """Half of one table and half of another would make differences that are none."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.asks, script.found = (0,), Compared(3, 3)

    def change(text: str) -> str:
        world.exchange.rows[PERSON][7] = digest_text(7)
        return text

    world.exchange.rewrite("reconcile", change)
    async with world.serving() as flow:
        done = await pull(flow, kind="compare")
        assert (done.state, done.code) == ("failed", "exchange-refused")
        assert done.successor is not None
        assert (await flow.wait(done.successor)).state == "read"


async def test_a_repair_that_deletes_much_is_held_and_can_be_confirmed(
    tmp_path: Path,
) -> None:
    """With its number, as any other deletes; what was found is shown meanwhile."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.found, script.gone = Compared(0, 3, extra=3), Gone(3, 3)
    script.repairs = (Chunk(1),)
    async with world.serving() as flow:
        held = await pull(flow, kind="reconcile")
        assert (held.state, held.code, held.keys_gone) == ("held", "mass-delete", 3)
        assert held.found == script.found
        done = await pull(flow, confirm_deletes=True)
    assert (done.kind, done.delivered, done.deletes_confirmed) == ("reconcile", True, 3)


async def test_a_word_for_a_repair_lets_no_read_delete(tmp_path: Path) -> None:
    """A full read is held for deletes of its own: neither comparison may confirm it."""
    world = await loaded(tmp_path, rows=5000)
    script = world.scripts[PERSON]
    script.chunks = (Chunk(1),)
    async with world.serving() as flow:
        assert (await pull(flow)).code == "mass-delete"
        with pytest.raises(NothingHeld):
            await flow.request_pull(PERSON, kind="reconcile", confirm_deletes=True)
        with pytest.raises(UsageFault):
            await flow.request_pull(PERSON, kind="compare", confirm_deletes=True)
    assert modes(world) == ["full"]


@pytest.mark.parametrize("kind", ["compare", "reconcile"])
async def test_a_comparison_that_sends_nothing_ends_no_hold(
    tmp_path: Path, kind: RunKind
) -> None:
    """Nobody has looked at the deletes yet: they are shown, and can be confirmed."""
    world = await loaded(tmp_path, rows=5000)
    script = world.scripts[PERSON]
    script.chunks, script.found = (Chunk(1),), Compared(5000, 5000)
    async with world.serving() as flow:
        await pull(flow)
        assert (await pull(flow, kind=kind)).state == "read"
        assert flow.resource(PERSON).state == "held"
    async with world.serving() as flow:
        shown = flow.resource(PERSON)
        assert shown.trouble is not None
        assert (shown.state, shown.trouble.code) == ("held", "mass-delete")
        done = await pull(flow, confirm_deletes=True)
    assert (done.kind, done.delivered, done.deletes_confirmed) == ("full", True, 4999)


async def test_a_repair_is_held_no_more_when_nothing_differs(
    tmp_path: Path,
) -> None:
    """The rows are back: the next comparison says that there is nothing to confirm."""
    world = await loaded(tmp_path)
    script = world.scripts[PERSON]
    script.found, script.gone = Compared(0, 3, extra=3), Gone(3, 3)
    async with world.serving() as flow:
        assert (await pull(flow, kind="reconcile")).state == "held"
        script.found, script.gone = Compared(3, 3), None
        assert (await pull(flow, kind="reconcile")).state == "read"
        assert (await until(flow, lambda s: s.state == "idle")).trouble is None
        with pytest.raises(NothingHeld):
            await flow.request_pull(PERSON, kind="reconcile", confirm_deletes=True)


async def test_a_confirmed_repair_still_writes_its_report(tmp_path: Path) -> None:
    """The word and the file are asked for together."""
    world = await loaded(tmp_path)
    world.reports = tmp_path / "reports"
    script = world.scripts[PERSON]
    script.found, script.gone = Compared(0, 3, extra=3), Gone(3, 3)
    script.repairs = (Chunk(1),)
    async with world.serving() as flow:
        await pull(flow, kind="reconcile")
        run = await flow.request_pull(
            PERSON, kind="reconcile", confirm_deletes=True, report="keys.jsonl"
        )
        done = await flow.wait(run, delivered=True)
    assert (done.kind, done.deletes_confirmed) == ("reconcile", 3)
    assert script.jobs[-1].report == str(world.reports / "keys.jsonl")


async def test_a_report_goes_to_our_own_folder_and_survives_a_repetition(
    tmp_path: Path,
) -> None:
    """The run that repeats a failed one writes it."""
    world = await loaded(tmp_path)
    world.reports = tmp_path / "reports"
    script = world.scripts[PERSON]
    script.failures = [Failed("source-unreachable", "db"), Failed("source-login", "db")]
    script.found = Compared(3, 3)
    async with world.serving() as flow:
        run: str | None = await flow.request_pull(
            PERSON, kind="compare", report="keys.jsonl"
        )
        while run is not None:
            done = await flow.wait(run)
            run = done.successor
            if run is not None:
                flow.resume()
    assert done.state == "read"
    assert {j.report for j in script.jobs[1:]} == {str(world.reports / "keys.jsonl")}


async def test_after_a_change_of_the_catalog_everything_is_read(tmp_path: Path) -> None:
    """The centre's table follows the old one: there is nothing to compare with."""
    world = await loaded(tmp_path)
    world.resources = (Resource(PERSON, version=2),)
    async with world.serving() as flow:
        done = await pull(flow, kind="reconcile")
    assert (done.kind, done.state, done.delivered) == ("full", "read", True)
    assert modes(world) == ["full", "full"]


@pytest.mark.parametrize(
    ("problem", "follows"), [("catalog-unknown", "full"), ("too-large", None)]
)
async def test_a_question_that_is_refused_for_good_is_not_asked_again(
    tmp_path: Path, problem: str, follows: str | None
) -> None:
    """It would be in the way of everything else of the resource."""
    world = await loaded(tmp_path)
    world.exchange.fail("reconcile", ExchangeRefused("no", problem=problem))
    async with world.serving() as flow:
        done = await pull(flow, kind="reconcile")
        assert (done.state, done.code) == ("failed", "exchange-refused")
        assert (done.successor is None) == (follows is None)
        if done.successor is not None:
            after = await flow.wait(done.successor, delivered=True)
            assert (after.kind, after.delivered) == ("full", True)
            await until(flow, lambda s: s.state == "idle" and s.trouble is None)


async def test_a_recalled_resource_is_not_read_for_a_comparison(tmp_path: Path) -> None:
    """Though its document changed meanwhile, and nothing of it is gone yet."""
    world = await loaded(tmp_path)
    world.resources = (Resource(PERSON, version=2),)
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        world.exchange.rows[PERSON] |= {9: digest_text(9)}
        assert (await pull(flow, kind="recall", confirm_deletes=True)).state == "held"
        await pull(flow, kind="compare")
    assert modes(world) == ["full"]


async def test_a_full_read_goes_before_a_comparison_that_waits(tmp_path: Path) -> None:
    """A person asks for it because the comparison does not get on."""
    world = await loaded(tmp_path)
    world.clock = Patient()
    world.scripts[PERSON].failures = [Failed("source-login", "db")]
    async with world.serving() as flow:
        waits = (await pull(flow, kind="reconcile")).successor
        done = await pull(flow)
        assert waits is not None
        assert (await flow.look(waits)).state == "interrupted"
    assert (done.kind, done.delivered) == ("full", True)


class Patient(Clock):
    """A clock by which no long wait ever ends."""

    async def sleep(self, seconds: float) -> None:
        if seconds >= 30:
            await asyncio.Event().wait()
        await super().sleep(seconds)


async def test_with_nothing_loaded_there_is_nothing_to_ask(tmp_path: Path) -> None:
    """Neither by a person nor on a schedule."""
    world = World(tmp_path)
    async with world.serving() as flow:
        for kind in ("reconcile", "compare", "recall"):
            with pytest.raises(NothingLoaded):
                await flow.request_pull(PERSON, kind=kind)  # type: ignore[arg-type]
        due = KeptDue(flow.stream_id(PERSON), "reconcile", "x", DUE, None)
        assert await flow.begin(PERSON, "reconcile", due=due) == "busy"


# --- recall -------------------------------------------------------------------------


async def test_a_recall_tells_its_number_and_takes_nothing_yet(tmp_path: Path) -> None:
    """What the centre has, not what we think that it has."""
    world = await loaded(tmp_path)
    world.exchange.rows[PERSON] = {n: digest_text(n) for n in range(5)}
    async with world.serving() as flow:
        held = await pull(flow, kind="recall")
        assert (held.state, held.code) == ("held", "recall-unconfirmed")
        assert held.keys_gone == 5
        assert flow.resource(PERSON).state == "held"
        with pytest.raises(NothingHeld):
            await flow.request_pull(PERSON, confirm_deletes=True)
        await pull(flow)
    assert modes(world) == ["full", "full"]
    assert len(world.scripts[PERSON].runs) == 2


async def test_a_confirmed_recall_takes_all_in_one_step_and_is_proven(
    tmp_path: Path,
) -> None:
    """One snapshot without rows, by the number; then a signed "none"."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        done = await recalled(flow)
        assert (done.kind, done.delivered, done.deletes_confirmed) == (
            "recall",
            True,
            3,
        )
        shown = flow.resource(PERSON)
        assert (shown.state, shown.healthy, shown.complete_to) == (
            "recalled",
            True,
            None,
        )
    manifest = list(world.exchange.batches.values())[-1].manifest
    assert (manifest.mode, manifest.rows.upsert) == ("full", 0)
    assert manifest.snapshot is not None
    assert (manifest.snapshot.final, manifest.snapshot.rows) == (True, 0)
    assert manifest.deletes_confirmed is not None
    assert manifest.deletes_confirmed.count == 3
    (told,) = [e for e in world.recorded if isinstance(e, ResourceRecalled)]
    assert (told.resource, told.rows) == (PERSON, 3)


async def test_nothing_of_a_recalled_resource_is_read_until_it_is_resumed(
    tmp_path: Path,
) -> None:
    """Not by a person, a schedule, a restart or a lost epoch; then all is sent anew."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await recalled(flow)
    async with world.serving() as flow:
        with pytest.raises(Busy, match="recalled"):
            await flow.request_pull(PERSON)
        due = KeptDue(flow.stream_id(PERSON), "incremental", "x", DUE, None)
        assert await flow.begin(PERSON, "incremental", due=due) == "recalled"
        flow.resume()
        assert flow.resource(PERSON).state == "recalled"
        flow.resume(PERSON)
        assert flow.resource(PERSON).recalled is None
        assert (await pull(flow, kind="incremental")).kind == "full"
    assert not world.told(FrontierGone)


async def test_whoever_ends_a_recall_has_everything_sent_at_once(
    tmp_path: Path,
) -> None:
    """Until it is there nobody is told that the centre has it."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await recalled(flow)
        world.scripts[PERSON].hold = asyncio.Event()
        flow.resume(PERSON)
        shown = await until(flow, lambda s: s.state == "running")
        assert (shown.complete_to, shown.last_success, shown.lag_s) == (None,) * 3
        (account,) = (a for a in shown.accounts if a.name == "resource")
        assert account.ok is None
        world.scripts[PERSON].hold.set()
        await until(flow, lambda s: s.state == "idle" and s.complete_to is not None)
    assert modes(world) == ["full"] * 3  # the second one took everything


async def test_a_recall_that_waits_is_not_made_once_it_is_ended(
    tmp_path: Path,
) -> None:
    """A full read takes its place."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        waits = await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        flow.resume(PERSON)
        async with asyncio.timeout(60):
            done = await flow.wait(waits, delivered=True)
    assert (done.kind, done.delivered) == ("full", True)
    assert [job.mode for job in world.scripts[PERSON].jobs] == ["full", "full"]


async def test_a_recall_that_the_exchange_forgot_is_made_again(tmp_path: Path) -> None:
    """A restored exchange has the rows again, and gets no others in a new epoch."""
    world = await loaded(tmp_path)

    def restored(text: str) -> str:
        world.exchange.forget(PERSON)
        return text

    async with world.serving() as flow:
        await pull(flow, kind="recall")
        world.exchange.rewrite("reconcile", restored)
        first = await pull(flow, kind="recall", confirm_deletes=True)
        assert not first.delivered
        shown = await proven(flow)
    assert (shown.state, shown.stream.epoch) == ("recalled", 2)
    assert modes(world) == ["full"]
    assert [job.mode for job in world.scripts[PERSON].jobs[1:]] == ["recall", "recall"]
    (kept,) = world.exchange.batches.values()
    assert kept.manifest.rows.upsert == 0


async def test_a_resource_is_recalled_whose_document_has_changed(
    tmp_path: Path,
) -> None:
    """The centre's table follows an older version; nothing has to be sent before."""
    world = await loaded(tmp_path)
    world.resources = (Resource(PERSON, version=7),)
    async with world.serving() as flow:
        assert (await recalled(flow)).delivered
    assert modes(world) == ["full", "full"]
    assert list(world.exchange.batches.values())[-1].manifest.catalog.version == 7


async def test_a_recall_that_was_cut_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The word still stands, and nothing else is read in between."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        world.scripts[PERSON].hold = asyncio.Event()
        await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        await until(flow, lambda _: len(world.scripts[PERSON].jobs) == 2)
    world.scripts[PERSON].hold = None
    async with world.serving() as flow:
        await proven(flow)
    assert [job.mode for job in world.scripts[PERSON].jobs[1:]] == ["recall", "recall"]


async def test_a_crash_before_the_proof_was_asked_for_loses_no_proof(
    tmp_path: Path,
) -> None:
    """The next life asks for it."""
    world = await loaded(tmp_path)
    world.wrap = lambda name, part: NoProof(part) if name == "state" else part
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        await asyncio.wait({world.task})
    world.wrap = lambda _name, part: part
    async with world.serving() as flow:
        assert (await proven(flow)).recalled is not None


class NoProof:
    """A state whose process dies before a comparison is put down."""

    def __init__(self, state: State) -> None:
        self._state = state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def add_run(self, run: Run, **more: Any) -> None:
        """As a crash just before it would leave the state."""
        if run.kind == "compare":
            raise SpoolWriteFailed("the process is gone")
        self._state.add_run(run, **more)


async def test_more_rows_than_agreed_ask_again(tmp_path: Path) -> None:
    """A word covers its number and no more; meanwhile nothing else is read."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        world.exchange.rows[PERSON] |= {9: digest_text(9)}
        again = await pull(flow, kind="recall", confirm_deletes=True)
        assert (again.state, again.keys_gone) == ("held", 4)
        with pytest.raises(Busy, match="recalled"):
            await flow.request_pull(PERSON)
        done = await pull(flow, kind="recall", confirm_deletes=True)
    assert (done.delivered, done.deletes_confirmed) == (True, 4)


async def test_a_recall_without_a_word_has_nothing_to_confirm(tmp_path: Path) -> None:
    """Nor does a confirmation of other deletes stand for it."""
    world = await loaded(tmp_path, rows=5000)
    async with world.serving() as flow:
        with pytest.raises(NothingHeld):
            await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        world.scripts[PERSON].chunks = (Chunk(1),)
        assert (await pull(flow)).code == "mass-delete"
        with pytest.raises(NothingHeld):
            await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)


async def test_a_recall_goes_before_a_run_that_waits_for_its_source(
    tmp_path: Path,
) -> None:
    """A department may take back what it can no longer read."""
    world = await loaded(tmp_path)
    world.scripts[PERSON].failures = [Failed("source-unreachable", "db")] * 3
    world.backoff = Backoff(base_s=A_DAY_S, cap_s=A_DAY_S)
    async with world.serving() as flow:
        await pull(flow)
        assert (await pull(flow, kind="recall")).code == "recall-unconfirmed"
        world.scripts[PERSON].failures = []
        done = await pull(flow, kind="recall", confirm_deletes=True)
    assert done.delivered


async def test_what_may_not_leave_any_more_can_be_recalled(tmp_path: Path) -> None:
    """No gate and no document are needed; not a row, not a statement leaves."""
    world = await loaded(tmp_path)
    world.resources = ()
    world.bound = ("name",)
    async with world.serving() as flow:
        calls = len(world.exchange.calls)
        with pytest.raises(ResourceUnknown):
            await flow.request_pull(PERSON)
        held = await pull(flow, kind="recall")
        assert (held.code, held.keys_gone) == ("recall-unconfirmed", 3)
        with pytest.raises(ResourceUnknown):
            await flow.request_pull(PERSON)
        done = await pull(flow, kind="recall", confirm_deletes=True)
        assert done.delivered
        await proven(flow)
        assert "put_catalog" not in world.exchange.calls[calls:]
    manifest = list(world.exchange.batches.values())[-1].manifest
    assert (manifest.rows, manifest.snapshot is not None) == (Rows(0, 0, 0), True)
    (job,) = [j for j in world.scripts[PERSON].jobs if j.mode == "recall"]
    assert (job.connector, job.source, job.table) == ("", {}, ())
    assert [b.item for b in job.items] == list(ITEMS)


async def test_what_waits_behind_a_shut_gate_does_not_leave_with_a_recall(
    tmp_path: Path,
) -> None:
    """It is given up, and nothing is read for it; opened again, all is read."""
    world = await loaded(tmp_path)
    world.exchange.down = ExchangeUnreachable("cut")
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await until(flow, lambda s: s.waiting.batches == 1)
    world.exchange.down = None
    opened, world.resources = world.resources, ()
    offered = set(world.exchange.offered)
    async with world.serving() as flow:
        held = await pull(flow, kind="recall")
        assert held.keys_gone == 3
        assert flow.resource(PERSON).waiting.batches == 0
        assert set(world.exchange.offered) == offered
        runs = len(world.scripts[PERSON].runs)
        await flow.use(opened, flow._parts)
        await until(flow, lambda s: s.stream.loaded_epoch == 2)
        assert len(world.scripts[PERSON].runs) == runs + 1


async def test_a_recall_that_stands_goes_on_while_its_gate_shuts(
    tmp_path: Path,
) -> None:
    """By a reload and by a restart; who resumes a shut resource has nothing read."""
    world = await loaded(tmp_path)
    async with world.serving() as flow:
        await pull(flow, kind="recall")
        world.exchange.fail("upload", *[ExchangeUnreachable("cut")] * 999)
        run = await flow.request_pull(PERSON, kind="recall", confirm_deletes=True)
        await until(flow, lambda s: s.waiting.batches == 1)
        await flow.use((), flow._parts)
        await flow.forget_all_but(())  # its document is gone
        assert flow.resource(PERSON).recalled is not None
        assert flow.resource(PERSON).waiting.batches == 1
    world.resources = ()
    world.exchange.mend("upload")
    async with world.serving() as flow:
        assert (await flow.wait(run, delivered=True)).delivered
        await proven(flow)
        runs = len(world.scripts[PERSON].runs)
        flow.resume(PERSON)
        await until(flow, lambda s: s.recalled is None and s.state == "idle")
        assert len(world.scripts[PERSON].runs) == runs
        await flow.use((Resource(PERSON),), flow._parts)
        assert (await pull(flow, kind="incremental")).kind == "full"
