# SPDX-License-Identifier: Apache-2.0
"""A node says goodbye, and its private keys are destroyed.

What was done stays provable: receipts, the audit log, key statements and the
directories that vouch for them are kept. Files are written over before they go, which
is a promise on a magnetic disc and none on an SSD or a copy-on-write file system: there
only the encryption of the whole disc, or its destruction, is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

from agent.control.identity import (
    IdentityFiles,
    load_sign_key,
    make_folder,
    write_file,
    writing,
)
from agent.crypto import keyfile
from agent.errors import ExchangeRefused, SecretUnreadable
from agent.wire.leave import TYP, Leave


async def say_goodbye(
    files: IdentityFiles,
    *,
    node: str,
    aud: str,
    now: datetime,
    post: Callable[[str], Awaitable[None]],
) -> None:
    """Tell the exchange that this node will not come again.

    Whom it no longer knows after a goodbye it has heard: an end came before our keys
    were destroyed.

    Raises:
        NotEnrolled: there are no keys to say it with.
        PeerFault: the exchange does not answer, or refuses.
    """
    word = Leave(node, aud, int(now.timestamp()))
    text = load_sign_key(files).sign(TYP, word.payload())
    again = files.leaving.exists()
    write_file(files.leaving, b"")
    try:
        await post(text)
    except ExchangeRefused as e:
        if not again:
            with writing(files.leaving):
                files.leaving.unlink()
            raise
        if e.problem != "unauthenticated":
            raise


def _names(path: Path) -> bool:
    """Whether a file only says where its key is; what cannot be read may be a key."""
    try:
        return keyfile.elsewhere(path)
    except SecretUnreadable:
        return False


def wipe(files: IdentityFiles) -> tuple[Path, ...]:
    """Destroy the private keys and the certificate; the files that held a key.

    A file that only names a key goes too; the key itself is a person's to destroy
    (``agent.control.outside``).

    Key statements move aside into ``former/<n>``, so that the machine can enrol anew
    once the centre has reset the node. Doing it again does the rest; until then no key
    is made here.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    write_file(files.wiping, b"")
    with writing(files.folder):
        found = tuple(sorted(files.folder.glob("**/*.key")))
        gone = tuple(path for path in found if not _names(path))
        for path in found:
            _destroy(path)
        for name in ("next", "next.tmp", "old"):
            shutil.rmtree(files.folder / name, ignore_errors=True)
        files.tls_certificate.unlink(missing_ok=True)
        _set_aside(files)
        files.leaving.unlink(missing_ok=True)
        files.wiping.unlink()
    return gone


def _set_aside(files: IdentityFiles) -> None:
    statements = sorted(files.folder.glob("statement-*.jws"))
    if not statements:
        return
    n = 1
    while (folder := files.folder / "former" / str(n)).exists():
        n += 1
    make_folder(folder)
    for path in reversed(statements):  # while the first is there it is not done
        path.rename(folder / path.name)


def _destroy(path: Path) -> None:
    """Write a file over, then remove its name."""
    path.chmod(0o600)
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
