# SPDX-License-Identifier: Apache-2.0
"""The exchange's directory: fetched, verified with the pinned key, kept, looked up.

Rules

1. The key that signs the directory stands in the directory; it counts because its
   thumbprint equals ``exchange.kid`` from the slip.
2. A directory older than the one in use is refused: going back could unrevoke a key.
3. It is verified before it is written, and verified again when it is read.
4. A lookup that finds nothing asks for a refresh; the message that needed it is judged
   again later.
5. Lookups rely on it for :data:`STALE_S` after it was last fetched, also across a
   restart: a revoked key must not live on because the exchange cannot be reached.
   Receipts do not: what they say of the past stays true.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agent.control.identity import write_file
from agent.crypto.jose import PublicKey, split, verify
from agent.errors import BadSignature, DirectoryStale, MalformedMessage, UnknownKey
from agent.wire import directory as wire
from agent.wire.directory import Directory

STALE_S = 900.0
"""So long after the last fetch lookups rely on it, seconds: three fetches in a row have
failed then."""


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


class TrustedDirectory:
    """The directory in use.

    Args:
        path: where the last verified one is kept.
        aud: the exchange that we trust.
        kid: pinned thumbprint of its receipt key.
        clock: monotonic seconds.
        wall: seconds as files have them, for the age of a kept one.
    """

    def __init__(
        self,
        path: Path,
        *,
        aud: str,
        kid: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._aud = aud
        self._kid = kid
        self._clock = clock
        self._wall = wall
        self._now: Directory | None = None
        self._fetched = float("-inf")  # by the clock
        self._taking = threading.Lock()  # two may be fetched at a time
        self.wanted = asyncio.Event()

    @property
    def current(self) -> Directory:
        """The directory in use.

        Raises:
            UnknownKey: there is none yet.
        """
        if self._now is None:
            self.wanted.set()
            raise UnknownKey("there is no directory yet")
        return self._now

    @property
    def fresh(self) -> Directory:
        """The directory in use, if lookups may rely on it.

        Raises:
            UnknownKey: there is none yet.
            DirectoryStale: it was fetched too long ago; a refresh is asked for.
        """
        found = self.current
        age = self._clock() - self._fetched
        if age > STALE_S:
            self.wanted.set()
            raise DirectoryStale(
                f"expected one fetched within {STALE_S:.0f} s, got one of {age:.0f} s"
            )
        return found

    def load(self) -> bool:
        """Take the kept one into use; whether there is one that verifies.

        A damaged file is as good as none: the next refresh replaces it.
        """
        try:
            text = self._path.read_bytes()
            age = max(0.0, self._wall() - self._path.stat().st_mtime)
            self._now = check_directory(text, aud=self._aud, kid=self._kid)
        except (OSError, MalformedMessage, BadSignature):
            self.wanted.set()
            return False
        self._fetched = self._clock() - age
        return True

    def take(self, text: str | bytes) -> Directory:
        """Verify a received one, use it, keep it.

        Raises:
            MalformedMessage: it breaks the format, or is older than the one in use.
            BadSignature: not signed by the pinned key.
            SpoolWriteFailed: it is in use now, but could not be kept.
        """
        found = check_directory(text, aud=self._aud, kid=self._kid)
        with self._taking:
            if self._now is not None and found.iat < self._now.iat:
                raise MalformedMessage(
                    f"directory: expected iat {self._now.iat} or later, got {found.iat}"
                )
            self._now = found
            self._fetched = self._clock()
            data = text.encode("ascii") if isinstance(text, str) else text
            write_file(self._path, data)
        return found

    async def refresh(self, fetch: Callable[[], Awaitable[str]]) -> Directory:
        """Fetch and :meth:`take`; raises what both raise."""
        self.wanted.clear()
        text = await fetch()
        return await asyncio.to_thread(self.take, text)

    def receipt_key(self, kid: str) -> PublicKey:
        """The key with which the exchange signs receipts and positions.

        Raises:
            UnknownKey: the directory does not have it; a refresh is asked for.
        """
        try:
            return self.current.exchange_key(self._aud, kid, "receipt")
        except UnknownKey:
            self.wanted.set()
            raise
