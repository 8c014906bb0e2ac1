# SPDX-License-Identifier: Apache-2.0
"""Whether a document is what its path says, as far as the wire format knows it.

What ``settings`` of groups and nodes may hold is the agent's to judge: the command
gives :mod:`agent.central.publish` its judge for that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from agent.errors import Fault, FepError, MalformedMessage
from agent.wire import directory, rollout, strict
from agent.wire.repository import (
    EXCHANGE_FILE,
    HALT_FILE,
    LIMITS_FILE,
    REVOKED_FILE,
    ROLLOUT_FILE,
)


def faults(path: str, content: bytes) -> Iterable[Fault]:
    """What is wrong with a document; nothing if it fits."""
    if path.startswith("releases/"):
        return ()
    try:
        _read(path, content)
    except FepError as e:
        return (Fault(path, "", e.detail, None),)
    return ()


def _read(path: str, content: bytes) -> None:
    if path == ROLLOUT_FILE:
        rollout.parse_rollout(content)
        return
    if path == HALT_FILE:
        rollout.parse_halt(content)
        return
    body = strict.loads(content)
    if path == EXCHANGE_FILE:
        if not directory.parse_exchange(body).exchanges:
            raise MalformedMessage("exchanges: expected one or more")
    elif path == REVOKED_FILE:
        directory.parse_revoked(body)
    elif path.startswith("directory/"):
        department = path.removeprefix("directory/").removesuffix(".json")
        directory.parse_department(body, department)
    elif has_generation(path):
        if body.get("v") != 1:
            raise MalformedMessage("v: expected 1")
        generation_of(body)


def has_generation(path: str) -> bool:
    """Whether documents at a path count generations."""
    return path in (LIMITS_FILE, ROLLOUT_FILE) or path.endswith("/config.json")


def generation_of(body: Mapping[str, Any]) -> int:
    """The generation of a document.

    Raises:
        MalformedMessage: it has none.
    """
    found = body.get("generation")
    if type(found) is not int or not 1 <= found < strict.LIMIT:
        raise MalformedMessage("generation: expected an integer from 1")
    return found


def generation_faults(path: str, new: bytes, old: bytes | None) -> Iterable[Fault]:
    """A changed document has a higher generation than before."""
    if old is None or not has_generation(path):
        return ()
    try:
        before = generation_of(strict.loads(old))
        now = generation_of(strict.loads(new))
    except MalformedMessage:
        return ()  # told already
    if now > before:
        return ()
    return (Fault(path, "generation", f"more than {before}", str(now)),)


def dumps(body: dict[str, Any]) -> bytes:
    """A document's bytes, with lines for people who read it."""
    return json.dumps(body, ensure_ascii=False, indent=2).encode() + b"\n"
