# SPDX-License-Identifier: Apache-2.0
"""Whether the exchange's directory says what the city's offline keys signed (ADR 13).

The exchange signs its directory anew every few seconds, with a key that lies on a
machine with a line. It is dated evidence for receipts; it adds nobody. With a pinned
root each file of it must be the file that TUF carries. Revocations alone are taken from
either side: each may stop, neither may let go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from agent.control.trust import Verified
from agent.errors import DirectoryUnvouched, MalformedMessage
from agent.wire import repository, strict
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeFile,
    RevokedFile,
    parse_department,
    parse_exchange,
    parse_revoked,
)


@dataclass(frozen=True)
class _Signed:
    """The files of the directory as TUF carries them."""

    departments: Mapping[str, DepartmentFile]
    exchange: ExchangeFile | None
    revoked: RevokedFile


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
        self._signed: _Signed | None = None
        self._confirmed = float("-inf")  # by the clock

    @property
    def age_s(self) -> float:
        """Seconds since the repository was last found to say this."""
        return self._clock() - self._confirmed

    @property
    def revoked(self) -> RevokedFile:
        """What the repository says is revoked."""
        return RevokedFile({}, {}) if self._signed is None else self._signed.revoked

    def take(self, found: Verified) -> None:
        """Judge by this from now on.

        Raises:
            MalformedMessage: a file of it breaks the format; nothing has changed.
        """
        if self._signed is None or found.versions != self._versions:
            self._signed = _parsed(found.files)
            self._versions = found.versions
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


def _parsed(files: Mapping[str, bytes]) -> _Signed:
    departments = {}
    for path, data in files.items():
        if path.startswith("directory/"):
            name = path.removeprefix("directory/").removesuffix(".json")
            departments[name] = parse_department(_object(path, data), name)
    exchange, revoked = (
        files.get(repository.EXCHANGE_FILE),
        files.get(repository.REVOKED_FILE),
    )
    return _Signed(
        departments,
        None
        if exchange is None
        else parse_exchange(_object(repository.EXCHANGE_FILE, exchange)),
        RevokedFile({}, {})
        if revoked is None
        else parse_revoked(_object(repository.REVOKED_FILE, revoked)),
    )


def _object(path: str, data: bytes) -> object:
    try:
        return strict.loads(data)
    except MalformedMessage as e:
        raise MalformedMessage(f"{path}: {e.detail}") from e
