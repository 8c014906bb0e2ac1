# SPDX-License-Identifier: Apache-2.0
"""A diff with rows that their source digests: which of them have to be read at all.

Rules

1. A row's tag (connectors.tags) stands in the state beside the digest that we made of
   it. A row whose key and tag are known is as it was sent; any other is read, digested
   by us, and only then new, changed or the same. So a tag never says that a row
   changed, and what another rendering in the source makes of it is no change.
2. A version that was not sent as it stands, because quality withheld it, has no tag
   (:data:`NO_TAG`): it is read and judged again with every run. So is a row without a
   good key, and every row of a key that came twice.
3. Each row that was to be read has to come; one that does not is :class:`NotGiven`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import pyarrow as pa

from agent.pipeline.diff_keys import Keys
from agent.pipeline.diff_state import (
    DIGEST_WORDS,
    Chosen,
    Digests,
    Hashes,
    KeyClash,
    Known,
    Places,
)

TAG_WORDS = 2

NO_TAG = 0
"""Stands for no tag; a row that has it by chance is read with every run."""


class NotGiven(Exception):
    """The source did not give a row that it had just now, or gave another."""


def with_tags(digests: Digests, tags: Any, sent: Chosen) -> Digests:
    """Our digests with the source's beside them.

    Args:
        digests: ours.
        tags: an ``int64`` array of pyarrow.
        sent: which rows are sent as they are; the others get no tag.
    """
    numbers = np.array(tags.to_numpy(zero_copy_only=False), np.int64)
    numbers[~sent] = NO_TAG
    words = numbers.view("<u4").reshape(-1, TAG_WORDS)
    return np.hstack([digests, words])


class Meeting:
    """All keys of a source with their tags, beside a state; then the rows asked for.

    Args:
        old: the state, with tags of the same making.
        keys: how keys stand in it.
        salt: of the state.
    """

    def __init__(self, old: Known, keys: Keys, salt: bytes) -> None:
        self._old, self._keys, self._salt = old, keys, salt
        self._found: list[Hashes] = []
        self._awaited: Hashes = np.zeros(0, np.uint64)
        self._came: Chosen = np.zeros(0, np.bool_)

    def differing(self, keys: pa.RecordBatch, tags: Any, good: Chosen) -> Chosen:
        """Which of these rows have to be read.

        Args:
            keys: the key items in wire types.
            tags: one a row.
            good: which of the keys have a meaning.
        """
        if good.all():
            found = self._of(keys, tags)
        else:
            found = np.ones(len(good), np.bool_)
            mask = pa.array(good)
            found[good] = self._of(keys.filter(mask), tags.filter(mask))
        self._old.give_back()
        return found

    def _of(self, keys: pa.RecordBatch, tags: Any) -> Chosen:
        hashes = self._keys.hashes(keys, self._salt)
        numbers = tags.to_numpy(zero_copy_only=False)
        order = None
        if not (hashes[1:] > hashes[:-1]).all():
            order = np.argsort(hashes, kind="stable")
            hashes, numbers = hashes[order], numbers[order]
        found = self._sorted(hashes, numbers)
        if found.any():
            self._found.append(hashes[found])
        if order is None:
            return found
        given = np.empty_like(found)
        given[order] = found
        return given

    def _sorted(self, hashes: Hashes, numbers: Any) -> Chosen:
        old = self._old
        places, known = old.look(hashes)
        here = places if known.all() else places[known]
        same = np.zeros(len(hashes), np.bool_)
        tags = np.ascontiguousarray(old.digests[here, DIGEST_WORDS:]).view("<i8")[:, 0]
        same[known] = (tags == numbers[known]) & (tags != NO_TAG) & ~old.seen[here]
        twice = hashes[1:] == hashes[:-1]
        same[1:] &= ~twice
        same[:-1] &= ~twice
        old.seen[here] = True
        found: Chosen = ~same
        return found

    def over(self) -> None:
        """All keys came; from now on rows do."""
        found, self._found = self._found, []
        if found:
            self._awaited = np.unique(np.concatenate(found))
        self._came = np.zeros(len(self._awaited), np.bool_)

    def came(self, hashes: Hashes) -> None:
        """These rows did.

        Args:
            hashes: of their keys, growing.

        Raises:
            KeyClash: one came before.
            NotGiven: one was not asked for.
        """
        places = np.searchsorted(self._awaited, hashes)
        places = np.minimum(places, len(self._awaited) - 1)
        if not len(self._awaited) or (self._awaited[places] != hashes).any():
            raise NotGiven("the source gave a row that was not asked for")
        if self._came[places].any():
            raise KeyClash("a key came twice, or two have one digest")
        self._came[places] = True

    def check(self, silent: int) -> None:
        """All rows that were asked for came.

        Args:
            silent: source rows that came and of which quality left nothing.

        Raises:
            NotGiven: they did not.
        """
        missing = int((~self._came).sum())
        if missing > silent:
            raise NotGiven(f"the source did not give {missing} rows that it has")


class Renewals:
    """Other digests for entries of an old state, in a file: as many as there are.

    Args:
        file: makes an empty file without a name.
        rows: of the old state.
        words: of a digest, with its tag.
    """

    def __init__(self, file: Callable[[], IO[bytes]], rows: int, words: int) -> None:
        self._make, self._shape = file, (rows, words)
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self._digests: Digests = np.zeros((0, words), np.uint32)
        self._there: Chosen = np.zeros(rows, np.bool_)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self._file is not None

    def put(self, places: Places, digests: Digests) -> None:
        """Take digests for some places, each of which is given once.

        Raises:
            OSError: the disk has no room.
        """
        if not len(places):
            return
        if self._map is None:
            self._map = self._opened()
        self._digests[places] = digests
        self._there[places] = True
        self._map.madvise(mmap.MADV_DONTNEED)

    def _opened(self) -> mmap.mmap:
        """The file, mapped; its room is taken at once, for a map cannot be refused."""
        rows, words = self._shape
        self._file = self._make()
        os.posix_fallocate(self._file.fileno(), 0, 4 * rows * words)
        found = mmap.mmap(self._file.fileno(), 4 * rows * words)
        flat = np.frombuffer(found, "<u4", rows * words)
        self._digests = flat.reshape(rows, words)
        return found

    def into(self, digests: Digests, place: int) -> None:
        """Put them among the digests of a block that begins at a place."""
        if self._map is None:
            return
        end = place + len(digests)
        there = self._there[place:end]
        digests[there] = self._digests[place:end][there]
        self._map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Give the file up."""
        if self._file is not None:
            self._file.close()
