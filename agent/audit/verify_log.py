#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check an exported audit log; one file that needs nothing of the agent.

``python3 verify_log.py DIR [--trust KEYS.json] [--head NOTE] [--lang zh] [--json]``
``python3 verify_log.py FILE.tlog-proof --trust KEYS.json`` (the record: FILE.leaf)

It needs Python 3.10 and, for signatures, the library ``cryptography`` or else the
program ``openssl`` (3.0 or later). ``docs/audit.md`` describes DIR. Exit code: 0
everything holds, 1 something does not, 2 there is nothing to check. It is one long file
on purpose: an auditor copies it, and reads it, alone.

How it looks

1. Records are read in blocks of 256. From each block's lines the tree of RFC 6962
   grows; beside it a second tree grows from the tiles. At the size of every checkpoint
   both roots are held against the signed one: so it shows whether a line or a tile is
   wrong, and which.
2. Every checkpoint must be signed by a key of the log, every cosignature of a known
   witness must verify. A log that was signed anew after a change has the wrong
   cosignatures, or none.
3. Where records end before the newest checkpoint, or before a head that was kept
   elsewhere (``--head``), the log was cut.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 256
PER_FILE = 65_536
LINE_CAP = 256 * 1024
FILE_CAP = 1024 * 1024
EVIDENCE_CAP = 8 * 1024 * 1024
NOTE_CAP = 16 * 1024
SHOWN = 20
_ED25519, _COSIGNATURE = 1, 4
_ED25519_DER = bytes.fromhex("302a300506032b6570032100")

TEXTS = {
    "good": ("GOOD", "完好"),
    "bad": ("DAMAGED", "不完好"),
    "first": ("first bad record: {}", "首条有问题的记录：{}"),
    "records": (
        "{size} records of {origin}, lines from {first} on",
        "{origin} 共 {size} 条记录，含第 {first} 条起的原文",
    ),
    "heads": (
        "{checkpoints} checkpoints, the newest covers {covered} records",
        "{checkpoints} 个检查点，最新者覆盖 {covered} 条记录",
    ),
    "cosigned": (
        "cosigned by the witness up to {cosigned} records, at {cosigned_at}",
        "见证方已会签至 {cosigned} 条记录，时间 {cosigned_at}",
    ),
    "uncovered": (
        "{} records after the newest checkpoint are not signed yet",
        "最新检查点之后尚有 {} 条记录未签名",
    ),
    "waiting": (
        "{} records after the newest cosignature rest on the log's own key alone",
        "最新会签之后的 {} 条记录仅由日志自身密钥保证",
    ),
    "self": (
        "the keys are those of the folder itself: give --trust to know whose log it is",
        "所用密钥取自该目录本身：请以 --trust 指定可信密钥以确认归属",
    ),
    "changed": ("record {}: its line was changed", "记录 {}：内容被修改"),
    "place": (
        "record {}: expected another number here; lines were moved, added or removed",
        "记录 {}：序号不符，记录被移动、插入或删除",
    ),
    "form": ("record {}: not a line of a log", "记录 {}：不是日志记录"),
    "missing": ("record {}: missing; {} more", "记录 {}：缺失，其后另缺 {} 条"),
    "gap": ("record {}: its file is missing", "记录 {}：所在文件缺失"),
    "tile": ("tile {}: not what the records give", "瓦片 {}：与记录不符"),
    "root": (
        "checkpoint {}: its records are not those that were signed; the first bad one"
        " is record {} or later",
        "检查点 {}：记录与签名时不一致，首条有问题者不早于记录 {}",
    ),
    "signature": (
        "checkpoint {}: no key of the log signed it",
        "检查点 {}：没有该日志密钥的有效签名",
    ),
    "note": (
        "a checkpoint after {} records: not a signed note",
        "{} 条记录之后的检查点：不是签名文本",
    ),
    "order": ("checkpoint {}: out of order, or twice", "检查点 {}：顺序错误或重复"),
    "origin": ("checkpoint {}: of another log", "检查点 {}：属于其他日志"),
    "cosignature": (
        "checkpoint {}: the witness's cosignature is false",
        "检查点 {}：见证方会签无效",
    ),
    "uncosigned": (
        "no checkpoint is cosigned by the trusted witness",
        "没有任何检查点经可信见证方会签",
    ),
    "unsigned": ("there is no checkpoint", "没有检查点"),
    "head-cut": (
        "record {}: missing; the head that was given covers {} records",
        "记录 {}：缺失；所给检查点覆盖 {} 条记录",
    ),
    "head-other": (
        "the head that was given, of {} records, is of another history",
        "所给检查点（{} 条记录）与该日志历史不一致",
    ),
    "request": (
        "record {}: the request is not the one recorded",
        "记录 {}：请求报文与记录不符",
    ),
    "reply": (
        "record {}: the reply is not the one recorded",
        "记录 {}：应答报文与记录不符",
    ),
    "no-record": (
        "record {}: evidence without a record",
        "记录 {}：有证据文件但无对应记录",
    ),
}

FINDINGS = (
    *("changed", "place", "form", "missing", "gap", "tile", "root", "signature"),
    *("order", "note", "origin", "cosignature", "uncosigned", "unsigned", "head-cut"),
    *("head-other", "request", "reply", "no-record"),
)
"""Codes of what may be wrong; each is a key of :data:`TEXTS`."""


class Unusable(Exception):
    """There is nothing to check, or not what it takes to check it."""


class Finding(NamedTuple):
    """One thing that does not hold; ``record`` is the first record it is about."""

    code: str
    record: int | None
    values: tuple[object, ...]

    def text(self, lang: int) -> str:
        """In words."""
        return TEXTS[self.code][lang].format(*self.values)


@dataclass
class Report:
    """What was found."""

    facts: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether everything holds."""
        return not self.findings

    @property
    def first_bad(self) -> int | None:
        """Number of the first record that does not hold, if that can be said."""
        known = [f.record for f in self.findings if f.record is not None]
        return min(known, default=None)

    def add(self, code: str, record: int | None, *values: object) -> None:
        """Note something that does not hold."""
        if len(self.findings) < SHOWN:
            self.findings.append(Finding(code, record, values))

    def say(self, code: str, *values: object) -> None:
        """Note something that a reader should know."""
        self.notes.append(Finding(code, None, values))


# --- keys and signatures ------------------------------------------------------------


class Key(NamedTuple):
    """An Ed25519 key under the name that signature lines give it."""

    name: str
    raw: bytes

    def id(self, kind: int) -> bytes:
        """The 4 bytes in a signature line (C2SP signed-note)."""
        head = f"{self.name}\n".encode() + bytes([kind])
        return hashlib.sha256(head + self.raw).digest()[:4]


@dataclass(frozen=True)
class Trust:
    """Whose signatures count."""

    origin: str
    log: tuple[Key, ...]
    witnesses: tuple[Key, ...]


def read_trust(text: bytes, at: str) -> Trust:
    """The keys of a ``keys.json``."""
    try:
        body = json.loads(text)
        origin = str(body["origin"])
        log = tuple(Key(origin, _raw(k["x"])) for k in body["audit"])
        witnesses = tuple(Key(str(k["name"]), _raw(k["x"])) for k in body["witness"])
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as e:
        raise Unusable(f"{at}: expected keys as docs/audit.md describes them") from e
    if not log:
        raise Unusable(f"{at}: expected a key of the log")
    return Trust(origin, log, witnesses)


def _raw(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(raw) != 32:
        raise ValueError("expected 32 bytes")
    return raw


class Ed25519:
    """Checks signatures by the library or, where it is missing, by ``openssl``.

    Args:
        program: use the program although the library is there.
    """

    def __init__(self, *, program: bool = False) -> None:
        self._library: Any = None
        if not program:
            try:
                from cryptography.hazmat.primitives.asymmetric import ed25519
            except ImportError:
                return
            self._library = ed25519.Ed25519PublicKey

    def verify(self, key: bytes, signature: bytes, data: bytes) -> bool:
        """Whether the key made the signature over the data."""
        if len(signature) != 64:
            return False
        if self._library is None:
            return _by_openssl(key, signature, data)
        from cryptography.exceptions import InvalidSignature

        try:
            self._library.from_public_bytes(key).verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


def _by_openssl(key: bytes, signature: bytes, data: bytes) -> bool:
    with tempfile.TemporaryDirectory(prefix="verify-log-") as name:
        folder = Path(name)
        (folder / "key").write_bytes(_ED25519_DER + key)
        (folder / "signature").write_bytes(signature)
        (folder / "data").write_bytes(data)
        command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key"
        command += " -rawin -in data -sigfile signature"
        try:
            done = subprocess.run(
                command.split(), cwd=folder, capture_output=True, check=False
            )
        except OSError as e:
            raise Unusable(
                "signatures: expected the library `cryptography` or `openssl`"
            ) from e
    return done.returncode == 0


# --- checkpoints --------------------------------------------------------------------


class Note(NamedTuple):
    """A signed note: its text, and (name, key id, signature) of each line."""

    body: str
    lines: tuple[tuple[str, bytes, bytes], ...]


@dataclass
class Head:
    """A checkpoint."""

    size: int
    root: bytes
    note: Note


_LINE = re.compile("\u2014 (\\S{1,256}) ([A-Za-z0-9+/]+={0,2})")


def read_note(text: str) -> Head:
    """The checkpoint of a note's text.

    Raises:
        ValueError: another form.
    """
    body, gap, tail = text.partition("\n\n")
    body += "\n"
    parts = body.split("\n")
    if not gap or len(parts) < 4 or not re.fullmatch("0|[1-9][0-9]{0,17}", parts[1]):
        raise ValueError("expected a checkpoint")
    root = base64.b64decode(parts[2], validate=True)
    if len(root) != 32:
        raise ValueError("expected a root of 32 bytes")
    lines = []
    for line in tail.rstrip("\n").split("\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("expected a signature line")
        data = base64.b64decode(match[2], validate=True)
        lines.append((match[1], data[:4], data[4:]))
    return Head(int(parts[1]), root, Note(body, tuple(lines)))


def read_heads(path: Path) -> Iterator[Head | None]:
    """The checkpoints of ``checkpoints.txt``, an empty line between them.

    None stands for one that is no checkpoint.
    """
    if not path.exists():
        return
    text = ""
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        while line := file.readline(NOTE_CAP):
            if line == "\n" and "\n\n" in text:
                yield _head(text)
                text = ""
            elif len(text) < NOTE_CAP:
                text += line
    if text:
        yield _head(text)


def _head(text: str) -> Head | None:
    try:
        return read_note(text)
    except (ValueError, binascii.Error):
        return None


class Signatures:
    """Judges the signature lines of checkpoints.

    Args:
        trust: whose count.
        ed25519: how they are checked.
    """

    def __init__(self, trust: Trust, ed25519: Ed25519) -> None:
        self._trust = trust
        self._ed25519 = ed25519

    def signed(self, head: Head) -> bool:
        """Whether a key of the log signed it, and no line of one is false."""
        seen = [
            self._ed25519.verify(key.raw, data, head.note.body.encode())
            for key, data in _of(head.note, self._trust.log, _ED25519)
        ]
        return bool(seen) and all(seen)

    def cosigned(self, head: Head) -> int | None:
        """When a witness signed it; None if none did, -1 if a line is false."""
        times = []
        for key, data in _of(head.note, self._trust.witnesses, _COSIGNATURE):
            time = struct.unpack(">Q", data[:8])[0] if len(data) == 72 else 0
            text = f"cosignature/v1\ntime {time}\n{head.note.body}".encode()
            if not self._ed25519.verify(key.raw, data[8:], text):
                return -1
            times.append(int(time))
        return max(times, default=None)


def _of(note: Note, keys: Sequence[Key], kind: int) -> Iterator[tuple[Key, bytes]]:
    for key in keys:
        for name, key_id, data in note.lines:
            if (name, key_id) == (key.name, key.id(kind)):
                yield key, data


# --- the tree -----------------------------------------------------------------------


def leaf_hash(line: bytes) -> bytes:
    """RFC 6962."""
    return hashlib.sha256(b"\x00" + line).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _full(row: Sequence[bytes]) -> bytes:
    """Root of a power of two of hashes."""
    row = list(row)
    while len(row) > 1:
        row = [_node(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


class Tree:
    """A tree that grows by whole blocks of 256; a last one may be shorter."""

    def __init__(self) -> None:
        self.blocks = 0
        self._roots: list[tuple[int, bytes]] = []
        self._rows: list[list[bytes]] = []
        self.upper: list[tuple[int, int, bytes]] = []
        """Tiles above the first level that the last block made full."""

    def root(self, block: Sequence[bytes]) -> bytes:
        """Root of the whole blocks so far and the first hashes of the next one."""
        parts = [made for _, made in self._roots]
        at = 0
        for bit in range(8, -1, -1):
            if len(block) >> bit & 1:
                parts.append(_full(block[at : at + (1 << bit)]))
                at += 1 << bit
        if not parts:
            return hashlib.sha256().digest()
        root = parts.pop()
        while parts:
            root = _node(parts.pop(), root)
        return root

    def copy(self) -> Tree:
        """One that grows on its own."""
        other = Tree()
        other.blocks, other._roots = self.blocks, list(self._roots)
        other._rows = [list(row) for row in self._rows]
        return other

    def add(self, block: Sequence[bytes]) -> None:
        """Add a whole block."""
        made = _full(block)
        self.upper = []
        self._place(0, made)
        height = 0
        while self._roots and self._roots[-1][0] == height:
            made = _node(self._roots.pop()[1], made)
            height += 1
        self._roots.append((height, made))
        self.blocks += 1

    def rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Tiles above the first level that are not full: level, number, hashes."""
        for at, row in enumerate(self._rows):
            if row:
                number = (self.blocks >> (8 * at)) // WIDTH
                yield at + 1, number, b"".join(row)

    def _place(self, at: int, made: bytes) -> None:
        if at == len(self._rows):
            self._rows.append([])
        row = self._rows[at]
        row.append(made)
        if len(row) == WIDTH:
            number = ((self.blocks + 1) >> (8 * at)) // WIDTH - 1
            self.upper.append((at + 1, number, b"".join(row)))
            self._place(at + 1, _full(row))
            row.clear()


def root_by(n: int, size: int, hashed: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to (RFC 9162, 2.1.3.2); None if it cannot."""
    last = size - 1
    for sibling in path:
        if last == 0:
            return None
        if n & 1 or n == last:
            hashed = _node(sibling, hashed)
            while n and not n & 1:
                n, last = n >> 1, last >> 1
        else:
            hashed = _node(hashed, sibling)
        n, last = n >> 1, last >> 1
    return hashed if last == 0 else None


# --- the folder ---------------------------------------------------------------------


class Folder:
    """An exported log.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise Unusable(f"{path}: expected a folder")
        names = re.compile(r"leaves-([0-9]{5,})\.jsonl")
        found = sorted(
            (int(m[1]), p)
            for p in path.iterdir()
            if (m := names.fullmatch(p.name)) and p.is_file()
        )
        self.files = dict(found)
        self.first = found[0][0] * PER_FILE if found else 0
        self.evidence = _evidence(path / "evidence")

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """(number that it should have, line); None for one that is not there.

        A file that is missing ends it: what comes behind has no place.
        """
        last = max(self.files, default=-1)
        for number in range(min(self.files, default=0), last + 1):
            at, end = number * PER_FILE, (number + 1) * PER_FILE
            if number not in self.files:
                yield at, None
                return
            for line in _lines(self.files[number]):
                yield at, line
                at += 1
            if number != last:
                for missing in range(at, end):
                    yield missing, None

    def tile(self, level: int, number: int) -> bytes:
        """A tile's file, or the widest of a partial one; empty if there is none."""
        parts = f"{number:03d}"
        parts = parts.zfill(-(-len(parts) // 3) * 3)
        groups = [parts[i : i + 3] for i in range(0, len(parts), 3)]
        place = "/".join([f"x{g}" for g in groups[:-1]] + groups[-1:])
        path = self.path / "tile" / str(level) / place
        if not path.is_file():
            partial = path.with_name(f"{path.name}.p")
            widths = [p.name for p in partial.iterdir()] if partial.is_dir() else []
            widest = max((int(w) for w in widths if w.isdecimal()), default=0)
            path = partial / str(widest)
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(WIDTH * 32 + 1)

    def text(self, name: str) -> bytes:
        """A small file of the folder."""
        return read_file(self.path / name)


def read_file(path: Path, cap: int = FILE_CAP) -> bytes:
    """A file that is not large."""
    try:
        with path.open("rb") as file:
            return file.read(cap)
    except OSError as e:
        raise Unusable(f"{path}: {e.strerror}") from e


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LINE_CAP):
            yield line[:-1] if line.endswith(b"\n") else line


def _evidence(path: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    name = re.compile(r"([0-9]{1,15})\.(request|reply)\.jws")
    for file in sorted(path.iterdir()) if path.is_dir() else ():
        if match := name.fullmatch(file.name):
            found.setdefault(int(match[1]), []).append(file)
    return found


# --- the check ----------------------------------------------------------------------


class _Check:
    """One walk over a folder."""

    def __init__(
        self, folder: Folder, trust: Trust, signatures: Signatures, given: Head | None
    ) -> None:
        self.report = Report()
        self._folder = folder
        self._trust = trust
        self._signatures = signatures
        self._given = given
        self._heads: list[Head] = []
        self._by_lines, self._by_tiles = Tree(), Tree()
        self._differ: list[int] = []
        self._bad_tiles: set[tuple[int, int]] = set()
        self._size = 0
        self._proven = 0  # so many records agree with a head of the log
        self._vouched = 0  # and so many with one that somebody else has vouched for
        self._broken = False
        self._gap = False
        self._cosigned: tuple[int, int] | None = None

    def run(self) -> Report:
        self._read_heads()
        self._walk()
        self._finish()
        return self.report

    def _read_heads(self) -> None:
        before = 0
        for head in read_heads(self._folder.path / "checkpoints.txt"):
            if head is None:
                self.report.add("note", None, before)
            elif head.note.body.split("\n")[0] != self._trust.origin:
                self.report.add("origin", None, head.size)
            elif head.size <= before:
                self.report.add("order", None, head.size)
            else:
                before = head.size
                self._heads.append(head)
        if not self._heads:
            self.report.add("unsigned", None)

    def _walk(self) -> None:
        """Tiles where an export begins later, then lines; 256 at a time."""
        pending = [*self._heads, *([self._given] if self._given else [])]
        pending.sort(key=lambda head: head.size)
        for number in range(self._folder.first // WIDTH):
            row = _cut(self._folder.tile(0, number))
            if len(row) != WIDTH:
                self.report.add("gap", number * WIDTH, number * WIDTH)
                return
            self._block(number * WIDTH, row, row, pending)
        block: list[bytes | None] = []
        start = self._folder.first
        for n, line in self._folder.lines():
            block.append(self._leaf(n, line))
            if len(block) == WIDTH:
                self._lines_block(start, block, pending)
                block, start = [], n + 1
        if block:
            self._lines_block(start, block, pending)
        self._beyond(pending)

    def _leaf(self, n: int, line: bytes | None) -> bytes | None:
        """The hash of a line; None if it is not there."""
        if line is None:
            if not self._gap:
                self.report.add("gap", n, n)
            self._gap = True
            return None
        if not line.startswith(b'{"v":1,"n":%d,"at":"' % n):
            placed = line.startswith(b'{"v":1,"n":')
            self.report.add("place" if placed else "form", n, n)
        if n in self._folder.evidence:
            self._check_evidence(n, line)
        return leaf_hash(line)

    def _lines_block(
        self, start: int, found: list[bytes | None], pending: list[Head]
    ) -> None:
        tiles = _cut(self._folder.tile(0, start // WIDTH))
        if len(tiles) < len(found):
            self._bad_tiles.add((0, start // WIDTH))
            tiles = []
        row = [
            made or (tiles[i] if tiles else bytes(32)) for i, made in enumerate(found)
        ]
        tiles = tiles[: len(row)] or row
        self._differ += [start + i for i, h in enumerate(row) if h != tiles[i]]
        del self._differ[SHOWN:]
        self._block(start, row, tiles, pending)

    def _block(
        self, start: int, row: list[bytes], tiles: list[bytes], pending: list[Head]
    ) -> None:
        self._size = start + len(row)
        while pending and pending[0].size <= self._size:
            head = pending.pop(0)
            self._judge(head, head.size - start, row, tiles)
        if len(row) == WIDTH:
            self._by_lines.add(row)
            self._by_tiles.add(tiles)
            for level, number, made in self._by_tiles.upper:
                if self._folder.tile(level, number) != made:
                    self._bad_tiles.add((level, number))

    def _judge(
        self, head: Head, count: int, row: list[bytes], tiles: list[bytes]
    ) -> None:
        """Hold both trees against a head; go on with the one that is right."""
        given = head is self._given
        if not given and not self._signatures.signed(head):
            self.report.add("signature", self._proven, head.size)
        elif self._by_lines.root(row[:count]) == head.root:
            self._bad_tiles |= {(0, n // WIDTH) for n in self._differ if n < head.size}
            self._by_tiles = self._by_lines.copy()
            tiles[:count] = row[:count]
            self._agreed(head)
        elif self._by_tiles.root(tiles[:count]) == head.root:
            for n in self._differ:
                if n < head.size:
                    self.report.add("changed", n, n)
            self._by_lines = self._by_tiles.copy()
            row[:count] = tiles[:count]
            self._agreed(head)
        elif given:
            self.report.add("head-other", self._vouched, head.size)
        elif not self._broken:
            self._broken = True
            first = min([*self._differ, head.size]) if self._differ else self._proven
            self.report.add("root", first, head.size, first)

    def _agreed(self, head: Head) -> None:
        self._differ = [n for n in self._differ if n >= head.size]
        time = self._signatures.cosigned(head)
        if head is self._given:
            self._vouched = head.size
        elif time == -1:
            self.report.add("cosignature", self._vouched, head.size)
        elif time is not None:
            self._cosigned = (head.size, time)
            self._vouched = head.size
        self._proven = head.size

    def _beyond(self, pending: list[Head]) -> None:
        """Heads of more records than there are."""
        size = self._size
        if self._given is not None and self._given in pending:
            pending.remove(self._given)
            self.report.add("head-cut", size, size, self._given.size)
        if pending:
            self.report.add("missing", size, size, pending[-1].size - size - 1)

    def _check_evidence(self, n: int, line: bytes) -> None:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        for path in self._folder.evidence.pop(n):
            what = path.name.split(".")[1]
            signed = read_file(path, EVIDENCE_CAP).rstrip(b"\n").rpartition(b".")[0]
            digest = f"sha256:{hashlib.sha256(signed).hexdigest()}"
            if not isinstance(record, dict) or record.get(what) != digest:
                self.report.add(what, n, n)

    def _finish(self) -> None:
        report = self.report
        if not self._broken:  # else they were named with the first bad head
            for n in self._differ:
                report.add("changed", n, n)
        for level, number, made in self._by_tiles.rows():
            if self._folder.tile(level, number)[: len(made)] != made:
                self._bad_tiles.add((level, number))
        if not self._broken:
            for level, number in sorted(self._bad_tiles):
                report.add("tile", None, f"{level}/{number}")
        for n in sorted(self._folder.evidence):
            report.add("no-record", n, n)
        if self._trust.witnesses and self._cosigned is None and self._heads:
            report.add("uncosigned", None)
        self._state()

    def _state(self) -> None:
        covered = self._heads[-1].size if self._heads else 0
        size, time = self._cosigned or (0, None)
        self.report.facts = {
            "origin": self._trust.origin,
            "size": self._size,
            "first": self._folder.first,
            "checkpoints": len(self._heads),
            "covered": covered,
            "cosigned": size,
            "cosigned_at": None if time is None else _utc(time),
        }
        if self._size > covered:
            self.report.say("uncovered", self._size - covered)
        if self._cosigned and covered > size:
            self.report.say("waiting", covered - size)


def _utc(time: int) -> str:
    from datetime import datetime, timezone

    try:
        moment = datetime.fromtimestamp(time, timezone.utc)  # noqa: UP017 - Python 3.9
    except (ValueError, OverflowError, OSError):
        return str(time)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(data: bytes) -> list[bytes]:
    return [data[i : i + 32] for i in range(0, len(data), 32)]


def examine(
    path: Path,
    *,
    trust: Trust | None = None,
    head: bytes | None = None,
    ed25519: Ed25519 | None = None,
) -> Report:
    """Check a folder.

    Args:
        path: what ``fep audit export`` wrote.
        trust: keys from elsewhere; else the folder's own are used.
        head: a signed note that was kept elsewhere, such as by the witness.
        ed25519: how signatures are checked.

    Raises:
        Unusable: nothing to check.
    """
    folder = Folder(path)
    used = trust or read_trust(folder.text("keys.json"), str(path / "keys.json"))
    signatures = Signatures(used, ed25519 or Ed25519())
    given = None if head is None else _given(head, used, signatures)
    report = _Check(folder, used, signatures, given).run()
    if trust is None:
        report.say("self")
    return report


def _given(text: bytes, trust: Trust, signatures: Signatures) -> Head:
    """The head that was kept elsewhere, if a known key vouches for it."""
    head = _head(text.decode("utf-8", "replace"))
    if head is None or head.note.body.split("\n")[0] != trust.origin:
        raise Unusable(f"--head: expected a checkpoint of {trust.origin}")
    if not signatures.signed(head) and (signatures.cosigned(head) or -1) < 0:
        raise Unusable("--head: expected one that a known key signed")
    return head


def examine_proof(
    path: Path, *, trust: Trust, ed25519: Ed25519 | None = None
) -> Report:
    """Check one record: ``FILE.tlog-proof`` (C2SP) and ``FILE.leaf``.

    Raises:
        Unusable: no proof, or no record beside it.
    """
    signatures = Signatures(trust, ed25519 or Ed25519())
    line = read_file(path.with_suffix(".leaf"))
    try:
        n, hashes, head = read_proof(read_file(path).decode("utf-8"))
    except (ValueError, binascii.Error) as e:
        raise Unusable(f"{path}: expected a C2SP tlog-proof") from e
    report = Report()
    time = signatures.cosigned(head)
    if head.note.body.split("\n")[0] != trust.origin:
        report.add("origin", n, head.size)
    elif not signatures.signed(head):
        report.add("signature", n, head.size)
    if time == -1:
        report.add("cosignature", n, head.size)
    elif time is None and trust.witnesses:
        report.say("uncosigned")
    if n >= head.size or root_by(n, head.size, leaf_hash(line), hashes) != head.root:
        report.add("changed", n, n)
    report.facts = {
        "origin": trust.origin,
        "size": head.size,
        "first": n,
        "checkpoints": 1,
        "covered": head.size,
        "cosigned": head.size if time and time > 0 else 0,
        "cosigned_at": _utc(time) if time and time > 0 else None,
    }
    return report


def read_proof(text: str) -> tuple[int, list[bytes], Head]:
    """Number, path and checkpoint of a proof.

    Raises:
        ValueError: another form.
    """
    top, _, note = text.partition("\n\n")
    lines = [line for line in top.split("\n") if not line.startswith("extra ")]
    if lines[:1] != ["c2sp.org/tlog-proof@v1"] or len(lines) > 66:
        raise ValueError("expected a proof")
    word, _, number = lines[1].partition(" ")
    if word != "index" or not re.fullmatch("0|[1-9][0-9]{0,17}", number):
        raise ValueError("expected an index")
    path = [base64.b64decode(line, validate=True) for line in lines[2:]]
    return int(number), path, read_note(note)


def judge(
    path: Path,
    *,
    trust: Trust | None,
    head: bytes | None = None,
    ed25519: Ed25519 | None = None,
) -> Report:
    """Check a folder, or a proof.

    Raises:
        Unusable: nothing to check.
    """
    if path.is_dir() or not path.exists():
        return examine(path, trust=trust, head=head, ed25519=ed25519)
    if trust is None:
        raise Unusable("a proof: expected --trust, it holds no keys")
    return examine_proof(path, trust=trust, ed25519=ed25519)


def origin_of_proof(path: Path) -> str:
    """Whose log a proof speaks of.

    Raises:
        ValueError: no proof.
    """
    _, _, head = read_proof(read_file(path).decode("utf-8"))
    return head.note.body.split("\n")[0]


def show(path: str, report: Report, lang: int) -> str:
    """A report in words."""
    facts = report.facts
    lines = [f"{path}: {TEXTS['good' if report.good else 'bad'][lang]}"]
    if report.first_bad is not None:
        lines[0] += f" ({TEXTS['first'][lang].format(report.first_bad)})"
    names = ["records", "heads"] + (["cosigned"] if facts["cosigned"] else [])
    lines += [f"  {TEXTS[name][lang].format(**facts)}" for name in names]
    lines += [f"  ✗ {f.text(lang)}" for f in report.findings]
    lines += [f"  ! {f.text(lang)}" for f in report.notes]
    return "\n".join(lines)


def as_json(path: str, report: Report) -> dict[str, Any]:
    """A report as ``docs/audit.md`` documents it."""
    return {
        "folder": path,
        "good": report.good,
        "first_bad": report.first_bad,
        **report.facts,
        "findings": [
            {"code": f.code, "record": f.record, "text": f.text(0)}
            for f in report.findings
        ],
        "notes": [{"code": f.code, "text": f.text(0)} for f in report.notes],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Check, print, and tell by the exit code."""
    parser = argparse.ArgumentParser(
        prog="verify_log.py", description="Check an exported audit log. 验证审计日志。"
    )
    add = parser.add_argument
    add("dir", help="the exported folder 导出目录")
    add("--trust", metavar="KEYS.json", help="keys that count 可信密钥")
    add("--head", metavar="NOTE", help="a head kept elsewhere 另存的检查点")
    add("--lang", choices=("en", "zh"), help="language 语言")
    add("--json", action="store_true", help="answer as JSON 以 JSON 输出")
    add("--openssl", action="store_true", help="check by openssl 使用 openssl 验签")
    args = parser.parse_args(argv)
    zh = args.lang == "zh" or (
        args.lang is None and os.environ.get("LANG", "").startswith("zh")
    )
    try:
        trust = None
        if args.trust:
            trust = read_trust(read_file(Path(args.trust)), args.trust)
        head = read_file(Path(args.head)) if args.head else None
        report = judge(
            Path(args.dir),
            trust=trust,
            head=head,
            ed25519=Ed25519(program=args.openssl),
        )
    except Unusable as e:
        sys.stderr.write(f"verify_log: {e}\n")
        return 2
    if args.json:
        text = json.dumps(as_json(args.dir, report), ensure_ascii=False, indent=2)
    else:
        text = show(args.dir, report, 1 if zh else 0)
    sys.stdout.write(f"{text}\n")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
