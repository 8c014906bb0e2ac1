# SPDX-License-Identifier: Apache-2.0
"""Framing of an Arrow IPC stream, read without decompressing anything.

A payload comes from somebody else: before a library may allocate for it, this module
walks its messages and says which kind each is, how many rows it announces, which codec
it uses and how many bytes its buffers would take (Arrow columnar format 1.5, "IPC
Streaming Format"; FlatBuffers tables and vectors). Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.errors import BadPayload

SCHEMA, DICTIONARY, RECORD_BATCH = 1, 2, 3
"""Kinds of messages (``MessageHeader`` of Message.fbs)."""
ZSTD = 1
"""``CompressionType`` of Message.fbs; 0 is LZ4_FRAME."""

EOS = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end-of-stream marker."""

_CONTINUATION = 0xFFFFFFFF
_UNCOMPRESSED = -1


@dataclass(frozen=True)
class Frame:
    """One message of a stream.

    Args:
        kind: :data:`SCHEMA`, :data:`DICTIONARY`, :data:`RECORD_BATCH` or another.
        start: offset of its first byte in the payload.
        end: offset after its body.
        rows: announced rows of a record batch, else 0.
        codec: None for uncompressed bodies, else the ``CompressionType``.
        raw_size: bytes of its buffers after decompression, as announced.
    """

    kind: int
    start: int
    end: int
    rows: int
    codec: int | None
    raw_size: int


@dataclass(frozen=True)
class Blanks:
    """Where the numbers of a record batch stand in its message, offsets in bytes.

    Args:
        body: length of the body.
        rows: of the batch.
        nodes: rows and nulls of the first column, 16 bytes each column.
        buffers: offset and length of the first buffer, 16 bytes each.
    """

    body: int
    rows: int
    nodes: int
    buffers: int


class _Table:
    """A FlatBuffers table; every access is bounded by the metadata that holds it."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data = data
        self.at = at
        self.vtable = at - _get("<i", data, at)
        self.slots = (_get("<H", data, self.vtable) - 4) // 2

    def where(self, field: int) -> int | None:
        """Offset of a field's value, None if it is absent."""
        if field >= self.slots:
            return None
        offset = _get("<H", self.data, self.vtable + 4 + 2 * field)
        return self.at + offset if offset else None

    def scalar(self, field: int, form: str) -> int:
        """An integer field; absent is 0."""
        place = self.where(field)
        return 0 if place is None else _get(form, self.data, place)

    def table(self, field: int) -> _Table | None:
        """A table field."""
        place = self.where(field)
        if place is None:
            return None
        return _Table(self.data, place + _get("<I", self.data, place))

    def vector(self, field: int) -> int | None:
        """Offset of a vector, which begins with its length; None if it is absent."""
        place = self.where(field)
        return None if place is None else place + _get("<I", self.data, place)

    def structs(self, field: int) -> Iterator[tuple[int, int]]:
        """A vector of structs of two int64."""
        vector = self.vector(field)
        if vector is None:
            return
        count = _get("<I", self.data, vector)
        end = vector + 4 + 16 * count
        if end > len(self.data):
            raise BadPayload("expected whole Arrow metadata")
        yield from struct.iter_unpack("<qq", self.data[vector + 4 : end])


def _get(form: str, data: memoryview, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise BadPayload("expected whole Arrow metadata")
    value: int = struct.unpack_from(form, data, at)[0]
    return value


def walk(payload: memoryview) -> Iterator[Frame]:
    """The messages of a stream, which must end with its marker and nothing after it.

    Raises:
        BadPayload: cut, another framing, no end-of-stream marker, or bytes after it.
    """
    at = 0
    while bytes(payload[at : at + 8]) != EOS:
        frame = _frame(payload, at)
        yield frame
        at = frame.end
    if at + len(EOS) != len(payload):
        raise BadPayload("expected nothing after the end-of-stream marker")


def raw_size(payload: memoryview) -> int:
    """What ``content.raw_size`` says: the decompressed bytes of all buffers.

    Raises:
        BadPayload: not a whole Arrow stream.
    """
    return sum(frame.raw_size for frame in walk(payload))


def blanks(message: memoryview) -> Blanks:
    """Where to write another batch's numbers over those of this one.

    Args:
        message: of a record batch with rows and a body, from its first byte on.

    Raises:
        BadPayload: it is another message, or has no such numbers.
    """
    metadata = message[8 : 8 + _get("<i", message, 4)]
    table = _Table(metadata, _get("<I", metadata, 0))
    batch = table.table(2)
    numbers = [table.where(3)]
    if batch is not None:
        numbers += [batch.where(0), batch.vector(1), batch.vector(2)]
    found = [at for at in numbers if at is not None]
    if len(found) < 4:
        raise BadPayload("expected a record batch with rows")
    body, rows, nodes, buffers = found
    return Blanks(8 + body, 8 + rows, 12 + nodes, 12 + buffers)


def _frame(payload: memoryview, at: int) -> Frame:
    if at + 8 > len(payload):
        raise BadPayload("expected an end-of-stream marker")
    continuation, length = struct.unpack_from("<Ii", payload, at)
    head = at + 8
    if continuation != _CONTINUATION or not 0 < length <= len(payload) - head:
        raise BadPayload("expected an Arrow message")
    if length % 8:
        raise BadPayload("expected messages aligned to 8 bytes")
    metadata = payload[head : head + length]
    message = _Table(metadata, _get("<I", metadata, 0))
    kind = message.scalar(1, "<B")
    body_at = head + length
    body_length = message.scalar(3, "<q")
    if not 0 <= body_length <= len(payload) - body_at or body_length % 8:
        raise BadPayload("expected a whole message body")
    body = payload[body_at : body_at + body_length]
    rows, codec, size = 0, None, 0
    batch = message.table(2)
    if kind == RECORD_BATCH and batch is not None:
        rows = batch.scalar(0, "<q")
        compression = batch.table(3)
        codec = None if compression is None else compression.scalar(0, "<b")
        size = _body_size(batch, body, compressed=codec is not None)
    return Frame(kind, at, body_at + body_length, rows, codec, size)


def _body_size(batch: _Table, body: memoryview, *, compressed: bool) -> int:
    """Sum over the buffers; a compressed one begins with its decompressed length."""
    total = 0
    for offset, length in batch.structs(2):
        if offset < 0 or offset % 8 or not 0 <= length <= len(body) - offset:
            raise BadPayload("expected aligned buffers inside the message body")
        size = length
        if compressed and length:
            size = _get("<q", body[offset : offset + length], 0)
            if size == _UNCOMPRESSED:
                size = length - 8
        if size < 0:
            raise BadPayload("expected buffers of announced length")
        total += size
    return total
