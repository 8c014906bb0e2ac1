# SPDX-License-Identifier: Apache-2.0
"""Passphrases from a file or a prompt, never from the command line."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agent.cli.common.context import Asked
from agent.errors import UsageFault

LEAST = 12
"""Fewest characters of a passphrase."""
CAP = 1024


def chosen(ask: Asked, file: str | None) -> bytes:
    """A passphrase for something new.

    Raises:
        UsageFault: too short, or typed differently the second time.
    """
    secret = known(ask, file)
    if len(secret.decode("utf-8")) < LEAST:
        raise UsageFault(f"passphrase: expected at least {LEAST} characters")
    if file is None:
        again = getpass.getpass(ask.say("Once more: ", "再次输入："))
        if again.encode("utf-8") != secret:
            raise UsageFault("passphrase: the two are not the same")
    return secret


def known(ask: Asked, file: str | None) -> bytes:
    """The passphrase of something that there is.

    Raises:
        UsageFault: the file cannot be read, or there is none.
    """
    if file is None:
        text = getpass.getpass(ask.say("Passphrase: ", "口令："))
    else:
        try:
            with Path(file).open("rb") as source:
                text = source.read(CAP).decode("utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as e:
            raise UsageFault(f"{file}: {type(e).__name__}") from None
    if not text:
        raise UsageFault("passphrase: expected one")
    return text.encode("utf-8")


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file for its owner alone; it goes again if it does not become whole.

    Opened by whoever calls the command, before it becomes the owner of the state
    folder, so that it may stand where that one may not write.

    Raises:
        UsageFault: there is one already, or it cannot be made.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from None
    whole = False
    try:
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        whole = True
    finally:
        if not whole:
            path.unlink(missing_ok=True)
