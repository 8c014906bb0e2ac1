# SPDX-License-Identifier: Apache-2.0
"""What people ask of the log: bounded, newest first, evidence only on record."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import AdminAction
from agent.audit.leaf import CAP, line, read, tail
from agent.crypto.note import parse_note, parse_tlog_proof
from agent.errors import AuditDamaged, EvidenceGone, RecordUnknown, UsageFault
from tests.support.audit_log import (
    CONSUMER,
    NODE,
    WITNESS,
    WITNESS_KEY,
    Clock,
    WitnessDouble,
    exported,
    frames_of,
    reply_of,
    request_of,
    site,
)


def numbers(body: dict[str, Any]) -> list[int]:
    """Numbers of the records of an answer."""
    return [r["n"] for r in body["records"]]


async def test_the_newest_records_come_first(tmp_path: Path) -> None:
    """Page by page, none twice, until there are no more."""
    async with site(tmp_path) as s:
        for i in range(7):
            await s.lookup(i)
        desk = s.desk()
        seen: list[int] = []
        query: dict[str, Any] = {"limit": 3}
        while query.get("before", 1) is not None:
            body = await desk.search(query)
            seen += numbers(body)
            query["before"] = body["next"]
    assert seen == [7, 6, 5, 4, 3, 2, 1, 0]


async def test_a_subject_is_found_by_its_key_alone(tmp_path: Path) -> None:
    """Over days, each with a key of its own; an erased day finds nothing."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        desk = s.desk()
        query = {"resource": "101001/000001", "keys": {"id": "7"}}
        first, day = await s.lookup(7), s.log.today()
        await s.lookup(8)
        clock.at += timedelta(days=1)
        key = s.log.key_for(s.log.today())
        again = await s.lookup(9, subjects=(key.subject(frames_of(7)),))
        assert numbers(await desk.search(query)) == [again, first]
        clock.at += timedelta(days=1)
        await s.log.erase(day, uid=0)
        assert numbers(await desk.search(query)) == [again]


async def test_records_are_found_by_kind_consumer_resource_and_time(
    tmp_path: Path,
) -> None:
    """Each alone, and together."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        desk = s.desk()
        await s.lookup(1)
        clock.at += timedelta(hours=1)
        middle = f"{clock.at:%Y-%m-%dT%H:%M:%SZ}"
        await s.lookup(2, consumer=NODE, resource="101001/000002")
        await s.log.append(AdminAction(0, "pause", "101001/000002"))
        for query, wanted in (
            ({"kind": "lookup.decided"}, [2, 1]),
            ({"consumer": CONSUMER}, [1]),
            ({"resource": "101001/000002"}, [3, 2]),
            ({"since": middle}, [3, 2]),
            ({"until": middle}, [1, 0]),
            ({"since": middle, "kind": "admin.action"}, [3]),
            ({"kind": "nothing"}, []),
        ):
            assert numbers(await desk.search(query)) == wanted, query


@pytest.mark.parametrize(
    "query",
    [
        {"kind": 1},
        {"kind": ""},
        {"kind": 'a"b'},
        {"kind": "x" * 200},
        {"since": "yesterday"},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "5"},
        {"before": -1},
        {"keys": {"id": "7"}},
        {"keys": [], "resource": "1/1"},
        {"keys": {}, "resource": "1/1"},
        {"keys": {"id": 7}, "resource": "1/1"},
    ],
)
async def test_a_question_that_makes_no_sense_is_told(
    tmp_path: Path, query: dict[str, Any]
) -> None:
    """The member is named; no value is repeated."""
    async with site(tmp_path) as s:
        with pytest.raises(UsageFault, match=r"kind|since|limit|before|keys"):
            await s.desk().search(query)


async def test_a_long_search_says_where_to_go_on(tmp_path: Path) -> None:
    """It looks at so many records and no more, so that lookups are not held up."""
    async with site(tmp_path) as s:
        for i in range(9):
            await s.lookup(i)
        desk = s.desk(looked_at=5)
        body = await desk.search({"kind": "audit.started"})
        assert body == {"records": [], "next": 5}
        body = await desk.search({"kind": "audit.started", "before": 5})
        assert (numbers(body), body["next"]) == ([0], None)


async def test_a_proof_has_both_signatures(tmp_path: Path) -> None:
    """It is made under the first head that the witness signed too."""
    async with site(tmp_path) as s:
        double = WitnessDouble()
        n = await s.lookup(1)
        early = await s.desk(double).prove(n)
        assert not early["cosigned"]
        await s.lookup(2)
        await s.witness(double).round()
        body = await s.desk(double).prove(n)
        (wanted,) = await s.log.lines(n, n + 1)
    assert body["cosigned"]
    assert body["line"] == wanted
    proof = parse_tlog_proof(body["proof"])
    assert proof.index == n
    note = parse_note(proof.checkpoint)
    assert note.verify_cosignature(WITNESS_KEY.public, name=WITNESS)


@pytest.mark.parametrize("n", [-1, 1, 10**15])
async def test_a_record_that_is_not_there_is_told(tmp_path: Path, n: int) -> None:
    """With how many there are."""
    async with site(tmp_path) as s:
        with pytest.raises(RecordUnknown):
            await s.desk().prove(n)
        with pytest.raises(RecordUnknown):
            await s.desk().evidence(n, uid=0)
        assert s.log.head().size == 1


async def test_seeing_evidence_is_recorded_first(tmp_path: Path) -> None:
    """Who and which, also when there is none."""
    async with site(tmp_path) as s:
        n = await s.lookup(3)
        body = await s.desk().evidence(n, uid=1001)
        assert body == {"n": n, "request": request_of(3), "reply": reply_of(3)}
        assert s.told[-1] == AdminAction(1001, f"audit evidence {n}", None)
        with pytest.raises(EvidenceGone):
            await s.desk().evidence(0, uid=1001)
        assert s.told[-1] == AdminAction(1001, "audit evidence 0", None)


async def test_a_day_is_erased_over_the_desk(tmp_path: Path) -> None:
    """How many records had evidence."""
    clock = Clock()
    async with site(tmp_path, clock=clock) as s:
        await s.lookup(1)
        day = s.log.today()
        clock.at += timedelta(days=2)
        assert await s.desk().erase(day, uid=3) == {"day": day, "records": 1}


async def test_an_export_of_an_empty_log_is_refused(tmp_path: Path) -> None:
    """Every started log has a record; an answer is due all the same."""
    async with site(tmp_path) as s:
        s.log._newest = None
        await s.log.checkpoint()
        s.log._newest = None
        with pytest.raises(RecordUnknown):
            await s.desk().export({})


async def test_a_head_that_may_not_be_signed_yet_is_no_export(tmp_path: Path) -> None:
    """Before the witness has agreed an export ends where the last life signed."""
    async with site(tmp_path) as s:
        with pytest.raises(RecordUnknown, match="no signed head"):
            await s.desk(signing=False).export({})
        await s.desk().export({})
        await s.lookup(1)
        desk = s.desk(signing=False)
        assert (await desk.export({}))["size"] == 1
        with pytest.raises(RecordUnknown, match="1 signed records"):
            await desk.prove(1)
        assert (await s.desk().prove(1))["n"] == 1


async def test_an_export_from_a_day_on_begins_at_its_file(tmp_path: Path) -> None:
    """Its first record is told; small logs have one file, so all is there."""
    clock = Clock()
    async with site(tmp_path / "state", clock=clock) as s:
        await s.lookup(1)
        clock.at += timedelta(days=5)
        since = f"{clock.at:%Y-%m-%dT%H:%M:%SZ}"
        await s.lookup(2)
        head = await s.desk().export({"since": since})
        assert head["first"] == 2
        body = await exported(s.desk(), tmp_path / "out", since)
    assert body["first"] == 0
    lines = (tmp_path / "out" / "leaves-00000.jsonl").read_text().splitlines()
    assert [json.loads(text)["n"] for text in lines] == [0, 1, 2]


async def test_a_page_of_large_records_is_bounded(tmp_path: Path) -> None:
    """Every record is given, some at a time."""
    async with site(tmp_path) as s:
        for i in range(40):
            await s.log.append(AdminAction(i, "x" * 250_000, None))
        desk = s.desk()
        first = await desk.leaves(0, size=41)
        second = await desk.leaves(first["next"], size=41)
    pages = [sum(map(len, body["lines"])) for body in (first, second)]
    assert max(pages) <= 8 * 1024 * 1024
    assert len(first["lines"]) + len(second["lines"]) == 41
    assert second["next"] is None


def test_a_record_has_a_bound() -> None:
    """A defect that would write megabytes is stopped before the log is."""
    with pytest.raises(ValueError, match="expected a record below"):
        tail(AdminAction(0, "x" * CAP, None))


@pytest.mark.parametrize("value", [object(), float("nan"), b"x"])
def test_what_has_no_place_in_json_is_no_record(value: Any) -> None:
    """It is refused before anything waits on it."""
    with pytest.raises((TypeError, ValueError)):
        tail(AdminAction(value, "x", None))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v":1,"n":6}', '{"v":2,"n":5}'])
def test_a_line_that_is_no_record_is_damage(text: str) -> None:
    """The number is named, the text is not."""
    with pytest.raises(AuditDamaged, match="record 5"):
        read(5, text)


def test_a_line_is_compact_and_in_order() -> None:
    """v, n, at, kind, then the fields; Chinese as it is."""
    text = line(7, "2026-11-21T08:00:00Z", tail(AdminAction(0, "停", None)))
    assert text == (
        '{"v":1,"n":7,"at":"2026-11-21T08:00:00Z","kind":"admin.action",'
        '"uid":0,"action":"停","resource":null}'
    )
