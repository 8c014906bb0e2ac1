# SPDX-License-Identifier: Apache-2.0
"""The publisher's folder.

::

    workspace/
      central.json           how long words hold
      lock                   one publisher at a time
      online/*.key           keys of snapshot, timestamp and brake
      published/             what any static web server serves as /tuf/
        metadata -> .metadata-<n>    a folder that never changes once it is served
        targets/             files under their digests; never changed, never removed
      draft/                 carried to those who sign (draft.py)

``published/metadata`` is a link that is turned over at once: a reader sees all of a
publication or nothing of it, also when keys changed and the machine died meanwhile.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.central.disk import Disk
from agent.central.roles import DAYS, Terms
from agent.errors import CentralBusy, MalformedMessage, UsageFault
from agent.wire import strict
from agent.wire.members import Members, read

MOST_DAYS = 3650
_CAP = 64 * 1024


@dataclass(frozen=True)
class Workspace:
    """Where everything of one repository is."""

    folder: Path

    @property
    def published(self) -> Path:
        """What is served."""
        return self.folder / "published"

    @property
    def draft(self) -> Path:
        """What waits for signatures."""
        return self.folder / "draft"

    @property
    def online(self) -> Path:
        """Keys that sign without a person."""
        return self.folder / "online"

    @property
    def settings(self) -> Path:
        """How long words hold."""
        return self.folder / "central.json"

    def make(self, terms: Terms, disk: Disk) -> None:
        """Make the folder.

        Raises:
            UsageFault: there is a repository already.
            OSError: it cannot be written.
        """
        if self.settings.exists():
            raise UsageFault(f"{self.folder}: holds a repository already")
        for folder in (self.published / "targets", self.online):
            folder.mkdir(parents=True, exist_ok=True)
        self.online.chmod(0o700)
        body = strict.dumps({"v": 1, "days": {**DAYS, **terms.days}})
        disk.write(self.settings, body + b"\n")
        disk.sync(self.folder)

    def terms(self) -> Terms:
        """How long words hold.

        Raises:
            UsageFault: here is no repository, or its settings do not fit.
        """
        try:
            with self.settings.open("rb") as file:
                days = read(file.read(_CAP), "central.json", "days").raw("days")
            m = Members(days, "central.json.days", " ".join(DAYS))
            return Terms({n: m.integer(n, least=1, most=MOST_DAYS) for n in DAYS})
        except OSError as e:
            raise UsageFault(
                f"{self.folder}: expected a workspace of `fep central init`;"
                f" central.json: {e.strerror}"
            ) from None
        except MalformedMessage as e:
            raise UsageFault(e.detail) from None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the workspace.

        Raises:
            CentralBusy: another publisher does.
            UsageFault: there is no such folder.
        """
        try:
            file = (self.folder / "lock").open("w")
        except OSError as e:
            raise UsageFault(f"{self.folder}: {e.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise CentralBusy(f"{self.folder}") from e
            yield
