# SPDX-License-Identifier: Apache-2.0
"""Binary frames between the daemon and a child.

A frame is the length of its body (4 bytes), its kind (1), a number (4), all big-endian,
and the body. Frames that are ready at the same time travel in few writes, so that many
of them wake the other side seldom; but a pair goes at once, so that both sides work
at a time.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

TOGETHER = 2
"""So many frames do not wait for more. Without this bound all requests in flight move
as one: the daemon waits while the child works and the other way round."""

PIECE = 64 * 1024
"""Most bytes of one read. For a buffer of 128 KiB or more malloc asks the kernel each
time, which takes five times as long as to read a usual frame (measured)."""

_HEAD = struct.Struct(">IBI")


class Frame(NamedTuple):
    """A frame: what it is, about which request (0: none), and its body."""

    kind: int
    number: int
    body: bytes


def read_pieces(transport: asyncio.BaseTransport) -> None:
    """Have a socket's transport read :data:`PIECE` bytes at most, not 256 KiB."""
    if hasattr(transport, "max_size"):  # asyncio's own; another loop may not have it
        transport.max_size = PIECE


def frame_of(kind: int, number: int, body: bytes) -> bytes:
    """A frame's bytes."""
    return _HEAD.pack(len(body), kind, number) + body


class Frames:
    """Takes frames out of a stream.

    Args:
        cap: longest body, bytes.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._kept = b""

    def of(self, data: bytes) -> Iterator[Frame]:
        """The frames that a further piece of the stream completes.

        Raises:
            ValueError: one is longer than it may be.
        """
        kept = self._kept + data if self._kept else data
        at, end = 0, len(kept)
        while end - at >= _HEAD.size:
            size, kind, number = _HEAD.unpack_from(kept, at)
            if size > self._cap:
                raise ValueError(f"frame of {size} bytes, at most {self._cap}")
            begin = at + _HEAD.size
            if end - begin < size:
                break
            at = begin + size
            yield Frame(kind, number, kept[begin:at])
        self._kept = kept[at:]


class Outbox:
    """Gathers frames until there is a pair, or the loop has nothing else to run.

    Args:
        write: sends bytes, without waiting.
        soon: ``call_soon`` of the loop.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._write = write
        self._soon = soon
        self._waiting: list[bytes] = []

    def put(self, kind: int, number: int, body: bytes) -> None:
        """Send a frame, with others of this moment."""
        if not self._waiting:
            self._soon(self.flush)
        self._waiting += (_HEAD.pack(len(body), kind, number), body)
        if len(self._waiting) >= 2 * TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send what is there now."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._write(data)
