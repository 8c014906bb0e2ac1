# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon before and after every durable step of a push."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import pytest

from agent.pipeline.flow.push import PushFlow
from tests.support.push import PERSON, World, pull, until

STEPS = {
    "state": {
        "register",
        "keep_receipt",
        "open_epoch",
        "add_run",
        "start_run",
        "end_run",
        "add_catalog",
        "mark_catalog",
        "mark_gone",
        "stop_run",
    },
    "spool": {"publish", "remove", "clean"},
    "exchange": {"upload", "put_catalog", "receipt", "position"},
}


class Killed(BaseException):
    """Nothing of the process goes on after this."""


class Tripwire:
    """Counts durable steps over all parts, and kills before or after one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.name = ""

    def wrap(self, name: str, part: Any) -> Any:
        """A part whose durable steps are counted."""
        return _Wired(part, STEPS[name], self)

    def step(self, name: str) -> None:
        """One moment at which a kill may come."""
        self.count += 1
        if self.count == self.at:
            self.name = name
        if self.count >= self.at:
            raise Killed(name)


class _Wired:
    def __init__(self, part: Any, names: set[str], wire: Tripwire) -> None:
        self._part, self._names, self._wire = part, names, wire

    def __getattr__(self, name: str) -> Any:
        found, wire = getattr(self._part, name), self._wire
        if name not in self._names:
            return found

        async def slow(*args: Any, **kwargs: Any) -> Any:
            wire.step(f"before {name}")
            result = await found(*args, **kwargs)
            wire.step(f"after {name}")
            return result

        def quick(*args: Any, **kwargs: Any) -> Any:
            wire.step(f"before {name}")
            result = found(*args, **kwargs)
            wire.step(f"after {name}")
            return result

        return slow if inspect.iscoroutinefunction(found) else quick


async def killed(world: World, wire: Tripwire) -> bool:
    """Pull until the wire trips; whether it did."""
    world.wrap = wire.wrap
    try:
        async with asyncio.timeout(60), world.serving() as flow:
            task = asyncio.ensure_future(pull(flow))
            serve = world.task
            await asyncio.wait({task, serve}, return_when=asyncio.FIRST_COMPLETED)
            await settle(task, serve)
    except Killed:
        return True
    return False


async def settle(*tasks: asyncio.Future[Any]) -> None:
    """Raise what killed one of them; cancel the others."""
    for task in tasks:
        if not task.done():
            task.cancel()
    await asyncio.wait(set(tasks))
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def proof(world: World) -> None:
    """The exchange has one unbroken chain, nothing twice and no fork."""
    exchange = world.exchange
    assert all(len(digests) == 1 for digests in exchange.offered.values())
    before = None
    for kept in exchange.batches.values():
        assert kept.manifest.stream.prev == before
        before = kept.digest
    assert exchange.loaded_rows == {PERSON: 5}


@pytest.mark.parametrize("first", range(0, 60, 6))
async def test_killed_at_any_step_nothing_is_missing_and_nothing_twice(
    tmp_path: Path, first: int
) -> None:
    """After each kill a new life ends with everything loaded over one chain."""
    for at in range(first + 1, first + 7):
        world = World(tmp_path / str(at))
        world.folder.mkdir()
        wire = Tripwire(at)
        tripped = await killed(world, wire)
        world.wrap = lambda _name, part: part
        async with world.serving() as flow:
            await finished(flow)
        proof(world)
        if not tripped:
            break


async def finished(flow: PushFlow) -> None:
    """Whatever the last life left is done; ask again if it had not even begun."""
    status = flow.resource(PERSON)
    if status.run is None or status.run.state in {"failed", "held"}:
        await pull(flow)
    status = await until(flow, lambda s: s.state == "idle")
    assert status.balanced is True
    assert status.waiting.batches == 0
