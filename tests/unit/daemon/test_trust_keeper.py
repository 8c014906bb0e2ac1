# SPDX-License-Identifier: Apache-2.0
"""The loop that keeps the city's repository fresh: when it looks, whom it tells."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.audit.events import Event, TrustTrouble, TrustVerified
from agent.control.directory import TrustedDirectory
from agent.control.trust import Trust, Verified
from agent.control.trust_fetch import Address
from agent.daemon.trust import MIN_S, PERIOD_S, TrustKeeper, Visits, Waits
from agent.errors import ExchangeUnreachable, FepError, TrustRefused

AT = datetime(2026, 11, 22, tzinfo=UTC)


def verified(version: int) -> Verified:
    versions = dict.fromkeys(("root", "timestamp", "snapshot", "targets"), version)
    return Verified(versions, {"limits.json": b"{}"}, {}, AT)


class Answers(Trust):
    """A trust that says what a list says."""

    def __init__(self, *answers: Verified | FepError, kept: Verified | None) -> None:
        self.answers = list(answers)
        self.was_kept = kept

    def refresh(self) -> Verified:
        found = self.answers.pop(0)
        if isinstance(found, FepError):
            raise found
        return found

    def kept(self) -> Verified | None:
        return self.was_kept


class Life:
    """A keeper, and what it told and heard."""

    def __init__(
        self, folder: Path, *answers: Verified | FepError, kept: Verified | None = None
    ) -> None:
        self.told: list[Event] = []
        self.heard: list[int] = []
        self.slept: list[float] = []
        self.looks = len(answers)
        self.trust = Answers(*answers, kept=kept)
        visits = Visits(lambda: Address("https://x/tuf", None), None)
        self.keeper = TrustKeeper(
            self.trust,
            visits,
            self.told.append,
            Waits(self.sleep, lambda _, high: high),
        )
        self.keeper.listen(self.listener)
        self.directory = TrustedDirectory(folder / "d.jws", aud="x", kid="k" * 43)

    async def listener(self, found: Verified) -> None:
        self.heard.append(found.versions["timestamp"])

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.keeper.wanted.set()
        if not self.trust.answers:
            await asyncio.Event().wait()  # enough was seen

    async def all_answers(self) -> None:
        task = asyncio.create_task(self.keeper.forever())
        async with asyncio.timeout(60):
            while self.trust.answers or len(self.slept) < self.looks:
                await asyncio.wait([task], timeout=0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_who_listens_hears_each_change_once(tmp_path: Path) -> None:
    """The same again is no change; a nudge is obeyed after a pause, not at once."""
    life = Life(tmp_path, verified(1), verified(1), verified(2), kept=verified(1))
    await life.keeper.begin(life.directory)
    await life.all_answers()
    assert life.heard == [1, 2]
    assert life.told == [TrustVerified(1, 1, 1, 1), TrustVerified(2, 2, 2, 2)]
    assert life.slept == [MIN_S] * 3
    assert life.directory.wanted.is_set()


async def test_a_trouble_is_told_once_while_it_lasts(tmp_path: Path) -> None:
    """Not each look; again after it was good."""
    cut = ExchangeUnreachable("cut")
    life = Life(
        tmp_path, cut, cut, TrustRefused("bad"), verified(1), cut, kept=verified(1)
    )
    await life.keeper.begin(life.directory)
    await life.all_answers()
    said = [one.code for one in life.told if isinstance(one, TrustTrouble)]
    assert said == ["exchange-unreachable", "trust-refused", "exchange-unreachable"]


async def test_a_first_life_looks_before_anybody_relies_on_it(tmp_path: Path) -> None:
    """With nothing kept there is no directory to judge by."""
    life = Life(tmp_path, verified(1), verified(1))
    await life.keeper.begin(life.directory)
    assert life.heard == [1]
    assert life.keeper.agreement.age_s < float("inf")
    late: list[int] = []

    async def latecomer(found: Verified) -> None:
        late.append(found.versions["root"])

    life.looks = 1
    life.keeper.listen(latecomer)  # made after the first look: it hears at the next
    await life.all_answers()
    assert late == [1]


async def test_what_the_directory_asked_for_is_heard_from_the_loop(
    tmp_path: Path,
) -> None:
    """Who applies a configuration may need the directory: nobody waits for himself."""
    life = Life(tmp_path, verified(1), verified(1), kept=verified(1))
    await life.keeper.begin(life.directory)
    life.keeper.wanted.clear()
    assert life.directory.city is not None
    await life.directory.city.again()
    assert life.heard == []
    assert life.keeper.wanted.is_set()
    life.looks = 1
    await life.all_answers()
    assert life.heard == [1]


def test_three_looks_fit_into_the_age_of_a_directory() -> None:
    """One that fails, and one more, stop no lookup."""
    assert 3 * PERIOD_S * 1.2 < 900
