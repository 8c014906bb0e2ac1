# SPDX-License-Identifier: Apache-2.0
"""The exchange's directory: fetched, verified with the pinned key, kept, looked up.

Rules

1. The key that signs the directory stands in the directory; it counts because its
   thumbprint equals ``exchange.kid`` from the slip.
2. A directory that is older than the one in use, or takes away what that one had, is
   refused (``succession``), and that is shown until a good one comes.
3. It is verified before it is written, and verified again when it is read.
4. A lookup that finds nothing asks for a refresh; the message that needed it is judged
   again later.
5. Lookups rely on it for some time after it was last fetched (``max_age_s``), also
   across a restart: a revoked key must not live on because the exchange cannot be
   reached. Receipts do not: what they say of the past stays true.
6. With a pinned TUF root a directory counts only if its files are those that the city's
   offline keys signed, and lookups rely on it only while that was confirmed lately, too
   (``agreement``). What the repository revokes is revoked at once.
7. A directory that says something new is kept under the SHA-256 of its exact text,
   before a receipt is judged by it: it is what vouches for the receipt's key. One that
   differs in its time alone says nothing new. It stays for good if a receipt names it;
   else it goes once another has been in its place for :data:`REPLACED_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from agent.control.agreement import Agreement
from agent.control.identity import write_file, writing
from agent.control.succession import check_succession, unsound
from agent.crypto.jose import PublicKey, split, verify
from agent.errors import (
    BadSignature,
    DirectoryRefused,
    DirectoryStale,
    DirectoryUnvouched,
    FepError,
    MalformedMessage,
    SpoolWriteFailed,
    UnknownKey,
)
from agent.wire import directory as wire
from agent.wire.directory import Directory

STALE_S = 900.0
"""So long after the last fetch lookups rely on it if nothing else is said, seconds."""
REPLACED_S = 86_400.0
"""So long after a kept one was replaced it stays in any case, seconds: a receipt may be
just judged by it."""


AHEAD_S = 900
"""So many seconds after now, by our clock, a directory may be signed."""
OVERTAKEN_S = 60
"""One that is older by less than so many seconds was only overtaken on its way."""


def check_directory(text: str | bytes, *, aud: str, kid: str) -> Directory:
    """The directory of a message that the pinned key signed.

    Args:
        text: the compact JWS as received.
        aud: the exchange that we trust.
        kid: thumbprint of its receipt key, from the slip.

    Raises:
        MalformedMessage: it breaks the format.
        BadSignature: another key signed it, or the signature does not verify.
    """
    message = split(text, cap=wire.CAP)
    if message.kid != kid:
        raise BadSignature(
            f"directory: expected exchange.kid {kid}, got one signed by {message.kid}"
        )
    claimed = wire.parse(message.payload)
    key = claimed.exchange_key(aud, kid, "receipt")  # found by its thumbprint, rule 1
    return wire.parse(verify(message, key, typ=wire.TYP).payload)


@dataclass(frozen=True)
class City:
    """What stands above the exchange, where a TUF root is pinned.

    Args:
        agreement: what a directory is judged by.
        again: has the repository verified anew, for a directory may be newer than what
            was verified of it; raises what that raises.
    """

    agreement: Agreement
    again: Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Vouched:
    """The exchange's keys as one directory has them, whatever comes after it.

    Args:
        directory: None while there is none.
        voucher: SHA-256 of the text that is kept, lower hex; None if the disk refused.
        aud: the exchange that we trust.
        miss: called when a key is not there.
    """

    directory: Directory | None
    voucher: str | None
    aud: str
    miss: Callable[[], None]

    def receipt_key(self, kid: str) -> PublicKey:
        """The key with which the exchange signs receipts and positions.

        Raises:
            UnknownKey: the directory does not have it; a refresh is asked for.
        """
        if self.directory is None:
            self.miss()
            raise UnknownKey("there is no directory yet")
        try:
            return self.directory.exchange_key(self.aud, kid, "receipt")
        except UnknownKey:
            self.miss()
            raise


class TrustedDirectory:
    """The directory in use.

    Args:
        path: where the last verified one is kept; beside it ``vouchers/``, rule 7.
        aud: the exchange that we trust.
        kid: pinned thumbprint of its receipt key.
        clock: monotonic seconds.
        wall: seconds as files have them, for the age of a kept one.
        now: seconds since 1970, for what is signed.

    Attributes:
        city: what stands above the exchange, or None.
        max_age_s: lookups rely on it for so long after it was confirmed.
        refused: why the one that was fetched last is not in use, or None.
        unsound: nodes that had keys and have statements that do not verify.
    """

    def __init__(
        self,
        path: Path,
        *,
        aud: str,
        kid: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._vouchers = path.parent / "vouchers"
        self._use: tuple[Directory | None, str | None] = (None, None)
        self._aud = aud
        self._kid = kid
        self._clock = clock
        self._wall = wall
        self._now = now
        self._fetched = float("-inf")  # by the clock
        self._taking = threading.Lock()  # two may be fetched at a time
        self.city: City | None = None
        self.max_age_s = STALE_S
        self.wanted = asyncio.Event()
        self.refused: DirectoryRefused | None = None
        self.unsound: tuple[str, ...] = ()

    @property
    def current(self) -> Directory:
        """The directory in use.

        Raises:
            UnknownKey: there is none yet.
        """
        found, _ = self._use
        if found is None:
            self.wanted.set()
            raise UnknownKey("there is no directory yet")
        return found

    @property
    def fresh(self) -> Directory:
        """The directory in use, if lookups may rely on it.

        Raises:
            UnknownKey: there is none yet.
            DirectoryStale: it was confirmed too long ago; a refresh is asked for.
        """
        found = self.current
        age, least = self._clock() - self._fetched, self.max_age_s
        if self.city is not None:
            age = max(age, self.city.agreement.age_s)
        if age > least:
            self.wanted.set()
            raise DirectoryStale(
                f"expected one confirmed within {least:.0f} s, got one of {age:.0f} s"
            )
        return found

    def load(self) -> bool:
        """Take the kept one into use; whether there is one that verifies.

        A damaged file is as good as none: the next refresh replaces it.
        """
        try:
            text = self._path.read_bytes()
            age = max(0.0, self._wall() - self._path.stat().st_mtime)
            found = self._checked(text)
        except (OSError, MalformedMessage, BadSignature, DirectoryUnvouched):
            self.wanted.set()
            return False
        self._fetched = self._clock() - age
        with suppress(SpoolWriteFailed):  # a receipt could not be kept, either
            self._vouch(found, text)
        return True

    def take(self, text: str | bytes) -> Directory:
        """Verify a received one, use it, keep it.

        Raises:
            MalformedMessage: it breaks the format.
            BadSignature: not signed by the pinned key.
            DirectoryUnvouched: the city's TUF repository has other files.
            DirectoryRefused: it is older than the one in use, takes something away, or
                is of a time to come.
            SpoolWriteFailed: it is in use now, but could not be kept.
        """
        with self._taking:
            found = self._checked(text)
            self._refuse_future(found)
            before, _ = self._use
            if before is not None:
                self._judge(before, found)
            self.refused = None
            self._fetched = self._clock()
            data = text.encode("ascii") if isinstance(text, str) else text
            self._vouch(found, data)
            write_file(self._path, data)
        return found

    def stop(self) -> None:
        """Hold revoked what the city's TUF repository revokes by now."""
        with self._taking:
            found, voucher = self._use
            if found is not None and self.city is not None:
                self._use = (self.city.agreement.stopped(found), voucher)

    def _checked(self, text: str | bytes) -> Directory:
        """The directory of a text, with what the city says of it.

        Raises:
            MalformedMessage, BadSignature: as :func:`check_directory`.
            DirectoryUnvouched: the city's TUF repository has other files.
        """
        found = check_directory(text, aud=self._aud, kid=self._kid)
        if self.city is None:
            return found
        try:
            return self.city.agreement.judged(found)
        except DirectoryUnvouched as e:
            self.refused = e
            raise

    def _refuse_future(self, found: Directory) -> None:
        """Refuse what was signed later than now: it would bar everything until then.

        Raises:
            DirectoryRefused: it is, by our clock.
        """
        latest = int(self._now()) + AHEAD_S
        if found.iat > latest:
            said = (
                f"expected iat {latest} or earlier, got {found.iat}: compare the clocks"
            )
            self.refused = DirectoryRefused(said)
            raise self.refused

    def _judge(self, before: Directory, found: Directory) -> None:
        """Refuse what may not follow.

        Raises:
            DirectoryRefused: it takes something away, or is older.
        """
        try:
            check_succession(before, found, aud=self._aud)
        except DirectoryRefused as e:
            if before.iat - found.iat not in range(1, OVERTAKEN_S):
                self.refused = e
            raise
        self.unsound = unsound(before, found, known=self.unsound)

    def _vouch(self, found: Directory, data: bytes) -> None:
        """Use a directory, and keep its text if it says something new, rule 7.

        Raises:
            SpoolWriteFailed: it is in use now, but could not be kept.
        """
        before, voucher = self._use
        if voucher is None or not _same(before, found):
            voucher = self._newest_voucher(found) if before is None else None
        self._use = (found, voucher)
        if voucher is None:
            digest = hashlib.sha256(data).hexdigest()
            write_file(self._vouchers / f"{digest}.jws", data)
            self._use = (found, digest)

    def _newest_voucher(self, found: Directory) -> str | None:
        """The last one that was kept, if a life before kept it for saying the same."""
        try:
            files = by_age(self._vouchers)
            kept = check_directory(files[-1].read_bytes(), aud=self._aud, kid=self._kid)
        except (OSError, IndexError, MalformedMessage, BadSignature):
            return None
        if self.city is not None:
            kept = self.city.agreement.stopped(kept)
        return files[-1].stem if _same(kept, found) else None

    def sweep(self, named: Callable[[], Collection[str]]) -> int:
        """Delete kept ones that are no evidence, rule 7; how many.

        Args:
            named: digests that receipts name; asked only if something could go.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        before = self._wall() - REPLACED_S
        with writing(self._vouchers):
            due = [
                old
                for old, new in pairwise(by_age(self._vouchers))
                if new.stat().st_mtime < before and old.stem != self._use[1]
            ]
            needed = named() if due else ()
            gone = [path for path in due if path.stem not in needed]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    def held(self) -> Vouched:
        """The keys as they are in use now, and what vouches for them."""
        return Vouched(*self._use, self._aud, self.wanted.set)

    async def refresh(self, fetch: Callable[[], Awaitable[str]]) -> Directory:
        """Fetch and :meth:`take`; raises what both raise.

        Of it and the city's repository one may only be newer than the other: then both
        are fetched again.
        """
        self.wanted.clear()
        text = await fetch()
        try:
            return await asyncio.to_thread(self.take, text)
        except DirectoryUnvouched:
            if not await self._looked_again():
                raise
        return await asyncio.to_thread(self.take, await fetch())

    async def _looked_again(self) -> bool:
        """Whether the city's repository was verified anew just now."""
        if self.city is None:
            return False
        try:
            await self.city.again()
        except FepError:  # who keeps the repository tells what is wrong
            return False
        return True


def by_age(folder: Path) -> list[Path]:
    """Kept directories, the one that was kept last at the end.

    Raises:
        OSError: the disk refused.
    """
    return sorted(folder.glob("*.jws"), key=lambda path: path.stat().st_mtime)


def _same(one: Directory | None, other: Directory) -> bool:
    """Whether two differ in nothing but when they were signed."""
    return one is not None and replace(one, iat=0) == replace(other, iat=0)
