# SPDX-License-Identifier: Apache-2.0
"""Keys that sign the repository: files of people's keys, and those that lie online.

A private key is a PEM file of its owner alone (0400), sealed with a passphrase unless
it must work without a person. The public half is a small JSON file, ``.pub``, which
``init``, ``member`` and ``rotate`` take; the private one never leaves its stick.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from agent.central.disk import Disk
from agent.crypto import keyfile
from agent.crypto.metakey import MetadataKey
from agent.errors import MalformedMessage, SecretUnreadable, UsageFault
from agent.wire import strict
from agent.wire.members import read

LABEL = "x-fep-label"
"""Member of a key in the metadata: how people call it."""
_HEX = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[0-9A-Za-z\u4e00-\u9fff][0-9A-Za-z\u4e00-\u9fff ._-]{0,63}")
_CAP = 4096


class FileSigner(Signer):
    """Signs with a key that was read from a file."""

    def __init__(self, key: MetadataKey, label: str = "") -> None:
        self._key = key
        self._public = public_key(key.public, label)

    @property
    def public_key(self) -> Key:
        """As it stands in the metadata."""
        return self._public

    @classmethod
    def from_priv_key_uri(
        cls,
        priv_key_uri: str,
        public_key: Key,
        secrets_handler: SecretsHandler | None = None,
    ) -> FileSigner:
        """Not used: key files are read by :func:`load`."""
        raise NotImplementedError

    def sign(self, payload: bytes) -> Signature:
        """The signature of a role's canonical bytes."""
        return Signature(self._public.keyid, self._key.sign(payload).hex())


def public_key(public: bytes, label: str = "") -> SSlibKey:
    """A key as it stands in metadata; its id is the specification's.

    Args:
        public: 32 bytes of Ed25519.
        label: how people call it.
    """
    body = {
        "keytype": "ed25519",
        "scheme": "ed25519",
        "keyval": {"public": public.hex()},
    }
    keyid = hashlib.sha256((encode_canonical(body) or "").encode()).hexdigest()
    named: dict[str, Any] = {LABEL: label} if label else {}
    return SSlibKey(keyid, "ed25519", "ed25519", {"public": public.hex()}, named)


def label(key: Key) -> str:
    """How people call a key, else the begin of its id."""
    found = key.unrecognized_fields.get(LABEL)
    return found if isinstance(found, str) and found else key.keyid[:12]


def true_id(key: Key) -> str | None:
    """The id that follows from a key itself; None if it is no Ed25519 key.

    The metadata's own word on it proves nothing: nobody else compares the two.
    """
    public = key.keyval.get("public")
    known = (key.keytype, key.scheme) == ("ed25519", "ed25519")
    if not known or not isinstance(public, str) or not _HEX.fullmatch(public):
        return None
    return public_key(bytes.fromhex(public)).keyid


def named(key: Key) -> str:
    """How people call a key, and the begin of its id: labels may be alike."""
    return f"{label(key)} {key.keyid[:16]}"


def generate(
    path: Path, *, name: str, passphrase: bytes | None, disk: Disk
) -> SSlibKey:
    """Make a key: a private file that only its owner reads, and ``.pub`` beside it.

    Raises:
        UsageFault: a file of this name is there, or the name cannot be one.
        OSError: it cannot be written.
    """
    if not _LABEL.fullmatch(name):
        raise UsageFault(f"label: expected letters, digits, . _ and -, got {name!r}")
    public = public_path(path)
    for each in (path, public):
        if each.exists():
            raise UsageFault(f"{each}: is there already")
    key = MetadataKey.generate()
    disk.write(path, key.pem(passphrase), mode=0o400)
    disk.write(public, public_file(key, name))
    disk.sync(path.parent)
    return public_key(key.public, name)


def public_path(path: Path) -> Path:
    """Where the public half of a private key's file is."""
    return path.with_name(path.name.removesuffix(".key") + ".pub")


def public_file(key: MetadataKey, name: str) -> bytes:
    """Content of a ``.pub`` file."""
    return strict.dumps({"v": 1, "label": name, "ed25519": key.public.hex()}) + b"\n"


def read_public(path: Path) -> SSlibKey:
    """The key of a ``.pub`` file.

    Raises:
        UsageFault: it cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            m = read(file.read(_CAP), path.name, "label ed25519")
        return public_key(
            bytes.fromhex(m.match("ed25519", _HEX)), m.match("label", _LABEL)
        )
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from None
    except MalformedMessage as e:
        raise UsageFault(
            f"{path}: expected a .pub file of keygen; {e.detail}"
        ) from None


def sealed(path: Path) -> bool:
    """Whether a private key's file needs a passphrase.

    Raises:
        SecretUnreadable: it cannot be read.
    """
    return keyfile.where(path) == "sealed"


def load(
    path: Path, *, passphrase: bytes | None, environ: Mapping[str, str]
) -> FileSigner:
    """The signer of a private key's file.

    Args:
        path: the file; it may name a credential of systemd.
        passphrase: of a sealed one.
        environ: of the process, for credentials.

    Raises:
        SecretUnreadable: missing, open to others, another passphrase, no such key.
    """
    pem = keyfile.contents(path, environ)
    try:
        return FileSigner(MetadataKey.from_pem(pem, passphrase=passphrase))
    except ValueError as e:
        raise SecretUnreadable(f"{path}: {e}") from None


def online(folder: Path, environ: Mapping[str, str]) -> dict[str, Signer]:
    """Every key that lies on the publisher's machine, by key id.

    Raises:
        SecretUnreadable: one cannot be read, or is sealed without a credential.
    """
    found: dict[str, Signer] = {}
    for path in sorted(folder.glob("*.key")):
        passphrase = keyfile.unsealing(path, environ) if sealed(path) else None
        signer = load(path, passphrase=passphrase, environ=environ)
        found[signer.public_key.keyid] = signer
    return found
