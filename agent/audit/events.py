# SPDX-License-Identifier: Apache-2.0
"""One frozen class per thing worth telling.

Emitting an event writes the log line and moves the counter together, so that neither is
forgotten; an audit record will join them. No field ever holds a personal value:
resources, counts, codes, digests and times only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Event:
    """Base of all events.

    ``name`` is stable and dotted; ``counts`` names the counter it moves, if any.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[Level] = "info"


Tell = Callable[[Event], None]
"""How a part of the daemon tells an event; ``logs.py`` makes the real one."""


@dataclass(frozen=True)
class DaemonReady(Event):
    """Spool and state are recovered; systemd was told READY."""

    name = "daemon.ready"
    version: str
    resources: int


@dataclass(frozen=True)
class DaemonStopping(Event):
    """A signal asked the daemon to stop."""

    name = "daemon.stopping"
    signal: str
    hurried: bool


@dataclass(frozen=True)
class AdminAction(Event):
    """Somebody used the local socket to change something."""

    name = "admin.action"
    uid: int
    action: str
    resource: str | None


@dataclass(frozen=True)
class SecretChanged(Event):
    """A secret's file changed and was read again."""

    name = "secret.changed"
    key: str


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
class RunHeld(Event):
    """A run waits for a person: mass delete or secrecy marker."""

    name = "run.held"
    level = "warning"
    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class RowsQuarantined(Event):
    """Rows were withheld; the file with the reasons stays on this machine."""

    name = "quarantine.rows"
    level = "warning"
    resource: str
    run: str
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class BatchRegistered(Event):
    """A batch is durable in the spool and may leave."""

    name = "batch.registered"
    resource: str
    epoch: int
    seq: int
    upsert: int
    delete: int
    keep: int
    size: int


@dataclass(frozen=True)
class ReceiptKept(Event):
    """A signed receipt was verified and stored."""

    name = "receipt.kept"
    resource: str
    epoch: int
    seq: int
    state: str
    code: str | None


@dataclass(frozen=True)
class EpochOpened(Event):
    """A stream began a new epoch."""

    name = "stream.epoch"
    level = "warning"
    resource: str
    epoch: int
    reason: str


@dataclass(frozen=True)
class CatalogSent(Event):
    """The exchange knows this version of a resource's catalog statement."""

    name = "catalog.sent"
    resource: str
    version: int
    digest: str


@dataclass(frozen=True)
class ExchangeTrouble(Event):
    """A request to the exchange failed and will be tried again."""

    name = "exchange.trouble"
    level = "warning"
    resource: str | None
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class OrphansRemoved(Event):
    """Files that a crash left behind unregistered were deleted at start."""

    name = "spool.orphans"
    files: int


@dataclass(frozen=True)
class SpoolBlocked(Event):
    """The spool is full; reading waits."""

    name = "spool.blocked"
    level = "warning"
    used: int
    quota: int


@dataclass(frozen=True)
class BatchPurged(Event):
    """A payload was deleted after its receipt; the receipt stays."""

    name = "batch.purged"
    resource: str
    epoch: int
    seq: int
