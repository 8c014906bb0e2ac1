# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of one run's child process; ``agent.child`` holds the rules."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Self

from agent.child.process import Child, Guard
from agent.model.job import (
    CentreKeys,
    Ended,
    Failed,
    Job,
    Line,
    Message,
    Packed,
    decode,
    encode,
)
from agent.pipeline.worker.spare import Kind, Spare
from agent.pipeline.worker.turns import Turns

WORKER = (sys.executable, "-I", "-m", "agent.pipeline.worker")
"""How a worker starts; its descriptor number follows. ``-I``: no PYTHON* variables, no
current folder and no user's packages on the path."""


class WorkerProcess:
    """One run of one resource in a process of its own.

    Use it as an asynchronous context manager: leaving the block ends the process,
    gently after its last message, else by force.

    Args:
        command: how a worker starts.
        guard: its limits; None takes them from the job.
        environ: environment to choose from; None is this process's.
        clock: monotonic seconds.
        turns: shared by all workers, so that runs of a limited source take turns.
        spare: shared by all workers: keeps one ready; None: each starts with its run.
    """

    def __init__(
        self,
        command: Sequence[str] = WORKER,
        *,
        guard: Guard | None = None,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        turns: Turns | None = None,
        spare: Spare | None = None,
    ) -> None:
        self._turns = turns or Turns()
        self._held = AsyncExitStack()
        self._command = command
        self._guard = guard
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._spare = spare
        self._kind: Kind | None = None
        self._child: Child | None = None
        self._owing: int | None = None
        self._ended = False

    @property
    def pid(self) -> int:
        """Process id."""
        return self._started().pid

    async def __aenter__(self) -> Self:
        """Nothing is started yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it go if it has said its last word, else kill it."""
        async with self._held:
            try:
                if self._ended:
                    await self._started().finish()
                await self.kill()
            finally:
                self._over()

    async def start(self, job: Job) -> None:
        """Start the process and give it its job, once it is its turn.

        Raises:
            WorkerDied: it could not be started, or died at once.
        """
        await self._held.enter_async_context(self._turns.turn(job.pacing))
        silence_s = job.statement_timeout_s + 60.0
        guard = self._guard or Guard(silence_s=silence_s)
        kind = self._kind = Kind(job.connector, guard)
        if self._spare is not None:
            self._child = await self._spare.take(kind)
        if self._child is None:
            self._child = self._made(guard)
            await self._child.start()
        await self._child.write(encode(job))

    def _made(self, guard: Guard) -> Child:
        return Child(
            self._command, guard=guard, environ=self._environ, clock=self._clock
        )

    def _over(self) -> None:
        """The run is over; after a good one the next worker is made ready."""
        if self._spare is not None and self._kind is not None:
            make = partial(self._made, self._kind.guard) if self._ended else None
            self._spare.over(self._kind, make)

    async def messages(self) -> AsyncIterator[Message]:
        """What the worker says; the last one is an :class:`Ended` or a :class:`Failed`.

        After a :class:`Packed` the worker waits until :meth:`send` gives it the line.

        Raises:
            WorkerDied: it is gone without a last message, or broke the protocol.
        """
        child = self._started()
        while line := await child.read(patient=self._owing is not None):
            try:
                message = decode(line)
            except ValueError:
                await child.kill("a message that the protocol does not have")
                break
            if isinstance(message, Packed):
                self._owing = message.part
            self._ended = isinstance(message, Ended | Failed)
            yield message
            if self._ended:
                await child.finish()
                return
        raise await child.died()

    async def send(self, message: Line | CentreKeys) -> None:
        """Answer a :class:`Packed` or an :class:`AskKeys`.

        Raises:
            WorkerDied: it is gone.
        """
        self._owing = None
        await self._started().write(encode(message))

    async def kill(self) -> None:
        """End it now, whatever it does. Does nothing if it is gone or never started."""
        if self._child is not None:
            await self._child.kill("killed by the daemon")

    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError("start() comes first")
        return self._child
