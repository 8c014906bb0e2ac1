# SPDX-License-Identifier: Apache-2.0
"""The Arrow profile at the exchange: each broken rule is ``bad-payload``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from tests.support.exchange_client import SCHEMA, Batch, Stream, arrow, raw_size

pytestmark = pytest.mark.contract

ROWS: list[tuple[Any, ...]] = [("u", "1", "张三", 30)]


def with_data(batch: Batch, data: bytes, raw: int | None = None) -> Batch:
    """The batch with another payload, whose size and digest are right."""
    batch.data = data
    batch.manifest["content"] = {
        "size": len(data),
        "raw_size": raw_size(data) if raw is None else raw,
        "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
    }
    return batch


def rejected(stream: Stream, batch: Batch) -> str:
    receipt = stream.node.send(batch).receipt
    assert receipt["state"] == "rejected"
    assert receipt["rows"] is None
    assert stream.node.position(stream.resource)["seq"] == 0
    return str(receipt["code"])


def written(batches: list[pa.RecordBatch], schema: pa.Schema, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    write = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, schema, options=write) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def record(schema: pa.Schema, *columns: list[Any]) -> pa.RecordBatch:
    pairs = zip(columns, schema, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in pairs], schema=schema
    )


GOOD = (["u"], ["1"], ["a"], [1])


def test_uncompressed_body_is_taken(stream: Stream) -> None:
    """A reader also takes payloads without compression."""
    data = written([record(SCHEMA, *GOOD)], SCHEMA)
    batch = with_data(stream.next(ROWS), data)
    assert stream.load(batch)["state"] == "loaded"


def test_rows_may_come_in_several_record_batches(stream: Stream) -> None:
    """The stream is one payload however it is cut."""
    batches = [record(SCHEMA, ["u"], [str(i)], ["a"], [i]) for i in range(3)]
    rows = [("u", str(i), "a", i) for i in range(3)]
    data = written(batches, SCHEMA, compression="zstd")
    assert stream.load(with_data(stream.next(rows), data))["rows"]["upsert"] == 3


def lz4() -> bytes:
    return written([record(SCHEMA, *GOOD)], SCHEMA, compression="lz4")


def no_end_marker() -> bytes:
    return arrow(ROWS)[:-8]


def bytes_after_the_end() -> bytes:
    return arrow(ROWS) + b"\0" * 8


def cut() -> bytes:
    return arrow(ROWS)[:-40]


def garbage() -> bytes:
    return b"\xff" * 64


def other_order() -> bytes:
    schema = pa.schema([SCHEMA.field(i) for i in (0, 1, 3, 2)])
    return written([record(schema, ["u"], ["1"], [1], ["a"])], schema)


def missing_column() -> bytes:
    schema = pa.schema([SCHEMA.field(i) for i in (0, 1, 2)])
    return written([record(schema, ["u"], ["1"], ["a"])], schema)


def other_type() -> bytes:
    schema = SCHEMA.set(3, pa.field("age", pa.int32()))
    return written([record(schema, *GOOD)], schema)


def large_type() -> bytes:
    schema = SCHEMA.set(2, pa.field("name", pa.large_string()))
    return written([record(schema, *GOOD)], schema)


def dictionary() -> bytes:
    kind = pa.dictionary(pa.int32(), pa.string())
    schema = SCHEMA.set(2, pa.field("name", kind))
    columns: list[Any] = [pa.array(v) for v in GOOD]
    columns[2] = columns[2].dictionary_encode()
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return written([batch], schema)


def nullable_key() -> bytes:
    schema = SCHEMA.set(1, pa.field("id", pa.string()))
    return written([record(schema, *GOOD)], schema)


def null_in_key() -> bytes:
    return written([record(SCHEMA, ["u"], [None], ["a"], [1])], SCHEMA)


def bad_utf8() -> bytes:
    column = pa.array([b"\xff"], pa.binary()).view(pa.string())
    arrays: list[Any] = [pa.array(["u"]), pa.array(["1"]), column, pa.array([1])]
    return written([pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)], SCHEMA)


@pytest.mark.parametrize(
    "make",
    [
        lz4,
        no_end_marker,
        bytes_after_the_end,
        cut,
        garbage,
        other_order,
        missing_column,
        other_type,
        large_type,
        dictionary,
        nullable_key,
        null_in_key,
        bad_utf8,
    ],
)
def test_payload_outside_the_profile_is_rejected(
    stream: Stream, make: Callable[[], bytes]
) -> None:
    """One broken rule of the Arrow profile each."""
    batch = with_data(stream.next(ROWS), make(), raw=1000)
    assert rejected(stream, batch) == "bad-payload"


@pytest.mark.parametrize(
    "rows",
    [
        [("x", "1", "a", 1)],
        [("u", "1", "nul\0", 1)],
        [("u", "1", "a" * 31, 1)],
        [("u", "1", "a", 1), ("u", "1", "b", 2)],
        [("u", "1", "a", 1), ("d", "1", None, None)],
        [("d", "1", "a", None)],
        [("k", "1", None, 1)],
    ],
    ids=["op", "nul", "long", "key twice", "key in u and d", "d value", "k value"],
)
def test_rows_outside_the_profile_are_rejected(
    stream: Stream, rows: list[tuple[Any, ...]]
) -> None:
    """One broken rule of the rows each."""
    batch = stream.next(rows)
    batch.manifest["rows"]["upsert"] += len(rows) - sum(batch.manifest["rows"].values())
    batch.manifest["quality"]["read"] = (
        batch.manifest["rows"]["upsert"] + batch.manifest["rows"]["keep"]
    )
    assert rejected(stream, batch) == "bad-payload"


def test_delete_in_a_full_batch_is_rejected(stream: Stream) -> None:
    """An _op outside the mode: full has u and k."""
    batch = stream.part([("u", "1", "a", 1)], total=1)
    batch = with_data(batch, arrow([("d", "1", None, None)]))
    assert rejected(stream, batch) == "bad-payload"


@pytest.mark.parametrize("counts", [(2, 0, 0), (0, 1, 0), (0, 0, 0)])
def test_counts_other_than_rows_are_rejected(
    stream: Stream, counts: tuple[int, int, int]
) -> None:
    """What line 1 counts must be in the payload."""
    batch = stream.next(ROWS)
    upsert, delete, keep = counts
    batch.manifest["rows"] = {"upsert": upsert, "delete": delete, "keep": keep}
    batch.manifest["quality"]["read"] = upsert
    assert rejected(stream, batch) == "bad-payload"


@pytest.mark.parametrize("change", [-1, 1])
def test_other_raw_size_is_rejected(stream: Stream, change: int) -> None:
    """raw_size is the sum of the decompressed buffers, exactly."""
    batch = stream.next(ROWS)
    batch.manifest["content"]["raw_size"] += change
    assert rejected(stream, batch) == "bad-payload"


def test_empty_payload_in_another_mode_than_unchanged_is_rejected(
    stream: Stream,
) -> None:
    """Without rows there is still a schema and an end marker."""
    batch = with_data(stream.next([]), b"", raw=0)
    assert rejected(stream, batch) == "bad-payload"


def test_metadata_says_nothing(stream: Stream) -> None:
    """Schema metadata is ignored."""
    schema = SCHEMA.with_metadata({"a": "b"})
    data = written([record(schema, *GOOD)], schema)
    assert stream.load(with_data(stream.next(ROWS), data))["state"] == "loaded"
