# SPDX-License-Identifier: Apache-2.0
"""Whether the exchange's directory says what the city's offline keys signed (ADR 13).

The exchange signs its directory anew every few seconds, with a key that lies on a
machine with a line. It is dated evidence for receipts; it adds nobody. With a pinned
root each file of it must be the file that TUF carries. Revocations alone are taken from
either side: each may stop, neither may let go on. What the repository ever revoked
stays revoked though it says so no more (:class:`~agent.control.trust.Verified`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from agent.control.city_files import CityFiles, parse_city
from agent.control.trust import Verified
from agent.errors import DirectoryUnvouched
from agent.state import Stopped
from agent.wire import repository
from agent.wire.directory import Directory, RevokedFile


class Agreement:
    """What a directory is judged by.

    Args:
        clock: monotonic seconds.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._versions: Mapping[str, int] = {}
        self._signed: CityFiles | None = None
        self._stopped = Stopped()
        self._confirmed = float("-inf")  # by the clock

    @property
    def age_s(self) -> float:
        """Seconds since the repository was last found to say this."""
        return self._clock() - self._confirmed

    @property
    def revoked(self) -> RevokedFile:
        """What the repository says is revoked, or ever said."""
        said = RevokedFile({}, {}) if self._signed is None else self._signed.revoked
        return RevokedFile(
            {**self._stopped.kids, **said.kids}, {**self._stopped.nodes, **said.nodes}
        )

    def take(self, found: Verified) -> None:
        """Judge by this from now on.

        Raises:
            MalformedMessage: a file of it breaks the format; nothing has changed.
        """
        if self._signed is None or found.versions != self._versions:
            self._signed = parse_city(found.files)
            self._versions = found.versions
        self._stopped = found.stopped
        age = max(0.0, self._wall() - found.at.timestamp())
        self._confirmed = self._clock() - age

    def judged(self, found: Directory) -> Directory:
        """The same directory, with the revocations of both.

        Args:
            found: signed by the pinned key of the exchange.

        Raises:
            DirectoryUnvouched: the repository was not verified yet, or a file is
                another one, or there on one side only.
        """
        signed = self._signed
        if signed is None:
            raise DirectoryUnvouched("expected a verified TUF repository, got none yet")
        if found.exchange != signed.exchange:
            raise DirectoryUnvouched(_said(repository.EXCHANGE_FILE))
        for name in sorted(found.departments.keys() | signed.departments.keys()):
            if found.departments.get(name) != signed.departments.get(name):
                raise DirectoryUnvouched(_said(repository.directory_file(name)))
        return self.stopped(found)

    def stopped(self, found: Directory) -> Directory:
        """A directory with what the repository revokes by now."""
        revoked = self.revoked
        both = RevokedFile(
            {**revoked.kids, **found.revoked.kids},
            {**revoked.nodes, **found.revoked.nodes},
        )
        return found if both == found.revoked else replace(found, revoked=both)


def _said(path: str) -> str:
    return f"{path}: expected what the city's TUF repository has, got another one"
