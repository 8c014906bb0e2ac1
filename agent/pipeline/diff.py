# SPDX-License-Identifier: Apache-2.0
"""Which rows differ from those sent before, for sources that cannot tell.

Rules

1. The state of a stream is one flat file: for every key that was sent 8 bytes, sorted,
   12 bytes of a digest of the row, and 8 of its tag where the source digests its rows
   itself, so that not all of them need to be read (``diff_tags.py``). A key of one
   whole number stands there itself; of others a digest does, and the key in compressed
   blocks, which only deletes and checks need. Rows may come in any order: no collation
   of a database has to agree with ours. In the order of the state they cost least.
2. A row is unchanged if key and row digest are known; any other is an upsert. A key of
   the state that was not met is a delete, told at the end. A row that quality withheld
   (``k``) was met, and keeps the digest of the version that was sent last.
3. The new state is written beside the old one and synced, under the name of its run.
   It counts from the transaction on that registers the run's last batch; until then the
   old one does, so a run that dies is compared again with what was really sent.
4. A state says by which canonicaliser its digests were made. If there is a newer one,
   both digests are computed during one run: the old tells what changed, the new is
   kept. So a new rendering of the same values is no change, and no change is missed.
5. Memory: a byte a key, the digests of changed rows, and one range of keys. New keys
   are spilled, sorted piece by piece. The old state is mapped, not read.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agent.model.item import Item
from agent.pipeline.diff_keys import Keys, keys_of
from agent.pipeline.diff_state import (
    DIGEST_WORDS,
    MOST_WORDS,
    Chosen,
    Digests,
    Entries,
    Frames,
    Hashes,
    Head,
    KeyClash,
    Known,
    Places,
    Spill,
    StateUnfit,
    bounds,
    joined,
    none,
    write,
)
from agent.pipeline.diff_tags import Meeting, Renewals, with_tags
from agent.pipeline.fingerprint import fingerprints
from agent.wire.arrow import OP, deleted_rows

SPILL_ROWS = 262_144
"""New keys in memory."""

RANGE_ROWS = 32_768
"""Keys that are merged at a time, about; also those of a compressed block."""

Canon = Callable[[pa.RecordBatch, Sequence[Item]], Digests]
"""Digests of rows, three numbers each."""


def by_fingerprint(rows: pa.RecordBatch, items: Sequence[Item]) -> Digests:
    """The first bytes of a fingerprint of all items."""
    columns = [rows.column(item.name) for item in items]
    words = fingerprints(columns, rows.num_rows)
    return words.view(np.uint32).reshape(-1, 4)[:, :DIGEST_WORDS]


CANONS: Mapping[str, Canon] = {"mix-2": by_fingerprint}
"""Name of a canonicaliser -> what it does. A name once used is never given again."""

NEWEST = "mix-2"


@dataclass(frozen=True)
class Methods:
    """How states are made.

    Args:
        canons: canonicalisers by name.
        canon: name of that of a new state.
        keys: how keys stand in them.
        spill_rows: most new keys in memory.
        range_rows: keys that are merged at a time, about.
    """

    canons: Mapping[str, Canon] = field(default_factory=lambda: CANONS)
    canon: str = NEWEST
    keys: Callable[[Sequence[Item]], Keys] = keys_of
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
class _Changes:
    """Entries of the old state that get another digest.

    Args:
        places: where they stand.
        frames: their keys.
    """

    places: Places
    digests: Digests
    frames: Frames


def signature(items: Sequence[Item], form: str) -> str:
    """What must be equal for digests to be comparable."""
    said = [(i.name, i.type.value, i.length, i.scale, i.key) for i in items]
    return hashlib.sha256(json.dumps([form, said]).encode()).hexdigest()[:32]


class Diff:
    """One run's comparison of a stream with its state.

    Args:
        items: of the catalog, in the order of the columns.
        old: the state's file; None or one that is not there: nothing was sent.
        folder: for spilled keys; they are gone when the run ends, however it does.
        salt: 8 random bytes, for a first state.
        methods: how the new state is made.
        tagging: how the source digests its rows; None if it does not.

    Raises:
        StateUnfit: the old state cannot be compared with.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        old: Path | None,
        folder: Path,
        salt: bytes,
        methods: Methods = USUAL,
        tagging: str | None = None,
    ) -> None:
        self._items, self._methods = tuple(items), methods
        self._keys = methods.keys(items)
        self._salt, self._digest = salt, methods.canons[methods.canon]
        self._path = old
        self._old = Known(old) if old is not None and old.exists() else None
        self._judge: Canon | None = None
        if self._old is not None:
            self._salt = bytes.fromhex(self._old.head.salt)
            self._judge = self._former(self._old.head)
        self._tagging = tagging
        self._meeting: Meeting | None = None
        self._words = DIGEST_WORDS if tagging is None else MOST_WORDS
        self._fresh: list[Entries] = []
        self._file: IO[bytes] = _spill_file(folder)
        self._spill = Spill(self._file, self._words)
        self._changed: list[_Changes] = []
        self._renewed = Renewals(lambda: _spill_file(folder), self.known, self._words)
        self._new = self._same = 0

    def _former(self, head: Head) -> Canon | None:
        methods = self._methods
        if head.items != signature(self._items, self._keys.form):
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
        self._renewed.close()
        self._file.close()

    # --- while rows come ------------------------------------------------------------

    def meeting(self) -> Meeting | None:
        """Begin with keys and tags; only rows that differ will then be given.

        Returns:
            None: the state has no tags of this making, and all rows are needed.
        """
        old = self._old
        if old is None or self._judge is not None or not self._same_tagging():
            return None
        self._meeting = Meeting(old, self._keys, self._salt)
        return self._meeting

    def forget(self) -> None:
        """All rows will be given after all."""
        self._meeting = None
        if self._old is not None:
            self._old.seen[:] = False

    def _same_tagging(self) -> bool:
        tagging = self._tagging
        return self._old is not None and self._old.head.tagging == tagging is not None

    def changes(self, rows: pa.RecordBatch, tags: Any = None) -> pa.RecordBatch:
        """The rows among these that are new or changed.

        Args:
            rows: in wire types, ``_op`` first, ``u`` and ``k`` only.
            tags: one a row, if the source digests rows.

        Raises:
            KeyClash: a key came twice, or two have one digest.
            NotGiven: a row that was not asked for.
        """
        hashes = self._keys.hashes(rows, self._salt)
        places, known = self._find(hashes)
        sent = pc.equal(rows.column(OP), pa.scalar("u")).to_numpy(zero_copy_only=False)
        digests = self._digest(rows, self._items)
        changed = self._differing(rows, places, known, digests) & sent
        if self._tagging is not None:
            digests = with_tags(digests, tags, sent)
        self._renew(places, digests, known & ~changed, sent)
        if changed.any():
            frames = self._keys.frames(_chosen(rows, changed))
            self._changed.append(_Changes(places[changed], digests[changed], frames))
        new = ~known & sent
        if new.any():
            frames = self._keys.frames(_chosen(rows, new))
            self._add(Entries(hashes[new], digests[new], frames))
        self._new += int(new.sum())
        self._same += len(hashes) - int(new.sum()) - int(changed.sum())
        if self._old is not None:
            self._old.give_back()
        return _chosen(rows, changed | new)

    def _renew(
        self, places: Places, digests: Digests, same: Chosen, sent: Chosen
    ) -> None:
        """Keep what this run's digests and tags of unchanged rows are."""
        if self._judge is not None:
            same = same & sent  # what was sent last is known by the old digest alone
        elif self._tagging is None:
            return
        places, digests, sent = places[same], digests[same], sent[same]
        before = self._before(self._old.rows(places)) if self._old else digests[:0]
        if self._judge is None:  # a withheld row keeps the digest of what was sent
            digests[~sent, :DIGEST_WORDS] = before[~sent, :DIGEST_WORDS]
        other = (digests != before).any(axis=1)
        self._renewed.put(places[other], digests[other])

    def _before(self, found: Digests) -> Digests:
        """Entries of the old state, without tags of another making."""
        if self._same_tagging() or self._words == found.shape[1] == DIGEST_WORDS:
            return found
        entries = np.zeros((len(found), self._words), np.uint32)
        entries[:, :DIGEST_WORDS] = found[:, :DIGEST_WORDS]
        return entries

    def _find(self, hashes: Hashes) -> tuple[Places, Chosen]:
        """Where the keys stand in the old state, and which of them do."""
        order = None
        if not (hashes[1:] > hashes[:-1]).all():
            order = np.argsort(hashes)
            hashes = hashes[order]
            if (hashes[1:] == hashes[:-1]).any():
                raise KeyClash("two rows of a piece have one digest of a key")
        if self._old is None:
            return np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.bool_)
        found, there = self._met(self._old, hashes)
        if order is None:
            return found, there
        places, known = np.empty_like(found), np.empty_like(there)
        places[order], known[order] = found, there
        return places, known

    def _met(self, old: Known, hashes: Hashes) -> tuple[Places, Chosen]:
        if self._meeting is None:
            return old.find(hashes)
        self._meeting.came(hashes)
        return old.look(hashes)

    def _differing(
        self, rows: pa.RecordBatch, places: Places, known: Chosen, digests: Digests
    ) -> Chosen:
        """Which of the known rows have another digest than the state says."""
        if self._old is None:
            return known
        ours = digests if self._judge is None else self._judge(rows, self._items)
        if known.all():
            return _unequal(self._old.rows(places), ours)
        found = np.zeros(len(known), np.bool_)
        found[known] = _unequal(self._old.rows(places[known]), ours[known])
        return found

    def _add(self, entries: Entries) -> None:
        self._fresh.append(entries)
        if sum(len(e.hashes) for e in self._fresh) >= self._methods.spill_rows:
            self._spill_out()

    def _spill_out(self) -> None:
        """Write the new keys down."""
        fresh, self._fresh = self._fresh, []
        if fresh:
            hashes = np.concatenate([e.hashes for e in fresh])
            digests = np.concatenate([e.digests for e in fresh])
            keys = pa.concat_arrays([e.keys for e in fresh])
            self._spill.add(Entries(hashes, digests, keys))

    # --- at the end -----------------------------------------------------------------

    @property
    def known(self) -> int:
        """Keys of the old state."""
        return 0 if self._old is None else len(self._old.hashes)

    def has(self, rows: pa.RecordBatch) -> Chosen:
        """Which keys of these rows stand in the old state; none is met thereby."""
        hashes = self._keys.hashes(rows, self._salt)
        if self._old is None:
            return np.zeros(len(hashes), np.bool_)
        order = np.argsort(hashes)
        found = np.empty(len(hashes), np.bool_)
        found[order] = self._old.look(hashes[order])[1]
        return found

    def gone(self) -> int:
        """How many of them did not come."""
        return 0 if self._old is None else int((~self._old.seen).sum())

    def deletes(self) -> Iterator[pa.RecordBatch]:
        """A ``d`` row for every key of the state that did not come; call at the end."""
        old = self._old
        if old is None:
            return
        for place, frames in old.blocks():
            gone = ~old.seen[place : place + len(frames)]
            if gone.any():
                hashes = old.hashes[place : place + len(frames)][gone]
                keys = self._keys.columns(hashes, frames.filter(pa.array(gone)))
                yield deleted_rows(keys, len(hashes), self._items)

    def finish(self, fresh: Path) -> Counts:
        """Write the new state and sync it and its folder.

        Raises:
            KeyClash: two keys have one digest.
            OSError: the disk refused; nothing is left of the file then.
        """
        self._spill_out()
        counts = self._counts()
        try:
            fresh.unlink(missing_ok=True)  # of a run that was killed
            if self._path is not None and self._unchanged(counts):
                os.link(self._path, fresh)
            else:
                self._write(fresh, counts)
            _sync_folder(fresh.parent)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        return counts

    def _counts(self) -> Counts:
        changed = sum(len(c.places) for c in self._changed)
        return Counts(self._new, changed, self._same, self.gone())

    def _unchanged(self, counts: Counts) -> bool:
        """Whether the old state says it all."""
        found = counts.new or counts.changed or counts.gone or self._renewed
        return self._old is not None and self._judge is None and not found

    def _write(self, fresh: Path, counts: Counts) -> None:
        head = Head(
            canon=self._methods.canon,
            salt=self._salt.hex(),
            items=signature(self._items, self._keys.form),
            rows=self.known - counts.gone + counts.new,
            words=self._words,
            tagging=self._tagging,
        )
        with open(fresh, "xb", opener=_only_ours) as file:
            write(file, head, self._merged())
            file.flush()
            os.fsync(file.fileno())

    def _merged(self) -> Iterator[Entries]:
        """All entries of the new state, range by range in the order of the hashes."""
        pieces = self._spill.pieces()
        sources = [piece.hashes for piece in pieces]
        blocks: Iterator[Entries] = iter(())
        if self._old is not None:
            sources.append(self._old.hashes)
            blocks = self._old_blocks(self._old)
        rest = none(self._words)
        for bound in bounds(sources, self._methods.range_rows):
            parts = [rest.below(bound)]
            rest = rest.above(bound)
            while not len(rest.hashes) and (block := next(blocks, None)) is not None:
                parts.append(block.below(bound))
                rest = block.above(bound)
            parts += [piece.below(bound) for piece in pieces]
            yield joined(parts)

    def _old_blocks(self, old: Known) -> Iterator[Entries]:
        """Blocks of the old state with this run's digests, without what is gone."""
        changed = _in_order(self._changed, self._words)
        for place, keys in old.blocks():
            end = place + len(keys)
            digests = self._before(np.array(old.digests[place:end]))
            self._renewed.into(digests, place)
            first, last = np.searchsorted(changed.places, (place, end)).tolist()
            here = changed.places[first:last] - place
            digests[here] = changed.digests[first:last]
            if not keys.take(here).equals(changed.frames.slice(first, last - first)):
                raise KeyClash("a key took the place of another with its digest")
            hashes, seen = np.array(old.hashes[place:end]), old.seen[place:end]
            if not seen.all():
                hashes, digests = hashes[seen], digests[seen]
                keys = keys.filter(pa.array(seen))
            if len(hashes):
                yield Entries(hashes, digests, keys)


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _spill_file(folder: Path) -> IO[bytes]:
    """A file without a name; gone when it is closed or the process dies."""
    return tempfile.TemporaryFile(dir=folder)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _chosen(rows: pa.RecordBatch, chosen: Chosen) -> pa.RecordBatch:
    if chosen.all():
        return rows
    return rows.filter(pa.array(chosen)) if chosen.any() else rows.slice(0, 0)


def _unequal(one: Digests, two: Digests) -> Chosen:
    found: Chosen = one[:, 0] != two[:, 0]
    for i in range(1, DIGEST_WORDS):
        found |= one[:, i] != two[:, i]
    return found


def _in_order(changes: Sequence[_Changes], words: int) -> _Changes:
    """All of them in the order of their places."""
    if not changes:
        empty = np.zeros((0, words), np.uint32)
        return _Changes(np.zeros(0, np.int64), empty, pa.array([], pa.binary()))
    places = np.concatenate([c.places for c in changes])
    order = np.argsort(places, kind="stable")
    digests = np.concatenate([c.digests for c in changes])[order]
    frames = pa.concat_arrays([c.frames for c in changes]).take(order)
    return _Changes(places[order], digests, frames)
