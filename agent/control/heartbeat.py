# SPDX-License-Identifier: Apache-2.0
"""Tells the exchange every minute how this node stands (wire.md §6).

Rules

1. A beat never holds up a push or a lookup: it is one small request of its own, with an
   end, nobody waits for it, and a defect in it ends nothing else.
2. What it tells is what ``fep status`` shows: codes, counts and times.
3. Its answer is not signed. It may bring a fetch of the directory forward, no more.
4. An exchange that is away is no news: the flow tells it. An exchange that refuses the
   beat is told and shown once it begins, until a beat is taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.audit.events import HeartbeatRefused, HeartbeatTaken, Tell
from agent.crypto.jose import Signer
from agent.errors import (
    CloneSuspected,
    ExchangeRefused,
    ExchangeUnreachable,
    FepError,
    InternalFault,
)
from agent.wire import heartbeat as wire
from agent.wire.grammar import format_time
from agent.wire.heartbeat import (
    WORST,
    ConfigStand,
    Heartbeat,
    SpoolStand,
    StreamStand,
    Totals,
)

PATIENCE_S = 20.0
"""So long a beat may take, seconds; then the next one tells more."""
FIRST_S = 5.0
"""The first beat comes within so many seconds."""
JITTER = 0.1
"""So much of the pause is left to chance, so that a fleet does not beat as one."""
CLONED = frozenset({"held", "fork"})
"""Problems that say: another machine beats under this name."""
STUCK = frozenset({"held", "trouble"})

Status = Mapping[str, Any]
"""What ``GET /v1/status`` answers, see ``docs/cli-json.md``."""


@dataclass(frozen=True)
class Standing:
    """What a beat tells besides the status.

    Args:
        incarnation: of the state.
        config: which configuration runs.
    """

    incarnation: str
    config: ConfigStand


def beat(status: Status, standing: Standing, *, n: int, now: datetime) -> Heartbeat:
    """The beat of a status."""
    streams = [_stream(found) for found in status["resources"]]
    offset_s = status["exchange"]["clock_offset_s"]
    spool = status["spool"]
    return Heartbeat(
        iss=status["agent"]["node"],
        aud=status["exchange"]["aud"],
        iat=int(now.timestamp()),
        incarnation=standing.incarnation,
        n=n,
        agent=f"fep-agent/{status['agent']['version']}",
        config=standing.config,
        worst=tuple(sorted(streams, key=_need)[:WORST]),
        totals=Totals(
            streams=len(streams),
            stuck=sum(s.state in STUCK for s in streams),
            batches=sum(s.waiting for s in streams),
            bytes=sum(found["waiting"]["bytes"] for found in status["resources"]),
        ),
        spool=SpoolStand(
            used=spool["used"],
            quota=spool["quota"],
            free=spool["free"],
            blocked=spool["blocked"],
        ),
        certificate_days=status["agent"]["certificate_days"],
        clock_offset_ms=None if offset_s is None else round(offset_s * 1000),
        audit_size=status["lookups"]["audit"]["size"],
        troubles=tuple(t["code"] for t in status["troubles"][:WORST]),
    )


def _stream(found: Status) -> StreamStand:
    trouble = found["trouble"]
    return StreamStand(
        resource=found["resource"],
        state=found["state"],
        code=None if trouble is None else trouble["code"],
        since=None if trouble is None else trouble["since"] or None,
        waiting=found["waiting"]["batches"],
    )


def _need(stream: StreamStand) -> tuple[int, str, int]:
    """Those first that need somebody, the one that has waited longest at the head."""
    rank = 0 if stream.state in STUCK else 1 if stream.code else 2
    return rank, stream.since or "~", -stream.waiting


@dataclass(frozen=True)
class Outlet:
    """What a beat and its answer move.

    Args:
        send: brings a signed beat to the exchange; the body of its answer.
        refresh: asks for what the exchange names to be fetched, such as ``directory``.
        tell: where events go.
        heard: hears of every beat, None when it was taken.
    """

    send: Callable[[str], Awaitable[bytes]]
    refresh: Callable[[frozenset[str]], None]
    tell: Tell
    heard: Callable[[FepError | None], None] = lambda _: None


@dataclass(frozen=True)
class Rhythm:
    """When it beats.

    Args:
        period_s: pause between two beats, asked anew each time, seconds.
        now: aware UTC.
        sleep: ``asyncio.sleep``.
        uniform: ``random.uniform``.
    """

    period_s: Callable[[], float]
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    uniform: Callable[[float, float], float]


class Heart:
    """Beats until it is cancelled.

    Args:
        make: the beat of now; may raise a FepError.
        signer: of purpose ``sign``.
        outlet: see there.
        rhythm: see there.

    Attributes:
        trouble: while the exchange sees another machine under our name.
    """

    def __init__(
        self,
        make: Callable[[], Heartbeat],
        signer: Signer,
        outlet: Outlet,
        rhythm: Rhythm,
    ) -> None:
        self._make = make
        self._signer = signer
        self._outlet = outlet
        self._rhythm = rhythm
        self.trouble: CloneSuspected | None = None
        self._refused: str | None = None  # the code that was told

    async def forever(self) -> None:
        """Beat, wait, beat."""
        rhythm = self._rhythm
        await rhythm.sleep(rhythm.uniform(0.0, min(FIRST_S, rhythm.period_s())))
        while True:
            await self.once()
            spread = rhythm.uniform(1.0 - JITTER, 1.0 + JITTER)
            await rhythm.sleep(rhythm.period_s() * spread)

    async def once(self) -> None:
        """One beat; whatever becomes of it, the next one comes."""
        try:
            text = self._signer.sign(wire.TYP, self._make().payload())
            async with asyncio.timeout(PATIENCE_S):
                wanted = wire.refresh_wanted(await self._outlet.send(text))
        except (TimeoutError, ExchangeUnreachable) as e:
            away = e if isinstance(e, FepError) else ExchangeUnreachable("heartbeat")
            self._outlet.heard(away)
        except ExchangeRefused as e:
            if e.problem in CLONED:
                since = format_time(self._rhythm.now())
                self.trouble = self.trouble or CloneSuspected(f"since {since}: {e}")
            self._note(e, e.problem)
        except FepError as e:
            self._note(e, e.code)
        except Exception as e:  # noqa: BLE001 - a defect here must not stop pushes
            fault = InternalFault(f"heartbeat: {type(e).__name__}")
            self._note(fault, fault.code)
        else:
            self._taken(wanted)

    def _note(self, error: FepError, code: str) -> None:
        self._outlet.heard(error)
        if code != self._refused:
            self._refused = code
            self._outlet.tell(HeartbeatRefused(code, error.detail))

    def _taken(self, wanted: frozenset[str]) -> None:
        if self._refused is not None:
            self._refused = self.trouble = None
            self._outlet.tell(HeartbeatTaken())
        self._outlet.heard(None)
        self._outlet.refresh(wanted)
