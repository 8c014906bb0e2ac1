# SPDX-License-Identifier: Apache-2.0
"""Keys of a real token (softhsm2): what they sign is what keys of files sign."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.crypto.jose import split, verify
from agent.crypto.keyfile import elsewhere
from agent.crypto.keys import IN_TOKEN, load_note_key, load_private
from agent.crypto.note import Checkpoint, format_checkpoint, parse_note
from agent.crypto.notekey import verify_note
from agent.crypto.token import Hand, Tokens, place
from agent.errors import SecretUnreadable, TokenFailed, TokenPinRefused
from tests.support.soft_token import PIN, SoftToken

pytestmark = pytest.mark.contract


def hand(token: SoftToken, label: str, tokens: Tokens | None = None) -> Hand:
    return Hand(place(token.uri(label), at="x"), lambda: PIN, tokens or Tokens())


def test_sign_key_of_a_token_signs_messages(token: SoftToken, folder: Path) -> None:
    """ES256 as wire.md has it; the key file holds a place and no key."""
    path = token.key_file(folder / "sign.key", "fep-sign")
    key = load_private(path, purpose="sign")
    text = key.sign("fep-batch+jws", b"{}")
    message = verify(split(text, cap=4096), key.public, typ="fep-batch+jws")
    assert message.payload == b"{}"
    assert elsewhere(path)
    assert b"PRIVATE KEY" not in path.read_bytes()


def test_openssl_verifies_what_a_token_signed(token: SoftToken, tmp_path: Path) -> None:
    """A stranger's eyes: raw r and s over SHA-256, as a DER signature."""
    found = hand(token, "fep-sign")
    raw = found.sign(b"data")
    prefix = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
    (tmp_path / "public.der").write_bytes(prefix + found.point)
    (tmp_path / "data").write_bytes(b"data")

    def integer(half: bytes) -> bytes:
        body = half.lstrip(b"\0")
        body = b"\0" + body if body[0] & 0x80 else body
        return bytes([2, len(body)]) + body

    body = integer(raw[:32]) + integer(raw[32:])
    (tmp_path / "sig").write_bytes(bytes([0x30, len(body)]) + body)
    command = ["openssl", "dgst", "-sha256", "-keyform", "DER", "-verify", "public.der"]
    done = subprocess.run(
        [*command, "-signature", "sig", "data"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "Verified OK", done.stderr


def test_audit_key_of_a_token_signs_checkpoints(token: SoftToken, folder: Path) -> None:
    """Ed25519; the note verifies with the public key of the token."""
    key = load_note_key(
        token.key_file(folder / "audit.key", "fep-audit"), purpose="audit"
    )
    verify_note(key.public, key.sign(b"data"), b"data")
    origin = "11990100MB0000018H/fep1/audit"
    note = parse_note(format_checkpoint(Checkpoint(origin, 0, bytes(32)), key, origin))
    note.verify(key.public, name=origin)


def test_private_key_does_not_leave_the_token(token: SoftToken, folder: Path) -> None:
    """Whoever asks for it is refused, with a word for people."""
    sign = load_private(token.key_file(folder / "sign.key", "fep-sign"), purpose="sign")
    audit = load_note_key(
        token.key_file(folder / "audit.key", "fep-audit"), purpose="audit"
    )
    for key in (sign, audit):
        with pytest.raises(SecretUnreadable, match="does not leave"):
            key.pem()


def test_many_threads_sign_with_one_session(token: SoftToken) -> None:
    """What each gets is its own signature; the hand checks it before it gives it."""
    found = hand(token, "fep-sign")
    with ThreadPoolExecutor(8) as threads:
        signatures = list(threads.map(lambda n: found.sign(b"%d" % n), range(64)))
    assert len(set(signatures)) == 64


def test_session_that_is_lost_is_opened_anew(token: SoftToken) -> None:
    """As after the token was pulled out and put in again."""
    found = hand(token, "fep-sign")
    token.anew()
    assert len(found.sign(b"data")) == 64


def test_key_that_is_gone_is_said_and_then_found_again(token: SoftToken) -> None:
    """TokenFailed while it is away; another key by its name is not taken for it."""
    token.generate("fep-gone", ed25519=False)
    found = hand(token, "fep-gone")
    token.remove("fep-gone")
    with pytest.raises(TokenFailed):
        found.sign(b"data")
    token.generate("fep-gone", ed25519=False)
    with pytest.raises(TokenFailed, match="another key"):
        found.sign(b"data")


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"object=fep-sign": "object=none"}, TokenFailed, "NoSuchKey"),
        ({"token=fep": "token=none"}, TokenFailed, "NoSuchToken"),
        ({"libsofthsm2": "none"}, TokenFailed, "PKCS11Error"),
        ({"object=fep-sign;": "", "object=fep-sign?": "?"}, SecretUnreadable, "URI"),
        ({"module-path=/": "module-path="}, SecretUnreadable, "absolute"),
        ({"pin-source": "pin-value"}, SecretUnreadable, "URI"),
        ({"object=fep-sign": "object=fep-audit"}, SecretUnreadable, "key"),
    ],
    ids=["object", "token", "module", "part", "relative", "pin-value", "kind"],
)
def test_place_that_leads_nowhere_is_said(
    token: SoftToken,
    folder: Path,
    changes: dict[str, str],
    error: type[Exception],
    said: str,
) -> None:
    """With the file or the token's label, and never with the PIN."""
    path = token.key_file(folder / "sign.key", "fep-sign")
    text = path.read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    path.chmod(0o600)
    path.write_text(text)
    with pytest.raises(error, match=said) as e:
        load_private(path, purpose="sign")
    assert PIN not in str(e.value)


def test_pin_that_was_refused_is_not_tried_again(
    token: SoftToken, folder: Path
) -> None:
    """A token that counts would lock itself; another PIN is tried, and a restart tries.

    The token's own PIN becomes the refused one: whoever tried again would be let in.
    """
    tokens, wrong = Tokens(), "0000"
    files = {p: token.key_file(folder / f"{p}.key", f"fep-{p}") for p in IN_TOKEN}
    token.anew()
    token.say_pin(wrong)
    try:
        with pytest.raises(TokenPinRefused, match="PinIncorrect") as e:
            load_private(files["sign"], purpose="sign", tokens=tokens)
        assert wrong not in str(e.value)
        token.set_pin(PIN, wrong)
        with pytest.raises(TokenPinRefused, match="PinIncorrect"):
            load_note_key(files["audit"], purpose="audit", tokens=tokens)
        assert [e.code for e in tokens.troubles()] == ["token-pin"]
        load_private(files["sign"], purpose="sign", tokens=Tokens())
    finally:
        token.set_pin(wrong, PIN)
        token.say_pin(PIN)
    load_note_key(files["audit"], purpose="audit", tokens=tokens)
    assert tokens.troubles() == []


def test_keys_of_one_token_share_a_session(token: SoftToken, folder: Path) -> None:
    """However often their files are read; nobody logs in again, or the other out."""
    tokens = Tokens()
    token.anew()
    paths = [token.key_file(folder / f"{p}.key", f"fep-{p}") for p in ("sign", "audit")]
    first = load_private(paths[0], purpose="sign", tokens=tokens)
    token.pin_file.unlink()
    try:
        for _ in range(3):
            load_private(paths[0], purpose="sign", tokens=tokens)
            audit = load_note_key(paths[1], purpose="audit", tokens=tokens)
        assert len(audit.sign(b"data")) == 64
        assert first.sign("fep-batch+jws", b"{}")
        tokens.close()
        with pytest.raises(SecretUnreadable, match="pin"):
            first.sign("fep-batch+jws", b"{}")
    finally:
        token.say_pin(PIN)
    assert first.sign("fep-batch+jws", b"{}")


def test_only_sign_and_audit_are_used_from_a_token(
    token: SoftToken, folder: Path
) -> None:
    """TLS and decryption need the key itself."""
    path = token.key_file(folder / "tls.key", "fep-sign")
    for purpose in ("tls", "decrypt"):
        with pytest.raises(SecretUnreadable, match=purpose):
            load_private(path, purpose=purpose)


def test_pin_may_be_a_credential(
    token: SoftToken, folder: Path, tmp_path: Path
) -> None:
    """``pin-source=credential:NAME``, which systemd hands over."""
    given = tmp_path / "credentials"
    given.mkdir()
    (given / "fep.pin").write_text(PIN)
    (given / "fep.pin").chmod(0o400)
    path = token.key_file(folder / "sign.key", "fep-sign")
    path.chmod(0o600)
    path.write_text(token.uri("fep-sign", pin="credential:fep.pin"))
    environ = {"CREDENTIALS_DIRECTORY": str(given)}
    assert load_private(path, purpose="sign", environ=environ).public.purpose == "sign"
    with pytest.raises(SecretUnreadable, match="LoadCredential"):
        load_private(path, purpose="sign", environ={})
