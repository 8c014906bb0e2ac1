# SPDX-License-Identifier: Apache-2.0
"""The heart: what a beat tells, when it comes, and what its answer may do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.audit.events import Event, HeartbeatRefused, HeartbeatTaken
from agent.control.heartbeat import Heart, Outlet, Rhythm, Standing, beat
from agent.crypto.jose import PrivateKey, split, verify
from agent.errors import (
    CloneSuspected,
    ExchangeRefused,
    ExchangeUnreachable,
    FepError,
    SpoolWriteFailed,
)
from agent.wire import heartbeat as wire
from agent.wire.heartbeat import CAP, ConfigStand, Heartbeat
from tests.support import beats

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STANDING = Standing(beats.FIRST, ConfigStand(None, beats.RUNNING))
KEY = PrivateKey.generate("sign")


def resource(number: int, **changes: Any) -> dict[str, Any]:
    """A resource of the status."""
    return {
        "resource": f"101001/{number:06d}",
        "state": "idle",
        "trouble": None,
        "waiting": {"batches": 1, "bytes": 10},
    } | changes


def troubled(number: int, since: str) -> dict[str, Any]:
    return resource(
        number, state="trouble", trouble={"code": "source-login", "since": since}
    )


def status(*resources: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What ``fep status`` shows, as far as a beat tells it."""
    return {
        "agent": {"node": beats.NODE, "version": "0.1.0", "certificate_days": 42},
        "exchange": {"aud": "yunxi.exchange", "clock_offset_s": -1.5},
        "spool": {"used": 1, "quota": 2, "free": 3, "blocked": False},
        "lookups": {"audit": {"size": 9}},
        "troubles": [],
        "resources": list(resources),
    } | changes


class World:
    """An exchange that answers as told, and a clock that does not wait."""

    def __init__(self, answer: Callable[[], bytes] | Exception) -> None:
        self.answer: Callable[[], bytes] | Exception = answer
        self.sent: list[str] = []
        self.told: list[Event] = []
        self.refreshed: list[frozenset[str]] = []
        self.heard: list[FepError | None] = []
        self.pauses: list[float] = []
        self.number = 0
        self.fault: Exception | None = None
        self.heart = Heart(
            self.make,
            KEY,
            Outlet(self.send, self.refresh, self.told.append, self.heard.append),
            Rhythm(lambda: 60.0, lambda: NOW, self.sleep, lambda low, high: high),
        )

    def make(self) -> Heartbeat:
        if self.fault is not None:
            raise self.fault
        self.number += 1
        return beats.beat(self.number)

    async def send(self, text: str) -> bytes:
        self.sent.append(text)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer()

    def refresh(self, wanted: frozenset[str]) -> None:
        self.refreshed.append(wanted)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) > 3:
            raise asyncio.CancelledError


def well() -> bytes:
    return wire.answer(())


def refused(problem: str) -> ExchangeRefused:
    return ExchangeRefused("said the exchange", problem=problem)


# --- what it tells ------------------------------------------------------------------


def test_beat_tells_what_status_shows() -> None:
    """Numbers, codes and times of the status, and nothing else of it."""
    found = beat(
        status(resource(1), troubled(2, "2026-11-21T07:00:00Z")),
        STANDING,
        n=5,
        now=NOW,
    )
    assert (found.iss, found.n, found.iat) == (beats.NODE, 5, int(NOW.timestamp()))
    assert (found.totals.streams, found.totals.stuck) == (2, 1)
    assert (found.totals.batches, found.totals.bytes) == (2, 20)
    assert (found.clock_offset_ms, found.certificate_days) == (-1500, 42)
    assert (found.audit_size, found.config.running) == (9, beats.RUNNING)
    assert wire.parse(found.payload()) == found


def test_the_worst_streams_come_first_and_a_full_beat_fits() -> None:
    """Of 100 streams 20 are told: those stuck, the longest first; it fits the cap."""
    shown = [resource(i) for i in range(95)]
    shown += [troubled(200 + i, f"2026-11-21T0{i}:00:00Z") for i in range(5)]
    found = beat(status(*reversed(shown)), STANDING, n=1, now=NOW)
    assert [s.resource for s in found.worst][:5] == [
        f"101001/{200 + i:06d}" for i in range(5)
    ]
    assert len(found.worst) == 20
    assert (found.totals.streams, found.totals.stuck) == (100, 5)
    assert len(KEY.sign(wire.TYP, found.payload())) < CAP


# --- when and how ------------------------------------------------------------------


async def test_beats_come_at_their_pause_with_jitter() -> None:
    """The first soon, then every minute, give or take a tenth."""
    world = World(well)
    with pytest.raises(asyncio.CancelledError):
        await world.heart.forever()
    assert world.pauses[0] <= 5.0
    assert world.pauses[1:] == [pytest.approx(66.0)] * 3
    assert len(world.sent) == 3
    message = verify(split(world.sent[1], cap=CAP), KEY.public, typ=wire.TYP)
    assert wire.parse(message.payload).n == 2


async def test_answer_says_what_to_fetch() -> None:
    """The names go on as they came; nothing else can come of them."""
    world = World(lambda: wire.answer(("directory",)))
    await world.heart.once()
    world.answer = lambda: wire.answer(("config", "x"))
    await world.heart.once()
    assert world.refreshed == [frozenset({"directory"}), frozenset({"config", "x"})]


async def test_whoever_listens_hears_of_every_beat() -> None:
    """Taken, refused, cut, and one that could not be made."""
    world = World(well)
    await world.heart.once()
    for error in (refused("held"), ExchangeUnreachable("cut"), TimeoutError()):
        world.answer = error
        await world.heart.once()
    world.fault = SpoolWriteFailed("full")
    await world.heart.once()
    heard = [None if e is None else e.code for e in world.heard]
    away = "exchange-unreachable"
    assert heard == [None, "exchange-refused", away, away, "spool-write-failed"]


async def test_exchange_that_is_away_is_not_told_here() -> None:
    """The flow tells it; the next beat comes."""
    world = World(ExchangeUnreachable("cut"))
    await world.heart.once()
    assert (world.told, world.heart.trouble) == ([], None)


async def test_second_machine_is_shown_until_a_beat_is_taken() -> None:
    """``held`` and ``fork`` mean a clone: told once, shown, and over when it is."""
    world = World(refused("held"))
    await world.heart.once()
    first = world.heart.trouble
    await world.heart.once()
    assert isinstance(first, CloneSuspected)
    assert world.heart.trouble is first
    assert [type(e) for e in world.told] == [HeartbeatRefused]
    world.answer = well
    await world.heart.once()
    assert world.heart.trouble is None
    assert [type(e) for e in world.told] == [HeartbeatRefused, HeartbeatTaken]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (refused("not-found"), "not-found"),
        (KeyError("a defect"), "internal"),
    ],
    ids=["an older exchange", "a defect"],
)
async def test_beat_that_fails_ends_nothing(fault: Exception, code: str) -> None:
    """It is told once, and no trouble of the node."""
    world = World(fault)
    await world.heart.once()
    await world.heart.once()
    (told,) = world.told
    assert isinstance(told, HeartbeatRefused)
    assert (told.code, world.heart.trouble) == (code, None)


async def test_full_disk_keeps_a_beat_back_and_nothing_else() -> None:
    """No number can be reserved: the beat is left out."""
    world = World(well)
    world.fault = SpoolWriteFailed("full")
    await world.heart.once()
    assert (world.sent, len(world.told)) == ([], 1)
    world.fault = None
    await world.heart.once()
    assert len(world.sent) == 1
