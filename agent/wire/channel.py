# SPDX-License-Identifier: Apache-2.0
"""Frames of the WebSocket over which a provider is asked (wire.md §4, Relay).

``{"t": "req", "id", "body"}`` and ``res`` carry a sealed message, ``err`` a problem
document, ``nudge`` nothing: poll position and directory. ``id`` is the exchange's,
unique in one connection; an answer repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from agent.errors import MalformedMessage
from agent.wire import problem, strict
from agent.wire.members import Members
from agent.wire.problem import Problem

PATH = "/v1/channel"
SUBPROTOCOL = "fep.v1"
FRAME_CAP = 4 * 1024 * 1024
"""Longest frame, bytes."""
IN_FLIGHT = 64
"""Most requests of one connection that wait for their answer."""

Kind = Literal["req", "res", "nudge", "err"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAMES = {"req": "t id body", "res": "t id body", "err": "t id body", "nudge": "t"}


@dataclass(frozen=True)
class Frame:
    """One text message of the channel.

    Args:
        t: what it is.
        id: of the request that it is or answers; None in a nudge.
        body: req, res: compact JWE; err: problem document; nudge: None.
    """

    t: Kind
    id: str | None = None
    body: str | Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def error(cls, identity: str, fault: Problem) -> Self:
        """The frame that answers a request with a problem."""
        return cls("err", identity, fault.as_object())

    def problem(self) -> Problem:
        """The problem of an ``err`` frame.

        Raises:
            MalformedMessage: it carries none.
        """
        if not isinstance(self.body, Mapping):
            raise MalformedMessage(f"channel: expected a problem, got {self.t}")
        return problem.of_object(dict(self.body))

    def format(self) -> str:
        """The text to send.

        Raises:
            MalformedMessage: :func:`parse` would refuse it.
        """
        members = {"t": self.t, "id": self.id, "body": self.body}
        told = {name: value for name, value in members.items() if value is not None}
        data = strict.dumps(told)
        _check(told, len(data))
        return data.decode("utf-8")


def parse(text: str | bytes) -> Frame:
    """The frame of a message as received.

    Raises:
        MalformedMessage: too long, or of another shape.
    """
    if len(text) > FRAME_CAP:
        raise MalformedMessage(f"channel: expected at most {FRAME_CAP} bytes")
    try:
        data = text.encode("utf-8") if isinstance(text, str) else text
    except UnicodeEncodeError as e:
        raise MalformedMessage("channel: expected UTF-8") from e
    return _check(strict.loads(data), len(data))


def _check(obj: dict[str, Any], size: int) -> Frame:
    if size > FRAME_CAP:
        raise MalformedMessage(f"channel: expected at most {FRAME_CAP} bytes")
    kind = obj.get("t")
    if not isinstance(kind, str) or kind not in _NAMES:
        raise MalformedMessage(f"channel.t: expected {' or '.join(_NAMES)}")
    m = Members(obj, f"channel.{kind}", _NAMES[kind])
    if kind == "nudge":
        return Frame("nudge")
    body = m.raw("body")
    if kind == "err":
        problem.of_object(body)
    else:
        m.text("body", most=FRAME_CAP)
    return Frame(cast("Kind", kind), m.match("id", _ID), body)
