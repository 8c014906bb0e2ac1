# SPDX-License-Identifier: Apache-2.0
"""Deleted rows, found by comparing the source's keys with the centre's by buckets.

Rules

1. A bucket is the first ``bits`` bits of SHA-256 of a canonical key (wire.md §3,
   Reconcile). The centre tells how many rows it has in each; the source's keys are
   counted, nothing but its key columns read.
2. A bucket in which the centre has more rows than the source holds a deleted key. One
   that holds a deleted and a new key has equal numbers; once the new one is loaded at
   the centre, the numbers differ.
3. Of the differing buckets the centre tells the keys, at most 64 buckets at a time. A
   key of the centre that the source has not is a delete.
4. The centre must be asked before the source's snapshot is taken: a row that was made
   in between would look deleted otherwise. Deletes are sealed before any increment
   that is read later: a key that was made again is an upsert then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

DETAIL = 64
"""Most buckets whose keys the centre tells at once."""

MOST_BITS = 16
AIM_ROWS = 64
"""Rows of a bucket to aim for: a detail is a few thousand keys."""


def bits_for(rows: int, *, most: int = MOST_BITS) -> int:
    """How many bits, ``most`` of them, give buckets of about :data:`AIM_ROWS` rows."""
    return min(max(rows // AIM_ROWS, 1).bit_length() - 1, most)


def bucket_of(key: bytes, bits: int) -> int:
    """The bucket of a canonical key."""
    return int.from_bytes(hashlib.sha256(key).digest()[:2], "big") >> (16 - bits)


class Tally:
    """The source's keys, counted by buckets.

    Args:
        bits: 0-16.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.counts = [0] * (1 << bits)

    def add(self, keys: Iterable[bytes]) -> None:
        """Count canonical keys, each of which comes once."""
        for key in keys:
            self.counts[bucket_of(key, self.bits)] += 1


@dataclass(frozen=True)
class Suspects:
    """Buckets in which the centre has more rows than the source.

    Args:
        buckets: their numbers, growing.
        at_least: deleted keys that there must be.
    """

    buckets: tuple[int, ...]
    at_least: int

    def asks(self) -> Iterator[tuple[int, ...]]:
        """The buckets in groups whose keys can be asked for at once."""
        for start in range(0, len(self.buckets), DETAIL):
            yield self.buckets[start : start + DETAIL]


def suspects(ours: Sequence[int], centre: Sequence[int]) -> Suspects:
    """Where deleted keys must be.

    Args:
        ours: keys of the source, by bucket.
        centre: rows of the centre, by bucket.

    Raises:
        ValueError: they are of different numbers of bits.
    """
    if len(ours) != len(centre):
        raise ValueError(f"{len(ours)} buckets here, {len(centre)} at the centre")
    more = [i for i, (a, b) in enumerate(zip(ours, centre, strict=True)) if b > a]
    return Suspects(tuple(more), sum(centre[i] - ours[i] for i in more))


def within(
    keys: Iterable[bytes], buckets: frozenset[int], bits: int
) -> Iterator[bytes]:
    """The keys of some buckets, of the same snapshot that was counted."""
    return (key for key in keys if bucket_of(key, bits) in buckets)


def deleted(ours: Iterable[bytes], centre: Iterable[bytes]) -> list[bytes]:
    """Keys of the centre that the source has not, in order.

    Args:
        ours: canonical keys of the source in the buckets that were asked for.
        centre: canonical keys of the centre in the same buckets.
    """
    return sorted(set(centre) - set(ours))
