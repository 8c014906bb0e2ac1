# SPDX-License-Identifier: Apache-2.0
"""Thousands of enrolled nodes, cheaply: keys, certificates, registry in one go.

Each has a key of its own for TLS and one for signatures, a certificate of the CA of the
exchange and its key statement, as after an enrolment. The exchange must not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.crypto.jose import PrivateKey, message_digest
from agent.crypto.keys import csr
from agent.wire import keys
from agent.wire.grammar import format_time
from agent.wire.keys import KeyStatement
from sandbox.options import Options
from sandbox.store import KeyRecord, Store
from sandbox.tls import Authority, Pki

DAYS = 30
PER_DEPARTMENT = 50
"""So many nodes of a department; a city has some departments, not one."""


@dataclass(frozen=True)
class Identity:
    """Who one node is.

    Args:
        node: its name.
        sign: key of its heartbeats.
        certificate: file, PEM.
        key: file of the certificate's key, PEM.
    """

    node: str
    sign: PrivateKey
    certificate: Path
    key: Path


def make(exchange: Path, folder: Path, count: int) -> list[Identity]:
    """Enrol so many nodes at the exchange of a folder.

    Args:
        exchange: folder of the sandbox, which is not running.
        folder: for the nodes' files.
        count: how many.
    """
    options, now = Options(exchange), datetime.now(UTC)
    exchange.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = Pki(exchange / "keys", (options.host,), aud=options.aud, now=now)
    store = Store(exchange / "centre.db")
    try:
        with store.transaction():
            return list(_enrolled(store, pki.authority, folder, count, now))
    finally:
        store.close()


def _enrolled(
    store: Store, authority: Authority, folder: Path, count: int, now: datetime
) -> Iterator[Identity]:
    for i in range(count):
        yield _enrol(store, authority, folder, _name(i), now)


def _name(i: int, kind: str = "n") -> str:
    department, machine = divmod(i, PER_DEPARTMENT)
    return f"11990100MB{department:08d}/{kind}{machine}"


def bare(count: int) -> list[Identity]:
    """So many nodes that no exchange knows: a name and a key for signatures."""
    return [
        Identity(_name(i, "b"), PrivateKey.generate("sign"), Path(), Path())
        for i in range(count)
    ]


def _enrol(
    store: Store, authority: Authority, folder: Path, node: str, now: datetime
) -> Identity:
    tls, sign = PrivateKey.generate("tls"), PrivateKey.generate("sign")
    statement = KeyStatement(node, 1, (tls.public, sign.public), format_time(now))
    message = sign.sign(keys.TYP, statement.payload())
    digest = message_digest(message)
    der = csr(tls, node=node, statement_digest=digest, cn=node)
    request = x509.load_der_x509_csr(der)
    certificate = authority.issue_client(request, now=now, days=DAYS)
    name = node.replace("/", "_")
    found = Identity(node, sign, folder / f"{name}.pem", folder / f"{name}.key")
    found.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    found.key.write_bytes(tls.pem())
    found.key.chmod(0o600)
    store.bind_node(node, digest, now=now)
    store.add_statement(node, 1, digest=digest, message=message, now=now)
    for key in (tls, sign):
        store.put_key(KeyRecord(key.public, node, "active", now, None))
    return found
