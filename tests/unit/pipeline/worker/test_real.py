# SPDX-License-Identifier: Apache-2.0
"""The real worker process with the real SQLite connector and quality rules."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.child.inside import NICE
from agent.model.batch import Quality, Rows
from agent.model.column import Column
from agent.model.item import Item, ItemType
from agent.model.job import (
    BoundItem,
    Columns,
    Ended,
    Failed,
    Job,
    Line,
    Message,
    Packed,
)
from agent.pipeline.flow.drift import changes
from agent.pipeline.worker.spare import Spare
from agent.pipeline.worker.spawn import WorkerProcess
from agent.wire.arrow import read_payload

ITEMS = (
    BoundItem(Item("id", ItemType.C, 18, None, True, "1"), "ID", (), True),
    BoundItem(Item("name", ItemType.C, 10, None, False, "1"), "姓名"),
    BoundItem(Item("pay", ItemType.N, 8, 2, False, "2"), "pay"),
    BoundItem(Item("born", ItemType.D, None, None, False, "2"), "born"),
)
ROWS = [
    ("1", "王五", "100.00", "1990-03-07"),
    ("2", "赵六", "12.345", "1990-03-07"),  # too many digits after the point
    ("3", "钱七", None, "1990-02-30"),  # no such day
    ("3", "孙八", "1", None),  # the key again
    (None, "无名", "1", None),  # no key
    ("4", "", "0", "0001-01-01"),
]


def table(folder: Path, rows: list[tuple[str | None, ...]]) -> Path:
    path = folder / "hr.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute('CREATE TABLE person ("ID" TEXT, "姓名" TEXT, pay TEXT, born TEXT)')
        db.executemany("INSERT INTO person VALUES (?, ?, ?, ?)", rows)
        db.commit()
    return path


def job(folder: Path, path: Path) -> Job:
    return Job(
        kind="pull",
        resource="11/000001/0001",
        run="019abcde-0000-7000-8000-000000000001",
        connector="sqlite",
        source={"path": str(path)},
        table=("main", "person"),
        items=ITEMS,
        timezone="Asia/Shanghai",
        severity={},
        batch_raw_bytes=8_000_000,
        max_rows_per_batch=200_000,
        quarantine=str(folder / "quarantine.jsonl"),
        statement_timeout_s=60,
    )


async def run(folder: Path, path: Path, spare: Spare | None = None) -> list[Message]:
    heard = []
    async with WorkerProcess(spare=spare) as process:
        await process.start(job(folder, path))
        async for message in process.messages():
            heard.append(message)
            if isinstance(message, Packed):
                target = folder / f"{message.part}.tmp"
                await process.send(Line(message.part, "a.b.c", str(target)))
    return heard


async def test_who_reads_a_table_lets_others_go_first(tmp_path: Path) -> None:
    """Else lookups, and batches on their way, wait for what nobody waits for."""
    async with WorkerProcess() as process:
        await process.start(job(tmp_path, table(tmp_path, ROWS)))
        async for message in process.messages():
            if isinstance(message, Packed):  # it waits for its line
                nice = os.getpriority(os.PRIO_PROCESS, process.pid)
                target = tmp_path / f"{message.part}.tmp"
                await process.send(Line(message.part, "a.b.c", str(target)))
    assert nice == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


async def test_good_rows_arrive_and_bad_ones_stay(tmp_path: Path) -> None:
    """Good rows travel unchanged, bad ones leave a k, the quarantine says why."""
    *_, packed, _, ended = await run(tmp_path, table(tmp_path, ROWS))
    assert isinstance(packed, Packed)
    assert isinstance(ended, Ended)

    data = (tmp_path / "1.tmp").read_bytes().partition(b"\n")[2]
    (batch,) = read_payload(
        data,
        tuple(b.item for b in ITEMS),
        mode="full",
        raw_size=packed.raw_size,
        rows=packed.rows,
    )
    got = [(r["_op"], r["id"], r["name"]) for r in batch.to_pylist()]
    assert got == [
        ("u", "1", "王五"),
        ("k", "2", None),
        ("k", "3", None),
        ("u", "4", ""),
    ]
    assert (ended.rows, ended.quality) == (Rows(2, 0, 2), Quality(6, 4, 0))
    assert sum(ended.reasons.values()) == 4
    assert packed.distinct == 4
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert {json.loads(line)["reason"] for line in lines} == set(ended.reasons)
    assert (tmp_path / "quarantine.jsonl").stat().st_mode & 0o777 == 0o600


async def test_run_of_a_worker_that_waited_gives_the_same(tmp_path: Path) -> None:
    """Its driver is imported before it has a job; what it reads is not another."""
    spare = Spare(pause_s=0)
    path = table(tmp_path, ROWS)
    first = await run(tmp_path, path, spare)
    async with asyncio.timeout(60):
        while (kept := spare._kept) is None:  # noqa: ASYNC110 - a task makes it
            await asyncio.sleep(0)
    (tmp_path / "1.tmp").rename(tmp_path / "first")
    (tmp_path / "quarantine.jsonl").unlink()
    second = await run(tmp_path, path, spare)
    await spare.close()

    assert kept.child._process is not None
    assert kept.child._process.returncode == 0  # it has done the run; none killed it
    assert second[-1].rows == first[-1].rows
    assert (tmp_path / "1.tmp").read_bytes() == (tmp_path / "first").read_bytes()


async def test_secrecy_marking_reaches_the_quarantine(tmp_path: Path) -> None:
    """A marked row stops the run and lies in the quarantine for the officer."""
    last = (await run(tmp_path, table(tmp_path, [("1", "机密★", None, None)])))[-1]

    assert isinstance(last, Failed)
    assert (last.code, dict(last.reasons)) == ("secrecy-marker", {"secrecy_marker": 1})
    assert "机密★" in (tmp_path / "quarantine.jsonl").read_text()
    assert "机密★" not in last.detail


@pytest.mark.parametrize("missing", ["file", "table"])
async def test_missing_source_is_named(tmp_path: Path, missing: str) -> None:
    """A file or table that is not there ends the run with the source's code."""
    path = tmp_path / "hr.db"
    if missing == "table":
        sqlite3.connect(path).close()
        path.touch()

    *_, last = await run(tmp_path, path)

    assert isinstance(last, Failed)
    assert last.code in {"source-missing", "source-unreachable"}


# --- a table that was changed -------------------------------------------------------


async def columns(folder: Path, *statements: str) -> tuple[Column, ...]:
    """What a real worker says of the table after these statements."""
    path = folder / "hr.db"
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    told = [m for m in await run(folder, path) if isinstance(m, Columns)]
    return told[0].columns


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("alter table person add column phone varchar(20)", "+ phone varchar(20)"),
        (
            "alter table person add column x int not null default 0",
            "+ x INT NOT NULL",
        ),
        ("alter table person drop column born", "- born TEXT"),
        (
            "alter table person rename column pay to salary",
            "~ pay TEXT -> as salary (renamed)",
        ),
    ],
)
async def test_a_changed_table_of_sqlite_is_told_as_a_difference(
    tmp_path: Path, statement: str, told: str
) -> None:
    """Before the missing column ends the run; only new columns are safe."""
    table(tmp_path, ROWS)
    before = await columns(tmp_path)
    after = await columns(tmp_path, statement)
    found = changes(before, after, bound={b.column for b in ITEMS})
    assert [str(change) for change in found] == [told]
    assert all(change.safe for change in found) == told.startswith("+")


async def test_a_rebuilt_table_of_sqlite_is_judged_by_what_it_is_now(
    tmp_path: Path,
) -> None:
    """Another type, another key: SQLite itself would not mind."""
    table(tmp_path, ROWS)
    before = await columns(tmp_path)
    after = await columns(
        tmp_path,
        "drop table person",
        'create table person ("ID" text primary key, "姓名" varchar(10), pay text,'
        " born text)",
    )
    found = changes(before, after, bound={b.column for b in ITEMS})
    assert [change.what for change in found if not change.safe] == [
        "not-null",
        "type",
        "key",
    ]
