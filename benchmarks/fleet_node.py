# SPDX-License-Identifier: Apache-2.0
"""One node of a fleet: the daemon's own loops towards the exchange, and no others."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from agent.control.directory import TrustedDirectory
from agent.control.heartbeat import Heart, Outlet, Rhythm
from agent.control.trust import Trust, Verified
from agent.control.trust_fetch import Absent, Address, visit
from agent.daemon.loops import keep_directory
from agent.daemon.trust import TrustKeeper, Visits, Waits
from agent.errors import ExchangeUnreachable, FepError
from agent.lookup.relay import Channel, Hooks, Relay
from agent.lookup.relay import Waits as RelayWaits
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.uplink.ways import Shift
from agent.retry import Backoff
from agent.wire.heartbeat import (
    ConfigStand,
    Heartbeat,
    SpoolStand,
    Totals,
)
from agent.wire.problem import Problem
from benchmarks.fleet_air import Air, There
from benchmarks.fleet_nodes import Identity

T = TypeVar("T")

HEARTBEAT_S = 60.0
RETRY_BASE_S, RETRY_CAP_S = 5.0, 600.0
"""Defaults of the settings."""
_DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Time:
    """The fleet's time, ``compress`` times as fast as the clock."""

    compress: float = 1.0
    clock: Callable[[], float] = time.monotonic

    def now(self) -> float:
        """Seconds."""
        return self.clock() * self.compress

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / self.compress)

    def uniform(self, low: float, high: float) -> float:
        """Chance, for waits that know no other clock than the real one."""
        return random.uniform(low, high) / self.compress


@dataclass
class Request:
    """One request.

    Args:
        at: when it began.
        kind: ``beat``, ``poll``, ``tuf`` or ``line``.
        good: whether it was answered as it should.
    """

    at: float
    kind: str
    good: bool = False


class Seen:
    """Every request of the fleet."""

    def __init__(self, clock: Time) -> None:
        self._clock = clock
        self._all: list[Request] = []

    @contextmanager
    def one(self, kind: str) -> Iterator[Request]:
        """A request; one that an open circuit holds back is none."""
        found = Request(self._clock.now(), kind)
        held = False
        try:
            yield found
        except ExchangeUnreachable as e:
            held = e.retry_after is not None
            raise
        finally:
            if not held:
                self._all.append(found)

    def between(self, start: float, end: float) -> list[Request]:
        """Those that began then."""
        return [one for one in self._all if start <= one.at < end]

    def peak(self, found: Sequence[Request]) -> int:
        """Most that began in one second."""
        counts = Counter(int(one.at) for one in found)
        return max(counts.values(), default=0)


class Place(Protocol):
    """Where the exchange is."""

    @property
    def url(self) -> str:
        """Its address."""
        ...

    @property
    def aud(self) -> str:
        """Its id."""
        ...

    @property
    def ca(self) -> Path:
        """Its authority's certificate, PEM."""
        ...


class Node:
    """One node.

    Args:
        identity: who it is.
        exchange: where it goes.
        there: whether it is there, for a node without a network; else None.
        clock: see there.
        seen: where its requests are counted.
    """

    def __init__(
        self,
        identity: Identity,
        exchange: Place,
        there: There | None,
        clock: Time,
        seen: Seen,
    ) -> None:
        self._identity = identity
        self._there = there
        self._url, self._aud, self._ca = exchange.url, exchange.aud, exchange.ca
        self._clock = clock
        self._seen = seen
        self._incarnation = secrets.token_hex(16)
        self._n = 0
        self._changed = True
        self._wanted: tuple[asyncio.Event, ...] = ()
        self._good: dict[str, list[float]] = {"beat": [], "poll": [], "line": []}

    def changed(self) -> None:
        """The exchange will hint at its directory until this node has fetched it."""
        self._changed = True

    def nudge(self) -> None:
        """The exchange says that there is something new."""
        for wanted in self._wanted:
            wanted.set()

    def fresh_at(self, since: float) -> float | None:
        """When the last of beat, poll and line was good again; None: not yet."""
        first = [
            next((at for at in found if at >= since), None)
            for found in self._good.values()
        ]
        known = [at for at in first if at is not None]
        return max(known) if len(known) == len(first) else None

    async def live(self, wait_s: float) -> None:
        """Start after so many seconds; then until it is cancelled."""
        await self._clock.sleep(wait_s)
        async with self._line() as exchange:
            directory = _Directory(self, exchange)
            trust = self._trust(exchange)
            self._wanted = (directory.wanted, trust.wanted)
            relay = self._relay(exchange)
            exchange.ways.listen(lambda shift: _shifted(shift, relay))
            async with asyncio.TaskGroup() as group:
                group.create_task(self._heart(exchange).forever())
                group.create_task(self._directory(directory))
                group.create_task(trust.forever())
                group.create_task(relay.forever())

    def _line(self) -> Exchange | Air:
        if self._there is not None:
            clock = self._clock.now
            return Air(self._url, self._there, clock=clock, base_s=RETRY_BASE_S)
        endpoint = Endpoint(
            url=self._url,
            ca_file=self._ca,
            cert_file=self._identity.certificate,
            key_file=self._identity.key,
            retry_base_s=RETRY_BASE_S,
        )
        return Exchange(
            endpoint,
            now=lambda: datetime.now(UTC),
            clock=self._clock.now,
            sleep=self._clock.sleep,
        )

    async def asked(self, kind: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request, counted."""
        with self._seen.one(kind) as found:
            answer = await ask()
            found.good = True
        if kind in self._good:
            self._good[kind].append(self._clock.now())
        return answer

    # --- heart ------------------------------------------------------------------------

    def _heart(self, exchange: Exchange | Air) -> Heart:
        async def send(text: str) -> bytes:
            return await self.asked("beat", lambda: exchange.heartbeat(text))

        def refresh(names: frozenset[str]) -> None:
            if "directory" in names and self._changed:
                self.nudge()

        return Heart(
            self._beat,
            self._identity.sign,
            Outlet(send, refresh, lambda _: None),
            Rhythm(
                lambda: HEARTBEAT_S,
                lambda: datetime.now(UTC),
                self._clock.sleep,
                random.uniform,
            ),
        )

    def _beat(self) -> Heartbeat:
        self._n += 1
        return Heartbeat(
            iss=self._identity.node,
            aud=self._aud,
            iat=int(time.time()),
            incarnation=self._incarnation,
            n=self._n,
            agent="fep-agent/bench",
            config=ConfigStand(None, _DIGEST),
            worst=(),
            totals=Totals(0, 0, 0, 0),
            spool=SpoolStand(0, 1, 1, blocked=False),
            certificate_days=30,
            clock_offset_ms=0,
            audit_size=0,
        )

    # --- polls ------------------------------------------------------------------------

    async def _directory(self, directory: _Directory) -> None:
        await keep_directory(
            cast("TrustedDirectory", directory),
            cast("Exchange", _NoDirectory()),
            lambda _: None,
            sleep=self._clock.sleep,
            uniform=self._clock.uniform,
        )

    def fetched(self) -> None:
        """It has the directory of now."""
        self._changed = False

    def _trust(self, exchange: Exchange | Air) -> TrustKeeper:
        """The rhythm of looks at the repository, and one small file as each look."""
        look = exchange.look if isinstance(exchange, Air) else self._look
        phases = iter((0.0,))

        def uniform(low: float, high: float) -> float:
            """The first pause is any part of one: the fleet has run for long."""
            return self._clock.uniform(next(phases, low), high)

        return TrustKeeper(
            cast("Trust", _Look(look, self._seen)),
            cast("Visits", _NoVisits()),
            lambda _: None,
            Waits(self._clock.sleep, uniform),
        )

    def _look(self) -> None:
        address = Address(
            self._url, self._ca, self._identity.certificate, self._identity.key
        )
        with suppress(Absent), visit(address) as source:  # answered just as fast
            b"".join(source.get("metadata/timestamp.json"))

    # --- line -------------------------------------------------------------------------

    def _relay(self, exchange: Exchange | Air) -> Relay:
        @asynccontextmanager
        async def connect() -> AsyncIterator[Channel]:
            with self._seen.one("line") as found:
                opening = exchange.channel()
                line = await opening.__aenter__()
                found.good = True
            self._good["line"].append(self._clock.now())
            try:
                yield line
            finally:
                await opening.__aexit__(None, None, None)

        async def answer(_: str) -> Problem:
            return Problem.of("busy", "a node of a benchmark")

        def closed(_error: FepError, _attempt: int, _wait_s: float) -> None:
            return

        return Relay(
            connect,
            Hooks(answer, self.nudge, lambda: None, closed),
            RelayWaits(
                Backoff(RETRY_BASE_S, RETRY_CAP_S),
                random.uniform,
                self._clock.sleep,
                self._clock.now,
            ),
        )


def _shifted(shift: Shift, relay: Relay) -> None:
    """As the daemon does when the exchange is reached again."""
    del shift
    relay.hurry()


class _Directory:
    """What the loop of the directory needs of one."""

    def __init__(self, node: Node, exchange: Exchange | Air) -> None:
        self._node = node
        self._exchange = exchange
        self.wanted = asyncio.Event()
        self.wanted.set()
        self.refused: FepError | None = None
        self.unsound: tuple[str, ...] = ()

    async def refresh(self, _fetch: Any) -> None:
        """A request of the same rhythm."""
        self.wanted.clear()
        await self._node.asked("poll", self._exchange.commands)
        self._node.fetched()


class _NoDirectory:
    async def directory(self) -> str:
        """Too large to be fetched by all; see :class:`_Directory`."""
        raise NotImplementedError


class _Look:
    """What the loop of the repository needs of one."""

    def __init__(self, look: Callable[[], None], seen: Seen) -> None:
        self._look = look
        self._seen = seen

    def refresh(self) -> Verified:
        """One look."""
        with self._seen.one("tuf") as found:
            self._look()
            found.good = True
        return Verified({}, {}, {}, datetime.now(UTC))


class _NoVisits:
    def cut(self) -> None:
        """None is open."""
