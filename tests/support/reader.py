# SPDX-License-Identifier: Apache-2.0
"""A run that reads a real server in a thread, and how fast it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent.child.inside import DaemonGone
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job, Message, Progress, Slowed
from agent.model.pacing import Pacing
from agent.pipeline.worker.run import Run, Tools
from agent.pipeline.worker.sieve import QualitySieve
from agent.registry import find

ITEMS = (
    BoundItem(Item("id", ItemType.I, None, None, True, "1"), "id"),
    BoundItem(Item("note", ItemType.C, 50, None, False, "1"), "note"),
)
PATIENCE_S = 60.0


@dataclass
class Reader:
    """Counts the rows of a table until the block around it ends.

    Attributes:
        local: the time of day that the run believes it is.
        slowed: what it told of its source, newest last.
    """

    job: Job
    local: datetime = datetime(2026, 11, 21, 12, 0)  # noqa: DTZ001 - a time of day
    slowed: list[Slowed] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    seen: list[tuple[float, int]] = field(default_factory=list)
    _over: bool = False

    def tell(self, message: Message) -> None:
        if self._over:
            raise DaemonGone
        self.heard.append(message)
        if isinstance(message, Progress):
            self.seen.append((time.monotonic(), message.read))
        elif isinstance(message, Slowed):
            self.slowed.append(message)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        tools = Tools(find=find, sieve=QualitySieve, now=lambda _zone: self.local)
        run = Run(self.job, tell=self.tell, hear=lambda: self.job, tools=tools)
        thread = threading.Thread(target=self._go, args=(run,))
        thread.start()
        try:
            yield self
        finally:
            self._over = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _go(self, run: Run) -> None:
        with suppress(DaemonGone):
            run.go()

    def rate(self, seconds: float = 1.2) -> float:
        """Rows a second of the next seconds, between what the run says."""
        self._next()
        first = self.seen[-1]
        time.sleep(seconds)
        self._next()
        last = self.seen[-1]
        return (last[1] - first[1]) / (last[0] - first[0])

    def _next(self) -> None:
        count, end = len(self.seen), time.monotonic() + PATIENCE_S
        while len(self.seen) == count:
            assert time.monotonic() < end, self.heard[-3:]
            time.sleep(0.01)

    def share(self, wanted: float) -> Slowed:
        """Wait until the run reads at this share of its speed."""
        end = time.monotonic() + PATIENCE_S
        while not self.slowed or self.slowed[-1].share != wanted:
            assert time.monotonic() < end, self.slowed
            time.sleep(0.01)
        return self.slowed[-1]


def reader(
    connector: str, config: dict[str, Any], table: tuple[str, ...], pacing: Pacing
) -> Reader:
    """Of a table with a number ``id`` and a text ``note``."""
    return Reader(
        Job(
            kind="digest",
            resource="11/000001/0001",
            run="019abcde-0000-7000-8000-000000000001",
            connector=connector,
            source={k: v for k, v in config.items() if v is not None},
            table=table,
            items=ITEMS,
            timezone="Asia/Shanghai",
            severity={},
            batch_raw_bytes=8_000_000,
            max_rows_per_batch=200_000,
            quarantine="",
            statement_timeout_s=60,
            pacing=pacing,
        )
    )
