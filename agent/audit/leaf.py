# SPDX-License-Identifier: Apache-2.0
"""The form of a record: one line of JSON, whose exact bytes are a leaf of the tree.

``{"v":1,"n":<number from 0>,"at":"<time>","kind":"<event name>", ...fields}``, compact,
UTF-8 without escapes that JSON does not need, members in this order, no line end.
"""

from __future__ import annotations

import json
from typing import Any

from agent.audit.events import Recorded
from agent.errors import AuditDamaged

CAP = 256 * 1024
"""Longest line, bytes; a thousand subjects are 25 KB."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def tail(event: Recorded) -> str:
    """What a line says after its kind; made before number and time are known.

    Raises:
        ValueError: the event has a value that has no place in a record, or too many.
    """
    members = {"kind": event.name, **event.members()}
    text = _ENCODER.encode(members)
    if len(text.encode()) > CAP - 256:
        raise ValueError(f"{event.name}: expected a record below {CAP} bytes")
    return text[1:]


def line(n: int, at: str, tail: str) -> str:
    """The whole line."""
    return f'{{"v":1,"n":{n},"at":"{at}",{tail}'


def read(n: int, line: str) -> dict[str, Any]:
    """The members of a line that the ledger has under this number.

    Raises:
        AuditDamaged: no record, or one of another place.
    """
    try:
        record = json.loads(line)
        good = record["v"] == 1 and record["n"] == n
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise AuditDamaged(f"record {n}: expected a JSON object") from e
    if not good or not isinstance(record, dict):
        raise AuditDamaged(f"record {n}: expected v 1 and n {n}")
    return record
