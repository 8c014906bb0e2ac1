# SPDX-License-Identifier: Apache-2.0
"""``fep demo`` as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.demo import defects, department, documents
from tests.support import cli_json
from tests.support.agent_process import FEP
from tests.support.population import compare_sqlite

pytestmark = pytest.mark.e2e

ROWS = 2_000
TABLES = {documents.table(r): r for r in documents.pushed()}


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FEP, "demo", "--dir", str(folder), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder) / "demo"


@pytest.fixture(scope="module")
def first(place: Path) -> dict[str, Any]:
    """The report of a first start."""
    done = demo(place, "--rows", str(ROWS), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def test_report_is_as_documented(first: dict[str, Any]) -> None:
    """The real --json holds to docs/cli-json.md, member by member."""
    assert cli_json.faults(cli_json.sections()["`fep demo`"], first) == []


@pytest.mark.parametrize("table", TABLES)
def test_every_seeded_defect_is_found(first: dict[str, Any], table: str) -> None:
    """Quarantined and flagged rows are exactly those that were seeded, by reason."""
    code = TABLES[table].code
    found = next(p for p in first["pushed"] if p["code"] == code)
    assert found["reasons"] == defects.expected(ROWS, table, withheld=True)
    assert found["warnings"] == defects.expected(ROWS, table, withheld=False)
    rows = department.sizes(ROWS)[table]
    assert (found["in_source"], found["read"]) == (rows, rows)
    assert found["accepted"] == rows - sum(found["reasons"].values())
    assert found["centre"] == found["source"]
    assert found["centre"]["rows"] == found["accepted"]


def test_altered_batches_are_refused_by_name(first: dict[str, Any]) -> None:
    """A turned bit is bad-digest, a forged count bad-signature; the true one loads."""
    said = [(t["status"], t["code"]) for t in first["tampered"]]
    assert said == [(422, "bad-digest"), (422, "bad-signature")]
    assert first["after_tamper"] == "loaded"


def test_what_is_not_shared_is_refused(first: dict[str, Any]) -> None:
    """The gate refuses the arbitration cases, and names itself."""
    kept = [(k["code"], k["rows"], k["refused"]) for k in first["kept"]]
    assert kept == [("307013/000006", 40, "gate-closed")]


@pytest.mark.parametrize("table", TABLES)
def test_centre_equals_source_for_foreign_eyes(
    first: dict[str, Any], place: Path, table: str
) -> None:
    """The sqlite3 program finds every accepted row at the centre, equal, and no other.

    The script imports nothing of ours; what is missing there was withheld here.
    """
    resource = TABLES[table]
    columns = tuple(
        f"{i.name}:{i.type}{':key' if i.key else ''}={resource.column(i)}"
        for i in resource.shared_items()
    )
    found = compare_sqlite(
        place / "rsj.db",
        table,
        centre=place / "exchange" / "centre.db",
        kept=resource.code.replace("/", "_"),
        columns=columns,
    )
    withheld = sum(defects.expected(ROWS, table, withheld=True).values())
    rows = department.sizes(ROWS)[table]
    assert found == {
        "source": rows,
        "centre": rows - withheld,
        "equal": rows - withheld,
        "different": 0,
        "missing": withheld,
        "extra": 0,
    }


def test_an_answer_is_the_source_masked(first: dict[str, Any], place: Path) -> None:
    """What was shown is what the sqlite3 program finds, veiled as the grant says."""
    allowed, refused = first["asked"]
    program = "select name, citizen_id, birth_date, status from person limit 1"
    done = subprocess.run(
        ["sqlite3", str(place / "rsj.db"), program],
        capture_output=True,
        text=True,
        check=True,
    )
    name, number, birth, status = done.stdout.strip().split("|")
    shown = allowed["shown"]
    assert shown["姓名"] == name[0] + "*" * (len(name) - 1)
    assert shown["公民身份号码"] == number[:3] + "*" * 11 + number[-4:]
    assert shown["出生日期"] == birth[:4]
    assert shown["人员状态"] == status
    assert set(allowed["masked"]) == {"姓名", "公民身份号码", "出生日期", "住址"}
    assert (refused["status"], refused["reasons"]) == ("denied", ["purpose"])
    assert refused["shown"] == {}


def test_the_log_holds_and_an_altered_record_is_found(
    first: dict[str, Any], place: Path
) -> None:
    """The exported folder is good once more; its copy is not, at that record."""
    log = first["log"]
    assert (log["good"], log["found"], log["proven"]) == (True, log["altered"], True)
    for folder, code in (("audit-log", 0), ("audit-log-altered", 1)):
        words = [sys.executable, "-c", FEP, "audit", "verify", str(place / folder)]
        assert (
            subprocess.run(words, capture_output=True, check=False).returncode == code
        )


def test_nothing_withheld_is_in_any_batch_log_or_table(
    first: dict[str, Any], place: Path
) -> None:
    """No secrecy mark and no identity number stands in a log or in the centre's file;
    quarantine files are for the owner alone."""
    centre = (place / "exchange" / "centre.db").read_bytes()
    assert "机密★".encode() not in centre
    logs = b"".join(p.read_bytes() for p in place.glob("*.log"))
    assert b"run.ended" in logs
    assert b"990102" not in logs
    files = list((place / "agent" / "quarantine").iterdir())
    assert files
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}


def test_second_start_uses_the_folder_again(first: dict[str, Any], place: Path) -> None:
    """The next start finds department and identity, and comes to the same digests."""
    began = time.monotonic()
    done = demo(place, "--rows", str(ROWS), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    body = json.loads(done.stdout)
    assert (first["reused"], body["reused"]) == (False, True)
    assert [p["centre"] for p in body["pushed"]] == [
        p["centre"] for p in first["pushed"]
    ]


def test_one_screen_for_people(first: dict[str, Any], place: Path) -> None:
    """Without --json there is one panel, in the language asked for, and exit 0."""
    done = demo(place, "--rows", str(ROWS), "--lang", "zh")
    assert done.returncode == 0, done.stdout + done.stderr
    for wanted in ("云溪市人力资源和社会保障局", "隔离", "被拒绝", "源 = 中心 + 隔离"):
        assert wanted in done.stdout
    assert done.stdout.count("╭") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_demonstration_leaves_no_process(
    first: dict[str, Any], place: Path, number: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM while it serves ends exchange, agent and workers."""
    command = [sys.executable, "-c", FEP, "demo", "--dir", str(place)]
    command += ["--rows", str(ROWS), "--serve", "--lang", "en"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # as at a terminal: a test run in the background has SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "Ctrl-C ends it." in line:
                break
        assert len(using(place)) == 3
        run.send_signal(number)
        run.stdout.read()
    assert using(place) == []


def using(place: Path) -> list[int]:
    """Processes that name the folder in their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(place) in words:
                found.append(int(entry.name))
    return found


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A folder that is not a demonstration's is exit 2 and stays as it is."""
    (tmp_path / "letter.txt").write_text("dear all")
    done = demo(tmp_path, "--lang", "en")
    assert done.returncode == 2
    assert "not a demonstration's" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
