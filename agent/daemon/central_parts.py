# SPDX-License-Identifier: Apache-2.0
"""What taking the centre's configuration stands on: wishes, memory, hands and time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from agent.audit.events import Event, Recorded
from agent.control import probation
from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.control.probation import Gates, Stand, Wish
from agent.control.trust import Verified
from agent.daemon.work import Work
from agent.errors import (
    ConfigHalted,
    ConfigHeld,
    ConfigOlder,
    ConfigReverted,
    ConfigWaits,
    FepError,
)
from agent.settings import Settings
from agent.state.central import CentralRows
from agent.wire.grammar import format_time


@dataclass(frozen=True)
class Wanted:
    """What the centre wants now.

    Args:
        overlay: what its documents come to; None if they say nothing.
        parts: generations of all of them.
        opens: when the ring of this node opens, None: it is in none.
        halted: generations that the centre has stopped.
    """

    overlay: Overlay | None
    parts: frozenset[int]
    opens: datetime | None
    halted: frozenset[int]


@dataclass(frozen=True)
class Store:
    """What is remembered.

    Args:
        applied: the overlays on disk.
        rows: of the state.
        holding: until when a person holds, None if nobody does.
    """

    applied: Applied
    rows: CentralRows
    holding: Callable[[], datetime | None]


class Proves(Protocol):
    """Asks addresses of the exchange who they are."""

    async def prove(self, found: Settings, urls: Iterable[str]) -> None:
        """Ask each of these. Raises EndpointUnproven."""
        ...

    async def any(self, found: Settings, urls: Iterable[str]) -> bool:
        """Whether one of these is our exchange."""
        ...


class Reloads(Protocol):
    """Makes the files hold."""

    async def look(self) -> None:
        """Load them if they are not what they were."""
        ...

    async def back(self, good: Work) -> None:
        """Let the settings of what ran well hold, though they cannot be loaded."""
        ...


@dataclass(frozen=True)
class Hands:
    """What moves.

    Args:
        wanted: what verified files want of this node; blocking. Raises FepError: they
            are too old, have faults, or the ceiling forbids it.
        kept: what was verified last, None for nothing; blocking.
        distrust: why nothing newer is verified, or the files do not hold.
        tried: the work with an overlay that does not hold yet. Raises FilesInvalid.
        check: asks the sources of resources. Raises ConfigUnfit.
        reloads: see there.
        record: adds to the audit log. Raises AuditWriteFailed, AuditDamaged.
        tell: where events go.
    """

    wanted: Callable[[Verified], Wanted]
    kept: Callable[[], Verified | None]
    distrust: Callable[[], Sequence[FepError]]
    tried: Callable[[Overlay | None], Work]
    check: Callable[[Work, Collection[str]], Awaitable[None]]
    reloads: Reloads
    record: Callable[[Recorded], Awaitable[object]]
    tell: Callable[[Event], None]


@dataclass(frozen=True)
class Seams:
    """Time.

    Args:
        now: aware UTC.
        clock: monotonic seconds.
        sleep: ``asyncio.sleep``.
    """

    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


def why(
    choice: probation.Choice, wish: Wish, stand: Stand, gates: Gates
) -> FepError | None:
    """Why a wish is not tried; None if it runs."""
    match choice:
        case "older":
            return ConfigOlder(
                f"expected generation {stand.floor} or later, got {wish.generation}"
            )
        case "failed" if stand.failed is not None:
            return ConfigReverted(f"{stand.failed.reason}: {stand.failed.detail}")
        case "halted":
            return ConfigHalted(f"generation {wish.generation}")
        case "waits":
            opens = "" if gates.opens is None else f" until {format_time(gates.opens)}"
            return ConfigWaits(f"generation {wish.generation}{opens}")
        case "held" if gates.held_until is not None:
            return ConfigHeld(f"until {format_time(gates.held_until)}")
        case _:
            return None
