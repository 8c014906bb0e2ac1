# SPDX-License-Identifier: Apache-2.0
"""Commands carried out: once each, with a record, whatever the exchange lists."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import (
    CommandEnded,
    CommandRefused,
    CommandsCrowded,
    CommandTaken,
    Event,
    ExchangeTrouble,
    Recorded,
)
from agent.control.commands import AT_ONCE
from agent.crypto.jose import PrivateKey, split, verify
from agent.daemon.commands import Books, Chance, CommandLoop, Hands, Terms
from agent.errors import (
    AuditWriteFailed,
    DirectoryStale,
    ExchangeRefused,
    ExchangeUnreachable,
    FepError,
    GateClosed,
    SourceFailed,
)
from agent.state import State
from agent.state.commands import KeptCommand
from agent.wire import command as wire
from agent.wire.command import Result
from agent.wire.directory import Directory
from tests.support.commands import (
    AUD,
    IAT,
    KEY,
    NODE,
    OTHER,
    RESOURCE,
    command,
    directory,
    signed,
)

SIGN = PrivateKey.generate("sign")
ALL = frozenset(wire.COMMANDS)
ZIP = b"PK-a-bundle"


class World:
    """An exchange that lists what it is told to, and hands that note what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed: list[str] = []
        self.results: list[Result] = []
        self.done: list[tuple[str, ...]] = []
        self.bundles: dict[str, bytes] = {}
        self.records: list[Recorded] = []
        self.told: list[Event] = []
        self.directory = directory()
        self.allowed = ALL
        self.at = float(IAT)
        self.cut = self.stale = False
        self.renewed = 0
        self.answered = asyncio.Event()
        self.fault: BaseException | None = None
        self.refusal: FepError | None = None
        self.audit_fault: FepError | None = None
        self.start()

    def start(self) -> None:
        """A life of the daemon begins."""
        self.state = State(self.folder / "state.db", new_incarnation=lambda: "0" * 32)
        self.loop = CommandLoop(
            self,
            Hands(self._refresh, self._run, self._reconcile, self._diagnostics),
            Terms(NODE, AUD, lambda: self.allowed, self._directory, self._renew),
            Books(self.state.commands, self._record, self.told.append, SIGN),
            Chance(self._now, lambda: self.at, asyncio.sleep),
        )

    def restart(self) -> None:
        """As after a crash: nothing is written at the end."""
        self.state.close()
        self.start()

    async def order(self, *texts: str) -> list[tuple[str, str | None]]:
        """List these and let the agent look; what it answered."""
        before = len(self.results)
        self.listed = list(texts)
        await self.loop.once()
        return [(r.status, r.code) for r in self.results[before:]]

    def codes(self) -> list[str]:
        return [r.code for r in self.records if isinstance(r, CommandRefused)]

    # --- the exchange -----------------------------------------------------------------

    async def commands(self) -> bytes:
        if self.cut:
            raise ExchangeUnreachable("cut")
        return wire.listed(self.listed[: wire.MOST])

    async def command_result(self, result: str) -> None:
        if self.cut:
            raise ExchangeUnreachable("cut")
        if self.refusal is not None:
            raise self.refusal
        message = split(result, cap=wire.RESULT_CAP)
        found = verify(message, SIGN.public, typ=wire.RESULT_TYP)
        self.results.append(wire.parse_result(found.payload))
        self.answered.set()

    async def command_bundle(self, jti: str, bundle: bytes) -> None:
        self.bundles[jti] = bundle

    # --- the agent --------------------------------------------------------------------

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def _directory(self) -> Directory:
        if self.stale:
            raise DirectoryStale("old")
        return self.directory

    async def _renew(self) -> None:
        self.renewed += 1

    async def _record(self, event: Recorded) -> None:
        if self.audit_fault is not None:
            raise self.audit_fault
        self.records.append(event)

    def _do(self, *what: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.done.append(what)

    async def _refresh(self) -> None:
        self._do("refresh")

    async def _run(self, resource: str) -> None:
        self._do("run", resource)

    async def _reconcile(self, resource: str) -> None:
        self._do("reconcile", resource)

    async def _diagnostics(self) -> bytes:
        self._do("diagnostics")
        return ZIP


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.state.close()


# --- what is done ---------------------------------------------------------------------


async def test_every_command_of_the_list_is_done(world: World) -> None:
    """With a record before, an event after, and a signed result."""
    made = [
        command("refresh"),
        command("run", RESOURCE),
        command("reconcile", RESOURCE),
        command("diagnostics"),
    ]
    assert await world.order(*map(signed, made)) == [("done", None)] * 4
    wanted = [("refresh",), ("run", RESOURCE), ("reconcile", RESOURCE)]
    assert world.done == [*wanted, ("diagnostics",)]
    assert [r.irt for r in world.results] == [c.jti for c in made]
    taken = [r for r in world.records if isinstance(r, CommandTaken)]
    assert [(r.cmd, r.resource, r.jti, r.kid) for r in taken] == [
        (c.cmd, c.resource, c.jti, KEY.public.kid) for c in made
    ]
    assert [type(e) for e in world.told] == [CommandEnded] * 4


async def test_bundle_is_brought_before_the_result_that_has_its_digest(
    world: World,
) -> None:
    """So that the exchange can tell one of ours from one of anybody's."""
    made = command("diagnostics")
    await world.order(signed(made))
    assert world.bundles == {made.jti: ZIP}
    digest = hashlib.sha256(ZIP).hexdigest()
    assert world.results[0].bundle == f"sha256:{digest}"


async def test_hint_has_the_list_fetched(world: World) -> None:
    """And nothing else does."""
    task = asyncio.create_task(world.loop.forever())
    world.listed = [signed(command())]
    await asyncio.sleep(0)
    assert world.results == []
    world.loop.wanted.set()
    async with asyncio.timeout(60):
        await world.answered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# --- what is refused ------------------------------------------------------------------


async def test_forged_command_leaves_a_record_and_no_answer(world: World) -> None:
    """Nobody knows who wrote it: its claims stand nowhere."""
    forged = signed(command(), PrivateKey.generate("command"))
    assert await world.order(forged) == []
    assert world.done == []
    (record,) = world.records
    assert isinstance(record, CommandRefused)
    assert (record.code, record.cmd, record.kid) == ("unknown-key", None, None)


async def test_what_is_no_command_at_all_leaves_a_record(world: World) -> None:
    """Whatever the exchange lists."""
    bad = ["", "人", "x" * 300_000, "a.b.c", signed(command(aud=OTHER))]
    assert await world.order(*bad) == []
    assert world.codes() == ["malformed"] * len(bad)


async def test_command_of_a_revoked_key_is_refused(world: World) -> None:
    """From the directory on that revokes it; one more fetch is made to be sure."""
    text = signed(command())
    world.directory = directory(revoked=(KEY.public.kid,))
    assert await world.order(text) == []
    assert (world.codes(), world.done, world.renewed) == (["unknown-key"], [], 1)


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (command(iat=IAT + 61, exp=IAT + 100), "early"),
        (command(iat=IAT - 700, exp=IAT - 100), "late"),
        (command("reboot"), "unknown"),
    ],
    ids=["future", "expired", "unknown"],
)
async def test_command_out_of_its_time_or_kind_is_refused(
    world: World, found: Any, code: str
) -> None:
    """The exchange is told why, signed."""
    assert await world.order(signed(found)) == [("refused", code)]
    assert (world.codes(), world.done) == ([code], [])


async def test_command_that_the_department_does_not_allow_is_refused(
    world: World,
) -> None:
    """And stays refused if it is allowed later: a command counts once."""
    text = signed(command("run", RESOURCE))
    world.allowed = frozenset({"refresh"})
    assert await world.order(text) == [("refused", "off")]
    world.allowed = ALL
    assert await world.order(text) == [("refused", "off")]
    assert world.done == []


async def test_run_of_a_resource_whose_gate_is_shut_is_refused(world: World) -> None:
    """With the code of the agent's own error; what fails for another reason failed."""
    world.fault = GateClosed("101001/000001: agreed = false")
    asked = signed(command("run", RESOURCE))
    assert await world.order(asked) == [("refused", "gate-closed")]
    world.fault = SourceFailed("gone")
    asked = signed(command("run", RESOURCE))
    assert await world.order(asked) == [("failed", SourceFailed.code)]
    world.fault = KeyError("a defect")
    assert await world.order(signed(command())) == [("failed", "internal")]


# --- once -----------------------------------------------------------------------------


async def test_replayed_command_is_done_once(world: World) -> None:
    """It gets the answer of the first time, and is on record as a replay."""
    text = signed(command("run", RESOURCE))
    assert await world.order(text) == [("done", None)]
    assert await world.order(text, text) == [("done", None)] * 2
    assert world.done == [("run", RESOURCE)]
    assert world.codes() == ["replay", "replay"]


async def test_replayed_command_is_done_once_also_after_a_restart(world: World) -> None:
    """What was done stands in the state."""
    text = signed(command("run", RESOURCE))
    await world.order(text)
    world.restart()
    assert await world.order(text) == [("done", None)]
    assert (world.done, world.codes()) == ([("run", RESOURCE)], ["replay"])


async def test_other_command_under_a_used_id_is_refused(world: World) -> None:
    """It does not even get the answer of the first."""
    first = command("refresh")
    other = command("run", RESOURCE, jti=first.jti)
    assert await world.order(signed(first), signed(other)) == [("done", None)]
    assert (world.done, world.codes()) == ([("refresh",)], ["replay"])


async def test_command_is_remembered_until_no_clock_takes_it(world: World) -> None:
    """120 s after its end it is forgotten; 60 s after that nobody takes it any more."""
    found = command()
    await world.order(signed(found))
    for late, kept in ((120, True), (121, False)):
        world.at = found.exp + late
        assert await world.order() == []
        known = world.state.commands.find(KeptCommand(found.jti, "", 0))
        assert (known is not None) is kept
    assert await world.order(signed(found)) == [("refused", "late")]
    assert world.done == [("refresh",)]


async def test_daemon_that_ends_meanwhile_does_not_begin_again(world: World) -> None:
    """What a crash left is answered as interrupted; it is not done a second time."""
    text = signed(command("run", RESOURCE))
    world.fault = asyncio.CancelledError()  # the daemon ends in the middle
    world.listed = [text]
    with pytest.raises(asyncio.CancelledError):
        await world.loop.once()
    world.fault = None
    world.restart()
    assert await world.order(text) == [("failed", "interrupted")] * 2
    assert world.done == []


async def test_result_that_did_not_arrive_is_told_later(world: World) -> None:
    """Also after a restart; that is no replay."""
    text = signed(command())
    world.refusal = ExchangeUnreachable("cut")
    assert await world.order(text) == []
    assert world.done == [("refresh",)]
    world.refusal = None
    world.restart()
    assert await world.order(text) == [("done", None)] * 2
    assert world.done == [("refresh",)]


async def test_result_that_the_exchange_refuses_stops_no_other(world: World) -> None:
    """It is shown; the next command is done."""
    world.refusal = ExchangeRefused("no such command", problem="not-found")
    assert await world.order(signed(command())) == []
    assert isinstance(world.told[-1], ExchangeTrouble)
    await world.order(signed(command()))
    assert world.done == [("refresh",)] * 2


# --- what holds it up -----------------------------------------------------------------


async def test_nothing_is_done_that_cannot_be_recorded(world: World) -> None:
    """The record comes first."""
    world.audit_fault = AuditWriteFailed("full")
    assert await world.order(signed(command())) == [("failed", AuditWriteFailed.code)]
    assert world.done == []


async def test_directory_that_is_too_old_lets_nothing_through(world: World) -> None:
    """A revoked key must not order anything because the exchange is cut off."""
    world.stale = True
    text = signed(command())
    assert await world.order(text) == []
    assert (world.done, world.records) == ([], [])
    world.stale = False
    assert await world.order(text) == [("done", None)]


async def test_exchange_that_is_away_is_no_news(world: World) -> None:
    """The flow tells it."""
    world.cut = True
    assert await world.order() == []
    assert world.told == []


async def test_a_thousand_commands_at_once_are_taken_at_a_pace(world: World) -> None:
    """A burst, then one in six seconds; each is done once, the crowd is told once."""
    world.listed = [signed(command()) for _ in range(1000)]
    await world.loop.once()
    assert len(world.done) == len(world.records) == AT_ONCE
    assert world.loop.wanted.is_set()
    for _ in range(5):
        world.listed = world.listed[len(world.done) :]
        world.done.clear()
        world.at += 6.0
        await world.loop.once()
        assert len(world.done) == 1
    crowds = [e for e in world.told if isinstance(e, CommandsCrowded)]
    assert crowds == [CommandsCrowded(wire.MOST - AT_ONCE)]
