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
from typing import Any

BEHAVIOUR, FD = sys.argv[1], int(sys.argv[2])
COUNTS = {
    "rows": {"upsert": 1, "delete": 0, "keep": 0},
    "quality": {"read": 1, "quarantined": 0, "skipped": 0},
}
PACKED = {
    "t": "packed", "part": 1, "final": True, "size": 1, "raw_size": 1, "digest": "sha256:0",
    **COUNTS, "distinct": 1, "as_of": "2026-11-21T08:00:00Z", "token": None, "frontier": "f",
}  # fmt: skip
ENDED = {
    "t": "ended", **COUNTS, "reasons": {}, "warnings": {}, "digest": None,
    "as_of": "2026-11-21T08:00:00Z", "frontier": "f",
}  # fmt: skip


class Talk:
    def __init__(self) -> None:
        self.sock = socket.socket(fileno=FD)
        self.file = self.sock.makefile("rwb")
        self.job = json.loads(self.file.readline())

    def say(self, body: dict[str, Any]) -> None:
        self.file.write(json.dumps(body).encode() + b"\n")
        self.file.flush()

    def tell(self, value: object) -> None:
        self.say({"t": "failed", "code": "internal", "detail": json.dumps(value)})


def behave(talk: Talk) -> None:
    match BEHAVIOUR:
        case "ends":
            talk.say({"t": "progress", "read": 1, "estimate": None})
            talk.say(ENDED)
        case "asks":
            talk.say(PACKED)
            talk.tell(json.loads(talk.file.readline()))
        case "tells":
            fds = sorted(int(f) for f in os.listdir("/proc/self/fd"))
            talk.tell(
                {
                    "env": dict(os.environ),
                    "argv": sys.orig_argv,
                    "fds": [f for f in fds if os.path.exists(f"/proc/self/fd/{f}")],
                    "fd": FD,
                    "session": os.getsid(0) == os.getpid(),
                }
            )
        case "hangs":
            signal.pause()
        case "lingers":
            talk.say(ENDED)
            signal.pause()
        case "shouts":
            talk.file.write(b"x" * (5 * 1024 * 1024) + b"\n")
            talk.file.flush()
            signal.pause()
        case "babbles":
            talk.say({"t": "nonsense"})
            signal.pause()
        case "stops":
            talk.file.write(b'{"t": "progress", ')
            talk.file.flush()
            sys.exit(7)
        case "grows":
            hoard = b"\x01" * (200 * 1024 * 1024)
            signal.pause()
            del hoard
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "spills":
            for _ in range(100_000):
                sys.stderr.write("李雷110101199003070011 " * 4 + "\n")
            raise KeyError("李雷110101199003070011")


behave(Talk())
