# SPDX-License-Identifier: Apache-2.0
"""What a lookup promises when nobody attacks it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import LookupFailed, LookupRepeated
from agent.crypto import jwe
from agent.crypto.jose import message_digest
from agent.errors import (
    AuditRolledBack,
    AuditWriteFailed,
    InternalFault,
    SourceUnreachable,
    WorkerDied,
)
from agent.lookup.query import BAD, Answer, Ask
from agent.wire.directory import RevokedFile
from agent.wire.lookup import REPLY_CAP, Reply, check_answer
from agent.wire.problem import Problem
from tests.support.lookup import (
    AS_OF,
    CONSUMER,
    ZHANG,
    SourceDouble,
    World,
    denied,
    failed,
    refused,
)
from tests.support.requester import item

NOBODY = "110101199003070999"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The sample department and one that may ask."""
    return World(tmp_path)


def ok(found: Reply | Problem) -> Reply:
    """A reply that gives something."""
    assert isinstance(found, Reply), found
    assert found.status == "ok", found
    return found


async def test_get_gives_the_fields_masked_as_the_grant_says(world: World):
    """Exactly the fields asked for; what is masked is named."""
    async with world.serving():
        found = ok(await world.ask(fields=("name", "address")))
    (result,) = found.results
    assert result.data == {"name": "张三", "address": "云溪市东城区***"}
    assert (result.status, result.as_of, found.masked) == ("ok", AS_OF, ("address",))
    assert (found.policy.rev, found.policy.rule) == (1, "get")


async def test_a_reply_answers_its_request_and_no_other(world: World):
    """iss, aud, irt and req_sha256 are those of the request."""
    request = world.asker.request(jti=world.next_id(), fields=("name",))
    text = world.asker.sign(request)
    async with world.serving():
        found = ok(await world.send(world.asker.seal(text)))
    check_answer(found, request, req_sha256=message_digest(text))


async def test_verify_says_match_and_mismatch_and_never_a_value(world: World):
    """Canonical text is compared; no row says no_record for every field."""
    items = (
        item(name="张三", status="1"),
        item(name="张三 ", status=None),
        item(NOBODY, name="张三", status=None),
    )
    async with world.serving():
        found = ok(await world.ask(op="verify", fields=("name", "status"), items=items))
    verdicts = [r.verdicts for r in found.results]
    assert verdicts == [
        {"name": "match", "status": "match"},
        {"name": "mismatch", "status": "mismatch"},
        {"name": "no_record", "status": "no_record"},
    ]
    assert [r.status for r in found.results] == ["ok", "ok", "no_match"]
    assert all(r.data is None for r in found.results)


async def test_null_equals_null_in_verify(tmp_path: Path):
    """A claim of null matches a value that is not there."""
    world = World(tmp_path)
    world.sources.rows[0]["status"] = None
    async with world.serving():
        found = ok(
            await world.ask(op="verify", fields=("status",), items=(item(status=None),))
        )
    assert found.results[0].verdicts == {"status": "match"}


async def test_exists_says_no_more_than_that(world: World):
    """Neither data nor verdicts."""
    async with world.serving():
        found = ok(
            await world.ask(op="exists", fields=(), items=(item(), item(NOBODY)))
        )
    assert [(r.status, r.data, r.verdicts) for r in found.results] == [
        ("ok", None, None),
        ("no_match", None, None),
    ]


async def test_a_hundred_items_are_answered_in_their_order(world: World):
    """Each under its number."""
    people = [{**ZHANG, "citizen_id": f"1101011990030{n:05d}"} for n in range(100)]
    world.sources.rows = people[::2]
    items = tuple(item(p["citizen_id"]) for p in people)
    async with world.serving():
        found = ok(await world.ask(items=items, fields=("name",)))
    statuses = [r.status for r in found.results]
    assert statuses == ["ok", "no_match"] * 50
    assert [r.i for r in found.results] == list(range(100))


async def test_the_source_is_asked_for_the_fields_and_keys_only(world: World):
    """No other column is ever named."""
    seen: list[Ask] = []
    world.sources.before = lambda: None
    real = world.sources.fetch

    async def fetch(ask: Ask) -> Answer:
        seen.append(ask)
        return await real(ask)

    world.sources.fetch = fetch  # type: ignore[method-assign]
    async with world.serving():
        await world.ask(fields=("name",))
    (ask,) = seen
    assert {b.item.name for b in ask.items} == {"citizen_id", "name"}
    assert (ask.source, ask.key_items) == ("rsj", ("citizen_id",))


# --- what is recorded -------------------------------------------------------------


async def test_an_answer_is_recorded_before_it_leaves(world: World):
    """One record, whose digests are those of the exact messages."""
    jti = world.next_id()
    request = world.asker.request(jti=jti, fields=("name",))
    text = world.asker.sign(request)
    async with world.serving() as flow:
        answer = await flow.answer(world.asker.seal(text))
        (record,) = await world.records()
        evidence = await world.log.evidence(record["n"])
    assert isinstance(answer, str)
    sealed = jwe.split_sealed(answer, cap=REPLY_CAP)
    reply = sealed.open(world.consumer.decrypt)
    assert (record["request"], record["reply"]) == (
        message_digest(text),
        message_digest(reply),
    )
    assert evidence is not None
    assert (evidence.request, evidence.reply) == (text, reply)
    key = world.log.key_of(record["day"])
    assert key is not None
    assert record["consumer"] == CONSUMER
    assert record["jti"] == key.commit(record["decision_id"], "jti", jti)
    assert (record["status"], record["found"], record["rule"]) == ("ok", 1, "get")


async def test_a_record_holds_no_personal_value(world: World):
    """Neither key nor value nor basis nor officer; of each a code that says nothing."""
    async with world.serving():
        ok(await world.ask(fields=("name", "address"), matter="个案核查"))
        lines = "".join(await world.log.lines(0, 100))
        (record,) = await world.records()
    told = json.dumps([e.told() for e in world.events if hasattr(e, "told")])
    secrets = [text for text in ZHANG.values() if len(text) > 1]
    for text in (*secrets, "case:TA-2026-00017", "tax-0042", "个案核查"):
        assert text not in lines
        assert json.dumps(text)[1:-1] not in told
    key = world.log.key_of(record["day"])
    assert key is not None
    value = key.commit(record["decision_id"], "basis", "case:TA-2026-00017")
    assert record["basis"] == value
    frame = b"\x01" + len(ZHANG["citizen_id"]).to_bytes(4, "big")
    assert record["subjects"] == [key.subject(frame + ZHANG["citizen_id"].encode())]


async def test_what_a_consumer_writes_into_names_is_not_recorded(world: World):
    """Fields and resource stand in a record only if our catalog has them."""
    async with world.serving():
        await world.ask(fields=("name", "zhang_san_of_street_8"))
        await world.ask(resource="110101199003070011/x")
        lines = "".join(await world.log.lines(0, 100))
    assert "zhang_san" not in lines
    assert "110101199003070011" not in lines


async def test_a_log_that_cannot_be_written_answers_nothing(world: World):
    """Neither before the query nor after it; the consumer is told busy."""

    def wrap(log: Any) -> Any:
        broken = AuditWriteFailed("disk full")

        class Full:
            open_requests = log.open_requests
            key_for = log.key_for
            begin = failed(broken) if where == "begin" else log.begin
            settle = failed(broken)
            append = failed(broken)

        return Full()

    for where in ("begin", "settle"):
        world.sources.asked.clear()
        async with world.serving(wrap=wrap) as flow:
            assert refused(await world.ask()) == (503, "busy")
            assert isinstance(flow.trouble, AuditWriteFailed)
        assert bool(world.sources.asked) is (where == "settle")


async def test_an_allowed_lookup_whose_answer_was_lost_is_not_queried_again(
    world: World,
):
    """Its record could not be written; asked again it is a signed error."""
    text = world.asker.seal(world.asker.sign(world.asker.request(fields=("name",))))
    real: list[Any] = []

    def wrap(log: Any) -> Any:
        real.append(log)

        class Flaky:
            open_requests, key_for, begin = log.open_requests, log.key_for, log.begin
            append = log.append
            settle = failed(AuditWriteFailed("cut"))

        return Flaky()

    async with world.serving(wrap=wrap) as flow:
        assert refused(await world.send(text)) == (503, "busy")
        flow._parts = replace(flow._parts, log=real[0])
        found = await world.send(text)
    assert isinstance(found, Reply)
    assert (found.status, found.reasons) == ("error", ("interrupted",))
    assert len(world.sources.asked) == 1


# --- the same request again ---------------------------------------------------------


async def test_the_same_message_again_gets_the_same_reply(world: World):
    """Byte for byte inside, sealed anew; the source is asked once, one record."""
    text = world.asker.seal(world.asker.sign(world.asker.request(fields=("name",))))
    again = world.asker.seal(world.asker.sign(world.asker.request(fields=("name",))))
    async with world.serving() as flow:
        first = await flow.answer(text)
        second = await flow.answer(text)
        records = await world.records()
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert first != second
    inner = [
        jwe.split_sealed(t, cap=REPLY_CAP).open(world.consumer.decrypt)
        for t in (first, second)
    ]
    assert inner[0] == inner[1]
    assert again != text
    assert len(world.sources.asked) == len(records) == 1
    assert len(world.told(LookupRepeated)) == 1


async def test_after_a_restart_too(world: World):
    """The reply is kept, not remembered."""
    text = world.asker.ask(fields=("name",))
    async with world.serving():
        first = ok(await world.send(text))
    async with world.serving():
        assert ok(await world.send(text)) == first
    assert len(world.sources.asked) == 1


async def test_a_duplicate_waits_for_the_first(world: World):
    """While it runs, the same message is not begun a second time."""
    gate = world.sources.gate = asyncio.Event()
    text = world.asker.ask(fields=("name",))
    async with world.serving():
        both = asyncio.gather(world.send(text), world.send(text))
        await asyncio.sleep(0.05)
        gate.set()
        first, second = await both
    assert ok(first) == ok(second)
    assert len(world.sources.asked) == 1


async def test_who_stops_waiting_stops_nothing(world: World):
    """The work goes on to its record; asked again, the reply is there."""
    gate = world.sources.gate = asyncio.Event()
    text = world.asker.ask(fields=("name",))
    async with world.serving():
        gone = asyncio.create_task(world.send(text))
        await asyncio.sleep(0.05)
        gone.cancel()
        await asyncio.wait({gone})
        gate.set()
        ok(await world.send(text))
        assert len(await world.records()) == 1
    assert len(world.sources.asked) == 1


async def test_what_a_crash_left_is_answered_interrupted(world: World):
    """Signed and recorded at the next start; the source is not asked again."""
    text = world.asker.ask(fields=("name",))
    world.sources.gate = asyncio.Event()
    async with world.serving():
        lost = asyncio.create_task(world.send(text))
        await asyncio.sleep(0.05)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    async with world.serving():
        (record,) = await world.records()
        assert (record["status"], record["reasons"]) == ("error", ["interrupted"])
        found = await world.send(text)
    assert isinstance(found, Reply)
    assert (found.status, found.reasons) == ("error", ("interrupted",))
    assert found.policy.decision_id == record["decision_id"]
    assert len(world.sources.asked) == 1
    key = world.log.key_of(record["day"])
    assert key is not None
    assert record["jti"] == key.commit(record["decision_id"], "jti", found.irt)


async def test_a_drain_answers_what_is_in_flight(world: World):
    """Nothing new is taken meanwhile."""
    gate = world.sources.gate = asyncio.Event()
    async with world.serving() as flow:
        asked = asyncio.create_task(world.ask(fields=("name",)))
        await asyncio.sleep(0.05)
        drain = asyncio.create_task(flow.drain(5))
        await asyncio.sleep(0)
        assert refused(await world.ask()) == (503, "busy")
        gate.set()
        await drain
        ok(await asked)


# --- sources ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [SourceUnreachable("gone"), WorkerDied("-9"), InternalFault("contract")],
)
async def test_a_source_that_is_gone_is_a_signed_error(
    world: World, fault: BaseException
):
    """Reason source; why is told here, not to the consumer."""
    world.sources.fault = fault
    async with world.serving():
        found = await world.ask(fields=("name",))
        (record,) = await world.records()
    assert isinstance(found, Reply)
    assert (found.status, found.reasons, found.results) == ("error", ("source",), ())
    assert record["status"] == "error"
    assert [e.code for e in world.told(LookupFailed)] == [fault.code]  # type: ignore[attr-defined]


async def test_a_slow_source_is_a_signed_error(tmp_path: Path):
    """After the deadline, and the consumer hears it."""
    world = World(tmp_path, deadline_s=0.05)
    world.sources.gate = asyncio.Event()
    async with world.serving():
        found = await world.ask(fields=("name",))
    assert isinstance(found, Reply)
    assert (found.status, found.reasons) == ("error", ("source",))


async def test_two_rows_for_one_key_are_a_signed_error(world: World):
    """Neither of them is given."""
    world.sources.rows = [dict(ZHANG), {**ZHANG, "name": "李四"}]
    async with world.serving():
        found = await world.ask(fields=("name",))
    assert isinstance(found, Reply)
    assert (found.status, found.reasons, found.results) == ("error", ("source",), ())


async def test_a_value_that_a_push_would_withhold_is_not_answered(world: World):
    """It does not fit its item; the rest is not given either."""
    world.sources.rows[0]["name"] = BAD
    async with world.serving():
        found = await world.ask(fields=("name",))
        other = await world.ask(fields=("birth_date",))
    assert isinstance(found, Reply)
    assert (found.status, found.reasons) == ("error", ("source",))
    assert ok(other)


async def test_a_reply_that_is_too_long_is_a_signed_error(world: World):
    """It would not fit the line; the consumer asks for less."""
    world.sources.rows[0]["name"] = "长" * 2_000_000
    async with world.serving():
        found = await world.ask(fields=("name",))
    assert isinstance(found, Reply)
    assert (found.status, found.reasons) == ("error", ("source",))


async def test_a_defect_of_ours_is_busy_and_shown(world: World):
    """An exception that nobody foresaw stops nobody else."""

    class Broken(SourceDouble):
        async def fetch(self, ask: Ask) -> Answer:
            raise ZeroDivisionError(ZHANG["name"])

    world.sources = Broken()
    async with world.serving() as flow:
        assert refused(await world.ask()) == (503, "busy")
        assert isinstance(flow.trouble, InternalFault)
        assert ZHANG["name"] not in flow.trouble.detail


# --- policy -------------------------------------------------------------------------


async def test_without_a_policy_everything_is_refused(world: World):
    """Revision 0, reason grant."""
    world.policy = ""
    async with world.serving():
        assert denied(await world.ask()) == ("grant",)


async def test_a_policy_swapped_during_a_request_counts(world: World):
    """The policy of the moment of signing judges: what it forbids is not given."""
    gate = world.sources.gate = asyncio.Event()
    async with world.serving() as flow:
        asked = asyncio.create_task(world.ask(fields=("name",)))
        await asyncio.sleep(0.05)
        async with flow.turning():
            flow.use(world.active(2, "# nobody\n"))
        gate.set()
        found = await asked
        (record,) = await world.records()
    assert isinstance(found, Reply)
    assert (denied(found), found.policy.rev) == (("grant",), 2)
    assert (record["status"], record["rev"], record["found"]) == ("denied", 2, 0)


async def test_a_mask_added_during_a_request_is_applied(world: World):
    """The newer grant's treatment of the fields."""
    gate = world.sources.gate = asyncio.Event()
    stricter = world.policy.replace('name = "show"', 'name = "mask:name"')
    async with world.serving() as flow:
        asked = asyncio.create_task(world.ask(fields=("name",)))
        await asyncio.sleep(0.05)
        async with flow.turning():
            flow.use(world.active(2, stricter))
        gate.set()
        found = ok(await asked)
    assert found.results[0].data == {"name": "张*"}
    assert (found.masked, found.policy.rev) == (("name",), 2)


async def test_nothing_is_signed_while_a_policy_is_activated(world: World):
    """Records stand in the order of decisions: none of the old revision follows."""
    async with world.serving() as flow:
        async with flow.turning():
            asked = asyncio.create_task(world.ask(fields=("name",)))
            await asyncio.sleep(0.05)
            assert not asked.done()
            rev = await world.log.activate("# nobody\n", digest="sha256:0", uid=0)
            flow.use(world.active(rev, "# nobody\n"))
        assert denied(await asked) == ("grant",)
        lines = [json.loads(x) for x in await world.log.lines(0, 100)]
    kinds = [x["kind"] for x in lines]
    assert kinds.index("policy.activated") < kinds.index("lookup.decided")


# --- directory ----------------------------------------------------------------------


async def test_a_consumer_of_today_is_found_by_looking_again(world: World):
    """Its key is not in our directory yet: it is fetched, once, and judged again."""
    world.newer = world.directory
    without = dict(world.directory.departments)
    del without[CONSUMER.partition("/")[0]]
    world.directory = replace(world.directory, departments=without)
    async with world.serving():
        ok(await world.ask(fields=("name",)))
    assert world.renewals == 1


async def test_a_directory_that_is_too_old_answers_nobody(world: World):
    """Whose keys were revoked meanwhile is not known; fetched again it goes on."""
    world.stale = True
    async with world.serving() as flow:
        assert refused(await world.ask()) == (503, "busy")
        assert world.told(LookupFailed) == [LookupFailed(None, "directory-stale")]
        assert (flow.trouble, world.sources.asked) == (None, [])
        world.newer = world.directory
        ok(await world.ask(fields=("name",)))


async def test_a_log_that_is_behind_its_witness_answers_nobody(world: World):
    """Records are missing: the request may be one of them."""
    world.barred = AuditRolledBack("here 3 records; the witness cosigned 7")
    async with world.serving() as flow:
        assert refused(await world.ask()) == (503, "busy")
        assert world.told(LookupFailed) == [LookupFailed(None, "audit-rolled-back")]
        assert flow.counts().refused == 1
    assert world.sources.asked == []


async def test_what_an_older_policy_denied_is_judged_by_the_newer_one(world: World):
    """A refusal never carries the revision of a policy that did not make it."""
    none = world.active(1, "# nobody\n")
    async with world.serving() as flow:
        flow.use(none)
        async with flow.turning():
            asked = asyncio.create_task(world.ask(fields=("name",)))
            await asyncio.sleep(0.05)
            flow.use(world.active(2))
        found = ok(await asked)
    assert found.policy.rev == 2
    assert len(world.sources.asked) == 1


async def test_peer_that_is_revoked_while_its_rows_are_read_gets_none(
    world: World,
) -> None:
    """The request was good when it came; the answer is not sealed to a revoked node."""
    at = "2026-11-21T08:00:00Z"

    def revoke() -> None:
        gone = RevokedFile({}, {world.consumer.node: at})
        world.directory = replace(world.directory, revoked=gone)

    world.sources.before = revoke
    async with world.serving():
        found = await world.flow.answer(world.asker.ask(jti=world.next_id()))
    assert isinstance(found, Problem)
