# SPDX-License-Identifier: Apache-2.0
"""Private keys at rest: open, sealed, or handed over by systemd."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest

from agent.crypto.jose import PrivateKey
from agent.crypto.keyfile import closed, elsewhere, passphrase
from agent.crypto.keys import load_note_key, load_private, save_private, tls_files
from agent.crypto.notekey import NoteKey
from agent.errors import SecretUnreadable
from tests.support import tls

SAID = "correct horse"


def written(path: Path, text: bytes, mode: int = 0o400) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
    path.chmod(mode)
    return path


@pytest.fixture
def sealed(tmp_path: Path) -> dict[str, str]:
    """An environment that names the passphrase's file."""
    path = written(tmp_path / "secrets" / "passphrase", SAID.encode() + b"\n")
    return {"FEP_PASSPHRASE_FILE": str(path)}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """An environment as systemd makes it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_key_that_is_saved_with_a_passphrase_is_sealed(
    tmp_path: Path, sealed: dict[str, str]
) -> None:
    """0400, nothing of the key in it, and read back with the passphrase alone."""
    key, note = PrivateKey.generate("decrypt"), NoteKey.generate("audit")
    for name, made in (("decrypt", key), ("audit", note)):
        path = tmp_path / f"{name}.key"
        save_private(path, made, sealed)
        text = path.read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
        assert path.stat().st_mode & 0o777 == 0o400
    found = load_private(tmp_path / "decrypt.key", purpose="decrypt", environ=sealed)
    assert found.pem() == key.pem()
    audit = load_note_key(tmp_path / "audit.key", purpose="audit", environ=sealed)
    assert audit.pem() == note.pem()


def test_sealed_key_is_useless_without_its_passphrase(
    tmp_path: Path, sealed: dict[str, str]
) -> None:
    """None, or another one: said with the file, never with the passphrase."""
    path = tmp_path / "sign.key"
    save_private(path, PrivateKey.generate("sign"), sealed)
    with pytest.raises(SecretUnreadable, match=r"fep\.passphrase"):
        load_private(path, purpose="sign", environ={})
    Path(sealed["FEP_PASSPHRASE_FILE"]).chmod(0o600)
    Path(sealed["FEP_PASSPHRASE_FILE"]).write_text("another")
    with pytest.raises(SecretUnreadable, match="sealed") as e:
        load_private(path, purpose="sign", environ=sealed)
    assert "another" not in str(e.value)


def test_open_key_beside_a_passphrase_is_refused(
    tmp_path: Path, sealed: dict[str, str]
) -> None:
    """Somebody believes that it is sealed: that is not passed over."""
    path = tmp_path / "sign.key"
    save_private(path, PrivateKey.generate("sign"), {})
    with pytest.raises(SecretUnreadable, match="expected it sealed"):
        load_private(path, purpose="sign", environ=sealed)


def test_passphrase_is_a_credential_or_a_file_closed_to_others(
    tmp_path: Path, sealed: dict[str, str], given: dict[str, str]
) -> None:
    """The credential goes first; a file that others read is refused."""
    assert passphrase({}) is None
    assert passphrase(sealed) == SAID.encode()
    folder = Path(given["CREDENTIALS_DIRECTORY"])
    assert passphrase(given | sealed) == SAID.encode()
    written(folder / "fep.passphrase", b"of systemd")
    assert passphrase(given | sealed) == b"of systemd"
    for text, mode in ((b"x", 0o644), (b"\n", 0o400)):
        (tmp_path / "p").unlink(missing_ok=True)
        path = written(tmp_path / "p", text, mode)
        with pytest.raises(SecretUnreadable):
            passphrase({"FEP_PASSPHRASE_FILE": str(path)})


def test_key_file_may_name_a_credential(tmp_path: Path, given: dict[str, str]) -> None:
    """The state folder then holds no key at all; elsewhere nobody has it."""
    key = PrivateKey.generate("sign")
    folder = Path(given["CREDENTIALS_DIRECTORY"])
    written(folder / "fep.sign.key", key.pem())
    path = written(tmp_path / "sign.key", b"credential:fep.sign.key\n")
    found = load_private(path, purpose="sign", environ=given)
    assert found.public == key.public
    assert elsewhere(path)
    with pytest.raises(SecretUnreadable, match="LoadCredential"):
        load_private(path, purpose="sign", environ={})


def test_credential_needs_no_seal_beside_a_passphrase(
    tmp_path: Path, given: dict[str, str], sealed: dict[str, str]
) -> None:
    """systemd keeps it; the passphrase is for what lies in the state folder."""
    folder = Path(given["CREDENTIALS_DIRECTORY"])
    written(folder / "k", PrivateKey.generate("sign").pem())
    path = written(tmp_path / "sign.key", b"credential:k")
    assert load_private(path, purpose="sign", environ=given | sealed)


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a" * 200])
def test_name_of_a_credential_leads_nowhere_else(
    tmp_path: Path, given: dict[str, str], name: str
) -> None:
    """It is a name, not a path."""
    path = written(tmp_path / "sign.key", f"credential:{name}".encode())
    with pytest.raises(SecretUnreadable, match="name of a credential"):
        load_private(path, purpose="sign", environ=given)


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "good"),
    [
        (0o400, 1, 1, True),
        (0o600, 1, 1, True),
        (0o440, 0, 0, True),
        (0o440, 0, 1, False),
        (0o440, 1, 1, False),
        (0o444, 0, 0, False),
        (0o640, 0, 0, False),
    ],
)
def test_only_its_owner_or_whom_systemd_names_reads_a_key(
    mode: int, uid: int, gid: int, good: bool
) -> None:
    """systemd leaves root's files with an access list, which shows as 0440."""
    found = os.stat_result((0o100000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))
    assert closed(found, given=True) is good
    assert closed(found, given=False) is (good and mode != 0o440)


def test_tls_uses_a_sealed_key(tmp_path: Path, sealed: dict[str, str]) -> None:
    """The passphrase is asked for where the key is, and only if it is sealed."""
    pair = tls.Authority(tmp_path, "test").client()
    key = PrivateKey.from_pem(Path(pair.key).read_bytes(), purpose="tls")
    path = tmp_path / "tls.key"
    save_private(path, key, sealed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(*tls_files(Path(pair.cert), path, sealed))
    context.load_cert_chain(*tls_files(Path(pair.cert), Path(pair.key), {}))
    with pytest.raises(SecretUnreadable, match=r"fep\.passphrase"):
        context.load_cert_chain(*tls_files(Path(pair.cert), path, {}))


def test_key_that_openssl_sealed_is_read(
    tmp_path: Path, sealed: dict[str, str]
) -> None:
    """As the manual seals the keys of a running agent."""
    key = PrivateKey.generate("sign")
    (tmp_path / "open.key").write_bytes(key.pem())
    out = tmp_path / "sign.key"
    how = ("-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256")
    secret = f"file:{sealed['FEP_PASSPHRASE_FILE']}"
    subprocess.run(
        [
            "openssl",
            "pkcs8",
            *how,
            "-iter",
            "1000",
            "-in",
            str(tmp_path / "open.key"),
            "-passout",
            secret,
            "-out",
            str(out),
        ],
        check=True,
        capture_output=True,
    )
    out.chmod(0o400)
    assert load_private(out, purpose="sign", environ=sealed).public == key.public
