# SPDX-License-Identifier: Apache-2.0
"""Fingerprints are equal exactly where canonical rows are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.item import Item, ItemType
from agent.pipeline.fingerprint import fingerprints
from agent.wire.arrow import type_of
from agent.wire.arrow_digest import _frames
from tests.support.tries import tries

LETTERS = "CMNYIDTLBFG"
ITEMS = tuple(
    Item(
        name=f"c{i}", type=ItemType(letter), length=12 if letter == "N" else 99,
        scale=2 if letter == "N" else None, key=False, share="1",
    )
    for i, letter in enumerate(LETTERS)
)  # fmt: skip
FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1e300])
BYTES = st.binary(max_size=20) | st.sampled_from([b"", b"\0", b"\0" * 8, b"\0" * 9])
TEXTS = BYTES.map(
    lambda b: "".join(chr(0x4E00 + x) for x in b[:9]) + "x" * (len(b) % 9)
)
DECIMALS = st.integers(-200, 200).map(lambda n: Decimal(n).scaleb(-2))
VALUES = {
    "C": TEXTS, "M": TEXTS, "N": DECIMALS, "Y": DECIMALS,
    "I": st.integers(-2, 2) | st.sampled_from([2**63 - 1, -(2**63)]),
    "D": st.dates(date(1, 1, 1), date(1, 1, 4)),
    "T": st.datetimes(datetime(1, 1, 1), datetime(1, 1, 2),  # noqa: DTZ001
                      timezones=st.just(UTC)),
    "L": st.booleans(), "B": FLOATS, "F": FLOATS, "G": BYTES,
}  # fmt: skip
ROWS = st.lists(st.tuples(*(st.none() | VALUES[x] for x in LETTERS)), max_size=12)


def columns_of(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [
        pa.array([row[i] for row in rows], type_of(item))
        for i, item in enumerate(ITEMS)
    ]


@tries(60)
@given(rows=ROWS, again=ROWS)
def test_two_rows_agree_exactly_if_their_frames_do(
    rows: list[tuple[Any, ...]], again: list[tuple[Any, ...]]
) -> None:
    """Among many rows with few values, fingerprints group rows as frames do."""
    both = [*rows, *again, *rows]
    columns = columns_of(both)
    names = [item.name for item in ITEMS]
    frames = _frames(pa.RecordBatch.from_arrays(columns, names=names), ITEMS)
    found = [bytes(row.tobytes()) for row in fingerprints(columns, len(both))]
    assert len(set(zip(frames, found, strict=True))) == len(set(frames))
    assert len(set(found)) == len(set(frames))


@tries(50)
@given(rows=ROWS, before=ROWS)
def test_slices_and_what_stands_under_null_do_not_matter(
    rows: list[tuple[Any, ...]], before: list[tuple[Any, ...]]
) -> None:
    """A row in the middle of larger arrays has the fingerprint that it has alone."""
    alone = fingerprints(columns_of(rows), len(rows))
    wide = columns_of([*before, *rows, *before])
    sliced = [c.slice(len(before), len(rows)) for c in wide]
    assert (fingerprints(sliced, len(rows)) == alone).all()
    mask = np.arange(len(rows)) % 2 == 0
    hidden = pa.array(np.arange(len(rows)), pa.int64(), mask=mask)
    plain = pa.array([None if m else i for i, m in enumerate(mask)], pa.int64())
    one, two = (fingerprints([c], len(rows)) for c in (hidden, plain))
    assert (one == two).all()


@pytest.mark.parametrize("longest", [9, 900, 90_000])
def test_a_long_text_among_short_ones_does_not_matter(longest: int) -> None:
    """Rows of very unequal length have the fingerprints that they have alone."""
    texts = ["x" * (i % 20) for i in range(300)]
    texts[7], texts[70] = "y" * longest, "y" * (longest // 2)
    column = pa.array([*texts, None], pa.string())
    together = fingerprints([column], len(column))
    alone = [fingerprints([column.slice(i, 1)], 1)[0] for i in range(len(column))]
    assert (together == np.array(alone)).all()


def test_the_salt_changes_everything() -> None:
    """Another salt gives other fingerprints: a clash of keys can be got rid of."""
    column = pa.array(range(1000), pa.int64())
    one, two = (fingerprints([column], 1000, salt) for salt in (1, 2))
    assert not (one == two).any()


def test_half_of_the_bits_differ_for_neighbours() -> None:
    """Keys in a row, and texts that differ by a bit, are spread over all values."""
    numbers = fingerprints([pa.array(range(4000), pa.int64())], 4000)
    texts = [bytes([i % 256, i // 256]) * 5 for i in range(4000)]
    words = fingerprints([pa.array(texts, pa.binary())], 4000)
    for found in (numbers, words):
        for lane in (0, 1):
            assert len(set(found[:, lane].tolist())) == 4000
            flips = np.bitwise_count(found[1:, lane] ^ found[:-1, lane])
            assert 31 < flips.mean() < 33


def test_the_fingerprint_of_a_row_is_pinned() -> None:
    """``mix-2`` never changes: states of an older agent stay comparable."""
    at = datetime(2026, 11, 21, 8, tzinfo=UTC)
    numbers = (Decimal("1.10"), Decimal("-0.5"), 7, date(1990, 3, 7), at)
    row = ("张三", "", *numbers, True, 0.1, None, b"\x00\xff")
    found = fingerprints(columns_of([row]), 1)
    assert found.tobytes().hex() == "1680dc5f082691167948512af0273479"
