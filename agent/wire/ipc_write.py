# SPDX-License-Identifier: Apache-2.0
"""An Arrow IPC stream whose buffers are compressed with zstd parameters of our own.

Arrow's writer takes a level of zstd and nothing else. Level 1 looks for what was there
before in a table of 64 KiB, which the first cache of a processor does not hold beside
the data; in one of 16 KiB it finds as much, in seven eighths of the time. So Arrow
writes the message of one row, and each batch writes its own numbers over that one's
(docs/adr/0017). For workers only: the daemon imports no pyarrow.

Rules

1. Columns are flat: bits, a fixed width, or offsets and bytes.
2. A column begins where its buffers do; what lies behind its rows, bits of the last
   byte among it, is not written.
3. A buffer is its size and its zstd frame; what fills that up to eight bytes does not
   count. One without bytes is nothing, and so is the bitmap of a column without nulls.

Source: Arrow columnar format 1.5, "IPC Streaming Format" and "Compression".
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from zstandard import ZstdCompressionParameters, ZstdCompressor

from agent.wire import ipc

Column = Any
"""A pyarrow array; the stubs cannot say which of their overloads fits."""

LEVEL = 1
HASH_LOG = 12
"""Entries of zstd's table, as a power of two; each has four bytes."""
MIN_MATCH = 7
"""Bytes that are found again at least: what level 1 does with large buffers."""

_SIZE = struct.Struct("<q")
_PAIR = struct.Struct("<qq")
_INT = struct.Struct("<i")


@dataclass(frozen=True)
class Stream:
    """A whole stream.

    Args:
        pieces: its bytes, in order.
        raw_size: sum of the buffers before compression, bytes.
        digest: SHA-256 of its bytes, hex.
    """

    pieces: tuple[bytes, ...]
    raw_size: int
    digest: str

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.pieces))


@dataclass(frozen=True)
class Form:
    """What all streams of a schema have in common.

    Args:
        schema: of every batch.
        opening: the message of the schema.
        message: of a record batch, without its body.
        blanks: where that one's numbers stand.
    """

    schema: pa.Schema
    opening: bytes
    message: bytes
    blanks: ipc.Blanks


def form_of(schema: pa.Schema) -> Form:
    """Let Arrow write the messages of a schema and of one row."""
    row = [pa.nulls(1, field.type) for field in schema]
    one = pa.RecordBatch.from_arrays(row, schema=schema)
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        stream.write_batch(one)
    whole = sink.getvalue().to_pybytes()
    head, batch = ipc.walk(memoryview(whole))
    length = 8 + _INT.unpack_from(whole, batch.start + 4)[0]
    message = whole[batch.start : batch.start + length]
    blanks = ipc.blanks(memoryview(message))
    return Form(schema, whole[head.start : head.end], message, blanks)


class Writer:
    """One stream, in memory.

    Args:
        form: of its schema.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._compress = _compressor().compress
        self._pieces: list[bytes] = []
        self._raw_size = 0
        self._digest = hashlib.sha256()
        self._add([form.opening])

    def write(self, batch: pa.RecordBatch) -> None:
        """One more record batch; after an error nothing more may be written.

        Args:
            batch: of the schema, at least one row.

        Raises:
            ValueError: it has another schema, or a column begins behind the beginning
                of its buffers.
        """
        if not batch.schema.equals(self._form.schema):
            raise ValueError("a record batch of another schema")
        body: list[bytes] = []
        places: list[tuple[int, int]] = []
        at = 0
        for column in batch.columns:
            for buffer in _buffers(column):
                piece, size = self._packed(buffer)
                body.append(piece)
                places.append((at, size))
                at += len(piece)
        nodes = [(len(column), column.null_count) for column in batch.columns]
        head = self._head(batch.num_rows, size=at, nodes=nodes, places=places)
        self._add([head, *body])

    def finish(self) -> Stream:
        """The whole stream; nothing may be written any more."""
        self._add([ipc.EOS])
        return Stream(tuple(self._pieces), self._raw_size, self._digest.hexdigest())

    def _add(self, pieces: list[bytes]) -> None:
        self._pieces += pieces
        for piece in pieces:
            self._digest.update(piece)

    def _packed(self, buffer: memoryview | None) -> tuple[bytes, int]:
        """A buffer as it stands in a body, filled up; and its own length there."""
        if not buffer:
            return b"", 0
        self._raw_size += buffer.nbytes
        packed = self._compress(buffer)
        size = _SIZE.size + len(packed)
        return b"".join([_SIZE.pack(buffer.nbytes), packed, bytes(-size % 8)]), size

    def _head(
        self,
        rows: int,
        *,
        size: int,
        nodes: list[tuple[int, int]],
        places: list[tuple[int, int]],
    ) -> bytes:
        """The message before a body.

        Args:
            rows: of the batch.
            size: of the body, bytes.
            nodes: rows and nulls of each column.
            places: offset in the body and length of each buffer.
        """
        message, blanks = bytearray(self._form.message), self._form.blanks
        _SIZE.pack_into(message, blanks.body, size)
        _SIZE.pack_into(message, blanks.rows, rows)
        for start, pairs in ((blanks.nodes, nodes), (blanks.buffers, places)):
            for i, pair in enumerate(pairs):
                _PAIR.pack_into(message, start + _PAIR.size * i, *pair)
        return bytes(message)


def _compressor() -> ZstdCompressor:
    parameters = ZstdCompressionParameters(
        compression_level=LEVEL, hash_log=HASH_LOG, min_match=MIN_MATCH
    )
    return ZstdCompressor(compression_params=parameters)


def _buffers(column: Column) -> Iterator[memoryview | None]:
    """The buffers of a column as the format has them, without what lies behind."""
    kind, rows, found = column.type, len(column), column.buffers()
    begin, end = 0, None
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        begin, end = (_INT.unpack_from(found[1], 4 * i)[0] for i in (0, rows))
    if column.offset or begin:
        raise ValueError(f"a column of {kind} does not begin where its buffers do")
    yield _bits(found[0], rows) if column.null_count else None
    if end is not None:
        yield memoryview(found[1])[: 4 * (rows + 1)]
        yield None if found[2] is None else memoryview(found[2])[:end]
    elif pa.types.is_boolean(kind):
        yield _bits(found[1], rows)
    else:
        yield memoryview(found[1])[: rows * kind.bit_width // 8]


def _bits(buffer: pa.Buffer, rows: int) -> memoryview:
    """A bit a row, and 0 behind them."""
    bits = bytearray(memoryview(buffer)[: -(-rows // 8)])
    if rows % 8:
        bits[-1] &= (1 << rows % 8) - 1
    return memoryview(bits)
