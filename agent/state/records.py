# SPDX-License-Identifier: Apache-2.0
"""Frozen values that go into the state and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.model.batch import Mode, Quality, Rows
from agent.model.column import Column
from agent.model.run import RunKind, ScheduledKind
from agent.model.stream import Head

BatchState = Literal["waiting", "stored", "loaded", "rejected", "dropped"]
Place = tuple[int, int]
"""(epoch, seq) of a batch in its stream; (0, 0) is before all of them."""
RunState = Literal["queued", "reading", "read", "held", "failed", "interrupted"]


@dataclass(frozen=True)
class StreamKey:
    """What a stream is: who sends what to whom."""

    producer: str
    aud: str
    resource: str


@dataclass(frozen=True)
class Stream:
    """A stream as stored.

    Args:
        id: number of the stream in this database.
        key: its identity.
        head: end of the chain; ``epoch`` 0 while the position was never asked.
        halt_code: code of the signed rejection that the stream waits on, or None.
        halt_detail: which batch was rejected.
        halt_at: when we learned of it.
    """

    id: int
    key: StreamKey
    head: Head
    halt_code: str | None
    halt_detail: str | None
    halt_at: str | None


@dataclass(frozen=True)
class Epoch:
    """An epoch to open: the new head and the signed position that it rests on.

    ``cause`` is what made it needed, more exactly than the head's reason.
    """

    head: Head
    position: str
    at: str
    cause: str = ""


@dataclass(frozen=True)
class DiskSample:
    """How full the disk was.

    Args:
        at: when, wire grammar.
        free: bytes left on it.
        used: bytes of batch files.
    """

    at: str
    free: int
    used: int


@dataclass(frozen=True)
class Opened:
    """Why and when the epoch of a stream was opened."""

    cause: str
    at: str


@dataclass(frozen=True)
class NewBatch:
    """A batch whose file is durable and which may now be registered.

    Args:
        stream: number of the stream.
        head: the head that the batch was sealed on.
        digest: message digest of its manifest.
        run: the run that it belongs to.
        file: name of the file in the spool.
        size: bytes of the whole file.
        content_size: bytes of the payload.
        content_digest: ``sha256:<hex>`` of the payload.
        mode: mode of the manifest.
        part: number of the part in its snapshot, from 1.
        rows: rows of the payload.
        quality: source rows of the batch.
        distinct: distinct keys of the snapshot, on its final part only.
        token: where reading could go on, None on the run's last batch.
        final: whether the run ends with this batch.
        frontier: where the run ends, on its last batch; None if it moves none.
        as_of: instant for which the rows hold.
        at: when it was sealed.
        basis: what the frontier is of.
        base: frontier at which a read began that can go on.
        last: digest of the last key, where reading can go on.
        method: how changes are found from the frontier on, or None if they cannot be.
        assumes: what that relies on.
        reasons: quarantine code -> rows.
        warnings: rule name -> rows.
        line: line 1 of the file, the exact text that was signed.
    """

    stream: int
    head: Head
    digest: str
    run: str
    file: str
    size: int
    content_size: int
    content_digest: str
    mode: Mode
    part: int
    rows: Rows
    quality: Quality
    distinct: int | None
    token: str | None
    final: bool
    frontier: str | None
    as_of: str
    at: str
    basis: str = ""
    base: str | None = None
    last: str | None = None
    method: str | None = None
    assumes: tuple[str, ...] = ()
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    line: str | None = None


@dataclass(frozen=True)
class KeptFrontier:
    """Up to where a stream was read.

    Args:
        run: that ended there.
        value: opaque text of the connector.
        as_of: the source's clock at that point.
        basis: what it is of.
        method: how changes are found from there on, or None if they cannot be.
        assumes: what that relies on and the database does not prove.
    """

    run: str
    value: str
    as_of: str
    basis: str
    method: str | None
    assumes: tuple[str, ...]


@dataclass(frozen=True)
class Batch:
    """A registered batch."""

    stream: int
    epoch: int
    seq: int
    run: str
    digest: str
    file: str
    size: int
    content_size: int
    content_digest: str
    mode: str
    part: int
    final: bool
    distinct: int | None
    rows: Rows
    quality: Quality
    state: BatchState
    gone: bool
    sealed_at: str
    settled_at: str | None


@dataclass(frozen=True)
class NewReceipt:
    """A verified receipt of one of our batches.

    Args:
        at: the exchange's clock.
        jws: the exact text that was received.
        voucher: SHA-256 of the directory that has its key, lower hex; None if that
            could not be kept.
    """

    epoch: int
    seq: int
    state: Literal["stored", "loaded", "rejected"]
    code: str | None
    rows: Rows | None
    at: str
    jws: str
    voucher: str | None = None


@dataclass(frozen=True)
class KeptReceipt:
    """A receipt as kept, with the exact text that was received."""

    epoch: int
    seq: int
    state: str
    code: str | None
    rows: Rows | None
    at: str
    jws: str
    kept_at: str
    voucher: str | None = None


@dataclass(frozen=True)
class Proof:
    """A receipt with line 1 of its batch, None if that was not kept."""

    receipt: KeptReceipt
    line: str | None


@dataclass(frozen=True)
class Count:
    """What the centre counted of a stream.

    Args:
        run: whose last batch was the last that was loaded then.
        rows: of its table.
        at: the exchange's clock.
    """

    run: str
    rows: int
    at: str


@dataclass(frozen=True)
class Catalog:
    """A catalog statement as signed; ``sent`` once the exchange knows it."""

    version: int
    digest: str
    jws: str
    sent: bool


@dataclass(frozen=True)
class SeenColumns:
    """A table as the last run that went on saw it.

    Args:
        version: of the resource document then.
        place: source and table.
        columns: all of them, in order.
    """

    version: int
    place: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class RunTotals:
    """What a worker says at the end of a run."""

    rows: Rows
    quality: Quality
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]


@dataclass(frozen=True)
class Run:
    """A run of a resource.

    Args:
        deletes_confirmed: so many keys may go by a person's word, or None.
        kind: what it reads.
        totals: once it has read everything.
        keys_gone: so many would have gone, where it is held for that; else None.
    """

    id: str
    stream: int
    state: RunState
    deletes_confirmed: int | None
    asked_at: str
    started_at: str | None = None
    ended_at: str | None = None
    totals: RunTotals | None = None
    code: str | None = None
    detail: str | None = None
    successor: str | None = None
    keys_gone: int | None = None
    kind: RunKind = "full"


@dataclass(frozen=True)
class KeptDue:
    """When a kind of run of a stream is due next.

    Args:
        stream: number of the stream.
        kind: of run.
        plan: what the moment was counted by.
        at: from then on it is due, wire grammar.
        begun: when the last scheduled one began.
    """

    stream: int
    kind: ScheduledKind
    plan: str
    at: str
    begun: str | None


@dataclass(frozen=True)
class Complete:
    """Up to where the exchange has a stream completely.

    Args:
        as_of: instant for which its rows hold, by the source's clock.
        at: when its ``loaded`` receipt was kept.
    """

    as_of: str | None
    at: str


@dataclass(frozen=True)
class RunEnd:
    """How a run ended early: held, failed or interrupted, and why.

    Args:
        keys_gone: so many keys would have gone, where it is held for that.
    """

    state: RunState
    code: str
    detail: str
    at: str
    keys_gone: int | None = None


@dataclass(frozen=True)
class Sums:
    """Batches of a run, added up.

    Args:
        batches: how many.
        open_upsert: upserts in batches that wait or are stored, not yet loaded.
        loaded_upsert: upserts of loaded receipts, as the exchange counted them.
        lost_upsert: upserts in batches that were rejected or dropped.
        rows: rows by the manifests.
        quality: source rows by the manifests.
        states: state -> batches.
        uneven: batches that do not account for every source row.
        overkept: batches with more keys kept than rows withheld.
    """

    batches: int
    open_upsert: int
    loaded_upsert: int
    lost_upsert: int
    rows: Rows
    quality: Quality
    states: Mapping[str, int]
    uneven: int = 0
    overkept: int = 0
