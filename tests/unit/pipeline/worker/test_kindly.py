# SPDX-License-Identifier: Apache-2.0
"""How a run holds back, by a clock that moves only when it rests or reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agent.model.job import Message, Slowed, decode, encode
from agent.model.pacing import Bounds, Pacing, Rate
from agent.pipeline.worker.kindly import LEAST, WELL_LOOKS, Ease, Kindly, beyond
from connectors.contract import Health, SourceError
from tests.support.fake_source import FakeConnector, job

BAD = ("lock_waits=9>5",)


@dataclass
class World:
    """A clock, and a local time that goes with it."""

    at: float = 1000.0
    local: datetime = datetime(2026, 11, 21, 12, 0)  # noqa: DTZ001 - a time of day
    beats: int = 0

    def rest(self, seconds: float) -> bool:
        self.at += seconds
        return False

    def beat(self) -> None:
        self.beats += 1

    def kindly(self, pacing: Pacing | None, **changes: Any) -> Kindly:
        return Kindly(
            job("", pacing=pacing),
            **{
                "tell": lambda _message: None,
                "beat": self.beat,
                "clock": lambda: self.at,
                "now": lambda _zone: self.local,
                "rest": self.rest,
                **changes,
            },
        )

    def seconds(self, kindly: Kindly, *, pages: int, rows: int, size: int = 1) -> float:
        """How long so many pages take that are read in 0.1 s each."""
        began = self.at
        for _ in range(pages):
            self.at += 0.1
            kindly.hold(rows, size)
        return self.at - began


@pytest.fixture
def world() -> World:
    return World()


def test_without_a_limit_nothing_waits(world: World) -> None:
    """Pages of a source that is well and has no limit follow each other at once."""
    for pacing in (None, Pacing("hr")):
        taken = world.seconds(world.kindly(pacing), pages=10, rows=10**6, size=10**9)
        assert taken == pytest.approx(1.0)


@pytest.mark.parametrize("rows", [1, 250, 10_000])
def test_the_limit_of_rows_holds_whatever_a_page_holds(world: World, rows: int) -> None:
    """1,000 rows a second take their time, the time of reading included."""
    kindly = world.kindly(Pacing("hr", Rate(rows=1000)))

    taken = world.seconds(kindly, pages=20, rows=rows)

    assert taken == pytest.approx(max(20 * rows / 1000, 2.0), rel=0.06)


def test_the_limit_of_bytes_holds(world: World) -> None:
    """2 MB a second, in pages of 1 MB; the limit that waits longer counts."""
    kindly = world.kindly(Pacing("hr", Rate(rows=10**6, bytes=2e6)))

    taken = world.seconds(kindly, pages=20, rows=10, size=1_000_000)

    assert taken == pytest.approx(10.0, rel=0.03)


def test_another_limit_within_the_window(world: World) -> None:
    """At night four times as much; the edge is noticed in the middle of a wait."""
    pacing = Pacing("hr", Rate(100), Rate(400), windows=("20:00-06:00",))
    kindly = world.kindly(pacing)

    day = world.seconds(kindly, pages=10, rows=100)
    world.local = datetime(2026, 11, 21, 23, 0)  # noqa: DTZ001
    night = world.seconds(kindly, pages=10, rows=100)

    assert day / night == pytest.approx(4.0, rel=0.1)


def test_a_window_that_opens_ends_the_wait(world: World) -> None:
    """A debt of an hour is forgotten when the window without a limit opens."""
    kindly = world.kindly(Pacing("hr", Rate(1), windows=("20:00-06:00",)))

    def rest(seconds: float) -> bool:
        world.at += seconds
        if world.at > 1010:
            world.local = datetime(2026, 11, 21, 20, 0)  # noqa: DTZ001
        return False

    kindly = world.kindly(Pacing("hr", Rate(1), windows=("20:00-06:00",)), rest=rest)
    assert world.seconds(kindly, pages=1, rows=3600) == pytest.approx(10.3, abs=0.5)


def test_the_daemon_hears_of_a_long_wait(world: World) -> None:
    """A wait of a minute beats more than once a second: silence kills a worker."""
    world.seconds(world.kindly(Pacing("hr", Rate(100))), pages=1, rows=6000)
    assert world.beats > 60


def test_a_run_that_is_over_waits_no_longer(world: World) -> None:
    """stop() ends the wait of a debt of a year."""
    kindly = Kindly(job("", pacing=Pacing("hr", Rate(1))), tell=lambda _m: None)
    waiting = threading.Thread(target=kindly.hold, args=(10**7, 1))
    waiting.start()
    kindly.stop()
    waiting.join(5)
    assert not waiting.is_alive()


def test_unwell_by_halves_and_well_by_doubles() -> None:
    """Each bad look halves the speed to a sixteenth; two good ones double it."""
    ease = Ease()
    down = [ease.share for _ in range(6) if ease.look(BAD) or True]
    assert down == [1 / 2, 1 / 4, 1 / 8, 1 / 16, LEAST, LEAST]
    assert ease.reasons == BAD
    looks = 0
    while ease.share < 1:
        ease.look(())
        looks += 1
    assert (looks, ease.reasons) == (4 * WELL_LOOKS, ())


def test_one_good_look_between_bad_ones_changes_nothing() -> None:
    """A server that is unwell every other look is not sped up and down again."""
    ease = Ease()
    ease.look(BAD)
    assert [ease.look(reasons) for reasons in ((), BAD, (), BAD, ())] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert ease.share == 1 / 8


def test_only_what_has_a_bound_is_beyond_it() -> None:
    """A bound of 0 is not looked at; what nobody can see is no reason."""
    sick = Health(busy=0.9, lock_waits=12, replica_lag_s=100.0)
    assert beyond(sick, Bounds()) == ()
    assert beyond(Health(), Bounds(0.5, 5, 60.0)) == ()
    assert beyond(sick, Bounds(0.5, 5, 60.0)) == (
        "busy=0.9>0.5",
        "lock_waits=12>5",
        "replica_lag_s=100>60",
    )


@dataclass
class Feeling(FakeConnector):
    """Says what it is told to say, look after look; then it is well."""

    says: list[Health | Exception] = field(default_factory=list)
    said: threading.Event = field(default_factory=threading.Event)

    def health(self, config: Mapping[str, Any]) -> Health:
        assert config["rows"] == 10
        if not self.says:
            self.said.set()
            return Health()
        found = self.says.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def watched(world: World, *says: Health | Exception) -> list[Message]:
    """What the daemon hears while a run goes on for some looks."""
    heard: list[Message] = []
    connector = Feeling(says=list(says))
    pacing = Pacing("hr", probe_s=0.001, bounds=Bounds(lock_waits=5))
    kindly = world.kindly(pacing, tell=heard.append)
    with kindly.watching(connector):
        assert connector.said.wait(5)
    return heard


def test_a_sick_source_is_told_once_each_way(world: World) -> None:
    """Every change of speed is a message; what is hidden comes with the first look."""
    sick = Health(lock_waits=9, hidden=("busy",))
    heard = watched(world, sick, Health(hidden=("busy",)), Health(hidden=("busy",)))
    assert heard[:2] == [
        Slowed(0.5, BAD, ("busy",)),
        Slowed(1.0, (), ("busy",)),
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SourceError("unreachable", ""), Slowed(0.5, ("no-answer=unreachable",))),
        (SourceError("timeout", ""), Slowed(0.5, ("no-answer=timeout",))),
        (SourceError("right", ""), Slowed(1.0, (), ("everything",))),
        (KeyError("李雷"), Slowed(1.0, (), ("everything",))),
    ],
)
def test_a_look_that_fails(world: World, error: Exception, message: Slowed) -> None:
    """No answer is a bad sign; a right that is missing is none; neither ends a run."""
    assert watched(world, error)[0] == message


def test_a_login_that_is_refused_is_not_repeated(world: World) -> None:
    """Each further one counts towards a lock of the account; the run goes on, free."""
    heard: list[Message] = []
    refused = SourceError("login", "")
    connector = Feeling(says=[Health(lock_waits=9), refused, Health(lock_waits=9)])
    pacing = Pacing("hr", probe_s=0.001, bounds=Bounds(lock_waits=5))
    with world.kindly(pacing, tell=heard.append).watching(connector):
        for looking in [t for t in threading.enumerate() if t.name == "health"]:
            looking.join(60)
            assert not looking.is_alive()
    assert heard == [Slowed(0.5, BAD), Slowed(1.0, (), ("everything",))]
    assert len(connector.says) == 1


def test_nobody_looks_where_nobody_can(world: World) -> None:
    """A connector without ``health`` is read at full speed."""
    before = threading.active_count()
    with world.kindly(Pacing("hr", probe_s=0.001)).watching(FakeConnector()):
        assert threading.active_count() == before


def test_pacing_goes_through_the_socket() -> None:
    """A job's pacing, and what is said of the source, survive the line."""
    pacing = Pacing("hr", Rate(5, 2.5), Rate(), ("20:00-06:00",), 10.0, Bounds(0.5))
    for message in (job("", pacing=pacing), Slowed(0.5, BAD, ("busy",))):
        assert decode(encode(message)) == message


def test_local_time_is_the_agents(world: World) -> None:
    """Windows are meant in agent.timezone."""
    zones: list[ZoneInfo] = []
    now: Callable[[ZoneInfo], datetime] = lambda zone: zones.append(zone) or world.local  # type: ignore[func-returns-value]  # noqa: E731
    world.kindly(Pacing("hr", Rate(10)), now=now).hold(1, 1)
    assert {zone.key for zone in zones} == {"Asia/Shanghai"}
