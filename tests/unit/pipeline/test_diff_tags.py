# SPDX-License-Identifier: Apache-2.0
"""A diff with tags reads what differs, sends what changed, and forgets no row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.item import Item, ItemType
from agent.pipeline.diff import CANONS, USUAL, Counts, Diff, Methods, by_fingerprint
from agent.pipeline.diff_state import KeyClash, Known
from agent.pipeline.diff_tags import NO_TAG, NotGiven
from agent.wire.arrow import schema_of
from tests.support.tries import tries

WHOLE = (
    Item("id", ItemType.I, None, None, True, "1"),
    Item("note", ItemType.C, 20, None, False, "1"),
)
TEXT = (Item("id", ItemType.C, 20, None, True, "1"), WHOLE[1])

Table = Mapping[int, str]
"""Key -> what stands there; ``k…`` is withheld by quality."""


class Stream:
    """A table of a source, its state, and runs over it."""

    def __init__(self, folder: Path, items: Sequence[Item] = WHOLE) -> None:
        self.folder, self.items, self.state = folder, items, folder / "state"
        self.asked: list[int] = []
        self.tagging: str | None = "a"
        self.methods = USUAL

    def key(self, number: int) -> Any:
        return number if self.items is WHOLE else str(number)

    def rows(self, table: Table, keys: Sequence[int]) -> pa.RecordBatch:
        ops = ["k" if table[k].startswith("k") else "u" for k in keys]
        notes = [
            table[k] if op == "u" else None for k, op in zip(keys, ops, strict=True)
        ]
        columns = [ops, [self.key(k) for k in keys], notes]
        schema = schema_of(self.items)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def tags(self, table: Table, keys: Sequence[int]) -> Any:
        return pa.array([tag(f"{k} {table[k]}") for k in keys], pa.int64())

    def run(self, table: Table, size: int = 3) -> tuple[set[int], set[int], Counts]:
        """Upserts and deletes; ``asked`` are the rows that were read for it."""
        keys = sorted(table)
        pieces = [keys[i : i + size] for i in range(0, len(keys), size)]
        with Diff(self.items, old=self.state, folder=self.folder, salt=bytes(8),
                  methods=self.methods, tagging=self.tagging) as one:  # fmt: skip
            meeting = one.meeting()
            self.asked = keys
            if meeting is not None:
                self.asked = []
                for some in pieces:
                    only = self.rows(table, some).select(["id"])
                    good = np.ones(len(some), np.bool_)
                    differ = meeting.differing(only, self.tags(table, some), good)
                    self.asked += [k for k, d in zip(some, differ, strict=True) if d]
                meeting.over()
            sent: list[int] = []
            for some in [
                self.asked[i : i + size] for i in range(0, len(self.asked), size)
            ]:
                tags = None if self.tagging is None else self.tags(table, some)
                left = one.changes(self.rows(table, some), tags)
                sent += [int(k) for k in left.column("id").to_pylist()]
            if meeting is not None:
                meeting.check(0)
            gone = [int(k) for b in one.deletes() for k in b.column("id").to_pylist()]
            counts = one.finish(self.folder / "fresh")
        (self.folder / "fresh").replace(self.state)
        return set(sent), set(gone), counts


def tag(text: str) -> int:
    """What a source makes of a row; never :data:`NO_TAG`."""
    return hash(text) % (2**63 - 1) + 1


@pytest.fixture(params=[WHOLE, TEXT], ids=["number", "text"])
def stream(tmp_path: Path, request: pytest.FixtureRequest) -> Stream:
    return Stream(tmp_path, request.param)


TEN = {i: f"v{i}" for i in range(10)}


def test_only_rows_whose_tag_differs_are_read(stream: Stream) -> None:
    """Changed and new ones; keys that are gone are found without reading a row."""
    stream.run(TEN)
    assert stream.asked == list(range(10))
    table = {**TEN, 3: "changed", 12: "new"}
    del table[5]
    assert stream.run(table)[:2] == ({3, 12}, {5})
    assert stream.asked == [3, 12]
    assert stream.run(table)[:2] == (set(), set())
    assert stream.asked == []


def test_a_run_without_changes_keeps_the_file(stream: Stream) -> None:
    """Nothing is written anew."""
    stream.run(TEN)
    before = stream.state.stat().st_ino
    stream.run(TEN)
    assert stream.state.stat().st_ino == before


def test_another_rendering_of_a_row_is_no_change(stream: Stream) -> None:
    """The source wrote a value otherwise: it is read once, not sent, and known then."""
    stream.run(TEN)
    usual = stream.tags
    stream.tags = lambda t, ks: pa.array(  # type: ignore[method-assign]
        [v + (k == 4) for k, v in zip(ks, usual(t, ks).to_pylist(), strict=True)]
    )
    assert stream.run(TEN)[:2] == (set(), set())
    assert stream.asked == [4]
    assert stream.run(TEN)[:2] == (set(), set())
    assert stream.asked == []


def test_a_withheld_row_is_judged_again_with_every_run(stream: Stream) -> None:
    """It is neither sent nor deleted, and leaves as soon as it is mended."""
    stream.run({**TEN, 20: "keep"})
    bad = {**TEN, 3: "keep", 20: "keep"}
    for _ in range(3):
        assert stream.run(bad)[:2] == (set(), set())
        assert stream.asked == [3, 20]
    assert stream.run({**TEN, 20: "good"})[:2] == ({20}, set())
    assert stream.asked == [3, 20]
    assert stream.run({**TEN, 20: "good"})[:2] == (set(), set())
    assert stream.asked == []


def test_a_row_that_was_mended_otherwise_than_it_was_sent_leaves(
    stream: Stream,
) -> None:
    """What is compared with is the version that was sent last."""
    stream.run(TEN)
    stream.run({**TEN, 3: "keep"})
    assert stream.run({**TEN, 3: "mended"})[:2] == ({3}, set())


@pytest.mark.parametrize("before", [None, "a"])
@pytest.mark.parametrize("after", [None, "b"])
def test_another_way_of_tagging_reads_all_rows_and_sends_what_changed(
    stream: Stream, before: str | None, after: str | None
) -> None:
    """A server was upgraded: no change is missed, and none is made up."""
    stream.tagging = before
    stream.run({**TEN, 7: "keep"})
    stream.tagging = after
    table = {**TEN, 3: "changed", 11: "new"}
    del table[5]
    assert stream.run(table)[:2] == ({3, 7, 11}, {5})
    assert len(stream.asked) == 10
    assert stream.run(table)[:2] == (set(), set())
    assert stream.asked == ([] if after else sorted(table))


def test_another_canonicaliser_reads_all_rows(stream: Stream) -> None:
    """Digests of ours are made anew with the tags; nothing is sent for it."""
    stream.run(TEN)
    other = {**CANONS, "other": lambda r, i: by_fingerprint(r, i) ^ np.uint32(1)}
    stream.methods = Methods(canons=other, canon="other")
    assert stream.run({**TEN, 2: "changed"})[:2] == ({2}, set())
    assert len(stream.asked) == 10
    assert stream.run({**TEN, 2: "changed"})[:2] == (set(), set())
    assert stream.asked == []


def test_a_row_that_does_not_come_ends_the_run(stream: Stream) -> None:
    """It was there a moment ago, in the same snapshot: something is wrong."""
    stream.run(TEN)
    with Diff(stream.items, old=stream.state, folder=stream.folder, salt=bytes(8),
              tagging="a") as one:  # fmt: skip
        meeting = met(stream, one, {**TEN, 3: "changed"})
        meeting.over()
        meeting.check(1)  # it came, and quality left nothing of it
        with pytest.raises(NotGiven, match="1 rows"):
            meeting.check(0)


def test_a_row_that_was_not_asked_for_ends_the_run(stream: Stream) -> None:
    """A read by keys that gives other keys is not believed."""
    stream.run(TEN)
    table = {**TEN, 3: "changed"}
    with Diff(stream.items, old=stream.state, folder=stream.folder, salt=bytes(8),
              tagging="a") as one:  # fmt: skip
        met(stream, one, table).over()
        with pytest.raises(NotGiven, match="not asked"):
            one.changes(stream.rows(table, [4]), stream.tags(table, [4]))
        one.changes(stream.rows(table, [3]), stream.tags(table, [3]))
        with pytest.raises(KeyClash):
            one.changes(stream.rows(table, [3]), stream.tags(table, [3]))


def met(stream: Stream, one: Diff, table: Table, good: Any = None) -> Any:
    meeting = one.meeting()
    assert meeting is not None
    keys = sorted(table)
    only = stream.rows(table, keys).select(["id"])
    usual = np.ones(len(keys), np.bool_) if good is None else good
    meeting.differing(only, stream.tags(table, keys), usual)
    return meeting


def test_all_rows_can_be_read_after_all(stream: Stream) -> None:
    """Too many differ: what was met by its tag is met again by its row."""
    stream.run(TEN)
    table = {**TEN, 3: "changed"}
    del table[5]
    with Diff(stream.items, old=stream.state, folder=stream.folder, salt=bytes(8),
              tagging="a") as one:  # fmt: skip
        met(stream, one, table)
        one.forget()
        keys = sorted(table)
        left = one.changes(stream.rows(table, keys), stream.tags(table, keys))
        assert left.num_rows == 1
        assert one.gone() == 1


def test_keys_without_meaning_and_keys_that_come_twice_are_read(
    stream: Stream,
) -> None:
    """They are quality's to judge; a key that comes twice is none that is unchanged."""
    stream.run(TEN)
    with Diff(stream.items, old=stream.state, folder=stream.folder, salt=bytes(8),
              tagging="a") as one:  # fmt: skip
        meeting = one.meeting()
        assert meeting is not None

        def differ(keys: list[int], bad: Sequence[int] = ()) -> list[bool]:
            good = np.array([i not in bad for i in range(len(keys))])
            only = stream.rows(TEN, keys).select(["id"])
            found: list[bool] = meeting.differing(
                only, stream.tags(TEN, keys), good
            ).tolist()
            return found

        assert differ([0, 1, 1, 2]) == [False, True, True, False]
        assert differ([3, 4, 5], bad=[1]) == [False, True, False]
        assert differ([2, 6]) == [True, False]
        assert one.gone() == 4  # 4, 7, 8 and 9 did not come with a good key


def test_no_tag_is_never_equal(stream: Stream) -> None:
    """Not even to a source that gives it."""
    zero = lambda _t, ks: pa.array([NO_TAG] * len(ks), pa.int64())  # noqa: E731
    stream.tags = zero  # type: ignore[method-assign]
    stream.run(TEN)
    assert stream.run(TEN)[:2] == (set(), set())
    assert stream.asked == list(range(10))


def test_a_state_with_tags_has_28_bytes_a_row(tmp_path: Path) -> None:
    """Key, digest and tag."""
    stream = Stream(tmp_path)
    stream.run(dict.fromkeys(range(20_000), "x"), size=20_000)
    assert stream.state.stat().st_size / 20_000 < 28.5
    assert Known(stream.state).head.tagging == "a"


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(0, 12), st.sampled_from(["a", "b", "keep"])),
            st.sampled_from(["a", "a", "a", "b", None]),
        ),
        max_size=6,
    ),
    st.booleans(),
)
@tries(60)
def test_any_history_is_followed_with_tags(
    history: Sequence[tuple[Table, str | None]], numbers: bool
) -> None:
    """The centre has what the source last had in order, whatever was read for it."""
    with TemporaryDirectory() as folder:
        stream = Stream(Path(folder), WHOLE if numbers else TEXT)
        centre: dict[int, str] = {}
        for table, tagging in history:
            stream.tagging = tagging
            good = {k: v for k, v in table.items() if v != "keep"}
            due = {k for k, v in good.items() if centre.get(k) != v}
            gone = set(centre) - set(table)
            assert stream.run(table)[:2] == (due, gone)
            centre = {k: v for k, v in centre.items() if k in table} | good
