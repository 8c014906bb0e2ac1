# SPDX-License-Identifier: Apache-2.0
"""The state file of a diff: what is known of every key that was sent.

Rules

1. A file has, after its head: 8 bytes of each key, sorted; 12 bytes of each row, and 8
   more if its source digests rows; keys in compressed blocks; its description. It is
   written once and never changed.
2. Every part has a checksum. One that does not fit is :class:`StateUnfit`.
3. What is mapped is given back as it is passed: memory does not grow with the table.
4. Two entries with equal 8 bytes are a :class:`KeyClash`.
"""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

MAGIC = b"FEPDIFF1"
HEAD = 4096
"""The file begins with its description in so many bytes."""

KEY = 8
"""Bytes kept of a key's digest."""

DIGEST_WORDS = 3
"""Words of 4 bytes kept of a row's digest."""

MOST_WORDS = 5
"""Words of a row: its digest, and its tag if there is one."""

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Digests = np.ndarray[Any, np.dtype[np.uint32]]
"""Two dimensions: for each row the words of its digest, then those of its tag."""
Places = np.ndarray[Any, np.dtype[np.int64]]
Chosen = np.ndarray[Any, np.dtype[np.bool_]]
Frames = Any
"""A binary array of pyarrow: canonical keys."""

_PIECE = 1 << 20
"""Bytes that are checked at a time."""

_GATHERED = 2048
"""Rows that are looked up at a time; each may need a page of its own."""


class StateUnfit(Exception):
    """The state cannot be compared with; the reason is said."""


class KeyClash(Exception):
    """Two keys have one digest, or one key came twice."""


@dataclass(frozen=True)
class Head:
    """The description of a file.

    Args:
        canon: name of the canonicaliser of the rows' digests.
        salt: of the keys' digests, hex.
        items: what must be equal for digests to be comparable.
        rows: how many.
        keys: bytes of the compressed keys.
        blocks: rows, compressed and plain bytes of each block.
        sums: checksums of hashes, digests and keys.
        words: of each row.
        tagging: how the tags were made; None if there are none.
    """

    canon: str
    salt: str
    items: str
    rows: int
    keys: int = 0
    blocks: tuple[tuple[int, int, int], ...] = ()
    sums: tuple[int, int, int] = (0, 0, 0)
    words: int = DIGEST_WORDS
    tagging: str | None = None

    @property
    def entry(self) -> int:
        """Bytes of a row's digest and tag."""
        return 4 * self.words


@dataclass(frozen=True)
class Entries:
    """Entries in the order of their hashes."""

    hashes: Hashes
    digests: Digests
    keys: Frames

    def _cut(self, bound: int) -> int:
        if bound >= 2**64:
            return len(self.hashes)
        return int(np.searchsorted(self.hashes, np.uint64(bound)))

    def below(self, bound: int) -> Entries:
        """Entries below the bound."""
        at = self._cut(bound)
        return Entries(self.hashes[:at], self.digests[:at], self.keys.slice(0, at))

    def above(self, bound: int) -> Entries:
        """The others."""
        at = self._cut(bound)
        return Entries(self.hashes[at:], self.digests[at:], self.keys.slice(at))


def none(words: int) -> Entries:
    """No entries of so many words."""
    empty = np.zeros((0, words), np.uint32)
    return Entries(np.zeros(0, np.uint64), empty, pa.array([], pa.binary()))


class Known:
    """A state file, mapped. ``seen`` marks the keys that a run met.

    Raises:
        StateUnfit: it cannot be compared with.
    """

    def __init__(self, path: Path) -> None:
        self.head = _head_of(path)
        rows = self.head.rows
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sizes = (KEY * rows, self.head.entry * rows, self.head.keys)
        if HEAD + sum(sizes) > len(self._map):
            raise StateUnfit("the file is shorter than it says")
        at, sums = HEAD, []
        for size in sizes:
            sums.append(self._checksum(at, size))
            at += size
        if tuple(sums) != self.head.sums:
            raise StateUnfit("a checksum does not fit")
        self.hashes: Hashes = np.frombuffer(self._map, "<u8", rows, HEAD)
        words = self.head.words
        flat = np.frombuffer(self._map, "<u4", words * rows, HEAD + KEY * rows)
        self.digests: Digests = flat.reshape(-1, words)
        self.seen: Chosen = np.zeros(rows, np.bool_)

    def _checksum(self, at: int, size: int) -> int:
        found = 0
        for start in range(at, at + size, _PIECE):
            found = zlib.crc32(self._map[start : min(start + _PIECE, at + size)], found)
            self.give_back()
        return found

    def give_back(self) -> None:
        """Keep none of the file in this process's memory for now."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def find(self, hashes: Hashes) -> tuple[Places, Chosen]:
        """Where sorted hashes stand, and which of them do; they are met thereby.

        Raises:
            KeyClash: one of them was met before.
        """
        places, found = self.look(hashes)
        here = places[found]
        if self.seen[here].any():
            raise KeyClash("a key came twice, or two have one digest")
        self.seen[here] = True
        return places, found

    def look(self, hashes: Hashes) -> tuple[Places, Chosen]:
        """Where sorted hashes stand, and which of them do."""
        if not len(self.hashes) or not len(hashes):
            return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
        first, last = np.searchsorted(self.hashes, hashes[[0, -1]]).tolist()
        near = self.hashes[first : last + 1]
        if len(near) == len(hashes) and np.array_equal(near, hashes):
            places = np.arange(first, last + 1)
            found = np.ones(len(hashes), np.bool_)
        else:
            near = near if len(near) else self.hashes[-1:]
            first = min(first, len(self.hashes) - 1)
            places = np.minimum(np.searchsorted(near, hashes), len(near) - 1) + first
            found = np.asarray(self.hashes[places] == hashes)
        return places, found

    def rows(self, places: Places) -> Digests:
        """Digests and tags at some places, which may lie far apart."""
        found = np.empty((len(places), self.head.words), np.uint32)
        for start in range(0, len(places), _GATHERED):
            some = slice(start, start + _GATHERED)
            found[some] = self.digests[places[some]]
            self.give_back()
        return found

    def blocks(self) -> Iterator[tuple[int, Frames]]:
        """The first place of each block, and its keys."""
        place, at = 0, HEAD + (KEY + self.head.entry) * self.head.rows
        for rows, size, plain in self.head.blocks:
            packed = self._map[at : at + size]
            data = pa.decompress(packed, plain, codec="zstd", asbytes=True)
            yield place, _unpacked(data, rows)
            place, at = place + rows, at + size
            self.give_back()


def _head_of(path: Path) -> Head:
    with path.open("rb") as file:
        start = file.read(HEAD)
        rest = file.seek(0, os.SEEK_END)
        if not start.startswith(MAGIC) or len(start) < HEAD:
            raise StateUnfit("it is no state of this version")
        try:
            at, size, crc = json.loads(start[len(MAGIC) :].rstrip(b"\0"))["head"]
            file.seek(at)
            data = file.read(size)
            body = json.loads(data)
            body["blocks"] = tuple(tuple(block) for block in body["blocks"])
            body["sums"] = tuple(body["sums"])
            head = Head(**body)
        except (ValueError, KeyError, TypeError, OSError) as e:
            raise StateUnfit("its description cannot be read") from e
    if not DIGEST_WORDS <= head.words <= MOST_WORDS:
        raise StateUnfit(f"its rows have {head.words} words")
    if (at + size, crc) != (rest, zlib.crc32(data)):
        raise StateUnfit("its description has another length or checksum")
    return head


class Spill:
    """New entries of a run, sorted piece by piece in a file without a name.

    Args:
        file: empty; gone when it is closed.
        words: of a row.
    """

    def __init__(self, file: IO[bytes], words: int) -> None:
        self._file, self._words = file, words
        self._pieces: list[tuple[int, int]] = []

    def add(self, entries: Entries) -> None:
        """Write entries in any order down."""
        order = np.argsort(entries.hashes, kind="stable")
        at = self._file.tell()
        keys = entries.keys.take(order)
        offsets, data = _parts(keys)
        for part in (
            entries.hashes[order].astype("<u8").tobytes(),
            entries.digests[order].astype("<u4").tobytes(),
            (offsets - offsets[0]).astype("<i4").tobytes(),
            data[int(offsets[0]) : int(offsets[-1])],
        ):
            self._file.write(part)
        self._pieces.append((at, len(order)))

    def pieces(self) -> list[Spilled]:
        """All that was written."""
        self._file.flush()
        words = self._words
        return [Spilled(self._file, at, rows, words) for at, rows in self._pieces]


class Spilled:
    """A sorted piece, mapped; it is taken from its beginning on."""

    def __init__(self, file: IO[bytes], at: int, rows: int, words: int) -> None:
        def mapped(kind: str, place: int, shape: tuple[int, ...]) -> Any:
            return np.memmap(file, np.dtype(kind), "r", place, shape)

        self.hashes: Hashes = mapped("<u8", at, (rows,))
        self._digests: Digests = mapped("<u4", at + KEY * rows, (rows, words))
        offsets = at + (KEY + 4 * words) * rows
        self._offsets = mapped("<i4", offsets, (rows + 1,))
        size = int(self._offsets[-1])
        self._data = mapped("u1", offsets + 4 * (rows + 1), (size,)) if size else b""
        self._taken = 0

    def below(self, bound: int) -> Entries:
        """What is below the bound and was not taken yet."""
        start, end = self._taken, len(self.hashes)
        if bound < 2**64:
            end = int(np.searchsorted(self.hashes, np.uint64(bound)))
        self._taken = end
        offsets = np.array(self._offsets[start : end + 1])
        data = bytes(self._data[int(offsets[0]) : int(offsets[-1])])
        keys = _binary(offsets - offsets[0], data)
        hashes = np.array(self.hashes[start:end])
        return Entries(hashes, np.array(self._digests[start:end]), keys)


def bounds(sources: Sequence[Hashes], most: int) -> list[int]:
    """Ends of ranges in which the sorted sources together have about ``most``."""
    step = max(1, most // max(1, len(sources)))
    samples = [source[step::step] for source in sources]
    every = max(1, len(sources))
    found = np.unique(np.concatenate(samples) if samples else np.zeros(0, np.uint64))
    return [*found[every - 1 :: every].tolist(), 2**64]


def joined(parts: Sequence[Entries]) -> Entries:
    """The entries of a range in one order.

    Args:
        parts: at least one.

    Raises:
        KeyClash: two have one digest.
    """
    parts = [part for part in parts if len(part.hashes)] or list(parts[:1])
    if len(parts) == 1:
        entries = parts[0]
    else:
        hashes = np.concatenate([p.hashes for p in parts])
        order = np.argsort(hashes, kind="stable")
        digests = np.concatenate([p.digests for p in parts])[order]
        keys = pa.concat_arrays([p.keys for p in parts]).take(order)
        entries = Entries(hashes[order], digests, keys)
    if (entries.hashes[1:] == entries.hashes[:-1]).any():
        raise KeyClash("two keys of a run have one digest, or one key came twice")
    return entries


def write(file: IO[bytes], head: Head, entries: Iterator[Entries]) -> None:
    """Write a whole state whose number of rows is known.

    Args:
        file: empty.
        head: says the rows, and how they were digested.
        entries: range by range, growing.

    Raises:
        KeyClash: they are not so many.
    """
    rows = head.rows
    places = [HEAD, HEAD + KEY * rows, HEAD + (KEY + head.entry) * rows]
    sums, blocks, done = [0, 0, 0], [], 0
    begin = places[2]
    for some in entries:
        packed = _packed(some.keys)
        data = pa.compress(packed, codec="zstd", asbytes=True)
        hashes = some.hashes.astype("<u8", copy=False).tobytes()
        digests = some.digests.astype("<u4", copy=False).tobytes()
        for i, part in enumerate((hashes, digests, data)):
            file.seek(places[i])
            file.write(part)
            places[i] += len(part)
            sums[i] = zlib.crc32(part, sums[i])
        blocks.append((len(some.hashes), len(data), len(packed)))
        done += len(some.hashes)
    if done != rows:
        raise KeyClash(f"{done} keys are left of {rows}")
    body = {**vars(head), "keys": places[2] - begin, "blocks": blocks, "sums": sums}
    text = json.dumps(body).encode()
    file.seek(places[2])
    file.write(text)
    said = json.dumps({"head": [places[2], len(text), zlib.crc32(text)]}).encode()
    file.seek(0)
    file.write((MAGIC + said).ljust(HEAD, b"\0"))


def blanks(rows: int) -> Frames:
    """So many empty keys."""
    return _binary(np.zeros(rows + 1, np.int32), b"")


def _parts(keys: Frames) -> tuple[np.ndarray[Any, Any], memoryview[int]]:
    """Offsets and bytes of a binary array without NULL."""
    _, offsets, data = keys.buffers()
    places = np.frombuffer(offsets, "<i4")[keys.offset :][: len(keys) + 1]
    return places, memoryview(b"" if data is None else data)


def _packed(keys: Frames) -> bytes:
    """Lengths, then the bytes."""
    if not len(keys):
        return b""
    offsets, data = _parts(keys)
    return np.diff(offsets).astype("<i4").tobytes() + bytes(
        data[int(offsets[0]) : int(offsets[-1])]
    )


def _unpacked(data: bytes, rows: int) -> Frames:
    lengths = np.frombuffer(data, "<i4", rows)
    return _binary(np.concatenate([[0], np.cumsum(lengths)]), data[4 * rows :])


def _binary(offsets: np.ndarray[Any, Any], data: bytes) -> Frames:
    places = pa.py_buffer(offsets.astype("<i4").tobytes())
    buffers = [None, places, pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
