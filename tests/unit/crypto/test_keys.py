# SPDX-License-Identifier: Apache-2.0
"""Key files, certificate requests and identities in certificates."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import keys
from agent.crypto.jose import PrivateKey
from agent.errors import MalformedMessage, SecretUnreadable
from tests.support import vectors
from tests.support.tries import tries

NODE = "11990100000000019F/front-1"
DIGEST = "sha256:" + "ab" * 32
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a key goes."""
    return tmp_path / "sign.pem"


def test_saved_key_is_private_and_comes_back(path: Path):
    """Mode 0400, the same kid, no draft left."""
    key = PrivateKey.generate("sign")
    keys.save_private(path, key)
    assert path.stat().st_mode & 0o7777 == 0o400
    assert keys.load_private(path, purpose="sign").public == key.public
    assert list(path.parent.iterdir()) == [path]


def test_saved_key_is_never_overwritten(path: Path):
    """A second save fails and the first key stays."""
    first = PrivateKey.generate("sign")
    keys.save_private(path, first)
    with pytest.raises(FileExistsError):
        keys.save_private(path, PrivateKey.generate("sign"))
    assert keys.load_private(path, purpose="sign").public == first.public
    assert list(path.parent.iterdir()) == [path]


def test_draft_of_a_crash_does_not_hinder_the_next_save(path: Path):
    """What a crash left half-written is replaced."""
    path.with_name("sign.pem.tmp").write_bytes(b"half")
    keys.save_private(path, PrivateKey.generate("sign"))
    assert keys.load_private(path, purpose="sign")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o444, 0o700])
def test_key_open_to_others_is_refused(path: Path, mode: int):
    """Group or world rights are an error that names the mode."""
    keys.save_private(path, PrivateKey.generate("sign"))
    path.chmod(mode)
    with pytest.raises(SecretUnreadable, match=f"{mode:04o}"):
        keys.load_private(path, purpose="sign")


def test_key_behind_a_link_is_refused(path: Path):
    """A symbolic link is not followed."""
    keys.save_private(path, PrivateKey.generate("sign"))
    link = path.with_name("link.pem")
    link.symlink_to(path)
    with pytest.raises(SecretUnreadable):
        keys.load_private(link, purpose="sign")


def test_missing_or_damaged_key_names_its_file(path: Path):
    """The operator learns which file, never what it held."""
    with pytest.raises(SecretUnreadable, match=r"sign\.pem"):
        keys.load_private(path, purpose="sign")
    path.write_bytes(b"SECRET")
    path.chmod(0o400)
    with pytest.raises(SecretUnreadable, match="P-256") as caught:
        keys.load_private(path, purpose="sign")
    assert "SECRET" not in str(caught.value)


def test_key_of_another_curve_is_refused(path: Path):
    """P-384 is no key of suite es256."""
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(pem)
    path.chmod(0o400)
    with pytest.raises(SecretUnreadable, match="P-256"):
        keys.load_private(path, purpose="sign")


def test_request_carries_node_and_statement():
    """The CSR has both SAN URIs, the name for people, and a good signature."""
    tls = PrivateKey.generate("tls")
    der = keys.csr(tls, node=NODE, statement_digest=DIGEST, cn="front 1")
    assert keys.csr_node(der) == keys.Identity(NODE, DIGEST, None)
    request = x509.load_der_x509_csr(der)
    assert request.subject.rfc4514_string() == "CN=front 1"
    pem = request.public_bytes(serialization.Encoding.PEM)
    assert keys.csr_node(pem).node == NODE


def test_request_needs_the_tls_key():
    """The sign key never goes into a certificate."""
    with pytest.raises(ValueError, match="tls"):
        keys.csr(
            PrivateKey.generate("sign"), node=NODE, statement_digest=DIGEST, cn="x"
        )


def test_request_with_a_changed_byte_is_refused():
    """The CSR's own signature is checked."""
    der = bytearray(
        keys.csr(vectors.key("tls"), node=NODE, statement_digest=DIGEST, cn="abc")
    )
    der[der.index(b"abc")] ^= 1
    with pytest.raises(MalformedMessage, match="signature"):
        keys.csr_node(bytes(der))


def _certificate(*uris: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=1))
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    "encoding", [serialization.Encoding.PEM, serialization.Encoding.DER]
)
def test_certificate_names_its_node(encoding: serialization.Encoding):
    """PEM or DER: node, statement and end."""
    uri = keys.STATEMENT_URI + "ab" * 32
    data = _certificate(keys.NODE_URI + NODE, uri).public_bytes(encoding)
    end = START + timedelta(days=1)
    assert keys.certificate_node(data) == keys.Identity(NODE, DIGEST, end)


@pytest.mark.parametrize(
    "uris",
    [(), ("https://x",), (keys.NODE_URI + NODE, keys.NODE_URI + "other")],
    ids=["no names", "no node", "two nodes"],
)
def test_certificate_without_exactly_one_node_is_refused(uris: tuple[str, ...]):
    """The node is the one SAN URI ``fep:node/``."""
    data = _certificate(*uris).public_bytes(serialization.Encoding.DER)
    with pytest.raises(MalformedMessage, match="expected one fep:node/"):
        keys.certificate_node(data)


def test_pin_of_a_ca_is_over_its_der():
    """PEM and DER of one certificate have one pin."""
    certificate = _certificate(keys.NODE_URI + NODE)
    der = certificate.public_bytes(serialization.Encoding.DER)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    assert keys.ca_sha256(pem) == keys.ca_sha256(der) == hashlib.sha256(der).hexdigest()


@tries(50)
@given(st.binary(max_size=200))
def test_garbage_is_no_certificate_and_no_request(data: bytes):
    """Any bytes give our error."""
    for read in (keys.certificate_node, keys.csr_node, keys.ca_sha256):
        with pytest.raises(MalformedMessage):
            read(data)
