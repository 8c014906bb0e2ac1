# SPDX-License-Identifier: Apache-2.0
"""What a process and its children cost, read from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

MEMORY = 4 << 30
"""Bytes that :func:`settle` touches: what a push of five million rows needs, thrice."""

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    """User and system seconds of a process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(f) for f in fields[11:15]) / _TICK


def tree_cpu_s(pid: int) -> float:
    """The same of a process and all that descend from it, living or waited for."""
    total = 0.0
    for one in tree(pid):
        try:
            total += cpu_s(one)
        except OSError:  # it has ended; its parent counts it from now on
            continue
    return total


def settle() -> None:
    """Before a measurement: nothing waits for the disk, and memory is at hand.

    A virtual machine whose host takes back what is free for two seconds (free page
    reporting) pays about a second a GB for what it touches next: whoever keeps most of
    what it writes would pay most, and for nothing of its own.
    """
    os.sync()
    code = f"b'x' * {min(MEMORY, _free_bytes() // 2)}"
    subprocess.run([sys.executable, "-c", code], check=True)


def _free_bytes() -> int:
    """Memory that nobody uses, not for files either."""
    return os.sysconf("SC_AVPHYS_PAGES") * _PAGE


def rss_bytes(pids: list[int]) -> int:
    """Resident bytes of processes, shared pages counted in each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        except OSError:
            continue
    return total


class PeakMemory:
    """Watches the resident memory of a process tree while a block runs.

    Attributes:
        bytes: most of all together.
        largest_child: most of one that is not the first.
    """

    def __init__(self, pid: int, *, every_s: float = 0.25) -> None:
        self._pid = pid
        self._every_s = every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.bytes = 0
        self.largest_child = 0

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(self._every_s):
            one, *others = tree(self._pid)
            children = [rss_bytes([pid]) for pid in others]
            self.bytes = max(self.bytes, rss_bytes([one]) + sum(children))
            self.largest_child = max([self.largest_child, *children])
