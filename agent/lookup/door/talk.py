# SPDX-License-Identifier: Apache-2.0
"""What the daemon and the door say to each other.

One socket. A frame is the length of its body (4 bytes), its kind (1), a number (4),
all big-endian, and the body. The daemon's first frame is OPENING. Then the door says
OPENED or UNUSABLE; it asks (ASK) under numbers of its own, counts what it refused
itself (REFUSED), and gives a sign of life (BEAT). The daemon answers each number, in
any order, with SIGNED or PROBLEM. After END the door takes nothing new, gives the
answers that it still gets, and goes.

Frames that are ready at the same time travel in few writes, so that many of them wake
the other side seldom; but a handful goes at once, so that both sides work at a time.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

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
TOGETHER = 4
"""So many frames do not wait for more. Without this bound all lookups in flight move as
one: the daemon waits while the door works and the other way round."""

_HEAD = struct.Struct(">IBI")


class Frame(NamedTuple):
    """A frame: what it is, about which request (0: none), and its body."""

    kind: int
    number: int
    body: bytes


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


class Frames:
    """Takes frames out of a stream.

    Args:
        cap: longest body, bytes.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._kept = b""

    def of(self, data: bytes) -> Iterator[Frame]:
        """The frames that a further piece of the stream completes.

        Raises:
            ValueError: one is longer than it may be.
        """
        kept = self._kept + data if self._kept else data
        at, end = 0, len(kept)
        while end - at >= _HEAD.size:
            size, kind, number = _HEAD.unpack_from(kept, at)
            if size > self._cap:
                raise ValueError(f"frame of {size} bytes, at most {self._cap}")
            begin = at + _HEAD.size
            if end - begin < size:
                break
            at = begin + size
            yield Frame(kind, number, kept[begin:at])
        self._kept = kept[at:]


class Outbox:
    """Gathers frames until there is a handful, or the loop has nothing else to run.

    Args:
        write: sends bytes, without waiting.
        soon: ``call_soon`` of the loop.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._write = write
        self._soon = soon
        self._waiting: list[bytes] = []

    def put(self, kind: int, number: int, body: bytes) -> None:
        """Send a frame, with others of this moment."""
        if not self._waiting:
            self._soon(self.flush)
        self._waiting += (_HEAD.pack(len(body), kind, number), body)
        if len(self._waiting) >= 2 * TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Send what is there now."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._write(data)


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
