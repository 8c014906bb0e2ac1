# SPDX-License-Identifier: Apache-2.0
"""Notes, checkpoints, cosignatures and proofs in the text forms of C2SP."""

from __future__ import annotations

import base64
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import keys, note, notekey
from agent.crypto.jose import PrivateKey, PublicKey, base64url
from agent.crypto.notekey import NoteKey
from agent.errors import BadSignature, MalformedMessage, SecretUnreadable
from tests.support import vectors
from tests.support.tries import tries

LOG = vectors.note_key("audit")
WITNESS = vectors.note_key("witness")
ORIGIN = "11990100000000019F/front-1/audit"
WITNESS_NAME = "yunxi.exchange/witness"
HEAD = note.Checkpoint(ORIGIN, 3, b"r" * 32)
TEXT = note.format_checkpoint(HEAD, LOG, ORIGIN)
BODY = note.parse_note(TEXT).body
COSIGNED = TEXT + note.cosign(BODY, WITNESS, WITNESS_NAME, 1_795_248_000)

# The example of the C2SP page on signed notes.
SPEC_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    "This is an example message.\n\n"
    "\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1E"
    "RYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


def spec_key() -> PublicKey:
    """The key of that example."""
    raw = base64.b64decode(SPEC_VKEY.split("+", 2)[2])[1:]
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url(raw)}
    return PublicKey.from_jwk({**jwk, "alg": "Ed25519", "purpose": "audit"})


def test_the_published_example_verifies():
    """Key id, verifier key and signature are those of the specification."""
    assert note.vkey(spec_key(), name="example.com/foo") == SPEC_VKEY
    note.parse_note(SPEC_NOTE).verify(spec_key(), name="example.com/foo")


def test_a_checkpoint_comes_back():
    """Origin, size and root are those that were signed."""
    assert note.open_checkpoint(TEXT, LOG.public, name=ORIGIN) == HEAD
    assert note.open_checkpoint(TEXT.encode(), LOG.public, name=ORIGIN) == HEAD


def test_a_checkpoint_is_one_text():
    """Ed25519 is deterministic: the pinned bytes."""
    lines = TEXT.splitlines()
    assert lines[:4] == [ORIGIN, "3", base64.b64encode(b"r" * 32).decode(), ""]
    assert lines[4].startswith(f"\u2014 {ORIGIN} ")
    assert note.format_checkpoint(HEAD, LOG, ORIGIN) == TEXT


def test_a_cosignature_says_when():
    """The witness's time is covered by its signature."""
    held = note.parse_note(COSIGNED)
    assert held.verify_cosignature(WITNESS.public, name=WITNESS_NAME) == 1_795_248_000
    held.verify(LOG.public, name=ORIGIN)


def test_the_newest_cosignature_counts():
    """A witness may sign again."""
    later = COSIGNED + note.cosign(BODY, WITNESS, WITNESS_NAME, 1_795_248_060)
    held = note.parse_note(later)
    assert held.verify_cosignature(WITNESS.public, name=WITNESS_NAME) == 1_795_248_060


def test_lines_of_strangers_are_ignored():
    """A note may carry signatures that we cannot judge."""
    stranger = NoteKey.generate("witness")
    text = COSIGNED + note.cosign(BODY, stranger, "other/witness", 5)
    assert note.open_checkpoint(text, LOG.public, name=ORIGIN) == HEAD


def test_a_bad_line_of_a_known_key_spoils_the_note():
    """Even beside a good one."""
    other = note.format_checkpoint(
        note.Checkpoint(ORIGIN, 4, b"r" * 32), LOG, ORIGIN
    ).splitlines()[-1]
    with pytest.raises(BadSignature):
        note.open_checkpoint(f"{TEXT}{other}\n", LOG.public, name=ORIGIN)


def test_a_note_signature_is_no_cosignature():
    """Key ids differ by kind, so neither passes as the other."""
    with pytest.raises(BadSignature, match="none"):
        note.parse_note(TEXT).verify_cosignature(WITNESS.public, name=WITNESS_NAME)
    twin = NoteKey.from_pem(WITNESS.pem(), purpose="audit").public
    with pytest.raises(BadSignature, match="none"):
        note.parse_note(COSIGNED).verify(twin, name=WITNESS_NAME)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n3\n", "\n4\n"),
        lambda t: t.replace("front-1/audit\n3", "front-2/audit\n3"),
        lambda t: t.replace("\n\n", "\nextension\n\n"),
    ],
    ids=["size", "origin", "extension"],
)
def test_an_altered_checkpoint_is_refused(change):
    """Size, origin and every further line are signed."""
    with pytest.raises((BadSignature, MalformedMessage)):
        note.open_checkpoint(change(TEXT), LOG.public, name=ORIGIN)


def test_a_checkpoint_of_another_log_is_refused():
    """Our key under our name, but another origin inside."""
    other = note.Checkpoint("other/audit", 3, b"r" * 32)
    text = note.format_checkpoint(other, LOG, ORIGIN)
    with pytest.raises(MalformedMessage, match="origin"):
        note.open_checkpoint(text, LOG.public, name=ORIGIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\n\n",
        "a\n3\nx\n",
        TEXT[:-1],
        TEXT.replace("\u2014", "-"),
        TEXT.replace("\n\n", "\n"),
        TEXT + "\n",
        TEXT + "\u2014 a b\n",
        TEXT + "\u2014 a+b AAAAAAAA\n",
        TEXT + "\u2014 a AAAA\n",
        TEXT[:-2] + "!\n",
        TEXT[:-3] + "=\n",
        TEXT.replace("3", "3\r"),
        TEXT.replace("3", "3\t"),
        TEXT + "\u2014 a AAAAAAAA\n" * 33,
        TEXT + "x" * note.CAP,
        TEXT.replace("3", "\ud800"),
    ],
)
def test_a_text_of_another_form_is_refused(text: str):
    """Missing parts, other characters, too many signatures, too long."""
    with pytest.raises(MalformedMessage):
        note.parse_note(text)


@pytest.mark.parametrize("body", ["03", "-1", "3.0", "\u0663", "9" * 19, "", "+3"])
def test_a_size_is_a_plain_number(body: str):
    """No sign, no leading zero, no other digits, no endless ones."""
    with pytest.raises(MalformedMessage):
        note.parse_checkpoint(BODY.replace("\n3\n", f"\n{body}\n"))


@pytest.mark.parametrize("root", ["AAAA", "A" * 44, "", "A" * 43, "A" * 42 + "B="])
def test_a_root_is_32_bytes_of_strict_base64(root: str):
    """Other lengths and loose bits are refused."""
    with pytest.raises(MalformedMessage):
        note.parse_checkpoint(f"{ORIGIN}\n3\n{root}\n")


@pytest.mark.parametrize(
    "head",
    [
        note.Checkpoint("a b", 3, b"r" * 32),
        note.Checkpoint("a+b", 3, b"r" * 32),
        note.Checkpoint("", 3, b"r" * 32),
        note.Checkpoint("a\nb", 3, b"r" * 32),
        note.Checkpoint("a", -1, b"r" * 32),
        note.Checkpoint("a", 3, b"r"),
    ],
)
def test_nonsense_is_not_signed(head: note.Checkpoint):
    """What nobody could read is never made."""
    with pytest.raises(ValueError, match="expected"):
        note.format_checkpoint(head, LOG, "a")
    with pytest.raises(ValueError, match="key name"):
        note.cosign(BODY, WITNESS, "a b", 1)


def test_a_proof_comes_back():
    """Index, path and checkpoint; an extra line is no matter."""
    text = note.tlog_proof(2, [b"1" * 32, b"2" * 32], COSIGNED)
    wanted = note.Proof(2, (b"1" * 32, b"2" * 32), COSIGNED)
    assert note.parse_tlog_proof(text) == wanted
    extra = text.replace("\nindex", "\nextra AAAA\nindex")
    assert note.parse_tlog_proof(extra) == wanted
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 2\n")


@pytest.mark.parametrize("path", [(), (b"1" * 32,) * 3])
def test_a_request_to_a_witness_comes_back(path: tuple[bytes, ...]):
    """Old size, path and checkpoint."""
    body = note.format_add_checkpoint(2, path, TEXT)
    assert note.parse_add_checkpoint(body) == note.AddCheckpoint(2, path, TEXT)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("index 2", "index 02"),
        lambda t: t.replace("index 2", "index"),
        lambda t: t.replace("index 2", "Index 2"),
        lambda t: t.replace("@v1", "@v2"),
        lambda t: t.replace("\n\n", "\n"),
        lambda t: t.replace("index 2", "extra !\nindex 2"),
        lambda t: t.replace("index 2", "index 2\nAAAA"),
        lambda t: t.replace("index 2\n", "index 2\n" + "A" * 43 + "=\n" * 64),
        lambda t: t[:-1],
        lambda t: "",
    ],
)
def test_a_proof_of_another_form_is_refused(change):
    """Every line has one form."""
    text = change(note.tlog_proof(2, [b"1" * 32], TEXT))
    with pytest.raises(MalformedMessage):
        note.parse_tlog_proof(text)


def test_more_hashes_than_any_tree_has_are_refused():
    """At most 63."""
    body = note.format_add_checkpoint(2, [b"1" * 32] * 64, TEXT)
    with pytest.raises(MalformedMessage, match="fewer than 64"):
        note.parse_add_checkpoint(body)


@tries(200)
@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_is_a_note_or_our_error(text: bytes | str):
    """Nothing else ever comes out."""
    for read in (note.parse_note, note.parse_tlog_proof):
        with pytest.raises(MalformedMessage):
            read(text)


@tries(200)
@given(st.integers(0, len(COSIGNED) - 1), st.characters(max_codepoint=0x2100))
def test_one_changed_character_never_verifies_as_another_head(at: int, new: str):
    """Whatever is altered, the head is the signed one or there is none."""
    text = COSIGNED[:at] + new + COSIGNED[at + 1 :]
    with suppress(BadSignature, MalformedMessage):
        assert note.open_checkpoint(text, LOG.public, name=ORIGIN) == HEAD


# --- the keys -------------------------------------------------------------------------


def test_a_note_key_is_saved_and_loaded(tmp_path: Path):
    """Mode 0400, the same kid."""
    path = tmp_path / "audit.key"
    keys.save_private(path, LOG)
    assert path.stat().st_mode & 0o7777 == 0o400
    assert keys.load_note_key(path, purpose="audit").public == LOG.public


def test_keys_of_two_kinds_are_not_mixed_up(tmp_path: Path):
    """A P-256 file is no note key, an Ed25519 file signs no message."""
    keys.save_private(tmp_path / "audit.key", LOG)
    keys.save_private(tmp_path / "sign.key", PrivateKey.generate("sign"))
    with pytest.raises(SecretUnreadable, match="P-256"):
        keys.load_private(tmp_path / "audit.key", purpose="sign")
    with pytest.raises(SecretUnreadable, match="Ed25519"):
        keys.load_note_key(tmp_path / "sign.key", purpose="audit")


@pytest.mark.parametrize("purpose", ["sign", "decrypt", "tls", "other"])
def test_a_note_key_has_a_purpose_of_its_own(purpose: str):
    """Only audit and witness keys sign notes."""
    with pytest.raises(ValueError, match=purpose):
        NoteKey.generate(purpose)


def test_a_key_of_another_purpose_verifies_no_note():
    """A sign key is refused before its bytes are looked at."""
    public = PrivateKey.generate("sign").public
    with pytest.raises(BadSignature, match="signs no notes"):
        notekey.verify_note(public, b"x" * 64, b"")


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_signature_of_another_length_is_bad(length: int):
    """Not an exception of a library."""
    with pytest.raises(BadSignature):
        notekey.verify_note(LOG.public, b"x" * length, b"")


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_pem_that_is_no_key_is_a_value_error(pem: bytes):
    """Whatever the file holds, the error is one."""
    with pytest.raises(ValueError, match="Ed25519"):
        NoteKey.from_pem(pem, purpose="audit")


def test_the_private_value_never_shows():
    """Neither in repr nor in the public key."""
    assert repr(LOG) == f"NoteKey({LOG.public.kid}, audit)"
    assert "d" not in LOG.public.jwk
