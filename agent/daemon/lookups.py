# SPDX-License-Identifier: Apache-2.0
"""The lookup side of the daemon: its parts, its ways in, its loops.

Rules

1. Lookups begin after recovery and end with a drain; what is in flight is answered.
2. A failure on this side is told and shown, and never stops a push; what fails is begun
   again after a wait.
3. The one exception: once the audit log cannot be written, nothing may leave at all.
   The state is shown for a while, then the daemon ends, so that a restart can mend it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from agent.audit.desk import AuditDesk
from agent.audit.events import (
    ChannelDown,
    ChannelUp,
    ListenerDown,
    ListenerUp,
    LookupLoopFailed,
    Tell,
)
from agent.audit.log import AuditLog
from agent.audit.witness import Pace, Witness
from agent.catalog.gate import Offer
from agent.daemon.policies import Policies
from agent.errors import FepError, InternalFault, UsageFault
from agent.local.lookups import Sight, Way
from agent.lookup import record
from agent.lookup.door.process import Door
from agent.lookup.flow import LookupFlow
from agent.lookup.opener.process import Opener
from agent.lookup.query.gather import Sources
from agent.lookup.relay import Relay
from agent.wire.grammar import format_time

AGAIN_S = 5.0
"""Pause before a loop that failed is begun again, seconds."""
SENT_S = 1.0
"""So long at least answers that are ready may take to leave at the end, seconds."""
PURGE_S = 600.0
"""Pause between two purges of old requests and evidence, seconds."""


class Standing:
    """How one way in stands, and since when.

    Args:
        now: aware UTC.
        enabled: whether the settings want it.
    """

    def __init__(self, *, now: Callable[[], datetime], enabled: bool) -> None:
        self._now = now
        self._enabled = enabled
        self._up = False
        self._since = format_time(now())
        self._fault: FepError | None = None

    def opened(self) -> None:
        """It is open."""
        self._up, self._since, self._fault = True, format_time(self._now()), None

    def closed(self, fault: FepError) -> None:
        """It is not."""
        if self._up:
            self._up, self._since = False, format_time(self._now())
        self._fault = fault

    def way(self) -> Way:
        """For the status."""
        fault = self._fault
        code, detail = (fault.code, fault.detail) if fault else (None, "")
        return Way(self._enabled, self._up, self._since, code, detail)


@dataclass(frozen=True)
class Lookups:
    """The assembled parts of this side.

    Args:
        flow: answers.
        log: records.
        witness: has the log cosigned.
        pace: when.
        policies: shows and activates them.
        audit: what people ask of the log.
        sources: where rows come from.
        relay: the line, if the settings want it.
        line: how it stands.
        door: the listener, if the settings want one.
        opener: of requests, beside the listener.
        threshold: how it stands.
        evidence_days: how long evidence is kept, now.
        offers: what may be looked up.
        tell: where events go.
        sleep: ``asyncio.sleep``.
    """

    flow: LookupFlow
    log: AuditLog
    witness: Witness
    pace: Pace
    policies: Policies
    audit: AuditDesk
    sources: Sources
    relay: Relay | None
    line: Standing
    door: Door | None
    opener: Opener | None
    threshold: Standing
    evidence_days: Callable[[], int]
    offers: Mapping[str, Offer]
    tell: Tell
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def sight(self) -> Sight:
        """For the status."""
        return Sight(
            offered=len(self.offers),
            relay=self.line.way,
            listener=self.threshold.way,
            counts=self.flow.counts,
            inside=lambda: self.flow.inside,
            policy=self.policies.standing,
            head=self.log.head,
            witness=lambda: self.witness.state,
            troubles=self.troubles,
        )

    def troubles(self) -> list[FepError]:
        """What is wrong on this side, apart from its ways in."""
        found = (
            self.log.trouble,
            self.policies.trouble,
            self.witness.trouble,
            self.flow.trouble,
        )
        return [e for e in found if e is not None]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer lookups until the block ends."""
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("witness", self._cosign),
            ("summary", self.flow.summarise),
            ("purge", self._purge),
            ("warm", self._warm),
        ]
        if self.relay is not None:
            loops.append(("relay", self.relay.forever))
        if self.door is not None:
            loops.append(("listener", self.door.forever))
        if self.opener is not None:
            loops.append(("opener", self.opener.live))
        tasks = [asyncio.create_task(self._kept(name, run)) for name, run in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new, let what is in flight be answered."""
        until = asyncio.get_running_loop().time() + deadline_s
        await self.flow.drain(deadline_s)
        if self.relay is not None:
            left_s = until - asyncio.get_running_loop().time()
            await self.relay.settled(max(left_s, min(deadline_s, SENT_S)))
        if self.door is not None:
            await self.door.settled(SENT_S)
        await self._last_words()

    async def _last_words(self) -> None:
        try:
            await self.flow.record_refused()
        except FepError:
            return  # the log has told it

    # --- loops ----------------------------------------------------------------------

    async def _kept(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop; if it fails, tell, wait, begin again."""
        while True:
            try:
                await run()
            except FepError as e:
                fault: FepError = e
            except Exception as e:  # noqa: BLE001 - a defect here must not stop pushes
                fault = InternalFault(f"{name}: {type(e).__name__}")
            else:
                return
            self.tell(LookupLoopFailed(name, fault.code, fault.detail))
            await self.sleep(AGAIN_S)

    async def _cosign(self) -> None:
        await self.witness.serve(self.pace, sleep=self.sleep)

    async def _purge(self) -> None:
        while self.log.trouble is None:
            await self.log.purge(evidence_days=self.evidence_days())
            await self.sleep(PURGE_S)

    async def _warm(self) -> None:
        """Start the workers of sources before the first lookup waits for them."""
        for name in sorted({offer.source for offer in self.offers.values()}):
            await self.sources.warm(name)


def told(
    line: Standing, tell: Tell, nudged: Callable[[], None]
) -> tuple[Callable[[], None], Down]:
    """What the relay calls when the line comes and goes.

    A nudge that was meant for us while it was down is lost: a key may be revoked that
    we still trust. So each new line counts as one.
    """

    def opened() -> None:
        line.opened()
        tell(ChannelUp())
        nudged()

    def closed(fault: FepError, attempt: int, wait_s: float) -> None:
        line.closed(fault)
        tell(ChannelDown(fault.code, fault.detail, attempt, wait_s))

    return opened, closed


Down = Callable[[FepError, int, float], None]


def told_door(
    threshold: Standing, tell: Tell
) -> tuple[Callable[[int], None], Callable[[FepError], None]]:
    """What the door calls when the listener comes and goes."""

    def opened(port: int) -> None:
        threshold.opened()
        tell(ListenerUp(port))

    def closed(fault: FepError) -> None:
        threshold.closed(fault)
        tell(ListenerDown(fault.code, fault.detail))

    return opened, closed


class Renewal:
    """Fetches the directory because a key is missing, but not at every call.

    Args:
        fetch: fetches and verifies it; raises PeerFault.
        clock: monotonic seconds.
        pause_s: least time between two fetches.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[None]],
        *,
        clock: Callable[[], float],
        pause_s: float = 5.0,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._pause_s = pause_s
        self._last = float("-inf")

    async def __call__(self) -> bool:
        """Whether it was fetched now."""
        if self._clock() - self._last < self._pause_s:
            return False
        self._last = self._clock()
        try:
            await self._fetch()
        except FepError:
            return False  # the loop that keeps the directory tells it
        return True


def frames_of(offers: Mapping[str, Offer]) -> Callable[[str, Mapping[str, str]], bytes]:
    """Makes the canonical key of what a person typed."""

    def frames(resource: str, keys: Mapping[str, str]) -> bytes:
        offer = offers.get(resource)
        if offer is None:
            raise UsageFault("resource: expected one that is open for lookups")
        if unknown := keys.keys() - offer.by_name.keys():
            raise UsageFault(f"keys: {resource} has no {min(unknown)[:64]}")
        return b"".join(
            record.key_frame(bound.item.type, keys[name])
            for name, bound in offer.by_name.items()
            if name in keys
        )

    return frames
