# SPDX-License-Identifier: Apache-2.0
"""What the city says to this node, verified by TUF (wire.md §6, ADR 13).

Rules

1. Nobody is believed but the root whose SHA-256 stands in the settings and whom it
   names, each for its own files. The exchange only carries them.
2. What was verified last goes on for ever. What is older, or expired, is not taken.
3. No version falls below one that was verified before, though the metadata's folder is
   deleted or an old copy of it put back: the state holds them too.
4. What it ever revoked or halted stays so, though it says so no more: its online key
   can stop, and lift nothing.
5. One refresh at a time. It blocks: it runs in a thread.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.control.city_files import parse_stopped
from agent.control.identity import writing
from agent.control.trust_fetch import Source
from agent.control.trust_files import TrustFiles
from agent.errors import (
    FepError,
    MalformedMessage,
    TrustExpired,
    TrustLongExpired,
    TrustRefused,
)
from agent.state import KeptTrust, Stopped, Trusts, falls
from agent.wire.grammar import format_time, parse_time

if TYPE_CHECKING:
    from agent.control.trust_walk import Walked

SILENT = timedelta(minutes=15)
"""So long after the last look that succeeded a person is told why: lookups rely on it
no more (``exchange.directory_max_age_s``, if nothing else is set)."""
WARNED = timedelta(hours=24)
"""So long after it expired a person is told."""
ALARMED = timedelta(days=7)
"""So long after it expired somebody may be holding back what is newer."""


@dataclass(frozen=True)
class Verified:
    """What the repository says to this node, verified.

    Args:
        versions: role -> version of its metadata.
        files: target path -> exact content; only those that this node needs.
        expires: role -> when its metadata expires, aware UTC.
        at: when it was last found to be the newest, aware UTC.
        stopped: what it ever revoked or halted, also before.
    """

    versions: Mapping[str, int]
    files: Mapping[str, bytes]
    expires: Mapping[str, datetime]
    at: datetime
    stopped: Stopped = field(default_factory=Stopped)


class Trust:
    """The city's repository, as this node trusts it.

    Args:
        pin: SHA-256 of a root's exact bytes, lower hex.
        node: ``<department>/<machine>``.
        folder: where metadata and files are kept, for its owner alone.
        book: versions and digests, in the state.
        source: begins a visit to where new files come from.
        now: aware UTC.
    """

    def __init__(
        self,
        pin: str,
        *,
        node: str,
        folder: Path,
        book: Trusts,
        source: Callable[[], AbstractContextManager[Source]],
        now: Callable[[], datetime],
    ) -> None:
        self._pin = pin
        self._node = node
        self._places = TrustFiles(folder)
        self._book = book
        self._source = source
        self._now = now
        self._one = threading.Lock()
        self._disk = threading.Lock()
        self._refused: FepError | None = None
        self._failed: FepError | None = None  # the last look, for whatever reason
        self._expired: datetime | None = None  # when that was met first

    def refresh(self) -> Verified:
        """What the repository says now; kept.

        The node's own file may be the one of before (:meth:`troubles` says why).

        Raises:
            TrustRefused: something does not verify, or is older than before.
            TrustExpired: it verifies, but is too old.
            SpoolWriteFailed: the disk refused.
            ExchangeUnreachable, ExchangeUntrusted, ExchangeRefused, ProxyRefused,
            MalformedMessage, SecretUnreadable: a file could not be had.
        """
        with self._one:
            try:
                found = self._walked()
                kept = self._keep(found)
            except FepError as e:
                self._failed = e
                if isinstance(e, TrustRefused | TrustExpired):
                    self._note(e)
                raise
            self._failed = None
            self._note(found.trouble)
            return self._verified(kept, found.files)

    def _note(self, trouble: FepError | None) -> None:
        expired = isinstance(trouble, TrustExpired)
        self._expired = (self._expired or self._now()) if expired else None
        self._refused = trouble

    def kept(self) -> Verified | None:
        """What was verified last; None if nothing was, or it is not whole any more."""
        with self._disk:
            return self._read()

    def _read(self) -> Verified | None:
        kept = self.standing()
        if kept is None:
            return None
        files = {}
        for path, digest in kept.files.items():
            try:
                data = (self._places.targets / digest).read_bytes()
            except OSError:
                return None
            if hashlib.sha256(data).hexdigest() != digest:
                return None
            files[path] = data
        return self._verified(kept, files)

    def standing(self) -> KeptTrust | None:
        """Versions and times of what was verified last, without the files."""
        return self._book.kept(self._pin)

    def troubles(self) -> list[FepError]:
        """What a person should know.

        That it is refused, not to be had for a quarter of an hour, expired for a day,
        for a week.
        """
        late, why = self._late(), self._refused
        if isinstance(why, TrustExpired) and self.standing() is not None:
            why = None
        return [e for e in (late, why or self._unheard()) if e is not None]

    def _unheard(self) -> FepError | None:
        """Why the last look failed, once nothing was heard for long, or ever."""
        kept, failed = self.standing(), self._failed
        if kept is not None and (
            isinstance(failed, TrustExpired)
            or self._now() - parse_time(kept.at) <= SILENT
        ):
            return None
        return failed

    def _late(self) -> FepError | None:
        """That nothing new is taken, and since when; a day of it is no trouble."""
        kept, now = self.standing(), self._now()
        if kept is None:
            return None
        ends = [(parse_time(r.expires), r.role) for r in kept.roles if r.expires]
        if self._expired is not None and self._refused is not None:
            ends.append((self._expired, self._refused.detail))
        since, what = min(ends)
        said = f"{what}: expected it signed anew before {format_time(since)}"
        if now - since > ALARMED:
            return TrustLongExpired(said)
        return TrustExpired(said) if now - since > WARNED else None

    def _walked(self) -> Walked:
        # python-tuf costs 7 MB, and only who has a pinned root needs it
        from agent.control import trust_walk

        asking = trust_walk.Asking(self._pin, self._node, self.standing(), self._now())
        with self._source() as source:
            return trust_walk.walk(self._places, source, asking)

    def _keep(self, found: Walked) -> KeptTrust:
        """Raise the floors to what was found, and forget files that it has not.

        Raises:
            TrustRefused: it is below a floor, or a file breaks the format.
        """
        fallen = falls(self._book.floors(self._pin), found.roles)
        if fallen:
            raise TrustRefused("; ".join(fallen))
        files = {p: hashlib.sha256(d).hexdigest() for p, d in found.files.items()}
        kept = KeptTrust(format_time(self._now()), found.roles, files)
        stopped = self._stopped_by(found.files, files)
        targets = self._places.targets
        with self._disk, writing(targets):
            self._book.keep(self._pin, kept, stopped)
            for path in targets.iterdir():
                if path.name not in kept.files.values():
                    path.unlink()
        return kept

    def _stopped_by(
        self, found: Mapping[str, bytes], digests: Mapping[str, str]
    ) -> Stopped:
        """What files stop; nothing new if they are those of before.

        Raises:
            TrustRefused: a file breaks the format.
        """
        before = self.standing()
        if before is not None and before.files == digests:
            return Stopped()
        try:
            return parse_stopped(found)
        except MalformedMessage as e:
            raise TrustRefused(e.detail) from e

    def _verified(self, kept: KeptTrust, files: Mapping[str, bytes]) -> Verified:
        return Verified(
            versions={role.role: role.version for role in kept.roles},
            files=files,
            expires={r.role: parse_time(r.expires) for r in kept.roles if r.expires},
            at=parse_time(kept.at),
            stopped=self._book.stopped(self._pin),
        )
