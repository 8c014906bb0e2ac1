# SPDX-License-Identifier: Apache-2.0
"""The files that make up this machine's identity.

::

    keys/ca.pem             the EST CA, equal to the pin exchange.ca_sha256
    keys/tls.key            private, 0400, made here
    keys/sign.key           private, 0400, made here
    keys/decrypt.key        private, 0400, made here
    keys/audit.key          private Ed25519, 0400, made here
    keys/statement-<n>.jws  key statements, 1 first, each signed by sign.key
    keys/tls.pem            certificate of tls.key, issued by the CA
    keys/leaving            the exchange was told that the node leaves, or just about to
    keys/wiping             the keys are being destroyed
    directory.jws           the exchange's directory as last verified
    vouchers/<sha256>.jws   every other directory that vouched for a receipt's key
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent.crypto.certificates import Certificate
from agent.crypto.jose import PrivateKey
from agent.crypto.keys import load_note_key, load_private
from agent.crypto.notekey import NoteKey
from agent.crypto.token import Tokens
from agent.errors import MalformedMessage, NotEnrolled, SpoolWriteFailed


@dataclass(frozen=True)
class IdentityFiles:
    """Where the files are.

    Args:
        state: the folder ``paths.state``.
        tokens: where this process is logged in for keys that the files only name.
    """

    state: Path
    tokens: Tokens = field(default_factory=Tokens, compare=False, repr=False)

    @property
    def folder(self) -> Path:
        """Folder of keys and certificates, mode 0700."""
        return self.state / "keys"

    @property
    def ca(self) -> Path:
        """The pinned CA's certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def tls_key(self) -> Path:
        """Private key of the certificate, PEM."""
        return self.folder / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """Certificate that the CA issued for this node, PEM."""
        return self.folder / "tls.pem"

    @property
    def sign_key(self) -> Path:
        """Private key that signs batches, catalogs and lookups, PEM."""
        return self.folder / "sign.key"

    @property
    def decrypt_key(self) -> Path:
        """Private key that opens lookup requests, PEM."""
        return self.folder / "decrypt.key"

    @property
    def audit_key(self) -> Path:
        """Private Ed25519 key that signs checkpoints of the audit log, PEM."""
        return self.folder / "audit.key"

    def key(self, purpose: str) -> Path:
        """File of the private key of a purpose, while it is in use."""
        return self.folder / f"{purpose}.key"

    def statement(self, n: int) -> Path:
        """Key statement n, compact JWS."""
        return self.folder / f"statement-{n}.jws"

    @property
    def leaving(self) -> Path:
        """It is there from just before a goodbye until the keys are gone."""
        return self.folder / "leaving"

    @property
    def wiping(self) -> Path:
        """It is there while the keys are being destroyed."""
        return self.folder / "wiping"

    @property
    def directory(self) -> Path:
        """The directory as last verified, compact JWS."""
        return self.state / "directory.jws"

    @property
    def vouchers(self) -> Path:
        """Folder of the directories that vouched for a receipt's key, by SHA-256."""
        return self.state / "vouchers"

    def missing(self) -> tuple[Path, ...]:
        """Files without which nothing can be sent."""
        needed = (self.ca, self.tls_key, self.tls_certificate, self.sign_key)
        return tuple(p for p in needed if not p.exists())


def load_sign_key(files: IdentityFiles) -> PrivateKey:
    """The key that signs, once everything is in place.

    Raises:
        NotEnrolled: a file is missing, or a key's file is open to others.
    """
    if missing := files.missing():
        names = ", ".join(str(p) for p in missing)
        raise NotEnrolled(f"expected {names}")
    return load_private(files.sign_key, purpose="sign", tokens=files.tokens)


def load_tls_key(files: IdentityFiles) -> PrivateKey:
    """The key of our certificate.

    Raises:
        NotEnrolled: it is missing.
        SecretUnreadable: its file is open to others, or damaged.
    """
    _refuse_missing(files.tls_key)
    return load_private(files.tls_key, purpose="tls")


def load_decrypt_key(files: IdentityFiles) -> PrivateKey:
    """The key that opens lookup requests.

    Raises:
        NotEnrolled: it is missing: this machine was enrolled before it could answer
            lookups. Enrolling again makes it and tells the exchange.
        SecretUnreadable: its file is open to others, or damaged.
    """
    _refuse_missing(files.decrypt_key)
    return load_private(files.decrypt_key, purpose="decrypt")


def load_audit_key(files: IdentityFiles) -> NoteKey:
    """The key that signs checkpoints of the audit log.

    Raises:
        NotEnrolled: it is missing, as in :func:`load_decrypt_key`.
        SecretUnreadable: its file is open to others, or damaged.
    """
    _refuse_missing(files.audit_key)
    return load_note_key(files.audit_key, purpose="audit", tokens=files.tokens)


def load_key(path: Path, purpose: str) -> PrivateKey | NoteKey:
    """A private key from its file.

    Raises:
        SecretUnreadable: missing, open to others, or damaged.
    """
    if purpose == "audit":
        return load_note_key(path, purpose=purpose)
    return load_private(path, purpose=purpose)


def _refuse_missing(path: Path) -> None:
    if not path.exists():
        raise NotEnrolled(f"expected {path}; enrolling again makes it")


def check_pin(files: IdentityFiles, *, ca_sha256: str) -> None:
    """Trust ``ca.pem`` only while it is exactly the certificate of the slip.

    TLS trusts every certificate in the file, and the slip may have changed since the
    enrolment.

    Raises:
        NotEnrolled: it is another one, or not the only one.
    """
    try:
        pem = files.ca.read_bytes()
        found = Certificate.from_pem(pem)
    except (OSError, MalformedMessage) as e:
        raise NotEnrolled(f"{files.ca}: cannot be read: {type(e).__name__}") from e
    if found.sha256 != ca_sha256:
        raise NotEnrolled(
            f"{files.ca}: expected exchange.ca_sha256 {ca_sha256}, got {found.sha256}"
        )
    if pem.count(b"-----BEGIN") != 1:
        raise NotEnrolled(f"{files.ca}: expected the pinned certificate and no more")


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a small file in place whole: temporary file, fsync, rename, fsync folder.

    Raises:
        SpoolWriteFailed: a step failed.
    """
    tmp = path.with_name(path.name + ".tmp")
    with writing(path):
        make_folder(path.parent)
        tmp.unlink(missing_ok=True)
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(fd)
        tmp.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def make_folder(path: Path) -> None:
    """A folder for its owner alone."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what the disk says.

    Raises:
        SpoolWriteFailed: with the path.
    """
    try:
        yield
    except OSError as e:
        raise SpoolWriteFailed(f"{path}: {e.strerror}") from e
