# SPDX-License-Identifier: Apache-2.0
"""Promises of the push flow, with an exchange and a worker in memory."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from agent.audit.events import BatchRegistered, CatalogSent, EpochOpened, RunEnded
from tests.support.push import FIRM, PERSON, Resource, World, pull, until
from tests.support.worker_double import Chunk


async def test_a_pull_ends_with_loaded_receipts_of_every_part(tmp_path: Path) -> None:
    """All rows of the source are loaded and counted."""
    world = World(tmp_path)
    report = await world.pulled()
    assert (report.state, report.delivered, report.balanced) == ("read", True, True)
    assert (report.read, report.loaded, report.in_flight) == (5, 5, 0)
    assert world.exchange.loaded_rows == {PERSON: 5}


async def test_the_first_epoch_begins_on_an_empty_position(tmp_path: Path) -> None:
    """Epoch 1, seq 1, no prev, reason first."""
    world = World(tmp_path)
    await world.pulled()
    first = next(iter(world.exchange.batches.values())).manifest.stream
    assert (first.epoch, first.seq, first.prev, first.reason) == (1, 1, None, "first")
    assert [e.reason for e in world.told(EpochOpened)] == ["first"]


async def test_the_catalog_is_sent_once_before_the_first_batch(tmp_path: Path) -> None:
    """Two pulls, one statement."""
    world = World(tmp_path)
    await world.pulled()
    await world.pulled()
    calls = world.exchange.calls
    assert calls.count("put_catalog") == 1
    assert calls.index("put_catalog") < calls.index("upload")
    assert len(world.told(CatalogSent)) == 1


async def test_the_chain_goes_on_over_runs_and_restarts(tmp_path: Path) -> None:
    """Two runs in two lives of the daemon make one chain of four batches."""
    world = World(tmp_path)
    await world.pulled()
    await world.pulled()
    kept = list(world.exchange.batches.values())
    assert [k.manifest.stream.seq for k in kept] == [1, 2, 3, 4]
    assert [k.manifest.stream.prev for k in kept[1:]] == [k.digest for k in kept[:-1]]
    assert [k.manifest.stream.reason for k in kept] == ["first", None, None, None]


async def test_withheld_rows_are_part_of_the_equation(tmp_path: Path) -> None:
    """read = loaded + quarantined; kept keys are counted as stale."""
    world = World(tmp_path)
    world.scripts[PERSON].chunks = (Chunk(3, quarantined=2, keep=1), Chunk(1))
    report = await world.pulled()
    assert (report.read, report.loaded, report.quarantined) == (6, 4, 2)
    assert (report.stale, report.reasons) == (1, {"required": 2})
    assert report.balanced is True


async def test_status_is_json_and_says_what_happened(tmp_path: Path) -> None:
    """Everything in a status survives json.dumps."""
    world = World(tmp_path)
    async with world.serving() as flow:
        await pull(flow)
        status = await until(flow, lambda s: s.state == "idle")
        text = json.dumps(asdict(flow.status()))
    assert status.receipt is not None
    assert (status.receipt.state, status.stream.seq, status.stream.loaded_seq) == (
        "loaded",
        2,
        2,
    )
    assert '"healthy": true' in text


async def test_two_streams_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Each resource has its own chain."""
    world = World(tmp_path, resources=(Resource(PERSON), Resource(FIRM)))
    async with world.serving() as flow:
        one, two = await pull(flow, PERSON), await pull(flow, FIRM)
    assert one.delivered
    assert two.delivered
    assert {b.resource: b.epoch for b in world.exchange.batches} == {PERSON: 1, FIRM: 1}


async def test_what_happens_is_told(tmp_path: Path) -> None:
    """Batches and the end of the run are events with counts only."""
    world = World(tmp_path)
    await world.pulled()
    assert [(e.seq, e.upsert) for e in world.told(BatchRegistered)] == [(1, 3), (2, 2)]
    assert [(e.read, e.upsert) for e in world.told(RunEnded)] == [(5, 5)]
