# SPDX-License-Identifier: Apache-2.0
"""Gives the running parts what has changed; each takes a new value, none is changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.daemon.lookups import Lookups
from agent.daemon.policies import Terms
from agent.daemon.schedules import Plans, Scheduler
from agent.daemon.work import Work
from agent.logs import Teller
from agent.model.item import Item
from agent.pipeline.ballast import Ballast
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.seams import Limits, Parts
from agent.pipeline.spool import Quota, Spool
from agent.retry import Backoff
from agent.settings import Settings

MB = 1_000_000


@dataclass(frozen=True)
class LeavingResource:
    """A resource as the flow takes it."""

    resource: str
    version: int
    items: Sequence[Item]


def leaving(work: Work) -> list[LeavingResource]:
    """What the gate lets leave, for the flow."""
    return [LeavingResource(o.resource, o.version, o.statement) for o in work.outgoing]


def plans(work: Work) -> Plans:
    """When it is read."""
    return {o.resource: work.settings.plans(o.resource) for o in work.outgoing}


def limits(found: Settings) -> Limits:
    """Times and numbers of the flow."""
    return Limits(
        workers=found.push.workers,
        uploads=found.uplink.streams,
        poll_s=found.push.poll_s,
        clock_tolerance_s=found.exchange.clock_tolerance_s,
        keep_loaded_s=found.keep.loaded_hours * 3600.0,
        keep_stored_s=found.keep.stored_days * 86_400.0,
    )


def quota(found: Settings) -> Quota:
    """Bounds of the spool."""
    return Quota(found.spool.quota_mb * MB, found.spool.free_floor_mb * MB)


def reserve(found: Settings) -> int:
    """Bytes of the ballast."""
    return found.spool.ballast_mb * MB


def backoff(found: Settings) -> Backoff:
    """Waits after failures."""
    return Backoff(found.exchange.retry_base_s, found.exchange.retry_cap_s)


@dataclass(frozen=True)
class Swap:
    """The parts that take new values.

    Args:
        flow: of the pushes.
        parts: what it was made of.
        spool: its quota may change.
        ballast: its size may change.
        scheduler: see there.
        lookups: see there.
        teller: its level may change.
        reach: lets the addresses of the exchange hold that the board has now.
    """

    flow: PushFlow
    parts: Parts
    spool: Spool
    ballast: Ballast
    scheduler: Scheduler
    lookups: Lookups
    teller: Teller
    reach: Callable[[], None]

    async def apply(self, old: Work, new: Work) -> None:
        """Let other work hold; what is closed is closed before anything is awaited."""
        found = new.settings
        self.teller.use(found.log.level)
        if old.settings.exchange != found.exchange:
            self.reach()
        self.spool.quota = quota(found)
        self.ballast.use(reserve(found))
        self.scheduler.use(plans(new))
        parts = replace(
            self.parts,
            limits=limits(found),
            backoff=backoff(found),
            allowed=new.ceiling.tables,
        )
        await self.flow.use(leaving(new), parts)
        await self.flow.forget_all_but(new.known)
        await self._policy(old, new)
        await self._sources(old.settings, found)

    async def _policy(self, old: Work, new: Work) -> None:
        """The active policy is held against what the gate offers now."""
        before, after = old.settings.lookup.policy, new.settings.lookup.policy
        if (before, old.offers, old.shut) != (after, new.offers, new.shut):
            await self.lookups.policies.renew(Terms(after, new.offers, new.shut))

    async def _sources(self, old: Settings, new: Settings) -> None:
        """Workers of lookups begin again where the way to their source is another."""
        everywhere = (
            old.agent.timezone != new.agent.timezone
            or old.lookup.statement_timeout_s != new.lookup.statement_timeout_s
        )
        changed = [
            name
            for name in old.sources
            if everywhere or old.sources[name] != new.sources.get(name)
        ]
        sources = self.lookups.sources
        await asyncio.gather(*(sources.renew(name) for name in changed))
