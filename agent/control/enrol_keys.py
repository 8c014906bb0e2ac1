# SPDX-License-Identifier: Apache-2.0
"""The keys that a machine enrols with, and whether a certificate is for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.control.enrol_line import Target
from agent.control.identity import IdentityFiles, make_folder, write_file, writing
from agent.crypto.certificates import Certificate
from agent.crypto.jose import PrivateKey, PublicKey, message_digest
from agent.crypto.keys import (
    certificate_node,
    csr,
    load_note_key,
    load_private,
    save_private,
)
from agent.crypto.notekey import NoteKey
from agent.errors import ExchangeUntrusted, UsageFault
from agent.wire.grammar import format_time
from agent.wire.keys import KeyChain, KeyStatement, chain


@dataclass(frozen=True)
class Keys:
    """The keys that enrolment itself needs, and the node's statements, 1 first."""

    tls: PrivateKey
    sign: PrivateKey
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Message digest of statement 1."""
        return message_digest(self.statements[0])


def make_keys(
    target: Target, files: IdentityFiles, *, now: Callable[[], datetime]
) -> Keys:
    """The keys and their statements; those that exist are kept.

    Raises:
        UsageFault: keys are being destroyed here.
    """
    if files.wiping.exists():
        raise UsageFault(
            f"{files.folder}: expected no keys, got those that are being destroyed;"
            " `fep leave` does the rest"
        )
    tls, sign, decrypt = (_key(files, p) for p in ("tls", "sign", "decrypt"))
    audit = _audit_key(files)
    live = (tls.public, sign.public, decrypt.public, audit.public)
    statements = _kept_statements(files)
    if _lacks(statements, live):
        n = len(statements) + 1
        moment = format_time(now().replace(microsecond=0))
        statement = KeyStatement(target.node, n, live, not_before=moment)
        text = sign.sign("fep-keys+jws", statement.payload())
        write_file(files.statement(n), text.encode())
        statements = (*statements, text)
    return Keys(tls, sign, statements)


def _kept_statements(files: IdentityFiles) -> tuple[str, ...]:
    texts: list[str] = []
    while (path := files.statement(len(texts) + 1)).exists():
        texts.append(path.read_text("ascii"))
    return tuple(texts)


def _lacks(statements: tuple[str, ...], live: tuple[PublicKey, ...]) -> bool:
    """Whether a further statement is due: ours are all in it, but not all of ours.

    A statement with keys that this machine does not have is somebody's restored or
    copied folder; enrolment then fails at the certificate, and nothing is stated.
    """
    if not statements:
        return True
    said: KeyChain = chain(statements)
    return {key.kid for key in said.live} < {key.kid for key in live}


def _key(files: IdentityFiles, purpose: str) -> PrivateKey:
    path = files.key(purpose)
    if not path.exists():
        _save(path, PrivateKey.generate(purpose))
    return load_private(path, purpose=purpose, tokens=files.tokens)


def _audit_key(files: IdentityFiles) -> NoteKey:
    if not files.audit_key.exists():
        _save(files.audit_key, NoteKey.generate("audit"))
    return load_note_key(files.audit_key, purpose="audit", tokens=files.tokens)


def _save(path: Path, key: PrivateKey | NoteKey) -> None:
    with writing(path):
        make_folder(path.parent)
        save_private(path, key)


def request(target: Target, keys: Keys) -> bytes:
    """The certificate request of these keys, DER."""
    return csr(keys.tls, node=target.node, statement_digest=keys.digest, cn=target.node)


def check_fits(
    certificate: Certificate, target: Target, keys: Keys, *, ca: Certificate
) -> None:
    """Refuse a certificate that is not ours, from the pinned CA, for our keys.

    Raises:
        ExchangeUntrusted: it says what was expected.
    """
    if not certificate.issued_by(ca):
        raise ExchangeUntrusted("certificate: expected one that the pinned CA issued")
    said = certificate_node(certificate.pem)
    if said.node != target.node:
        raise ExchangeUntrusted(
            f"certificate: expected node {target.node}, got {said.node}"
        )
    if certificate.kid != keys.tls.public.kid:
        raise ExchangeUntrusted("certificate: expected one for tls.key, got another")
    if said.statement != keys.digest:
        raise ExchangeUntrusted(
            f"certificate: expected one fep:keys/ URI with {keys.digest},"
            f" got {said.statement or 'none or several'}"
        )
