# SPDX-License-Identifier: Apache-2.0
"""Problem documents (RFC 9457) with types ``urn:fep:problem:<code>`` (wire.md §1).

They are unsigned, so a proxy can fake one: a problem never halts a stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import CODE
from agent.wire.members import Members

MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:fep:problem:"
CAP = 16 * 1024
"""Longest document that is read, bytes."""

CODES: Mapping[str, int] = MappingProxyType(
    {
        "malformed": 400,
        "unauthenticated": 401,
        "forbidden": 403,
        "not-found": 404,
        "too-large": 413,
        "bad-signature": 422,
        "key-revoked": 422,
        "not-owner": 422,
        "wrong-exchange": 422,
        "catalog-unknown": 422,
        "chain-gap": 422,
        "stale-epoch": 422,
        "fork": 422,
        "bad-digest": 422,
        "bad-proof": 422,
        "no-channel": 503,
        "no-answer": 504,
        "busy": 503,
        "held": 503,
    }
)
"""Code -> HTTP status; ``busy`` and ``held`` may also come as 429."""

REJECTED = frozenset(
    {
        "bad-manifest",
        "bad-payload",
        "mass-delete",
        "snapshot-incomplete",
        "stale-epoch",
    }
)
"""Codes of signed ``rejected`` receipts."""


@dataclass(frozen=True)
class Problem:
    """Why a request was refused.

    Args:
        code: after ``urn:fep:problem:``; unknown ones are kept as they are.
        status: HTTP status.
        detail: for people; no personal values.
        members: further members, such as ``expected_epoch`` and ``expected_seq``.
    """

    code: str
    status: int
    detail: str = ""
    members: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, code: str, detail: str = "", **members: int | str) -> Problem:
        """A problem with the status that the table has for its code."""
        return cls(code, CODES[code], detail, members)

    def as_object(self) -> dict[str, Any]:
        """The document's members."""
        head: dict[str, Any] = {"type": PREFIX + self.code, "status": self.status}
        if self.detail:
            head["detail"] = self.detail
        return {**head, **self.members}

    def body(self) -> bytes:
        """The JSON document, media type :data:`MEDIA_TYPE`."""
        return strict.dumps(self.as_object())


def parse(body: bytes, *, status: int) -> Problem:
    """The problem of a response.

    Args:
        body: as received, bounded by :data:`CAP`.
        status: of the response; it counts, not the member.

    Raises:
        MalformedMessage: not a problem document of ours.
    """
    if len(body) > CAP:
        raise MalformedMessage(f"problem: expected at most {CAP} bytes")
    return _read(strict.loads(body), status)


def of_object(obj: object) -> Problem:
    """The problem of a document inside another message; its own ``status`` counts.

    Raises:
        MalformedMessage: not a problem document of ours.
    """
    m = Members(obj, "problem", "status", open_ended=True)
    return _read(m.whole, m.integer("status", least=400, most=599))


def _read(obj: dict[str, Any], status: int) -> Problem:
    m = Members(obj, "problem", "type", optional="detail", open_ended=True)
    urn = m.text("type")
    code = urn.removeprefix(PREFIX)
    if urn == code or not CODE.fullmatch(code):
        m.fail("type", f"{PREFIX}<code>")
    detail = m.text("detail", least=0, most=4096) if m.has("detail") else ""
    # nobody signed it, and people read it in terminals: no escapes, no other direction
    detail = "".join(c if c.isprintable() else " " for c in detail)
    known = {"type", "status", "detail"}
    rest = {name: value for name, value in obj.items() if name not in known}
    return Problem(code, status, detail, MappingProxyType(rest))
