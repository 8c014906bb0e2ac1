# SPDX-License-Identifier: Apache-2.0
"""What stands in a private key's file, and where the key itself is.

Rules

1. A key file is PEM, open or sealed with a passphrase; or one line that says where the
   key is: ``credential:NAME``, which systemd hands over, or a PKCS#11 URI (``token``).
2. A file is its owner's alone, 0400 or 0600. systemd gives a credential to a service by
   an access list: there a file of root with mode 0440 is taken too.
3. The passphrase is the credential ``fep.passphrase``, or in the file that
   ``FEP_PASSPHRASE_FILE`` names. Where there is one, a key file that is open is
   refused: nobody notices it else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from agent.crypto.token import PREFIX as TOKEN
from agent.errors import SecretUnreadable

CREDENTIAL = "credential:"
UNSEAL = "fep.passphrase"
"""Credential that unseals key files."""
UNSEAL_FILE = "FEP_PASSPHRASE_FILE"
"""Environment variable with the path of the passphrase's file, where there is no
systemd; the passphrase itself never stands in the environment."""
CREDENTIALS = "CREDENTIALS_DIRECTORY"
Where = Literal["file", "sealed", "credential", "token"]
"""Where a key is: open or sealed in its own file, or where the file says."""
_CAP = 16 * 1024
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SEALED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


def contents(path: Path, environ: Mapping[str, str]) -> bytes:
    """PEM of the key that a file holds or names, or a PKCS#11 URI.

    Raises:
        SecretUnreadable: missing, open to others, or naming nothing.
    """
    return _read(key_path(path, environ), environ)


def key_path(path: Path, environ: Mapping[str, str]) -> Path:
    """The file with the key itself: this one, or the credential that it names.

    Raises:
        SecretUnreadable: it names a credential that systemd did not give.
    """
    data, _ = _seen(path)  # a name is no secret; a key is judged when it is read
    if not data.startswith(CREDENTIAL.encode()):
        return path
    name = data.decode("ascii", "replace").strip().removeprefix(CREDENTIAL)
    return _credential(name, environ, at=str(path))


def where(path: Path) -> Where:
    """Where the key of a key file is.

    Raises:
        SecretUnreadable: it cannot be read.
    """
    data, _ = _seen(path)
    if data.startswith(CREDENTIAL.encode()):
        return "credential"
    if data.startswith(TOKEN.encode()):
        return "token"
    return "sealed" if data.lstrip().startswith(_SEALED) else "file"


def elsewhere(path: Path) -> bool:
    """Whether a key file only names a key: then nobody writes another one here.

    Raises:
        SecretUnreadable: it cannot be read.
    """
    return where(path) in {"credential", "token"}


def passphrase(environ: Mapping[str, str]) -> bytes | None:
    """What unseals key files, or None if they are open.

    Raises:
        SecretUnreadable: it should be there and cannot be read.
    """
    folder, file = environ.get(CREDENTIALS), environ.get(UNSEAL_FILE)
    path = Path(folder) / UNSEAL if folder else None
    if path is None or not path.exists():
        path = Path(file) if file else None
    if path is None:
        return None
    found = _read(path, environ).removesuffix(b"\n").removesuffix(b"\r")
    if not found:
        raise SecretUnreadable(f"{path}: expected a passphrase, got none")
    return found


def unsealing(path: Path, environ: Mapping[str, str]) -> bytes | None:
    """The passphrase of a key file, None for an open one.

    Raises:
        SecretUnreadable: it is sealed without a passphrase, or open with one.
    """
    found, there = passphrase(environ), key_path(path, environ)
    if _seen(there)[0].lstrip().startswith(_SEALED):
        if found is None:
            raise SecretUnreadable(
                f"{path}: sealed; expected the credential {UNSEAL}, or {UNSEAL_FILE}"
            )
        return found
    if found is not None and there == path:
        raise SecretUnreadable(f"{path}: expected it sealed with the passphrase")
    return None


def pin(source: str, environ: Mapping[str, str], *, at: str) -> str:
    """The PIN of a token.

    Args:
        source: ``file:/path``, ``/path`` or ``credential:NAME``.
        environ: of the process.
        at: the key file, for complaints.

    Raises:
        SecretUnreadable: it cannot be read.
    """
    if source.startswith(CREDENTIAL):
        path = _credential(source.removeprefix(CREDENTIAL), environ, at=at)
    else:
        path = Path(source.removeprefix("file://").removeprefix("file:"))
    if not path.is_absolute():
        raise SecretUnreadable(f"{at}: pin-source: expected an absolute path")
    try:
        return _read(path, environ).decode().strip()
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{path}: expected a PIN") from None


def _credential(name: str, environ: Mapping[str, str], *, at: str) -> Path:
    folder = environ.get(CREDENTIALS)
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise SecretUnreadable(f"{at}: expected the name of a credential")
    if not folder:
        raise SecretUnreadable(
            f"{at}: expected the credential {name} of systemd (LoadCredential=), got no"
            f" ${CREDENTIALS}"
        )
    return Path(folder) / name


def _read(path: Path, environ: Mapping[str, str]) -> bytes:
    """What is nobody else's to read."""
    data, found = _seen(path)
    folder = environ.get(CREDENTIALS)
    if not closed(found, given=folder is not None and path.parent == Path(folder)):
        mode = stat.S_IMODE(found.st_mode)
        raise SecretUnreadable(f"{path}: expected mode 0400 or 0600, got {mode:04o}")
    return data


def _seen(path: Path) -> tuple[bytes, os.stat_result]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            return file.read(_CAP), os.fstat(file.fileno())
    except OSError as e:
        raise SecretUnreadable(f"{path}: {e.strerror}") from e


def closed(found: os.stat_result, *, given: bool) -> bool:
    """Whether nobody but its owner may read a file.

    Args:
        found: what the system says of it.
        given: it is a credential: then nobody but whom systemd gave it to.
    """
    mode = stat.S_IMODE(found.st_mode)
    by_list = mode == 0o440 and (found.st_uid, found.st_gid) == (0, 0)
    return (given and by_list) or not mode & ~0o600
