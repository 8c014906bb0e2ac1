# SPDX-License-Identifier: Apache-2.0
"""A lookup worker without a source: each key says what is to happen.

It imports the standard library only, so that it starts at once. ``found…`` is a row,
``twice`` two, ``slow:S`` comes after S seconds, ``fault:CODE`` fails the query,
``die``, ``hang``, ``babble``, ``shout``, ``short`` and ``grow`` are what they say;
``seen`` is a row that tells what the worker was given. Everything else is no row.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

AS_OF = "2026-11-21T08:00:00.000001Z"


class Odd:
    def __init__(self, fd: int) -> None:
        self.file = socket.socket(fileno=fd).makefile("rwb")
        self.opening = json.loads(self.file.readline())
        self.shapes: dict[int, Any] = {}
        self.queries: list[int] = []

    def say(self, body: dict[str, Any]) -> None:
        self.file.write(json.dumps(body).encode() + b"\n")
        self.file.flush()

    def serve(self) -> None:
        if self.opening["connector"] == "refused":
            self.say({"id": 0, "code": "source-failed", "detail": "no such connector"})
            return
        for line in self.file:
            body = json.loads(line)
            if "shape" in body:
                self.shapes[body["shape"]] = body
            else:
                self.queries.append(len(body["keys"]))
                self.answer(body)

    def answer(self, body: dict[str, Any]) -> None:
        rows = [self.row(key, body) for key in body["keys"]]
        for row in rows:
            if isinstance(row, dict):
                self.say({"id": body["id"], **row})
                return
        asks, start = [], 0
        for size in body["split"]:
            asks.append(rows[start : start + size])
            start += size
        if "large" in rows:
            asks = ["large" if "large" in ask else ask for ask in asks]
        self.say({"id": body["id"], "last": True, "as_of": AS_OF, "asks": asks})

    def row(self, key: list[str], body: dict[str, Any]) -> Any:
        act, _, word = key[0].partition(":")
        self.misbehave(act, word)
        match act:
            case "fault":
                return {"code": word, "detail": "as the key asks"}
            case "short":
                return {"last": True, "as_of": AS_OF, "asks": []}
            case "twice":
                return True
            case "large":
                return "large"
            case "seen":
                return [json.dumps(self.seen(body))]
        return [key[0], False, None] if act in ("found", "slow") else None

    def seen(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "queries": self.queries,
            "pid": os.getpid(),
            "opening": self.opening,
            "shapes": len(self.shapes),
            "table": self.shapes[body["slot"]]["table"],
        }

    def misbehave(self, act: str, word: str) -> None:
        match act:
            case "slow":
                time.sleep(float(word))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "babble":
                self.write(b'{"hello": "110101199003070011"}\n')
            case "shout":
                self.write(b"[" * (5 * 1024 * 1024))
            case "grow":
                self.held = b"x" * (200 * 1024 * 1024)
                time.sleep(600)
            case "spill":
                sys.stderr.write("Traceback (most recent call last):\n  x\n")
                sys.stderr.write("KeyError: '110101199003070011'\n")
                sys.exit(1)

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()


if __name__ == "__main__":
    Odd(int(sys.argv[1])).serve()
