# SPDX-License-Identifier: Apache-2.0
"""Commands as an exchange makes them, and a directory with its command key."""

from __future__ import annotations

import itertools
from typing import Any

from agent.crypto.jose import PrivateKey
from agent.wire import command as wire
from agent.wire.command import Command, Result
from agent.wire.directory import (
    Directory,
    ExchangeEntry,
    ExchangeFile,
    RevokedFile,
    Status,
)
from agent.wire.grammar import new_uuid7

NODE = "11990100MB0000018H/rsj-fep1"
OTHER = "11990100MB0000018H/rsj-fep2"
AUD = "yunxi.exchange"
IAT = 1_790_000_000
RESOURCE = "101001/000001"
KEY = PrivateKey.generate("command")

_NUMBERS = itertools.count(1)


def jti() -> str:
    """Another one at every call."""
    return new_uuid7(IAT * 1000, next(_NUMBERS).to_bytes(10, "big"))


def command(cmd: str = "refresh", resource: str | None = None, **more: Any) -> Command:
    """A command that is well; ``more`` are other members."""
    members: dict[str, Any] = {
        "iss": AUD,
        "aud": NODE,
        "jti": jti(),
        "iat": IAT,
        "exp": IAT + 600,
        "cmd": cmd,
        "resource": resource,
    }
    return Command(**(members | more))


def result(**more: Any) -> Result:
    """A result that is well; ``more`` are other members."""
    members: dict[str, Any] = {
        "iss": NODE,
        "aud": AUD,
        "irt": jti(),
        "status": "done",
        "code": None,
        "at": "2026-11-21T08:00:00Z",
    }
    return Result(**(members | more))


def signed(found: Command, key: PrivateKey = KEY) -> str:
    """The message of a command."""
    return key.sign(wire.TYP, found.payload())


def directory(
    *keys: tuple[PrivateKey, Status], revoked: tuple[str, ...] = ()
) -> Directory:
    """One with these keys of the exchange, by default the command key."""
    found = keys or ((KEY, "active"),)
    entry = ExchangeEntry(AUD, (), tuple((key.public, status) for key, status in found))
    gone = RevokedFile(dict.fromkeys(revoked, "2026-11-21T08:00:00Z"), {})
    return Directory(IAT, {}, ExchangeFile((entry,)), gone)
