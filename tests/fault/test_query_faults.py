# SPDX-License-Identifier: Apache-2.0
"""The lookup worker and a real PostgreSQL, killed and stopped at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from agent.child.process import resident_bytes
from agent.errors import FepError, SourceFault, WorkerDied
from agent.lookup.query import Answer, Ask
from agent.lookup.query.gather import Bounds, Sources
from agent.lookup.query.process import Seams, Watch
from agent.lookup.query.talk import LANES, Opening
from agent.retry import Backoff
from tests.support.columns import bound
from tests.support.postgres import Server, private_server

pytestmark = pytest.mark.fault

ITEMS = (bound("k", "C", 18, key=True), bound("note", "C", 40))
ROWS = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server(tcp=True) as found:
        found.sql(
            "create table person (k varchar(18) primary key, note varchar(40));"
            f"insert into person select 'k' || i, 'note of k' || i"
            f" from generate_series(1, {ROWS}) i; analyze person;"
            "create view napping as select k, note || pg_sleep(9)::text as note"
            " from person"
        )
        yield found


def ask(*keys: str, table: str = "person") -> Ask:
    return Ask("hr", ("public", table), ITEMS, ("k",), tuple((k,) for k in keys))


@asynccontextmanager
async def sources(
    server: Server, *, bounds: Bounds | None = None, **watch: Any
) -> AsyncIterator[Sources]:
    seams = Seams(
        random.Random(7).uniform,
        watch=Watch(**{"away_s": 0.05, "restart": Backoff(0.05, 0.2), **watch}),
    )
    found = Sources(
        lambda _: Opening("postgres", server.config(), 1, "Asia/Shanghai"),
        seams=seams,
        bounds=bounds,
    )
    try:
        yield found
    finally:
        await found.close()


def worker(found: Sources) -> int:
    """Process id of the worker of now."""
    pid: int = found._queues["hr"].source._worker._child.pid  # type: ignore[attr-defined]
    return pid


def backends(server: Server) -> list[int]:
    """Process ids of the server's sides of our sessions."""
    told = server.sql(
        "select pid from pg_stat_activity where application_name = 'fep'"
        " and backend_type = 'client backend'"
    )
    return [int(pid) for pid in told.split()]


def napping(server: Server) -> bool:
    """The slow statement is under way."""
    return (
        server.sql(
            "select count(*) from pg_stat_activity where query like '%napping%'"
            " and state = 'active' and application_name = 'fep'"
        )
        != "0"
    )


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what the server does by itself."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def all_lanes(found: Sources) -> None:
    """Ask until every session has been used."""
    for _ in range(2 * LANES):
        await found.fetch(ask("k7"))


async def good(found: Sources, *, within_s: float = 60.0) -> None:
    """An ask is answered, at the latest after a while."""
    async with asyncio.timeout(within_s):
        while True:
            with suppress(SourceFault, WorkerDied):
                assert (await found.fetch(ask("k7"))).rows == (("k7", "note of k7"),)
                return
            await asyncio.sleep(0.02)


async def test_a_backend_that_hangs_costs_its_worker(server: Server) -> None:
    """A server that says nothing more is a hanging driver; the next ask is answered."""
    async with sources(server, hang_s=0.5) as hr:
        await good(hr)
        stopped, held = worker(hr), backends(server)
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(WorkerDied, match=r"no answer for 1\.5 s"):
                await all_lanes(hr)
            await good(hr)
        finally:
            for pid in held:
                os.kill(pid, signal.SIGCONT)
        assert worker(hr) != stopped
        assert resident_bytes(stopped) == 0


async def test_a_stopped_worker_is_replaced(server: Server) -> None:
    """A worker that does not run any more is killed in time, whatever it holds."""
    async with sources(server, hang_s=0.2) as hr:
        await good(hr)
        os.kill(worker(hr), signal.SIGSTOP)
        with pytest.raises(WorkerDied, match="no answer"):
            await hr.fetch(ask("k7"))
        await good(hr)


async def test_the_statement_of_a_killed_worker_ends_at_the_server(
    server: Server,
) -> None:
    """No query of a dead worker goes on for hours."""
    async with sources(server) as hr:
        await good(hr)
        asked = asyncio.create_task(hr.fetch(ask("k7", table="napping")))
        await until(lambda: napping(server))
        os.kill(worker(hr), signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await asked
    await until(lambda: not backends(server))


@pytest.mark.parametrize("seed", range(3))
async def test_answers_are_right_or_faults_whatever_is_killed(
    server: Server, seed: int
) -> None:
    """Workers and backends die under load: no wrong row, no hanging ask, then peace."""
    chance = random.Random(seed)
    answered, failed = 0, 0
    async with sources(server) as hr:
        await good(hr)
        over = asyncio.Event()

        async def client(number: int) -> None:
            nonlocal answered, failed
            mine = random.Random(number)
            while not over.is_set():
                keys = [
                    f"k{mine.randrange(1, ROWS * 2)}" for _ in range(mine.randint(1, 5))
                ]
                try:
                    async with asyncio.timeout(60):
                        found = await hr.fetch(ask(*keys))
                except FepError:
                    failed += 1
                    await asyncio.sleep(0.01)
                    continue
                answered += 1
                assert found.rows == tuple(
                    (k, f"note of {k}") if int(k[1:]) <= ROWS else None for k in keys
                )

        async def killer() -> None:
            for _ in range(8):
                await asyncio.sleep(chance.uniform(0.1, 0.8))
                victims = [worker(hr)] if chance.random() < 0.5 else backends(server)
                with suppress(ProcessLookupError, IndexError):
                    if victims[:1] == [worker(hr)]:
                        os.kill(victims[0], signal.SIGKILL)
                    else:
                        server.sql(
                            f"select pg_terminate_backend({chance.choice(victims)})"
                        )
            over.set()

        async with asyncio.TaskGroup() as group:
            for number in range(16):
                group.create_task(client(number))
            group.create_task(killer())
        await good(hr)

    assert answered > 16
    assert failed < answered


async def test_a_flood_is_refused_and_the_rest_is_answered(server: Server) -> None:
    """Ten thousand asks at once: some wait, the others know at once."""
    async with sources(server, bounds=Bounds(asks=500)) as hr:
        await good(hr)
        asks = (hr.fetch(ask(f"k{i % ROWS + 1}")) for i in range(10_000))
        found = await asyncio.gather(*asks, return_exceptions=True)
        await good(hr)

    rows = [f.rows[0] for f in found if isinstance(f, Answer)]
    assert len(rows) == 500
    assert None not in rows
