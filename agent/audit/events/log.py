# SPDX-License-Identifier: Apache-2.0
"""The audit log itself, and what was erased from it."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


@dataclass(frozen=True)
class EvidenceErased(Recorded):
    """A day's key is destroyed: its evidence, subjects and commitments say no more.

    Args:
        day: ``YYYY-MM-DD``, UTC.
        uid: who asked; None for the retention period.
        records: so many records had evidence.
    """

    name = "evidence.erased"
    level = "warning"
    day: str
    uid: int | None
    records: int


@dataclass(frozen=True)
class AuditStarted(Recorded):
    """The daemon opened the log; whatever came before it had ended.

    Args:
        version: of the agent.
        unfinished: requests that the last life did not answer.
    """

    name = "audit.started"
    version: str
    unfinished: int


@dataclass(frozen=True)
class RolledBack(Recorded):
    """The witness knows a longer log than ours: an old copy was put back.

    Args:
        size: of our log.
        witnessed: size that the witness cosigned last.
    """

    name = "audit.rolled_back"
    level = "error"
    size: int
    witnessed: int


@dataclass(frozen=True)
class AuditStopped(Event):
    """The log takes no more records; lookups are refused until a restart."""

    name = "audit.stopped"
    level = "error"
    code: str
    detail: str


@dataclass(frozen=True)
class AuditCosigned(Event):
    """The witness cosigned a checkpoint of the log."""

    name = "audit.cosigned"
    size: int


@dataclass(frozen=True)
class WitnessTrouble(Event):
    """The witness did not cosign; the log goes on and is offered again."""

    name = "audit.witness"
    level = "warning"
    code: str
    detail: str
