# SPDX-License-Identifier: Apache-2.0
"""The witness: it cosigns what continues, and finds out what does not."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from agent.audit.events import AuditCosigned, RolledBack, WitnessTrouble
from agent.audit.witness import Pace
from agent.crypto.note import parse_note
from agent.crypto.notekey import NoteKey
from agent.errors import AuditRolledBack, ExchangeUnreachable, WitnessRefused
from tests.support.audit_log import WITNESS, WITNESS_KEY, WitnessDouble, site


async def test_a_head_is_cosigned_and_kept(tmp_path: Path) -> None:
    """The kept note has both signatures; nothing new is not offered again."""
    double = WitnessDouble()
    async with site(tmp_path) as s:
        witness = s.witness(double)
        await witness.round()
        await witness.round()
        assert (witness.state, witness.trouble, double.asked) == ("agrees", None, 2)
        assert s.told[-1] == AuditCosigned(1)
        (kept,) = await s.log.checkpoints()
        note = parse_note(kept.note + kept.cosignatures)
    assert note.verify_cosignature(WITNESS_KEY.public, name=WITNESS) == 1_795_248_001


async def test_the_log_grows_under_its_witness(tmp_path: Path) -> None:
    """Each head continues the last, over restarts."""
    double = WitnessDouble()
    for life in range(4):
        async with site(tmp_path) as s:
            witness = s.witness(double)
            await witness.round()
            await asyncio.gather(*(s.lookup(life * 100 + i) for i in range(100)))
            await witness.round()
            assert witness.state == "agrees"
    assert double.known.size == 404
    assert double.asked == 12


async def test_a_cosignature_lost_on_the_way_does_no_harm(tmp_path: Path) -> None:
    """The witness is ahead of what we know (409): the proof is made from there."""
    double = WitnessDouble()
    async with site(tmp_path) as s:
        await s.log.checkpoint()
        newest = s.log.newest()
        assert newest is not None
        double.judge(b"old 0\n\n" + newest.note.encode())
        await s.lookup(1)
        witness = s.witness(double)
        await witness.round()
        assert (witness.state, double.asked, double.known.size) == ("agrees", 3, 2)


async def test_an_old_copy_put_back_is_found_out(tmp_path: Path) -> None:
    """The witness knows more: recorded once, shown, never smoothed over."""
    double = WitnessDouble()
    async with site(tmp_path / "a") as s:
        await s.lookup(1)
    shutil.copytree(tmp_path / "a", tmp_path / "old")
    async with site(tmp_path / "a") as s:
        for i in range(2, 6):
            await s.lookup(i)
        await s.witness(double).round()
    async with site(tmp_path / "old") as s:
        witness = s.witness(double)
        await witness.round()
        await witness.round()
        assert witness.state == "beyond"
        assert isinstance(witness.trouble, AuditRolledBack)
        assert [e for e in s.told if isinstance(e, RolledBack)] == [RolledBack(3, 7)]


async def test_an_old_copy_that_has_grown_again_is_found_out(tmp_path: Path) -> None:
    """Longer than what the witness knows, but another history (422)."""
    double = WitnessDouble()
    async with site(tmp_path / "a") as s:
        await s.lookup(1)
    shutil.copytree(tmp_path / "a", tmp_path / "old")
    async with site(tmp_path / "a") as s:
        await s.lookup(2)
        await s.witness(double).round()
    async with site(tmp_path / "old") as s:
        for i in range(10, 20):
            await s.lookup(i)
        witness = s.witness(double)
        await witness.round()
        assert witness.state == "beyond"
        assert isinstance(witness.trouble, AuditRolledBack)


async def test_two_histories_of_one_length_are_found_out(tmp_path: Path) -> None:
    """The same size with another root (409 with our own size)."""
    double = WitnessDouble()
    async with site(tmp_path / "a") as s:
        await s.lookup(1)
        await s.witness(double).round()
    async with site(tmp_path / "b") as s:
        await s.lookup(2)
        witness = s.witness(double)
        await witness.round()
        assert witness.state == "beyond"


@pytest.mark.parametrize("lost", [False, True])
async def test_a_log_put_back_signs_no_second_root_of_one_size(
    tmp_path: Path, lost: bool
) -> None:
    """An old copy, or none: it asks with what it signed before, and stops there."""
    double = WitnessDouble()
    async with site(tmp_path / "a") as s:
        await s.lookup(1)
        await s.witness(double).round()
    if not lost:
        shutil.copytree(tmp_path / "a", tmp_path / "old")
    async with site(tmp_path / "a") as s:
        await s.lookup(2)
        await s.witness(double).round()
        signed = [c.note for c in await s.log.checkpoints()]
    async with site(tmp_path / "old") as s:
        await s.lookup(3)
        witness = s.witness(double)
        for _ in range(3):
            await witness.round()
            await s.lookup(100 + s.log.head().size)
        assert [c.note for c in await s.log.checkpoints()] == signed[: 1 - lost]
        assert (witness.state, witness.barred) == ("beyond", witness.trouble)
        assert isinstance(witness.barred, AuditRolledBack)


async def test_nothing_is_signed_before_the_witness_is_met(tmp_path: Path) -> None:
    """If it was away at the start, it is asked with the last life's head again."""
    double = WitnessDouble()
    async with site(tmp_path) as s:
        await s.witness(double).round()
    async with site(tmp_path) as s:
        witness = s.witness(double)
        double.answers = [ExchangeUnreachable("no line")]
        await witness.round()
        assert (s.log.head().size, s.log.head().checkpoint) == (2, 1)
        assert (witness.state, witness.barred) == ("unknown", None)
        await witness.round()
        assert (witness.state, s.log.head().checkpoint) == ("agrees", 2)


async def test_many_records_do_not_hurry_while_the_witness_is_away(
    tmp_path: Path,
) -> None:
    """It is asked at the usual pace, however much waits to be signed."""
    slept: list[float] = []
    double = WitnessDouble(answers=[ExchangeUnreachable("no line")] * 3)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 8:
            raise asyncio.CancelledError

    async with site(tmp_path) as s:
        for i in range(5):
            await s.lookup(i)
        with pytest.raises(asyncio.CancelledError):
            await s.witness(double).serve(Pace(every_s=4, records=2), sleep=sleep)
    assert double.asked == 2


async def test_a_witness_that_is_away_delays_nothing(tmp_path: Path) -> None:
    """It is told once; when it is back the trouble is over."""
    away = ExchangeUnreachable("no line")
    double = WitnessDouble(answers=[away, away])
    async with site(tmp_path) as s:
        witness = s.witness(double)
        await witness.round()
        await witness.round()
        assert (witness.state, witness.trouble) == ("unknown", away)
        assert [e for e in s.told if isinstance(e, WitnessTrouble)] == [
            WitnessTrouble("exchange-unreachable", "no line")
        ]
        await s.lookup(1)
        await witness.round()
        assert (witness.state, witness.trouble) == ("agrees", None)


@pytest.mark.parametrize(
    "answer",
    [
        (403, ""),
        (404, ""),
        (500, "oops"),
        (200, ""),
        (200, "hello\n"),
        (200, "\u2014 yunxi.exchange/witness AAAAAAAAAA==\n"),
        (409, "many"),
        (409, "-1"),
        (409, ""),
    ],
)
async def test_an_answer_that_is_none_is_trouble(
    tmp_path: Path, answer: tuple[int, str]
) -> None:
    """Nothing of it is kept; the log goes on."""
    double = WitnessDouble(answers=[answer])
    async with site(tmp_path) as s:
        witness = s.witness(double)
        await witness.round()
        assert witness.trouble is not None
        assert s.log.head().cosigned == 0
        await s.lookup(1)


async def test_a_cosignature_by_another_key_does_not_count(tmp_path: Path) -> None:
    """Only keys of the directory do."""
    double = WitnessDouble(key=NoteKey.generate("witness"))
    async with site(tmp_path) as s:
        witness = s.witness(double)
        await witness.round()
        assert witness.state == "unknown"
        assert s.log.head().cosigned == 0


async def test_a_witness_that_names_ever_other_sizes_is_left(tmp_path: Path) -> None:
    """Three offers a round, no more."""
    double = WitnessDouble()
    async with site(tmp_path) as s:
        for i in range(5):
            await s.lookup(i)
        witness = s.witness(double)
        await witness.round()
        await s.lookup(5)
        double.answers = [(409, "1"), (409, "2"), (409, "3"), (409, "4")]
        double.asked = 0
        await witness.round()
        assert isinstance(witness.trouble, WitnessRefused)
        assert double.asked == 3


async def test_it_turns_by_time_or_by_records(tmp_path: Path) -> None:
    """At once, after every_s seconds, and sooner when many records are new."""
    double, slept = WitnessDouble(), []

    async with site(tmp_path) as s:

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) in (2, 3):
                for i in range(6):
                    await s.lookup(len(slept) * 100 + i)
            if len(slept) == 8:
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await s.witness(double).serve(Pace(every_s=4, records=10), sleep=sleep)
        # at once; after 3 s by records; after 4 s there is nothing new to offer
        sizes = [c.size for c in await s.log.checkpoints()]
    assert sizes == [1, 13]
    assert double.asked == 3


async def test_a_head_of_an_earlier_key_is_signed_again_word_for_word(
    tmp_path: Path,
) -> None:
    """After a change of keys the witness takes no signature of the old one."""
    double = WitnessDouble()
    fresh = NoteKey.generate("audit")
    async with site(tmp_path) as s:
        await s.lookup(1)
        witness = s.witness(double)
        await s.log.checkpoint()
        s.log.use_key(fresh)
        double.log_key = fresh
        await witness.round()
        assert (witness.state, witness.trouble) == ("agrees", None)
        await s.lookup(2)
        await witness.round()
        assert (witness.state, witness.trouble) == ("agrees", None)
        first, *_ = await s.log.checkpoints()
    assert first.cosignatures
