# SPDX-License-Identifier: Apache-2.0
"""What every child process does first, and the socket that it speaks through."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import threading

from agent.model.job import LINE_CAP

NICE = 5
"""How much nicer than the daemon a worker is; a third of the daemon's share."""

_PR_SET_PDEATHSIG = 1


class DaemonGone(Exception):
    """The other end of the socket is closed: nobody is left to work for."""


def settle() -> None:
    """Die with the parent (Linux), leave no core file, make files for the owner only.

    A core file would hold rows and the password of the source. A parent that died
    before this call is noticed at the socket.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def give_way() -> None:
    """Let others have the processor first, where the system allows to say so.

    While a table is read, people, lookups and what is already on its way do not wait.
    """
    with contextlib.suppress(OSError):
        os.nice(NICE)


def give_memory_back() -> None:
    """Return what was freed to the system (glibc; elsewhere nothing happens).

    Between the steps of a run: what one needed is else kept while the next one grows.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Lines:
    """Bounded lines over a connected socket; any thread may send.

    Args:
        sock: connected stream socket; closed by whoever made it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sending = threading.Lock()
        self._received = bytearray()

    def send(self, line: bytes) -> None:
        """Send one line, LF included.

        Raises:
            ValueError: longer than ``LINE_CAP``.
            DaemonGone: nobody reads it.
        """
        if len(line) > LINE_CAP:
            raise ValueError(f"line of {len(line)} bytes, at most {LINE_CAP}")
        try:
            with self._sending:
                self._sock.sendall(line)
        except ConnectionError as e:
            raise DaemonGone from e

    def receive(self) -> bytes:
        """The next line, LF included.

        Raises:
            ValueError: longer than ``LINE_CAP``.
            DaemonGone: the other end closed.
        """
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) >= LINE_CAP:
                raise ValueError(f"line of more than {LINE_CAP} bytes")
            try:
                piece = self._sock.recv(65536)
            except ConnectionError as e:
                raise DaemonGone from e
            if not piece:
                raise DaemonGone
            self._received += piece
        line = bytes(self._received[: end + 1])
        del self._received[: end + 1]
        return line
