# SPDX-License-Identifier: Apache-2.0
"""An Arrow IPC stream whose buffers are compressed with zstd parameters of our own.

Arrow's writer takes a level of zstd and nothing else. Level 1 looks for what was there
before in a table of 64 KiB, which the first cache of a processor does not hold beside
the data; in one of 16 KiB it finds as much, in seven eighths of the time. So Arrow
writes the message of one row, and each batch writes its own numbers over that one's
(docs/adr/0017). For workers only: the daemon imports no pyarrow.

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
_OFFSET = struct.Struct("<i")
_EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"


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


class Writer:
    """One stream, in memory.

    Args:
        schema: of every batch; flat columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        opening, self._message = _written(schema)
        self._blanks = ipc.blanks(memoryview(self._message))
        self._compress = _compressor().compress
        self._pieces: list[bytes] = []
        self._raw_size = 0
        self._digest = hashlib.sha256()
        self._add([opening])

    def write(self, batch: pa.RecordBatch) -> None:
        """One more record batch.

        Args:
            batch: of the schema, at least one row; its columns begin where their
                buffers do.

        Raises:
            ValueError: a column begins elsewhere.
        """
        body, places, at = [], [], 0
        for buffer in _all_buffers(batch):
            piece, size = self._packed(buffer)
            body.append(piece)
            places.append((at, size))
            at += len(piece)
        nodes = [(len(column), column.null_count) for column in batch.columns]
        self._add([self._head(batch.num_rows, at, nodes, places), *body])

    def finish(self) -> Stream:
        """The whole stream; nothing may be written any more."""
        self._add([_EOS])
        return Stream(tuple(self._pieces), self._raw_size, self._digest.hexdigest())

    def _add(self, pieces: list[bytes]) -> None:
        self._pieces += pieces
        for piece in pieces:
            self._digest.update(piece)

    def _packed(self, buffer: pa.Buffer | None) -> tuple[bytes, int]:
        """A buffer as it stands in a body, filled up to eight bytes; its length there.

        That is its size, and itself compressed; of one without bytes it is nothing.
        """
        if buffer is None or not buffer.size:
            return b"", 0
        self._raw_size += buffer.size
        packed = self._compress(memoryview(buffer))
        size = _SIZE.size + len(packed)
        return b"".join([_SIZE.pack(buffer.size), packed, bytes(-size % 8)]), size

    def _head(
        self,
        rows: int,
        size: int,
        nodes: list[tuple[int, int]],
        places: list[tuple[int, int]],
    ) -> bytes:
        """The message before a body of so many bytes."""
        message, blanks = bytearray(self._message), self._blanks
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


def _written(schema: pa.Schema) -> tuple[bytes, bytes]:
    """By Arrow: the message of the schema, and that of a batch without its body."""
    row = [pa.nulls(1, field.type) for field in schema]
    one = pa.RecordBatch.from_arrays(row, schema=schema)
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as stream:
        stream.write_batch(one)
    whole = sink.getvalue().to_pybytes()
    head, batch = ipc.walk(memoryview(whole))
    length = 8 + _OFFSET.unpack_from(whole, batch.start + 4)[0]
    return whole[head.start : head.end], whole[batch.start : batch.start + length]


def _all_buffers(batch: pa.RecordBatch) -> Iterator[pa.Buffer | None]:
    for column in batch.columns:
        yield from _buffers(column)


def _buffers(column: Column) -> Iterator[pa.Buffer | None]:
    """The buffers of a column as the format has them, without what lies behind."""
    kind, rows, found = column.type, len(column), column.buffers()
    begin, end = 0, None
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        begin, end = (_OFFSET.unpack_from(found[1], 4 * i)[0] for i in (0, rows))
    if column.offset or begin:
        raise ValueError(f"a column of {kind} does not begin where its buffers do")
    yield found[0].slice(0, _bits(rows)) if column.null_count else None
    if end is not None:
        yield found[1].slice(0, 4 * (rows + 1))
        yield found[2] and found[2].slice(0, end)
    elif pa.types.is_boolean(kind):
        yield found[1].slice(0, _bits(rows))
    else:
        yield found[1].slice(0, rows * kind.bit_width // 8)


def _bits(rows: int) -> int:
    """Bytes of so many bits."""
    return -(-rows // 8)
