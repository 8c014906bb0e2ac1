# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.errors import QualityHalt, SecrecyMarker, SpoolFull, SpoolWriteFailed
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job
from agent.pipeline.worker.sieve import QualitySieve

ITEMS = (
    BoundItem(Item("id", ItemType.C, 18, None, True, "1"), "ID"),
    BoundItem(Item("gender", ItemType.C, 2, None, False, "1"), "SEX", ("code:gender",)),
)


def sieve(folder: Path, *, kind: Any = "pull", **severity: str) -> QualitySieve:
    return QualitySieve(
        Job(
            kind=kind,
            resource="11/000001/0001",
            run="019abcde-0000-7000-8000-000000000001",
            connector="fake",
            source={},
            table=("person",),
            items=ITEMS,
            timezone="Asia/Shanghai",
            severity=severity,
            batch_raw_bytes=8_000_000,
            max_rows_per_batch=200_000,
            quarantine=str(folder / "quarantine.jsonl"),
            statement_timeout_s=60,
        )
    )


def page(*rows: tuple[str | None, str | None]) -> pa.RecordBatch:
    ids, sexes = zip(*rows, strict=True)
    return pa.record_batch(
        {"ID": pa.array(ids, pa.string()), "SEX": pa.array(sexes, pa.string())}
    )


def test_key_of_the_piece_before_is_remembered(tmp_path: Path) -> None:
    """The same key at the end of one piece and the start of the next is a double."""
    with closing(sieve(tmp_path)) as run:
        run.sift(page(("1", None), ("2", None)))

        assert run.sift(page(("2", None))).reasons == {"duplicate_key": 1}


def test_halting_rule_gives_the_error_and_the_counts(tmp_path: Path) -> None:
    """A rule of severity halt is told with its counts; its rows are kept."""
    run = sieve(tmp_path, code_list="halt")

    sifted = run.sift(page(("1", "纯")))
    run.close()

    assert isinstance(sifted.halt, QualityHalt)
    assert sifted.reasons == {"code_list": 1}
    assert (tmp_path / "quarantine.jsonl").read_text().count("\n") == 1


def test_secrecy_marking_halts(tmp_path: Path) -> None:
    """A marking is a SecrecyMarker whose detail has no value."""
    with closing(sieve(tmp_path)) as run:
        sifted = run.sift(page(("机密★", None)))

    assert isinstance(sifted.halt, SecrecyMarker)
    assert "机密★" not in sifted.halt.detail


def test_digest_leaves_no_quarantine(tmp_path: Path) -> None:
    """Kind digest counts what it withholds and writes nothing."""
    run = sieve(tmp_path, kind="digest")

    assert run.sift(page((None, None))).reasons == {"key_missing": 1}
    run.close()
    assert list(tmp_path.iterdir()) == []


def test_quarantine_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """Rows are not withheld without a trace: the run fails instead."""
    (tmp_path / "quarantine.jsonl").mkdir()

    with pytest.raises(SpoolWriteFailed, match="EISDIR while writing the quarantine"):
        sieve(tmp_path).sift(page((None, None)))


def test_a_full_disk_ends_the_run_as_one_that_goes_on(tmp_path: Path) -> None:
    """Nothing was counted as withheld without a trace; it is read again with room."""
    run = sieve(tmp_path)
    full = io.FileIO("/dev/full", "w")
    with io.TextIOWrapper(full, write_through=True) as file:
        run._quarantine._file = file
        with pytest.raises(SpoolFull, match="ENOSPC while writing the quarantine"):
            run.sift(page((None, None)))


def test_quarantine_that_cannot_be_synced_ends_the_run(tmp_path: Path) -> None:
    """A file that the system will not make durable is told at the end of the run."""
    run = sieve(tmp_path)
    reading, writing = os.pipe()  # cannot be synced
    with os.fdopen(reading), os.fdopen(writing, "w") as file:
        run._quarantine._file = file
        with pytest.raises(
            SpoolWriteFailed, match="EINVAL while syncing the quarantine"
        ):
            run.close()


WITHOUT = """\
from pathlib import Path
from agent.errors import SourceFailed
import asked
try:
    asked.sieve(Path()).sift(asked.page(("1", "男")))
except SourceFailed as e:
    print(e)
"""


def test_without_the_compiled_library_it_is_told_what_to_do(tmp_path: Path) -> None:
    """Also where the connector needs none: rules do, and the run fails by a name."""
    checkout = Path(__file__).resolve().parents[4]
    for name in ("agent", "connectors"):
        made = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(checkout / name, tmp_path / name, ignore=made)
    shutil.copy(__file__, tmp_path / "asked.py")
    said = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
    )
    assert "libfepcolumns.so" in said.stdout
    assert "scripts/native" in said.stdout


def test_daemon_side_loads_no_arrow() -> None:
    """Starting workers and probes needs neither pyarrow nor numpy."""
    program = (
        "import sys, agent.pipeline.worker.spawn, agent.pipeline.worker.probe;"
        "sys.exit(bool({'pyarrow', 'numpy'} & set(sys.modules)))"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
