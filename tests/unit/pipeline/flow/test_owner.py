# SPDX-License-Identifier: Apache-2.0
"""A resource that the directory gives to another node."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ExchangeRefused, NotOwner
from agent.pipeline.flow.report import ResourceStatus
from tests.support.push import FIRM, NODE, PERSON, Resource, World, pull, until

OTHER = "11330100MB0000000A/fep-02"


def refusal(problem: str) -> ExchangeRefused:
    return ExchangeRefused("another node's", problem=problem)


def waits(status: ResourceStatus) -> bool:
    """Halted, and the run that it cut has ended."""
    run = status.run
    return status.stream.halted == NotOwner.code and (
        run is None or run.state not in {"queued", "reading"}
    )


def world_of_two(folder: Path) -> World:
    return World(folder, resources=(Resource(PERSON), Resource(FIRM)))


@pytest.mark.parametrize("problem", ["not-owner", "not-found"])
async def test_resource_that_was_given_away_waits_alone(
    tmp_path: Path, problem: str
) -> None:
    """Halted by the signed directory, with the new owner's name; others go on."""
    world = world_of_two(tmp_path)
    async with world.serving() as flow:
        await pull(flow, PERSON)
        world.owners[PERSON] = OTHER
        where = "upload" if problem == "not-owner" else "position"
        world.exchange.fail(where, *[refusal(problem)] * 9)
        world.clock.move(3601)
        await flow.request_pull(PERSON)
        found = await until(flow, lambda s: s.stream.halted == NotOwner.code, PERSON)
        assert found.state == "held"
        assert found.trouble is not None
        assert found.trouble.code == "not-owner"
        assert OTHER in found.trouble.detail
        world.exchange.mend(where)
        assert (await pull(flow, FIRM)).state == "read"
    async with world.serving() as flow:  # it outlives a restart
        assert flow.resource(PERSON).stream.halted == NotOwner.code


async def test_unsigned_problem_alone_halts_nothing(tmp_path: Path) -> None:
    """A proxy can say ``not-owner``: while the directory says otherwise, try on."""
    world = world_of_two(tmp_path)
    world.owners[PERSON] = NODE
    async with world.serving() as flow:
        world.exchange.fail("upload", refusal("not-owner"))
        assert (await pull(flow, PERSON)).state == "read"
        assert flow.resource(PERSON).stream.halted is None


async def test_resource_that_came_back_begins_a_new_epoch(tmp_path: Path) -> None:
    """By a person's word; what the other node sent is replaced by a full read."""
    world = world_of_two(tmp_path)
    async with world.serving() as flow:
        await pull(flow, PERSON)
        world.owners[PERSON] = OTHER
        world.exchange.fail("position", *[refusal("not-found")] * 9)
        world.clock.move(3601)
        await flow.request_pull(PERSON)
        await until(flow, waits, PERSON)
        world.exchange.mend("position")
        place = world.exchange.places[PERSON]
        place.epoch, place.seq, place.digest = 7, 3, "sha256:" + "f" * 64
        world.owners[PERSON] = NODE
        report = await pull(flow, PERSON)
        assert (report.state, report.kind) == ("read", "full")
        status = flow.resource(PERSON).stream
        assert (status.epoch, status.cause, status.halted) == (8, "regained", None)
