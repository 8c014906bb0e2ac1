# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InternalFault, SpoolWriteFailed
from agent.model.batch import Quality, Rows
from agent.model.job import Line
from agent.pipeline.pack import APART, Load, Part, compact, parts, payload, write_down
from tests.support.tries import tries

SCHEMA = pa.schema(
    [
        pa.field("_op", pa.utf8(), nullable=False),
        pa.field("id", pa.utf8(), nullable=False),
        pa.field("age", pa.int64()),
    ]
)


def rows(ops: str, start: int = 0) -> pa.RecordBatch:
    """A batch with one row per letter of ``ops``."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array(list(ops), pa.utf8()),
            pa.array([f"{start + i:018d}" for i in range(len(ops))], pa.utf8()),
            pa.array([None if o == "k" else i for i, o in enumerate(ops)], pa.int64()),
        ],
        schema=SCHEMA,
    )


def load(ops: str, *, read: int | None = None, token: str | None = None) -> Load:
    return Load(rows(ops), len(ops) if read is None else read, token)


def packed(*loads: Load, raw_bytes: int = 10**6, max_rows: int = 10**6) -> list[Part]:
    return list(parts(loads, SCHEMA, raw_bytes=raw_bytes, max_rows=max_rows))


def batches(part: Part) -> list[pa.RecordBatch]:
    """What a reader finds in a part."""
    return list(pa.ipc.open_stream(b"".join(part.stream.pieces)))


ROW = rows("u" * 1000).nbytes / 1000


def test_table_without_rows_has_one_final_part() -> None:
    """Nothing to send is still told: one final part of no rows."""
    (part,) = packed()

    assert (part.number, part.final, part.counts, part.quality) == (
        1, True, Rows(0, 0, 0), Quality(0, 0, 0),
    )  # fmt: skip


def test_only_the_last_part_is_final() -> None:
    """Parts count from 1; the last one alone is final and has no token."""
    made = packed(*[load("u" * 10, token=f"t{i}") for i in range(3)], raw_bytes=10)

    assert [(p.number, p.final, p.token) for p in made] == [
        (1, False, "t0"), (2, False, "t1"), (3, True, None),
    ]  # fmt: skip


def test_full_part_waits_for_another_row() -> None:
    """Rows that just fill a part make it the final one; no empty one follows."""
    made = packed(load("u" * 100), raw_bytes=int(100 * ROW))

    assert [(p.final, p.counts.upsert) for p in made] == [(True, 100)]


def test_part_closes_at_three_quarters() -> None:
    """A part of 3/4 of the aim is not filled up with a page that would exceed it."""
    made = packed(*[load("u" * 75)] * 4, raw_bytes=int(100 * ROW))

    assert [p.counts.upsert for p in made] == [75, 75, 75, 75]


def test_small_pages_are_joined() -> None:
    """Pages below 3/4 share a part."""
    made = packed(*[load("u" * 30)] * 6, raw_bytes=int(100 * ROW))

    assert [p.counts.upsert for p in made] == [90, 90]


def test_part_does_not_grow_beyond_half_more() -> None:
    """A page that would make the part too large begins the next one."""
    made = packed(load("u" * 70), load("u" * 140), raw_bytes=int(100 * ROW))

    assert [p.counts.upsert for p in made] == [70, 140]


def test_rows_of_a_part_are_bounded() -> None:
    """No part has more rows than allowed when the loads have not."""
    made = packed(*[load("u" * 40)] * 5, max_rows=100)

    assert [p.counts.upsert for p in made] == [80, 80, 40]


def test_kept_rows_count_as_quarantined() -> None:
    """read = upsert + quarantined, and every k row is one of the quarantined."""
    (part,) = packed(load("uukku", read=7))

    assert (part.counts, part.quality) == (Rows(3, 0, 2), Quality(7, 4, 0))


def test_withheld_rows_after_the_last_page_do_not_make_a_part() -> None:
    """Quarantined rows at the end are counted in the part before."""
    (part,) = packed(load("uu"), load("", read=3))

    assert (part.final, part.quality) == (True, Quality(5, 3, 0))


def test_table_of_nothing_but_bad_rows_is_counted() -> None:
    """All rows withheld: a final part of no rows that tells how many were read."""
    (part,) = packed(load("", read=3))

    assert (part.counts, part.quality) == (Rows(0, 0, 0), Quality(3, 3, 0))


@given(
    st.lists(st.tuples(st.text("uk", max_size=30), st.integers(0, 5)), max_size=12),
    st.integers(1, 5000),
    st.integers(30, 100),
)
@tries(80)
def test_nothing_is_lost_between_parts(
    given_loads: list[tuple[str, int]], raw_bytes: int, max_rows: int
) -> None:
    """Rows and counts of all parts are those of all loads, in order."""
    loads = [load(ops, read=len(ops) + extra) for ops, extra in given_loads]

    made = packed(*loads, raw_bytes=raw_bytes, max_rows=max_rows)

    found = [batch for part in made for batch in batches(part)]
    ops = "".join(o for b in found for o in b.column(0).to_pylist())
    assert ops == "".join(o for o, _ in given_loads)
    assert sum(p.quality.read for p in made) == sum(x.read for x in loads)
    assert all(p.quality.read == p.counts.upsert + p.quality.quarantined for p in made)
    assert all(p.counts.keep <= p.quality.quarantined for p in made)
    assert all(p.size <= max_rows for p in made)
    assert all(p.size for p in made[:-1])
    assert [p.final for p in made] == [False] * (len(made) - 1) + [True]


def test_payload_is_a_zstd_stream_of_exactly_the_rows() -> None:
    """What is written reads back equal, and size and digest are those of the bytes."""
    (part,) = packed(load("uku"))

    made = payload(part)

    data = b"".join(made.data)
    assert pa.ipc.open_stream(data).read_all().to_batches() == [rows("uku")]
    assert made.digest == "sha256:" + hashlib.sha256(data).hexdigest()


def test_raw_size_is_what_a_reader_holds() -> None:
    """raw_size is the sum of the buffers after reading, NULLs or not."""
    for ops in ("u" * 100, "k" * 100, "uk" * 50, "u"):
        (part,) = packed(load(ops))

        made = payload(part)

        (batch,) = pa.ipc.open_stream(b"".join(made.data))
        held = [b.size for c in batch.columns for b in c.buffers() if b is not None]
        assert made.raw_size == sum(held)


def test_neighbours_in_a_page_do_not_travel() -> None:
    """A part made of a slice holds no byte of the rows beside it."""
    page = rows("u" * 1000)
    (part,) = packed(Load(page.slice(500, 3), 3, None))

    made = payload(part)

    assert made.raw_size < 100 * 3
    (kept,) = batches(part)
    assert sum(b.size for c in kept.columns for b in c.buffers() if b) < 100 * 3


def test_many_rows_are_not_copied_to_travel_with_few() -> None:
    """Pages of many bytes are record batches of one payload, as they came."""
    n = APART // 32
    same = pa.array([0] * n, pa.int32())
    page = pa.RecordBatch.from_arrays(
        [*(c.take(same) for c in rows("u").columns[:2]), pa.array(range(n))],
        schema=SCHEMA,
    )
    few = rows("uk", start=10)
    loads = [Load(some, some.num_rows, None) for some in (few, page, page, few, few)]

    (part,) = packed(*loads, raw_bytes=20 * APART, max_rows=10**7)

    assert page.nbytes > APART
    assert [batch.num_rows for batch in batches(part)] == [n + 2, n, 4]
    assert batches(part)[1] == page
    ours = [c.buffers()[-1].address for c in compact([page], SCHEMA).columns]
    assert ours == [c.buffers()[-1].address for c in page.columns]
    assert (part.size, part.counts) == (2 * n + 6, Rows(2 * n + 3, 0, 3))


def test_many_rows_are_packed_before_the_next_ones_are_read() -> None:
    """While a part waits for more rows it holds packed bytes, not those that came."""
    n = APART // 32
    before = pa.total_allocated_bytes()
    held: list[int] = []
    sizes: list[int] = []

    def loads() -> Iterator[Load]:
        for start in range(3):
            same = pa.array([0] * n, pa.int32())
            columns = [c.take(same) for c in rows("u", start).columns]
            page = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
            del columns, same
            sizes.append(page.nbytes)
            yield Load(page, n, None)
            del page
            held.append(pa.total_allocated_bytes() - before)

    (part,) = parts(loads(), SCHEMA, raw_bytes=20 * APART, max_rows=10**7)

    assert part.counts == Rows(3 * n, 0, 0)
    assert max(held) < min(sizes)


def test_the_last_row_of_a_part_is_known() -> None:
    """Alone, wherever it came from; a part without rows has none."""
    page = rows("u" * 5)
    (part,) = packed(Load(page, 5, None), Load(rows("uk", start=7), 2, None))
    assert part.last == rows("uk", start=7).slice(1)
    (empty,) = packed()
    assert empty.last.num_rows == 0


def test_the_head_of_a_page_is_packed_as_if_it_stood_alone() -> None:
    """Of what follows no byte and no packed bit travels."""
    fields = [*SCHEMA, pa.field("good", pa.bool_()), pa.field("day", pa.date32())]
    schema = pa.schema(fields)
    n = 13
    more = [pa.array([True] * 100), pa.array([3] * n + [None, 4] * 43 + [5], "date32")]
    page = pa.RecordBatch.from_arrays([*rows("u" * 100).columns, *more], schema=schema)
    alone = pa.RecordBatch.from_pylist(page.slice(0, n).to_pylist(), schema=schema)
    made = []
    for some in (page.slice(0, n), alone):
        (part,) = parts([Load(some, n, None)], schema, raw_bytes=10**6, max_rows=10**6)
        made.append(payload(part))
    assert made[0].data == made[1].data
    assert made[0].digest == made[1].digest


def test_empty_payload_has_a_schema_and_no_batch() -> None:
    """No rows: schema and end marker, raw_size 0."""
    (part,) = packed()

    made = payload(part)

    assert made.raw_size == 0
    assert pa.ipc.open_stream(b"".join(made.data)).read_all().schema == SCHEMA


def test_null_key_is_a_defect_and_not_sent() -> None:
    """A NULL where the profile has none ends the run; the item is named."""
    bad = pa.RecordBatch.from_arrays(
        [pa.array(["u"]), pa.array([None], pa.utf8()), pa.array([1])], schema=SCHEMA
    )
    with pytest.raises(InternalFault, match="NULL in id"):
        packed(Load(bad, 1, None))


def test_line_and_payload_are_written_for_the_owner_alone(tmp_path: Path) -> None:
    """The file is line 1, one LF and the payload, mode 0600."""
    path = tmp_path / "part"

    write_down(Line(1, "a.b.c", str(path)), [b"\x00pay", b"load"])

    assert path.read_bytes() == b"a.b.c\n\x00payload"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["file", "link"])
def test_existing_file_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    """A path that is taken is refused and what is there stays."""
    target = tmp_path / "part"
    if kind == "file":
        target.write_text("old")
    else:
        target.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SpoolWriteFailed, match="EEXIST"):
        write_down(Line(1, "a.b.c", str(target)), [b"x"])

    assert target.is_symlink() or target.read_text() == "old"
    assert not (tmp_path / "elsewhere").exists()


def test_missing_folder_is_a_failed_write(tmp_path: Path) -> None:
    """Any refusal of the system is SpoolWriteFailed with its name."""
    with pytest.raises(SpoolWriteFailed, match="ENOENT while writing part 3"):
        write_down(Line(3, "a.b.c", str(tmp_path / "no" / "part")), [b"x"])


def test_full_disk_leaves_no_file(tmp_path: Path) -> None:
    """A write beyond the file size limit fails and the torso is removed."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(SpoolWriteFailed, match="EFBIG"):
            write_down(
                Line(1, "a.b.c", str(tmp_path / "part")), [b"x" * 3000, b"x" * 7000]
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    assert list(tmp_path.iterdir()) == []
