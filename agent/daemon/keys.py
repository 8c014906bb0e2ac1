# SPDX-License-Identifier: Apache-2.0
"""The life of this machine's keys while the daemon runs.

Rules

1. A certificate is renewed by itself at two thirds of its life; other keys change when
   a person asks. Both are one change (``agent.control.rotation``), and one at a time.
2. What has failed is tried again after a growing pause, and shown meanwhile; the old
   keys stay in use. A change that an earlier life began goes on.
3. Whoever signs, opens or connects takes the new keys without a restart. Connections
   that are open, runs and lookups go on with what they began with.
4. A certificate that somebody else put in place, such as ``fep enrol``, is taken too.
   One that cannot be used is shown, and the one before stays in use.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from agent.audit.events import CertificateEnds, KeyChangeFailed, Tell
from agent.audit.log import AuditLog
from agent.control import renewal, rotation, staging
from agent.control.directory import TrustedDirectory
from agent.control.identity import (
    IdentityFiles,
)
from agent.control.keyring import Keyring
from agent.control.rotation import Way
from agent.control.staging import Staged
from agent.crypto.certificates import Certificate
from agent.daemon.key_standing import Standing, record_keys, spent
from agent.errors import (
    Busy,
    FepError,
    InternalFault,
    NotEnrolled,
    SpoolWriteFailed,
    UsageFault,
)
from agent.lookup.opener.process import Opener
from agent.pipeline.uplink.exchange import Exchange
from agent.retry import Backoff
from agent.wire.grammar import format_time
from agent.wire.keys import NODE_PURPOSES

LOOK_S = 30.0
"""Pause between two looks at the certificate, seconds."""
PAUSES = Backoff(base_s=30.0, cap_s=3600.0)
"""Pauses after a change that failed."""

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Users:
    """Who uses the keys.

    Args:
        exchange: connects with the certificate.
        directory: says what others know of them.
        log: signs checkpoints.
        opener: opens requests in another process, or None.
    """

    exchange: Exchange
    directory: TrustedDirectory
    log: AuditLog
    opener: Opener | None


@dataclass(frozen=True)
class Seams:
    """Time, chance, and who is told.

    Args:
        tell: where events go.
        now: aware UTC.
        sleep: ``asyncio.sleep``.
        uniform: ``random.uniform``.
        look_s: see :data:`LOOK_S`.
    """

    tell: Tell
    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    uniform: Callable[[float, float], float]
    look_s: float = LOOK_S


@dataclass(frozen=True)
class Failed:
    """The last try of a change that has not been done.

    Args:
        error: why.
        attempt: tries in a row that have failed.
        next_try: aware UTC.
    """

    error: FepError
    attempt: int
    next_try: datetime


class KeyKeeper:
    """Keeps the keys of a running daemon.

    Args:
        files: where they are.
        keyring: what is in use.
        users: see there.
        way: to the exchange.
        seams: see there.
    """

    def __init__(
        self,
        files: IdentityFiles,
        keyring: Keyring,
        *,
        users: Users,
        way: Way,
        seams: Seams,
    ) -> None:
        self._files = files
        self._keyring = keyring
        self._users = users
        self._way = way
        self._tell = seams.tell
        self._seams = seams
        self._one = asyncio.Lock()
        self._failed: Failed | None = None
        self._unswitched: tuple[str, ...] | None = None
        self._unusable: FepError | None = None
        self._warned: tuple[str, int] | None = None
        self._pem = files.tls_certificate.read_bytes()
        self._standing = Standing(files, users.directory, self._node)
        self.certificate = Certificate.from_pem(self._pem)

    async def forever(self) -> None:
        """Look from time to time; until cancelled."""
        while True:
            await self.look()
            await self._seams.sleep(self._seams.look_s)

    async def look(self) -> None:
        """Do what is due now, and warn of what should have been done.

        Raises:
            SpoolWriteFailed: the disk fails; the daemon must end.
        """
        await self._take_certificate()
        if self._one.locked():
            return
        try:
            await self._due()
        except SpoolWriteFailed as e:
            if _disk_fails(e):
                raise
            if self._failed is None or self._failed.error is not e:
                self._put_off(self._purposes, e)
        except FepError:
            pass  # told and shown
        except Exception as e:  # noqa: BLE001 - a defect here must not stop pushes
            self._put_off(self._purposes, InternalFault(type(e).__name__))
        self._warn()

    async def _due(self) -> None:
        now, failed = self._seams.now(), self._failed
        if failed is not None and now < failed.next_try:
            return
        await self._drop_impossible()
        if not self._under_way:
            await self._forget_old()
            due = renewal.due(self.certificate, now) and self._standing.mute() is None
            if not due or now >= self._end:
                self._failed = None  # what has failed was given up
                return  # an expired one cannot ask for the next
        if self._one.locked():
            return
        async with self._one:
            if not self._under_way:
                await asyncio.to_thread(staging.begin_renewal, self._files)
            await self._go_on()

    @property
    def _under_way(self) -> bool:
        """Whether new keys are being made known, or are not in use everywhere."""
        return self._staged.folder.exists() or self._unswitched is not None

    @property
    def _purposes(self) -> tuple[str, ...]:
        """Which keys the change under way makes new."""
        return self._staged.purposes or self._unswitched or ()

    async def _drop_impossible(self) -> None:
        """Give up a change that can never succeed; one that is shown is no such."""
        pending = self._staged.folder.exists() and not self._staged.shown.exists()
        if pending and self._standing.mute() is not None:
            await asyncio.to_thread(staging.give_up, self._files)

    async def _forget_old(self) -> None:
        """Private keys that nobody can need any more go."""
        over = partial(
            spent, self._users.directory, self._keyring, self._node, self._seams.now
        )
        if await asyncio.to_thread(staging.forget_old, self._files, over):
            self._open_with_all()

    async def rotate(self, purposes: Collection[str]) -> JsonObject:
        """Exchange the keys of these purposes now; how all keys stand then.

        Raises:
            UsageFault: a purpose that there is not.
            KeyElsewhere: a key of these is in a credential or a token.
            Busy: another change is under way.
            OwnKeyRevoked, KeysForked: this machine can state no keys any more.
            PeerFault: the exchange is needed and does not answer; what was begun goes
                on by itself.
        """
        if unknown := [p for p in purposes if p not in NODE_PURPOSES]:
            known = ", ".join(NODE_PURPOSES)
            raise UsageFault(f"purpose: expected one of {known}, got {unknown[0][:64]}")
        if self._one.locked():
            raise Busy("keys are being changed just now")
        if mute := self._standing.mute():
            raise mute
        chosen = [p for p in NODE_PURPOSES if p in purposes]
        async with self._one:
            await asyncio.to_thread(staging.begin, self._files, chosen)
            await self._go_on()
        return self.view()

    @property
    def _staged(self) -> Staged:
        return Staged(self._files)

    @property
    def _end(self) -> datetime:
        return self.certificate.not_after

    async def _go_on(self) -> None:
        """One try to bring the change that is under way to its end; in the lock."""
        purposes = self._purposes
        try:
            self._open_with_all()  # before anybody can seal to a new key
            if self._staged.folder.exists():
                now = self._seams.now
                await rotation.carry_on(self._files, way=self._way, now=now)
                self._unswitched = purposes
            await self._switch()
        except FepError as e:
            self._put_off(purposes, e)
            await self._drop_impossible()
            raise
        self._failed = self._unswitched = None

    def _open_with_all(self) -> None:
        self._keyring.reload()
        if self._users.opener is not None:
            self._users.opener.renew(list(self._keyring.opening.values()))

    async def _switch(self) -> None:
        """Everybody uses what the files have now, and the log says so."""
        self._open_with_all()
        self._standing.read_again()
        self._users.log.use_key(self._keyring.audit)
        await self._take_certificate()
        await record_keys(self._users.log, self._node, self._files)

    @property
    def _node(self) -> str:
        return self._users.log.origin.removesuffix("/audit")

    async def _take_certificate(self) -> None:
        """Connect with the certificate of the files, if it is another one."""
        try:
            pem = await asyncio.to_thread(self._files.tls_certificate.read_bytes)
            if pem != self._pem:
                found = Certificate.from_pem(pem)
                self._users.exchange.renewed()
                self._pem, self.certificate = pem, found
        except OSError as e:
            self._unusable = NotEnrolled(f"{self._files.tls_certificate}: {e.strerror}")
        except FepError as e:  # the one before stays in use; the next look tries again
            self._unusable = e
        else:
            self._unusable = None

    def _put_off(self, purposes: tuple[str, ...], error: FepError) -> None:
        seams, before = self._seams, self._failed
        attempt = 1 if before is None else before.attempt + 1
        wait_s = PAUSES.wait_s(attempt, seams.uniform)
        next_try = seams.now() + timedelta(seconds=wait_s)
        self._failed = Failed(error, attempt, next_try)
        self._tell(KeyChangeFailed(purposes, error.code, error.detail, attempt, wait_s))

    def _warn(self) -> None:
        """Tell once of each day that is reached."""
        reached = renewal.warning(self.certificate, self._seams.now())
        warned = None if reached is None else (self.certificate.sha256, reached)
        if warned is not None and warned != self._warned and reached is not None:
            self._tell(CertificateEnds(reached, format_time(self._end)))
        self._warned = warned

    # --- what people see ------------------------------------------------------------

    def troubles(self) -> list[FepError]:
        """What is wrong now."""
        found = [renewal.trouble(self.certificate, self._seams.now())]
        found.append(None if self._failed is None else self._failed.error)
        found += [self._unusable, self._standing.revoked(), self._standing.forked()]
        found += self._files.tokens.troubles()
        return [e for e in found if e is not None]

    def view(self) -> JsonObject:
        """Every key that we ever had, the certificate, and a change under way."""
        certificate = self.certificate
        now = self._seams.now()
        return {
            "node": self._node,
            "keys": self._standing.rows(),
            "certificate": {
                "not_before": format_time(certificate.not_before),
                "not_after": format_time(certificate.not_after),
                "renew_at": format_time(renewal.renew_at(certificate)),
                "days": (certificate.not_after - now).days,
            },
            "change": self._change(),
        }

    def _change(self) -> JsonObject | None:
        if not self._under_way:
            return None
        failed = self._failed
        return {
            "purposes": list(self._purposes),
            "trouble": None if failed is None else failed.error.as_dict(),
            "next_try": None if failed is None else format_time(failed.next_try),
        }


def _disk_fails(error: SpoolWriteFailed) -> bool:
    """Whether the disk can no longer be written; else a later try may succeed."""
    cause = error.__cause__
    return not isinstance(cause, OSError) or cause.errno in {errno.EIO, errno.EROFS}
