# SPDX-License-Identifier: Apache-2.0
"""Whether the loops turn, as the watchdog asks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.pipeline.flow.push import LONGEST_SEND_S, LONGEST_SWEEP_S
from tests.support.push import PERSON, World, until


class Hanging:
    """A part of which one method never comes back until it is let go."""

    def __init__(self, part: Any, name: str) -> None:
        self._part, self._name = part, name
        self.entered, self.let_go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._part, name)
        if name != self._name:
            return method

        def hang(*args: Any, **options: Any) -> Any:
            self.entered.set()
            self.let_go.wait(10)
            return method(*args, **options)

        return hang


class Hung:
    """An exchange that takes an upload and never answers."""

    def __init__(self, part: Any) -> None:
        self._part = part
        self.asked = asyncio.Event()
        self.moved: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    async def upload(self, *args: Any, **options: Any) -> Any:
        """Never."""
        self.moved = options["moved"]
        self.asked.set()
        await asyncio.Event().wait()


async def test_a_flow_at_rest_turns_however_long(tmp_path: Path) -> None:
    """Nothing to do for a day is not being stuck."""
    world = World(tmp_path)
    async with world.serving() as flow:
        await until(flow, lambda s: s.state == "idle")
        world.clock.move(86_400)
        assert flow.stuck() is None


async def test_a_sender_that_never_comes_back_is_stuck(tmp_path: Path) -> None:
    """An upload without an end is named once no honest one could still go on."""
    world = World(tmp_path)
    hung: list[Hung] = []

    def wrap(name: str, part: Any) -> Any:
        if name != "exchange":
            return part
        hung.append(Hung(part))
        return hung[-1]

    world.wrap = wrap
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await hung[-1].asked.wait()
        world.clock.move(LONGEST_SEND_S - 60)
        async with asyncio.timeout(60):
            heard = flow.changes.listen()
            while flow.stuck() is not None:  # a sweep may just have begun
                await heard.wait()
                heard = flow.changes.listen()
        world.clock.move(120)
        assert flow.stuck() == f"sending {PERSON}"


async def test_a_sender_whose_pieces_arrive_is_not_stuck(tmp_path: Path) -> None:
    """The largest batch on a line that is limited by day may take half a night."""
    world = World(tmp_path)
    hung: list[Hung] = []

    def wrap(name: str, part: Any) -> Any:
        if name != "exchange":
            return part
        hung.append(Hung(part))
        return hung[-1]

    world.wrap = wrap
    async with world.serving() as flow:
        await flow.request_pull(PERSON)
        await hung[-1].asked.wait()
        for _ in range(3):
            world.clock.move(LONGEST_SEND_S - 60)
            hung[-1].moved()
        world.clock.move(LONGEST_SEND_S - 60)
        assert flow.stuck() != f"sending {PERSON}"


async def test_a_disk_that_hangs_is_noticed(tmp_path: Path) -> None:
    """A sweep that the disk never answers is named."""
    world = World(tmp_path)
    hanging: list[Hanging] = []

    def wrap(name: str, part: Any) -> Any:
        if name != "state":
            return part
        hanging.append(Hanging(part, "purgeable"))
        return hanging[-1]

    world.wrap = wrap
    async with world.serving() as flow:
        await asyncio.to_thread(hanging[-1].entered.wait, 5)
        world.clock.move(LONGEST_SWEEP_S + 60)
        said = flow.stuck()
        hanging[-1].let_go.set()
    assert said == "the sweeper of the spool"
