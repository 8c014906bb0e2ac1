# SPDX-License-Identifier: Apache-2.0
"""Changed files become what holds, all of them at once, or not at all.

Rules

1. A change is what the digest of settings and documents says, of the ceiling and of
   what the centre has set. Watching and SIGHUP only make us look sooner.
2. Who writes several files is waited for: nothing is loaded before :data:`QUIET_S` of
   silence, and what changes while it is loaded is loaded again.
3. Files with a fault change nothing, are told once and shown with every fault until
   they are right. Two exceptions: a document that shuts its gate is obeyed even if
   another file has a fault, and what the centre set goes back (:meth:`Reloader.back`).
4. Before anything holds it is a record of the audit log.
5. Nothing that runs is dropped: a run ends with the job that it began with, unless what
   it reads may not leave any more.
6. What can only change with a restart stays as it is and is named.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

from agent.audit.events import (
    ConfigChanged,
    ConfigRefused,
    ConfigReloaded,
    ResourceClosed,
    ResourceOpened,
    Tell,
)
from agent.daemon.watch import watching
from agent.daemon.work import Board, Work, digest, in_force, load, narrowed
from agent.errors import (
    AuditDamaged,
    AuditWriteFailed,
    ConfigBroken,
    ConfigInvalid,
    Fault,
    FepError,
    FilesInvalid,
    RestartNeeded,
)
from agent.settings import Settings

QUIET_S = 1.0
"""Silence after the last change before files are loaded, seconds."""
LONGEST_S = 10.0
"""After so much unrest they are loaded all the same, seconds."""
LOOK_S = 60.0
"""Files are looked at so often without any hint, seconds."""


@dataclass(frozen=True)
class Hands:
    """What makes changed work hold.

    Args:
        apply: gives the parts what has changed, after the board has been turned.
        record: puts into the audit log that other work holds; durable when it returns.
            Raises AuditWriteFailed, AuditDamaged: then nothing changes.
        tell: where events go.
    """

    apply: Callable[[Work, Work], Awaitable[None]]
    record: Callable[[ConfigChanged], Awaitable[object]]
    tell: Tell


class Reloader:
    """Looks at the files of a daemon.

    Args:
        board: what holds; turned here alone.
        hands: see there.
    """

    def __init__(self, board: Board, hands: Hands) -> None:
        self._board = board
        self._hands = hands
        self._hint = asyncio.Event()
        self._turn = asyncio.Lock()
        self._digest = board.work.digest
        self._refused = ""
        self._broken: FepError | None = None
        self._waiting: tuple[str, ...] = ()

    def troubles(self) -> list[FepError]:
        """What is wrong with the files, for the status."""
        found: list[FepError] = [] if self._broken is None else [self._broken]
        if (refused := self._board.work.refused) is not None:
            found.append(refused)
        if self._waiting:
            found.append(RestartNeeded(", ".join(self._waiting)))
        return found

    def hint(self) -> None:
        """Files may have changed."""
        self._hint.set()

    async def forever(self) -> None:
        """Look at the files until cancelled.

        Raises:
            FepError: a part could not go on with what it was given.
        """
        while True:
            folders = self._folders()
            with watching(folders, self.hint):
                await self.look()  # what changed before the watch was there
                while folders == self._folders():
                    await self._stir()
                    await self.look()

    def _folders(self) -> frozenset[Path]:
        work = self._board.work
        found = work.settings
        return frozenset(
            {
                work.config.parent,
                found.agent.catalog,
                found.agent.ceiling.parent,
                found.paths.config,
            }
        )

    async def _stir(self) -> None:
        """Wait for a change and the silence after it, or for the time to look."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._hint.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_S):
                await self._silence()

    async def _silence(self) -> None:
        while self._hint.is_set():
            self._hint.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await self._hint.wait()

    async def look(self) -> None:
        """Load the files if they are not what they were; at once, without waiting.

        Raises:
            FepError: a part could not go on with what it was given.
        """
        async with self._turn:
            stands = await asyncio.to_thread(self._stands)
            if stands is not None and stands == self._digest:
                self._mended()
            elif stands is None or stands != self._refused:
                # The log tells and shows by itself that it cannot be written.
                with contextlib.suppress(AuditWriteFailed, AuditDamaged):
                    await self._load(stands)

    def _stands(self) -> str | None:
        """Digest of the files now; None if they cannot even be read."""
        work = self._board.work
        try:
            return digest(work.config, work.settings)
        except FilesInvalid:
            return None

    def _mended(self) -> None:
        self._broken, self._refused = None, ""

    async def _load(self, stands: str | None) -> None:
        try:
            work = await asyncio.to_thread(load, self._board.work.config)
            _check_ceiling(self._board.work, work)
        except FilesInvalid as e:
            await self._refuse(e, stands)
        except Exception as e:  # noqa: BLE001 - an odd file must not end what runs
            await self._refuse(FilesInvalid(f"loading: {type(e).__name__}"), stands)
        else:
            await self._hold(work)

    async def _refuse(self, error: FilesInvalid, stands: str | None) -> None:
        """Keep what holds, but for what somebody has closed."""
        broken = ConfigBroken(error.detail, faults=error.faults)
        if self._broken is None or broken.detail != self._broken.detail:
            self._hands.tell(ConfigRefused(tuple(error.detail.splitlines())))
        self._broken, self._refused = broken, stands or ""
        old = self._board.work
        new = await asyncio.to_thread(narrowed, old)
        closed = new.kept.keys() > old.kept.keys() or new.shut.keys() > old.shut.keys()
        if closed or new.ceiling.tables != old.ceiling.tables:
            await self._switch(old, new)
            self._digest = ""  # the files as they were would open it again

    async def _hold(self, work: Work) -> None:
        """Let other work hold."""
        hands, old = self._hands, self._board.work
        new, waiting = in_force(work, old.settings)
        await hands.record(ConfigChanged(work.digest))
        await self._switch(old, new)
        self._digest, self._waiting = work.digest, waiting
        self._mended()
        changed = tuple(_changed(old, new))
        hands.tell(ConfigReloaded(work.digest, changed, waiting))

    async def back(self, good: Work) -> None:
        """Let the settings of what ran well hold, though files cannot be loaded.

        Nothing opens that is shut now: that waits until the files are right, and so
        does the record of the audit log.

        Args:
            good: what ran well, as the files said it when they could be loaded.

        Raises:
            FepError: a part could not go on with what it was given.
        """
        async with self._turn:
            old = self._board.work
            found, _ = in_force(good, old.settings)
            kept = {**found.kept, **old.kept}
            new = replace(
                old,
                settings=found.settings,
                overlay=found.overlay,
                refused=found.refused,
                outgoing=tuple(o for o in old.outgoing if o.resource not in kept),
                kept=kept,
            )
            await self._switch(old, await asyncio.to_thread(narrowed, new))
            self._digest = ""  # whatever the files say once they are right is other

    async def _switch(self, old: Work, new: Work) -> None:
        self._board.turn(new)
        before = {o.resource for o in old.outgoing}
        after = {o.resource for o in new.outgoing}
        for resource in sorted(before - after):
            why = new.kept.get(resource, "its document is gone")
            self._hands.tell(ResourceClosed(resource, why))
        await self._hands.apply(old, new)
        for resource in sorted(after - before):
            self._hands.tell(ResourceOpened(resource))


def _check_ceiling(old: Work, new: Work) -> None:
    """A file that is gone must not open what it has closed; an empty one may.

    Raises:
        ConfigInvalid: there is no ceiling any more where one named tables.
    """
    if old.ceiling.tables is not None and not new.ceiling.present:
        expected = "the file that was there: it names what may be read"
        path = str(new.ceiling.path)
        raise ConfigInvalid(faults=(Fault(path, "", expected, "no such file"),))


def _changed(old: Work, new: Work) -> list[str]:
    """Sections of the settings and documents that are not as they were."""
    sections = [
        name
        for name in Settings.model_fields
        if getattr(old.settings, name) != getattr(new.settings, name)
    ]
    left = {o.resource: o for o in old.outgoing}
    now = {o.resource: o for o in new.outgoing}
    documents = {r for r in left.keys() | now if left.get(r) != now.get(r)}
    offers = old.offers.keys() | new.offers
    documents |= {r for r in offers if old.offers.get(r) != new.offers.get(r)}
    return [*sections, *sorted(documents)]
