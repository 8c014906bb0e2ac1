# SPDX-License-Identifier: Apache-2.0
"""The file of withheld rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.pipeline.quality.check import Checker, MarkerFound
from agent.pipeline.quarantine import Quarantine
from agent.pipeline.quarantine_folder import file_name, purge
from tests.support.columns import ID, bound, checker, page

ITEMS = (ID, bound("name", "C", 2), bound("born", "D"))
PAGE = page(
    {
        "id": ["1", "2", "x"],
        "name": ["王", "王小明", "李"],
        "born": ["1985-03-17", "1985-03-17", "0000-00-00"],
    }
)


def run() -> Checker:
    return checker(ITEMS)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_no_withheld_row_no_file(tmp_path: Path) -> None:
    """A clean run leaves nothing behind."""
    path = tmp_path / "q.jsonl"
    good = PAGE.slice(0, 1)
    with Quarantine(path, ITEMS) as quarantine:
        quarantine.write(good, run().check(good).withheld)
    assert not path.exists()


def test_a_withheld_row_stands_with_reason_item_key_and_text(tmp_path: Path) -> None:
    """As the source gave it, one JSON object a line."""
    path = tmp_path / "q.jsonl"
    with Quarantine(path, ITEMS) as quarantine:
        quarantine.write(PAGE, run().check(PAGE).withheld)
    assert lines(path) == [
        {
            "reason": "too_long",
            "item": "name",
            "key": {"id": "2"},
            "row": {"id": "2", "name": "王小明", "born": "1985-03-17"},
        },
        {
            "reason": "bad_number",
            "item": "id",
            "key": {"id": "x"},
            "row": {"id": "x", "name": "李", "born": "0000-00-00"},
        },
    ]


def test_the_file_is_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    """Mode 0600."""
    path = tmp_path / "q.jsonl"
    before = os.umask(0)
    try:
        with Quarantine(path, ITEMS) as quarantine:
            quarantine.write(PAGE, run().check(PAGE).withheld)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    """It is replaced by a file of ours; what it pointed to stays."""
    path, target = tmp_path / "q.jsonl", tmp_path / "target"
    target.write_text("theirs")
    path.symlink_to(target)
    with Quarantine(path, ITEMS) as quarantine:
        quarantine.write(PAGE, run().check(PAGE).withheld)
    assert target.read_text() == "theirs"
    assert not path.is_symlink()
    assert len(lines(path)) == 2


def test_a_second_try_of_a_run_begins_its_file_anew(tmp_path: Path) -> None:
    """The rows of the first try are read again, so they do not stand twice."""
    path = tmp_path / "q.jsonl"
    for _ in range(2):
        with Quarantine(path, ITEMS) as quarantine:
            quarantine.write(PAGE, run().check(PAGE).withheld)
    assert len(lines(path)) == 2


def test_bytes_stand_as_base64(tmp_path: Path) -> None:
    """Undecodable text keeps its bytes; natives are written as Arrow writes them."""
    items = (ID, bound("name", "C", 9), bound("at", "T"), bound("ok", "L"))
    times = pa.array([0], pa.timestamp("us", tz="UTC"))
    bad = page({"id": [1], "name": pa.array([b"\xff"]), "at": times, "ok": [True]})
    path = tmp_path / "q.jsonl"
    with Quarantine(path, items) as quarantine:
        quarantine.write(bad, checker(items).check(bad).withheld)
    [line] = lines(path)
    assert line["row"]["id"] == 1
    assert line["row"]["name"] == {"base64": "/w=="}
    assert line["row"]["at"].startswith("1970-01-01 00:00:00")
    assert line["row"]["ok"] is True


def test_the_rows_of_a_stopped_run_are_kept_for_the_secrecy_officer(
    tmp_path: Path,
) -> None:
    """The error brings its page; the worker writes it before it ends."""
    items = (ID, bound("text", "M"))
    marked = page({"id": [7], "text": ["机密★10年"]})
    path = tmp_path / "q.jsonl"
    with pytest.raises(MarkerFound) as caught:
        checker(items).check(marked)
    with Quarantine(path, items) as quarantine:
        quarantine.write(marked, caught.value.checked.withheld)
    assert [line["reason"] for line in lines(path)] == ["secrecy_marker"]


def test_a_file_has_an_end(tmp_path: Path) -> None:
    """After the cap one line says that rows are missing; the counts stay complete."""
    path = tmp_path / "q.jsonl"
    bad = page({"id": ["x"] * 5, "name": ["王"] * 5, "born": ["1985-03-17"] * 5})
    with Quarantine(path, ITEMS, rows_cap=3) as quarantine:
        for _ in range(2):
            checked = run().check(bad)
            quarantine.write(bad, checked.withheld)
            assert checked.reasons == {"bad_number": 5}
    assert [line.get("reason") for line in lines(path)] == ["bad_number"] * 3 + [None]
    assert lines(path)[-1] == {"truncated": True}


def test_a_name_tells_resource_and_run_only() -> None:
    """No personal value, no slash."""
    assert file_name("101001/000001", "r1") == "101001_000001.r1.jsonl"


def test_old_files_go_and_others_stay(tmp_path: Path) -> None:
    """Purge looks at the time of change, and only at its own files."""
    for name, age in (("a.jsonl", 10), ("b.jsonl", 90), ("c.txt", 10)):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (age, age))
    assert purge(tmp_path, before=50) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.jsonl", "c.txt"]
    assert purge(tmp_path / "none", before=50) == 0
