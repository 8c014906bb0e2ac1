# SPDX-License-Identifier: Apache-2.0
"""What the exchange orders a node to do, and what became of it (wire.md §6).

There is a fixed list of commands; each does what people at the node can do, too, and
none carries a value, a statement, a path or a setting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal, cast

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import CODE, DIGEST, EXCHANGE, NODE, RESOURCE, UUID7
from agent.wire.members import Members, read

TYP = "fep-command+jws"
RESULT_TYP = "fep-command-result+jws"
CAP = 4 * 1024
"""Longest command that is read, bytes of the compact JWS."""
RESULT_CAP = 2 * 1024
"""Longest result that is read, bytes of the compact JWS."""
MOST = 64
"""Most commands of one answer to ``GET /v1/commands``."""
LIST_CAP = 512 * 1024
"""Longest such answer, bytes."""
BUNDLE_CAP = 1024 * 1024
"""Longest bundle that ``diagnostics`` brings, bytes."""
LIFE_S = 600
"""Longest time from ``iat`` to ``exp``, seconds."""
SKEW_S = 60
"""So much two clocks may differ, as for lookups, seconds."""
REMEMBER_S = 2 * SKEW_S
"""So long after ``exp`` a node remembers a ``jti``, seconds."""

COMMANDS = ("refresh", "run", "reconcile", "diagnostics")
"""All that there are. Refresh: fetch the directory and what the centre wants. Run: read
a resource, as ``fep pull`` does. Reconcile: compare it with the centre, and repair what
differs. Diagnostics: make a bundle and hand it over."""
OF_A_RESOURCE = frozenset({"run", "reconcile"})

REASONS = ("early", "late", "unknown", "off", "replay")
"""Why a node refuses what a command key signed for it: made in the future by its clock,
over, not one of :data:`COMMANDS`, not allowed by its department, another message under
a known ``jti``. Besides these ``code`` of a result is the code of an error."""

Status = Literal["done", "refused", "failed"]
STATUS = ("done", "refused", "failed")
"""Done: refresh and diagnostics are over, a run or comparison has begun. Refused: it
may not be. Failed: it was tried."""


@dataclass(frozen=True)
class Command:
    """One command to one node.

    Args:
        iss: the exchange.
        aud: the node.
        jti: uuid7, used once.
        iat: when it was made, seconds since 1970.
        exp: until when it may be carried out, seconds since 1970.
        cmd: one of :data:`COMMANDS`, or a word that this version does not know.
        resource: of those that have one.
    """

    iss: str
    aud: str
    jti: str
    iat: int
    exp: int
    cmd: str
    resource: str | None = None

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        args = {} if self.resource is None else {"resource": self.resource}
        data = strict.dumps(
            {
                "v": 1,
                "iss": self.iss,
                "aud": self.aud,
                "jti": self.jti,
                "iat": self.iat,
                "exp": self.exp,
                "cmd": self.cmd,
                "args": args,
            }
        )
        parse(data)
        return data


def parse(payload: bytes) -> Command:
    """The command of a message; whether it is known is not judged here.

    Raises:
        MalformedMessage: a member is missing, unknown or does not fit, or it lives
            longer than :data:`LIFE_S`.
    """
    m = read(payload, "command", "iss aud jti iat exp cmd args")
    iat = m.integer("iat")
    cmd = m.match("cmd", CODE)
    return Command(
        iss=m.match("iss", EXCHANGE),
        aud=m.match("aud", NODE),
        jti=m.match("jti", UUID7),
        iat=iat,
        exp=m.integer("exp", least=iat + 1, most=iat + LIFE_S),
        cmd=cmd,
        resource=_resource(m, cmd),
    )


def _resource(m: Members, cmd: str) -> str | None:
    if cmd not in COMMANDS:
        m.inner("args", "", open_ended=True)
        return None
    if cmd not in OF_A_RESOURCE:
        m.inner("args", "")
        return None
    return m.inner("args", "resource").match("resource", RESOURCE)


@dataclass(frozen=True)
class Result:
    """What became of a command.

    Args:
        iss: the node.
        aud: the exchange.
        irt: ``jti`` of the command.
        code: why it was not done: one of :data:`REASONS` or the code of an error;
            None if it was.
        at: when that was known, wire grammar.
        bundle: SHA-256 of the bundle that was handed over, ``sha256:<hex>``, or None.
    """

    iss: str
    aud: str
    irt: str
    status: Status
    code: str | None
    at: str
    bundle: str | None = None

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        data = strict.dumps({"v": 1, **asdict(self)})
        parse_result(data)
        return data


def parse_result(payload: bytes) -> Result:
    """The result of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown or does not fit.
    """
    m = read(payload, "command result", "iss aud irt status code at bundle")
    status = cast("Status", m.choice("status", *STATUS))
    if (status == "done") != m.null("code"):
        m.fail("code", "null exactly with done")
    return Result(
        iss=m.match("iss", NODE),
        aud=m.match("aud", EXCHANGE),
        irt=m.match("irt", UUID7),
        status=status,
        code=None if m.null("code") else m.match("code", CODE),
        at=m.time("at"),
        bundle=None if m.null("bundle") else m.match("bundle", DIGEST),
    )


def listed(commands: Iterable[str]) -> bytes:
    """The answer to ``GET /v1/commands``: what waits for the node, the oldest first."""
    return strict.dumps({"v": 1, "commands": list(commands)})


def parse_list(body: bytes) -> tuple[str, ...]:
    """The messages of such an answer; nobody has verified them.

    Raises:
        MalformedMessage: another answer.
    """
    if len(body) > LIST_CAP:
        raise MalformedMessage(f"commands: expected at most {LIST_CAP} bytes")
    m = read(body, "commands", "commands", open_ended=True)
    found = m.array("commands", most=MOST)
    if not all(isinstance(text, str) for text in found):
        m.fail("commands", "compact JWS texts")
    return tuple(found)
