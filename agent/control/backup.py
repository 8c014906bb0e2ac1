# SPDX-License-Identifier: Apache-2.0
"""The keys of a node in one file under a passphrase, for the day its disc is dead.

The file is a compact JWE (``agent.crypto.keybox``) of typ ``fep-key-backup``; inside is
the JSON object ``{v: 1, node, made, about, files: {name: text}}`` with the files of the
folder ``keys``: private keys (PEM), certificates, key statements.

Keys that are not in their files, but in a credential or a token, cannot be in it: then
there is none, for one that does not bring the node back is worse.

Whoever has the file and the passphrase is this node: two machines with its keys are
found out (``node-cloned``) and everything is held. It is for the one machine that takes
the place of the lost one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.control.identity import (
    IdentityFiles,
    load_key,
    make_folder,
    write_file,
    writing,
)
from agent.control.outside import refuse_outside
from agent.control.staging import Staged, old_decrypt_keys
from agent.control.statements import kept_statements
from agent.crypto import keybox
from agent.crypto.jose import PrivateKey
from agent.crypto.keys import certificate_node, save_private
from agent.crypto.notekey import NoteKey
from agent.errors import BackupUnfit, Busy, KeysPresent, MalformedMessage
from agent.wire.grammar import format_time
from agent.wire.keys import NODE_PURPOSES

TYP = "fep-key-backup"
CAP = 1024 * 1024
"""Most bytes of a backup that is read."""
ABOUT = (
    "For the one machine that takes the place of this node's lost one. Two machines"
    " with these keys are found out and everything of the node is held."
)
_NAME = re.compile(
    r"(?:tls|sign|decrypt|audit)\.key|old/decrypt-[A-Za-z0-9_-]{43}\.key"
    r"|(?:tls|ca)\.pem|statement-[1-9][0-9]{0,3}\.jws"
)
_NEEDED = {
    *(f"{p}.key" for p in NODE_PURPOSES),
    "tls.pem",
    "ca.pem",
    "statement-1.jws",
}


def made(
    files: IdentityFiles,
    passphrase: bytes,
    *,
    now: datetime,
    rounds: int = keybox.ROUNDS,
) -> str:
    """The text of a backup.

    Raises:
        NotEnrolled: there is nothing to back up.
        Busy: keys are just being changed.
        KeyElsewhere: a key is in a credential or a token.
        SecretUnreadable: a key cannot be read.
    """
    if Staged(files).folder.exists():
        raise Busy("a change of keys is under way; it would be missing in the backup")
    statements = kept_statements(files)
    refuse_outside(files)
    parts = {f"{p}.key": _pem(load_key(files.key(p), p)) for p in NODE_PURPOSES}
    for path in old_decrypt_keys(files):
        parts[f"old/{path.name}"] = _pem(load_key(path, "decrypt"))
    for name in ("tls.pem", "ca.pem"):
        parts[name] = (files.folder / name).read_text("ascii")
    for n, message in enumerate(statements.messages, 1):
        parts[f"statement-{n}.jws"] = message.text
    body = {
        "v": 1,
        "node": statements.node,
        "made": format_time(now),
        "about": ABOUT,
        "files": parts,
    }
    data = json.dumps(body).encode()
    return keybox.lock(data, passphrase, typ=TYP, rounds=rounds)


def _pem(key: PrivateKey | NoteKey) -> str:
    return key.pem().decode("ascii")


def restore(text: str, files: IdentityFiles, passphrase: bytes, *, node: str) -> None:
    """Put the keys of a backup where this machine has none.

    Args:
        text: of the backup.
        files: where to.
        passphrase: of the backup.
        node: whose keys are expected, as the settings say.

    Raises:
        KeysPresent: this machine has keys already.
        BackupUnfit: no backup, or another node's.
        PassphraseWrong: it does not open.
    """
    if files.sign_key.exists() or files.wiping.exists():
        raise KeysPresent(f"{files.folder}: there are keys")
    parts = _opened(text, passphrase, node)
    keys = {name: _key(name, pem) for name, pem in parts.items() if _is_key(name)}
    for name, body in parts.items():
        if name not in keys:
            mode = 0o644 if name.endswith(".pem") else 0o600
            write_file(files.folder / name, body.encode("ascii"), mode=mode)
    # The sign key comes last: with it the folder counts as one that has keys.
    for name in sorted(keys, key=lambda n: n == "sign.key"):
        path = files.folder / name
        with writing(path):
            make_folder(path.parent)
            path.unlink(missing_ok=True)
            save_private(path, keys[name])


def _is_key(name: str) -> bool:
    return name.endswith(".key")


def read(path: Path) -> str:
    """The text of a backup file.

    Raises:
        BackupUnfit: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(CAP + 1)
        text = data.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise BackupUnfit(f"{path}: {type(e).__name__}") from e
    if len(data) > CAP:
        raise BackupUnfit(f"{path}: expected at most {CAP} bytes")
    return text


def _opened(text: str, passphrase: bytes, node: str) -> Mapping[str, str]:
    """Name -> text of the files that a backup holds."""
    try:
        data = keybox.unlock(text, passphrase, typ=TYP)
        body: dict[str, Any] = json.loads(data)
        parts = {str(name): str(value) for name, value in body["files"].items()}
        for value in parts.values():
            value.encode("ascii")
        said = certificate_node(parts["tls.pem"].encode()).node
    except (MalformedMessage, ValueError, LookupError, AttributeError) as e:
        detail = e.detail if isinstance(e, MalformedMessage) else type(e).__name__
        raise BackupUnfit(f"expected what `fep keys backup` writes: {detail}") from None
    odd = [name for name in parts if not _NAME.fullmatch(name)]
    if odd or not parts.keys() >= _NEEDED:
        raise BackupUnfit("expected the files of one node's keys, and no others")
    if said != node:
        raise BackupUnfit(f"expected the keys of {node}, got those of {said}")
    return parts


def _key(name: str, pem: str) -> PrivateKey | NoteKey:
    purpose = "decrypt" if name.startswith("old/") else name.removesuffix(".key")
    try:
        if purpose == "audit":
            return NoteKey.from_pem(pem.encode("ascii"), purpose=purpose)
        return PrivateKey.from_pem(pem.encode("ascii"), purpose=purpose)
    except ValueError:
        raise BackupUnfit(f"{name}: expected a private key") from None
