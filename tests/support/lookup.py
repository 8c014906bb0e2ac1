# SPDX-License-Identifier: Apache-2.0
"""A lookup flow with doubles around it; the audit log and the cryptography are real."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.daykeys import DayKeys
from agent.audit.events import Event
from agent.audit.log import AuditLog
from agent.catalog.folder import load_folder
from agent.catalog.gate import Offer, offers
from agent.demo import documents
from agent.errors import DirectoryStale, FepError
from agent.lookup.flow import Chance, LookupFlow, Opener, Parts
from agent.lookup.intake import Bounds, Turnstile
from agent.lookup.policy import load as policies
from agent.lookup.policy.judge import Active
from agent.lookup.query import TWICE, Answer, Ask
from agent.state.ledger import Ledger
from agent.wire.directory import Directory
from agent.wire.grammar import new_uuid7
from agent.wire.lookup import Reply
from agent.wire.problem import Problem
from tests.support.requester import Party, Requester, directory_of, template

PROVIDER = "11990100MB0000018H/rsj-fep1"
CONSUMER = "11990100MB0000027F/ybj-fep1"
STRANGER = "12990100MB00000357/gjj-fep1"
RESOURCE = "101001/000001"
AS_OF = "2026-11-21T07:59:59Z"
POLICY = """
[[grants]]
id = "get"
consumers = ["11990100MB0000027F"]
resource = "101001/000001"
ops = ["get", "verify", "exists"]
keys = ["citizen_id"]
purposes = [{ purpose = "administrative_basis", basis = 'case:TA-[0-9]{4}-[0-9]{5}' }]
max_items = 100
[grants.fields]
name = "show"
status = "verify"
address = "mask:address"
birth_date = "mask:year"
"""

ZHANG = {
    "citizen_id": "110101199003070011",
    "name": "张三",
    "address": "云溪市东城区幸福路 8 号 3 单元 502 室",
    "birth_date": "1990-03-07",
    "status": "1",
}


@dataclass
class SourceDouble:
    """Rows in memory; counts every key that it is asked for.

    Args:
        rows: persons by item; two with one number are found twice.
    """

    rows: list[dict[str, Any]] = field(default_factory=lambda: [dict(ZHANG)])
    asked: list[tuple[str, ...]] = field(default_factory=list)
    fault: BaseException | None = None
    gate: asyncio.Event | None = None
    before: Callable[[], None] = lambda: None

    async def fetch(self, ask: Ask) -> Answer:
        """As :class:`agent.lookup.query.gather.Sources` does."""
        self.asked += ask.keys
        self.before()
        if self.gate is not None:
            await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Answer(tuple(self._row(ask, key) for key in ask.keys), AS_OF)

    def _row(self, ask: Ask, key: tuple[str, ...]) -> Any:
        wanted = dict(zip(ask.key_items, key, strict=True))
        found = [
            row
            for row in self.rows
            if all(row.get(name) == text for name, text in wanted.items())
        ]
        if len(found) > 1:
            return TWICE
        names = [bound.item.name for bound in ask.items]
        return tuple(found[0].get(name) for name in names) if found else None


@dataclass
class Clock:
    """Stands still until it is moved."""

    at: datetime = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


def sample_offers() -> dict[str, Offer]:
    """What the sample department opens for lookups."""
    folder = load_folder(documents.FOLDER, sources=(documents.SOURCE,))
    return dict(offers(folder))


@dataclass
class World:
    """Everything around one ledger; it outlives the flows that use it."""

    folder: Path
    policy: str = POLICY
    bounds: Bounds = field(default_factory=Bounds)
    deadline_s: float = 5.0
    at_work: int = 256
    provider: Party = field(default_factory=lambda: Party(PROVIDER))
    opener: Opener | None = None

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.sources = SourceDouble()
        self.offers = sample_offers()
        self.consumer = Party(CONSUMER)
        self.stranger = Party(STRANGER)
        self.directory: Directory = directory_of(
            self.provider.entry(), self.consumer.entry(), self.stranger.entry()
        )
        self.newer: Directory | None = None
        self.stale = False
        self.renewals = 0
        self.witnessed = True
        self.boot = "first"
        self.barred: FepError | None = None
        self._numbers = itertools.count(1)
        self.asker = Requester(
            self.consumer,
            self.provider,
            template(CONSUMER, PROVIDER, jti=self.next_id(), iat=self.iat),
        )
        self.flow: LookupFlow
        self.log: AuditLog

    @property
    def iat(self) -> int:
        """Now, as a request has it."""
        return int(self.clock.at.timestamp())

    def next_id(self) -> str:
        """A uuid7 that grows."""
        return new_uuid7(1_795_000_000_000 + next(self._numbers), bytes(10))

    def told(self, kind: type[Event]) -> list[Any]:
        """Events of a class."""
        return [e for e in self.events if isinstance(e, kind)]

    def active(self, rev: int = 1, text: str | None = None) -> Active:
        """The policy, loaded."""
        return Active(rev, policies.load(text or self.policy, self.offers))

    def open_log(self) -> AuditLog:
        """The audit log of this folder."""
        return AuditLog(
            Ledger(self.folder / "lookup.db"),
            origin=f"{PROVIDER}/audit",
            key=self.provider.audit,
            day_keys=DayKeys(self.folder / "evidence"),
            tell=self.events.append,
            now=self.clock.now,
        )

    def parts(self, log: Any) -> Parts:
        """What a flow is made of."""
        return Parts(
            node=PROVIDER,
            signer=self.provider.sign,
            keys={self.provider.decrypt.public.kid: self.provider.decrypt},
            directory=self.keys,
            agreed=lambda: self.log.whole and self.witnessed,
            barred=lambda: self.barred,
            renew=self.renew,
            log=log,
            sources=self.sources,
            offers=self.offers,
            turnstile=Turnstile(self.bounds, clock=self.clock.seconds),
            tell=self.events.append,
            chance=Chance(
                now=self.clock.now,
                today=lambda: date(2026, 11, 21),
                clock=self.clock.seconds,
                sleep=asyncio.sleep,
                new_id=self.next_id,
            ),
            deadline_s=self.deadline_s,
            at_work=self.at_work,
            opener=self.opener,
        )

    @asynccontextmanager
    async def serving(
        self,
        *,
        wrap: Callable[[AuditLog], Any] = lambda log: log,
    ) -> AsyncIterator[LookupFlow]:
        """A recovered flow."""
        self.log = self.open_log()
        await self.log.start(version="test", boot=self.boot)
        try:
            self.flow = LookupFlow(
                self.parts(wrap(self.log)),
                policy=self.active(),
                started=self.clock.now(),
            )
            await self.flow.recover()
            yield self.flow
        finally:
            await self.log.close()

    def keys(self) -> Directory:
        """The directory, unless it is too old."""
        if self.stale:
            raise DirectoryStale("expected a newer one")
        return self.directory

    async def renew(self) -> bool:
        """Take the newer directory, if there is one."""
        self.renewals += 1
        newer, self.newer = self.newer, None
        self.directory = newer or self.directory
        self.stale = self.stale and newer is None
        return newer is not None

    async def records(self, kind: str = "lookup.decided") -> list[dict[str, Any]]:
        """Records of the log, of one kind."""
        lines = await self.log.lines(0, 1_000_000)
        found = [json.loads(line) for line in lines]
        return [r for r in found if r["kind"] == kind]

    async def ask(self, **changes: Any) -> Reply | Problem:
        """Ask with these changes, under a new id."""
        return await self.send(self.asker.ask(**{"jti": self.next_id(), **changes}))

    async def send(self, text: str) -> Reply | Problem:
        """Send a sealed text as it is."""
        return self.read(await self.flow.answer(text))

    def read(self, found: str | Problem) -> Reply | Problem:
        """The reply of an answer, or the problem."""
        return found if isinstance(found, Problem) else self.asker.open(found)


def denied(found: Reply | Problem) -> tuple[str, ...]:
    """Reasons of a signed refusal."""
    assert isinstance(found, Reply), found
    assert found.status == "denied"
    assert not found.results
    return found.reasons


def refused(found: Reply | Problem) -> tuple[int, str]:
    """Status and code of an unsigned one."""
    assert isinstance(found, Problem), found
    return found.status, found.code


def failed(error: FepError) -> Callable[..., Any]:
    """A method that always fails."""

    async def fail(*_: object, **__: object) -> Sequence[object]:
        raise error

    return fail
