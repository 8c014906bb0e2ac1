# SPDX-License-Identifier: Apache-2.0
"""Rows that the exchange has rejected, back in quarantine with its reason."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from agent.errors import WorkerDied
from agent.model.item import Item, ItemType
from agent.model.rejected import OPS, RejectedBatch
from agent.pipeline.worker.giving import give_back
from agent.wire.arrow import schema_of
from agent.wire.problem import REJECTED

ITEMS = (
    Item("id", ItemType.I, None, None, key=True, share="2"),
    Item("name", ItemType.C, 30, None, key=False, share="2"),
    Item("income", ItemType.N, 12, 2, key=False, share="2"),
)
ROWS = (
    ("u", 1, "金丝雀", Decimal("10.50")),
    ("d", 2, None, None),
    ("k", 3, None, None),
)
MEMORY = 1 << 30


def batch(folder: Path, code: str) -> RejectedBatch:
    """A sealed file, as far as this reads it."""
    path = folder / "101001_000001.1.4.fepb"
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    schema = schema_of(ITEMS)
    with path.open("wb") as file:
        file.write(b"line.one.signed\n")
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(file, schema, options=options) as stream:
            stream.write_batch(pa.record_batch(columns, schema=schema))
    return RejectedBatch(
        str(path), "101001/000001", 1, 4, ITEMS, code, OPS.get(code, ())
    )


def lines(folder: Path) -> list[dict[str, object]]:
    (path,) = folder.glob("*.jsonl")
    assert path.name == "101001_000001.1-4.rejected.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


async def test_rejected_rows_come_back_with_the_reason(tmp_path: Path) -> None:
    """All of a batch whose content was refused; doing it again changes nothing."""
    rejected = batch(tmp_path, "bad-payload")
    folder = tmp_path / "quarantine"
    for _ in range(2):
        assert await give_back(rejected, folder, rss_bytes=MEMORY) == 3
    found = lines(folder)
    assert {line["reason"] for line in found} == {"rejected:bad-payload"}
    assert found[0]["key"] == {"id": 1}
    assert found[0]["row"] == {"id": 1, "name": "金丝雀", "income": "10.50"}


async def test_of_too_many_deletes_the_deletes_come_back(tmp_path: Path) -> None:
    """They are what somebody has to look at."""
    rejected = batch(tmp_path, "mass-delete")
    assert await give_back(rejected, tmp_path / "q", rss_bytes=MEMORY) == 1
    assert [line["key"] for line in lines(tmp_path / "q")] == [{"id": 2}]


async def test_a_file_that_is_gone_is_told_without_a_value(tmp_path: Path) -> None:
    """By the exception's name."""
    rejected = replace(batch(tmp_path, "bad-payload"), file=str(tmp_path / "gone"))
    with pytest.raises(WorkerDied, match="FileNotFoundError"):
        await give_back(rejected, tmp_path / "q", rss_bytes=MEMORY)


def test_only_codes_about_rows_bring_rows_back() -> None:
    """A chain that does not fit is nobody's row."""
    assert set(OPS) < REJECTED
