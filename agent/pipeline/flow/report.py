# SPDX-License-Identifier: Apache-2.0
"""How the push flow stands, as frozen values that turn into JSON by ``asdict``.

The counting equations are those of ``accounts``; ``balanced`` is the one of the run:
read = loaded + in_flight + quarantined + skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from agent.model.job import Compared
from agent.model.run import RunKind
from agent.pipeline.flow.accounts import Account, of_run
from agent.pipeline.flow.forecast import UNKNOWN, Forecast
from agent.state import Batch, KeptComparison, KeptReceipt, Run, Sums

ResourceState = Literal[
    "idle", "running", "waiting", "held", "paused", "recalled", "trouble"
]
RunOutcome = Literal["queued", "reading", "read", "held", "failed", "interrupted"]


@dataclass(frozen=True)
class Trouble:
    """What is wrong now.

    Args:
        code: stable code of the error.
        detail: expected, got and where.
        since: when this trouble began, wire grammar.
        next_try: when it is tried again; None when it waits for a person.
    """

    code: str
    detail: str
    since: str
    next_try: str | None


@dataclass(frozen=True)
class Progress:
    """How far the run that reads now is.

    Args:
        read: source rows so far.
        estimate: the source's guess of all of them, or None.
        parts: parts that are sealed.
        rate: rows a second over the last minute; None before anything can be said.
        eta_s: seconds to the end by estimate and rate; None if nobody can say.
    """

    read: int
    estimate: int | None
    parts: int
    rate: float | None = None
    eta_s: float | None = None


@dataclass(frozen=True)
class Ease:
    """The run that reads now goes easy on its source, which is not well.

    Args:
        share: of the full speed.
        reasons: what is beyond its bound, each as ``name=value>bound``.
        since: when it slowed down, wire grammar.
    """

    share: float
    reasons: tuple[str, ...]
    since: str


@dataclass(frozen=True)
class RunReport:
    """A run, its counts and whether they add up.

    Args:
        state: ``read`` once everything is registered for sending.
        kind: what it reads.
        read: source rows.
        upsert: rows that were sealed.
        loaded: rows that the exchange signed as loaded.
        in_flight: rows sealed, not yet loaded, that may still load.
        lost: rows sealed in batches that were rejected or dropped.
        quarantined: source rows withheld.
        stale: withheld rows whose key was sent, so that the centre keeps what it has;
            a part of ``quarantined``.
        skipped: source rows left out without a fault.
        balanced: whether the counting equation holds; None before the run has ended.
        delivered: whether every batch of the run is loaded.
        successor: the run that repeats this one, or None.
        keys_gone: so many keys would have gone, where it is held for that; else None.
        deletes_confirmed: so many may go by a person's word, or None.
        found: what a comparison found, or None.
    """

    run: str
    resource: str
    kind: RunKind
    state: RunOutcome
    asked_at: str
    started_at: str | None
    ended_at: str | None
    read: int
    upsert: int
    loaded: int
    in_flight: int
    lost: int
    quarantined: int
    stale: int
    skipped: int
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    batches: int
    balanced: bool | None
    delivered: bool
    code: str | None
    detail: str | None
    successor: str | None
    keys_gone: int | None
    deletes_confirmed: int | None
    found: Compared | None = None


@dataclass(frozen=True)
class Reconciled:
    """The newest comparison with the centre.

    Args:
        run: that compared.
        at: when.
        found: what differed.
        repaired: whether all of that is loaded at the centre by now, or was nothing.
    """

    run: str
    at: str
    found: Compared
    repaired: bool


@dataclass(frozen=True)
class Recall:
    """A resource is recalled: the centre's rows go, and nothing is read.

    Args:
        rows: that a person agreed to delete.
        since: when that was.
        proven_at: when the exchange signed that it has none, or None.
    """

    rows: int
    since: str
    proven_at: str | None


@dataclass(frozen=True)
class StreamStatus:
    """The chain: last registered batch, last loaded one, and what halts it.

    ``cause`` is why the epoch was begun, at ``opened_at``; at ``seen_at`` the exchange
    stood where we believe it to stand, None before it was asked in this life.
    """

    epoch: int
    seq: int
    loaded_epoch: int
    loaded_seq: int
    halted: str | None
    cause: str | None = None
    opened_at: str | None = None
    seen_at: str | None = None


@dataclass(frozen=True)
class ReceiptStatus:
    """The newest receipt."""

    epoch: int
    seq: int
    state: str
    code: str | None
    at: str


@dataclass(frozen=True)
class Amount:
    """So many batches of so many bytes."""

    batches: int
    bytes: int


@dataclass(frozen=True)
class IncrementStatus:
    """How changes are found since the last read, and what that relies on."""

    method: str
    assumes: tuple[str, ...]


@dataclass(frozen=True)
class ResourceStatus:
    """A resource.

    Args:
        run: its newest run.
        waiting: batches without a receipt.
        stored: batches with a ``stored`` receipt that are not loaded yet.
        balanced: the counting equation of the newest run that has ended; None before.
        last_success: when the newest snapshot or increment was loaded completely.
        complete_to: the instant, by the source's clock, up to which the exchange has
            everything; None before its first snapshot.
        lag_s: seconds since then by our clock.
        increments: how changes are found, or None if only a full read finds them.
        ease: while the run reads slower than it could, for its source's sake.
        accounts: the equations of the newest run that has read everything, and of the
            resource.
        reconciled: the newest comparison with the centre, or None.
        recalled: since when nothing is read, or None.
    """

    resource: str
    state: ResourceState
    run: RunReport | None
    progress: Progress | None
    stream: StreamStatus
    waiting: Amount
    stored: Amount
    receipt: ReceiptStatus | None
    trouble: Trouble | None
    balanced: bool | None
    last_success: str | None = None
    complete_to: str | None = None
    lag_s: float | None = None
    increments: IncrementStatus | None = None
    ease: Ease | None = None
    accounts: tuple[Account, ...] = ()
    reconciled: Reconciled | None = None
    recalled: Recall | None = None

    @property
    def healthy(self) -> bool:
        """Whether nobody need look at it: also not because counts do not add up."""
        even = all(account.ok is not False for account in self.accounts)
        return (
            self.state not in {"held", "trouble"}
            and self.balanced is not False
            and even
        )


@dataclass(frozen=True)
class SpoolStatus:
    """The spool in bytes.

    Args:
        used: of batch files.
        quota: most of them.
        free: left on the disk.
        blocked: a run waits for room.
        slowed: so little is left that each batch waits a little.
        forecast: when the disk will be full.
    """

    used: int
    quota: int
    free: int
    blocked: bool
    slowed: bool = False
    forecast: Forecast = UNKNOWN


@dataclass(frozen=True)
class PushStatus:
    """Everything about the push flow.

    Args:
        paused: whether everything is paused.
        clock_offset_s: how far the exchange's clock is ahead, or None.
        trouble: of the exchange as a whole, or None.
        healthy: whether nobody need look.
    """

    paused: bool
    healthy: bool
    clock_offset_s: float | None
    spool: SpoolStatus
    resources: tuple[ResourceStatus, ...] = field(default_factory=tuple)


@dataclass(frozen=True)
class BatchView:
    """A registered batch, its receipts and its line 1, for people."""

    resource: str
    path: str
    batch: Batch
    receipts: tuple[KeptReceipt, ...]
    line: str | None = None


def run_report(
    run: Run, resource: str, sums: Sums, found: Compared | None = None
) -> RunReport:
    """The report of a run from what the state holds."""
    totals = run.totals
    quality = sums.quality if totals is None else totals.quality
    balanced = next(a.ok for a in of_run(run, sums) if a.name == "run")
    return RunReport(
        run=run.id,
        resource=resource,
        kind=run.kind,
        state=run.state,
        asked_at=run.asked_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        read=quality.read,
        upsert=sums.rows.upsert,
        loaded=sums.loaded_upsert,
        in_flight=sums.open_upsert,
        lost=sums.lost_upsert,
        quarantined=quality.quarantined,
        stale=sums.rows.keep,
        skipped=quality.skipped,
        reasons={} if totals is None else totals.reasons,
        warnings={} if totals is None else totals.warnings,
        batches=sums.batches,
        balanced=balanced,
        delivered=totals is not None and set(sums.states) <= {"loaded"},
        code=run.code,
        detail=run.detail,
        successor=run.successor,
        keys_gone=run.keys_gone,
        deletes_confirmed=run.deletes_confirmed,
        found=found,
    )


def reconciled(kept: KeptComparison, run: Run, sums: Sums) -> Reconciled:
    """The newest comparison, and what became of it."""
    sent = run_report(run, "", sums)
    repairs = run.kind == "reconcile" and not kept.found.left
    repaired = kept.found.clean or (repairs and sent.delivered)
    return Reconciled(kept.run, kept.at, kept.found, repaired)
