# SPDX-License-Identifier: Apache-2.0
"""Key files, certificate requests and what certificates say (wire.md §1, §6)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.crypto import keyfile, token
from agent.crypto.jose import PrivateKey, thumbprint
from agent.crypto.notekey import NoteKey
from agent.crypto.token_keys import TokenEd25519, TokenP256
from agent.errors import MalformedMessage, SecretUnreadable

NODE_URI = "fep:node/"
STATEMENT_URI = "fep:keys/sha256/"
IN_TOKEN = frozenset({"sign", "audit"})
"""Purposes of keys that may be in a token."""

__all__ = [
    "Identity",
    "ca_sha256",
    "certificate_node",
    "csr",
    "csr_node",
    "load_note_key",
    "load_private",
    "pem_of_csr",
    "save_private",
    "thumbprint",
    "tls_files",
]


@dataclass(frozen=True)
class Identity:
    """Whom a certificate or a request for one speaks of.

    Args:
        node: after ``fep:node/``.
        statement: message digest (``sha256:<hex>``) of key statement 1, or None.
        not_after: when the certificate ends, aware UTC; None for a request.
    """

    node: str
    statement: str | None
    not_after: datetime | None


def load_private(
    path: Path,
    *,
    purpose: str,
    environ: Mapping[str, str] = os.environ,
    tokens: token.Tokens | None = None,
) -> PrivateKey:
    """A private P-256 key from its file, or from where the file says (``keyfile``).

    Args:
        path: readable by its owner alone; not a symbolic link.
        purpose: what the key is for.
        environ: of the process.
        tokens: where it is logged in; None: nowhere yet.

    Raises:
        SecretUnreadable: missing, open to others, or no P-256 key.
        TokenFailed: it is in a token that does not answer.
    """
    try:
        if (hand := _hand(path, purpose, environ, tokens)) is not None:
            return PrivateKey(TokenP256(hand), purpose)
        data = keyfile.contents(path, environ)
        unsealing = keyfile.unsealing(path, environ)
        return PrivateKey.from_pem(data, purpose=purpose, passphrase=unsealing)
    except ValueError as e:
        raise SecretUnreadable(f"{path}: {e}") from e


def load_note_key(
    path: Path,
    *,
    purpose: str,
    environ: Mapping[str, str] = os.environ,
    tokens: token.Tokens | None = None,
) -> NoteKey:
    """A private Ed25519 key from its file, or from where the file says (``keyfile``).

    Args:
        path: readable by its owner alone; not a symbolic link.
        purpose: ``audit`` or ``witness``.
        environ: of the process.
        tokens: where it is logged in; None: nowhere yet.

    Raises:
        SecretUnreadable: missing, open to others, or no Ed25519 key.
        TokenFailed: it is in a token that does not answer.
    """
    try:
        if (hand := _hand(path, purpose, environ, tokens)) is not None:
            return NoteKey(TokenEd25519(hand), purpose)
        data = keyfile.contents(path, environ)
        unsealing = keyfile.unsealing(path, environ)
        return NoteKey.from_pem(data, purpose=purpose, passphrase=unsealing)
    except ValueError as e:
        raise SecretUnreadable(f"{path}: {e}") from e


def _hand(
    path: Path,
    purpose: str,
    environ: Mapping[str, str],
    tokens: token.Tokens | None,
) -> token.Hand | None:
    """The hand that signs with a token's key; None if the key is in the file."""
    data = keyfile.contents(path, environ)
    if not data.startswith(token.PREFIX.encode()):
        return None
    if purpose not in IN_TOKEN:
        raise ValueError(f"a key of purpose {purpose} is not used from a token")
    found = token.place(data.decode("ascii", "replace").strip(), at=str(path))
    source = found.pin_source
    pin = partial(keyfile.pin, source, environ, at=str(path))
    return token.Hand(found, pin, tokens or token.Tokens())


def tls_files(
    certificate: Path, key: Path, environ: Mapping[str, str] = os.environ
) -> tuple[Path, Path, Callable[[], bytes]]:
    """Arguments of ``SSLContext.load_cert_chain``; the passphrase only if it is asked.

    Raises:
        SecretUnreadable: the key's file names a credential that is not there, or is
            sealed without a passphrase, or open with one.
    """
    file = keyfile.key_path(key, environ)
    unsealing = keyfile.unsealing(key, environ)
    return certificate, file, lambda: unsealing or b""


def save_private(
    path: Path, key: PrivateKey | NoteKey, environ: Mapping[str, str] = os.environ
) -> None:
    """Write a key file once: mode 0400, synced, whole or not at all.

    Where there is a passphrase, it is sealed with it.

    Raises:
        FileExistsError: there is one; it is never overwritten.
        OSError: the folder cannot be written.
        SecretUnreadable: the passphrase cannot be read.
    """
    pem = key.pem(keyfile.passphrase(environ))
    draft = path.with_name(path.name + ".tmp")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(draft, flags, 0o400), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def csr(tls_key: PrivateKey, *, node: str, statement_digest: str, cn: str) -> bytes:
    """A PKCS#10 request in DER with the two SAN URIs.

    Args:
        tls_key: of purpose ``tls``.
        node: whose certificate it shall be.
        statement_digest: ``sha256:<hex>`` of key statement 1.
        cn: common name of the subject, for people.
    """
    if tls_key.public.purpose != "tls":
        raise ValueError("expected a key of purpose tls")
    uris = [NODE_URI + node, STATEMENT_URI + statement_digest.removeprefix("sha256:")]
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    key = serialization.load_pem_private_key(tls_key.pem(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("expected an EC key")
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.DER)


def pem_of_csr(der: bytes) -> bytes:
    """A PKCS#10 request as PEM."""
    request = x509.load_der_x509_csr(der)
    return request.public_bytes(serialization.Encoding.PEM)


def csr_node(data: bytes) -> Identity:
    """Whom a PKCS#10 request (DER or PEM) speaks of; its signature is checked.

    Raises:
        MalformedMessage: no request, a bad signature, or not exactly one node.
    """
    try:
        if data.lstrip().startswith(b"-----"):
            request = x509.load_pem_x509_csr(data)
        else:
            request = x509.load_der_x509_csr(data)
        good = request.is_signature_valid
        extensions = request.extensions
    except (ValueError, x509.DuplicateExtension) as e:
        raise MalformedMessage("csr: expected a PKCS#10 request") from e
    if not good:
        raise MalformedMessage("csr: its signature does not verify")
    return _identity(extensions, None)


def certificate_node(data: bytes) -> Identity:
    """Whom a certificate (DER or PEM) speaks of; the caller has verified its chain.

    Raises:
        MalformedMessage: no certificate, or not exactly one ``fep:node/`` URI.
    """
    certificate = _certificate(data)
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as e:
        raise MalformedMessage("certificate: its extensions cannot be read") from e
    return _identity(extensions, certificate.not_valid_after_utc)


def ca_sha256(data: bytes) -> str:
    """Lower hex SHA-256 of a certificate's DER, as printed on the slip."""
    der = _certificate(data).public_bytes(serialization.Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def _certificate(data: bytes) -> x509.Certificate:
    try:
        if data.lstrip().startswith(b"-----"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as e:
        raise MalformedMessage("certificate: expected X.509 in PEM or DER") from e


def _identity(extensions: x509.Extensions, not_after: datetime | None) -> Identity:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        uris = []
    nodes = [uri[len(NODE_URI) :] for uri in uris if uri.startswith(NODE_URI)]
    if len(nodes) != 1:
        raise MalformedMessage(
            f"certificate: expected one {NODE_URI}, got {len(nodes)}"
        )
    digests = [
        "sha256:" + uri[len(STATEMENT_URI) :]
        for uri in uris
        if uri.startswith(STATEMENT_URI)
    ]
    return Identity(nodes[0], digests[0] if len(digests) == 1 else None, not_after)
