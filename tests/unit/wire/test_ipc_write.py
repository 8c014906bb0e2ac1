# SPDX-License-Identifier: Apache-2.0
"""Streams that we compress ourselves: for any reader they are Arrow's own."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadPayload
from agent.wire import ipc
from agent.wire.ipc_write import Stream, Writer, form_of
from tests.support.tries import tries

LEAST = datetime(1, 1, 1)  # noqa: DTZ001 - the strategy wants a naive one
TYPES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): st.text(max_size=30),
    pa.binary(): st.binary(max_size=30),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us", tz="UTC"): st.datetimes(LEAST, timezones=st.just(UTC)),
    pa.decimal128(12, 2): st.integers(-(10**9), 10**9).map(lambda n: Decimal(n) / 4),
}
"""Every type that an item may have, and values of it."""


@st.composite
def tables(draw: st.DrawFn) -> list[pa.RecordBatch]:
    """One to three batches of one schema; columns with and without nulls."""
    kinds = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5))
    schema = pa.schema([pa.field(f"c{i}", kind) for i, kind in enumerate(kinds)])
    found = []
    for rows in draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)):
        columns = [draw(_columns(kind, rows)) for kind in kinds]
        found.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return found


def _columns(kind: pa.DataType, rows: int) -> st.SearchStrategy[Any]:
    value = TYPES[kind]
    some = st.one_of(value, st.none() | value)
    values = st.lists(some, min_size=rows, max_size=rows)
    return values.map(lambda found: pa.array(found, kind))


def written(batches: list[pa.RecordBatch]) -> Stream:
    stream = Writer(form_of(batches[0].schema))
    for batch in batches:
        stream.write(batch)
    return stream.finish()


def whole(stream: Stream) -> bytes:
    return b"".join(stream.pieces)


@tries(200)
@given(tables())
def test_a_reader_finds_the_rows_that_were_written(
    batches: list[pa.RecordBatch],
) -> None:
    """Of every type, with nulls and without; and what is told of the stream is so."""
    stream = written(batches)
    data = whole(stream)
    found = list(pa.ipc.open_stream(data))
    assert found == batches
    for batch in found:
        batch.validate(full=True)
    told = (stream.size, stream.raw_size, stream.digest)
    digest = hashlib.sha256(data).hexdigest()
    assert told == (len(data), ipc.raw_size(memoryview(data)), digest)


@tries(100)
@given(tables())
def test_the_messages_say_what_arrows_would(batches: list[pa.RecordBatch]) -> None:
    """Kinds, rows, codec and sizes; only compressed bytes may differ."""
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as theirs:
        for batch in batches:
            theirs.write_batch(batch)

    def shape(data: pa.Buffer | bytes) -> list[Any]:
        frames = ipc.walk(memoryview(data))
        return [(f.kind, f.rows, f.codec, f.raw_size) for f in frames]

    assert shape(whole(written(batches))) == shape(sink.getvalue())


def test_a_stream_of_no_rows_is_a_schema() -> None:
    """An empty table has one part, and somebody reads it."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    read = pa.ipc.open_stream(whole(Writer(form_of(schema)).finish())).read_all()
    assert (read.schema, read.num_rows) == (schema, 0)


def test_equal_rows_are_equal_bytes() -> None:
    """What was compressed before leaves no trace."""
    batch = pa.RecordBatch.from_pydict({"name": ["张伟", None, "李娜"] * 500})
    assert whole(written([batch])) == whole(written([batch]))
    after = written([pa.RecordBatch.from_pydict({"name": ["other"] * 99}), batch])
    assert after.pieces[-3:] == written([batch]).pieces[-3:]


@pytest.mark.parametrize("values", [["a", "b", "c"], [1, 2, 3], [True, False, True]])
def test_rows_of_a_larger_page_are_refused(values: list[Any]) -> None:
    """The bytes of their neighbours would leave with them."""
    page = pa.RecordBatch.from_pydict({"c": values})
    with pytest.raises(ValueError, match="does not begin"):
        Writer(form_of(page.schema)).write(page.slice(1))


def test_what_stands_behind_the_rows_stays_here() -> None:
    """Buffers that are larger than their rows need are cut where those end."""
    secret = b"secret" * 40
    offsets = pa.array([0, 1, 2, 200], pa.int32()).buffers()[1]
    text = pa.Array.from_buffers(
        pa.binary(), 2, [None, offsets, pa.py_buffer(b"ab" + secret)]
    )
    number = pa.Array.from_buffers(pa.int64(), 2, [None, pa.py_buffer(secret)])
    batch = pa.RecordBatch.from_arrays([text, number], names=["t", "n"])
    stream = written([batch])
    assert stream.raw_size == 12 + 2 + 16
    (found,) = pa.ipc.open_stream(whole(stream))
    assert found == batch


def test_bits_of_the_next_rows_stay_here() -> None:
    """Whether a neighbour's value is true, or is there, is nobody's business."""
    ones = pa.py_buffer(b"\xff\xff")
    flags = pa.Array.from_buffers(pa.bool_(), 9, [ones, ones], null_count=-1)
    some = pa.Array.from_buffers(pa.bool_(), 9, [pa.py_buffer(b"\xfe\xff"), ones])
    batch = pa.RecordBatch.from_arrays([flags, some], names=["all", "some"])
    (found,) = pa.ipc.open_stream(whole(written([batch])))
    sent = [b.to_pybytes()[:2] for c in found.columns for b in c.buffers() if b]
    assert sent == [b"\xff\x01", b"\xfe\x01", b"\xff\x01"]


def test_rows_of_another_schema_are_refused() -> None:
    """Their numbers would not fit into the blanks."""
    stream = Writer(form_of(pa.schema([pa.field("c", pa.int64())])))
    for other in ({"c": ["a"]}, {"c": [1], "d": [1]}):
        with pytest.raises(ValueError, match="another schema"):
            stream.write(pa.RecordBatch.from_pydict(other))


def test_only_the_message_of_a_batch_with_rows_has_numbers_to_fill_in() -> None:
    """A schema's has none."""
    schema = pa.schema([pa.field("id", pa.int64())]).serialize().to_pybytes()
    with pytest.raises(BadPayload, match="expected a record batch"):
        ipc.blanks(memoryview(schema))
