# SPDX-License-Identifier: Apache-2.0
"""Which run follows when a person, or the time, asks for one.

Rules

1. Whoever asks holds the lane's turn, so that two who ask make one run.
2. A run that waits already is the one that was asked for; a comparison gives way to a
   full read, and everything to a recall.
3. A word for deletes is for the number that the newest held run told, and for what
   found them: a repair's is none for a read.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from agent.errors import Busy, MassDelete, NothingHeld, NothingLoaded
from agent.model.batch import ANY_NUMBER
from agent.model.run import COMPARING, RunKind
from agent.pipeline.flow import deaths, reconcile
from agent.pipeline.flow.lane import Lane, Wanted
from agent.pipeline.flow.seams import undivided

Hindrance = Literal["paused", "busy", "halted", "given-up", "recalled"]
"""Why a run that is due cannot begin: it begins once this is over."""


async def ask(
    lane: Lane, kind: RunKind, *, confirm_deletes: bool, report: str | None
) -> str:
    """Put a run down that a person asks for; its id. Needs the lane's turn.

    Raises:
        NothingHeld, NothingLoaded, Busy: see ``PushFlow.request_pull``.
    """
    _check_idle(lane, kind)
    if kind == "recall":
        return await _recall(lane, confirm_deletes=confirm_deletes)
    if kind in COMPARING:
        confirmed = await _repair_agreed(lane) if confirm_deletes else None
        return await _compare(lane, kind, report, confirmed)
    return await _read(lane, confirm_deletes=confirm_deletes, kind=kind)


async def hindrance(lane: Lane, kind: RunKind) -> Hindrance | None:
    """What keeps a run that is due from being put down, or None."""
    busy = lane.reading is not None or lane.wanted is not None
    found: Hindrance | None = None
    if lane.draining or lane.paused:
        found = "paused"
    elif lane.recalled is not None:
        found = "recalled"
    elif busy:
        found = "busy"
    elif (await lane.stream()).halt_code is not None:
        found = "halted"
    elif lane.given_up:
        found = "given-up"
    elif kind == "reconcile" and not await loaded(lane):
        found = "busy"
    return found


def _check_idle(lane: Lane, kind: RunKind) -> None:
    resource = lane.resource
    if lane.paused:
        raise Busy(f"{resource} is paused")
    if lane.barred(kind):
        raise Busy(f"{resource} is recalled; `fep resume {resource}` ends that")
    if lane.reading is not None:
        raise Busy(f"a run of {resource} is reading")


async def _recall(lane: Lane, *, confirm_deletes: bool) -> str:
    """Ask how many rows would go or, once a person agreed, let them go."""
    await _check_loaded(lane)
    rows = None
    if confirm_deletes:
        held, rows = await undivided(partial(reconcile.held_recall, lane))
        await reconcile.begin_recall(lane, held, rows)
    await reconcile.make_way(lane, "recall")
    deaths.forgive(lane)
    run = await lane.want(deletes_confirmed=rows, kind="recall")
    lane.prod()
    return run


async def _repair_agreed(lane: Lane) -> int:
    """How many deletes of a repair a person agrees to; a read's are not meant.

    Raises:
        NothingHeld: no repair waits for that.
    """
    confirmed, held = await undivided(partial(_held_deletes, lane))
    if held != "reconcile":
        raise NothingHeld(f"{lane.resource}: no repair is held for its deletes")
    return confirmed


async def _compare(
    lane: Lane, kind: RunKind, report: str | None, confirmed: int | None
) -> str:
    """Ask for a comparison, which is not begun beside another run."""
    await _check_loaded(lane)
    if lane.wanted is not None and lane.wanted.kind != kind:
        raise Busy(f"a run of {lane.resource} is queued")
    if report is not None and lane.wanted is not None:
        raise Busy(f"a comparison of {lane.resource} is queued already")
    deaths.forgive(lane)
    return await _put_down(lane, kind, confirmed, report)


async def _check_loaded(lane: Lane) -> None:
    if not await loaded(lane):
        raise NothingLoaded(lane.resource)


async def loaded(lane: Lane) -> bool:
    """Whether the exchange has loaded anything of it, ever."""
    newest = partial(lane.parts.state.last_loaded, lane.stream_id)
    return await undivided(newest) != (0, 0)


async def _read(lane: Lane, *, confirm_deletes: bool, kind: RunKind) -> str:
    confirmed: int | None = None
    if confirm_deletes:
        confirmed, kind = await undivided(partial(_held_deletes, lane))
    if kind == "full" and lane.wanted is not None and lane.wanted.kind in COMPARING:
        await reconcile.make_way(lane, kind)
    deaths.forgive(lane)
    return await _put_down(lane, kind, confirmed)


async def _put_down(
    lane: Lane,
    kind: RunKind,
    confirmed: int | None,
    report: str | None = None,
) -> str:
    """A run that is wanted now, or the one that waits already; its id."""
    wanted = lane.wanted
    if wanted is None:
        run = await lane.want(deletes_confirmed=confirmed, kind=kind, report=report)
        lane.prod()
        return run
    agreed = wanted.deletes_confirmed if confirmed is None else confirmed
    lane.wanted = Wanted(wanted.run, agreed, wanted.kind)
    if confirmed is not None:
        confirm = partial(lane.parts.state.confirm_run, wanted.run, confirmed)
        await undivided(confirm)
    lane.prod()
    return wanted.run


def _held_deletes(lane: Lane) -> tuple[int, RunKind]:
    """How many deletes wait for a person's word, and what found them.

    Raises:
        NothingHeld: none; what was held before the newest whole run is over.
    """
    state = lane.parts.state
    if state.stream(lane.key).halt_code == MassDelete.code:
        # the exchange counted them and told no number
        return ANY_NUMBER, "full"
    newest = state.reconciles.standing(lane.stream_id, ("held", "read"))
    recall = newest is not None and newest.kind == "recall"
    if newest is None or newest.keys_gone is None or recall:
        raise NothingHeld(f"{lane.resource}: no run is held for its deletes")
    return newest.keys_gone, newest.kind
