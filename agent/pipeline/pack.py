# SPDX-License-Identifier: Apache-2.0
"""Accepted rows -> parts of a snapshot -> payload bytes (wire.md, Arrow profile).

Rules

1. A part closes only when another row has arrived, so the last one is known to be
   final. A table without rows has one final part without rows.
2. A part is about ``raw_bytes`` of Arrow buffers, from 3/4 to 3/2 of it, and never more
   than ``max_rows`` rows, as long as the pieces that come in are no larger.
3. Few rows are copied together before they are written; :data:`APART` bytes and more
   are a record batch of their own, copied only where its buffers hold other rows, too.
   So a payload holds nothing but its own rows, and not their neighbours in a page.
4. Rows are packed as they come, not when their part closes: the rest of the part is
   read meanwhile, and what waits for it is a few bytes. Only their payload counts.
5. Every source row is counted in exactly one part; one that was quarantined and left
   nothing behind counts where it was met.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.errors import InternalFault
from agent.model.batch import Quality, Rows
from agent.model.job import Line
from agent.pipeline import disk
from agent.wire import texts
from agent.wire.batch import EMPTY_DIGEST, PAYLOAD_CAP, RAW_CAP
from agent.wire.ipc_write import Form, Stream, Writer, form_of

APART = 4 * 1024 * 1024
"""So many bytes of rows are worth a record batch of their own: to copy them together
with others costs more than what is written of another one's beginning."""

_OFFSET = struct.Struct("<i")


@dataclass(frozen=True)
class Load:
    """Rows that passed the checks, in wire types with ``_op`` first.

    Args:
        rows: accepted rows and rows to keep.
        read: source rows that they were made of.
        token: position after them, or None.
        skipped: source rows of these that need not be sent.
        reasons: quarantine code -> source rows of these.
        warnings: rule name -> rows that are sent with a warning.
        tags: digests of these rows by their source, one a row, or None.
    """

    rows: pa.RecordBatch
    read: int
    token: str | None
    skipped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    tags: Any = None


@dataclass(frozen=True)
class Part:
    """One part of a snapshot, not yet written down.

    Args:
        number: from 1 on.
        final: whether it is the last one.
        stream: the Arrow IPC stream of its rows.
        last: its last row, alone; no row if it has none.
        counts: rows by operation.
        quality: source rows that it was made of.
        token: position after it, or None.
        reasons: quarantine code -> source rows.
        warnings: rule name -> rows that are sent with a warning.
    """

    number: int
    final: bool
    stream: Stream
    last: pa.RecordBatch
    counts: Rows
    quality: Quality
    token: str | None
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Rows of all operations."""
        return self.counts.upsert + self.counts.delete + self.counts.keep


@dataclass(frozen=True)
class Payload:
    """A part and its bytes.

    Args:
        part: what they hold.
        data: the IPC stream, in pieces.
        size: of all of them, bytes.
        raw_size: sum of the decompressed buffers, bytes.
        digest: ``sha256:`` and the hex of ``data``.
        last: digest of the last row's key, if a resumed run will have to know it.
    """

    part: Part
    data: tuple[bytes, ...]
    size: int
    raw_size: int
    digest: str
    last: str | None = None


def parts(
    loads: Iterable[Load],
    schema: pa.Schema,
    *,
    raw_bytes: int,
    max_rows: int,
    after: int = 0,
) -> Iterator[Part]:
    """Join loads to parts, the last one marked final.

    Args:
        loads: in order of the key.
        schema: of every load, ``_op`` first.
        raw_bytes: the size to aim for.
        max_rows: most rows of a part.
        after: parts of the same snapshot that there are already.
    """
    open_part = _Open(schema, after)
    for load in loads:
        size = load.rows.nbytes
        if load.rows.num_rows and (
            open_part.size * 4 >= raw_bytes * 3
            or (open_part.size and open_part.size + size > raw_bytes * 3 // 2)
            or (open_part.rows and open_part.rows + load.rows.num_rows > max_rows)
        ):
            yield open_part.close(final=False)
        open_part.add(load, size)
        del load  # what is packed is not kept while the next rows are read
    yield open_part.close(final=True)


def payload(part: Part) -> Payload:
    """What a part is told by.

    Raises:
        InternalFault: the bytes exceed what a payload may have.
    """
    stream, size = part.stream, part.stream.size
    if size > PAYLOAD_CAP or stream.raw_size > RAW_CAP:
        raise InternalFault(
            f"payload of {size} bytes, {stream.raw_size} raw, of {part.size} rows is"
            f" above {PAYLOAD_CAP} or {RAW_CAP} raw; lower push.batch_raw_mb"
        )
    digest = "sha256:" + stream.digest
    return Payload(part, stream.pieces, size, stream.raw_size, digest)


def unchanged(part: Part) -> Payload:
    """A part without rows that says that nothing changed; no stream, no bytes."""
    return Payload(part, (), 0, 0, EMPTY_DIGEST)


def compact(batches: list[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Copy rows together into buffers that hold nothing else.

    What came as one piece with buffers of its own is not copied.

    Raises:
        InternalFault: a column that must not be NULL is.
    """
    columns = []
    for i, named in enumerate(schema):
        some: list[Any] = [b.column(i) for b in batches] or [pa.array([], named.type)]
        column: Any = some[0] if _alone(some) else pa.concat_arrays(some)
        if column.null_count and not named.nullable:
            raise InternalFault(f"NULL in {named.name}, which may not be NULL")
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _alone(some: list[Any]) -> bool:
    """Whether there is one array, and its buffers hold nothing but its own values.

    Of a slice they do: the writer would fill up with up to 63 bytes of what follows.
    """
    if len(some) > 1 or some[0].offset or not len(some[0]):
        return False
    one, size = some[0], len(some[0])
    kind, buffers = one.type, one.buffers()
    room = [-(-size // 8)]
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        begin, end = (_OFFSET.unpack_from(buffers[1], 4 * i)[0] for i in (0, size))
        room += [4 * (size + 1), end if not begin else 0]
    elif pa.types.is_boolean(kind):
        return False
    else:
        room.append(size * kind.bit_width // 8)
    return all(b is None or b.size <= r for b, r in zip(buffers, room, strict=True))


def count_ops(rows: pa.RecordBatch) -> Rows:
    """Rows by operation."""
    if texts.all_are(rows.column(0), "u"):
        return Rows(upsert=rows.num_rows, delete=0, keep=0)
    keep, gone = (pc.equal(rows.column(0), pa.scalar(op)).true_count for op in "kd")
    return Rows(upsert=rows.num_rows - keep - gone, delete=gone, keep=keep)


def write_down(line: Line, data: Iterable[bytes]) -> None:
    """Write line 1, LF and payload to a new file, 0600, and sync it.

    Raises:
        SpoolFull: the disk is full; SpoolWriteFailed: it refused otherwise, or could
            not sync. Nothing is left of the file then.
    """
    try:
        with open(line.path, "xb", buffering=0, opener=_only_ours) as file:
            try:
                for piece in (line.text.encode("ascii") + b"\n", *data):
                    _write_all(file.fileno(), piece)
                _sync(file.fileno(), line)
            except BaseException:
                Path(line.path).unlink()
                raise
    except OSError as e:
        raise disk.refusal(e, f"writing part {line.part}") from e


def _sync(fd: int, line: Line) -> None:
    try:
        os.fsync(fd)
    except OSError as e:
        raise disk.failed_sync(e, f"syncing part {line.part}") from e


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


class _Packing:
    """The compressed IPC stream of one part.

    Its record batches have :data:`APART` bytes or more, but the last.

    Args:
        form: of all rows.

    Attributes:
        counts: rows by operation that are in it.
        last: the last of them, alone; no row before there is one.
    """

    def __init__(self, form: Form) -> None:
        self._schema = form.schema
        self._some: list[pa.RecordBatch] = []
        self._size = 0
        self._stream = Writer(form)
        self.counts = Rows(0, 0, 0)
        self.last = compact([], form.schema)

    def add(self, rows: pa.RecordBatch, size: int) -> None:
        """Rows of so many bytes, at least one; they are written now or soon.

        Raises:
            InternalFault: a column that must not be NULL is.
        """
        self._some.append(rows)
        self._size += size
        if self._size >= APART:
            self._write()

    def finish(self) -> Stream:
        """The whole stream.

        Raises:
            InternalFault: a column that must not be NULL is.
        """
        if self._some:
            self._write()
        return self._stream.finish()

    def _write(self) -> None:
        batch = compact(self._some, self._schema)
        self._some, self._size = [], 0
        self._stream.write(batch)
        self.counts += count_ops(batch)
        self.last = compact([batch.slice(batch.num_rows - 1)], self._schema)


class _Open:
    """The part that is being filled."""

    def __init__(self, schema: pa.Schema, after: int) -> None:
        self._form = form_of(schema)
        self._number = after
        self._reset()

    def _reset(self) -> None:
        self._number += 1
        self._pack = _Packing(self._form)
        self._read = self._skipped = 0
        self._reasons: Counter[str] = Counter()
        self._warnings: Counter[str] = Counter()
        self._token: str | None = None
        self.rows = 0
        self.size = 0

    def add(self, load: Load, size: int) -> None:
        self._read += load.read
        self._skipped += load.skipped
        self._reasons.update(load.reasons)
        self._warnings.update(load.warnings)
        self._token = load.token
        if load.rows.num_rows:
            self._pack.add(load.rows, size)
            self.rows += load.rows.num_rows
            self.size += size

    def close(self, *, final: bool) -> Part:
        stream, counts = self._pack.finish(), self._pack.counts
        withheld = self._read - counts.upsert - self._skipped
        part = Part(
            number=self._number,
            final=final,
            stream=stream,
            last=self._pack.last,
            counts=counts,
            quality=Quality(self._read, withheld, self._skipped),
            token=None if final else self._token,
            reasons=dict(self._reasons),
            warnings=dict(self._warnings),
        )
        self._reset()
        return part
