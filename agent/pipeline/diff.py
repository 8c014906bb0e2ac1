# SPDX-License-Identifier: Apache-2.0
"""Which rows differ from those sent before, for sources that cannot tell.

Rules

1. The state of a stream is one flat file: for every key that was sent 8 bytes of a
   digest of the key, sorted, 12 bytes of a digest of the row, and the key itself in
   compressed blocks, which only deletes and checks need. Rows may come in any order: no
   collation of a database has to agree with ours.
2. A row is unchanged if key and row digest are known; any other is an upsert. A key of
   the state that was not met is a delete, told at the end. A row that quality withheld
   (``k``) was met, and keeps the digest of the version that was sent last.
3. The new state is written beside the old one and synced; :func:`switch` puts it in its
   place when the run's last batch is registered. Until then the old one stands, so a
   run that dies is compared again with what was really sent.
4. A state says by which canonicaliser its digests were made. If there is a newer one,
   both digests are computed during one run: the old tells what changed, the new is
   kept. So a new rendering of the same values is no change, and no change is missed.
5. Memory: a byte a key, the digests of changed rows, and one range of keys. New keys
   are spilled, sorted piece by piece. The old digests are mapped, not read.
6. A digest of a key may belong to two keys. Keys of changed rows are compared with
   those of the state; keys met twice are noticed. Either ends the run with
   :class:`KeyClash`; a new salt and a full read put it right (1 in 10^6 at 5 M keys).
7. Every part of the file has a checksum. One that does not fit is :class:`StateUnfit`,
   and the stream is read in full.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agent.model.item import Item
from agent.pipeline.fingerprint import fingerprints
from agent.wire.arrow import OP, key_frames, schema_of
from agent.wire.key_text import key_columns

MAGIC = b"FEPDIFF1"
HEAD = 4096
"""The file begins with its description in so many bytes."""

KEY, ROW = 8, 12
"""Bytes kept of a digest."""

SPILL_ROWS = 262_144
"""New keys in memory."""

RANGE_ROWS = 131_072
"""Keys that are merged at a time, about; also those of a compressed block."""

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
Digests = np.ndarray[Any, np.dtype[np.uint8]]
"""Two dimensions: one row of ROW bytes for each."""
Places = np.ndarray[Any, np.dtype[np.int64]]
Chosen = np.ndarray[Any, np.dtype[np.bool_]]
Canon = Callable[[pa.RecordBatch, Sequence[Item]], Digests]
"""Digests of rows, ROW bytes each."""


class StateUnfit(Exception):
    """The state cannot be compared with; the reason is said."""


class KeyClash(Exception):
    """Two keys have one digest, or one key came twice."""


def by_fingerprint(rows: pa.RecordBatch, items: Sequence[Item]) -> Digests:
    """The first bytes of a fingerprint of all items."""
    columns = [rows.column(item.name) for item in items]
    words = fingerprints(columns, rows.num_rows)
    return words.view(np.uint8).reshape(-1, 16)[:, :ROW].copy()


CANONS: Mapping[str, Canon] = {"mix-1": by_fingerprint}
"""Name of a canonicaliser -> what it does. A name once used is never given again."""

NEWEST = "mix-1"


KeyHash = Callable[[pa.RecordBatch, Sequence[Item], bytes], Hashes]
"""Digests of keys, salted, so that a clash can be got rid of."""


def key_hashes(rows: pa.RecordBatch, items: Sequence[Item], salt: bytes) -> Hashes:
    """The first word of a fingerprint of the key items."""
    columns = [rows.column(item.name) for item in items if item.key]
    words = fingerprints(columns, rows.num_rows, int.from_bytes(salt[:8], "big"))
    return words[:, 0].copy()


@dataclass(frozen=True)
class Methods:
    """How states are made.

    Args:
        canons: canonicalisers by name.
        canon: name of that of a new state.
        hashes: of keys.
        spill_rows: most new keys in memory.
        range_rows: keys that are merged at a time, about.
    """

    canons: Mapping[str, Canon] = field(default_factory=lambda: CANONS)
    canon: str = NEWEST
    hashes: KeyHash = key_hashes
    spill_rows: int = SPILL_ROWS
    range_rows: int = RANGE_ROWS


USUAL = Methods()


@dataclass(frozen=True)
class Counts:
    """What a run found; ``same`` includes rows that were withheld."""

    new: int
    changed: int
    same: int
    gone: int


@dataclass(frozen=True)
class _Head:
    """The description of a file."""

    canon: str
    salt: str
    items: str
    rows: int
    keys: int
    """Bytes of the compressed keys."""
    blocks: tuple[tuple[int, int, int], ...]
    """Rows, compressed and plain bytes of each block."""
    sums: tuple[int, int, int]
    """Checksums of hashes, digests and keys."""


def signature(items: Sequence[Item]) -> str:
    """What must be equal for digests to be comparable."""
    said = [(i.name, i.type.value, i.length, i.scale, i.key) for i in items]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]


def switch(fresh: Path, state: Path) -> None:
    """Put a finished state in the place of the old one, durably."""
    os.replace(fresh, state)  # noqa: PTH105 - Path.replace says nothing of atomicity
    folder = os.open(state.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Old:
    """A state file, mapped. ``seen`` marks the keys that this run met."""

    def __init__(self, path: Path) -> None:
        self.head = _head_of(path)
        rows = self.head.rows
        at = HEAD
        try:
            self.hashes: Hashes = _mapped(path, np.dtype("<u8"), at, (rows,))
            at += KEY * rows
            self.digests: Digests = _mapped(path, np.dtype("u1"), at, (rows, ROW))
            at += ROW * rows
            self._keys = _mapped(path, np.dtype("u1"), at, (self.head.keys,))
        except (OSError, ValueError) as e:
            raise StateUnfit("the file is shorter than it says") from e
        sums = tuple(
            _checksum(part) for part in (self.hashes, self.digests, self._keys)
        )
        if sums != self.head.sums:
            raise StateUnfit("a checksum does not fit")
        self.seen: np.ndarray[Any, np.dtype[np.bool_]] = np.zeros(rows, np.bool_)

    def blocks(self) -> Iterator[tuple[int, pa.Array[Any]]]:
        """The first place of each block, and its keys."""
        place, at = 0, 0
        for rows, size, plain in self.head.blocks:
            data = pa.decompress(
                self._keys[at : at + size].tobytes(), plain, codec="zstd", asbytes=True
            )
            yield place, _unpacked(data, rows)
            place, at = place + rows, at + size


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _spill_file(folder: Path) -> IO[bytes]:
    """A file without a name; gone when it is closed or the process dies."""
    return tempfile.TemporaryFile(dir=folder)


def _mapped(path: Path, kind: np.dtype[Any], at: int, shape: tuple[int, ...]) -> Any:
    if 0 in shape:
        return np.zeros(shape, kind)
    return np.memmap(path, kind, "r", at, shape)


def _checksum(part: np.ndarray[Any, Any]) -> int:
    found, flat = 0, part.reshape(-1)
    for at in range(0, len(flat), 1 << 20):
        found = zlib.crc32(flat[at : at + (1 << 20)].tobytes(), found)
    return found


def _head_of(path: Path) -> _Head:
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
            head = _Head(**body)
        except (ValueError, KeyError, TypeError) as e:
            raise StateUnfit("its description cannot be read") from e
    if (at + size, crc) != (rest, zlib.crc32(data)):
        raise StateUnfit("its description has another length or checksum")
    return head


@dataclass
class _Fresh:
    """New keys, in no order: hashes, digests, keys."""

    hashes: list[Hashes]
    digests: list[Digests]
    keys: list[pa.Array[Any]]
    rows: int = 0


class Diff:
    """One run's comparison of a stream with its state.

    Args:
        items: of the catalog, in the order of the columns.
        old: the state's file; one that is not there means that nothing was sent.
        folder: for spilled keys; they are gone when the run ends, however it does.
        salt: 8 random bytes, for a first state.
        methods: how the new state is made.

    Raises:
        StateUnfit: the old state cannot be compared with.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        old: Path,
        folder: Path,
        salt: bytes,
        methods: Methods = USUAL,
    ) -> None:
        self._items, self._methods = tuple(items), methods
        self._old = _Old(old) if old.exists() else None
        self._salt, self._digest = salt, methods.canons[methods.canon]
        self._judge: Canon | None = None
        if self._old is not None:
            self._salt = bytes.fromhex(self._old.head.salt)
            self._judge = self._former(self._old.head, methods)
        self._fresh = _Fresh([], [], [])
        self._spilled: list[tuple[int, int]] = []
        self._spill: IO[bytes] = _spill_file(folder)
        self._changed: list[tuple[Places, Digests, pa.Array[Any]]] = []
        self._kept: list[tuple[Places, Digests]] = []
        self._new = self._same = 0

    def _former(self, head: _Head, methods: Methods) -> Canon | None:
        if head.items != signature(self._items):
            raise StateUnfit("the state is of another catalog version")
        if head.canon == methods.canon:
            return None
        if head.canon not in methods.canons:
            raise StateUnfit(f"nobody knows the canonicaliser {head.canon!r}")
        return methods.canons[head.canon]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spill.close()

    def changes(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows among these that are new or changed.

        Args:
            rows: in wire types, ``_op`` first, ``u`` and ``k`` only.

        Raises:
            KeyClash: a key came twice, or two have one digest.
        """
        hashes = self._methods.hashes(rows, self._items, self._salt)
        kept = pc.equal(rows.column(OP), pa.scalar("k")).to_numpy(zero_copy_only=False)
        places, known = self._find(hashes)
        digests = self._digest(rows, self._items)
        judged = digests if self._judge is None else self._judge(rows, self._items)
        differs = np.zeros(len(hashes), np.bool_)
        if self._old is not None:
            there = self._old.digests[places[known]]
            differs[known] = (there != judged[known]).any(axis=1)
            if self._judge is not None:
                same = known & ~differs & ~kept
                self._kept.append((places[same], digests[same]))
        changed, new = known & differs & ~kept, ~known & ~kept
        if changed.any():
            which = np.flatnonzero(changed)
            self._changed.append(
                (places[which], digests[which], self._keys(rows, changed))
            )
        if new.any():
            self._add(hashes[new], digests[new], self._keys(rows, new))
        self._new += int(new.sum())
        self._same += len(hashes) - int(new.sum()) - int(changed.sum())
        return rows.filter(pa.array(changed | new))

    def _keys(self, rows: pa.RecordBatch, chosen: Chosen) -> pa.Array[Any]:
        """The canonical keys of some rows."""
        some = rows.filter(pa.array(chosen))
        return pa.array(key_frames(some, self._items), pa.binary())

    def _find(self, hashes: Hashes) -> tuple[Places, Chosen]:
        """Where the keys stand in the old state, and which of them do."""
        order = np.argsort(hashes)
        if (np.diff(hashes[order]) == 0).any():
            raise KeyClash("two rows of a piece have one digest of a key")
        places = np.zeros(len(hashes), np.int64)
        if self._old is None or not len(self._old.hashes):
            return places, np.zeros(len(hashes), np.bool_)
        known = self._old.hashes
        places[order] = np.minimum(
            np.searchsorted(known, hashes[order]), len(known) - 1
        )
        found = np.asarray(known[places] == hashes)
        if self._old.seen[places[found]].any():
            raise KeyClash("a key came twice, or two have one digest")
        self._old.seen[places[found]] = True
        return places, found

    def _add(self, hashes: Hashes, digests: Digests, keys: pa.Array[Any]) -> None:
        fresh = self._fresh
        fresh.hashes.append(hashes)
        fresh.digests.append(digests)
        fresh.keys.append(keys)
        fresh.rows += len(hashes)
        if fresh.rows >= self._methods.spill_rows:
            self._spill_out()

    def _spill_out(self) -> None:
        """Write the new keys down, sorted."""
        fresh, self._fresh = self._fresh, _Fresh([], [], [])
        if not fresh.rows:
            return
        hashes = np.concatenate(fresh.hashes)
        order = np.argsort(hashes)
        at = self._spill.tell()
        keys = pa.concat_arrays(fresh.keys).take(order)
        offsets = np.frombuffer(_buffer(keys, 1), "<i4")[: len(keys) + 1]
        data = _buffer(keys, 2)
        for part in (
            hashes[order].astype("<u8").tobytes(),
            np.concatenate(fresh.digests)[order].tobytes(),
            offsets.astype("<i4").tobytes(),
            data[: int(offsets[-1])],
        ):
            self._spill.write(part)
        self._spilled.append((at, len(hashes)))

    def deletes(self) -> Iterator[pa.RecordBatch]:
        """A ``d`` row for every key of the state that did not come; call at the end."""
        if self._old is None:
            return
        for place, keys in self._old.blocks():
            gone = ~self._old.seen[place : place + len(keys)]
            if gone.any():
                yield _delete_rows(keys.filter(pa.array(gone)), self._items)

    def finish(self, fresh: Path) -> Counts:
        """Write the new state and sync it; :func:`switch` makes it the state.

        Raises:
            KeyClash: two keys have one digest.
            OSError: the disk refused; nothing is left of the file then.
        """
        self._spill_out()
        self._spill.flush()
        old = self._old
        gone = 0 if old is None else int((~old.seen).sum())
        rows = (0 if old is None else len(old.hashes)) - gone + self._new
        head = _Head(self._methods.canon, self._salt.hex(), signature(self._items),
                     rows, 0, (), (0, 0, 0))  # fmt: skip
        try:
            fresh.unlink(missing_ok=True)  # of a run that was killed
            with open(fresh, "xb", opener=_only_ours) as file:
                _Writer(file, head).write(self._merged())
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        changed = sum(len(places) for places, _, _ in self._changed)
        return Counts(self._new, changed, self._same, gone)

    def _merged(self) -> Iterator[tuple[Hashes, Digests, pa.Array[Any]]]:
        """All entries of the new state, range by range in the order of the hashes."""
        pieces = [_Spilled(self._spill, at, rows) for at, rows in self._spilled]
        total = sum(p.rows for p in pieces)
        blocks: Iterator[_Piece] = iter(())
        if self._old is not None:
            total += len(self._old.hashes)
            blocks = self._old_pieces(self._old)
        ranges = max(1, -(-total // self._methods.range_rows))
        bounds = [(i + 1) * 2**64 // ranges for i in range(ranges - 1)] + [2**64]
        carry: list[_Piece] = []
        taken = [0] * len(pieces)
        for bound in bounds:
            parts: list[_Piece] = []
            while not carry or carry[-1].hashes[-1] < bound:
                block = next(blocks, None)
                if block is None:
                    break
                carry.append(block)
            parts += [c.below(bound) for c in carry]
            carry = [rest for c in carry if len((rest := c.above(bound)).hashes)]
            for i, piece in enumerate(pieces):
                upto = piece.place_of(bound)
                parts.append(piece.part(taken[i], upto))
                taken[i] = upto
            yield _sorted(parts)

    def _old_pieces(self, old: _Old) -> Iterator[_Piece]:
        """Blocks of the old state with this run's digests, without what is gone."""
        places, digests, frames = _joined(self._changed)
        if self._kept:
            kept = np.concatenate([p for p, _ in self._kept])
            renewed = np.concatenate([d for _, d in self._kept])
            kept_order = np.argsort(kept)
            kept, renewed = kept[kept_order], renewed[kept_order]
        for place, keys in old.blocks():
            end = place + len(keys)
            fresh = np.array(old.digests[place:end])
            first, last = np.searchsorted(places, (place, end))
            here = places[first:last] - place
            if not keys.take(here).equals(frames.slice(first, last - first)):
                raise KeyClash("a key took the place of another with its digest")
            fresh[here] = digests[first:last]
            if self._kept:
                first, last = np.searchsorted(kept, (place, end))
                fresh[kept[first:last] - place] = renewed[first:last]
            seen = old.seen[place:end]
            if seen.any():
                yield _Piece(
                    np.array(old.hashes[place:end])[seen],
                    fresh[seen],
                    keys.filter(pa.array(seen)),
                )


@dataclass(frozen=True)
class _Piece:
    """Entries in the order of their hashes."""

    hashes: Hashes
    digests: Digests
    keys: pa.Array[Any]

    def _cut(self, bound: int) -> int:
        if bound >= 2**64:
            return len(self.hashes)
        return int(np.searchsorted(self.hashes, np.uint64(bound)))

    def below(self, bound: int) -> _Piece:
        """Entries below the bound."""
        at = self._cut(bound)
        return _Piece(self.hashes[:at], self.digests[:at], self.keys.slice(0, at))

    def above(self, bound: int) -> _Piece:
        """The others."""
        at = self._cut(bound)
        return _Piece(self.hashes[at:], self.digests[at:], self.keys.slice(at))


class _Spilled:
    """A sorted piece in the spill file, mapped."""

    def __init__(self, file: IO[bytes], at: int, rows: int) -> None:
        self.rows = rows

        def mapped(kind: str, place: int, shape: tuple[int, ...]) -> Any:
            return np.memmap(file, np.dtype(kind), "r", place, shape)

        self._hashes: Hashes = mapped("<u8", at, (rows,))
        self._digests: Digests = mapped("u1", at + KEY * rows, (rows, ROW))
        offsets = at + (KEY + ROW) * rows
        self._offsets = mapped("<i4", offsets, (rows + 1,))
        size = int(self._offsets[-1])
        self._data = mapped("u1", offsets + 4 * (rows + 1), (size,)) if size else b""

    def place_of(self, bound: int) -> int:
        """How many hashes are below the bound."""
        if bound >= 2**64:
            return self.rows
        return int(np.searchsorted(self._hashes, np.uint64(bound)))

    def part(self, start: int, end: int) -> _Piece:
        """The entries of these places."""
        offsets = np.array(self._offsets[start : end + 1])
        data = bytes(self._data[int(offsets[0]) : int(offsets[-1])])
        keys = pa.Array.from_buffers(
            pa.binary(),
            end - start,
            [None, pa.py_buffer((offsets - offsets[0]).astype("<i4").tobytes()),
             pa.py_buffer(data)],
        )  # fmt: skip
        hashes = np.array(self._hashes[start:end])
        return _Piece(hashes, np.array(self._digests[start:end]), keys)


class _Writer:
    """Writes a state whose number of rows is known."""

    def __init__(self, file: IO[bytes], head: _Head) -> None:
        self._file, self._head = file, head

    def write(self, entries: Iterator[tuple[Hashes, Digests, pa.Array[Any]]]) -> None:
        rows = self._head.rows
        places = [HEAD, HEAD + KEY * rows, HEAD + (KEY + ROW) * rows]
        sums, blocks, done = [0, 0, 0], [], 0
        begin = places[2]
        for hashes, digests, keys in entries:
            packed = _packed(keys)
            data = pa.compress(packed, codec="zstd", asbytes=True)
            parts = (hashes.astype("<u8").tobytes(), digests.tobytes(), data)
            for i, part in enumerate(parts):
                self._file.seek(places[i])
                self._file.write(part)
                places[i] += len(part)
                sums[i] = zlib.crc32(part, sums[i])
            blocks.append((len(hashes), len(data), len(packed)))
            done += len(hashes)
        if done != rows:
            raise KeyClash(f"{done} keys are left of {rows}")
        body = {**vars(self._head), "keys": places[2] - begin, "blocks": blocks,
                "sums": sums}  # fmt: skip
        text = json.dumps(body).encode()
        self._file.seek(places[2])
        self._file.write(text)
        said = json.dumps({"head": [places[2], len(text), zlib.crc32(text)]}).encode()
        self._file.seek(0)
        self._file.write((MAGIC + said).ljust(HEAD, b"\0"))


def _buffer(array: pa.Array[Any], i: int) -> memoryview[int]:
    found = array.buffers()[i]
    return memoryview(b"") if found is None else memoryview(found)


def _texts(array: pa.Array[Any]) -> list[bytes]:
    """The values of a binary array without NULL."""
    values: list[Any] = array.to_pylist()
    return values


def _joined(
    changed: Sequence[tuple[Places, Digests, pa.Array[Any]]],
) -> tuple[Places, Digests, pa.Array[Any]]:
    """All changed entries in the order of their places."""
    if not changed:
        none = pa.array([], pa.binary())
        return np.zeros(0, np.int64), np.zeros((0, ROW), np.uint8), none
    places = np.concatenate([p for p, _, _ in changed])
    order = np.argsort(places)
    digests = np.concatenate([d for _, d, _ in changed])[order]
    keys = pa.concat_arrays([k for _, _, k in changed]).take(order)
    return places[order], digests, keys


def _sorted(parts: Sequence[_Piece]) -> tuple[Hashes, Digests, pa.Array[Any]]:
    """The entries of a range in one order.

    Raises:
        KeyClash: two have one digest.
    """
    if not parts:
        none = pa.array([], pa.binary())
        return np.zeros(0, np.uint64), np.zeros((0, ROW), np.uint8), none
    hashes = np.concatenate([p.hashes for p in parts])
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    if (np.diff(hashes) == 0).any():
        raise KeyClash("two keys of a run have one digest, or one key came twice")
    keys = pa.concat_arrays([p.keys for p in parts]).take(order)
    return hashes, np.concatenate([p.digests for p in parts])[order], keys


def _packed(keys: pa.Array[Any]) -> bytes:
    """Lengths, then the bytes."""
    texts = _texts(keys)
    return np.array([len(t) for t in texts], "<i4").tobytes() + b"".join(texts)


def _unpacked(data: bytes, rows: int) -> pa.Array[Any]:
    lengths = np.frombuffer(data, "<i4", rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("<i4")
    return pa.Array.from_buffers(
        pa.binary(),
        rows,
        [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data[4 * rows :])],
    )


def _delete_rows(frames: pa.Array[Any], items: Sequence[Item]) -> pa.RecordBatch:
    """``d`` rows of these keys, all other columns NULL."""
    schema = schema_of(items)
    keys = [item for item in items if item.key]
    columns = key_columns(_texts(frames), keys)
    arrays: list[Any] = [pa.array(["d"] * len(frames), pa.string())]
    for item in items:
        field = schema.field(item.name)
        found = columns.get(item.name)
        arrays.append(
            pa.nulls(len(frames), field.type)
            if found is None
            else pa.array(found, field.type)
        )
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
