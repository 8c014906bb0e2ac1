# SPDX-License-Identifier: Apache-2.0
"""Notes about an audit log, in the text formats of C2SP (wire.md §5).

signed-note, tlog-checkpoint, tlog-cosignature (Ed25519, ``cosignature/v1``), tlog-proof
and the body of tlog-witness ``add-checkpoint``. Programs by others read them.

Rules

1. A signature line counts only if its key name and key id are those of a key that the
   reader knows already; lines of others are ignored.
2. A line of a known key that does not verify spoils the whole note.
3. Numbers are ASCII decimals without leading zeros, hashes are 32 bytes in standard
   base64 with padding; everything has a bound.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.crypto.jose import PublicKey, from_base64url
from agent.crypto.notekey import NoteKey, verify_note
from agent.crypto.tree import HASH_SIZE, PATH_CAP
from agent.errors import BadSignature, MalformedMessage

CAP = 16 * 1024
"""Longest note, proof or request that is read, bytes."""
SIGNATURES = 32
"""Most signature lines of a note."""
PROOF_HEAD = "c2sp.org/tlog-proof@v1"

_ED25519 = 0x01
_COSIGNATURE = 0x04
_LINE = re.compile(r"\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})")
_NAME = re.compile(r"[^\s+]{1,256}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True)
class Signature:
    """One signature line.

    Args:
        name: of the key.
        key_id: 4 bytes.
        data: what follows the id.
    """

    name: str
    key_id: bytes
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Note:
    """A signed text, not verified yet.

    Args:
        body: the text, its last LF included.
        signatures: in their order.
    """

    body: str
    signatures: tuple[Signature, ...]

    def verify(self, key: PublicKey, *, name: str) -> None:
        """Check that a key signed it.

        Args:
            key: of purpose ``audit``, from the directory.
            name: of the key; for a checkpoint the origin.

        Raises:
            BadSignature: no line of this key, or one that does not verify.
        """
        for data in self._lines(key, name, _ED25519):
            verify_note(key, data, self.body.encode())

    def verify_cosignature(self, key: PublicKey, *, name: str) -> int:
        """Check that a witness cosigned it.

        Args:
            key: of purpose ``witness``, from the directory.
            name: of the witness's key.

        Returns:
            When, seconds since 1970; the newest if it did so more than once.

        Raises:
            BadSignature: no cosignature of this key, or one that does not verify.
        """
        times = []
        for data in self._lines(key, name, _COSIGNATURE):
            if len(data) != 72:
                raise BadSignature(f"note: expected a cosignature of {name}")
            time = int.from_bytes(data[:8], "big")
            verify_note(key, data[8:], _cosigned(self.body, time))
            times.append(time)
        return max(times)

    def _lines(self, key: PublicKey, name: str, kind: int) -> list[bytes]:
        wanted = key_id(key, name=name, kind=kind)
        found = [
            s.data for s in self.signatures if (s.name, s.key_id) == (name, wanted)
        ]
        if not found:
            raise BadSignature(f"note: expected a signature of {name}, got none")
        return found


@dataclass(frozen=True)
class Checkpoint:
    """The head of a log.

    Args:
        origin: name of the log, ``<node>/audit``.
        size: number of leaves.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """The note text to sign.

        Raises:
            ValueError: an origin that cannot stand in a line, or no such size or root.
        """
        if not _NAME.fullmatch(self.origin):
            raise ValueError("expected an origin without blanks and plus signs")
        if self.size < 0 or len(self.root) != HASH_SIZE:
            raise ValueError("expected a size and a root of 32 bytes")
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


def key_id(key: PublicKey, *, name: str, kind: int = _ED25519) -> bytes:
    """The 4 bytes by which a signature line names its key."""
    head = f"{name}\n".encode() + bytes([kind])
    return hashlib.sha256(head + _raw(key)).digest()[:4]


def vkey(key: PublicKey, *, name: str) -> str:
    """A key as verifiers by others take it: ``name+id+base64``.

    Keys of purpose ``witness`` are for cosignatures (0x04), others for notes (0x01).
    """
    kind = _COSIGNATURE if key.purpose == "witness" else _ED25519
    parts = key_id(key, name=name, kind=kind).hex(), _b64(bytes([kind]) + _raw(key))
    return "+".join((name, *parts))


def format_checkpoint(checkpoint: Checkpoint, key: NoteKey, name: str) -> str:
    """A checkpoint as a signed note.

    Args:
        checkpoint: the head.
        key: of purpose ``audit``.
        name: of the key; the origin.
    """
    body = checkpoint.body()
    data = key.sign(body.encode())
    return f"{body}\n{_line(name, key_id(key.public, name=name), data)}"


def parse_note(text: str | bytes) -> Note:
    """A note's text and signatures; nothing is verified yet.

    Raises:
        MalformedMessage: not a signed note.
    """
    line = _decoded(text)
    body, gap, tail = line.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise MalformedMessage("note: expected a text, an empty line and signatures")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES:
        raise MalformedMessage(f"note: expected at most {SIGNATURES} signatures")
    return Note(f"{body}\n", tuple(parse_line(part) for part in lines))


def parse_line(line: str) -> Signature:
    """One signature line, without its LF.

    Raises:
        MalformedMessage: another form.
    """
    match = _LINE.fullmatch(line)
    if match is None or not _NAME.fullmatch(match[1]):
        raise MalformedMessage("note: expected a line with key name and signature")
    data = _from_b64(match[2])
    if len(data) < 5:
        raise MalformedMessage("note: expected a key id and a signature")
    return Signature(match[1], data[:4], data[4:])


def parse_checkpoint(body: str) -> Checkpoint:
    """The checkpoint of a note's text; extension lines are ignored.

    Raises:
        MalformedMessage: not a checkpoint.
    """
    lines = body.split("\n")
    if len(lines) < 4 or lines[-1] or "" in lines[:-1]:
        raise MalformedMessage("checkpoint: expected origin, size and root")
    if not _NAME.fullmatch(lines[0]):
        raise MalformedMessage("checkpoint: expected an origin without blanks")
    return Checkpoint(lines[0], _number(lines[1], "checkpoint"), _hash(lines[2]))


def open_checkpoint(text: str | bytes, key: PublicKey, *, name: str) -> Checkpoint:
    """The checkpoint of a note that a log's key signed, for the log of that name.

    Raises:
        MalformedMessage: not a checkpoint, or that of another log.
        BadSignature: the key did not sign it.
    """
    note = parse_note(text)
    note.verify(key, name=name)
    found = parse_checkpoint(note.body)
    if found.origin != name:
        raise MalformedMessage(f"checkpoint: expected origin {name}")
    return found


def cosign(body: str, key: NoteKey, name: str, time: int) -> str:
    """A witness's signature line for a checkpoint, its LF included.

    Args:
        body: of the note, its last LF included; its consistency was verified.
        key: of purpose ``witness``.
        name: of the witness's key.
        time: seconds since 1970.
    """
    data = time.to_bytes(8, "big") + key.sign(_cosigned(body, time))
    return _line(name, key_id(key.public, name=name, kind=_COSIGNATURE), data)


def _cosigned(body: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{body}".encode()


# --- proofs and requests ----------------------------------------------------------


@dataclass(frozen=True)
class Proof:
    """That a leaf stands in a log.

    Args:
        index: number of the leaf, from 0.
        path: its audit path, the sibling first.
        checkpoint: the signed note, with its cosignatures.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True)
class AddCheckpoint:
    """What a log asks of a witness.

    Args:
        old: the size that the log believes the witness to know.
        path: consistency from there.
        checkpoint: the signed note.
    """

    old: int
    path: tuple[bytes, ...]
    checkpoint: str


def tlog_proof(index: int, path: Sequence[bytes], checkpoint: str) -> str:
    """The text of a ``.tlog-proof`` file."""
    return "\n".join(
        (PROOF_HEAD, f"index {index}", *(_b64(p) for p in path), "", checkpoint)
    )


def parse_tlog_proof(text: str | bytes) -> Proof:
    """A proof's parts; nothing is verified yet. An ``extra`` line is ignored.

    Raises:
        MalformedMessage: another form.
    """
    head, checkpoint = _halves(_decoded(text), "proof")
    if not head or head.pop(0) != PROOF_HEAD:
        raise MalformedMessage(f"proof: expected {PROOF_HEAD}")
    if head and head[0].startswith("extra "):
        _from_b64(head.pop(0).removeprefix("extra "))
    index = _named(head, "index", "proof")
    return Proof(index, _path(head, "proof"), checkpoint)


def format_add_checkpoint(old: int, path: Sequence[bytes], checkpoint: str) -> bytes:
    """The body of a witness's ``add-checkpoint``."""
    lines = (f"old {old}", *(_b64(p) for p in path), "", checkpoint)
    return "\n".join(lines).encode()


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """What a log asks; nothing is verified yet.

    Raises:
        MalformedMessage: another form.
    """
    head, checkpoint = _halves(_decoded(body), "add-checkpoint")
    old = _named(head, "old", "add-checkpoint")
    return AddCheckpoint(old, _path(head, "add-checkpoint"), checkpoint)


def _halves(text: str, at: str) -> tuple[list[str], str]:
    head, gap, checkpoint = text.partition("\n\n")
    if not gap:
        raise MalformedMessage(f"{at}: expected an empty line and a checkpoint")
    parse_note(checkpoint)
    return head.split("\n"), checkpoint


def _named(head: list[str], word: str, at: str) -> int:
    first = head.pop(0) if head else ""
    name, _, number = first.partition(" ")
    if name != word:
        raise MalformedMessage(f"{at}: expected `{word}` and a number")
    return _number(number, at)


def _path(lines: list[str], at: str) -> tuple[bytes, ...]:
    if len(lines) >= PATH_CAP:
        raise MalformedMessage(f"{at}: expected fewer than {PATH_CAP} hashes")
    return tuple(_hash(line) for line in lines)


# --- small forms ------------------------------------------------------------------


def _decoded(text: str | bytes) -> str:
    if len(text) > CAP:
        raise MalformedMessage(f"note: expected at most {CAP} bytes")
    try:
        line = text.decode("utf-8") if isinstance(text, bytes) else text
        line.encode("utf-8")
    except UnicodeError as e:
        raise MalformedMessage("note: expected UTF-8") from e
    if _CONTROL.search(line):
        raise MalformedMessage("note: expected no control characters")
    return line


def _line(name: str, identity: bytes, data: bytes) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("expected a key name without blanks and plus signs")
    return f"\u2014 {name} {_b64(identity + data)}\n"


def _raw(key: PublicKey) -> bytes:
    return from_base64url(key.jwk["x"], at="jwk.x")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_b64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise MalformedMessage("note: expected base64") from e
    if _b64(data) != text:
        raise MalformedMessage("note: expected base64 without loose bits")
    return data


def _hash(line: str) -> bytes:
    data = _from_b64(line)
    if len(data) != HASH_SIZE:
        raise MalformedMessage(f"note: expected a hash of {HASH_SIZE} bytes")
    return data


def _number(text: str, at: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise MalformedMessage(f"{at}: expected a decimal number")
    return int(text)
