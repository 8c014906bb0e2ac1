# SPDX-License-Identifier: Apache-2.0
"""The Arrow profile of payloads (wire.md §2): schema, validation, row digests.

Rules

1. The schema is ``_op`` and the catalog's items, types and nullability exact; metadata
   says nothing.
2. Sizes that a message announces are judged before anything is decompressed.
3. Batches are handed out as they pass; the payload as a whole (distinct keys, counts)
   is judged when the iterator ends. Nothing of it counts before that.
4. No value of a row ever stands in a complaint.

For worker and sandbox processes only: the daemon imports no pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.errors import BadPayload
from agent.model.batch import Mode, Rows
from agent.model.item import Item, ItemType
from agent.wire import ipc, texts
from agent.wire.arrow_digest import (
    canonical_columns,
    key_frames,
    row_digest_sum,
    row_digests,
)
from agent.wire.batch import OPS, PAYLOAD_CAP, RAW_CAP

Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""

__all__ = [
    "OP",
    "canonical_columns",
    "deleted_rows",
    "key_frames",
    "raw_size",
    "read_payload",
    "row_digest_sum",
    "row_digests",
    "schema_of",
    "type_of",
]

OP = "_op"
"""Name of the first column: ``u``, ``d`` or ``k``."""
LONG_CAP = 1024 * 1024
"""Longest M or G value, bytes."""
DAYS = (-719_162, 2_932_896)
"""0001-01-01 and 9999-12-31 as days since 1970."""
MICROS = (DAYS[0] * 86_400_000_000, (DAYS[1] + 1) * 86_400_000_000 - 1)
"""First and last microsecond of these years."""

_TYPES: Mapping[str, pa.DataType] = MappingProxyType(
    {
        "C": pa.string(),
        "M": pa.string(),
        "Y": pa.decimal128(19, 4),
        "I": pa.int64(),
        "D": pa.date32(),
        "T": pa.timestamp("us", tz="UTC"),
        "L": pa.bool_(),
        "B": pa.float64(),
        "F": pa.float64(),
        "G": pa.binary(),
    }
)


def type_of(item: Item) -> pa.DataType:
    """Arrow type of an item."""
    if item.type is ItemType.N:
        return pa.decimal128(item.length or 1, item.scale or 0)
    return _TYPES[item.type]


def schema_of(items: Sequence[Item]) -> pa.Schema:
    """Schema of a payload: ``_op``, then the items; ``_op`` and keys not null."""
    fields = [pa.field(item.name, type_of(item), not item.key) for item in items]
    return pa.schema([pa.field(OP, pa.string(), nullable=False), *fields])


def deleted_rows(
    keys: Mapping[str, Any], rows: int, items: Sequence[Item]
) -> pa.RecordBatch:
    """``d`` rows of these keys, all other columns NULL.

    Args:
        keys: name of each key item -> its values.
        rows: how many.
        items: of the catalog.
    """
    schema = schema_of(items)
    arrays: list[Any] = [pa.array(["d"] * rows, pa.string())]
    for item in items:
        kind, found = schema.field(item.name).type, keys.get(item.name)
        arrays.append(pa.nulls(rows, kind) if found is None else pa.array(found, kind))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def raw_size(payload: bytes | memoryview | pa.Buffer) -> int:
    """What ``content.raw_size`` of a payload must say.

    Raises:
        BadPayload: not a whole Arrow stream.
    """
    return ipc.raw_size(memoryview(payload))


# --- reading ----------------------------------------------------------------------


def read_payload(
    source: IO[bytes] | bytes | pa.Buffer,
    items: Sequence[Item],
    *,
    mode: Mode,
    raw_size: int,
    rows: Rows,
) -> Iterator[pa.RecordBatch]:
    """The validated rows of a payload, batch by batch.

    Args:
        source: the payload's bytes, or a file that stands at the first of them and
            ends with the last.
        items: of the catalog statement that the manifest names.
        mode: of the manifest.
        raw_size: ``content.raw_size`` of the manifest.
        rows: of the manifest.

    Raises:
        BadPayload: while iterating: a rule of the profile is broken. Batches handed out
            before it must not count.
    """
    payload = _buffer(source)
    if mode == "unchanged":
        if payload.size:
            raise BadPayload("expected no payload in mode unchanged")
        return
    judge = _Judge(items, mode, rows)
    for batch in _batches(payload, judge.schema, min(raw_size, RAW_CAP), rows):
        judge.check(batch)
        yield batch
    judge.finish()


def _buffer(source: IO[bytes] | bytes | pa.Buffer) -> pa.Buffer:
    if isinstance(source, pa.Buffer):
        data = source
    elif isinstance(source, bytes):
        data = pa.py_buffer(source)
    else:
        data = pa.py_buffer(source.read(PAYLOAD_CAP + 1))
    if data.size > PAYLOAD_CAP:
        raise BadPayload(f"expected at most {PAYLOAD_CAP} bytes")
    return data


def _batches(
    payload: pa.Buffer, schema: pa.Schema, raw_cap: int, rows: Rows
) -> Iterator[pa.RecordBatch]:
    """Decompress message by message, each only after its announced sizes fit."""
    most_rows = rows.upsert + rows.delete + rows.keep
    seen_rows, seen_raw, seen_schema = 0, 0, False
    for frame in ipc.walk(memoryview(payload)):
        message = payload[frame.start : frame.end]
        if not seen_schema:
            _check_schema(frame, message, schema)
            seen_schema = True
            continue
        if frame.kind != ipc.RECORD_BATCH:
            raise BadPayload("expected record batches only after the schema")
        if frame.codec not in (None, ipc.ZSTD):
            raise BadPayload("expected ZSTD or no compression")
        seen_rows += frame.rows
        seen_raw += frame.raw_size
        if frame.rows < 0 or seen_rows > most_rows:
            raise BadPayload(f"expected {most_rows} rows, got more")
        if seen_raw > raw_cap:
            raise BadPayload(f"expected {raw_cap} bytes decompressed, got more")
        yield _decode(message, schema)
    if not seen_schema:
        raise BadPayload("expected a schema")


def _check_schema(frame: ipc.Frame, message: pa.Buffer, wanted: pa.Schema) -> None:
    if frame.kind != ipc.SCHEMA:
        raise BadPayload("expected a schema first")
    try:
        got = pa.ipc.read_schema(message)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise BadPayload("expected a readable schema") from e
    if not got.equals(wanted, check_metadata=False):
        raise BadPayload("expected _op and the catalog's items, of their types")


def _decode(message: pa.Buffer, schema: pa.Schema) -> pa.RecordBatch:
    try:
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate()
        for column in batch.columns:
            texts.validate(column)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise BadPayload("expected a valid record batch") from e
    return batch


class _Judge:
    """What the batches of one payload must be, each alone and all together."""

    def __init__(self, items: Sequence[Item], mode: Mode, rows: Rows) -> None:
        self.schema = schema_of(items)
        self._items = items
        self._ops = OPS[mode]
        self._mode = mode
        self._wanted = rows
        self._got = Rows(0, 0, 0)
        self._keys = [item.name for item in items if item.key]
        self._key_batches: list[pa.RecordBatch] = []

    def check(self, batch: pa.RecordBatch) -> None:
        """Judge one batch; remember its keys and counts."""
        for field in self.schema:
            if not field.nullable and batch.column(field.name).null_count:
                raise BadPayload(f"expected no NULL in {field.name}")
        self._check_ops(batch)
        for item in self._items:
            _check_values(item, batch.column(item.name))
        self._key_batches.append(batch.select(self._keys))

    def _check_ops(self, batch: pa.RecordBatch) -> None:
        op: Column = batch.column(OP)
        if texts.all_are(op, "u"):  # as most batches are
            self._got += Rows(batch.num_rows, 0, 0)
            return
        counts = {o: _count(pc.equal(op, pa.scalar(o))) for o in "udk"}
        if sum(counts.values()) != batch.num_rows:
            raise BadPayload("expected _op to be u, d or k")
        if any(count and o not in self._ops for o, count in counts.items()):
            raise BadPayload(f"expected only {self._ops} rows in mode {self._mode}")
        self._got += Rows(counts["u"], counts["d"], counts["k"])
        if counts["u"] < batch.num_rows:
            bare: Column = pc.not_equal(op, pa.scalar("u"))
            self._check_bare(batch.filter(bare))

    def _check_bare(self, batch: pa.RecordBatch) -> None:
        """Rows of d and k have nothing but their key."""
        for item in self._items:
            column = batch.column(item.name)
            if not item.key and column.null_count != len(column):
                raise BadPayload(f"expected NULL in {item.name} of d and k rows")

    def finish(self) -> None:
        """Judge the payload as a whole."""
        if self._got != self._wanted:
            raise BadPayload(f"expected {self._wanted}, got {self._got}")
        keys = pa.Table.from_batches(
            self._key_batches, self.schema.empty_table().select(self._keys).schema
        )
        if len(self._keys) == 1:
            if _ascends(keys.column(0)):  # as sources mostly give them
                return
            distinct = pc.count_distinct(keys.column(0)).as_py()
        else:
            distinct = keys.group_by(self._keys).aggregate([]).num_rows
        if distinct != keys.num_rows:
            raise BadPayload("expected every key once")


def _ascends(keys: Column) -> bool:
    """Whether each key is greater than the one before, so that none comes twice."""
    rising = pc.less(keys.slice(0, max(len(keys) - 1, 0)), keys.slice(1))
    return pc.all(rising, skip_nulls=False).as_py() is True


def _count(mask: Column) -> int:
    return pc.sum(mask).as_py() or 0


def _check_values(item: Item, column: Column) -> None:
    rule = _RULES.get(item.type)
    if rule is not None and not rule(item, column):
        raise BadPayload(f"expected values of type {item.type} in {item.name}")


def _text(item: Item, column: Column) -> bool:
    if _has_nul(column):
        return False
    if item.type is ItemType.M:
        return _most(pc.binary_length(column)) <= LONG_CAP
    cap = item.length or 0
    if texts.fit(column, cap):
        return True
    return _most(pc.utf8_length(column)) <= cap


def _has_nul(column: Column) -> bool:
    """Whether a text holds U+0000; only then are the texts looked at one by one."""
    if not texts.may_have_nul(column):
        return False
    return bool(pc.any(pc.match_substring(column, "\0")).as_py())


def _bytes(_: Item, column: Column) -> bool:
    return _most(pc.binary_length(column)) <= LONG_CAP


def _day(_: Item, column: Column) -> bool:
    return _within(column.view(pa.int32()), DAYS)


def _instant(_: Item, column: Column) -> bool:
    return _within(column.view(pa.int64()), MICROS)


def _finite(_: Item, column: Column) -> bool:
    return pc.all(pc.is_finite(column)).as_py() is not False


def _most(lengths: Column) -> int:
    return pc.max(lengths).as_py() or 0


def _within(column: Column, bounds: tuple[int, int]) -> bool:
    found: Any = pc.min_max(column).as_py()
    least, most = found["min"], found["max"]
    return least is None or (bounds[0] <= least and most <= bounds[1])


_RULES: Mapping[str, Callable[[Item, Column], bool]] = MappingProxyType(
    {
        "C": _text,
        "M": _text,
        "D": _day,
        "T": _instant,
        "B": _finite,
        "F": _finite,
        "G": _bytes,
    }
)
