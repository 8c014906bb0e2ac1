# SPDX-License-Identifier: Apache-2.0
"""The diff finds exactly what changed, from any order, and survives every end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.item import Item, ItemType
from agent.pipeline.diff import (
    CANONS,
    USUAL,
    Counts,
    Diff,
    Methods,
    by_fingerprint,
)
from agent.pipeline.diff_keys import DigestedKeys, keys_of
from agent.pipeline.diff_state import HEAD, Digests, Hashes, KeyClash, StateUnfit
from agent.wire.arrow import schema_of
from tests.support.tries import tries

SALT = bytes(8)
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def item(name: str, letter: str, *, key: bool = False, **sizes: Any) -> Item:
    given = {"length": None, "scale": None, **sizes}
    return Item(name=name, type=ItemType(letter), key=key, share="1", **given)


ITEMS = (item("id", "I", key=True), item("note", "C", length=20))
PAIR = (
    item("code", "C", key=True, length=20),
    item("n", "N", key=True, length=12, scale=2),
    item("day", "D", key=True),
    item("at", "T", key=True),
    item("y", "Y", key=True),
    item("note", "C", length=20),
)


def batch(
    rows: Sequence[tuple[Any, ...]], items: Sequence[Item] = ITEMS, op: str = "u"
) -> pa.RecordBatch:
    schema = schema_of(items)
    columns = [[op] * len(rows), *(list(c) for c in zip(*rows, strict=True))]
    if not rows:
        columns = [[] for _ in schema]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def rows_of(batches: Sequence[pa.RecordBatch]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for b in batches for row in b.to_pylist()]


class Stream:
    """A state in a folder, and runs of it."""

    def __init__(self, folder: Path, items: Sequence[Item] = ITEMS) -> None:
        self.folder, self.items = folder, items
        self.state = folder / "state"

    def run(
        self,
        *batches: pa.RecordBatch,
        done: bool = True,
        methods: Methods = USUAL,
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], Counts]:
        """Upserts, deleted keys and counts; ``done`` puts the new state in place."""
        with Diff(self.items, old=self.state, folder=self.folder, salt=SALT,
                  methods=methods) as one:  # fmt: skip
            upserts = rows_of([one.changes(b) for b in batches])
            deletes = rows_of(list(one.deletes()))
            fresh = self.folder / "fresh"
            counts = one.finish(fresh)
        if done:
            fresh.replace(self.state)
        return [r[1:] for r in upserts], deletes, counts


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


def test_the_first_run_gives_everything(stream: Stream) -> None:
    """Without a state every row is new."""
    upserts, deletes, counts = stream.run(batch([(1, "a"), (2, None)]))
    assert (upserts, deletes) == ([(1, "a"), (2, None)], [])
    assert counts == Counts(new=2, changed=0, same=0, gone=0)


def test_only_what_changed_is_given(stream: Stream) -> None:
    """The next run gives new and changed rows, and the keys that are gone."""
    stream.run(batch([(1, "a"), (2, "b"), (3, "c"), (4, None)]))
    upserts, deletes, counts = stream.run(
        batch([(4, ""), (2, "b")]), batch([(5, "e"), (1, "x")])
    )
    assert upserts == [(4, ""), (5, "e"), (1, "x")]
    assert deletes == [("d", 3, None)]
    assert counts == Counts(new=1, changed=2, same=1, gone=1)
    assert stream.run(batch([(1, "x"), (2, "b"), (4, ""), (5, "e")]))[2].same == 4


def test_a_run_that_was_not_registered_is_compared_again(stream: Stream) -> None:
    """Without a switch the old state stands: the next run finds the same changes."""
    stream.run(batch([(1, "a")]))
    first = stream.run(batch([(1, "b"), (2, "c")]), done=False)
    assert stream.run(batch([(1, "b"), (2, "c")])) == first


def test_a_withheld_row_is_neither_deleted_nor_sent(stream: Stream) -> None:
    """A ``k`` row keeps the version that was sent; mended, it is compared with that."""
    stream.run(batch([(1, "a"), (2, "b")]))
    kept = stream.run(batch([(1, None)], op="k"), batch([(2, "b")]))
    assert kept == ([], [], Counts(new=0, changed=0, same=2, gone=0))
    assert stream.run(batch([(1, "a"), (2, "b")]))[0] == []
    stream.run(batch([(1, None)], op="k"), batch([(2, "b")]))
    assert stream.run(batch([(1, "mended"), (2, "b")]))[0] == [(1, "mended")]


def test_a_withheld_row_that_was_never_sent_is_new_when_it_is_mended(
    stream: Stream,
) -> None:
    """A ``k`` row of an unknown key leaves nothing in the state."""
    stream.run(batch([(1, "a")]), batch([(9, None)], op="k"))
    assert stream.run(batch([(1, "a"), (9, "ok")]))[0] == [(9, "ok")]


def test_keys_of_every_type_come_back_when_they_are_deleted(tmp_path: Path) -> None:
    """The key of a deleted row is told with the values that it had."""
    stream = Stream(tmp_path, PAIR)
    instant = datetime(1969, 12, 31, 23, 59, 59, 123456, UTC)
    key = ("李四 ", Decimal("-0.50"), date(1, 1, 1), instant, Decimal("0.0001"))
    stream.run(batch([(*key, "x")], PAIR))
    (deleted,) = stream.run(batch([], PAIR))[1]
    assert deleted == ("d", *key, None)


def test_a_key_that_comes_twice_is_noticed(stream: Stream) -> None:
    """Twice in a piece, in two pieces, or twice where it was known: a clash."""
    for first in ([], [(1, "a")]):
        stream.run(batch(first))
        with pytest.raises(KeyClash):
            stream.run(batch([(1, "a"), (1, "b")]))
        with pytest.raises(KeyClash):
            stream.run(batch([(1, "a")]), batch([(1, "b")]))


class Few(DigestedKeys):
    """Digests of keys that clash often."""

    def hashes(self, rows: pa.RecordBatch, salt: bytes) -> Hashes:
        return super().hashes(rows, salt) % np.uint64(8)


def test_two_keys_with_one_digest_are_noticed(stream: Stream) -> None:
    """A new key under the digest of a deleted one ends the run: no delete is lost."""
    stream.run(batch([(1, "a")]), methods=Methods(keys=Few))
    clashes = 0
    for i in range(2, 40):
        try:
            stream.run(batch([(i, "a")]), done=False, methods=Methods(keys=Few))
        except KeyClash:
            clashes += 1
    assert 0 < clashes < 38


def shuffled(rows: Sequence[tuple[Any, ...]], seed: int, size: int) -> Any:
    """Pieces of the rows in any order; seed 0 is the order of the keys."""
    order = np.random.default_rng(seed).permutation(len(rows))
    if seed == 0:
        order = np.argsort([row[0] for row in rows])
    mixed = [rows[i] for i in order]
    return [batch(mixed[i : i + size]) for i in range(0, len(mixed), size)]


TABLE = st.dictionaries(
    st.integers(-(2**63), 2**63 - 1), st.none() | st.text(max_size=5), max_size=60
)


@tries(100)
@given(
    tables=st.lists(TABLE, min_size=1, max_size=4),
    seed=st.integers(0, 9),
    sizes=st.sampled_from([(3, 4), (10, 2), (1000, 1000)]),
    keys=st.sampled_from([keys_of, DigestedKeys]),
)
def test_any_history_is_followed(
    tables: list[dict[int, str | None]], seed: int, sizes: tuple[int, int], keys: Any
) -> None:
    """Upserts and deletes, applied to the last table, always make the next one.

    Whatever order rows come in, and however few keys fit into memory.
    """
    with TemporaryDirectory(dir=SHM) as folder:
        small = Methods(keys=keys, spill_rows=sizes[0], range_rows=sizes[1])
        follow(Stream(Path(folder)), tables, seed, small)


def follow(
    stream: Stream,
    tables: list[dict[int, str | None]],
    seed: int,
    small: Methods,
) -> None:
    copy: dict[int, str | None] = {}
    for table in tables:
        clean = {k: v and v.replace("\0", "") for k, v in table.items()}
        upserts, deletes, counts = stream.run(
            *shuffled(list(clean.items()), seed, 7), methods=small
        )
        assert all(copy.get(k, "\0") != v for k, v in upserts)
        assert all(k in copy for _, k, _ in deletes)
        copy.update(upserts)
        for _, k, _ in deletes:
            del copy[k]
        assert copy == clean
        assert counts.new + counts.changed == len(upserts)
        assert counts.gone == len(deletes)


def renamed(rows: pa.RecordBatch, items: Sequence[Item]) -> Digests:
    """Another canonicaliser: every digest is different."""
    found: Digests = by_fingerprint(rows, items) ^ 255
    return found


def test_a_new_canonicaliser_is_no_change_and_hides_none(stream: Stream) -> None:
    """A new canonicaliser's digests replace the old silently; changes are told."""
    stream.run(batch([(1, "a"), (2, "b"), (3, "c")]))
    both = Methods(canons={**CANONS, "next": renamed}, canon="next")
    found = stream.run(batch([(1, "a"), (2, "B"), (4, "d")]), methods=both)
    assert found == ([(2, "B"), (4, "d")], [("d", 3, None)], Counts(1, 1, 1, 1))
    same = Methods(canons={"next": renamed}, canon="next")
    found = stream.run(batch([(1, "a"), (2, "B"), (4, "d")]), methods=same)
    assert found == ([], [], Counts(0, 0, 3, 0))


def test_an_unknown_canonicaliser_is_unfit(stream: Stream) -> None:
    """A state whose digests nobody can make any more is not compared with."""
    stream.run(batch([(1, "a")]), methods=Methods(canons={"odd": renamed}, canon="odd"))
    with pytest.raises(StateUnfit):
        stream.run(batch([(1, "a")]))


def test_a_state_of_another_catalog_is_unfit(stream: Stream) -> None:
    """Other items make other digests: read in full."""
    stream.run(batch([(1, "a")]))
    stream.items = (ITEMS[0], item("note", "C", length=21))
    with pytest.raises(StateUnfit):
        stream.run(batch([(1, "a")], stream.items))


@pytest.mark.parametrize("part", ["flip", "cut", "empty", "longer"])
def test_a_damaged_state_is_unfit(stream: Stream, part: str) -> None:
    """Any flipped byte, a cut file or foreign bytes are noticed."""
    stream.run(batch([(i, "x" * i) for i in range(20)]))
    good = stream.state.read_bytes()
    used = [*range(60), *range(HEAD, len(good), 7)]
    damaged = {
        "flip": [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in used],
        "cut": [good[:i] for i in range(0, len(good), 97)],
        "empty": [b"", b"\0" * len(good)],
        "longer": [good + b"x"],
    }
    for data in damaged[part]:
        stream.state.write_bytes(data)
        with pytest.raises(StateUnfit):
            stream.run(batch([(1, "x")]))


def test_a_full_disk_leaves_no_half_state(stream: Stream) -> None:
    """Nothing is left of a state that cannot be written, and the old one stands."""
    stream.run(batch([(1, "a")]))
    before = stream.state.read_bytes()
    with Diff(ITEMS, old=stream.state, folder=stream.folder, salt=SALT) as one:
        one.changes(batch([(2, "b")]))
        with pytest.raises(FileNotFoundError):
            one.finish(stream.folder / "absent" / "fresh")
    assert stream.state.read_bytes() == before
    assert [p.name for p in stream.folder.iterdir()] == ["state"]


def test_what_a_killed_run_left_is_in_nobodys_way(stream: Stream) -> None:
    """Half a new state, left by a kill, is written over; only we may read states."""
    stream.run(batch([(1, "a")]))
    (stream.folder / "fresh").write_bytes(b"half")
    assert stream.run(batch([(2, "b")]))[2] == Counts(1, 0, 0, 1)
    assert stream.state.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("keys", "most"), [(keys_of, 20.1), (DigestedKeys, 30)])
def test_the_state_is_small(stream: Stream, keys: Any, most: float) -> None:
    """A state of integer keys has 20 bytes a row; keys with digests at most 30."""
    rows = batch([(i, "x") for i in range(20_000)])
    stream.run(rows, methods=Methods(keys=keys))
    assert (stream.state.stat().st_size - HEAD) / 20_000 < most


def test_a_run_without_changes_writes_no_state_anew(stream: Stream) -> None:
    """Nothing new, changed or gone: the same file gets a second name."""
    stream.run(batch([(1, "a")]))
    stream.run(batch([(1, "a")]), done=False)
    assert (stream.folder / "fresh").samefile(stream.state)
