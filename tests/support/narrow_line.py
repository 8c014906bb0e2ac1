# SPDX-License-Identifier: Apache-2.0
"""A narrow line that is cut again and again, between an agent and its exchange.

A relay of TCP connections in a process of its own. Whatever comes from the agent goes
through one queue that is drained at the line's rate, as in a modem: a megabyte of one
connection delays every other one behind it. All that left the agent is counted. The way
back is as narrow, with a queue of its own. A cut resets every connection, and what is
on the way is lost; new connections are taken again after the pause.

    python -m tests.support.narrow_line HOST PORT --bytes-per-s 1250000 --cut-every 3

It prints its port, and after each line of standard input a JSON object of its counts.
From the line ``cut`` on it is cut.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KERNEL = 32 * 1024
"""Bytes that the kernel takes of a connection before the line does."""
CHUNK = 4096
"""Bytes that are taken of a connection at a time."""


@dataclass
class Queue:
    """One direction of the line.

    Args:
        bytes_per_s: its rate.
        room: bytes that wait at most; who comes then is held up.
    """

    bytes_per_s: float
    room: int
    passed: int = 0
    lost: int = 0
    _waiting: int = 0
    _items: asyncio.Queue[tuple[asyncio.StreamWriter, bytes]] = field(
        default_factory=asyncio.Queue
    )
    _space: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def put(self, to: asyncio.StreamWriter, data: bytes) -> None:
        """Bytes enter the line."""
        async with self._space:
            await self._space.wait_for(lambda: self._waiting < self.room)
            self._waiting += len(data)
        self.passed += len(data)
        self._items.put_nowait((to, data))

    async def drain(self) -> None:
        """Bytes leave it at its rate; forever."""
        clock = asyncio.get_running_loop().time
        free_at = clock()
        while True:
            to, data = await self._items.get()
            free_at = max(free_at, clock() - 0.005) + len(data) / self.bytes_per_s
            if (wait := free_at - clock()) > 0.001:
                await asyncio.sleep(wait)
            if to.is_closing():
                self.lost += len(data)
            else:
                to.write(data)
            async with self._space:
                self._waiting -= len(data)
                self._space.notify_all()

    def lose(self, size: int) -> None:
        """Bytes that had left their sender will never enter the line."""
        self.passed += size
        self.lost += size

    def clear(self) -> None:
        """What is on the line is lost."""
        while not self._items.empty():
            _, data = self._items.get_nowait()
            self._waiting -= len(data)
            self.lost += len(data)


class NarrowLine:
    """The line.

    Args:
        host: of the exchange.
        port: of the exchange.
        bytes_per_s: rate of each direction.
        room: bytes that a queue holds.
    """

    def __init__(self, host: str, port: int, *, bytes_per_s: float, room: int) -> None:
        self._target = (host, port)
        self.up = Queue(bytes_per_s, room)
        self.down = Queue(bytes_per_s, room)
        self.cuts = 0
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._shut = False
        self._agents: dict[asyncio.StreamReader, asyncio.StreamWriter] = {}

    @contextlib.asynccontextmanager
    async def serving(self) -> Any:
        """Its port."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL)
        server = await asyncio.start_server(self._take, sock=listener, limit=CHUNK)
        tasks = [asyncio.create_task(q.drain()) for q in (self.up, self.down)]
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.close()
            self._reset()

    async def cut_every(self, seconds: float, *, pause_s: float) -> None:
        """Cut it again and again; forever."""
        while True:
            await asyncio.sleep(seconds)
            self._shut = pause_s > 0
            self.cut()
            await asyncio.sleep(pause_s)
            self._shut = False

    def cut(self) -> None:
        """Reset every connection."""
        self.cuts += 1
        for reader, writer in self._agents.items():
            self.up.lose(_untaken(reader, writer))
        self._reset()
        self.up.clear()
        self.down.clear()

    def _reset(self) -> None:
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        self._agents.clear()

    async def _take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self._shut:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            theirs, to = await asyncio.open_connection(*self._target, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to}
        self._agents[reader] = writer
        ways = (self._pump(reader, to, self.up), self._pump(theirs, writer, self.down))
        await asyncio.gather(*ways)

    async def _pump(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, queue: Queue
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await queue.put(to, data)
        self._open.discard(to)
        self._agents.pop(reader, None)
        to.close()

    def counts(self) -> dict[str, int]:
        """What went over it so far."""
        return {
            "up": self.up.passed,
            "down": self.down.passed,
            "lost": self.up.lost,
            "cuts": self.cuts,
            "connections": self.connections,
        }


def _untaken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Bytes of a connection that have arrived and were not taken."""
    held = len(reader._buffer)  # type: ignore[attr-defined]
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return held
    found = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return held + int.from_bytes(found, sys.byteorder)


class LineProcess:
    """The line in a process of its own; see :func:`narrow_line`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the line has ended")
        return line

    def counts(self) -> dict[str, int]:
        """What went over it so far."""
        return self._ask("counts")

    def begin_cuts(self) -> dict[str, int]:
        """From now on it is cut again and again; what went over it so far."""
        return self._ask("cut")

    def _ask(self, word: str) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return dict(json.loads(self._read()))

    def end(self) -> None:
        """It is gone for good."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def narrow_line(
    host: str,
    port: int,
    *,
    bytes_per_s: float,
    cut_every_s: float,
    pause_s: float = 0.0,
    room: int = 256 * 1024,
) -> Iterator[LineProcess]:
    """A running line to a host and port."""
    words = [sys.executable, "-m", "tests.support.narrow_line", host, str(port)]
    words += ["--bytes-per-s", str(bytes_per_s), "--cut-every", str(cut_every_s)]
    words += ["--pause", str(pause_s), "--room", str(room)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield LineProcess(process)
        finally:
            process.terminate()


async def _main(wish: argparse.Namespace) -> None:
    line = NarrowLine(
        wish.host, wish.port, bytes_per_s=wish.bytes_per_s, room=wish.room
    )
    loop = asyncio.get_running_loop()
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    async with line.serving() as port:
        _say(port)
        cutting: asyncio.Task[None] | None = None
        while word := await asked.readline():
            if word == b"cut\n" and cutting is None:
                cuts = line.cut_every(wish.cut_every, pause_s=wish.pause)
                cutting = asyncio.create_task(cuts)
            _say(json.dumps(line.counts()))
        if cutting is not None:
            cutting.cancel()


def _say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """Take the options and carry bytes until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--bytes-per-s", type=float, required=True)
    parser.add_argument("--cut-every", type=float, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--room", type=int, default=256 * 1024)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
