# SPDX-License-Identifier: Apache-2.0
"""Deletes are found by buckets, all of them and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.deletes import (
    DETAIL,
    Tally,
    bits_for,
    bucket_of,
    deleted,
    suspects,
    within,
)
from tests.support.tries import tries


def counted(keys: Sequence[bytes], bits: int) -> list[int]:
    tally = Tally(bits)
    tally.add(keys)
    return tally.counts


@pytest.mark.parametrize("bits", [0, 1, 7, 16])
def test_a_bucket_is_the_first_bits_of_the_digest(bits: int) -> None:
    """As wire.md says: the first bits of SHA-256 of the canonical key."""
    whole = int.from_bytes(hashlib.sha256(b"key").digest(), "big")
    assert bucket_of(b"key", bits) == whole >> (256 - bits)


@pytest.mark.parametrize(
    ("rows", "bits"), [(0, 0), (127, 0), (128, 1), (5_000_000, 16), (10**9, 16)]
)
def test_buckets_are_small_but_not_too_many(rows: int, bits: int) -> None:
    """A bucket has about 64 rows, until there are 65,536 buckets."""
    assert bits_for(rows) == bits


KEYS = st.sets(st.binary(min_size=1, max_size=3), max_size=200)


@tries(200)
@given(both=KEYS, gone=KEYS, bits=st.integers(0, 10))
def test_every_deleted_key_is_found(
    both: set[bytes], gone: set[bytes], bits: int
) -> None:
    """Without new keys, the suspected buckets hold all deletes, and only they are."""
    centre = sorted(both | gone)
    ours = sorted(both)
    found = suspects(counted(ours, bits), counted(centre, bits))
    chosen = frozenset(found.buckets)
    keys = deleted(within(ours, chosen, bits), within(centre, chosen, bits))
    assert keys == sorted(gone - both)
    assert found.at_least == len(keys)


@tries(100)
@given(both=KEYS, gone=KEYS, new=KEYS, bits=st.integers(0, 10))
def test_no_key_that_is_there_is_deleted(
    both: set[bytes], gone: set[bytes], new: set[bytes], bits: int
) -> None:
    """Keys that the centre has not yet hide a delete at most for a while."""
    ours, centre = both | new, both | gone
    found = suspects(counted(sorted(ours), bits), counted(sorted(centre), bits))
    chosen = frozenset(found.buckets)
    keys = deleted(within(ours, chosen, bits), within(centre, chosen, bits))
    assert set(keys) <= centre - ours
    loaded = centre | new
    later = suspects(counted(sorted(ours), bits), counted(sorted(loaded), bits))
    chosen = frozenset(later.buckets)
    keys = deleted(within(ours, chosen, bits), within(loaded, chosen, bits))
    assert set(keys) == loaded - ours


def test_details_are_asked_for_in_groups() -> None:
    """The centre tells the keys of at most 64 buckets at once."""
    found = suspects([0] * 256, [1] * 256)
    groups = list(found.asks())
    assert [len(g) for g in groups] == [DETAIL] * 4
    assert [b for g in groups for b in g] == list(range(256))


def test_answers_of_another_width_are_refused() -> None:
    """Numbers of buckets that differ cannot be compared."""
    with pytest.raises(ValueError, match="buckets"):
        suspects([0, 0], [0])
