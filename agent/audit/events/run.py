# SPDX-License-Identifier: Apache-2.0
"""Runs: what was read, how the source felt, what was withheld or compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


@dataclass(frozen=True)
class RunStarted(Event):
    """A run of a resource began to read."""

    name = "run.started"
    resource: str
    run: str


@dataclass(frozen=True)
class RunEnded(Event):
    """A run read everything and its last batch is registered."""

    name = "run.ended"
    resource: str
    run: str
    read: int
    upsert: int
    quarantined: int
    seconds: float


@dataclass(frozen=True)
class RunFailed(Event):
    """A run ended early; others go on."""

    name = "run.failed"
    level = "error"
    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class WorkerEnded(Event):
    """The process of a run ended without a result; so many in a row by now."""

    name = "worker.died"
    level = "error"
    resource: str
    run: str
    code: str
    detail: str
    times: int


@dataclass(frozen=True)
class RunHeld(Event):
    """A run waits for a person: mass delete, secrecy marker, changed table, deaths."""

    name = "run.held"
    level = "warning"
    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class FrontierGone(Event):
    """Increments cannot go on from where they were; a full read follows."""

    name = "frontier.lost"
    level = "warning"
    resource: str
    run: str
    detail: str


@dataclass(frozen=True)
class NumberUnfit(Event):
    """A table cannot be followed by its growing number; its rows are compared."""

    name = "number.unfit"
    level = "warning"
    resource: str
    run: str
    detail: str


@dataclass(frozen=True)
class ColumnsChanged(Event):
    """A table was changed at the source, and its resource goes on."""

    name = "source.columns"
    level = "warning"
    resource: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class SourceSlowed(Event):
    """A source is not well, and the run that reads it goes easy."""

    name = "source.slowed"
    level = "warning"
    resource: str
    run: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SourceRecovered(Event):
    """The source is well again, and the run reads at full speed."""

    name = "source.recovered"
    resource: str
    run: str


@dataclass(frozen=True)
class HealthHidden(Event):
    """The account may not see these measures of how its source feels."""

    name = "source.health_hidden"
    resource: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class RowsQuarantined(Event):
    """Rows were withheld; the file with the reasons stays on this machine."""

    name = "quarantine.rows"
    level = "warning"
    resource: str
    run: str
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class RowsReturned(Event):
    """Rows of a batch that the exchange rejected were put into quarantine."""

    name = "rows.returned"
    level = "warning"
    resource: str
    epoch: int
    seq: int
    code: str
    rows: int


@dataclass(frozen=True)
class DigestsRemoved(Event):
    """Digests of resources that have left the catalogue were deleted."""

    name = "digests.removed"
    resources: tuple[str, ...]


@dataclass(frozen=True)
class RowsCompared(Recorded):
    """The centre's rows were compared with the source's; before any repair.

    Args:
        rows: rows of the source that would be sent.
        centre: rows of the centre.
        missing: the centre has them not.
        stale: the centre has other values.
        extra: only the centre has them.
        late: they changed after what was sent last.
        withheld: the centre keeps an older version.
        left: buckets that were not looked into.
    """

    name = "rows.compared"
    resource: str
    run: str
    rows: int
    centre: int
    missing: int
    stale: int
    extra: int
    late: int
    withheld: int
    left: int
