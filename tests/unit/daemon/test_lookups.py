# SPDX-License-Identifier: Apache-2.0
"""Parts of the daemon's lookup side; the whole of it is proven by the e2e ring."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.audit.events import Event, LookupLoopFailed
from agent.audit.log import AuditLog
from agent.daemon import loops
from agent.daemon.lookups import Lookups, Renewal, Standing, frames_of
from agent.daemon.lookups import told as told_of
from agent.daemon.policies import Policies, Terms, in_force
from agent.errors import (
    AuditWriteFailed,
    ExchangeUnreachable,
    PolicyInvalid,
    UsageFault,
)
from agent.lookup.policy import load as policies
from agent.lookup.record import key_frame
from tests.support.lookup import POLICY, RESOURCE, World, denied, sample_offers

# --- policies -----------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The sample department."""
    return World(tmp_path)


def terms(world: World, text: str | None = POLICY) -> Terms:
    """A policy file with this text."""
    file = world.folder / "policy.toml"
    if text is not None:
        file.write_text(text, "utf-8")
    return Terms(file, world.offers, {"9/9": "it is not shared"})


def desk(world: World, wanted: Terms) -> Policies:
    """The policies of the running flow."""
    _, trouble = in_force(world.log, wanted)
    return Policies(world.log, world.flow, wanted, trouble=trouble)


async def test_without_an_activation_nothing_is_in_force(world: World) -> None:
    """Revision 0 refuses everything; the file is a draft."""
    async with world.serving():
        active, trouble = in_force(world.log, terms(world))
        assert (active.rev, active.policy.rules, trouble) == (0, (), None)
        shown = desk(world, terms(world)).show()
    assert shown["active"] is None
    assert shown["draft"]["differs"] is True
    assert shown["draft"]["faults"] == []


async def test_an_activated_policy_judges_at_once_and_after_a_restart(
    world: World,
) -> None:
    """The next request is judged by it; the text is remembered, not the file."""
    world.policy = ""
    async with world.serving():
        assert denied(await world.ask()) == ("grant",)
        made = desk(world, terms(world))
        body = await made.activate(digest=policies.digest(POLICY), uid=7)
        assert body == {
            "rev": 1,
            "digest": policies.digest(POLICY),
            "changed": True,
            "grants": 1,
        }
        found = await world.ask(fields=("name",))
        assert getattr(found, "status", None) == "ok"
        assert made.standing()["draft_differs"] is False
    async with world.serving():
        active, _ = in_force(world.log, terms(world, "# other\n"))
        assert (active.rev, len(active.policy.rules)) == (1, 1)


async def test_the_same_text_is_not_activated_twice(world: World) -> None:
    """No new revision, no record."""
    async with world.serving():
        made = desk(world, terms(world))
        await made.activate(digest=None, uid=0)
        body = await made.activate(digest=None, uid=0)
        records = await world.records("policy.activated")
    assert (body["rev"], body["changed"], len(records)) == (1, False, 1)


@pytest.mark.parametrize("text", ["[[grants]]\nid = 1\n", "grants = ["])
async def test_a_faulty_draft_changes_nothing(world: World, text: str) -> None:
    """Every fault is told, the active policy stays."""
    async with world.serving():
        made = desk(world, terms(world))
        await made.activate(digest=None, uid=0)
        terms(world, text)
        assert made.show()["draft"]["faults"]
        with pytest.raises(PolicyInvalid):
            await made.activate(digest=None, uid=0)
        assert world.flow.policy.rev == 1
        found = await world.ask(fields=("name",))
    assert getattr(found, "status", None) == "ok"


async def test_a_file_that_changed_meanwhile_is_not_activated(world: World) -> None:
    """What is put in force is what was looked at."""
    async with world.serving():
        made = desk(world, terms(world))
        with pytest.raises(PolicyInvalid, match="changed"):
            await made.activate(digest="sha256:" + "0" * 64, uid=0)
        assert world.log.active() is None


async def test_a_missing_file_is_a_draft_that_differs(world: World) -> None:
    """It is shown, and cannot be activated."""
    async with world.serving():
        made = desk(world, terms(world, None))
        assert made.standing()["draft_differs"] is True
        assert made.show()["draft"]["digest"] is None
        with pytest.raises(PolicyInvalid):
            await made.activate(digest=None, uid=0)


async def test_a_policy_that_no_longer_fits_the_catalog_refuses_all(
    world: World,
) -> None:
    """A resource was closed: under its own revision nothing is allowed, and shown."""
    async with world.serving():
        made = desk(world, terms(world))
        await made.activate(digest=None, uid=0)
        closed = replace(terms(world), offers={})
        active, trouble = in_force(world.log, closed)
    assert (active.rev, active.policy.rules) == (1, ())
    assert isinstance(trouble, PolicyInvalid)


async def test_an_activation_that_cannot_be_recorded_changes_nothing(
    world: World,
) -> None:
    """The log comes first; nothing waits at the gate afterwards."""

    class Full:
        def active(self) -> None:
            return None

        async def activate(self, *_: object, **__: object) -> int:
            raise AuditWriteFailed("disk full")

    async with world.serving():
        log = cast("AuditLog", Full())
        made = Policies(log, world.flow, terms(world, "# none\n"), trouble=None)
        with pytest.raises(AuditWriteFailed):
            await made.activate(digest=None, uid=0)
        found = await world.ask(fields=("name",))
    assert getattr(found, "status", None) == "ok"


# --- small parts --------------------------------------------------------------------


async def test_the_directory_is_not_fetched_at_every_call() -> None:
    """At most once in five seconds; a failure is no fetch."""
    clock, calls = SimpleNamespace(at=0.0), []

    async def fetch() -> None:
        calls.append(clock.at)
        if len(calls) == 2:
            raise ExchangeUnreachable("cut")

    renew = Renewal(fetch, clock=lambda: clock.at)
    assert await renew()
    assert not await renew()
    clock.at = 5.0
    assert not await renew()
    clock.at = 10.0
    assert await renew()
    assert calls == [0.0, 5.0, 10.0]


def test_the_canonical_key_of_what_a_person_typed() -> None:
    """As in a request; unknown names are told without their values."""
    frames = frames_of(sample_offers())
    key = "110101199003070011"
    assert frames(RESOURCE, {"citizen_id": key}) == key_frame("C", key)
    for resource, keys in (("9/9", {"a": "1"}), (RESOURCE, {"nothing": key})):
        with pytest.raises(UsageFault) as caught:
            frames(resource, keys)
        assert key not in caught.value.detail


def test_a_way_says_since_when(world: World) -> None:
    """Opening and closing move the time, a second failure does not."""
    standing = Standing(now=world.clock.now, enabled=True)
    world.clock.move(10)
    standing.closed(ExchangeUnreachable("cut"))
    assert standing.way().since.startswith("2026-11-21T08:00:00")
    standing.opened()
    assert (standing.way().up, standing.way().trouble) == (True, None)
    world.clock.move(10)
    standing.closed(ExchangeUnreachable("cut"))
    world.clock.move(10)
    standing.closed(ExchangeUnreachable("again"))
    way = standing.way()
    assert (way.up, way.trouble, way.detail) == (False, "exchange-unreachable", "again")
    assert way.since.startswith("2026-11-21T08:00:20")


def test_a_key_revoked_while_the_line_was_down(world: World) -> None:
    """The nudge is lost, so every new line asks for the directory."""
    standing = Standing(now=world.clock.now, enabled=True)
    nudges: list[int] = []
    opened, closed = told_of(standing, world.events.append, lambda: nudges.append(1))
    opened()
    closed(ExchangeUnreachable("cut"), 1, 0.1)
    assert len(nudges) == 1
    opened()
    assert len(nudges) == 2


async def test_a_loop_that_fails_is_told_and_begun_again() -> None:
    """A fault of ours and a defect alike; what ends by itself is not repeated."""
    told: list[Event] = []
    tries: list[int] = []

    async def run() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ExchangeUnreachable("cut")
        if len(tries) == 2:
            raise ZeroDivisionError("110101199003070011")

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    keeper = SimpleNamespace(tell=told.append, sleep=sleep)
    kept = cast(
        "Callable[[Any, str, Callable[[], Awaitable[None]]], Awaitable[None]]",
        Lookups._kept,
    )
    await kept(keeper, "purge", run)
    assert [(e.part, e.code) for e in told if isinstance(e, LookupLoopFailed)] == [
        ("purge", "exchange-unreachable"),
        ("purge", "internal"),
    ]
    assert "110101" not in str(told)
    assert slept == [5.0, 5.0]


def test_a_log_that_stopped_ends_the_daemon_after_a_while() -> None:
    """It is shown for a minute; then only a restart can mend it."""
    good = cast("AuditLog", SimpleNamespace(trouble=None))
    stopped = cast("AuditLog", SimpleNamespace(trouble=AuditWriteFailed("full")))
    assert loops._judge_log(good, None) is None
    since = loops._judge_log(stopped, None)
    assert since is not None
    assert loops._judge_log(stopped, since) == since
    with pytest.raises(AuditWriteFailed):
        loops._judge_log(stopped, time.monotonic() - loops.STOPPED_S - 1)
    assert loops._judge_log(good, since) is None


async def test_the_last_refusals_are_recorded_when_the_daemon_stops(
    world: World,
) -> None:
    """A drain ends with the summary of the minute that was cut short."""
    async with world.serving() as flow:
        await flow.answer("x")
        side = SimpleNamespace(flow=flow, relay=None, door=None)
        side._last_words = lambda: Lookups._last_words(cast("Lookups", side))
        await Lookups.drain(cast("Lookups", side), 1.0)
        (record,) = await world.records("lookup.refused")
    assert record["codes"] == {"malformed": 1}
