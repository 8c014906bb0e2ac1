# SPDX-License-Identifier: Apache-2.0
"""Whether a command of the exchange is carried out (wire.md §6). Pure.

Rules

1. The key is found in the directory by its ``kid`` among the exchange's keys of purpose
   ``command``; it must be active. No key comes out of a message.
2. Until the signature has verified and the command is for this node, a fault is an
   exception and gets no signed result.
3. After that a command that is not carried out has a reason of the closed list: the
   clock first, then whether we know it, then whether the department allows it.
4. Nothing is allowed unless the department says so, command by command.
5. So many at a time are looked at (:class:`Pace`), whatever the exchange lists: each
   costs a record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from agent.crypto import jose
from agent.errors import MalformedMessage
from agent.wire import command as wire
from agent.wire.command import COMMANDS, SKEW_S, Command
from agent.wire.directory import Directory

AT_ONCE = 30
"""So many commands are looked at in a row."""
EVERY_S = 6.0
"""After that one in so many seconds."""


@dataclass(frozen=True)
class Here:
    """Who judges, and when.

    Args:
        node: who we are.
        aud: our exchange.
        now: aware UTC.
        allowed: commands that the department allows, of its ceiling.
    """

    node: str
    aud: str
    now: datetime
    allowed: Collection[str] = ()


@dataclass(frozen=True)
class Judged:
    """A command for us that a command key signed.

    Args:
        command: its claims.
        digest: its message digest.
        kid: of the key.
        reason: why it is refused, one of ``wire.REASONS``; None: it may be done.
    """

    command: Command
    digest: str
    kid: str
    reason: str | None


def judge(text: str, directory: Directory, here: Here) -> Judged:
    """What to do about a command.

    Args:
        text: the compact JWS as received.
        directory: everybody's keys, as they stand now.
        here: see there.

    Raises:
        MalformedMessage: it breaks the format, or is for another node.
        UnknownKey: no active command key of our exchange signed it.
        BadSignature: the signature does not verify.
    """
    message = jose.split(text, cap=wire.CAP)
    key = directory.command_key(here.aud, message.kid)
    verified = jose.verify(message, key, typ=wire.TYP)
    found = wire.parse(verified.payload)
    if (found.iss, found.aud) != (here.aud, here.node):
        raise MalformedMessage("command: expected one of our exchange to this node")
    return Judged(found, verified.digest, verified.kid, _reason(found, here))


def _reason(found: Command, here: Here) -> str | None:
    now = here.now.timestamp()
    if found.iat > now + SKEW_S:
        return "early"
    if now > found.exp + SKEW_S:
        return "late"
    if found.cmd not in COMMANDS:
        return "unknown"
    return None if found.cmd in here.allowed else "off"


class Pace:
    """How many commands may be looked at now.

    Args:
        clock: monotonic seconds.
        burst: so many in a row.
        every_s: after that one in so many seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        burst: int = AT_ONCE,
        every_s: float = EVERY_S,
    ) -> None:
        self._clock = clock
        self._burst = burst
        self._every_s = every_s
        self._full_at = clock()  # when all would be allowed again

    def take(self) -> bool:
        """Whether one more may be; it is counted then."""
        if self.wait_s() > 0:
            return False
        self._full_at = max(self._full_at, self._clock()) + self._every_s
        return True

    def wait_s(self) -> float:
        """Seconds until one more may be, 0 if it may."""
        spent_s = self._full_at - self._clock()
        return max(0.0, spent_s - (self._burst - 1) * self._every_s)
