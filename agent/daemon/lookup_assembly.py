# SPDX-License-Identifier: Apache-2.0
"""The parts of the lookup side, made once and passed in."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from agent import VERSION
from agent.audit.daykeys import DayKeys
from agent.audit.desk import AuditDesk
from agent.audit.events import ConfigChanged, Tell
from agent.audit.log import AuditLog
from agent.audit.witness import Pace, Peer, Witness
from agent.catalog.gate import Offer
from agent.control.directory import TrustedDirectory
from agent.control.identity import IdentityFiles
from agent.control.keyring import Keyring
from agent.control.peers import Peers
from agent.crypto.jose import PublicKey
from agent.crypto.keys import tls_files
from agent.daemon.key_standing import record_keys
from agent.daemon.lookups import (
    Lookups,
    Renewal,
    Standing,
    frames_of,
    told,
    told_door,
)
from agent.daemon.policies import Policies, Terms, in_force
from agent.daemon.trust import TrustKeeper
from agent.errors import PeerFault, UnknownKey
from agent.lookup.door import process as door
from agent.lookup.door.process import Door
from agent.lookup.door.talk import Opening as DoorOpening
from agent.lookup.flow import Chance, LookupFlow, Parts
from agent.lookup.intake import Bounds, Turnstile
from agent.lookup.opener.process import Opener
from agent.lookup.query.gather import Sources
from agent.lookup.query.process import Seams
from agent.lookup.query.talk import Opening
from agent.lookup.relay import Hooks, Relay, Waits
from agent.pipeline.ballast import Ballast
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.uplink.line import Line
from agent.retry import Backoff
from agent.settings import Settings
from agent.state.ledger import Ledger

A = TypeVar("A")
R = TypeVar("R")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WAITING = 4
"""So many times ``lookup.in_flight`` requests may be inside the door, bodies that are
still on their way among them; and so many may be worked on, most for nobody."""


@dataclass(frozen=True)
class Ground:
    """What both sides of the daemon stand on.

    Args:
        settings: of the agent, as they are at the start.
        current: gives them as they are now.
        files: of its identity.
        keyring: our private keys.
        directory: everybody's keys.
        exchange: the open client.
        new_id: uuid7 text.
        tell: where events go.
        ballast: given up when the disk is full.
        peers: which chains of keys we know.
        trust: what the city's TUF repository says; None without a pinned root.
    """

    settings: Settings
    current: Callable[[], Settings]
    files: IdentityFiles
    keyring: Keyring
    directory: TrustedDirectory
    exchange: Exchange
    new_id: Callable[[], str]
    tell: Tell
    ballast: Ballast
    peers: Peers
    trust: TrustKeeper | None = None

    def nudged(self) -> None:
        """Somebody, who did not sign it, says that there is something new."""
        self.directory.wanted.set()
        if self.trust is not None:
            self.trust.wanted.set()


@dataclass(frozen=True)
class Open:
    """What the gate says of lookups.

    Args:
        offers: resource -> what may be looked up.
        shut: resource -> why nothing may.
    """

    offers: Mapping[str, Offer]
    shut: Mapping[str, str]


def now() -> datetime:
    """Aware UTC."""
    return datetime.now(UTC)


async def open_log(stack: AsyncExitStack, ground: Ground, *, config: str) -> AuditLog:
    """The audit log, begun; it notes what is not as it was at the last start.

    Args:
        stack: closes it.
        ground: see there.
        config: digest of settings and resource documents.

    Raises:
        NotEnrolled: the key that signs it is missing.
        AuditDamaged, AuditWriteFailed: it cannot be used.
    """
    paths, node = ground.settings.paths, ground.settings.agent.node
    log = AuditLog(
        Ledger(paths.ledger, before=ground.ballast.guard, full=ground.ballast.give_up),
        origin=f"{node}/audit",
        key=ground.keyring.audit,
        day_keys=DayKeys(paths.evidence),
        tell=ground.tell,
        now=now,
    )
    log.floor = lambda: ground.ballast.floor
    stack.push_async_callback(log.close)
    await log.start(version=VERSION, boot=boot_id(os.environ))
    await log.changed("config", config, ConfigChanged(config))
    await record_keys(log, node, ground.files)
    return log


def boot_id(environ: Mapping[str, str]) -> str:
    """Which boot of the system this is; empty if it cannot be known.

    The unit hides ``/proc/sys`` and says it in ``FEP_BOOT`` instead.
    """
    try:
        return environ.get("FEP_BOOT") or _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def make_lookups(
    stack: AsyncExitStack, ground: Ground, log: AuditLog, opened: Open
) -> Lookups:
    """Every part of the lookup side.

    Raises:
        NotEnrolled: the key that opens requests is missing.
    """
    found, tell = ground.settings, ground.tell
    sources = Sources(
        partial(_opening, ground.current),
        seams=Seams(uniform=random.SystemRandom().uniform),
    )
    stack.push_async_callback(sources.close)
    terms = Terms(found.lookup.policy, opened.offers, opened.shut)
    active, trouble = in_force(log, terms)
    peer = _peer(ground)
    witness = Witness(log, peer, tell=tell)
    parts = _parts(ground, opened.offers, log=log, sources=sources)
    # Only the listener brings so many lookups that another process pays.
    opener = Opener(list(parts.keys.values())) if found.lookup.listen else None
    parts = replace(
        parts,
        agreed=lambda: log.whole and witness.state == "agrees",
        opener=opener,
        barred=lambda: witness.barred,
    )
    flow = LookupFlow(parts, policy=active, started=now())
    line = Standing(now=now, enabled=found.lookup.relay)
    threshold = Standing(now=now, enabled=bool(found.lookup.listen))
    return Lookups(
        flow=flow,
        log=log,
        witness=witness,
        pace=Pace(found.audit.checkpoint_s, found.audit.checkpoint_records),
        policies=Policies(log, flow, terms, trouble=trouble),
        audit=AuditDesk(
            log,
            frames=frames_of(opened.offers),
            signers=partial(_audit_keys, ground, log),
            witness=peer,
            signing=lambda: witness.state == "agrees",
        ),
        sources=sources,
        relay=_relay(ground, flow, line) if found.lookup.relay else None,
        line=line,
        door=_door(ground, flow, threshold),
        opener=opener,
        threshold=threshold,
        evidence_days=lambda: ground.current().keep.evidence_days,
        offers=opened.offers,
        tell=tell,
    )


def _parts(
    ground: Ground, offers: Mapping[str, Offer], *, log: AuditLog, sources: Sources
) -> Parts:
    found = ground.settings
    limits = found.lookup
    return Parts(
        node=found.agent.node,
        signer=ground.keyring,
        keys=ground.keyring.opening,
        directory=lambda: ground.directory.fresh,
        agreed=lambda: False,
        barred=lambda: None,
        renew=Renewal(partial(_refresh, ground), clock=time.monotonic),
        log=log,
        sources=sources,
        offers=offers,
        turnstile=Turnstile(
            Bounds(limits.in_flight, limits.peer_in_flight, limits.peer_per_s),
            clock=time.monotonic,
        ),
        tell=ground.tell,
        chance=Chance(
            now=now,
            today=partial(_today, ground.current),
            clock=time.monotonic,
            sleep=asyncio.sleep,
            new_id=ground.new_id,
        ),
        at_work=limits.in_flight * WAITING,
        trusted=ground.peers.check,
    )


def _today(current: Callable[[], Settings]) -> date:
    return datetime.now(ZoneInfo(current().agent.timezone)).date()


async def _refresh(ground: Ground) -> None:
    await ground.directory.refresh(ground.exchange.directory)


def _opening(current: Callable[[], Settings], name: str) -> Opening:
    """How a source is reached; secrets are read now."""
    found = current()
    return Opening(
        connector=found.sources[name].connector,
        config=found.source_config(name),
        statement_s=found.lookup.statement_timeout_s,
        timezone=found.agent.timezone,
    )


def _relay(ground: Ground, flow: LookupFlow, line: Standing) -> Relay:
    exchange = ground.settings.exchange
    nudged = ground.nudged
    opened, closed = told(line, ground.tell, nudged)
    return Relay(
        ground.exchange.channel,
        Hooks(
            answer=_first(ground.exchange.line, flow.answer),
            nudged=nudged,
            opened=opened,
            closed=closed,
        ),
        Waits(
            backoff=Backoff(exchange.retry_base_s, exchange.retry_cap_s),
            uniform=random.SystemRandom().uniform,
            sleep=asyncio.sleep,
            clock=time.monotonic,
        ),
    )


def _first(
    line: Line, answer: Callable[[A], Awaitable[R]]
) -> Callable[[A], Awaitable[R]]:
    """The same answers; uploads give way on the line while one is being made."""

    async def answered(asked: A) -> R:
        with line.lookup():
            return await answer(asked)

    return answered


def _door(ground: Ground, flow: LookupFlow, threshold: Standing) -> Door | None:
    found, files = ground.settings.lookup, ground.files
    if not found.listen:
        return None
    host, _, port = found.listen.rpartition(":")
    key, unsealing = tls_files(files.tls_certificate, files.tls_key)[1:]
    opening = DoorOpening(
        host=host.strip("[]"),
        port=int(port),
        ca=str(files.ca.absolute()),
        certificate=str(files.tls_certificate.absolute()),
        key=str(key.absolute()),
        aud=ground.settings.exchange.aud,
        most=found.in_flight * WAITING,
        unsealing=unsealing().decode("latin-1"),
    )
    opened, closed = told_door(threshold, ground.tell)
    hooks = door.Hooks(
        answer=_first(ground.exchange.line, flow.decided),
        refused=flow.refused,
        opened=opened,
        closed=closed,
    )
    return Door(opening, hooks, door.Seams(uniform=random.SystemRandom().uniform))


def _peer(ground: Ground) -> Peer:
    aud = ground.settings.exchange.aud
    return Peer(
        name=f"{aud}/witness",
        signers=partial(_witness_keys, ground.directory, aud),
        post=partial(_post, ground.exchange),
    )


def _witness_keys(directory: TrustedDirectory, aud: str) -> Sequence[PublicKey]:
    try:
        known = directory.current
    except UnknownKey:
        return ()
    return [
        key
        for entry in known.exchange.exchanges
        for key, status in (entry.keys if entry.aud == aud else ())
        if key.purpose == "witness"
        and status != "revoked"
        and key.kid not in known.revoked.kids
    ]


def _audit_keys(ground: Ground, log: AuditLog) -> Sequence[PublicKey]:
    """Every audit key that we ever had; at least the one in use."""
    try:
        chain = ground.directory.current.node_keys(ground.settings.agent.node)
    except PeerFault:
        return [log.audit_key]
    known = {k.kid: k for k in chain.all.values() if k.purpose == "audit"}
    return list({**known, log.audit_key.kid: log.audit_key}.values())


async def _post(exchange: Exchange, body: bytes) -> tuple[int, str]:
    reply = await exchange.add_checkpoint(body)
    return reply.status, reply.body.decode("utf-8", "replace")
