# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the door: started, watched, answered, started again.

Rules

1. What the door sends is as foreign as what a client sends: bounded, checked, and a
   frame that the protocol does not have ends it.
2. What it asks is worked on to its end, even if the door is gone meanwhile: the answer
   is in the log, and the next one that asks the same gets it.
3. If it dies, that is told and another is started after a growing pause; nothing else
   of the daemon notices.
4. When the certificate on the disk is another one, the door ends in order and the next
   begins with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.child.frames import Frame, Frames, Outbox
from agent.child.process import Child, Guard
from agent.crypto.jwe import Parcel, Sealed
from agent.errors import ConfigInvalid, FepError, ListenerDied, WorkerDied
from agent.lookup.door.talk import (
    TO_DAEMON_CAP,
    Kind,
    Opening,
    opening_body,
    parcel_body,
    problem_body,
)
from agent.retry import Backoff
from agent.wire.problem import CODES, Problem

DOOR = (sys.executable, "-I", "-m", "agent.lookup.door")
"""How the door starts; its descriptor number follows."""


@dataclass(frozen=True)
class Hooks:
    """What the door calls.

    Args:
        answer: decides on a sealed request; never raises for what the peer did.
        refused: the door refused something with this code.
        opened: it listens on this port.
        closed: it does not: why.
    """

    answer: Callable[[Sealed], Awaitable[Parcel | Problem]]
    refused: Callable[[str], None]
    opened: Callable[[int], None]
    closed: Callable[[FepError], None]


@dataclass(frozen=True)
class Watch:
    """When a door is given up, and how it is followed by the next.

    Args:
        silence_s: seconds without a sign of life.
        leave_s: seconds that it has for its last answers.
        renew_s: pause between two looks at the certificate, seconds.
        steady_s: one that stood so long was a good one: pauses begin anew, seconds.
        restart: pauses between two starts.
        rss_bytes: resident memory above which it is killed.
    """

    silence_s: float = 30.0
    leave_s: float = 6.0
    renew_s: float = 10.0
    steady_s: float = 60.0
    restart: Backoff = field(default=Backoff(base_s=1.0, cap_s=30.0))
    rss_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True)
class Seams:
    """What the door's process is made with.

    Args:
        uniform: ``random.uniform`` or a stand-in.
        sleep: ``asyncio.sleep``.
        command: how it starts.
        environ: environment to choose from; None is this process's.
        clock: monotonic seconds.
        watch: its limits.
    """

    uniform: Callable[[float, float], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    command: Sequence[str] = DOOR
    environ: Mapping[str, str] | None = None
    clock: Callable[[], float] = time.monotonic
    watch: Watch = Watch()


class Door:
    """Keeps the listener open, whichever process it is at the moment.

    Args:
        opening: how to listen.
        hooks: see there.
        seams: see there.
    """

    def __init__(self, opening: Opening, hooks: Hooks, seams: Seams) -> None:
        self._opening = opening
        self._hooks = hooks
        self._seams = seams
        self._at_work: set[asyncio.Task[None]] = set()

    async def settled(self, deadline_s: float) -> None:
        """Wait, but no longer, until what the door has asked is answered."""
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=deadline_s)

    async def forever(self) -> None:
        """Listen, and again after a wait when that ends; until cancelled."""
        seams, attempt = self._seams, 0
        while True:
            began = seams.clock()
            try:
                await self._once()
                attempt = 0
            except FepError as e:
                self._hooks.closed(e)
                if seams.clock() - began > seams.watch.steady_s:
                    attempt = 0
                attempt += 1
                await seams.sleep(seams.watch.restart.wait_s(attempt, seams.uniform))

    async def _once(self) -> None:
        """One process, from its start to its end; returns if it was to be renewed.

        Raises:
            ConfigInvalid: it cannot listen as the settings want.
            ListenerDied: it ended, or had to be ended.
        """
        watch, seams = self._seams.watch, self._seams
        guard = Guard(
            rss_bytes=watch.rss_bytes, silence_s=watch.silence_s, grace_s=watch.leave_s
        )
        environ = os.environ if seams.environ is None else seams.environ
        child = Child(seams.command, guard=guard, environ=environ, clock=seams.clock)
        mark = self._mark()
        try:
            await child.start()
        except WorkerDied as e:
            raise ListenerDied(e.detail) from None
        outbox = Outbox(child.put, asyncio.get_running_loop().call_soon)
        outbox.put(Kind.OPENING, 0, opening_body(self._opening))
        listening = asyncio.create_task(self._listen(child, outbox))
        renewal = asyncio.create_task(self._renewed(mark))
        try:
            await asyncio.wait({listening, renewal}, return_when="FIRST_COMPLETED")
        finally:
            renewal.cancel()
            if not listening.done():
                outbox.put(Kind.END, 0, b"")
                await asyncio.wait({listening}, timeout=watch.leave_s)
            await child.kill("closed by the daemon")
            await asyncio.gather(listening, return_exceptions=True)
        if not renewal.done() or renewal.cancelled():
            listening.result()

    def _mark(self) -> tuple[int, ...]:
        """What tells one certificate on the disk from the next."""
        try:
            found = Path(self._opening.certificate).stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    async def _renewed(self, mark: tuple[int, ...]) -> None:
        """Return once the certificate is there, and another one."""
        while self._mark() in {(), mark}:
            await self._seams.sleep(self._seams.watch.renew_s)

    async def _listen(self, child: Child, outbox: Outbox) -> None:
        """Take what the door says until it is gone, which is an error."""
        frames = Frames(TO_DAEMON_CAP)
        try:
            while data := await child.take():
                for frame in frames.of(data):
                    self._take(frame, outbox)
        except ValueError:
            await child.kill("a message that the protocol does not have")
        raise ListenerDied((await child.died()).detail)

    def _take(self, frame: Frame, outbox: Outbox) -> None:
        match frame.kind:
            case Kind.ASK:
                self._ask(frame, outbox)
            case Kind.REFUSED:
                self._hooks.refused(_code(frame.body))
            case Kind.OPENED:
                self._hooks.opened(int(frame.body))
            case Kind.UNUSABLE:
                raise ConfigInvalid(frame.body.decode("utf-8", "replace")[:1000])
            case Kind.BEAT:
                pass
            case _:
                raise ValueError(f"frame of kind {frame.kind}")

    def _ask(self, frame: Frame, outbox: Outbox) -> None:
        if len(self._at_work) > 2 * self._opening.most:
            raise ValueError("more requests at a time than it was told")
        sealed = Sealed.unpacked(frame.body)
        task = asyncio.create_task(self._one(frame.number, sealed, outbox))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _one(self, number: int, sealed: Sealed, outbox: Outbox) -> None:
        found = await self._hooks.answer(sealed)
        if isinstance(found, Problem):
            outbox.put(Kind.PROBLEM, number, problem_body(found))
        else:
            outbox.put(Kind.SIGNED, number, parcel_body(found))


def _code(body: bytes) -> str:
    """The code of a refusal.

    Raises:
        ValueError: there is none such.
    """
    code = body.decode("ascii")
    if code not in CODES:
        raise ValueError("a code that there is not")
    return code
