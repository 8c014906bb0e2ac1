# SPDX-License-Identifier: Apache-2.0
"""The sandbox's own repository: it publishes by itself whatever its registry says.

Every role has one key, and all keys lie in its folder: a city keeps them with people
(``fep central``), a demonstration has nobody to ask.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.central import brake, shapes
from agent.central.own import OwnRepository
from agent.central.publish import Live
from agent.errors import UsageFault
from agent.wire.directory import Directory
from agent.wire.repository import EXCHANGE_FILE, REVOKED_FILE, directory_file

RENEW = timedelta(hours=12)
"""So long before the timestamp expires it is signed anew."""


@dataclass(frozen=True)
class Central:
    """Publishes, one at a time, from any thread.

    Args:
        repository: with every key.
        now: the exchange's clock.
    """

    repository: OwnRepository
    now: Callable[[], datetime]
    _one: threading.Lock = field(default_factory=threading.Lock)
    _last: dict[str, Directory] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, now: Callable[[], datetime]) -> Central:
        """The repository of a folder; made if there is none.

        Raises:
            OSError: it cannot be written.
        """
        found = cls(OwnRepository.at(folder), now)
        found.repository.begin(now())
        return found

    @property
    def folder(self) -> Path:
        """What is served."""
        return self.repository.workspace.published

    def say(self, own: Directory) -> None:
        """Publish who is who, unless it was the last to be said.

        Raises:
            FepError: it cannot be published; what was served still is.
            OSError: it cannot be written; what was served still is.
        """
        if replace(own, iat=0) != self._last.get("said"):
            self.renew(own)

    def renew(self, own: Directory) -> None:
        """Publish who is who, unless it is published so; renew what expires soon.

        Raises:
            FepError: it cannot be published; what was served still is.
            OSError: it cannot be written; what was served still is.
        """
        files: dict[str, dict[str, Any]] = {
            directory_file(d.department): d.as_object()
            for d in own.departments.values()
        }
        files[EXCHANGE_FILE] = own.exchange.as_object()
        files[REVOKED_FILE] = own.revoked.as_object()
        with self._one:
            change = self.repository.change(self.now())
            for path, body in files.items():
                change.put(path, shapes.dumps(body))
            known = change.before
            if known is not None and not change.words:
                stamp = known.metadata["timestamp"].signed
                if stamp.expires - RENEW > change.now:
                    self._last["said"] = replace(own, iat=0)
                    return
            self.repository.publish(change)
            self._last["said"] = replace(own, iat=0)

    def publish(self, folder: Path) -> Live | None:
        """Publish a folder's documents; None if nothing changed.

        Raises:
            UsageFault: no such folder, or a file that is nobody's.
            DocumentsInvalid: a file does not fit.
        """
        with self._one:
            return self.repository.put_folder(folder, self.now())

    def halt(self, generation: int) -> Live:
        """Stop a generation.

        Raises:
            UsageFault: it is stopped already.
        """
        with self._one:
            change = self.repository.change(self.now())
            if not brake.halt(change, generation):
                raise UsageFault(f"{generation}: is stopped already")
            return self.repository.publish(change)
