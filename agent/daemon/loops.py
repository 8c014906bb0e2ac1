# SPDX-License-Identifier: Apache-2.0
"""Small loops beside the flow: systemd, secrets, the directory, old quarantine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial

from agent.audit.events import (
    BallastChanged,
    DirectoryKept,
    ExchangeTrouble,
    PeerUnsound,
    SecretChanged,
    Tell,
)
from agent.audit.log import AuditLog
from agent.control.directory import TrustedDirectory
from agent.daemon.assembly import Daemon
from agent.daemon.work import Board
from agent.errors import (
    DirectoryRefused,
    ExchangeUnreachable,
    FepError,
    PeerFault,
    SecretUnreadable,
    SpoolWriteFailed,
)
from agent.notify import watchdog_period_s
from agent.pipeline import quarantine_folder
from agent.pipeline.ballast import Ballast
from agent.pipeline.uplink.exchange import Exchange
from agent.settings import Settings

SECRETS_S = 5.0
"""Pause between two looks at the secrets' files."""
DIRECTORY_S = 50.0
"""Pause between two fetches of the directory, at most: a revocation holds within a
minute. A nudge and the answer to a heartbeat are sooner, but nobody signed them."""
JITTER = 0.2
"""So much shorter it may be."""
DIRECTORY_MIN_S = 5.0
"""Pause between two fetches that somebody asked for, at least."""
DISK_S = 2.0
"""Pause between two looks at the disk."""
QUARANTINE_S = 3600.0
"""Pause between two looks for old quarantine files."""
VOUCHERS_S = 86_400.0
"""Pause between two looks for directories that are no evidence."""
STOPPED_S = 60.0
"""So long a log that cannot be written is shown before the daemon ends, seconds."""
STATUS_S = 10.0
"""Pause between two words to systemd when no watchdog waits."""


@asynccontextmanager
async def beside(
    serving: asyncio.Task[None],
    daemon: Daemon,
    again: asyncio.Event,
    *,
    secrets: Mapping[str, str],
) -> AsyncIterator[asyncio.Task[None]]:
    """The small loops; the task given ends only if one of them breaks.

    Args:
        serving: the flow at work.
        daemon: see there.
        again: set when a signal asks to look at the files.
        secrets: their fingerprints from before the daemon was ready.
    """
    group = asyncio.create_task(_loops(serving, daemon, again, secrets))
    try:
        yield group
    finally:
        group.cancel()
        await asyncio.gather(group, return_exceptions=True)


async def _loops(
    serving: asyncio.Task[None],
    daemon: Daemon,
    again: asyncio.Event,
    secrets: Mapping[str, str],
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(serving, daemon))
            group.create_task(_watch_secrets(daemon.board, daemon.tell, secrets))
            group.create_task(
                keep_directory(daemon.directory, daemon.exchange, daemon.tell)
            )
            if daemon.trust is not None:
                group.create_task(daemon.trust.forever())
            if daemon.centre.central is not None:
                group.create_task(daemon.centre.central.forever())
            group.create_task(daemon.heart.forever())
            group.create_task(daemon.commands.forever())
            group.create_task(_purge_quarantine(daemon.board))
            group.create_task(sweep_vouchers(daemon.directory, daemon.state.vouchers))
            group.create_task(keep_ballast(daemon.ballast, daemon.tell))
            group.create_task(daemon.scheduler.forever())
            group.create_task(daemon.reloader.forever())
            group.create_task(daemon.keeper.forever())
            group.create_task(daemon.peers.forever())
            group.create_task(_reload(daemon, again))
    except BaseExceptionGroup as e:
        ours, others = e.split(FepError)
        raise (ours or others or e).exceptions[0] from None


async def _reload(daemon: Daemon, again: asyncio.Event) -> None:
    """Look at the files when a signal asks for it, and tell systemd."""
    while True:
        await again.wait()
        again.clear()
        daemon.notifier.reloading(time.monotonic_ns() // 1000)
        await daemon.reloader.look()
        daemon.notifier.ready()


async def _feed(serving: asyncio.Task[None], daemon: Daemon) -> None:
    """Tell systemd that everything turns, and in a line how it stands."""
    period = watchdog_period_s(os.environ, pid=os.getpid()) or STATUS_S
    stopped_at: float | None = None
    while not serving.done():
        stopped_at = _judge_log(daemon.lookups.log, stopped_at)
        await asyncio.to_thread(daemon.state.pauses)  # the state answers
        stuck = daemon.flow.stuck()
        if stuck is None:
            daemon.notifier.watchdog()
        daemon.notifier.status(
            _sentence(daemon) if stuck is None else f"stuck: {stuck}"
        )
        await asyncio.sleep(period)


def _judge_log(log: AuditLog, since: float | None) -> float | None:
    """Since when the audit log has been stopped.

    Raises:
        AuditWriteFailed, AuditDamaged: for so long that only a restart can mend it;
            nothing may leave meanwhile.
    """
    if log.trouble is None:
        return None
    since = time.monotonic() if since is None else since
    if time.monotonic() - since > STOPPED_S:
        raise log.trouble
    return since


def _sentence(daemon: Daemon) -> str:
    status = daemon.flow.status()
    waiting = sum(r.waiting.batches for r in status.resources)
    trouble = sum(1 for r in status.resources if not r.healthy)
    return (
        f"{len(status.resources)} resources, {waiting} batches waiting,"
        f" {trouble} in trouble"
    )


async def _watch_secrets(board: Board, tell: Tell, secrets: Mapping[str, str]) -> None:
    """Tell when a secret's file changes; runs read it anew anyway."""
    known = dict(secrets)
    while True:
        await asyncio.sleep(SECRETS_S)
        seen = await asyncio.to_thread(fingerprints, board.settings)
        for key, value in seen.items():
            if known.get(key, value) != value:
                tell(SecretChanged(key))
        known.update(seen)


def fingerprints(found: Settings) -> dict[str, str]:
    """Key -> fingerprint of every secret that can be looked at now."""
    prints: dict[str, str] = {}
    for name in found.sources:
        with contextlib.suppress(FepError):
            for key, value in found.source_fingerprint(name).items():
                prints[f"sources.{name}.{key}"] = value
    proxy = found.exchange.proxy
    if proxy is not None and proxy.password is not None:
        with contextlib.suppress(FepError):
            prints[proxy.password.key] = proxy.password.fingerprint()
    return prints


async def keep_directory(
    directory: TrustedDirectory,
    exchange: Exchange,
    tell: Tell,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> None:
    """Fetch the directory from time to time, and when a lookup found nothing.

    The pause is left to chance a little: what once made every node of a city fetch in
    the same second, such as a nudge, must not make them fetch together for ever.

    One that is refused, such as an older one, is told: somebody may have made it.
    """
    told: str | None = None
    unsound: frozenset[str] = frozenset()
    while True:
        with contextlib.suppress(TimeoutError):
            pause = DIRECTORY_S * uniform(1.0 - JITTER, 1.0)
            await asyncio.wait_for(directory.wanted.wait(), pause)
        try:
            await directory.refresh(exchange.directory)
            told = None
        except ExchangeUnreachable:
            pass  # the flow tells what troubles the line
        except DirectoryRefused as e:
            if directory.refused is not None and e.detail != told:
                told = e.detail
                tell(DirectoryKept(e.detail))
        except (PeerFault, SecretUnreadable, SpoolWriteFailed) as e:
            tell(ExchangeTrouble(None, e.code, e.detail, 1, DIRECTORY_S))
        for node in sorted(set(directory.unsound) - unsound):
            tell(PeerUnsound(node))
        unsound = frozenset(directory.unsound)
        await sleep(DIRECTORY_MIN_S)


async def _purge_quarantine(board: Board) -> None:
    while True:
        found = board.settings
        before = time.time() - found.keep.quarantine_days * 86_400
        await asyncio.to_thread(
            partial(quarantine_folder.purge, found.paths.quarantine, before=before)
        )
        await asyncio.sleep(QUARANTINE_S)


async def sweep_vouchers(
    directory: TrustedDirectory, named: Callable[[], Collection[str]]
) -> None:
    """Delete kept directories that no receipt names, once a day."""
    while True:
        with contextlib.suppress(SpoolWriteFailed):  # then tomorrow
            await asyncio.to_thread(directory.sweep, named)
        await asyncio.sleep(VOUCHERS_S)


async def keep_ballast(ballast: Ballast, tell: Tell) -> None:
    """Give the ballast up when the disk is full, make it again, and tell both."""
    held: bool | None = None
    while True:
        ballast.guard()
        await asyncio.to_thread(ballast.renew)
        if held is not None and ballast.held != held:
            tell(BallastChanged(ballast.held, ballast.free))
        held = ballast.held
        await asyncio.sleep(DISK_S)
