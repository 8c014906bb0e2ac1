# SPDX-License-Identifier: Apache-2.0
"""The real worker with the real SQLite connector, through ``Sources``."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.errors import (
    SourceFailed,
    SourceMissing,
    SourceTypeChanged,
    SourceUnreachable,
    WorkerDied,
)
from agent.lookup.query import BAD, TWICE, Ask
from agent.lookup.query.gather import Sources
from agent.lookup.query.process import Seams, Watch
from agent.lookup.query.talk import Opening
from tests.support.columns import bound

ITEMS = (
    bound("id_no", "C", 18, key=True),
    bound("name", "C", 20),
    bound("born", "D"),
    bound("pay", "N", 12, 2),
    bound("seen", "T"),
    bound("alive", "L"),
    bound("score", "B"),
    bound("photo", "G"),
    bound("note", "M"),
)
ZHANG = (
    "110101199003070011",
    "张三",
    "1990-03-07",
    100.5,
    "2026-11-21 16:00:00",
    1,
    0.1,
)
ROWS = [
    (*ZHANG, b"\x00\xff", "x"),
    ("2", "李四 ", "1990/3/7", "-0.00", None, "f", 7, "ab", None),
    ("3", "王" * 21, "没有", "1e5", "1986-05-04 02:30:00", 5, "x", None, None),
    ("4", "twice", None, None, None, None, None, None, None),
    ("4", "twice", None, None, None, None, None, None, None),
]


def ask(*keys: str, items: Any = ITEMS, table: str = "person") -> Ask:
    return Ask("hr", (table,), items, ("id_no",), tuple((k,) for k in keys))


def made(path: Path) -> Path:
    with sqlite3.connect(path) as db:
        db.execute(
            "create table person (id_no text, name text, born text, pay, seen text,"
            " alive, score, photo blob, note text)"
        )
        db.executemany(f"insert into person values ({'?, ' * 8}?)", ROWS)
    db.close()
    return path


@asynccontextmanager
async def sources(path: Path, **config: Any) -> AsyncIterator[Sources]:
    def opening(_: str) -> Opening:
        return Opening("sqlite", {"path": str(path), **config}, 1, "Asia/Shanghai")

    found = Sources(opening, seams=Seams(lambda low, _: low, watch=Watch(away_s=0)))
    try:
        yield found
    finally:
        await found.close()


async def test_rows_values_and_what_is_none_of_them(tmp_path: Path) -> None:
    """Canonical texts of every type, a faulty value, a double key and no row."""
    async with sources(made(tmp_path / "hr.db")) as hr:
        found = await hr.fetch(ask(ZHANG[0], "2", "3", "4", "5"))

    assert found.rows == (
        (ZHANG[0], "张三", "1990-03-07", "100.5", "2026-11-21T08:00:00.000000Z",
         "true", "0.1", "AP8", "x"),
        ("2", "李四 ", "1990-03-07", "0", None, "false", "7", "YWI", None),
        ("3", BAD, BAD, BAD, BAD, BAD, BAD, None, None),
        TWICE,
        None,
    )  # fmt: skip


async def test_everything_that_goes_wrong_goes_right_again(tmp_path: Path) -> None:
    """Killed, gone, replaced, damaged and back: each fails its own asks alone."""
    path = made(tmp_path / "hr.db")
    async with sources(path) as hr:
        assert (await hr.fetch(ask(ZHANG[0]))).rows[0] is not None

        worker = hr._queues["hr"].source._worker  # type: ignore[attr-defined]
        asked = asyncio.create_task(hr.fetch(ask("2")))
        os.kill(worker._child.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            await asked
        assert (await hr.fetch(ask("2"))).rows[0] is not None

        path.rename(tmp_path / "away.db")
        with pytest.raises(SourceUnreachable):
            await hr.fetch(ask("2"))
        made(path)
        with sqlite3.connect(path) as db:
            db.execute("update person set name = '新' where id_no = '2'")
        db.close()
        assert (await hr.fetch(ask("2"))).rows[0][1] == "新"  # type: ignore[index]

        path.unlink()
        path.write_bytes(b"no database " * 1000)
        with pytest.raises(SourceFailed, match="NOTADB"):
            await hr.fetch(ask("2"))
        path.unlink()
        made(path)
        assert (await hr.fetch(ask("2"))).rows[0][1] == "李四 "  # type: ignore[index]


async def test_a_wrong_binding_fails_its_own_asks_alone(tmp_path: Path) -> None:
    """A missing table, a missing column and a key of bytes are told as such."""
    items = (*ITEMS, bound("absent", "C", 5))
    photo = Ask("hr", ("person",), ITEMS, ("photo",), (("AP8",),))
    async with sources(made(tmp_path / "hr.db")) as hr:
        found = await asyncio.gather(
            hr.fetch(ask("2", table="nobody")),
            hr.fetch(ask("2", items=items)),
            hr.fetch(photo),
            hr.fetch(ask("2")),
            return_exceptions=True,
        )

    assert [type(f) for f in found[:3]] == [
        SourceMissing,
        SourceMissing,
        SourceTypeChanged,
    ]
    assert found[3].rows[0][0] == "2"  # type: ignore[union-attr,index]


async def test_a_connector_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The worker says so and goes; nobody waits for it."""

    def opening(_: str) -> Opening:
        return Opening("oracle8", {}, 1, "Asia/Shanghai")

    hr = Sources(opening, seams=Seams(lambda low, _: low))
    with pytest.raises(SourceFailed, match="oracle8"):
        await hr.fetch(ask("2"))
    await hr.close()
