# SPDX-License-Identifier: Apache-2.0
"""A heartbeat as wire.md has it, built by hand, and one of our own values."""

from __future__ import annotations

import time
from typing import Any

from agent.wire.heartbeat import (
    ConfigStand,
    Heartbeat,
    SpoolStand,
    StreamStand,
    Totals,
)

NODE = "11990100MB0000018H/rsj-fep1"
FIRST = "a" * 32
SECOND = "b" * 32
RUNNING = "sha256:" + "1" * 64


def body(node: str, n: int, /, **changes: Any) -> dict[str, Any]:
    """The JSON of a beat; ``changes`` replace members."""
    return {
        "v": 1,
        "iss": node,
        "aud": "yunxi.exchange",
        "iat": int(time.time()),
        "incarnation": FIRST,
        "n": n,
        "agent": "fep-agent/0.1.0",
        "config": {
            "desired": None,
            "running": RUNNING,
            "failed": None,
            "reason": None,
        },
        "streams": {
            "worst": [],
            "totals": {"streams": 0, "stuck": 0, "batches": 0, "bytes": 0},
        },
        "spool": {"used": 0, "quota": 1000, "free": 1000, "blocked": False},
        "certificate_days": 300,
        "clock_offset_ms": None,
        "audit_size": 7,
    } | changes


def beat(n: int = 1, **changes: Any) -> Heartbeat:
    """A beat that is well."""
    members: dict[str, Any] = {
        "iss": NODE,
        "aud": "yunxi.exchange",
        "iat": 1_790_000_000,
        "incarnation": FIRST,
        "n": n,
        "agent": "fep-agent/0.1.0",
        "config": ConfigStand(None, RUNNING),
        "worst": (),
        "totals": Totals(0, 0, 0, 0),
        "spool": SpoolStand(0, 1000, 1000, blocked=False),
        "certificate_days": 300,
        "clock_offset_ms": -1200,
        "audit_size": 7,
    }
    return Heartbeat(**(members | changes))


def stuck(resource: str = "101001/000001") -> StreamStand:
    """A stream that waits for a person."""
    return StreamStand(resource, "held", "mass-delete", "2026-11-21T08:00:00Z", 2)
