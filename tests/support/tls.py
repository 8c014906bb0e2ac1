# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests: a CA, servers and clients under it, good and bad ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate's file and its key's."""

    cert: Path
    key: Path


class Authority:
    """A CA of its own; every name is a folder entry.

    Args:
        folder: where the files go.
        name: its common name and the stem of its files.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.now(UTC)
        built = (
            self._builder(self._name, self._key, now - DAY, now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.cert = folder / f"{name}.pem"
        self.cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))

    def server(
        self,
        name: str = "server",
        *,
        address: str = "127.0.0.1",
        begins: timedelta = -DAY,
        ends: timedelta = 30 * DAY,
    ) -> Pair:
        """A server's certificate for one address."""
        ip = ipaddress.ip_address(address)
        return self._issue(name, x509.IPAddress(ip), begins, ends)

    def client(self, name: str = "client") -> Pair:
        """A client's certificate with a node's URI."""
        uri = "fep:node/11330100MB0000000A/fep-01"
        uri_name = x509.UniformResourceIdentifier(uri)
        return self._issue(name, uri_name, -DAY, 30 * DAY)

    def named(self, name: str, *uris: str, address: str | None = None) -> Pair:
        """A certificate with these URIs, and an address if there is one."""
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(uri) for uri in uris
        ]
        if address is not None:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        return self._issue(name, names, -DAY, 30 * DAY)

    def _issue(
        self,
        name: str,
        san: x509.GeneralName | list[x509.GeneralName],
        begins: timedelta,
        ends: timedelta,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        names = san if isinstance(san, list) else [san]
        built = (
            self._builder(_name(name), key, now + begins, now + ends)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(built.public_bytes(serialization.Encoding.PEM))
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begins: datetime,
        ends: datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
