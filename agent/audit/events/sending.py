# SPDX-License-Identifier: Apache-2.0
"""Batches on their way: spool, receipts, streams, the way to the exchange."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


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
class StreamMoved(Recorded):
    """What the exchange has, or we keep, of a stream is not what it should be.

    Args:
        resource: of the stream.
        cause: ``spool-lost``, ``restored``, ``exchange-restored``, ``overtaken`` or
            ``cloned``.
        ours: epoch/seq of the last batch that we know it to have.
        theirs: epoch/seq of the last one that it signed.
    """

    name = "stream.moved"
    level = "error"
    resource: str
    cause: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class BatchesGivenUp(Recorded):
    """Batches that waited are not sent: their resource has left the catalogue.

    Args:
        resource: its code.
        batches: how many.
        size: bytes of their files, which go.
        first: epoch/seq of the first of them.
        last: epoch/seq of the last.
    """

    name = "batches.given_up"
    level = "warning"
    resource: str
    batches: int
    size: int
    first: str
    last: str


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
class EndpointChanged(Event):
    """The exchange is reached by another of its addresses; ``first``: the preferred."""

    name = "exchange.endpoint"
    url: str
    first: bool


@dataclass(frozen=True)
class OrphansRemoved(Event):
    """Files that a crash left behind unregistered were deleted at start."""

    name = "spool.orphans"
    files: int


@dataclass(frozen=True)
class SpoolIncomplete(Event):
    """Registered files are not there; what still waited is read again."""

    name = "spool.missing"
    level = "error"
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


@dataclass(frozen=True)
class BatchLeft(Recorded):
    """A batch is about to leave; once, before its first upload.

    Args:
        digest: message digest of its manifest.
        size: bytes of the file.
    """

    name = "batch.left"
    resource: str
    epoch: int
    seq: int
    digest: str
    upsert: int
    delete: int
    keep: int
    size: int


@dataclass(frozen=True)
class ResourceRecalled(Recorded):
    """The exchange signed that it has no rows of a resource after its recall.

    Args:
        run: that asked the exchange.
        rows: that a person agreed to delete.
    """

    name = "resource.recalled"
    level = "warning"
    resource: str
    run: str
    rows: int
