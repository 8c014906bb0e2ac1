# SPDX-License-Identifier: Apache-2.0
"""The exchange's own certificate authority, and the TLS contexts made with it.

Everything is made at the first start and kept in ``<folder>/keys``, owner-only. Clients
need no certificate to connect; each route says whether it wants one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.crypto.jose import base64url, thumbprint
from agent.wire.grammar import NODE

NODE_URI = "fep:node/"
EXCHANGE_URI = "fep:exchange/"
KEYS_URI = "fep:keys/sha256/"
_CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
_SERVER = ExtendedKeyUsageOID.SERVER_AUTH
_OWN_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "FEP sandbox")])
_YEARS = timedelta(days=3650)
_SKEW = timedelta(hours=1)
"""Certificates begin so long ago, for clients whose clock is behind."""


@dataclass(frozen=True)
class Client:
    """Who a client certificate says it is.

    Args:
        node: from the URI ``fep:node/<node>``.
        statement: ``sha256:<hex>``, message digest of its key statement 1.
        kid: thumbprint of the certificate's key.
        fingerprint: SHA-256 of the certificate, hex.
    """

    node: str
    statement: str
    kid: str
    fingerprint: str


class NotAClient(Exception):
    """The certificate does not carry the two URIs."""


@lru_cache(maxsize=1024)
def read_client(der: bytes) -> Client:
    """The identity in a certificate that TLS has verified.

    Raises:
        NotAClient: its URIs are not exactly one node and one statement digest.
    """
    certificate = x509.load_der_x509_certificate(der)
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise NotAClient("expected a P-256 key")
    node, statement = read_uris(certificate.extensions)
    fingerprint = hashlib.sha256(der).hexdigest()
    return Client(node, statement, _kid(key), fingerprint)


def read_uris(extensions: x509.Extensions) -> tuple[str, str]:
    """Node and statement digest from the SAN URIs of a CSR or certificate.

    Raises:
        NotAClient: not exactly one of each, any other name, or one that breaks the
            grammar.
    """
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as e:
        raise NotAClient("expected the URIs fep:node/ and fep:keys/sha256/") from e
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    nodes = [u.removeprefix(NODE_URI) for u in uris if u.startswith(NODE_URI)]
    digests = [u.removeprefix(KEYS_URI) for u in uris if u.startswith(KEYS_URI)]
    # a further name, such as the exchange's own host, would be certified with them
    if len(list(names)) != 2 or len(nodes) != 1 or len(digests) != 1:
        raise NotAClient("expected exactly the URIs fep:node/ and fep:keys/sha256/")
    digest = digests[0]
    if not NODE.fullmatch(nodes[0]):
        raise NotAClient("expected fep:node/<USCC>/<name>")
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise NotAClient("expected fep:keys/sha256/ and 64 lower hex digits")
    return nodes[0], "sha256:" + digest


def _kid(key: ec.EllipticCurvePublicKey) -> str:
    numbers = key.public_numbers()
    x, y = (base64url(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
    return thumbprint({"kty": "EC", "crv": "P-256", "x": x, "y": y})


@dataclass(frozen=True)
class Authority:
    """The certificate authority of clients and of the server itself."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def sha256(self) -> str:
        """SHA-256 of the DER certificate, hex: what the enrolment slip carries."""
        return hashlib.sha256(_der(self.certificate)).hexdigest()

    def issue_client(
        self, request: x509.CertificateSigningRequest, *, now: datetime, days: int
    ) -> x509.Certificate:
        """A node's certificate with the request's key, subject and SAN.

        It serves both ways: a node calls the exchange with it, and its own listener for
        lookups shows it.
        """
        san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        until = now + timedelta(days=days)
        builder = self._builder(request.subject, now=now, until=until)
        key = request.public_key()
        return self._leaf(builder.public_key(key), san.value, (_CLIENT, _SERVER))

    def issue_server(
        self, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str], *, now: datetime
    ) -> x509.Certificate:
        """A certificate for this server; valid ten years unless ``now`` is long ago."""
        builder = self._builder(_OWN_NAME, now=now, until=now + _YEARS)
        builder = builder.public_key(key.public_key())
        names = x509.SubjectAlternativeName(_hosts(hosts))
        return self._leaf(builder, names, (_SERVER,))

    def issue_relay(
        self, key: ec.EllipticCurvePrivateKey, aud: str, *, now: datetime
    ) -> x509.Certificate:
        """What this exchange shows to a node's own listener: it names no node."""
        builder = self._builder(_OWN_NAME, now=now, until=now + _YEARS)
        uri = x509.UniformResourceIdentifier(EXCHANGE_URI + aud)
        names = x509.SubjectAlternativeName([uri])
        return self._leaf(builder.public_key(key.public_key()), names, (_CLIENT,))

    def _leaf(
        self,
        builder: x509.CertificateBuilder,
        names: x509.SubjectAlternativeName,
        purposes: Sequence[x509.ObjectIdentifier],
    ) -> x509.Certificate:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.key.public_key()
        )
        return (
            builder.add_extension(names, critical=False)
            .add_extension(_leaf_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def _builder(
        self, subject: x509.Name, *, now: datetime, until: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        )


def _leaf_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _hosts(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def new_authority(name: str, *, now: datetime) -> Authority:
    """A self-signed authority, valid ten years."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


@dataclass(frozen=True)
class ServerFiles:
    """PEM files of one server identity: certificate with its issuer, and key."""

    certificate: Path
    key: Path


class Pki:
    """The authority and the exchange's identities in ``folder``; made if absent.

    Args:
        folder: owner-only.
        hosts: names and addresses in the server's certificate.
        aud: id of the exchange, in the certificate that it shows to listeners of nodes.
        now: certificates begin then.
    """

    def __init__(
        self, folder: Path, hosts: Sequence[str], *, aud: str, now: datetime
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._hosts = hosts
        self._now = now
        self.authority = self._authority()
        self.server = self._identity("server", self.authority, made=now)
        self.relay = self._relay(aud, made=now)

    def context(self, spare: Callable[[], str | None]) -> ssl.SSLContext:
        """The server's TLS context.

        Args:
            spare: asked at each handshake; ``expired`` or ``wrong-ca`` shows such a
                certificate instead of the good one.
        """
        good = self._context(self.server)
        bad: dict[str, ssl.SSLContext] = {}

        def choose(connection: ssl.SSLObject, _: str | None, __: object) -> None:
            kind = spare()
            if kind is not None:
                if kind not in bad:
                    bad[kind] = self._context(self._spare(kind))
                connection.context = bad[kind]

        good.sni_callback = choose
        return good

    def client_context(self, node: str) -> ssl.SSLContext:
        """For connections to a node's own listener, and to no other node's.

        Its certificate names no host, so the handshake ends unless the peer is ``node``
        under our authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.load_verify_locations(self._folder / "ca.pem")
        context.load_cert_chain(self.relay.certificate, self.relay.key)

        class Pinned(ssl.SSLObject):
            """One connection, whose handshake fails if somebody else answers."""

            def do_handshake(self) -> None:
                super().do_handshake()
                _expect_node(self.getpeercert(binary_form=True), node)

        context.sslobject_class = Pinned
        return context

    def _context(self, files: ServerFiles) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.certificate, files.key)
        context.load_verify_locations(self._folder / "ca.pem")
        context.verify_mode = ssl.CERT_OPTIONAL
        context.options |= ssl.OP_NO_TICKET  # a resumed session would skip the choice
        return context

    def _spare(self, kind: str) -> ServerFiles:
        if kind == "expired":
            long_ago = self._now - _YEARS - timedelta(days=1)
            return self._identity("expired", self.authority, made=long_ago)
        other = new_authority("FEP sandbox CA", now=self._now)
        return self._identity("wrong-ca", other, made=self._now)

    def _authority(self) -> Authority:
        pem, key_file = self._folder / "ca.pem", self._folder / "ca.key"
        if not pem.exists():
            made = new_authority("FEP sandbox CA", now=self._now)
            write_secret(key_file, _key_pem(made.key))
            write_secret(pem, _pem(made.certificate))
            return made
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{key_file}: expected a P-256 key")
        return Authority(x509.load_pem_x509_certificate(pem.read_bytes()), key)

    def _identity(
        self, name: str, authority: Authority, *, made: datetime
    ) -> ServerFiles:
        files = ServerFiles(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        if not files.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            leaf = authority.issue_server(key, self._hosts, now=made)
            _write_identity(files, key, (leaf, authority.certificate))
        return files

    def _relay(self, aud: str, *, made: datetime) -> ServerFiles:
        files = ServerFiles(self._folder / "relay.pem", self._folder / "relay.key")
        if not files.certificate.exists():
            key = ec.generate_private_key(ec.SECP256R1())
            leaf = self.authority.issue_relay(key, aud, now=made)
            _write_identity(files, key, (leaf, self.authority.certificate))
        return files


def _write_identity(
    files: ServerFiles,
    key: ec.EllipticCurvePrivateKey,
    chain: Sequence[x509.Certificate],
) -> None:
    write_secret(files.key, _key_pem(key))
    write_secret(files.certificate, b"".join(_pem(c) for c in chain))


def _expect_node(der: bytes | None, node: str) -> None:
    try:
        found = None if der is None else read_client(der).node
    except NotAClient as e:
        raise ssl.SSLCertVerificationError(f"expected {node}: {e}") from e
    if found != node:
        raise ssl.SSLCertVerificationError(f"expected {node}, got {found}")


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(path.name + ".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(
        os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
    ) as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    draft.rename(path)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
