# SPDX-License-Identifier: Apache-2.0
"""Workers that die: each costs one run, and several in a row wait for a person.

Rules

1. A worker that is killed, crashes, aborts, panics or hangs ends one run of one
   resource. The run is tried again; other resources do not notice. One that ends before
   its first word had not come to its driver: that is a fault of the machine, or of an
   upgrade, and is not counted.
2. The number of such ends in a row is kept over restarts. A run that was read wholly
   ends the row; another failure, or a cut, neither ends it nor belongs to it.
3. At the third the resource reads no more until a person says so: a driver that crashes
   on some row crashes on it for ever, and each try costs the source a read. What was
   read before is sent as always.
"""

from __future__ import annotations

from functools import partial

from agent.audit.events import WorkerEnded
from agent.errors import FepError, WorkerDied, WorkerGivenUp
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided


async def died(lane: Lane, run: str, error: WorkerDied) -> FepError:
    """Count one more; what the run ends with."""
    state = lane.parts.state
    told = f"{error.code}: {error.detail}"
    count = partial(state.count_death, lane.stream_id, detail=told, at=lane.stamp())
    lane.deaths = await undivided(count)
    times = lane.deaths.times
    ended = WorkerEnded(lane.resource, run, error.code, error.detail, times)
    lane.parts.tell(ended)
    return given_up(lane) if lane.given_up else error


def given_up(lane: Lane) -> WorkerGivenUp:
    """What a person is told; the lane has deaths."""
    deaths = lane.deaths
    return WorkerGivenUp("" if deaths is None else f"the last time: {deaths.detail}")


async def ended_well(lane: Lane) -> None:
    """A run was read: the row is over."""
    if lane.deaths is not None:
        lane.deaths = None
        await undivided(partial(lane.parts.state.forget_deaths, lane.stream_id))


def forgive(lane: Lane) -> None:
    """A person has looked: what stood in the way of reading is forgotten."""
    lane.read_trouble = None
    if lane.given_up:
        lane.parts.state.forget_deaths(lane.stream_id)
        lane.deaths = None


def read_again(lane: Lane) -> None:
    """The same, and what it gave up is wanted again.

    Nothing is wanted on a halted stream: a run would end the halt, for which a person
    has to ask for one.
    """
    if not lane.given_up:
        return
    forgive(lane)
    if lane.parts.state.stream(lane.key).halt_code is not None:
        return
    newest = lane.parts.state.last_run(lane.stream_id)
    if lane.wanted is None and newest is not None:
        over = newest.kind == "recall" and lane.recalled is None
        run = lane.new_run(None, "full" if over else newest.kind)
        lane.parts.state.add_run(run)
        lane.take(run)
