# SPDX-License-Identifier: Apache-2.0
"""The daemon: put together in one function, alive until a signal.

Rules

1. :func:`assemble` makes every part and passes it in; each close stands on one exit
   stack, so that whatever fails, what was opened is closed in reverse.
2. READY comes after recovery, not after the network: the exchange may be away.
3. A signal handler only records. The first SIGTERM or SIGINT drains: nothing new is
   begun, runs and uploads may end. A second one hurries.
4. The watchdog is fed only while the event loop, the state and every loop of the flow
   answer.
5. One daemon serves one state folder (flock).
6. It leaves no core file: keys and secrets are in its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from resource import RLIMIT_CORE, setrlimit

from agent import VERSION, registry, settings
from agent.audit.events import (
    DaemonReady,
    DaemonStopping,
    ExchangeTrouble,
    SecretChanged,
    Tell,
)
from agent.catalog.folder import load_folder
from agent.catalog.gate import Outgoing, closed, leave
from agent.control.directory import TrustedDirectory
from agent.control.identity import IdentityFiles, check_pin, load_sign_key
from agent.crypto.certificates import Certificate
from agent.errors import (
    AlreadyRunning,
    ConfigInvalid,
    ExchangeUnreachable,
    Fault,
    FepError,
    PeerFault,
    SpoolWriteFailed,
)
from agent.local import server
from agent.local.desk import Desk, Facts
from agent.logs import Metrics, adopt_libraries, make_tell
from agent.model.item import Item
from agent.model.job import Job
from agent.notify import Notifier, watchdog_period_s
from agent.pipeline import quarantine_folder
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.seams import Chance, Limits, Parts
from agent.pipeline.seal import Sender
from agent.pipeline.spool import Quota, Spool
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.worker.spawn import Guard, WorkerProcess
from agent.retry import Backoff
from agent.settings import Settings
from agent.state import State
from agent.wire.grammar import format_time, new_uuid7

MB = 1_000_000
DRAIN_S = 60.0
"""Time for runs and uploads to end after the first signal; within TimeoutStopSec."""
HURRY_S = 0.0
"""The same after the second signal."""
SECRETS_S = 5.0
"""Pause between two looks at the secrets' files."""
DIRECTORY_S = 3600.0
"""Pause between two fetches of the directory, at most."""
DIRECTORY_MIN_S = 5.0
"""Pause between two fetches that somebody asked for, at least."""
QUARANTINE_S = 3600.0
"""Pause between two looks for old quarantine files."""
STATUS_S = 10.0
"""Pause between two words to systemd when no watchdog waits."""


@dataclass
class Stop:
    """What the signals said; handlers set it, the life of the daemon reads it."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurried: asyncio.Event = field(default_factory=asyncio.Event)
    signal: str = ""

    def note(self, name: str) -> None:
        """A signal has come."""
        if self.asked.is_set():
            self.hurried.set()
        self.signal = name
        self.asked.set()


@dataclass(frozen=True)
class Daemon:
    """The assembled parts that its life needs."""

    settings: Settings
    flow: PushFlow
    directory: TrustedDirectory
    exchange: Exchange
    desk: Desk
    state: State
    tell: Tell
    notifier: Notifier
    resources: int


@dataclass(frozen=True)
class LeavingResource:
    """A resource as the flow takes it."""

    resource: str
    version: int
    items: Sequence[Item]


@dataclass(frozen=True)
class Work:
    """What the files say.

    Args:
        settings: of the agent.
        outgoing: what the gate lets leave.
        kept: resource -> why the gate is shut for it.
    """

    settings: Settings
    outgoing: tuple[Outgoing, ...]
    kept: Mapping[str, str]


def main(config: Path) -> int:
    """Run until a signal; 0 after a clean stop.

    Raises:
        FepError: it could not start, or had to end; the class has the exit code.
    """
    os.umask(0o077)
    setrlimit(RLIMIT_CORE, (0, 0))
    found = load(config)
    with locked(found.settings.paths.state):
        asyncio.run(_main(found))
    return 0


def load(config: Path) -> Work:
    """Settings, what the gate lets leave, and what it does not.

    Raises:
        ConfigInvalid, CatalogInvalid: with every fault.
    """
    found = settings.load(config, secrets=False)
    known = registry.names()  # names only: loading a connector would load its driver
    faults = tuple(
        Fault(
            str(config),
            f"sources.{name}.connector",
            f"one of {', '.join(known)}",
            repr(source.connector),
        )
        for name, source in found.sources.items()
        if source.connector not in known
    )
    if faults:
        raise ConfigInvalid(faults=faults)
    resources = load_folder(found.agent.catalog, sources=found.sources)
    kept = {r.code: why for r in resources if (why := closed(r)) is not None}
    outgoing = tuple(leave(r) for r in resources if r.code not in kept)
    return Work(found, outgoing, kept)


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
    async with AsyncExitStack() as stack:
        daemon = await assemble(stack, work)
        await live(daemon, stop)


async def assemble(stack: AsyncExitStack, work: Work) -> Daemon:
    """Every part, made once; what must be closed stands on the stack.

    Raises:
        NotEnrolled: keys or certificate are missing.
        StateDamaged, SpoolWriteFailed, ConfigInvalid: as they say.
    """
    found, outgoing = work.settings, work.outgoing
    files = IdentityFiles(found.paths.state)
    signer = load_sign_key(files)
    check_pin(files, ca_sha256=found.exchange.ca_sha256)
    metrics = Metrics()
    tell = make_tell(sys.stdout, level=found.log.level, now=_now, metrics=metrics)
    adopt_libraries(sys.stdout, now=_now)
    directory = TrustedDirectory(
        files.directory, aud=found.exchange.aud, kid=found.exchange.kid
    )
    directory.load()
    state = State(found.paths.database, new_incarnation=partial(secrets.token_hex, 16))
    stack.callback(state.close)
    quota = Quota(found.spool.quota_mb * MB, found.spool.free_floor_mb * MB)
    exchange = await stack.enter_async_context(
        Exchange(_endpoint(found, files), now=_now)
    )
    parts = Parts(
        exchange=exchange,
        worker=partial(_worker, found),
        make_job=partial(_job, found, {o.resource: o for o in outgoing}),
        state=state,
        spool=Spool(found.paths.spool, quota=quota),
        signer=signer,
        keys=lambda: directory,
        refresh_directory=partial(_refresh, directory, exchange),
        sender=Sender(
            found.agent.node, found.exchange.aud, agent=f"fep-agent/{VERSION}"
        ),
        tell=tell,
        chance=_chance(),
        limits=_limits(found),
        backoff=Backoff(found.exchange.retry_base_s, found.exchange.retry_cap_s),
    )
    leaving = [LeavingResource(o.resource, o.version, o.statement) for o in outgoing]
    flow = PushFlow(leaving, parts)
    facts = Facts(
        node=found.agent.node,
        aud=found.exchange.aud,
        url=found.exchange.url,
        names={o.resource: o.name for o in outgoing},
        kept=work.kept,
        started_at=format_time(_now()),
        certificate_not_after=_not_after(files),
    )
    desk = Desk(
        flow,
        facts,
        troubles=partial(_troubles, directory),
        metrics=metrics.text,
        now=_now,
    )
    return Daemon(
        settings=found,
        flow=flow,
        directory=directory,
        exchange=exchange,
        desk=desk,
        state=state,
        tell=tell,
        notifier=Notifier(os.environ.get("NOTIFY_SOCKET")),
        resources=len(outgoing),
    )


async def live(daemon: Daemon, stop: Stop) -> None:
    """Recover, say READY, work until a signal, drain.

    Raises:
        FepError: a part cannot go on, such as SpoolWriteFailed.
    """
    await daemon.flow.recover()
    app = server.application(daemon.desk, daemon.tell)
    _make_run_folder(daemon.settings.paths.run)
    async with server.serving(app, daemon.settings.paths.socket):
        daemon.tell(DaemonReady(VERSION, daemon.resources))
        daemon.notifier.ready()
        serving = asyncio.create_task(daemon.flow.serve())
        async with _beside(serving, daemon) as failed:
            asked = asyncio.create_task(stop.asked.wait())
            await asyncio.wait({serving, asked, failed}, return_when="FIRST_COMPLETED")
            asked.cancel()
            if stop.asked.is_set():
                await _drain(daemon, stop)
            if failed.done():
                serving.cancel()
                failed.result()
        await serving


def _make_run_folder(folder: Path) -> None:
    """Under systemd it is there; else make it, open to our group."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o750)


async def _drain(daemon: Daemon, stop: Stop) -> None:
    daemon.notifier.stopping()
    daemon.tell(DaemonStopping(stop.signal, hurried=False))
    drain = asyncio.create_task(daemon.flow.drain(DRAIN_S))
    hurry = asyncio.create_task(stop.hurried.wait())
    await asyncio.wait({drain, hurry}, return_when="FIRST_COMPLETED")
    hurry.cancel()
    if not drain.done():
        daemon.tell(DaemonStopping(stop.signal, hurried=True))
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)
        await daemon.flow.drain(HURRY_S)


# --- loops beside the flow ----------------------------------------------------------


@asynccontextmanager
async def _beside(
    serving: asyncio.Task[None], daemon: Daemon
) -> AsyncIterator[asyncio.Task[None]]:
    """The small loops; the task given ends only if one of them breaks."""
    group = asyncio.create_task(_loops(serving, daemon))
    try:
        yield group
    finally:
        group.cancel()
        await asyncio.gather(group, return_exceptions=True)


async def _loops(serving: asyncio.Task[None], daemon: Daemon) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_feed(serving, daemon))
            group.create_task(_watch_secrets(daemon.settings, daemon.tell))
            group.create_task(
                _keep_directory(daemon.directory, daemon.exchange, daemon.tell)
            )
            group.create_task(_purge_quarantine(daemon.settings))
    except BaseExceptionGroup as e:
        ours, others = e.split(FepError)
        raise (ours or others or e).exceptions[0] from None


async def _feed(serving: asyncio.Task[None], daemon: Daemon) -> None:
    """Tell systemd that everything turns, and in a line how it stands."""
    period = watchdog_period_s(os.environ, pid=os.getpid()) or STATUS_S
    while not serving.done():
        await asyncio.to_thread(daemon.state.pauses)  # the state answers
        daemon.notifier.watchdog()
        daemon.notifier.status(_sentence(daemon))
        await asyncio.sleep(period)


def _sentence(daemon: Daemon) -> str:
    status = daemon.flow.status()
    waiting = sum(r.waiting.batches for r in status.resources)
    trouble = sum(1 for r in status.resources if not r.healthy)
    return (
        f"{len(status.resources)} resources, {waiting} batches waiting,"
        f" {trouble} in trouble"
    )


async def _watch_secrets(found: Settings, tell: Tell) -> None:
    """Tell when a secret's file changes; runs read it anew anyway."""
    known = _fingerprints(found)
    while True:
        await asyncio.sleep(SECRETS_S)
        seen = await asyncio.to_thread(_fingerprints, found)
        for key, value in seen.items():
            if known.get(key, value) != value:
                tell(SecretChanged(key))
        known.update(seen)


def _fingerprints(found: Settings) -> dict[str, str]:
    """Key -> fingerprint of every secret that can be looked at now."""
    prints: dict[str, str] = {}
    for name in found.sources:
        with contextlib.suppress(FepError):
            for key, value in found.source_fingerprint(name).items():
                prints[f"sources.{name}.{key}"] = value
    return prints


async def _keep_directory(
    directory: TrustedDirectory, exchange: Exchange, tell: Tell
) -> None:
    """Fetch the directory from time to time, and when a lookup found nothing.

    One that is refused, such as an older one, is told: somebody may have made it.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(directory.wanted.wait(), DIRECTORY_S)
        try:
            await _refresh(directory, exchange)
        except ExchangeUnreachable:
            pass  # the flow tells what troubles the line
        except (PeerFault, SpoolWriteFailed) as e:
            tell(ExchangeTrouble(None, e.code, e.detail, 1, DIRECTORY_S))
        await asyncio.sleep(DIRECTORY_MIN_S)


async def _refresh(directory: TrustedDirectory, exchange: Exchange) -> None:
    await directory.refresh(exchange.directory)


async def _purge_quarantine(found: Settings) -> None:
    while True:
        before = time.time() - found.quarantine.keep_days * 86_400
        await asyncio.to_thread(
            partial(quarantine_folder.purge, found.paths.quarantine, before=before)
        )
        await asyncio.sleep(QUARANTINE_S)


# --- parts ----------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


def _chance() -> Chance:
    return Chance(
        now=_now,
        sleep=asyncio.sleep,
        uniform=random.SystemRandom().uniform,
        new_id=lambda: new_uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10)),
        new_nonce=partial(secrets.token_urlsafe, 24),
        new_incarnation=partial(secrets.token_hex, 16),
    )


def _limits(found: Settings) -> Limits:
    return Limits(
        workers=found.push.workers,
        poll_s=found.push.poll_s,
        clock_tolerance_s=found.exchange.clock_tolerance_s,
        keep_loaded_s=found.push.keep_hours_after_loaded * 3600.0,
        keep_stored_s=found.push.keep_days_after_stored * 86_400.0,
    )


def _endpoint(found: Settings, files: IdentityFiles) -> Endpoint:
    return Endpoint(
        url=found.exchange.url,
        ca_file=files.ca,
        cert_file=files.tls_certificate,
        key_file=files.tls_key,
        connect_timeout_s=found.exchange.connect_timeout_s,
        read_timeout_s=found.exchange.read_timeout_s,
    )


def _worker(found: Settings) -> WorkerProcess:
    guard = Guard(
        rss_bytes=found.push.worker_memory_mb * MB,
        silence_s=found.push.statement_timeout_s + 60.0,
    )
    return WorkerProcess(guard=guard)


def _job(
    found: Settings, outgoing: Mapping[str, Outgoing], resource: str, run: str
) -> Job:
    """The job of a run; secrets are read now."""
    leaving = outgoing[resource]
    folder = found.paths.quarantine
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Job(
        kind="pull",
        resource=resource,
        run=run,
        connector=found.sources[leaving.source].connector,
        source=found.source_config(leaving.source),
        table=leaving.table,
        items=leaving.items,
        timezone=found.agent.timezone,
        severity=found.quality.severity(),
        batch_raw_bytes=found.push.batch_raw_mb * MB,
        max_rows_per_batch=found.push.max_rows_per_batch,
        quarantine=str(folder / quarantine_folder.file_name(resource, run)),
        statement_timeout_s=found.push.statement_timeout_s,
    )


def _not_after(files: IdentityFiles) -> datetime:
    return Certificate.from_pem(files.tls_certificate.read_bytes()).not_after


def _troubles(directory: TrustedDirectory) -> list[FepError]:
    """What is wrong apart from the flow."""
    try:
        _ = directory.current
    except PeerFault as e:
        return [e]
    return []
