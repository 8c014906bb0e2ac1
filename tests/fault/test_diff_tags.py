# SPDX-License-Identifier: Apache-2.0
"""Versions 1 and 2 of the register as a view, and kill -9 in either pass of a diff.

A view of PostgreSQL is compared by tags first; then what differs is read. The worker is
a real process, the server is real, and what leaves is compared with a join of both
versions in the database. ``scripts/bench diff`` does the same with five million rows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from agent.errors import WorkerDied
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Ended, Job, Line, Message, Packed, States
from agent.pipeline.worker.spawn import WorkerProcess
from benchmarks.diff import Keys, expected, show
from benchmarks.site import ITEMS
from tests.support.fake_source import job
from tests.support.population import load_versions
from tests.support.postgres import Server, find_programs, private_server

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(find_programs() is None, reason="no PostgreSQL"),
]

ROWS = 20_000
ONE, TWO = "population", "population_2"
PATIENCE_S = 60.0
_KEY = '%as tag, t."id"::int8 as c0'
PASSES = {"tags": f"{_KEY} from%", "rows": f"{_KEY}, %"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with private_server(settings={"track_activity_query_size": "8192"}) as found:
        load_versions(found, ROWS)
        # a row takes its time, so that a pass can be met
        found.sql(
            "create function slow(bigint) returns bigint language plpgsql as"
            " $$begin if current_query() like '%as c1,%' then perform pg_sleep(0.02);"
            " elsif $1 % 8 = 0 then perform pg_sleep(0.0001); end if;"
            " return $1; end$$"
        )
        yield found


@pytest.fixture
def desk() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Desk(Path(folder))


class Desk:
    """Runs of the view in worker processes, each compared with the last that ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.known: str | None = None

    def job(self, server: Server) -> Job:
        self.number += 1
        return replace(
            job(str(self.folder)),
            connector="postgres",
            source={k: v for k, v in server.config().items() if v is not None},
            table=("public", "population_now"),
            items=tuple(map(bound, ITEMS)),
            mode="full" if self.known is None else "diff",
            states=States(str(self.state), self.known),
        )

    @property
    def state(self) -> Path:
        return self.folder / "diff" / f"{self.number}.diff"

    async def run(self, server: Server, *, kill_in: str | None = None) -> Keys:
        """What leaves; nothing, and no state, if the worker is killed."""
        heard: list[Message] = []
        process = WorkerProcess()
        async with process:
            await process.start(self.job(server))
            killer = asyncio.create_task(killed(server, process, kill_in))
            with suppress(WorkerDied):
                async for message in process.messages():
                    heard.append(message)
                    if isinstance(message, Packed):
                        await process.send(
                            Line(message.part, "x", str(self.part(message.part)))
                        )
            async with asyncio.timeout(PATIENCE_S):
                assert await killer == (kill_in is not None)
        if kill_in is not None:
            assert not self.state.exists()
            return Keys(frozenset(), frozenset())
        assert isinstance(heard[-1], Ended), heard[-1]
        assert (
            heard[-1].quality.read == heard[-1].rows.upsert + heard[-1].quality.skipped
        )
        self.known = str(self.state)
        return self.left([m for m in heard if isinstance(m, Packed)])

    def part(self, number: int) -> Path:
        return self.folder / f"{self.number}.{number}"

    def left(self, packed: list[Packed]) -> Keys:
        found: dict[str, set[int]] = {"u": set(), "d": set()}
        for one in packed:
            if one.size:
                data = self.part(one.part).read_bytes().partition(b"\n")[2]
                for rows in pa.ipc.open_stream(data):
                    for op, key in zip(rows["_op"], rows["id"], strict=True):
                        assert key.as_py() not in found[op.as_py()]
                        found[op.as_py()].add(key.as_py())
        return Keys(frozenset(found["u"]), frozenset(found["d"]))


async def killed(server: Server, process: WorkerProcess, kill_in: str | None) -> bool:
    """Kill the worker as soon as the server is in a pass of it."""
    while kill_in is not None:
        found = await asyncio.to_thread(
            server.sql,
            "select count(*) from pg_stat_activity where state = 'active'"
            f" and pid <> pg_backend_pid() and query like '{PASSES[kill_in]}'"
            " and application_name = 'fep' and query not like 'explain%'",
        )
        if found != "0":
            os.kill(process.pid, signal.SIGKILL)
            return True
    return False


def bound(text: str) -> BoundItem:
    """An item of the benchmark's document."""
    said = tomllib.loads(text)
    item = Item(
        said["name"], ItemType(said["type"]), said.get("length"), said.get("scale"),
        said.get("key", False), "1",
    )  # fmt: skip
    return BoundItem(item, said["name"], tuple(said.get("rules", ())))


def show_slowly(server: Server, table: str) -> None:
    """As ``show``; each row takes its time, in both passes."""
    names = ", ".join(tomllib.loads(text)["name"] for text in ITEMS)
    slow = names.replace("status", "(slow(id) * 0 + status)::smallint as status")
    server.sql(f"create or replace view population_now as select {slow} from {table}")


async def test_exactly_what_changed_leaves_forth_and_back(
    server: Server, desk: Desk
) -> None:
    """Inserts, updates and deletes of version 2, then those of the way back."""
    show(server, ONE)
    forth = expected(server)
    assert min(map(len, (forth.inserts, forth.updates, forth.deletes))) >= 20
    assert len((await desk.run(server)).upserts) == ROWS
    show(server, TWO)
    assert await desk.run(server) == forth.keys
    show(server, ONE)
    assert await desk.run(server) == forth.back.keys
    assert await desk.run(server) == Keys(frozenset(), frozenset())


@pytest.mark.parametrize("during", PASSES)
async def test_a_kill_in_either_pass_loses_nothing(
    server: Server, desk: Desk, during: str
) -> None:
    """Nothing counts until the last batch is registered: the next run finds it all."""
    show(server, ONE)
    await desk.run(server)
    known = desk.known
    show_slowly(server, TWO)
    await desk.run(server, kill_in=during)
    assert desk.known == known
    show(server, TWO)
    assert await desk.run(server) == expected(server).keys
