# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a child process that touches a source.

Rules

1. A child is spawned, never forked from the daemon's memory: a new interpreter with an
   allow-listed environment, no argument but a descriptor number, no descriptor but its
   end of one socket. What it must know, secrets too, goes through that socket.
2. Whatever it sends is bounded: a line by ``LINE_CAP``, its stderr by ``STDERR_KEPT``.
   stderr may hold values of rows, so nobody prints or keeps it: it is read to its end,
   counted and dropped. An error tells its size and the class of the last exception.
3. It is killed (SIGKILL, drivers hang) when it grows above its memory limit, when it is
   silent for too long although nobody makes it wait, when it breaks the protocol, and
   when whoever listens to it stops listening.
4. It dies with the daemon: the socket ends, and Linux sends SIGKILL by
   PR_SET_PDEATHSIG.

Memory is polled and not limited by rlimit, because Arrow reserves address space.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.child.frames import read_pieces
from agent.errors import WorkerDied, WorkerSilent, WorkerTooLarge
from agent.model.job import LINE_CAP

STDERR_KEPT = 16 * 1024
"""Bytes of a child's stderr that are looked at, the last ones."""

_KEPT_VARIABLES = frozenset(
    {"PATH", "LANG", "TZ", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}
)
_KEPT_BYTES = str(32 * 1024 * 1024)
"""The most that glibc takes: more than any column of a page has."""
_SMALL = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": _KEPT_BYTES,
    "MALLOC_TRIM_THRESHOLD_": _KEPT_BYTES,
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""Libraries of a child make no threads of their own: waiting ones of OpenBLAS burn a
core, and each further malloc arena keeps memory. So does Arrow's own allocator: with
that of the system a full read of a million rows peaks 60 MB lower, for 3 % more CPU.
Columns of a page are taken from what the page before gave back: by itself glibc gives
some of it to the system each time, and gets it again a cleared page at a time, which
was 3 % of the CPU of a full push; the peak is the same."""

_EXCEPTION = re.compile(rb"^(?:[A-Za-z_]\w*\.)*([A-Z]\w{0,63})(?::|$)")


@dataclass(frozen=True)
class Guard:
    """When a child is given up.

    Args:
        rss_bytes: resident memory above which it is killed.
        silence_s: seconds without a message while it is its turn to speak.
        poll_s: seconds between two looks at memory and silence.
        grace_s: seconds that a child has to exit after its last message.
    """

    rss_bytes: int = 768 * 1024 * 1024
    silence_s: float = 3660.0
    poll_s: float = 0.25
    grace_s: float = 5.0


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environ`` that a child may see, and what makes its memory small."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT_VARIABLES or name.startswith("LC_")
    }
    return {**kept, **_SMALL}


def resident_bytes(pid: int) -> int:
    """Resident memory of a process in bytes; 0 if it is gone."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_bytes().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def last_exception(stderr: bytes) -> str | None:
    """Class name of the last exception that a Python traceback in ``stderr`` names.

    Only the first line after the indented ones is looked at: messages may have many
    lines, and any of them may hold a value.
    """
    name, inside = None, False
    for line in stderr.splitlines():
        if line.startswith(b"Traceback (most recent call last):"):
            inside = True
        elif inside and not line.startswith(b" "):
            inside = False
            if match := _EXCEPTION.match(line):
                name = match[1].decode()
    return name


class Child:
    """A process that speaks lines over one socket, watched until it is gone.

    Args:
        command: program and arguments; the descriptor number is appended.
        guard: its limits.
        environ: environment to choose from, ``os.environ`` in production.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        guard: Guard,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._guard = guard
        self._environ = environ
        self._clock = clock
        self._process: Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stderr = bytearray()
        self._stderr_size = 0
        self._reason: str | None = None
        self._fault: type[WorkerDied] = WorkerDied
        self._reading = False
        self._quiet_since: float | None = None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended, as far as is known."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process.

        Raises:
            WorkerDied: the program could not be started.
        """
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                str(fd),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=PIPE,
                pass_fds=(fd,),
                env=clean_environment(self._environ),
                start_new_session=True,  # a Ctrl-C is for the daemon, which drains
            )
        except OSError as e:
            ours.close()
            raise WorkerDied(f"cannot start: {e.strerror}") from e
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(
            sock=ours, limit=LINE_CAP
        )
        read_pieces(self._writer.transport)
        self._tasks = [
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._drain_stderr()),
        ]

    async def write(self, line: bytes) -> None:
        """Send one line.

        Raises:
            WorkerDied: nobody reads it any more.
        """
        if len(line) > LINE_CAP:
            raise ValueError(f"line of {len(line)} bytes, at most {LINE_CAP}")
        if self._reading:
            self._quiet_since = self._clock()
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError:
            raise await self.died() from None

    async def read(self, *, patient: bool = False) -> bytes:
        """The next line; empty when the child closed its socket.

        Args:
            patient: the child waits for us, so its silence is no fault.

        Raises:
            WorkerDied: the line is longer than ``LINE_CAP``.
        """
        self._reading = True
        self._quiet_since = None if patient else self._clock()
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return b""
        except ValueError:
            await self.kill(f"a message is longer than {LINE_CAP} bytes")
            raise await self.died() from None
        except asyncio.CancelledError:
            await self.kill("cancelled")
            raise
        finally:
            self._reading = False
            self._quiet_since = None
        return line if line.endswith(b"\n") else b""

    def put(self, data: bytes) -> None:
        """Send bytes that are no line, without waiting; lost if nobody reads them."""
        if not self._writer.is_closing():
            self._writer.write(data)

    async def take(self, most: int = 1 << 18, *, drained: bool = True) -> bytes:
        """Some bytes, as they come; empty when the child closed its socket.

        Args:
            most: of them.
            drained: do not read on while the child leaves unread what it was sent.
        """
        self._quiet_since = self._clock()
        try:
            if drained:
                await self._writer.drain()
            return await self._reader.read(most)
        except ConnectionError:
            return b""
        finally:
            self._quiet_since = None

    async def kill(self, reason: str) -> None:
        """End it now; ``reason`` is what an error will say. Harmless twice."""
        if self._process is not None:
            self._strike(reason)
            await self._reap()

    async def finish(self) -> None:
        """Wait for its exit after its last word, and kill it if it does not go."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._running().wait(), self._guard.grace_s)
        await self.kill("did not exit after its last message")

    async def died(self) -> WorkerDied:
        """Why it is gone, as an error; kills it if it only closed its socket."""
        await self.finish()
        code = self._running().returncode
        parts = [self._reason] if self._reason else []
        parts.append(_exit_text(code))
        if self._stderr_size:
            name = last_exception(bytes(self._stderr)) or "no exception"
            parts.append(f"stderr {self._stderr_size} bytes, {name}")
        return self._fault("; ".join(parts))

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("start() comes first")
        return self._process

    def _strike(self, reason: str, fault: type[WorkerDied] = WorkerDied) -> None:
        process = self._running()
        if process.returncode is None and self._reason is None:
            self._reason, self._fault = reason, fault
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)

    async def _reap(self) -> None:
        await self._running().wait()
        for task in self._tasks:
            # The watch has no end of its own; stderr ends unless a grandchild holds it.
            await asyncio.wait({task}, timeout=0 if task is self._tasks[0] else 1)
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _watch(self) -> None:
        """Look at memory and silence until cancelled."""
        guard, pid = self._guard, self.pid
        while True:
            await asyncio.sleep(guard.poll_s)
            rss = resident_bytes(pid)
            if rss > guard.rss_bytes:
                self._strike(
                    f"memory of {rss >> 20} MiB is above {guard.rss_bytes >> 20} MiB",
                    WorkerTooLarge,
                )
            since = self._quiet_since
            if since is not None and self._clock() - since > guard.silence_s:
                self._strike(f"no message for {guard.silence_s:g} s", WorkerSilent)

    async def _drain_stderr(self) -> None:
        stream = self._running().stderr
        while stream is not None and (piece := await stream.read(4096)):
            self._stderr_size += len(piece)
            self._stderr += piece
            del self._stderr[:-STDERR_KEPT]


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal has no name
            return f"ended by signal {-code}"
    return f"exit code {code}"
