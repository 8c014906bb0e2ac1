# SPDX-License-Identifier: Apache-2.0
"""The audit log: durable before it answers, never twice, never personal."""

from __future__ import annotations

import asyncio
import json
import traceback
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.audit.events import (
    AdminAction,
    AuditStarted,
    AuditStopped,
    BatchLeft,
    ConfigChanged,
    EvidenceErased,
    LookupDecided,
    PolicyActivated,
)
from agent.audit.log import NEW, OPEN, OTHER, PAST, Evidence, Same
from agent.crypto.daykey import DayKey
from agent.crypto.jose import message_digest
from agent.crypto.note import open_checkpoint
from agent.crypto.notekey import NoteKey
from agent.crypto.tree import leaf_hash, verify_consistency, verify_inclusion
from agent.errors import (
    AuditDamaged,
    AuditWriteFailed,
    ChainMoved,
    EvidenceDamaged,
    EvidenceGone,
    InternalFault,
    MalformedMessage,
    UsageFault,
)
from tests.support.audit_log import (
    CONSUMER,
    LOG_KEY,
    ORIGIN,
    START,
    Clock,
    Site,
    decided,
    jti_of,
    raw_files,
    reply_of,
    request_of,
    site,
)

BATCH = BatchLeft("330100001/000001", 1, 7, "sha256:" + "0" * 64, 1, 2, 3, 4)
EXP = int(START.timestamp()) + 60


async def begin(s: Site, i: int, *, digest: str | None = None) -> object:
    """Begin lookup i."""
    used = digest or message_digest(request_of(i))
    return await s.log.begin(CONSUMER, jti_of(i), digest=used, exp=EXP)


async def test_a_record_is_numbered_and_told(tmp_path: Path) -> None:
    """append gives the number; the event is told once."""
    async with site(tmp_path) as s:
        event = AdminAction(1000, "pause", None)
        assert await s.log.append(event) == 1
        assert s.told == [AuditStarted("1.0", 0), event]
        (line,) = await s.log.lines(1, 2)
    record = json.loads(line)
    assert list(record) == ["v", "n", "at", "kind", "uid", "action", "resource"]
    assert record["kind"] == "admin.action"


async def test_a_request_is_new_once(tmp_path: Path) -> None:
    """New, then open until it is settled, then the same reply."""
    async with site(tmp_path) as s:
        assert await begin(s, 1) == NEW
        assert await begin(s, 1) == OPEN
        event = decided(1, s.log.key_for(s.log.today()), day=s.log.today())
        await s.log.settle(
            CONSUMER,
            jti_of(1),
            event=event,
            request=request_of(1),
            reply=reply_of(1),
        )
        assert await begin(s, 1) == Same(reply_of(1))


async def test_a_jti_used_for_another_message_is_told_apart(tmp_path: Path) -> None:
    """Open or settled: another digest is Other."""
    async with site(tmp_path) as s:
        await begin(s, 1)
        assert await begin(s, 1, digest="sha256:" + "0" * 64) == OTHER
        await s.lookup(2)
        assert await begin(s, 2, digest="sha256:" + "0" * 64) == OTHER


async def test_two_copies_of_a_request_at_once_are_new_once(tmp_path: Path) -> None:
    """Both in one transaction: one is New, the other Open."""
    async with site(tmp_path) as s:
        got = await asyncio.gather(*(begin(s, 1) for _ in range(5)))
    assert sorted(map(str, got)) == [NEW, *[OPEN] * 4]


async def test_another_consumer_may_use_the_same_jti(tmp_path: Path) -> None:
    """(iss, jti) is the name."""
    async with site(tmp_path) as s:
        await begin(s, 1)
        digest = message_digest(request_of(1))
        other = await s.log.begin(ORIGIN, jti_of(1), digest=digest, exp=EXP)
    assert other == NEW


async def test_a_settle_without_a_begin_spoils_nobody(tmp_path: Path) -> None:
    """It is refused; a settle in the same transaction stands."""
    async with site(tmp_path) as s:
        day = s.log.today()
        event = decided(9, s.log.key_for(day), day=day)
        wrong = s.log.settle(
            CONSUMER, jti_of(9), event=event, request=None, reply=reply_of(9)
        )
        got = await asyncio.gather(wrong, s.lookup(1), return_exceptions=True)
        assert isinstance(got[0], InternalFault)
        assert got[1] == 1
        assert s.log.trouble is None


async def test_an_answer_is_settled_once(tmp_path: Path) -> None:
    """A second answer of one request is refused."""
    async with site(tmp_path) as s:
        await s.lookup(1)
        day = s.log.today()
        with pytest.raises(InternalFault):
            await s.log.settle(
                CONSUMER,
                jti_of(1),
                event=decided(1, s.log.key_for(day), day=day),
                request=None,
                reply=reply_of(1),
            )


async def test_what_waits_shares_a_transaction(tmp_path: Path) -> None:
    """64 settles at once have the time of one transaction, or of two."""
    async with site(tmp_path) as s:
        numbers = await asyncio.gather(*(s.lookup(i) for i in range(64)))
        lines = await s.log.lines(1, 65)
    assert sorted(numbers) == list(range(1, 65))
    assert len({json.loads(line)["at"] for line in lines}) <= 2


async def test_unfinished_requests_are_found_at_the_next_start(tmp_path: Path) -> None:
    """They can be settled without the request's text, and are repeated then."""
    async with site(tmp_path) as s:
        await begin(s, 1)
        await s.lookup(2)
    async with site(tmp_path) as s:
        (left,) = s.log.open_requests()
        assert (left.iss, left.jti) == (CONSUMER, jti_of(1))
        assert s.told == [AuditStarted("1.0", 1)]
        day = s.log.today()
        event = decided(1, s.log.key_for(day), day=day, status="error")
        n = await s.log.settle(
            left.iss, left.jti, event=event, request=None, reply=reply_of(1)
        )
        assert await s.log.evidence(n) == Evidence(None, reply_of(1))
        assert await begin(s, 1) == Same(reply_of(1))


async def test_the_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Numbers, replies and policies are there; the next head extends the last."""
    async with site(tmp_path) as s:
        for i in range(300):
            await s.lookup(i)
        await s.log.activate("text", digest="sha256:" + "1" * 64, uid=0)
        old = await s.log.checkpoint()
    async with site(tmp_path) as s:
        assert await begin(s, 7) == Same(reply_of(7))
        await s.lookup(300)
        new = await s.log.checkpoint()
        assert old is not None
        assert new is not None
        first = open_checkpoint(old, LOG_KEY.public, name=ORIGIN)
        second = open_checkpoint(new, LOG_KEY.public, name=ORIGIN)
        path = await s.log.consistency(first.size, second.size)
    verify_consistency(
        old=first.size,
        new=second.size,
        path=path,
        old_root=first.root,
        new_root=second.root,
    )


async def test_a_head_is_signed_once_a_size(tmp_path: Path) -> None:
    """Nothing new, nothing signed, even when two ask at once."""
    async with site(tmp_path) as s:
        notes = await asyncio.gather(s.log.checkpoint(), s.log.checkpoint())
        assert [n is None for n in notes] == [False, True]
        assert await s.log.checkpoint() is None


async def test_every_record_is_proven_under_the_head(tmp_path: Path) -> None:
    """Inclusion for each of 300 records, over a tile's edge."""
    async with site(tmp_path) as s:
        await asyncio.gather(
            *(s.log.append(AdminAction(i, "x", None)) for i in range(299))
        )
        note = await s.log.checkpoint()
        assert note is not None
        head = open_checkpoint(note, LOG_KEY.public, name=ORIGIN)
        lines = await s.log.lines(0, 300)
        for n, line in enumerate(lines):
            verify_inclusion(
                leaf_hash(line.encode()),
                index=n,
                size=300,
                path=await s.log.inclusion(n, 300),
                root=head.root,
            )


async def test_a_batch_leaves_once(tmp_path: Path) -> None:
    """A second upload of the same batch is no second record."""
    async with site(tmp_path) as s:
        await asyncio.gather(s.log.batch_left(BATCH), s.log.batch_left(BATCH))
        await s.log.batch_left(replace(BATCH, seq=8))
    async with site(tmp_path) as s:
        await s.log.batch_left(BATCH)
        assert s.log.head().size == 4


async def test_two_manifests_of_one_identity_never_leave(tmp_path: Path) -> None:
    """An old copy of the state numbers anew what this log saw leave."""
    other = replace(BATCH, digest="sha256:" + "1" * 64)
    async with site(tmp_path) as s:
        await s.log.batch_left(BATCH)
        with pytest.raises(ChainMoved, match="1/7"):
            await s.log.batch_left(other)
        await s.log.batch_left(replace(other, epoch=2))
        assert s.log.trouble is None
        assert s.log.head().size == 3


async def test_a_policy_is_numbered_recorded_and_active(tmp_path: Path) -> None:
    """Row and record are one transaction; the newest counts after a restart."""
    async with site(tmp_path) as s:
        assert s.log.active() is None
        digest = "sha256:" + "1" * 64
        assert await s.log.activate("one", digest=digest, uid=7) == 1
        assert await s.log.activate("two", digest=digest, uid=7) == 2
        assert s.told[-1] == PolicyActivated(2, digest, 7)
    async with site(tmp_path) as s:
        active = s.log.active()
        assert active is not None
        assert (active.rev, active.text, active.uid) == (2, "two", 7)
        assert [p.rev for p in await s.log.history()] == [2, 1]


async def test_a_change_is_recorded_once(tmp_path: Path) -> None:
    """Also over a restart; going back is a change, too."""
    event = ConfigChanged("sha256:" + "1" * 64)
    async with site(tmp_path) as s:
        assert await s.log.changed("config", "one", event)
        assert not await s.log.changed("config", "one", event)
    async with site(tmp_path) as s:
        assert not await s.log.changed("config", "one", event)
        assert await s.log.changed("config", "two", event)
        assert await s.log.changed("config", "one", event)
        assert s.told == [AuditStarted("1.0", 0), event, event]


async def test_evidence_is_the_exact_messages(tmp_path: Path) -> None:
    """What was received and what was signed, byte for byte."""
    async with site(tmp_path) as s:
        n = await s.lookup(5)
        assert await s.log.evidence(n) == Evidence(request_of(5), reply_of(5))
        assert await s.log.evidence(0) is None


async def test_evidence_moved_to_another_record_is_damaged(tmp_path: Path) -> None:
    """A box opens only in its own place."""
    async with site(tmp_path) as s:
        one, two = await s.lookup(1), await s.lookup(2)
        with s.log._ledger._connection.transaction() as db:
            db.execute(
                "UPDATE evidence SET box = (SELECT box FROM evidence WHERE leaf = ?)"
                " WHERE leaf = ?",
                [one, two],
            )
        with pytest.raises(EvidenceDamaged):
            await s.log.evidence(two)


# --- erasing --------------------------------------------------------------------------


async def test_an_erased_day_says_no_more_and_the_tree_still_verifies(
    tmp_path: Path,
) -> None:
    """Key file, boxes and subjects are gone; records and proofs stay."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        n = await s.lookup(1)
        day = s.log.today()
        (before,) = await s.log.lines(n, n + 1)
        clock.at += timedelta(days=2)
        assert await s.log.erase(day, uid=5) == 1
        assert s.told[-1] == EvidenceErased(day, 5, 1)
        assert s.log.key_of(day) is None
        assert not (tmp_path / "evidence" / f"{day}.key").exists()
        assert await s.log.evidence(n) is None
        with pytest.raises(EvidenceGone):
            s.log.key_for(day)
        note = await s.log.checkpoint()
        assert note is not None
        head = open_checkpoint(note, LOG_KEY.public, name=ORIGIN)
        assert await s.log.lines(n, n + 1) == (before,)
        path = await s.log.inclusion(n, head.size)
    verify_inclusion(
        leaf_hash(before.encode()), index=n, size=head.size, path=path, root=head.root
    )


async def test_a_copied_ledger_without_the_key_is_unreadable(tmp_path: Path) -> None:
    """A backup of the database from before the erasure does not bring it back."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        n = await s.lookup(1)
        day = s.log.today()
    kept = {name: data for name, data in raw_files(tmp_path) if "lookup.db" in name}
    async with site(tmp_path, clock=clock) as s:
        clock.at += timedelta(days=2)
        await s.log.erase(day, uid=None)
    for name, data in kept.items():
        (tmp_path / name).write_bytes(data)
    async with site(tmp_path, clock=clock) as s:
        with pytest.raises(EvidenceGone):
            await s.log.evidence(n)


async def test_a_day_that_is_not_over_is_not_erased(tmp_path: Path) -> None:
    """Requests in flight and retries may still use its key."""
    async with site(tmp_path) as s:
        await s.lookup(1)
        with pytest.raises(UsageFault, match="can be erased from 2026-11-22T01"):
            await s.log.erase(s.log.today(), uid=0)
        assert s.log.key_of(s.log.today()) is not None


@pytest.mark.parametrize("day", ["", "2026-13-01", "../../x", "2026-1-1", "20261121"])
async def test_what_is_no_day_is_not_erased(tmp_path: Path, day: str) -> None:
    """Never a path, never a guess."""
    async with site(tmp_path) as s:
        with pytest.raises(UsageFault, match="expected a day"):
            await s.log.erase(day, uid=0)


async def test_a_day_is_erased_once(tmp_path: Path) -> None:
    """The second time says so, and records nothing."""
    async with site(tmp_path) as s:
        await s.log.erase("2026-11-01", uid=0)
        with pytest.raises(UsageFault, match="erased before"):
            await s.log.erase("2026-11-01", uid=0)
        assert s.log.head().size == 2


async def test_an_erasure_that_a_crash_cut_is_finished_at_start(tmp_path: Path) -> None:
    """The record is there, the key still is: the next start destroys it."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        await s.lookup(1)
        day = s.log.today()
        with s.log._ledger.writing() as tx:  # as if killed right after the record
            tx.add_erased(day, leaf=99)
    clock.at += timedelta(days=2)
    async with site(tmp_path, clock=clock) as s:
        assert not (tmp_path / "evidence" / f"{day}.key").exists()
        await s.log.purge(evidence_days=1000)
        assert s.log._ledger.days() == ()


async def test_old_evidence_is_erased_and_old_requests_forgotten(
    tmp_path: Path,
) -> None:
    """Retention: the day goes with a record; a jti that is forgotten is too late."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        await s.lookup(1)
        await begin(s, 2)
        day = s.log.today()
        clock.at += timedelta(seconds=170)
        await s.log.purge(evidence_days=3)
        assert await begin(s, 1) == Same(reply_of(1))
        clock.at += timedelta(days=5)
        await s.lookup(3)
        await s.log.purge(evidence_days=3)
        erased = [e for e in s.told if isinstance(e, EvidenceErased)]
        assert erased == [EvidenceErased(day, None, 1)]
        assert s.log._ledger.days() == (s.log.today(),)
        assert await begin(s, 1) == PAST
        assert await begin(s, 2) == OPEN  # never answered: recovery needs it
        await s.log.purge(evidence_days=3)
    async with site(tmp_path, clock=clock) as s:
        assert await begin(s, 1) == PAST


async def test_an_id_that_is_forgotten_is_in_no_file(tmp_path: Path) -> None:
    """Not in free pages of the ledger, not in its journal; one in use still is."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        await asyncio.gather(*(s.lookup(i) for i in range(1_200)))
        clock.at += timedelta(seconds=400)
        await begin(s, 5_000)
        before = b"".join(data for _, data in raw_files(tmp_path))
        await s.log.purge(evidence_days=3)
        after = b"".join(data for _, data in raw_files(tmp_path))
        size = (tmp_path / "lookup.db-wal").stat().st_size
        await s.log.append(AdminAction(0, "x", None))  # and it goes on
    ids = [jti_of(i).encode() for i in range(1_200)]
    assert all(jti in before for jti in ids)
    assert not [jti for jti in ids if jti in after]
    assert jti_of(5_000).encode() in after
    assert size == 0


# --- what is wrong --------------------------------------------------------------------


async def test_a_disk_that_is_full_stops_the_log(tmp_path: Path) -> None:
    """All who wait fail, nothing of it is seen, it is told once, nothing is tried."""
    async with site(tmp_path) as s:
        await s.log.checkpoint()
        with s.log._ledger._connection.transaction() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
        before = s.log.head()
        big = "x" * 100_000
        got = await asyncio.gather(
            *(s.log.append(AdminAction(0, big, None)) for _ in range(8)),
            return_exceptions=True,
        )
        assert {type(e) for e in got} == {AuditWriteFailed}
        with pytest.raises(AuditWriteFailed, match="no record since"):
            await s.log.append(AdminAction(0, "small", None))
        with pytest.raises(AuditWriteFailed):
            await s.log.checkpoint()
        assert s.log.head() == replace(before, stopped="audit-write-failed")
        assert [type(e) for e in s.told].count(AuditStopped) == 1
    async with site(tmp_path) as s:
        assert s.log.head().size == before.size + 1


async def test_a_log_that_finds_the_disk_full_writes_once_more_in_the_reserve(
    tmp_path: Path,
) -> None:
    """Each record once, in its place, and the tree is that of the records."""
    big, given_up = "x" * 100_000, []

    def give_up() -> None:
        given_up.append(True)
        with s.log._ledger._connection.transaction() as db:
            db.execute("PRAGMA max_page_count = 1000000")

    async with site(tmp_path, full=give_up) as s:
        with s.log._ledger._connection.transaction() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
        size = s.log.head().size
        late = s.log.batch_left(BATCH)
        got = await asyncio.gather(
            *(s.log.append(AdminAction(i, big, None)) for i in range(8)), late
        )
        assert got[:8] == list(range(size, size + 8))
        assert len(given_up) == 1
        assert [e.uid for e in s.told if isinstance(e, AdminAction)] == list(range(8))
        assert (s.log.head().size, s.log.trouble) == (size + 9, None)
        note = await s.log.checkpoint()
        assert note is not None
    async with site(tmp_path) as s:  # the tree is held against the head
        assert s.log.head().size == size + 10
        assert len(await s.log.lines(0, 100)) == size + 10


async def test_after_closing_nothing_is_written(tmp_path: Path) -> None:
    """A late record is refused, not lost in silence."""
    async with site(tmp_path) as s:
        pass
    with pytest.raises(AuditWriteFailed, match="closed"):
        await s.log.append(AdminAction(0, "late", None))


async def test_a_waiter_that_gave_up_changes_nothing(tmp_path: Path) -> None:
    """The record is written and told all the same."""
    async with site(tmp_path) as s:
        task = asyncio.create_task(s.log.append(AdminAction(0, "x", None)))
        await asyncio.sleep(0)
        task.cancel()
        await s.log.append(AdminAction(1, "y", None))
        assert [e.uid for e in s.told if isinstance(e, AdminAction)] == [0, 1]


async def test_the_ledger_of_another_node_is_refused(tmp_path: Path) -> None:
    """An origin has one log; a copied state folder is not taken over."""
    async with site(tmp_path) as s:
        s.log._ledger.meta("origin", "")
        with s.log._ledger.writing() as tx:
            tx.set_meta("origin", "11330100MB0000000C/fep-01/audit")
    with pytest.raises(AuditDamaged, match="expected 11330100MB0000000A"):
        async with site(tmp_path):
            pass


async def test_a_log_that_was_changed_below_its_head_does_not_start(
    tmp_path: Path,
) -> None:
    """A line edited in the database, tiles made anew: the head contradicts it."""
    async with site(tmp_path) as s:
        await asyncio.gather(*(s.lookup(i) for i in range(20)))
        await s.log.checkpoint()
        with s.log._ledger._connection.transaction() as db:
            db.execute(
                "UPDATE leaves SET line = replace(line, 'tax', 'vat') WHERE n = 3"
            )
    with pytest.raises(AuditDamaged, match="newest checkpoint"):
        async with site(tmp_path):
            pass


async def test_a_log_that_was_cut_below_its_head_does_not_start(tmp_path: Path) -> None:
    """Records removed at the end, the head left: it cannot be that log."""
    async with site(tmp_path) as s:
        await asyncio.gather(*(s.lookup(i) for i in range(20)))
        await s.log.checkpoint()
        with s.log._ledger._connection.transaction() as db:
            db.execute("DELETE FROM leaves WHERE n > 15")
    with pytest.raises(AuditDamaged):
        async with site(tmp_path):
            pass


async def test_damaged_tiles_are_made_anew(tmp_path: Path) -> None:
    """They are derived: lost or wrong, the lines give them back."""
    async with site(tmp_path) as s:
        await asyncio.gather(*(s.lookup(i) for i in range(600)))
        await s.log.checkpoint()
        root = s.log._commit.tree.root()
    for statement in (
        "DELETE FROM tiles WHERE number = 1",
        "UPDATE tiles SET hashes = zeroblob(8192) WHERE number = 0",
    ):
        async with site(tmp_path) as s:
            with s.log._ledger._connection.transaction() as db:
                db.execute(statement)
        async with site(tmp_path) as s:
            assert s.log._commit.tree.root(601) == root


async def test_a_cosignature_that_is_none_is_refused(tmp_path: Path) -> None:
    """Nothing else gets into the notes."""
    async with site(tmp_path) as s:
        await s.log.checkpoint()
        with pytest.raises(MalformedMessage):
            await s.log.cosigned(1, "hello\n")


async def test_a_new_audit_key_goes_on(tmp_path: Path) -> None:
    """The next head is signed by it; the old one stays as it is."""
    async with site(tmp_path) as s:
        await s.log.checkpoint()
    key = NoteKey.generate("audit")
    async with site(tmp_path, key=key) as s:
        note = await s.log.checkpoint()
        assert note is not None
        assert open_checkpoint(note, key.public, name=ORIGIN).size == 2


# --- canaries -------------------------------------------------------------------------

PERSONAL = ("110101199003070011", "张三丰", "王警官", "case:SECRET-77", "涉密事项甲")


async def test_no_personal_value_stands_in_any_file(tmp_path: Path) -> None:
    """Raw bytes of ledger, journal, keys and names hold none; nor do the events."""
    async with site(tmp_path) as s:
        day = s.log.today()
        key = s.log.key_for(day)
        event = _personal(key, day)
        await s.log.begin(CONSUMER, jti_of(1), digest=event.request, exp=EXP)
        await s.log.settle(
            CONSUMER,
            jti_of(1),
            event=event,
            request=request_of(1, "".join(PERSONAL)),
            reply=reply_of(1, "".join(PERSONAL)),
        )
        during = list(raw_files(tmp_path))
        said = repr(s.told) + repr([e.told() for e in s.told]) + repr(key)
    for name, data in [*during, *raw_files(tmp_path)]:
        for value in PERSONAL:
            assert value not in name
            assert value.encode() not in data, name
            assert value.encode("utf-16-le") not in data, name
    assert not [value for value in PERSONAL if value in said]


async def test_no_personal_value_stands_in_an_exception(tmp_path: Path) -> None:
    """Refusals of settle and evidence name numbers only."""
    async with site(tmp_path) as s:
        day = s.log.today()
        event = _personal(s.log.key_for(day), day)
        text = request_of(1, "".join(PERSONAL))
        with pytest.raises(InternalFault) as e:
            await s.log.settle(
                CONSUMER, jti_of(1), event=event, request=text, reply=text
            )
        said = "".join(traceback.format_exception(e.value)) + str(e.value.as_dict())
    assert not [value for value in PERSONAL if value in said]


def _personal(key: DayKey, day: str) -> LookupDecided:
    citizen, _name, officer, basis, matter = PERSONAL
    decision = jti_of(77)
    return decided(
        1,
        key,
        day=day,
        decision_id=decision,
        subjects=(key.subject(b"\x01\x00\x00\x00\x12" + citizen.encode()),),
        basis=key.commit(decision, "basis", basis),
        matter=key.commit(decision, "matter", matter),
        officer=key.commit(decision, "officer", officer),
    )


@pytest.mark.parametrize(
    ("ended", "boot", "whole"),
    [
        (True, "first", True),
        (True, "second", True),
        (True, "", True),
        (False, "first", True),
        (False, "second", False),
        (False, "", False),
    ],
)
async def test_a_log_is_whole_after_a_clean_end_or_in_the_same_boot(
    tmp_path: Path, ended: bool, boot: str, whole: bool
) -> None:
    """After a power cut, or where nobody knows, the last records may be missing."""
    folder = tmp_path / "cut"
    folder.mkdir()
    async with site(tmp_path / "state", boot="first") as s:
        assert s.log.whole, "a new log misses nothing"
        await s.lookup(1)
        for path in s.folder.glob("lookup.db*"):
            (folder / path.name).write_bytes(path.read_bytes())
    async with site(s.folder if ended else folder, boot=boot) as s:
        assert s.log.whole is whole
        assert s.log.head().size == 3
