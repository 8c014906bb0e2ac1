# SPDX-License-Identifier: Apache-2.0
"""Configuration and commands of the centre, and the heartbeat to it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


@dataclass(frozen=True)
class ConfigChanged(Recorded):
    """The agent started with other settings or catalog documents than before.

    Args:
        digest: ``sha256:<hex>`` over what was loaded.
    """

    name = "config.changed"
    digest: str


@dataclass(frozen=True)
class CentralApplied(Recorded):
    """A configuration of the centre runs, on probation.

    Args:
        generation: of its documents, the highest.
        digest: of the overlay, ``sha256:<hex>``.
        before: digest of the overlay that ran, empty for none.
    """

    name = "central.applied"
    generation: int
    digest: str
    before: str


@dataclass(frozen=True)
class CentralGood(Recorded):
    """A configuration of the centre has proven itself."""

    name = "central.good"
    generation: int
    digest: str


@dataclass(frozen=True)
class CentralReverted(Recorded):
    """A configuration of the centre failed; the one before runs again.

    Args:
        generation: of its documents, the highest.
        digest: of the overlay that was given up.
        running: digest of the overlay that runs again, empty for none.
        reason: code of an error.
    """

    name = "central.reverted"
    level = "error"
    generation: int
    digest: str
    running: str
    reason: str


@dataclass(frozen=True)
class CentralRefused(Recorded):
    """A configuration of the centre is not applied; what runs goes on.

    Args:
        generation: of its documents, 0 if they cannot be read.
        digest: of the overlay, empty if there is none.
        reason: code of an error.
    """

    name = "central.refused"
    level = "warning"
    generation: int
    digest: str
    reason: str


@dataclass(frozen=True)
class HeartbeatRefused(Event):
    """The exchange does not take our heartbeats; told once, not at every beat.

    Args:
        code: the exchange's problem; ``held`` and ``fork`` mean that it saw another
            machine under our name.
    """

    name = "heartbeat.refused"
    level = "warning"
    code: str
    detail: str


@dataclass(frozen=True)
class HeartbeatTaken(Event):
    """The exchange takes our heartbeats again."""

    name = "heartbeat.taken"


@dataclass(frozen=True)
class CommandTaken(Recorded):
    """The exchange ordered something that the department allows; it is done now.

    Args:
        cmd: what, by its name in wire.md.
        resource: of which, or None.
        jti: of the command.
        digest: its message digest.
        kid: of the exchange's key that signed it.
    """

    name = "command.taken"
    cmd: str
    resource: str | None
    jti: str
    digest: str
    kid: str


@dataclass(frozen=True)
class CommandRefused(Recorded):
    """Something that the exchange listed as a command is not carried out.

    Args:
        code: why: a reason of wire.md §6, or the code of an error; then nobody knows
            who wrote it.
        cmd: what, if a command key of the exchange signed it for us; else None.
        digest: its message digest, or that of the text if it is no message.
        kid: of the key that signed it, or None.
    """

    name = "command.refused"
    level = "warning"
    code: str
    cmd: str | None
    digest: str
    kid: str | None


@dataclass(frozen=True)
class CommandEnded(Event):
    """What became of a command that was taken.

    Args:
        status: ``done``, ``refused`` or ``failed``.
        code: of the error, or None.
    """

    name = "command.ended"
    cmd: str
    jti: str
    status: str
    code: str | None


@dataclass(frozen=True)
class CommandsCrowded(Event):
    """The exchange lists more commands at a time than are looked at; the rest waits.

    Args:
        waiting: so many, of one list.
    """

    name = "command.crowd"
    level = "warning"
    waiting: int
