# SPDX-License-Identifier: Apache-2.0
"""A machine's certificate of any time, from the authority of its exchange."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_csr

from agent.control.identity import IdentityFiles
from agent.crypto.jose import message_digest
from agent.crypto.keys import csr, load_private
from sandbox.tls import Pki


def certify(
    files: IdentityFiles, node: str, authority: Path, *, begun: datetime, days: int
) -> None:
    """Put one in place that began then and lives so many days."""
    pki = Pki(authority, ["localhost"], aud="yunxi.exchange", now=datetime.now(UTC))
    key = load_private(files.tls_key, purpose="tls")
    first = message_digest(files.statement(1).read_text())
    request = load_der_x509_csr(csr(key, node=node, statement_digest=first, cn=node))
    made = pki.authority.issue_client(request, now=begun, days=days)
    files.tls_certificate.write_bytes(made.public_bytes(Encoding.PEM))
