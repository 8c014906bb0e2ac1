# SPDX-License-Identifier: Apache-2.0
"""The folder of a change of keys: new ones beside those in use, until they are known.

::

    keys/next/<purpose>.key     new private keys, while they are being made known
    keys/next/tls.pem           certificate of the new tls key
    keys/next/statement.jws     the key statement that names the new keys
    keys/next/shown             the directory shows them: they are put in place now
    keys/old/decrypt-<kid>.key  what still opens requests that are on their way

Rules

1. The folder ``next`` appears whole, with all keys of the change, and goes when it is
   done. Each step leaves a file and is skipped when it is there, so that whoever finds
   the folder goes on where the last life stopped.
2. Of the old keys only ``decrypt`` is kept, until its retirement ends: what was sealed
   to it is still on its way. Their public halves stay in the statements, which is all
   that verifying needs.
3. A key whose file only names it (a credential, a token) is a person's to change. The
   certificate of such a key is renewed with the same key: its file is copied into
   ``next`` and dropped in the end, and no statement is made, for no key is new.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.control.identity import IdentityFiles, make_folder, write_file, writing
from agent.control.outside import refuse_outside
from agent.control.statements import said_of
from agent.crypto import keyfile
from agent.crypto.jose import PrivateKey
from agent.crypto.keys import load_private, save_private
from agent.crypto.notekey import NoteKey
from agent.errors import Busy
from agent.wire.keys import NODE_PURPOSES


@dataclass(frozen=True)
class Staged:
    """The folder of a change.

    Args:
        files: of the identity.
    """

    files: IdentityFiles

    @property
    def folder(self) -> Path:
        """It is there while a change is under way."""
        return self.files.folder / "next"

    @property
    def certificate(self) -> Path:
        """Certificate of the new ``tls`` key."""
        return self.folder / "tls.pem"

    @property
    def statement(self) -> Path:
        """Statement n+1."""
        return self.folder / "statement.jws"

    @property
    def shown(self) -> Path:
        """It is there once the directory shows the new keys."""
        return self.folder / "shown"

    def key(self, purpose: str) -> Path:
        """The new private key of a purpose."""
        return self.folder / f"{purpose}.key"

    @property
    def text(self) -> str | None:
        """Statement n+1, once it is made."""
        with suppress(FileNotFoundError):
            return self.statement.read_text("ascii")
        return None

    @property
    def purposes(self) -> tuple[str, ...]:
        """Which keys are new."""
        return tuple(p for p in NODE_PURPOSES if self.key(p).exists())


def old_decrypt_keys(files: IdentityFiles) -> tuple[Path, ...]:
    """Private keys that still open what was sealed to them."""
    return tuple(sorted((files.folder / "old").glob("decrypt-*.key")))


def begin(files: IdentityFiles, purposes: Collection[str]) -> None:
    """Make new keys of these purposes; the folder is there whole or not at all.

    Raises:
        KeyElsewhere: a key of these is not in its file; nothing was made.
        Busy: another change is under way.
        SecretUnreadable: a key file or the passphrase cannot be read.
        SpoolWriteFailed: the disk refused.
    """
    refuse_outside(files, purposes)
    _stage(files, purposes)


def begin_renewal(files: IdentityFiles) -> None:
    """Begin the change of the certificate, with a new key if the old is in its file.

    Raises:
        Busy, SecretUnreadable, SpoolWriteFailed: see :func:`begin`.
    """
    _stage(files, ("tls",))


def _stage(files: IdentityFiles, purposes: Collection[str]) -> None:
    staged = Staged(files)
    if staged.folder.exists():
        under_way = ", ".join(staged.purposes) or "keys"
        raise Busy(f"a change of {under_way} is under way; it goes on by itself")
    draft = staged.folder.with_name("next.tmp")
    with writing(draft):
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(draft)
        for purpose in purposes:
            path, used = draft / f"{purpose}.key", files.key(purpose)
            if used.exists() and keyfile.elsewhere(used):
                write_file(path, used.read_bytes(), mode=0o400)
            else:
                save_private(path, _made(purpose))
        draft.rename(staged.folder)
        _sync(files.folder)


def _made(purpose: str) -> PrivateKey | NoteKey:
    if purpose == "audit":
        return NoteKey.generate("audit")
    return PrivateKey.generate(purpose)


def give_up(files: IdentityFiles) -> None:
    """Drop the change that is under way; its keys were never in use.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    folder = Staged(files).folder
    with writing(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def carry_through(files: IdentityFiles) -> bool:
    """Put the new keys into the place of the old ones; whether there were any.

    It is only done once the directory has shown them; doing it again, after an end in
    the middle, does the rest.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    staged = Staged(files)
    if not staged.shown.exists():
        return False
    with writing(staged.folder):
        _keep_decrypt(staged)
        for purpose in staged.purposes:
            if keyfile.elsewhere(staged.key(purpose)):
                staged.key(purpose).unlink()
            else:
                staged.key(purpose).replace(files.key(purpose))
        if staged.certificate.exists():
            staged.certificate.replace(files.tls_certificate)
        if staged.statement.exists():
            n = said_of(staged.statement.read_text("ascii")).n
            staged.statement.replace(files.statement(n))
        _sync(files.folder)
        staged.shown.unlink()
        staged.folder.rmdir()
        _sync(files.folder)
    return True


def forget_old(files: IdentityFiles, over: Callable[[str], bool]) -> int:
    """Delete old ``decrypt`` keys to which nobody seals any more; how many.

    Args:
        files: of the identity.
        over: whether a key, by its kid, is revoked or was retired for long enough.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    kept = old_decrypt_keys(files)
    gone = [p for p in kept if over(p.stem.removeprefix("decrypt-"))]
    for path in gone:
        with writing(path):
            path.unlink()
    return len(gone)


def _keep_decrypt(staged: Staged) -> None:
    """Keep the old ``decrypt`` key under its kid, before the new one replaces it."""
    if not staged.key("decrypt").exists():
        return
    now = staged.files.key("decrypt")
    kid = load_private(now, purpose="decrypt").public.kid
    kept = staged.files.folder / "old" / f"decrypt-{kid}.key"
    make_folder(kept.parent)
    with suppress(FileExistsError):
        kept.hardlink_to(now)
    _sync(kept.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
