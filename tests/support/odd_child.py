# SPDX-License-Identifier: Apache-2.0
"""A child that speaks the worker protocol and behaves as its first argument says.

It imports the standard library only, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

BEHAVIOUR, FD = sys.argv[1], int(sys.argv[2])
COUNTS = {
    "rows": {"upsert": 1, "delete": 0, "keep": 0},
    "quality": {"read": 1, "quarantined": 0, "skipped": 0},
}
AS_OF = "2026-11-21T08:00:00Z"
PACKED = {
    "t": "packed", "part": 1, "final": True, "size": 1, "raw_size": 1,
    "digest": "sha256:0", **COUNTS, "distinct": 1, "as_of": AS_OF, "token": None,
    "frontier": "f",
}  # fmt: skip
ENDED = {
    "t": "ended", **COUNTS, "reasons": {}, "warnings": {}, "digest": None,
    "as_of": AS_OF, "frontier": "f",
}  # fmt: skip


class Talk:
    def __init__(self) -> None:
        self.sock = socket.socket(fileno=FD)
        self.file = self.sock.makefile("rwb")
        self.first = json.loads(self.file.readline())
        self.job = self.first
        if self.first.get("t") == "prepare":
            self.job = json.loads(self.file.readline())

    def say(self, body: dict[str, Any]) -> None:
        self.file.write(json.dumps(body).encode() + b"\n")
        self.file.flush()

    def tell(self, value: object) -> None:
        self.say({"t": "failed", "code": "internal", "detail": json.dumps(value)})

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()


def compares(talk: Talk) -> None:
    """What it knew before its job, and then its job."""
    talk.say({"t": "progress", "read": os.getpid(), "estimate": None})
    talk.say({"t": "unfit", "reason": json.dumps([talk.first, talk.job["connector"]])})
    talk.say(ENDED)


def ends(talk: Talk) -> None:
    talk.say({"t": "progress", "read": 1, "estimate": None})
    talk.say(ENDED)


def asks(talk: Talk) -> None:
    talk.say(PACKED)
    talk.tell(json.loads(talk.file.readline()))


def tells(talk: Talk) -> None:
    fds = sorted(int(f.name) for f in Path("/proc/self/fd").iterdir())
    talk.tell(
        {
            "env": dict(os.environ),
            "argv": sys.orig_argv,
            "fds": [f for f in fds if is_open(f)],
            "fd": FD,
            "session": os.getsid(0) == os.getpid(),
        }
    )


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def hangs(_talk: Talk) -> None:
    signal.pause()


def lingers(talk: Talk) -> None:
    talk.say(ENDED)
    signal.pause()


def shouts(talk: Talk) -> None:
    talk.write(b"x" * (5 * 1024 * 1024) + b"\n")


def babbles(talk: Talk) -> None:
    talk.say({"t": "nonsense"})
    signal.pause()


def stops(talk: Talk) -> None:
    talk.write(b'{"t": "progress", ')
    sys.exit(7)


def grows(_talk: Talk) -> None:
    hoard = b"\x01" * (200 * 1024 * 1024)
    signal.pause()
    del hoard


def dies(_talk: Talk) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def flashes(_talk: Talk) -> None:
    os.kill(os.getpid(), signal.SIGRTMIN + 3)


def spills(_talk: Talk) -> None:
    for _ in range(100_000):
        sys.stderr.write("李雷110101199003070011 " * 4 + "\n")
    raise KeyError("李雷110101199003070011")


globals()[BEHAVIOUR](Talk())
