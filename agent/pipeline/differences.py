# SPDX-License-Identifier: Apache-2.0
"""Where the centre's rows differ from the source's, found by digests (对账); pure.

Rules (wire.md §3, Reconcile)

1. Both sides add up the digests of their rows in each bucket of keys. Buckets of equal
   rows and equal sums are equal; only the others are looked into.
2. Of those the centre tells each key with the digest of its row. A row of the source
   whose key the centre has not is *missing*; one of another digest is *stale*; a key
   of the centre that the source has not is *extra*.
3. A row that quality withheld is at the source: its key is not extra, and which version
   the centre keeps of it is no difference (``k`` of wire.md §2).
4. Whether a missing or stale row is only *late*, which means that it changed after what
   was sent last, is for who knows the source to say. An extra key is late that stands
   in the digests of what was sent: the next increment deletes it, and forgets it.
5. Memory: the centre's keys of one group of buckets, and the keys that differ. Where
   these are too many, the rest is left for the next run, and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agent.crypto.frames import bucket, digest_text

DETAIL = 64
"""Most buckets whose keys the centre tells at once."""


@dataclass(frozen=True)
class Bounds:
    """How much is in memory at once.

    Args:
        ask_rows: rows of the centre to ask for at once, about: a reply stays far below
            4 MiB.
        group_rows: rows of the centre that are compared in one pass, about.
        most: keys that differ before the rest is left.
    """

    ask_rows: int = 4096
    group_rows: int = 262_144
    most: int = 500_000


USUAL = Bounds()

Key = bytes
"""Canonical key: the frames of its items."""


class Tally:
    """Rows and digests of the source by buckets.

    Args:
        bits: 0-16.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.counts = [0] * (1 << bits)
        self._sums = [0] * (1 << bits)
        self._withheld = [0] * (1 << bits)

    def withhold(self, keys: Iterable[Key]) -> None:
        """Count rows that quality withholds: they are at the source."""
        for key in keys:
            self._withheld[bucket(key, self.bits)] += 1

    def at_least(self, counts: Sequence[int]) -> int:
        """Keys of the centre that the source cannot have, whichever they are.

        Args:
            counts: rows of the centre by buckets.

        Raises:
            ValueError: they are of another number of bits.
        """
        met = zip(counts, self.counts, self._withheld, strict=True)
        return sum(max(0, theirs - mine - held) for theirs, mine, held in met)

    def add(self, keys: Iterable[Key], digests: Iterable[int]) -> None:
        """Count rows by their keys and digests."""
        for key, digest in zip(keys, digests, strict=True):
            number = bucket(key, self.bits)
            self.counts[number] += 1
            self._sums[number] += digest

    def differing(self, counts: Sequence[int], sums: Sequence[str]) -> list[int]:
        """Numbers of the buckets in which the centre holds something else.

        Args:
            counts: rows of the centre by buckets.
            sums: their digests, 32 hex digits each.

        Raises:
            ValueError: they are of another number of bits.
        """
        ours = zip(self.counts, self._sums, strict=True)
        theirs = zip(counts, sums, strict=True)
        return [
            number
            for number, (mine, other) in enumerate(zip(ours, theirs, strict=True))
            if (mine[0], digest_text(mine[1])) != other
        ]


def groups(
    buckets: Iterable[int], counts: Sequence[int], *, rows: int, most: int | None = None
) -> Iterator[tuple[int, ...]]:
    """Buckets in groups of at most so many rows of the centre, and one at least.

    Args:
        buckets: their numbers.
        counts: rows of the centre by buckets.
        rows: of a group.
        most: buckets of a group.
    """
    group: list[int] = []
    held = 0
    for number in buckets:
        full = held + counts[number] > rows or len(group) == most
        if group and full:
            yield tuple(group)
            group, held = [], 0
        group.append(number)
        held += counts[number]
    if group:
        yield tuple(group)


@dataclass
class Found:
    """Keys that differ, by how they do."""

    missing: set[Key] = field(default_factory=set)
    stale: set[Key] = field(default_factory=set)
    extra: set[Key] = field(default_factory=set)
    late: set[Key] = field(default_factory=set)
    withheld: int = 0

    @property
    def size(self) -> int:
        """How many there are."""
        return sum(map(len, (self.missing, self.stale, self.extra, self.late)))

    def are_late(self, keys: Iterable[Key]) -> None:
        """What is missing or stale of these is only late."""
        for key in keys:
            for among in (self.missing, self.stale):
                if key in among:
                    among.remove(key)
                    self.late.add(key)

    def will_go(self, keys: Iterable[Key]) -> None:
        """What is extra of these is late: who compares digests deletes it next."""
        gone = self.extra.intersection(keys)
        self.extra -= gone
        self.late |= gone


class Match:
    """The source's rows of some buckets against the centre's, in any order.

    Args:
        theirs: key -> digest of each row that the centre has in these buckets.
        found: takes what differs.
    """

    def __init__(self, theirs: dict[Key, int], found: Found) -> None:
        self._theirs = theirs
        self._found = found

    def sent(self, key: Key, digest: int) -> None:
        """A row of the source that would be sent."""
        other = self._theirs.pop(key, None)
        if other is None:
            self._found.missing.add(key)
        elif other != digest:
            self._found.stale.add(key)

    def withheld(self, key: Key) -> None:
        """A row of the source that quality withholds."""
        if self._theirs.pop(key, None) is not None:
            self._found.withheld += 1

    def end(self) -> None:
        """All rows of the source were met."""
        self._found.extra.update(self._theirs)
