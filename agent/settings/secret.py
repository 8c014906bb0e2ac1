# SPDX-License-Identifier: Apache-2.0
"""Secrets: where they lie, never what they are.

A secret is a file, or a credential that systemd put into ``$CREDENTIALS_DIRECTORY``.
It is read when it is used, so a changed file needs no restart.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.errors import SecretUnreadable

LONGEST = 64 * 1024
"""Most bytes of a secret."""


@dataclass(frozen=True)
class Secret:
    """Where a secret lies.

    Args:
        key: its setting, such as ``sources.rsj.password``.
        path: its file; None if it is a credential and systemd gave none.
    """

    key: str
    path: Path | None

    def read(self) -> str:
        """The secret as it is now, without one newline at its end.

        Raises:
            SecretUnreadable: no such file, no right, readable by everyone, empty, too
                long or not text.
        """
        path = self._known()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as e:
            raise self._unreadable(f"a readable file, got {e.strerror}") from None
        try:
            self._judge(os.fstat(fd))
            return self._text(os.read(fd, LONGEST + 1))
        finally:
            os.close(fd)

    def fingerprint(self) -> str:
        """Changes when the file does; tells nothing of the value.

        Raises:
            SecretUnreadable: no such file, or no right to look at it.
        """
        path = self._known()
        try:
            found = path.stat()
        except OSError as e:
            raise self._unreadable(f"a readable file, got {e.strerror}") from None
        facts = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def _known(self) -> Path:
        if self.path is None:
            raise self._unreadable(
                "a credential of systemd (LoadCredential=), got no"
                " $CREDENTIALS_DIRECTORY"
            )
        return self.path

    def _judge(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._unreadable("a regular file, got another kind")
        if found.st_mode & stat.S_IRWXO:
            mode = stat.S_IMODE(found.st_mode)
            raise self._unreadable(
                f"a file closed to others (mode 0400), got mode {mode:04o}"
            )

    def _text(self, raw: bytes) -> str:
        if len(raw) > LONGEST:
            raise self._unreadable(f"at most {LONGEST} bytes, got more")
        try:
            text = raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise self._unreadable("UTF-8 text, got other bytes") from None
        if not text or "\0" in text:
            raise self._unreadable("a text, got none")
        return text

    def _unreadable(self, words: str) -> SecretUnreadable:
        return SecretUnreadable(f"{self.key} ({self.path}): expected {words}")
