# SPDX-License-Identifier: Apache-2.0
"""Payloads: what is read, what is refused while reading, and digests by column."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import frames
from agent.errors import BadPayload
from agent.model.batch import Mode, Rows
from agent.model.item import Item, ItemType
from agent.wire import arrow, ipc
from agent.wire.batch import PAYLOAD_CAP
from tests.support import vectors
from tests.support.tries import tries


def item(name: str, kind: str, length: int | None = None, scale: int | None = None):
    """An item that is no key."""
    return Item(name, ItemType(kind), length, scale, False, "1")


KEY = Item("key", ItemType.C, 20, None, True, "1")
KEY2 = Item("key2", ItemType.N, 10, 2, True, "1")
NOTE = item("note", "M")
ITEMS = (KEY, NOTE)
ALL = (
    item("c", "C", 40),
    item("m", "M"),
    item("n0", "N", 38, 0),
    item("n2", "N", 12, 2),
    item("n9", "N", 38, 9),
    item("n38", "N", 38, 38),
    item("y", "Y"),
    item("i", "I"),
    item("d", "D"),
    item("t", "T"),
    item("l", "L"),
    item("b", "B"),
    item("f", "F"),
    item("g", "G"),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "C": st.text(max_size=20),
    "M": st.text(max_size=20),
    "Y": st.decimals(-(10**15) + 1, 10**15 - 1, places=4),
    "I": st.integers(-(2**63), 2**63 - 1),
    "D": st.dates(),
    "T": st.datetimes(timezones=st.just(UTC)),
    "L": st.booleans(),
    "B": st.floats(allow_nan=False, allow_infinity=False),
    "F": st.floats(allow_nan=False, allow_infinity=False),
    "G": st.binary(max_size=20),
}


def values(it: Item) -> st.SearchStrategy[Any]:
    """Values of an item, NULL among them."""
    if it.type is ItemType.N:
        assert it.length is not None
        assert it.scale is not None
        bound, scale = 10**it.length - 1, it.scale
        found = st.integers(-bound, bound).map(
            lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -scale))
        )
    else:
        found = VALUES[it.type]
    return st.none() | found


def batch_of(rows: list[tuple[Any, ...]], items=ITEMS) -> pa.RecordBatch:
    """Rows that begin with their operation."""
    schema = arrow.schema_of(items)
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def pack(
    *batches: pa.RecordBatch, codec: str | None = "zstd", schema: Any = None
) -> bytes:
    """An IPC stream."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    head = schema or batches[0].schema
    with pa.ipc.new_stream(sink, head, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def read(
    data: Any, rows: Rows, *, mode: Mode = "cdc", items=ITEMS, raw: int | None = None
) -> list[pa.RecordBatch]:
    """Everything of a payload."""
    size = arrow.raw_size(data) if raw is None else raw
    found = arrow.read_payload(data, items, mode=mode, raw_size=size, rows=rows)
    return list(found)


@tries(60)
@given(
    st.lists(st.tuples(*(values(i) for i in ALL)), min_size=1, max_size=5), st.data()
)
def test_both_implementations_digest_alike(rows: list[Any], data: st.DataObject):
    """Frames by value and by column agree, on slices too."""
    whole = batch_of([("u", *row) for row in rows], ALL)
    start = data.draw(st.integers(0, len(rows) - 1))
    part, rows = whole.slice(start), rows[start:]
    digests = [frames.row_digest(ALL, row) for row in rows]
    assert list(arrow.row_digests(part, ALL)) == digests
    assert arrow.row_digest_sum(part, ALL) == frames.add_digests(digests)
    columns = arrow.canonical_columns(part, ALL)
    for at, it in enumerate(ALL):
        made = [frames.canonical(it.type, row[at]) for row in rows]
        assert columns[at] == made


def test_digests_of_the_wire_format():
    """The printed rows have the printed digests by column too."""
    items = vectors.items()
    row = (
        "110101199003070011",
        "张三",
        Decimal("100.00"),
        datetime(2026, 11, 21, 8, tzinfo=UTC),
        date(1990, 3, 7),
        True,
        0.1,
        b"\x00\xff",
        None,
    )
    made = arrow.row_digest_sum(batch_of([("u", *row)], items), items)
    assert f"{made:032x}" == "5537c57f9b8173378af31a0ff977e4de"


def test_no_rows_have_digest_zero():
    """An empty table sums to nothing."""
    empty = batch_of([])
    assert arrow.row_digest_sum(empty, ITEMS) == 0
    assert arrow.key_frames(empty, ITEMS) == []


def test_key_frames_are_those_of_the_key_items_in_order():
    """Non-key items do not count."""
    items = (NOTE, KEY2, KEY)
    made = arrow.key_frames(batch_of([("u", "n", Decimal("1.50"), "a")], items), items)
    assert made == [frames.frames((KEY2, KEY), (Decimal("1.5"), "a"))]


def test_many_rows_are_digested_slice_by_slice():
    """Slices and the whole give one sum."""
    rows = [("u", str(n), None) for n in range(70_000)]
    whole = batch_of(rows)
    halves = arrow.row_digest_sum(whole.slice(0, 999), ITEMS) + arrow.row_digest_sum(
        whole.slice(999), ITEMS
    )
    assert arrow.row_digest_sum(whole, ITEMS) == halves % (1 << 128)


# --- reading ----------------------------------------------------------------------

UDK = [("u", "1", "x"), ("d", "2", None), ("k", "3", None)]


@pytest.mark.parametrize("codec", ["zstd", None])
@pytest.mark.parametrize("wrap", [bytes, io.BytesIO, pa.py_buffer])
def test_rows_come_back_as_written(codec: str | None, wrap: Any):
    """ZSTD and uncompressed; bytes, file and buffer."""
    batch = batch_of(UDK)
    data = pack(batch, codec=codec)
    raw = arrow.raw_size(data)
    assert read(wrap(data), Rows(1, 1, 1), raw=raw) == [batch]


def test_all_types_at_their_bounds_are_read():
    """The first and last value of each type."""
    items = (KEY, *ALL)
    ends: dict[str, tuple[Any, Any]] = {
        "c": ("", "字" * 40),
        "m": ("", "x" * 1024 * 1024),
        "n0": (-(10**38) + 1, 10**38 - 1),
        "n2": (Decimal("-9999999999.99"), Decimal("9999999999.99")),
        "n9": (Decimal("0.000000001"), Decimal(0)),
        "n38": (Decimal("-0." + "9" * 38), Decimal("0." + "9" * 38)),
        "y": (Decimal("-999999999999999.9999"), Decimal("999999999999999.9999")),
        "i": (-(2**63), 2**63 - 1),
        "d": (date.min, date.max),
        "t": (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)),
        "l": (True, False),
        "b": (5e-324, -1.7976931348623157e308),
        "f": (-0.0, 0.1),
        "g": (b"", bytes(1024 * 1024)),
    }
    rows = [("u", str(n), *(ends[i.name][n] for i in ALL)) for n in (0, 1)]
    batch = batch_of(rows, items)
    assert read(pack(batch), Rows(2, 0, 0), items=items) == [batch]


def test_stream_without_rows_is_an_empty_part():
    """No batch, or batches without rows."""
    schema = arrow.schema_of(ITEMS)
    assert read(pack(schema=schema), Rows(0, 0, 0), mode="full") == []
    empty = batch_of([])
    assert read(pack(empty, empty), Rows(0, 0, 0), mode="full") == [empty, empty]


def test_unchanged_has_no_payload_at_all():
    """Nothing is read and nothing given."""
    assert read(b"", Rows(0, 0, 0), mode="unchanged", raw=0) == []


def test_metadata_is_ignored():
    """Of the schema and of its fields."""
    batch = batch_of(UDK)
    fields = [f.with_metadata({"a": "b"}) for f in batch.schema]
    schema = pa.schema(fields, metadata={"pandas": "{}"})
    data = pack(pa.RecordBatch.from_arrays(batch.columns, schema=schema))
    assert read(data, Rows(1, 1, 1))[0].equals(batch)


def test_batches_are_handed_out_before_the_end_is_judged():
    """A wrong count shows at the end: the caller must not have settled before."""
    batch = batch_of(UDK)
    rows = arrow.read_payload(
        pack(batch), ITEMS, mode="cdc", raw_size=10_000, rows=Rows(2, 1, 1)
    )
    assert next(rows) == batch
    with pytest.raises(BadPayload, match="got Rows"):
        next(rows)


def test_key_of_several_items_is_compared_as_one():
    """(1, a) and (1, b) differ; twice (1, a) does not."""
    items = (KEY, KEY2)
    good = [("u", "a", Decimal(1)), ("u", "b", Decimal(1)), ("u", "a", Decimal(2))]
    assert read(pack(batch_of(good, items)), Rows(3, 0, 0), items=items)
    twice = [*good, ("d", "a", Decimal(1))]
    with pytest.raises(BadPayload, match="every key once"):
        read(pack(batch_of(twice, items)), Rows(3, 1, 0), items=items)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("I", 1),
        ("D", date(2026, 1, 1)),
        ("T", datetime(2026, 1, 1, tzinfo=UTC)),
        ("Y", Decimal("1.5")),
    ],
)
def test_key_of_any_type_is_counted(kind: str, value: Any):
    """A key twice is found whatever its type."""
    key = Item("key", ItemType(kind), None, None, True, "1")
    data = pack(batch_of([("u", value), ("u", value)], (key,)))
    with pytest.raises(BadPayload, match="every key once"):
        read(data, Rows(2, 0, 0), items=(key,))


@pytest.mark.parametrize("keys", [(1, 2, 1), (3, 1, 3), (1, 2, 2), (2, 1, 1)])
def test_a_key_that_comes_twice_is_found_in_any_order(keys: tuple[int, ...]):
    """Keys that ascend are not counted one by one; these do not."""
    key = Item("key", ItemType.I, None, None, True, "1")
    data = pack(batch_of([("u", value) for value in keys], (key,)))
    with pytest.raises(BadPayload, match="every key once"):
        read(data, Rows(len(keys), 0, 0), items=(key,))


def test_keys_in_any_order_are_fine():
    """The order of rows is no rule of the wire."""
    key = Item("key", ItemType.I, None, None, True, "1")
    rows = [("u", value) for value in (3, 1, 2)]
    assert read(pack(batch_of(rows, (key,))), Rows(3, 0, 0), items=(key,))


def test_keys_that_look_alike_are_different_keys():
    """Case, blanks and normal forms are the centre's collation, not ours."""
    keys = ["a", "A", "a ", "é", "e\u0301", "\uff11", "1"]
    batch = batch_of([("u", key, None) for key in keys])
    assert read(pack(batch), Rows(len(keys), 0, 0)) == [batch]


def test_payload_over_64_mib_is_refused_unread():
    """Not a byte more is taken from the file."""
    file = io.BytesIO(bytes(PAYLOAD_CAP + 10))
    with pytest.raises(BadPayload, match="at most"):
        read(file, Rows(0, 0, 0), raw=1)
    assert file.tell() == PAYLOAD_CAP + 1


@pytest.fixture
def pool() -> Iterator[pa.MemoryPool]:
    """The library's pool; a test may set another."""
    usual = pa.default_memory_pool()
    yield usual
    pa.set_memory_pool(usual)


def test_decompression_bomb_allocates_nothing(pool: pa.MemoryPool):
    """64 MiB of zeros behind a small raw_size are refused by their announcement."""
    fat = item("fat", "G")
    zeros = bytes(1024 * 1024)
    batch = batch_of([("u", str(n), zeros) for n in range(64)], (KEY, fat))
    data = pack(batch)
    assert len(data) < 100_000
    del batch
    counted = pa.proxy_memory_pool(pool)
    pa.set_memory_pool(counted)
    with pytest.raises(BadPayload, match="decompressed"):
        read(data, Rows(64, 0, 0), items=(KEY, fat), raw=1_000_000)
    assert (counted.max_memory() or 0) < 1_000_000


def test_more_batches_than_raw_size_stop_at_the_first_too_many():
    """The sum runs over all record batches."""
    first, second = batch_of(UDK[:1]), batch_of(UDK[1:])
    raw = arrow.raw_size(pack(first))
    rows = arrow.read_payload(
        pack(first, second), ITEMS, mode="cdc", raw_size=raw, rows=Rows(1, 1, 1)
    )
    assert next(rows) == first
    with pytest.raises(BadPayload, match="decompressed"):
        next(rows)


def test_complaint_never_quotes_a_value():
    """What is wrong is named by item and type."""
    batch = batch_of([("u", "110101199003070011\x00", None)])
    with pytest.raises(BadPayload, match="type C in key") as caught:
        read(pack(batch), Rows(1, 0, 0))
    assert "1101" not in str(caught.value)


# --- framing ----------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["zstd", None])
def test_raw_size_is_what_the_library_decompresses(codec: str | None):
    """Sum over all buffers, as the decoded batch holds them."""
    texts = ["字" * 100] * 5000
    batch = batch_of([("u", str(n), t) for n, t in enumerate(texts)])
    held = sum(
        buffer.size
        for column in pa.ipc.open_stream(pack(batch, codec=codec)).read_all().columns
        for chunk in column.chunks
        for buffer in chunk.buffers()
        if buffer is not None
    )
    assert arrow.raw_size(pack(batch, codec=codec)) == held


def test_frames_tell_kind_codec_and_rows():
    """Schema, then record batches; end-of-stream is no frame."""
    data = memoryview(pack(batch_of(UDK), batch_of(UDK[:1])))
    found = [(f.kind, f.codec, f.rows) for f in ipc.walk(data)]
    assert found == [
        (ipc.SCHEMA, None, 0),
        (ipc.RECORD_BATCH, ipc.ZSTD, 3),
        (ipc.RECORD_BATCH, ipc.ZSTD, 1),
    ]


@tries(100)
@given(st.binary(max_size=120))
def test_any_bytes_are_frames_or_bad_payload(data: bytes):
    """Garbage behind a good beginning never ends in another exception."""
    good = pack(batch_of(UDK[:1]))[:-8]
    for start in (b"", good):
        try:
            list(ipc.walk(memoryview(start + data)))
        except BadPayload:
            continue
        assert data.endswith(bytes(4))


def test_every_cut_of_a_payload_is_refused():
    """No prefix of a stream is a stream."""
    data = pack(batch_of(UDK))
    for end in range(len(data)):
        with pytest.raises(BadPayload):
            read(data[:end], Rows(1, 1, 1), raw=10_000)


def test_dictionary_batch_is_refused_even_after_a_plain_schema():
    """The kind of every message is looked at."""
    plain = pack(schema=arrow.schema_of(ITEMS))[:-8]
    coded = pa.record_batch({"x": pa.array(["a"]).dictionary_encode()})
    stream = pack(coded)
    (found,) = [f for f in ipc.walk(memoryview(stream)) if f.kind == ipc.DICTIONARY]
    data = plain + stream[found.start : found.end] + b"\xff" * 4 + bytes(4)
    with pytest.raises(BadPayload, match="record batches only"):
        read(data, Rows(0, 0, 0), raw=10_000)
