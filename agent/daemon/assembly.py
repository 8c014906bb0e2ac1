# SPDX-License-Identifier: Apache-2.0
"""Every part of the daemon, made once and passed in; nobody looks for a part."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from agent import VERSION
from agent.audit.events import ConfigChanged, EndpointChanged, Tell
from agent.audit.log import AuditLog
from agent.child.process import Guard
from agent.control import staging
from agent.control.directory import TrustedDirectory
from agent.control.heartbeat import Heart
from agent.control.identity import IdentityFiles, check_pin
from agent.control.keyring import Keyring
from agent.control.peers import Peers
from agent.control.rotation import Way
from agent.daemon import retention, swap
from agent.daemon.central_assembly import Centre, make_centre
from agent.daemon.central_assembly import Parts as CentreParts
from agent.daemon.command_assembly import make_commands
from agent.daemon.commands import CommandLoop
from agent.daemon.heart import make_heart
from agent.daemon.key_standing import spent
from agent.daemon.keys import KeyKeeper, Users
from agent.daemon.keys import Seams as KeySeams
from agent.daemon.lookup_assembly import Ground, Open, make_lookups, open_log
from agent.daemon.lookups import Lookups
from agent.daemon.peers import PeerWatch
from agent.daemon.reload import Hands, Reloader
from agent.daemon.schedules import Scheduler
from agent.daemon.trust import TrustKeeper, make_trust
from agent.daemon.work import Board, Live, Work
from agent.errors import BadSignature, FepError, GateClosed, UnknownKey
from agent.local.desk import NO_TRUST, Desk, Facts, Gauges
from agent.local.spooling import SpoolDesk
from agent.logs import Metrics, Teller, adopt_libraries
from agent.model.job import Job, States
from agent.model.proxy import Proxy
from agent.model.run import RunKind
from agent.notify import Notifier
from agent.pipeline import quarantine_folder, state_folder
from agent.pipeline.ballast import Ballast
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.flow.seams import Chance, Parts
from agent.pipeline.seal import Sender
from agent.pipeline.spool import Spool
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.uplink.ways import Shift
from agent.pipeline.worker.giving import give_back
from agent.pipeline.worker.spare import Spare
from agent.pipeline.worker.spawn import WorkerProcess
from agent.pipeline.worker.turns import Turns
from agent.settings import Settings
from agent.state import State
from agent.wire.grammar import format_time, new_uuid7

MB = 1_000_000


@dataclass(frozen=True)
class Daemon:
    """The assembled parts that its life needs.

    ``settings`` are those of the start; where one may change, ``board`` has it.
    """

    settings: Settings
    board: Board
    reloader: Reloader
    flow: PushFlow
    scheduler: Scheduler
    directory: TrustedDirectory
    exchange: Exchange
    trust: TrustKeeper | None
    heart: Heart
    commands: CommandLoop
    lookups: Lookups
    keeper: KeyKeeper
    peers: PeerWatch
    centre: Centre
    desk: Desk
    spool: SpoolDesk
    state: State
    ballast: Ballast
    tell: Tell
    notifier: Notifier
    resources: int


async def assemble(stack: AsyncExitStack, work: Work) -> Daemon:
    """Every part, made once; what must be closed stands on the stack.

    Raises:
        NotEnrolled: keys or certificate are missing.
        StateDamaged, SpoolWriteFailed, ConfigInvalid: as they say.
    """
    found, metrics, board = work.settings, Metrics(), Board(work)
    tell = Teller(sys.stdout, level=found.log.level, now=_now, metrics=metrics)
    ground, state = await _ground(stack, board, tell)
    directory, exchange, ballast = ground.directory, ground.exchange, ground.ballast
    log = await open_log(stack, ground, config=work.digest)
    offers, shut = Live(lambda: board.work.offers), Live(lambda: board.work.shut)
    lookups = make_lookups(stack, ground, log, Open(offers, shut))
    keeper = _keeper(ground, board, lookups)
    peers = PeerWatch(ground.peers, directory, log, tell=tell)
    spool = Spool(found.paths.spool, quota=swap.quota(found))
    spare = Spare()
    stack.push_async_callback(spare.close)
    worker = partial(_worker, board, Turns(), spare)
    parts = _parts(ground, board, state, spool, log, worker)
    flow = PushFlow(swap.leaving(work), parts)
    exchange.ways.listen(partial(_shifted, flow, lookups, tell))
    scheduler = Scheduler(flow, state, swap.plans(work), parts.chance)
    reach = partial(_reach, exchange, board, ground.files)
    hands = swap.Swap(flow, parts, spool, ballast, scheduler, lookups, tell, reach)
    record = partial(_record, log)
    reloader = Reloader(board, Hands(hands.apply, record, tell))
    endpoint = partial(_endpoint_of, ground.files)
    centre = make_centre(
        CentreParts(ground, board, state, flow, reloader, log, endpoint, tell.listen)
    )
    desk = Desk(
        flow,
        _facts(ground, board, keeper),
        troubles=lambda: [
            *reloader.troubles(),
            *centre.troubles(),
            *_troubles(directory, looked_up=bool(board.work.offers)),
            *lookups.troubles(),
            *keeper.troubles(),
            *peers.troubles(),
            *(() if ground.trust is None else ground.trust.troubles()),
            *_troubles_of_disk(ballast),
            *_troubles_of_name(heart),
        ],
        lookups=lookups.sight(),
        gauges=Gauges(
            metrics.text,
            scheduler.view,
            lambda: retention.table(board.settings, spool=spool.used),
            lambda: NO_TRUST if ground.trust is None else ground.trust.view(),
            tell.recent.view,
        ),
        now=_now,
    )
    commands = make_commands(ground, state, log, desk, board)
    ordered = commands.wanted.set
    heart = make_heart(ground, board, state, centre.told, desk.status, ordered)
    return Daemon(
        settings=found,
        board=board,
        reloader=reloader,
        flow=flow,
        scheduler=scheduler,
        directory=directory,
        exchange=exchange,
        trust=ground.trust,
        heart=heart,
        commands=commands,
        lookups=lookups,
        keeper=keeper,
        peers=peers,
        centre=centre,
        desk=desk,
        spool=SpoolDesk(
            flow.tools,
            directory=ground.files.directory,
            vouchers=ground.files.vouchers,
        ),
        state=state,
        ballast=ballast,
        tell=tell,
        notifier=Notifier(os.environ.get("NOTIFY_SOCKET")),
        resources=len(work.outgoing),
    )


async def _ground(
    stack: AsyncExitStack, board: Board, tell: Tell
) -> tuple[Ground, State]:
    """What the push and the lookups stand on: who we are, the disk, the exchange."""
    found = board.settings
    files = IdentityFiles(found.paths.state)
    staging.carry_through(files)
    keyring = Keyring(files)
    check_pin(files, ca_sha256=found.exchange.ca_sha256)
    adopt_libraries(sys.stdout, now=_now)
    ballast = Ballast(found.paths.ballast, size=swap.reserve(found))
    ballast.guard()
    state = State(
        found.paths.database,
        new_incarnation=partial(secrets.token_hex, 16),
        before=ballast.guard,
        full=ballast.give_up,
    )
    stack.callback(state.close)
    exchange = await stack.enter_async_context(
        Exchange(
            _endpoint(board, files),
            now=_now,
            places=state.uploads,
            ceiling=lambda: board.settings.ceiling(_now()),
        )
    )
    trust = make_trust(board, state, exchange, tell)
    directory = TrustedDirectory(
        files.directory, aud=found.exchange.aud, kid=found.exchange.kid
    )
    directory.max_age_s = found.exchange.directory_max_age_s
    if trust is not None:
        await trust.begin(directory)
    directory.load()
    directory.wanted.set()  # a key may have been revoked since it was kept
    ground = Ground(
        settings=found,
        current=lambda: board.settings,
        files=files,
        keyring=keyring,
        directory=directory,
        exchange=exchange,
        new_id=_chance().new_id,
        tell=tell,
        ballast=ballast,
        peers=Peers(state.peers, own=found.agent.node, now=_now),
        trust=trust,
    )
    return ground, state


def _parts(
    ground: Ground,
    board: Board,
    state: State,
    spool: Spool,
    log: AuditLog,
    worker: Callable[[], WorkerProcess],
) -> Parts:
    """What the push works with."""
    found = ground.settings
    return Parts(
        exchange=ground.exchange,
        worker=worker,
        make_job=partial(_job, board),
        state=state,
        spool=spool,
        signer=ground.keyring,
        keys=ground.directory.held,
        refresh_directory=partial(_refresh, ground.directory, ground.exchange),
        owner=partial(_owner, ground.directory),
        sender=Sender(
            found.agent.node, found.exchange.aud, agent=f"fep-agent/{VERSION}"
        ),
        tell=ground.tell,
        record_left=log.batch_left,
        record=log.append,
        chance=_chance(),
        limits=swap.limits(found),
        backoff=swap.backoff(found),
        allowed=board.work.ceiling.tables,
        states=found.paths.diff,
        reports=found.paths.reports,
        spent=partial(spent, ground.directory, ground.keyring, found.agent.node, _now),
        give_back=lambda rejected: give_back(
            rejected,
            found.paths.quarantine,
            rss_bytes=board.settings.push.worker_memory_mb * MB,
        ),
    )


def _facts(ground: Ground, board: Board, keeper: KeyKeeper) -> Facts:
    """What people are told of this agent itself."""
    found, ways = ground.settings, ground.exchange.ways
    return Facts(
        node=found.agent.node,
        aud=found.exchange.aud,
        url=lambda: str(ways.url(ways.used)),
        names=Live(lambda: board.work.names),
        kept=Live(lambda: board.work.kept),
        barred=Live(lambda: board.work.barred),
        started_at=format_time(_now()),
        certificate_not_after=lambda: keeper.certificate.not_after,
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


def _endpoint(board: Board, files: IdentityFiles) -> Endpoint:
    """Where the exchange is now, through the proxy of whenever it is asked."""

    def proxy() -> Proxy | None:
        told = board.settings.exchange.proxy
        return None if told is None else told.now()

    return replace(_endpoint_of(files, board.settings), proxy=proxy)


def _endpoint_of(files: IdentityFiles, found: Settings) -> Endpoint:
    """Where these settings say that it is."""
    told = found.exchange.proxy
    return Endpoint(
        url=found.exchange.url,
        more_urls=found.exchange.more_urls,
        retry_base_s=found.exchange.retry_base_s,
        proxy=lambda: None if told is None else told.now(),
        ca_file=files.ca,
        cert_file=files.tls_certificate,
        key_file=files.tls_key,
        connect_timeout_s=found.exchange.connect_timeout_s,
        read_timeout_s=found.exchange.read_timeout_s,
    )


def _reach(exchange: Exchange, board: Board, files: IdentityFiles) -> None:
    exchange.use(_endpoint(board, files))


def _shifted(flow: PushFlow, lookups: Lookups, tell: Tell, shift: Shift) -> None:
    """The exchange is reached again, or by another address: nobody waits any longer."""
    if shift.what != "back":
        tell(EndpointChanged(shift.url, first=shift.what == "return"))
    flow.reachable()
    if lookups.relay is not None:
        lookups.relay.hurry()


def _worker(board: Board, turns: Turns, spare: Spare) -> WorkerProcess:
    found = board.settings
    guard = Guard(
        rss_bytes=found.push.worker_memory_mb * MB,
        silence_s=found.push.statement_timeout_s + 60.0,
    )
    return WorkerProcess(guard=guard, turns=turns, spare=spare)


def _job(board: Board, resource: str, run: str, mode: RunKind) -> Job:
    """The job of a run by the work of now; secrets are read now.

    Raises:
        GateClosed: it may not leave any more.
        ConfigInvalid: its settings cannot be used.
    """
    found = board.settings
    try:
        leaving = board.outgoing(resource)
    except KeyError:
        raise GateClosed(f"{resource}: its gate was shut just now") from None
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
        mode=mode,
        states=States(str(state_folder.file(found.paths.diff, resource, run))),
        stamp=leaving.stamp,
        pacing=found.pacing(leaving.source),
        number=leaving.number,
        origin=leaving.source,
    )


async def _record(log: AuditLog, event: ConfigChanged) -> None:
    await log.changed("config", event.digest, event)


async def _refresh(directory: TrustedDirectory, exchange: Exchange) -> None:
    await directory.refresh(exchange.directory)


def _keeper(ground: Ground, board: Board, lookups: Lookups) -> KeyKeeper:
    """What keeps our keys, with a second way to the exchange to try a new one."""
    exchange, directory = ground.exchange, ground.directory

    def proving(certificate: Path, key: Path) -> Exchange:
        endpoint = _endpoint(board, ground.files)
        tried = replace(endpoint, cert_file=certificate, key_file=key)
        return Exchange(tried, now=_now)

    way = Way(exchange, proving, lambda: directory.refresh(exchange.directory))
    return KeyKeeper(
        ground.files,
        ground.keyring,
        users=Users(exchange, directory, lookups.log, lookups.opener),
        way=way,
        seams=KeySeams(ground.tell, _now, asyncio.sleep, random.SystemRandom().uniform),
    )


def _owner(directory: TrustedDirectory, resource: str) -> str | None:
    try:
        return directory.current.owner(resource)
    except UnknownKey:
        return None


def _troubles(directory: TrustedDirectory, *, looked_up: bool) -> list[FepError]:
    """What is wrong apart from the flow."""
    found: list[FepError] = []
    try:
        _ = directory.fresh if looked_up else directory.current
    except FepError as e:
        found.append(e)
    if directory.refused is not None:
        found.append(directory.refused)
    detail = "directory: expected statements signed as the chain of {} demands"
    found += [BadSignature(detail.format(node)) for node in directory.unsound]
    return found


def _troubles_of_disk(ballast: Ballast) -> list[FepError]:
    found = ballast.trouble()
    return [] if found is None else [found]


def _troubles_of_name(heart: Heart) -> list[FepError]:
    return [] if heart.trouble is None else [heart.trouble]
