# SPDX-License-Identifier: Apache-2.0
"""Keeps what the city's TUF repository says to this node fresh, beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.audit.events import Tell, TrustTrouble, TrustVerified
from agent.control.agreement import Agreement
from agent.control.directory import City, TrustedDirectory
from agent.control.identity import IdentityFiles
from agent.control.trust import Trust, Verified
from agent.control.trust_fetch import Address, Folder, Source, Visit, visit
from agent.daemon.work import Board
from agent.errors import FepError, PeerFault, SecretUnreadable, SpoolWriteFailed
from agent.local.desk import NO_TRUST
from agent.pipeline.uplink.exchange import Exchange
from agent.state import State
from agent.wire import repository

PERIOD_S = 240.0
"""Pause between two looks at the repository: three in a row fit into the age that the
directory may have (``exchange.directory_max_age_s``)."""
JITTER = 0.2
"""The pause is longer or shorter by up to this part of it."""
MIN_S = 2.0
"""Pause between two looks that somebody asked for, at least: nobody signed a nudge."""

FIRST_S = 10.0
"""So long the daemon's first start waits for it, seconds."""

JsonObject = dict[str, Any]
Heard = Callable[[Verified], Awaitable[None]]


@dataclass(frozen=True)
class Waits:
    """How it waits.

    Args:
        sleep: ``asyncio.sleep``.
        uniform: ``random.uniform``.
    """

    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.SystemRandom().uniform


class Visits:
    """Begins visits to where the repository is, one at a time, and can end one.

    Args:
        address: the exchange as it is reached now; may raise SecretUnreadable.
        folder: the repository lies there instead, or None.
    """

    def __init__(self, address: Callable[[], Address], folder: Path | None) -> None:
        self._address = address
        self._folder = folder
        self._open: Visit | None = None

    @contextmanager
    def begin(self) -> Iterator[Source]:
        """Where files come from."""
        if self._folder is not None:
            yield Folder(self._folder)
            return
        with visit(self._address()) as self._open:
            yield self._open

    def cut(self) -> None:
        """End the one that is open: the daemon does not wait for a slow exchange."""
        if self._open is not None:
            self._open.cut()


class TrustKeeper:
    """Refreshes from time to time, and when it is wanted; tells who listens.

    Args:
        trust: see there.
        visits: the same that ``trust`` has.
        tell: where events go.
        waits: see there.

    Attributes:
        wanted: set by whoever heard that there is something new.
        agreement: what the exchange's directory is judged by.
    """

    def __init__(
        self, trust: Trust, visits: Visits, tell: Tell, waits: Waits | None = None
    ) -> None:
        self._trust = trust
        self._visits = visits
        self._tell = tell
        self._waits = Waits() if waits is None else waits
        self._directory: TrustedDirectory | None = None
        self._listeners: list[Heard] = []
        self._known: Verified | None = None
        self._untold = False  # something that the listeners have not heard
        self._told: tuple[str, str] | None = None
        self.wanted = asyncio.Event()
        self.agreement = Agreement()

    async def begin(self, directory: TrustedDirectory) -> None:
        """Judge this directory, by what was verified in a life before at first.

        A first life has nothing and believes nobody: it looks at once, and the others
        wait for it a moment.
        """
        self._directory = directory
        directory.city = City(self.agreement, self.again)
        kept = await asyncio.to_thread(self._trust.kept)
        self.wanted.set()
        if kept is None:
            try:
                await asyncio.wait_for(self._look(), FIRST_S)
            except TimeoutError:
                self._visits.cut()
        else:
            with contextlib.suppress(PeerFault):  # an older program took it
                self.agreement.take(kept)

    def listen(self, heard: Heard) -> None:
        """Tell somebody what the repository says at the next look, then each change.

        What was verified before then :meth:`Trust.kept` has.
        """
        self._listeners.append(heard)
        self._untold = True

    @property
    def trust(self) -> Trust:
        """What is refreshed."""
        return self._trust

    async def refresh(self) -> Verified:
        """Have it verified now; raises what :meth:`Trust.refresh` raises."""
        found = await asyncio.to_thread(self._trust.refresh)
        self.agreement.take(found)
        changed = self._known is None or self._known.versions != found.versions
        self._known = Verified(found.versions, {}, found.expires, found.at)
        if self._directory is not None:
            self._directory.stop()
        if changed:
            self._untold = True
            self._changed(found)
        return found

    async def again(self) -> None:
        """Have it verified now; who listens hears of it from the loop, a moment later.

        Raises what :meth:`refresh` raises.
        """
        await self.refresh()
        if self._untold:
            self.wanted.set()

    def _changed(self, found: Verified) -> None:
        said = {role: found.versions.get(role, 0) for role in repository.TOP}
        self._tell(TrustVerified(**said))
        if self._directory is not None:
            self._directory.wanted.set()

    async def forever(self) -> None:
        """Look, wait, look; until cancelled."""
        waits = self._waits
        try:
            while True:
                pause = PERIOD_S * waits.uniform(1.0 - JITTER, 1.0 + JITTER)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.wanted.wait(), pause)
                self.wanted.clear()
                await self._look()
                await waits.sleep(MIN_S)
        finally:
            self._visits.cut()

    async def _look(self) -> None:
        try:
            found = await self.refresh()
            self._told = None
            if self._untold and self._listeners:
                self._untold = False
                for heard in self._listeners:
                    await heard(found)
        except (PeerFault, SecretUnreadable, SpoolWriteFailed) as e:
            said = (e.code, e.detail)
            if said != self._told:
                self._told = said
                self._tell(TrustTrouble(e.code, e.detail))

    def troubles(self) -> list[FepError]:
        """What a person should know."""
        return self._trust.troubles()

    def view(self) -> JsonObject:
        """How it stands, for people (docs/cli-json.md)."""
        kept = self._trust.standing()
        if kept is None:
            return {**NO_TRUST, "enabled": True}
        shown = (*repository.TOP, repository.DIRECTORY, repository.BRAKE)
        return {
            "enabled": True,
            "verified_at": kept.at,
            "expires": min(role.expires for role in kept.roles if role.expires),
            "versions": {r.role: r.version for r in kept.roles if r.role in shown},
        }


def make_trust(
    board: Board, state: State, exchange: Exchange, tell: Tell
) -> TrustKeeper | None:
    """What keeps the repository; None without a pinned root."""
    found = board.settings
    if not found.exchange.tuf_root_sha256:
        return None
    files = IdentityFiles(found.paths.state)

    def address() -> Address:
        told, ways = board.settings.exchange, exchange.ways
        return Address(
            url=str(ways.url(ways.used) / "tuf"),
            ca=files.ca,
            certificate=files.tls_certificate,
            key=files.tls_key,
            proxy=None if told.proxy is None else told.proxy.now(),
            connect_timeout_s=told.connect_timeout_s,
            read_timeout_s=told.read_timeout_s,
        )

    folder = found.exchange.tuf_folder
    visits = Visits(address, Path(folder) if folder else None)
    trust = Trust(
        found.exchange.tuf_root_sha256,
        node=found.agent.node,
        folder=found.paths.trust,
        book=state.trust,
        source=visits.begin,
        now=lambda: datetime.now(UTC),
    )
    return TrustKeeper(trust, visits, tell)
