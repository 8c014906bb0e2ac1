# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a source's lookup worker: started, watched, started again.

Rules

1. The worker is started with the first query, or by :meth:`Source.warm`, and stays.
   Its settings, secrets too, are read anew at each start and go through its socket.
2. If it dies, the queries under way fail and no others. The next query starts another
   one, at once after a first death, else after a growing pause.
3. A query that is not answered in its time, and a little, means that the driver hangs:
   the worker is killed.
4. A source that refuses the login is not asked again for a while, lest the account be
   locked; then the worker is a new one, with the password of then. One that is away is
   not asked again for a moment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.child.process import Child, Guard
from agent.child.source import FAULTS
from agent.errors import (
    FepError,
    InternalFault,
    OperatorFault,
    SourceFailed,
    SourceLogin,
    SourceUnreachable,
    WorkerDied,
)
from agent.lookup.query.talk import (
    NOBODY,
    SLOTS,
    Fault,
    Found,
    Opening,
    Query,
    Shape,
    answer_of,
    opening_line,
    query_line,
    shape_line,
)
from agent.retry import Backoff

WORKER = (sys.executable, "-I", "-m", "agent.lookup.query")
"""How a worker starts; its descriptor number follows."""

CLOSED = "closed by the daemon"

_KNOWN: tuple[type[FepError], ...] = (*FAULTS.values(), InternalFault)
_FAULTS = {fault.code: fault for fault in _KNOWN}


@dataclass(frozen=True)
class Watch:
    """When a worker is given up, and how long a source is left alone.

    Args:
        hang_s: seconds beyond the statement's time before the driver is taken to hang.
        login_s: pause after a refused login, seconds.
        away_s: pause after a source could not be reached, seconds.
        restart: pauses between two starts.
        rss_bytes: resident memory above which it is killed.
    """

    hang_s: float = 3.0
    login_s: float = 60.0
    away_s: float = 1.0
    restart: Backoff = field(default=Backoff(base_s=1.0, cap_s=30.0))
    rss_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True)
class Seams:
    """What a source's process is made with.

    Args:
        command: how a worker starts.
        environ: environment to choose from; None is this process's.
        clock: monotonic seconds.
        uniform: ``random.uniform`` or a stand-in.
        watch: its limits.
    """

    uniform: Callable[[float, float], float]
    command: Sequence[str] = WORKER
    environ: Mapping[str, str] | None = None
    clock: Callable[[], float] = time.monotonic
    watch: Watch = Watch()


Answers = list[tuple[str, Any, int]]
"""For each ask its as_of, its rows as on the line, and about their bytes."""


class Source:
    """The worker of one source, whichever process it is at the moment.

    Args:
        opening: how the source is reached; called at each start.
        seams: what it is made with.
    """

    def __init__(self, opening: Callable[[], Opening], seams: Seams) -> None:
        self._opening = opening
        self._seams = seams
        self._worker: _Worker | None = None
        self._starting = asyncio.Lock()
        self._deaths = 0
        self._held: FepError | None = None
        self._held_until = 0.0
        self._closed = False

    async def warm(self) -> None:
        """Start the worker if there is none.

        Raises:
            SourceFault: the source is left alone for now, or its settings are wrong.
            WorkerDied: it could not be started, or died too often.
        """
        await self._running()

    async def ask(
        self, shape: Shape, keys: Sequence[Sequence[str]], split: Sequence[int]
    ) -> Answers:
        """Ask keys of one shape.

        Args:
            shape: what is asked.
            keys: of all asks, one after another.
            split: how many keys each ask has.

        Raises:
            SourceFault: the source could not answer.
            WorkerDied: the worker is gone, or its driver hangs.
            InternalFault: the connector broke its contract.
        """
        worker = await self._running()
        try:
            answers = await worker.ask(shape, keys, split)
        except FepError as e:
            await self._learned(worker, e)
            raise
        self._deaths = 0
        return answers

    async def close(self) -> None:
        """End the worker, and start none again; what is under way fails."""
        self._closed = True
        async with self._starting:
            if self._worker is not None:
                await self._worker.end(CLOSED)

    async def _running(self) -> _Worker:
        worker = self._worker
        if worker is not None and worker.alive:
            self._raise_held()
            return worker
        async with self._starting:
            worker = self._worker
            if self._closed:
                raise WorkerDied(CLOSED)
            if worker is None or not worker.alive:
                self._raise_held()
                self._worker = worker = await self._started()
            return worker

    async def _started(self) -> _Worker:
        try:
            opening = self._opening()
        except OperatorFault as e:
            raise SourceFailed(e.detail) from None
        worker = _Worker(opening, self._seams, self._died)
        try:
            await worker.start()
        except WorkerDied as e:
            self._died(e)
            raise
        return worker

    def _died(self, error: FepError) -> None:
        self._deaths += 1
        if self._deaths > 1:
            seams = self._seams
            self._hold(
                error, seams.watch.restart.wait_s(self._deaths - 1, seams.uniform)
            )

    async def _learned(self, worker: _Worker, error: FepError) -> None:
        match error:
            case SourceLogin():
                self._hold(error, self._seams.watch.login_s)
                if self._worker is worker:
                    self._worker = None
                await worker.end("the login was refused")
            case SourceUnreachable():
                self._hold(error, self._seams.watch.away_s)

    def _hold(self, error: FepError, wait_s: float) -> None:
        self._held = error
        self._held_until = self._seams.clock() + wait_s

    def _raise_held(self) -> None:
        if self._held is not None:
            if self._seams.clock() < self._held_until:
                raise _like(self._held)
            self._held = None


@dataclass
class _Pending:
    """A query under way: what has come of it, and who waits for the rest."""

    done: asyncio.Future[Answers]
    asks: int
    answers: Answers = field(default_factory=list)


class _Worker:
    """One process, from its start to its end.

    Args:
        opening: its first line.
        seams: what it is made with.
        died: told when it ends without having been asked to.
    """

    def __init__(
        self, opening: Opening, seams: Seams, died: Callable[[FepError], None]
    ) -> None:
        self._given = opening
        self._seams = seams
        self._died = died
        self._child = Child(
            seams.command,
            guard=Guard(
                rss_bytes=seams.watch.rss_bytes, silence_s=float("inf"), grace_s=1.0
            ),
            environ=os.environ if seams.environ is None else seams.environ,
            clock=seams.clock,
        )
        self._slots: dict[Shape, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._asked = 0
        self._listening: asyncio.Task[None] | None = None
        self._ending = False
        self._fault: FepError | None = None

    @property
    def alive(self) -> bool:
        """It can be asked."""
        return self._fault is None and not self._ending

    async def start(self) -> None:
        """Start the process and tell it of its source.

        Raises:
            WorkerDied: it could not be started, or died at once.
        """
        await self._child.start()
        await self._child.write(opening_line(self._given))
        self._listening = asyncio.create_task(self._listen())

    async def ask(
        self, shape: Shape, keys: Sequence[Sequence[str]], split: Sequence[int]
    ) -> Answers:
        """See :meth:`Source.ask`."""
        if self._fault is not None:
            raise _like(self._fault)
        lines = b""
        slot = self._slots.get(shape)
        if slot is None:
            slot = self._slot(shape)
            lines = shape_line(slot, shape)
        self._asked += 1
        query = Query(self._asked, slot, tuple(split), keys)
        pending = _Pending(asyncio.get_running_loop().create_future(), len(split))
        self._pending[query.id] = pending
        patience = self._given.statement_s + self._seams.watch.hang_s
        try:
            async with asyncio.timeout(patience):
                for line in (lines, query_line(query)):
                    if line:
                        await self._child.write(line)
                return await pending.done
        except TimeoutError:
            await self._child.kill(f"no answer for {patience:g} s")
            raise await self._child.died() from None
        finally:
            self._pending.pop(query.id, None)

    async def end(self, reason: str) -> None:
        """Kill it and wait until it is gone."""
        self._ending = True
        await self._child.kill(reason)
        if self._listening is not None:
            await asyncio.wait({self._listening})

    def _slot(self, shape: Shape) -> int:
        """A number for a new shape: a free one, or that of the oldest."""
        if len(self._slots) < SLOTS:
            slot = len(self._slots)
        else:
            slot = self._slots.pop(next(iter(self._slots)))
        self._slots[shape] = slot
        return slot

    async def _listen(self) -> None:
        """Take answers until the process is gone; then everybody waiting knows."""
        fault: FepError = WorkerDied("it closed its socket")
        try:
            while line := await self._child.read(patient=True):
                self._take(answer_of(line))
            fault = await self._child.died()
        except ValueError:
            await self._child.kill("a message that the protocol does not have")
            fault = await self._child.died()
        except FepError as e:  # also what it said before it went
            fault = e
        finally:
            self._fault = fault
            for pending in self._pending.values():
                if not pending.done.done():
                    pending.done.set_exception(_like(fault))
            if not self._ending:
                self._died(fault)

    def _take(self, answer: Found | Fault) -> None:
        if isinstance(answer, Fault) and answer.id == NOBODY:
            raise _fault_of(answer)
        pending = self._pending.get(answer.id)
        if pending is None or pending.done.done():
            return
        if isinstance(answer, Fault):
            pending.done.set_exception(_fault_of(answer))
            return
        share = answer.size // max(1, len(answer.asks))
        pending.answers += [(answer.as_of, rows, share) for rows in answer.asks]
        if answer.last:
            if len(pending.answers) != pending.asks:
                raise ValueError("an answer to another number of asks")
            pending.done.set_result(pending.answers)


def _fault_of(answer: Fault) -> FepError:
    return _FAULTS.get(answer.code, InternalFault)(answer.detail)


def _like(error: FepError) -> FepError:
    """An error for another one who waits: none is raised twice."""
    return type(error)(error.detail)
