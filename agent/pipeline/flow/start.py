# SPDX-License-Identifier: Apache-2.0
"""How a run begins: what it can read, and where it goes on; pure.

Rules

1. Changes are read only from a frontier of the same table, columns and catalog.
   Without one, or where nobody can tell changes, all rows are read. Where the connector
   cannot, but the last run wrote down what it sent, rows are compared with that.
   Neither can rows be compared with a centre whose table follows another catalog.
2. A full read that was cut goes on after its last registered part, in the same
   snapshot. It counts as read when its first part was: what changed since, the next
   increment brings.
3. What was cut by the line, the login, the clock or a person goes on. After any other
   failure the same place might fail again: it begins anew.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import (
    ChainMoved,
    DigestsUnfit,
    ExchangeRefused,
    FepError,
    FrontierLost,
    Interrupted,
    SecretUnreadable,
    SourceLogin,
    SourceTimeout,
    SourceUnreachable,
    SpoolFull,
    WorkerDied,
)
from agent.model.run import COMPARING
from agent.pipeline import state_folder

if TYPE_CHECKING:
    from agent.model.job import Job, Resume
    from agent.model.run import RunKind
    from agent.state import KeptFrontier

READ_IN_FULL = (FrontierLost, DigestsUnfit)
"""After these the stream's frontier is forgotten and a full read follows at once."""

DIFF = "diff"
"""The method of a frontier from which changes are found by comparing digests."""

GOES_ON = (
    Interrupted,
    SecretUnreadable,
    SourceLogin,
    SourceTimeout,
    SourceUnreachable,
    SpoolFull,
    WorkerDied,
)
"""After these a read that was cut goes on where it was."""


UNANSWERABLE = frozenset({"catalog-unknown", "too-large"})
"""Refusals of the centre that a comparison would only meet again."""


def refused_for_good(kind: RunKind, error: FepError) -> str | None:
    """Why the centre will never answer a comparison, or None."""
    if kind not in COMPARING or not isinstance(error, ExchangeRefused):
        return None
    return error.problem if error.problem in UNANSWERABLE else None


def goes_on(error: FepError) -> bool:
    """Whether the place at which a read was cut is worth another try."""
    return isinstance(error, GOES_ON)


def basis(job: Job, version: int) -> str:
    """What has to be the same for a frontier, or a place in a read, to mean a thing."""
    marks = [] if job.number is None else [f"#{job.number}"]
    marks += [f"{b.item.name}={b.encoding}" for b in job.items if b.encoding]
    bound = {b.item.name: b.column for b in job.items if b.column != b.item.name}
    marks += [json.dumps(bound, ensure_ascii=False, sort_keys=True)] if bound else []
    return " ".join([job.connector, ".".join(job.table), f"v{version}", *marks])


def kind_of(wanted: RunKind, frontier: KeptFrontier | None, base: str) -> RunKind:
    """What can be read where a kind is wanted."""
    if wanted in {"full", "recall"}:
        return wanted
    if wanted in COMPARING:
        moved = frontier is not None and frontier.basis != base
        return "full" if moved else wanted
    if frontier is None or frontier.basis != base or frontier.method is None:
        return "full"
    if frontier.method == DIFF:
        return "diff"  # which finds deletes, too
    return "deletes" if wanted == "deletes" else "incremental"


def prepared(
    job: Job, version: int, frontier: KeptFrontier | None, resume: Resume | None
) -> Job:
    """The job with what is known of its stream.

    Args:
        job: as the settings and the catalog have it; its mode is what is wanted.
        version: of the catalog.
        frontier: up to where the stream was read, or None.
        resume: where the same run was cut, or None.

    Raises:
        ChainMoved: the run was cut while it read something else.
    """
    base = basis(job, version)
    if resume is not None:
        if resume.basis != base:
            raise ChainMoved("the table or its catalog is another than when it was cut")
        return replace(job, mode="full", resume=resume)
    kind = kind_of(job.mode, frontier, base)
    if kind in {"full", "recall"} or (frontier is not None and frontier.basis != base):
        frontier = None
    return replace(_after(job, frontier), mode=kind)


def _after(job: Job, frontier: KeptFrontier | None) -> Job:
    """The job with where the last read of its stream ended."""
    if frontier is None or frontier.method is None:
        return replace(job, since=None)
    if frontier.method != DIFF:
        return replace(job, since=frontier.value)
    states = job.states
    if states is not None:
        folder = Path(states.fresh).parent
        known = state_folder.file(folder, job.resource, frontier.run)
        states = replace(states, known=str(known))
    return replace(job, states=states)
