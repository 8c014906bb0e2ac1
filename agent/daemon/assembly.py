# SPDX-License-Identifier: Apache-2.0
"""Every part of the daemon, made once and passed in; nobody looks for a part."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent import VERSION, registry, settings
from agent.audit.events import Tell
from agent.catalog.folder import load_folder
from agent.catalog.gate import Offer, Outgoing, closed, leave, offers, refused
from agent.child.process import Guard
from agent.control.directory import TrustedDirectory
from agent.control.identity import IdentityFiles, check_pin, load_sign_key
from agent.crypto.certificates import Certificate
from agent.daemon.lookup_assembly import Ground, Open, make_lookups, open_log
from agent.daemon.lookups import Lookups
from agent.errors import ConfigInvalid, Fault, FepError
from agent.local.desk import Desk, Facts
from agent.logs import Metrics, adopt_libraries, make_tell
from agent.model.item import Item
from agent.model.job import Job
from agent.notify import Notifier
from agent.pipeline import quarantine_folder
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.seams import Chance, Limits, Parts
from agent.pipeline.seal import Sender
from agent.pipeline.spool import Quota, Spool
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.worker.spawn import WorkerProcess
from agent.retry import Backoff
from agent.settings import Settings
from agent.state import State
from agent.wire.grammar import format_time, new_uuid7

MB = 1_000_000


@dataclass(frozen=True)
class Daemon:
    """The assembled parts that its life needs."""

    settings: Settings
    flow: PushFlow
    directory: TrustedDirectory
    exchange: Exchange
    lookups: Lookups
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
        offers: what the gate opens for lookups.
        shut: resource -> why it is shut for lookups.
        digest: of settings and resource documents, ``sha256:<hex>``.
    """

    settings: Settings
    outgoing: tuple[Outgoing, ...]
    kept: Mapping[str, str]
    offers: Mapping[str, Offer]
    shut: Mapping[str, str]
    digest: str


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
    return Work(
        settings=found,
        outgoing=outgoing,
        kept=kept,
        offers=offers(resources),
        shut={r.code: why for r in resources if (why := refused(r)) is not None},
        digest=_digest(config, found.agent.catalog),
    )


def _digest(config: Path, catalog: Path) -> str:
    """Changes when the settings or a resource document do."""
    digest = hashlib.sha256()
    for path in (config, *sorted(catalog.glob("*.toml"))):
        data = path.read_bytes()
        digest.update(f"{path.name}\n{len(data)}\n".encode() + data)
    return f"sha256:{digest.hexdigest()}"


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
    directory.wanted.set()  # a key may have been revoked since it was kept
    state = State(found.paths.database, new_incarnation=partial(secrets.token_hex, 16))
    stack.callback(state.close)
    quota = Quota(found.spool.quota_mb * MB, found.spool.free_floor_mb * MB)
    exchange = await stack.enter_async_context(
        Exchange(_endpoint(found, files), now=_now)
    )
    chance = _chance()
    ground = Ground(
        settings=found,
        files=files,
        signer=signer,
        directory=directory,
        exchange=exchange,
        new_id=chance.new_id,
        tell=tell,
    )
    log = await open_log(stack, ground, config=work.digest)
    lookups = make_lookups(stack, ground, log, Open(work.offers, work.shut))
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
        record_left=log.batch_left,
        chance=chance,
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
        troubles=lambda: [
            *_troubles(directory, looked_up=bool(work.offers)),
            *lookups.troubles(),
        ],
        lookups=lookups.sight(),
        metrics=metrics.text,
        now=_now,
    )
    return Daemon(
        settings=found,
        flow=flow,
        directory=directory,
        exchange=exchange,
        lookups=lookups,
        desk=desk,
        state=state,
        tell=tell,
        notifier=Notifier(os.environ.get("NOTIFY_SOCKET")),
        resources=len(outgoing),
    )


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


async def _refresh(directory: TrustedDirectory, exchange: Exchange) -> None:
    await directory.refresh(exchange.directory)


def _not_after(files: IdentityFiles) -> datetime:
    return Certificate.from_pem(files.tls_certificate.read_bytes()).not_after


def _troubles(directory: TrustedDirectory, *, looked_up: bool) -> list[FepError]:
    """What is wrong apart from the flow."""
    try:
        _ = directory.fresh if looked_up else directory.current
    except FepError as e:
        return [e]
    return []
