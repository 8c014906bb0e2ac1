# SPDX-License-Identifier: Apache-2.0
"""Whether the counts add up (wire.md §2, Counting); pure.

Equations of a run, once it has read everything:

* ``batches``: read = upsert + quarantined + skipped, of every batch;
* ``keep``: keep <= quarantined, of every batch;
* ``sum``: the batches, added up, are what the worker said of the run;
* ``run``: read = loaded + in flight + quarantined + skipped + lost. ``read`` and
  ``quarantined`` are the worker's, ``in flight`` the state's, ``loaded`` is what the
  exchange signed: three sources, so that an error of one shows. ``lost`` stands only
  where batches were rejected or given up: their rows are read again by another run.

Equation of a resource: source rows = centre's rows + never sent + in flight. The
source's rows are known when a whole read ends (full or diff); the centre's, signed by
it, are asked for once that run is loaded and before anything else is. What the centre
has above the rows that were good is kept there at an older version, ``stale``: at most
as many as were withheld with their key. The rest of what was withheld was never sent.
Later increments change both sides by numbers that nobody counts: the equation holds for
``at``, until the next whole read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from agent.model.batch import Quality, Rows
from agent.state import Count, Run, Sums

Name = Literal["batches", "keep", "sum", "run", "resource"]
Why = Literal["reading", "not-loaded", "not-counted"]


@dataclass(frozen=True)
class Account:
    """One equation.

    Args:
        ok: whether it holds; None while something is not known.
        sign: ``=`` or ``<=``.
        left: names and numbers; they are added up.
        right: the same. Of ``sum`` each name is compared by itself.
        stale: of a resource, rows of ``centre`` that are kept at an older version.
        run: what it is about.
        at: of a resource, the exchange's time of its count.
        why: what is not known yet: the run reads, is not loaded, or nobody counted.
    """

    name: Name
    ok: bool | None
    sign: Literal["=", "<="]
    left: Mapping[str, int]
    right: Mapping[str, int]
    run: str | None
    at: str | None = None
    why: Why | None = None
    stale: int | None = None


def of_run(run: Run, sums: Sums) -> tuple[Account, ...]:
    """The equations of a run."""
    return tuple(_of_run(run, sums))


def _of_run(run: Run, sums: Sums) -> Iterator[Account]:
    totals, quality = run.totals, sums.quality
    read = {"read": quality.read}
    left = {
        "upsert": sums.rows.upsert,
        "quarantined": quality.quarantined,
        "skipped": quality.skipped,
    }
    ok = sums.uneven == 0 and quality.read == sum(left.values())
    yield Account("batches", ok, "=", read, left, run.id)
    keep, withheld = {"keep": sums.rows.keep}, {"quarantined": quality.quarantined}
    yield Account("keep", sums.overkept == 0, "<=", keep, withheld, run.id)
    if totals is None:
        yield Account("sum", None, "=", {}, {}, run.id, why="reading")
        yield Account("run", None, "=", {}, {}, run.id, why="reading")
        return
    said, added = _flat(totals.rows, totals.quality), _flat(sums.rows, quality)
    if (
        not sums.batches
    ):  # a comparison that found nothing: what it read is nowhere else
        said, added = {**vars(totals.rows)}, {**vars(sums.rows)}
    yield Account("sum", said == added, "=", said, added, run.id)
    read = {"read": totals.quality.read}
    where = {
        "loaded": sums.loaded_upsert,
        "in_flight": sums.open_upsert,
        "quarantined": totals.quality.quarantined,
        "skipped": totals.quality.skipped,
    }
    if sums.lost_upsert:
        where["lost"] = sums.lost_upsert
    ok = totals.quality.read == sum(where.values())
    yield Account("run", ok, "=", read, where, run.id)


def _flat(rows: Rows, quality: Quality) -> dict[str, int]:
    return {**vars(rows), **vars(quality)}


def of_resource(run: Run | None, sums: Sums | None, count: Count | None) -> Account:
    """The equation of a resource.

    Args:
        run: its newest whole read that was counted or, without one, that ended.
        sums: of that run's batches.
        count: what the centre counted right after it, or None.
    """
    if run is None or run.totals is None or sums is None:
        return Account("resource", None, "=", {}, {}, None, why="reading")
    quality = run.totals.quality
    here = {"source": quality.read}
    if count is None or count.run != run.id or sums.open_upsert:
        why: Why = "not-loaded" if sums.open_upsert else "not-counted"
        return Account("resource", None, "=", here, {}, run.id, why=why)
    good = quality.read - quality.quarantined
    most = sums.rows.keep if run.kind == "full" else quality.quarantined
    stale = min(max(count.rows - good, 0), most)
    there = {
        "centre": count.rows,
        "never_sent": quality.quarantined - stale,
        "in_flight": 0,  # else the count would be older than what is loaded now
    }
    ok = quality.read == sum(there.values())
    return Account("resource", ok, "=", here, there, run.id, at=count.at, stale=stale)
