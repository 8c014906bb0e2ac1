# SPDX-License-Identifier: Apache-2.0
"""The daemon: put together in one function, alive until a signal.

Rules

1. ``assembly.assemble`` makes every part and passes it in; each close stands on one
   exit stack, so that whatever fails, what was opened is closed in reverse.
2. READY comes after recovery, of pushes and of lookups, not after the network: the
   exchange may be away.
3. A signal handler only records. The first SIGTERM or SIGINT drains: nothing new is
   begun, runs and uploads may end, lookups in flight are answered. A second one
   hurries.
   SIGHUP has the files looked at; they are anyway whenever they change.
4. The watchdog is fed only while the event loop, the state and every loop of the flow
   answer.
5. One daemon serves one state folder (flock).
6. While a configuration of the centre is on probation, ends without a signal are
   counted before anything of it is loaded: one with which the daemon cannot live goes.
7. It leaves no core file: keys and secrets are in its memory.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from resource import RLIMIT_CORE, setrlimit

from agent import VERSION, settings
from agent.audit.events import DaemonReady, DaemonStopping
from agent.child.heap import settle_heap
from agent.control.applied import Applied
from agent.control.probation import DIED, Rules
from agent.daemon import swap
from agent.daemon.assembly import Daemon, assemble
from agent.daemon.loops import beside, fingerprints
from agent.daemon.work import Work, load
from agent.errors import AlreadyRunning, FilesInvalid, SpoolWriteFailed
from agent.local import server
from agent.pipeline.ballast import Ballast

DRAIN_S = 60.0
"""Time for runs and uploads to end after the first signal; within TimeoutStopSec."""
HURRY_S = 0.0
"""The same after the second signal."""


@dataclass
class Stop:
    """What the signals said; handlers set it, the life of the daemon reads it."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    signal: str = ""

    def note(self, name: str) -> None:
        """A signal has come."""
        if self.asked.is_set():
            self.hurried.set()
        self.signal = name
        self.asked.set()


def main(config: Path) -> int:
    """Run until a signal; 0 after a clean stop.

    Raises:
        FepError: it could not start, or had to end; the class has the exit code.
    """
    os.umask(0o077)
    setrlimit(RLIMIT_CORE, (0, 0))
    local = settings.load(config, secrets=False)
    with locked(local.paths.state):
        ballast = Ballast(local.paths.ballast, size=swap.reserve(local))
        applied = Applied(local.paths.config, full=ballast.give_up)
        asyncio.run(_main(begun(config, applied)))
        with suppress(SpoolWriteFailed):
            applied.stop()
    return 0


def begun(config: Path, applied: Applied) -> Work:
    """Count how the daemon ended, then load; a full disk keeps it from neither.

    Raises:
        FilesInvalid: the files have faults; that is not counted as a death.
    """
    with suppress(SpoolWriteFailed):
        applied.restart(most=Rules.deaths, reason=DIED)
    try:
        return load(config)
    except FilesInvalid:
        with suppress(SpoolWriteFailed):
            applied.stop()
        raise


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state folder alone.

    Raises:
        AlreadyRunning: another daemon has it.
        SpoolWriteFailed: the folder cannot be made or written.
    """
    path = state / "daemon.lock"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise SpoolWriteFailed(f"{path}: {e.strerror}") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AlreadyRunning(f"{state} is in use") from None
    else:
        yield
    finally:
        os.close(fd)


async def _main(work: Work) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.note, number.name)
    loop.add_signal_handler(signal.SIGHUP, stop.again.set)
    async with AsyncExitStack() as stack:
        daemon = await assemble(stack, work)
        await live(daemon, stop)


async def live(daemon: Daemon, stop: Stop) -> None:
    """Recover, say READY, work until a signal, drain.

    Raises:
        FepError: a part cannot go on, such as SpoolWriteFailed.
    """
    await daemon.flow.recover()
    await daemon.flow.forget_all_but(daemon.board.work.known)
    await daemon.lookups.flow.recover()
    app = server.application(daemon.desk, _people(daemon))
    _make_run_folder(daemon.settings.paths.run)
    async with (
        server.serving(app, daemon.settings.paths.socket),
        daemon.lookups.serving(),
    ):
        secrets = fingerprints(daemon.board.settings)
        settle_heap()
        daemon.tell(DaemonReady(VERSION, daemon.resources))
        daemon.notifier.ready()
        serving = asyncio.create_task(daemon.flow.serve())
        async with beside(serving, daemon, stop.again, secrets=secrets) as failed:
            asked = asyncio.create_task(stop.asked.wait())
            await asyncio.wait({serving, asked, failed}, return_when="FIRST_COMPLETED")
            asked.cancel()
            if stop.asked.is_set():
                await _drain(daemon, stop)
            if failed.done():
                serving.cancel()
                failed.result()
        await serving


def _people(daemon: Daemon) -> server.People:
    lookups = daemon.lookups
    return server.People(
        record=lookups.log.append,
        policies=lookups.policies,
        audit=lookups.audit,
        spool=daemon.spool,
        keys=daemon.keeper,
        peers=daemon.peers,
        config=daemon.centre.desk,
    )


def _make_run_folder(folder: Path) -> None:
    """Under systemd it is there; else make it, open to our group."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o750)


async def _drain(daemon: Daemon, stop: Stop) -> None:
    daemon.notifier.stopping()
    daemon.tell(DaemonStopping(stop.signal, hurried=False))
    drain = asyncio.create_task(_drain_both(daemon, DRAIN_S))
    hurry = asyncio.create_task(stop.hurried.wait())
    await asyncio.wait({drain, hurry}, return_when="FIRST_COMPLETED")
    hurry.cancel()
    if not drain.done():
        daemon.tell(DaemonStopping(stop.signal, hurried=True))
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
        await _drain_both(daemon, HURRY_S)


async def _drain_both(daemon: Daemon, deadline_s: float) -> None:
    await asyncio.gather(
        daemon.flow.drain(deadline_s), daemon.lookups.drain(deadline_s)
    )
