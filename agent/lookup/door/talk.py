# SPDX-License-Identifier: Apache-2.0
"""What the daemon and the door say to each other.

One socket with frames (:mod:`agent.child.frames`). The daemon's first frame is OPENING.
Then the door says OPENED or UNUSABLE; it asks (ASK, a packed sealed message) under
numbers of its own, counts what it refused itself (REFUSED), and gives a sign of life
(BEAT). The daemon answers each number, in any order, with SIGNED or PROBLEM. After END
the door takes nothing new, gives the answers that it still gets, and goes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from agent.crypto.jose import PublicKey
from agent.crypto.jwe import Parcel
from agent.errors import FepError
from agent.wire import problem, strict
from agent.wire.lookup import REPLY_ROOM, REQUEST_CAP
from agent.wire.problem import Problem


class Kind:
    """What a frame is."""

    OPENING: Final = 1
    SIGNED: Final = 2
    PROBLEM: Final = 3
    END: Final = 4
    OPENED: Final = 5
    UNUSABLE: Final = 6
    ASK: Final = 7
    REFUSED: Final = 8
    BEAT: Final = 9


TO_DAEMON_CAP = REQUEST_CAP
"""Longest body of the door's frames, bytes."""
TO_DOOR_CAP = REPLY_ROOM + 8192
"""Longest body of the daemon's frames, bytes."""
BEAT_S = 5.0
"""Pause between two signs of life, seconds."""


@dataclass(frozen=True)
class Opening:
    """How to listen.

    Args:
        host: address to listen on.
        port: of it.
        ca: path of the pinned CA, PEM.
        certificate: path of ours, PEM.
        key: path of its key, PEM.
        aud: the exchange that alone may ask.
        most: requests inside at a time.
        body_s: how long a body may take to come, seconds.
        idle_s: how long a connection may be open on which nothing is being answered.
        unsealing: the passphrase of the key (Latin-1, so any bytes); empty for an open
            one.
    """

    host: str
    port: int
    ca: str
    certificate: str
    key: str
    aud: str
    most: int
    body_s: float = 30.0
    idle_s: float = 75.0
    unsealing: str = field(default="", repr=False)


# --- bodies -----------------------------------------------------------------------


def opening_body(opening: Opening) -> bytes:
    """The body of OPENING."""
    return json.dumps(asdict(opening)).encode()


def opening_of(body: bytes) -> Opening:
    """The opening of a body.

    Raises:
        ValueError: not one that :func:`opening_body` makes.
    """
    try:
        return Opening(**json.loads(body))
    except TypeError:
        raise ValueError("not an opening") from None


def parcel_body(parcel: Parcel) -> bytes:
    """The body of SIGNED: to whom, LF, the signed message."""
    p = parcel
    return _head(p.to, p.cty, p.iss, p.aud, p.least) + p.text.encode("ascii")


@lru_cache(maxsize=1024)
def _head(to: PublicKey, cty: str, iss: str, aud: str, least: int) -> bytes:
    head = {"to": dict(to.jwk), "cty": cty, "iss": iss, "aud": aud, "least": least}
    return json.dumps(head).encode("ascii") + b"\n"


def parcel_of(body: bytes) -> Parcel:
    """The parcel of a body.

    Raises:
        ValueError: not one that :func:`parcel_body` makes.
    """
    head, _, text = body.partition(b"\n")
    return replace(_address(head), text=text.decode("ascii"))


@lru_cache(maxsize=1024)
def _address(head: bytes) -> Parcel:
    """A parcel without its text."""
    try:
        found: dict[str, Any] = json.loads(head)
        return Parcel("", **{**found, "to": PublicKey.from_jwk(found["to"])})
    except (KeyError, TypeError, FepError) as e:
        raise ValueError("not an address") from e


def problem_body(found: Problem) -> bytes:
    """The body of PROBLEM."""
    return found.body()


def problem_of(body: bytes) -> Problem:
    """The problem of a body.

    Raises:
        ValueError: not a problem document.
    """
    try:
        return problem.of_object(strict.loads(body))
    except FepError as e:
        raise ValueError("not a problem") from e
