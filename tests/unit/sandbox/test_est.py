# SPDX-License-Identifier: Apache-2.0
"""Certificate requests, certificates, and who a certificate says it is."""

from __future__ import annotations

import base64
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from agent.errors import MalformedMessage
from sandbox import est
from sandbox.tls import NotAClient, Pki, new_authority, read_client, write_secret

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
NODE = "11990100MB1234567X/qz1"
URIS = (f"fep:node/{NODE}", "fep:keys/sha256/" + "ab" * 32)


def csr(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *more: x509.GeneralName
) -> bytes:
    names = [*(x509.UniformResourceIdentifier(u) for u in URIS), *more]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return base64.encodebytes(request.public_bytes(Encoding.DER))


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def test_request_names_node_and_statement() -> None:
    """Both come from the SAN URIs."""
    found = est.Csr(csr(p256()))
    assert (found.node, found.statement) == (NODE, "sha256:" + "ab" * 32)


def test_other_curves_and_rsa_are_refused() -> None:
    """Suite es256 has P-256 only."""
    keys: list[ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65_537, 2048),
    ]
    for key in keys:
        with pytest.raises(MalformedMessage, match="P-256"):
            est.Csr(csr(key))


def test_no_further_name_is_certified() -> None:
    """A node that asks for the exchange's host beside its own URIs gets nothing."""
    for name in (x509.DNSName("exchange.yunxi.example"), x509.RFC822Name("a@b.c")):
        with pytest.raises(MalformedMessage, match="exactly"):
            est.Csr(csr(p256(), name))


def test_issued_certificate_is_read_as_its_client() -> None:
    """Node, statement and the thumbprint of the request's key."""
    authority = new_authority("CA", now=NOW)
    body = est.issue(authority, est.Csr(csr(p256())), now=NOW, days=10)
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))
    client = read_client(certificate.public_bytes(Encoding.DER))
    assert (client.node, client.statement) == (NODE, "sha256:" + "ab" * 32)
    assert len(client.kid) == 43
    assert certificate.not_valid_after_utc == NOW + timedelta(days=10)
    certificate.verify_directly_issued_by(authority.certificate)


def test_server_certificate_is_no_client() -> None:
    """A certificate without the two URIs has no node."""
    authority = new_authority("CA", now=NOW)
    leaf = authority.issue_server(p256(), ["localhost"], now=NOW)
    with pytest.raises(NotAClient):
        read_client(leaf.public_bytes(Encoding.DER))


def test_rsa_certificate_is_no_client() -> None:
    """Only P-256 keys stand in the directory."""
    key = rsa.generate_private_key(65_537, 2048)
    request = x509.load_der_x509_csr(base64.b64decode(csr(key)))
    leaf = new_authority("CA", now=NOW).issue_client(request, now=NOW, days=1)
    with pytest.raises(NotAClient, match="P-256"):
        read_client(leaf.public_bytes(Encoding.DER))


def test_authority_is_kept(tmp_path: Path) -> None:
    """A second start has the same authority and server certificate."""
    hosts = ["localhost", "127.0.0.1"]
    first, second = (
        Pki(tmp_path / "keys", hosts, aud="a.b", now=NOW) for _ in range(2)
    )
    assert first.authority.sha256 == second.authority.sha256
    assert (first.server, first.relay) == (second.server, second.relay)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "keys").iterdir()}
    assert modes == {0o600}


def test_spare_certificates_are_made_when_a_switch_asks(tmp_path: Path) -> None:
    """Asked at each handshake; an expired one and one by another authority."""
    pki = Pki(tmp_path / "keys", ["localhost"], aud="a.b", now=datetime.now(UTC))
    answers: list[str | None] = ["expired", "wrong-ca", None]
    context = pki.context(lambda: answers.pop(0))
    client = ssl.create_default_context(cafile=str(tmp_path / "keys" / "ca.pem"))
    errors = [handshake(context, client) for _ in range(3)]
    assert "expired" in errors[0]
    assert "self-signed certificate" in errors[1]
    assert errors[2] == ""


def test_a_node_may_serve_with_its_certificate() -> None:
    """Issued for both sides of TLS: its own listener shows it to the exchange."""
    authority = new_authority("CA", now=NOW)
    request = est.Csr(csr(p256())).request
    leaf = authority.issue_client(request, now=NOW, days=1)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }


def test_the_exchange_is_no_node() -> None:
    """Its certificate for listeners says fep:exchange/ and passes for no client."""
    authority = new_authority("CA", now=NOW)
    leaf = authority.issue_relay(p256(), "yunxi.exchange", now=NOW)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["fep:exchange/yunxi.exchange"]
    with pytest.raises(NotAClient):
        read_client(leaf.public_bytes(Encoding.DER))


def listener(pki: Pki, folder: Path) -> ssl.SSLContext:
    """What a node's own listener shows: the certificate that it enrolled for."""
    key = p256()
    request = est.Csr(csr(key)).request
    leaf = pki.authority.issue_client(request, now=datetime.now(UTC), days=1)
    pem = folder / "node.pem"
    secret = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(leaf.public_bytes(Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.load_verify_locations(folder / "keys" / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_only_the_node_itself_is_spoken_to(tmp_path: Path) -> None:
    """The handshake with another node, or with the exchange's own server, ends."""
    now = datetime.now(UTC)
    pki = Pki(tmp_path / "keys", ["localhost"], aud="a.b", now=now)
    server = listener(pki, tmp_path)
    assert handshake(server, pki.client_context(NODE)) == ""
    assert "expected 1199" in handshake(server, pki.client_context(NODE[:-1] + "2"))
    own = pki.context(lambda: None)
    assert "expected exactly the URIs" in handshake(own, pki.client_context(NODE))


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """A handshake in memory; the client's complaint, or nothing."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = server.wrap_bio(to_server, to_client, server_side=True)
    right = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (right, left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as e:
                return str(e)
    return ""


def test_secret_replaces_what_a_kill_left(tmp_path: Path) -> None:
    """A draft of an earlier process is no obstacle."""
    path = tmp_path / "key"
    path.with_name("key.tmp").write_text("half")
    write_secret(path, b"whole")
    assert path.read_bytes() == b"whole"
