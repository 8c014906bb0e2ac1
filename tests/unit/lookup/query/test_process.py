# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a source's worker: deaths, hangs, secrets and pauses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.child.process import resident_bytes
from agent.errors import (
    ConfigInvalid,
    InternalFault,
    SourceFailed,
    SourceFault,
    SourceLogin,
    SourceMissing,
    SourceUnreachable,
    WorkerDied,
)
from agent.lookup.query.process import Seams, Source, Watch
from agent.lookup.query.talk import SLOTS, Opening, Shape
from agent.retry import Backoff
from tests.support.columns import bound

CHILD = Path(__file__).parents[3] / "support" / "odd_lookup.py"
COMMAND = (sys.executable, "-I", "-S", str(CHILD))
ID_NUMBER = "110101199003070011"


def shape(table: str = "person") -> Shape:
    return Shape((table,), (bound("id", "C", 40, key=True),), ("id",))


PERSON = shape()


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opening(connector: str = "odd", password: str = "correct horse") -> Opening:
    return Opening(connector, {"password": password}, 1, "Asia/Shanghai")


@asynccontextmanager
async def running(
    opened: Callable[[], Opening] = opening,
    *,
    clock: Callable[[], float] | None = None,
    command: Sequence[str] = COMMAND,
    **watch: Any,
) -> AsyncIterator[Source]:
    seams = Seams(
        uniform=lambda _, high: high,
        command=command,
        environ={"PGPASSWORD": "correct horse", "PATH": "/usr/bin"},
        clock=clock or Clock(),
        watch=Watch(**{"restart": Backoff(base_s=10.0, cap_s=40.0), **watch}),
    )
    source = Source(opened, seams)
    try:
        yield source
    finally:
        await source.close()


async def ask(source: Source, *keys: str, of: Shape = PERSON) -> list[Any]:
    found = await source.ask(of, [[k] for k in keys], [1] * len(keys))
    return [rows[0] for _, rows, _ in found]


async def seen(source: Source, of: Shape = PERSON) -> dict[str, Any]:
    ((text,),) = await ask(source, "seen", of=of)
    found: dict[str, Any] = json.loads(text)
    return found


async def test_queries_are_answered_by_one_worker() -> None:
    """A worker stays: many queries, one process."""
    async with running() as source:
        first = await seen(source)
        found = await ask(source, "found", "gone", "twice")
        second = await seen(source)

    assert found == [["found", False, None], None, True]
    assert first["pid"] == second["pid"]
    assert resident_bytes(first["pid"]) == 0


async def test_secrets_go_through_the_socket_alone() -> None:
    """Neither arguments nor environment of the worker hold the password."""
    async with running() as source:
        told = await seen(source)
        proc = Path(f"/proc/{told['pid']}")
        outside = proc.joinpath("cmdline").read_bytes()
        outside += proc.joinpath("environ").read_bytes()

    assert told["opening"]["config"] == {"password": "correct horse"}
    assert b"correct horse" not in outside


async def test_a_worker_killed_within_a_query_fails_only_what_was_under_way() -> None:
    """SIGKILL fails the queries that it had; the next one gets a new worker."""
    async with running() as source:
        told = await seen(source)
        asked = asyncio.create_task(ask(source, "slow:60"))
        await asyncio.sleep(0)
        os.kill(told["pid"], signal.SIGKILL)
        with pytest.raises(WorkerDied, match="ended by SIGKILL"):
            await asked

        assert (await seen(source))["pid"] != told["pid"]


async def test_a_crash_tells_no_value() -> None:
    """What a driver writes to stderr is counted and never repeated."""
    async with running() as source:
        with pytest.raises(WorkerDied, match=r"stderr \d+ bytes, KeyError$") as e:
            await ask(source, "spill")

    assert ID_NUMBER not in f"{e.value!r} {e.value.__cause__!r} {e.value.__context__!r}"


async def test_a_driver_that_hangs_is_killed() -> None:
    """Beyond its time, and a little, a query ends the worker; the next one works."""
    async with running(hang_s=-0.5) as source:
        told = await seen(source)
        with pytest.raises(WorkerDied, match=r"no answer for 0\.5 s; ended by SIGKILL"):
            await ask(source, "hang")

        assert resident_bytes(told["pid"]) == 0
        assert (await seen(source))["pid"] != told["pid"]


async def test_a_worker_above_its_memory_is_killed() -> None:
    """A worker that grows is killed with that reason."""
    async with running(rss_bytes=100 * 1024 * 1024) as source:
        with pytest.raises(WorkerDied, match=r"memory of \d+ MiB is above 100 MiB"):
            await ask(source, "grow")


@pytest.mark.parametrize("key", ["babble", "shout", "short"])
async def test_a_worker_that_breaks_the_protocol_is_killed(key: str) -> None:
    """What the protocol does not have is not guessed at."""
    async with running() as source:
        told = await seen(source)
        with pytest.raises(WorkerDied) as e:
            await ask(source, key)

        assert ID_NUMBER not in str(e.value)
        assert resident_bytes(told["pid"]) == 0
        assert await ask(source, "found")


async def test_a_worker_that_dies_again_and_again_is_left_alone_for_a_while() -> None:
    """The second death in a row is followed by a pause that grows."""
    clock = Clock()
    async with running(clock=clock) as source:
        for pause in (0, 10, 20, 40, 40):
            with pytest.raises(WorkerDied):
                await ask(source, "die")
            if pause:
                clock.now += pause - 0.1
                with pytest.raises(WorkerDied):
                    await ask(source, "found")
                clock.now += 0.2

        assert await ask(source, "found")
        with pytest.raises(WorkerDied):
            await ask(source, "die")
        assert await ask(source, "found")


async def test_a_refused_login_is_not_tried_with_every_ask() -> None:
    """The account would be locked: one try a minute, with the password of then."""
    clock, passwords = Clock(), iter(["old", "new"])
    async with running(
        lambda: opening(password=next(passwords)), clock=clock
    ) as source:
        told = await seen(source)
        for _ in range(3):
            with pytest.raises(SourceLogin):
                await ask(source, "fault:source-login")
        assert resident_bytes(told["pid"]) == 0

        clock.now = 61
        again = await seen(source)
    assert again["opening"]["config"] == {"password": "new"}
    assert again["queries"] == [1]


async def test_a_source_that_is_away_is_asked_once_a_second() -> None:
    """Meanwhile asks fail at once; the worker stays, and answers when it is back."""
    clock = Clock()
    async with running(clock=clock) as source:
        told = await seen(source)
        for _ in range(3):
            with pytest.raises(SourceUnreachable):
                await ask(source, "fault:source-unreachable")
        clock.now = 1.1
        again = await seen(source)

    assert again["pid"] == told["pid"]
    assert again["queries"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("source-missing", SourceMissing),
        ("internal", InternalFault),
        ("?", InternalFault),
    ],
)
async def test_a_fault_of_the_source_is_its_own_class(
    code: str, fault: type[SourceFault]
) -> None:
    """A code gives the error of the tree; one that nobody knows is a defect."""
    async with running() as source:
        with pytest.raises(fault):
            await ask(source, f"fault:{code}")
        assert await ask(source, "found")


async def test_settings_that_cannot_be_used_are_told_to_who_asks() -> None:
    """A secret that cannot be read is a fault of the source, told at each ask."""

    def unreadable() -> Opening:
        raise ConfigInvalid("/etc/fep/hr.password: no such file")

    async with running(unreadable) as source:
        for _ in range(2):
            with pytest.raises(SourceFailed, match="no such file"):
                await ask(source, "found")


async def test_a_worker_that_cannot_serve_says_why() -> None:
    """A connector that is not there, or answers no lookups, is told as such."""
    async with running(lambda: opening("refused")) as source:
        with pytest.raises(SourceFailed, match="no such connector"):
            await ask(source, "found")


async def test_a_program_that_is_not_there_is_a_dead_worker() -> None:
    """What cannot be started is WorkerDied."""
    async with running(command=("/nonexistent/python",)) as source:
        with pytest.raises(WorkerDied, match="cannot start"):
            await ask(source, "found")


async def test_shapes_are_bounded_and_never_mixed_up() -> None:
    """More shapes than slots: the oldest goes, and each query gets its own."""
    shapes = [shape(f"t{i}") for i in range(SLOTS + 5)]
    async with running() as source:
        for each in shapes:
            assert (await seen(source, each))["table"] == [each.table[0]]
        for each in (shapes[0], shapes[-1], shapes[7]):
            told = await seen(source, each)
            assert told["table"] == [each.table[0]]

    assert told["shapes"] == SLOTS


async def test_warm_starts_the_worker_once() -> None:
    """Asks that come at the same time share one start."""
    async with running() as source:
        await asyncio.gather(*(source.warm() for _ in range(5)))
        told = await asyncio.gather(*(seen(source) for _ in range(5)))

    assert len({t["pid"] for t in told}) == 1


async def test_a_closed_source_starts_no_worker() -> None:
    """After close() an ask fails, and what was under way has failed."""
    async with running() as source:
        told = await seen(source)
        asked = asyncio.create_task(ask(source, "slow:60"))
        await asyncio.sleep(0)
        await source.close()
        with pytest.raises(WorkerDied, match="closed by the daemon"):
            await asked
        with pytest.raises(WorkerDied, match="closed by the daemon"):
            await ask(source, "found")

    assert resident_bytes(told["pid"]) == 0


async def test_a_cancelled_query_does_not_hinder_the_next() -> None:
    """An answer that comes too late is dropped."""
    async with running() as source:
        await source.warm()
        asked = asyncio.create_task(ask(source, "slow:0.1"))
        await asyncio.sleep(0)
        asked.cancel()
        found = await ask(source, "found")

    assert found == [["found", False, None]]


def test_an_opening_shows_no_secret() -> None:
    """repr() of an opening holds no password."""
    assert "correct horse" not in repr(opening())
