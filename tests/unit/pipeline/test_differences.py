# SPDX-License-Identifier: Apache-2.0
"""Whatever differs is found, by how it differs, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.frames import bucket, digest_text
from agent.pipeline.differences import Found, Match, Tally, groups
from tests.support.tries import tries

ROWS = st.dictionaries(st.integers(0, 30).map(lambda n: bytes([n])), st.integers(0, 3))
"""Few keys, so that both sides often have the same ones."""


def told(rows: dict[bytes, int], bits: int) -> tuple[list[int], list[str]]:
    """What the centre says of its buckets."""
    counts, sums = [0] * (1 << bits), [0] * (1 << bits)
    for key, digest in rows.items():
        counts[bucket(key, bits)] += 1
        sums[bucket(key, bits)] += digest
    return counts, [digest_text(total) for total in sums]


def compared(
    source: dict[bytes, int], withheld: set[bytes], centre: dict[bytes, int], bits: int
) -> Found:
    """One comparison as a worker does it, in passes of few rows."""
    tally, found = Tally(bits), Found()
    tally.add(source, source.values())
    counts, sums = told(centre, bits)
    differing = tally.differing(counts, sums)
    for group in groups(differing, counts, rows=5, most=3):
        chosen = frozenset(group)
        match = Match({k: d for k, d in centre.items() if bucket(k, bits) in chosen},
                      found)  # fmt: skip
        for key, digest in source.items():
            if bucket(key, bits) in chosen:
                match.sent(key, digest)
        for key in withheld:
            if bucket(key, bits) in chosen:
                match.withheld(key)
        match.end()
    return found


@tries(400)
@given(source=ROWS, centre=ROWS, bits=st.integers(0, 6), data=st.data())
def test_every_difference_is_found_and_named(
    source: dict[bytes, int], centre: dict[bytes, int], bits: int, data: st.DataObject
) -> None:
    """Missing, stale and extra are exactly those; a withheld row is none of them."""
    withheld = data.draw(st.sets(st.sampled_from(sorted(source)))) if source else set()
    sent = {k: d for k, d in source.items() if k not in withheld}
    found = compared(sent, withheld, centre, bits)
    # Sums of digests may agree by accident where they are as small as here.
    same = {
        b for b in range(1 << bits) if _sums(sent, b, bits) == _sums(centre, b, bits)
    }
    looked = {k for k in source.keys() | centre.keys() if bucket(k, bits) not in same}
    assert found.missing == (sent.keys() - centre.keys()) & looked
    both = {k for k in sent.keys() & centre.keys() if sent[k] != centre[k]}
    assert found.stale == both & looked
    assert found.extra == (centre.keys() - source.keys()) & looked
    assert found.withheld == len(withheld & centre.keys() & looked)
    assert not found.late


def _sums(rows: dict[bytes, int], number: int, bits: int) -> tuple[int, int]:
    inside = [d for k, d in rows.items() if bucket(k, bits) == number]
    return len(inside), sum(inside)


def test_equal_rows_ask_nothing() -> None:
    """No bucket differs, whatever the order."""
    rows = {bytes([n]): n for n in range(200)}
    tally = Tally(4)
    tally.add(reversed(rows), reversed(rows.values()))
    assert tally.differing(*told(rows, 4)) == []


def test_two_rows_that_exchanged_their_values_differ() -> None:
    """Of one bucket with equal counts: the digest holds the key, too."""
    tally = Tally(0)
    tally.add([b"a", b"b"], [1, 2])
    assert tally.differing(*told({b"a": 1, b"b": 3}, 0)) == [0]


def test_another_number_of_bits_is_an_error() -> None:
    """Buckets that do not belong together are never compared."""
    with pytest.raises(ValueError, match="zip"):
        Tally(2).differing([0] * 8, ["0" * 32] * 8)


def test_groups_are_bounded_by_rows_and_by_number() -> None:
    """A bucket above the bound is asked for alone; none is left out."""
    counts = [3, 3, 9, 1, 1, 1, 1]
    found = list(groups(range(7), counts, rows=6, most=3))
    assert found == [(0, 1), (2,), (3, 4, 5), (6,)]
    assert list(groups([], counts, rows=6)) == []


def test_what_changed_since_is_late_and_not_wrong() -> None:
    """A key that nobody missed is no news."""
    found = Found(missing={b"a", b"b"}, stale={b"c"}, extra={b"d"})
    found.are_late([b"a", b"c", b"d", b"z"])
    assert (found.missing, found.stale, found.extra) == ({b"b"}, set(), {b"d"})
    assert (found.late, found.size) == ({b"a", b"c"}, 4)
