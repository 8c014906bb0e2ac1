# SPDX-License-Identifier: Apache-2.0
"""A push flow with doubles around it, for tests of promises and faults."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.events import BatchLeft, Event, Recorded
from agent.crypto.jose import PrivateKey
from agent.errors import ChainMoved
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job
from agent.model.place import Allowed
from agent.model.rejected import RejectedBatch
from agent.model.run import RunKind
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.report import ResourceStatus, RunReport
from agent.pipeline.flow.seams import Chance, Limits, Parts
from agent.pipeline.seal import Sender
from agent.pipeline.spool import Quota, Spool
from agent.retry import Backoff
from agent.state import State
from agent.wire.grammar import new_uuid7
from tests.support.exchange_double import ExchangeDouble
from tests.support.worker_double import Script, WorkerDouble

NODE = "11330100MB0000000A/fep-01"
AUD = "yunxi.exchange"
PERSON = "330100001/000001"
FIRM = "330100001/000002"
KEY = PrivateKey.generate("sign")
A_DAY_S = 86_400.0
ITEMS = (Item("id", ItemType.I, None, None, True, "1"),)


def bound(name: str) -> BoundItem:
    """An item that is read from the column of its name."""
    return BoundItem(Item(name, ItemType.C, 20, None, False, "1"), name)


@dataclass(frozen=True)
class Resource:
    """What the gate would let leave."""

    resource: str
    version: int = 1
    items: tuple[Item, ...] = ITEMS


@dataclass
class Clock:
    """Stands still until it is moved; every reading is a microsecond later."""

    at: datetime = datetime(2026, 11, 21, 8, 0, 0, 1, tzinfo=UTC)
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        self.at += timedelta(microseconds=1)
        return self.at

    def seconds(self) -> float:
        """The same as monotonic seconds."""
        return self.at.timestamp()

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Short, and shorter for what is short; what takes a day never ends."""
        self.slept.append(seconds)
        if seconds >= A_DAY_S:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001 if seconds < 30 else 0.02)


@dataclass
class World:
    """Everything around one state folder; it outlives the flows that use it."""

    folder: Path
    resources: tuple[Resource, ...] = (Resource(PERSON),)
    limits: Limits = field(default_factory=lambda: Limits(workers=2))
    quota: Quota = field(default_factory=lambda: Quota(10**9, 0))
    free: int = 10**12
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=5, cap_s=600))
    wrap: Callable[[str, Any], Any] = lambda _name, part: part
    uniform: Callable[[float, float], float] = lambda _low, high: high

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.scripts = {r.resource: Script() for r in self.resources}
        self.exchange = ExchangeDouble(AUD, NODE, KEY.public, self.clock.now)
        self.signer = KEY
        self.spent: set[str] = set()
        self.bound: tuple[str, ...] = ()
        self.columns: dict[str, str] = {}
        self.allowed: Allowed | None = None
        self.reports: Path | None = None
        self.refreshes = 0
        self.owners: dict[str, str] = {}
        self.left: list[BatchLeft] = []
        self.recorded: list[Recorded] = []
        self.number: str | None = None
        self.log_fails: BaseException | None = None
        self.returned: list[RejectedBatch] = []
        self.give_fails: BaseException | None = None
        self.refresh_fails: BaseException | None = None
        self._numbers = itertools.count(1)

    def told(self, kind: type[Event]) -> list[Any]:
        """Events of a class."""
        return [e for e in self.events if isinstance(e, kind)]

    def next_id(self) -> str:
        """A uuid7 that grows."""
        return new_uuid7(1_700_000_000_000 + next(self._numbers), bytes(10))

    def job(self, resource: str, run: str, mode: RunKind) -> Job:
        """A job that the worker double reads no further than its names."""
        return Job(
            kind="pull",
            resource=resource,
            run=run,
            connector="double",
            source={},
            table=("t",),
            items=tuple(
                replace(bound(name), column=self.columns.get(name, name))
                for name in self.bound
            ),
            timezone="UTC",
            severity={},
            batch_raw_bytes=1,
            max_rows_per_batch=1,
            quarantine="",
            statement_timeout_s=1,
            mode=mode,
            number=self.number,
            origin="rsj",
        )

    async def refresh(self) -> None:
        """Counts how often the directory was asked for."""
        self.refreshes += 1
        if self.refresh_fails is not None:
            raise self.refresh_fails

    async def record_left(self, event: BatchLeft) -> None:
        """The audit log, or a disk that refuses."""
        if self.log_fails is not None:
            raise self.log_fails
        for known in self.left:
            if (known.epoch, known.seq) == (event.epoch, event.seq) and (
                known.resource == event.resource
            ):
                if known.digest != event.digest:
                    raise ChainMoved("another manifest of it has left")
                return
        self.left.append(event)

    async def record(self, event: Recorded) -> None:
        """The audit log, or a disk that refuses."""
        if self.log_fails is not None:
            raise self.log_fails
        self.recorded.append(event)
        self.events.append(event)

    async def give_back(self, rejected: RejectedBatch) -> int:
        """The quarantine, or a child that dies."""
        self.returned.append(rejected)
        if self.give_fails is not None:
            raise self.give_fails
        return 7

    def open_state(self) -> State:
        """The state of this folder."""
        return State(
            self.folder / "state.db",
            new_incarnation=lambda: f"{next(self._numbers):032x}",
        )

    def open_spool(self) -> Spool:
        """The spool of this folder."""
        return Spool(
            self.folder / "spool", quota=self.quota, free=lambda _folder: self.free
        )

    def parts(self, state: State) -> Parts:
        """What a flow is made of, with whatever ``wrap`` puts around it."""
        return Parts(
            exchange=self.wrap("exchange", self.exchange),
            worker=lambda: WorkerDouble(self.scripts),
            make_job=self.job,
            state=self.wrap("state", state),
            spool=self.wrap("spool", self.open_spool()),
            signer=self.signer,
            keys=lambda: self.exchange,
            refresh_directory=self.refresh,
            sender=Sender(NODE, AUD, "fep/test"),
            record_left=self.record_left,
            record=self.record,
            tell=self.events.append,
            chance=Chance(
                now=self.clock.now,
                sleep=self.clock.sleep,
                uniform=self.uniform,
                new_id=self.next_id,
                new_nonce=lambda: f"nonce-{next(self._numbers):030d}",
                new_incarnation=lambda: f"{next(self._numbers):032x}",
                clock=self.clock.seconds,
            ),
            limits=self.limits,
            backoff=self.backoff,
            allowed=self.allowed,
            give_back=self.give_back,
            reports=self.reports,
            owner=self.owners.get,
            spent=self.spent.__contains__,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[PushFlow]:
        """A recovered flow that serves; leaving it is as abrupt as a kill."""
        state = self.open_state()
        try:
            flow = PushFlow(self.resources, self.parts(state))
            await flow.recover()
            self.task = asyncio.create_task(flow.serve())
            try:
                yield flow
            finally:
                self.task.cancel()
                await asyncio.wait({self.task})
                if not self.task.cancelled():
                    self.task.exception()
        finally:
            state.close()

    async def pulled(self, resource: str = PERSON, **options: Any) -> RunReport:
        """One pull until everything of it is loaded, by a flow of its own."""
        async with self.serving() as flow:
            return await pull(flow, resource, **options)


async def pull(
    flow: PushFlow,
    resource: str = PERSON,
    *,
    confirm_deletes: bool = False,
    kind: RunKind = "full",
) -> RunReport:
    """A pull until its batches are loaded or it has ended otherwise."""
    async with asyncio.timeout(60):
        run = await flow.request_pull(
            resource, confirm_deletes=confirm_deletes, kind=kind
        )
        return await flow.wait(run, delivered=True)


async def until(
    flow: PushFlow, fact: Callable[[ResourceStatus], bool], resource: str = PERSON
) -> ResourceStatus:
    """Wait until a fact of a resource's status holds."""
    async with asyncio.timeout(60):
        while True:
            heard = flow.changes.listen()
            if fact(status := flow.resource(resource)):
                return status
            await heard.wait()
