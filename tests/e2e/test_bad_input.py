# SPDX-License-Identifier: Apache-2.0
"""Bad input, end to end: one cause at a time is made and removed.

Each time status names the error with its next step in both languages, another resource
goes on meanwhile, and once the cause is gone the centre has what the sources have.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.pipeline.quality.reasons import TITLES
from agent.wire.batch import LINE_CAP
from tests.support.agent_process import PERMITS, PERSONS
from tests.support.department import (
    FIRMS,
    PASSWORD,
    TABLES,
    Department,
    running_department,
)
from tests.support.postgres import find_programs

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def department() -> Iterator[Department]:
    """A running department; each test leaves it healthy."""
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_department(Path(folder)) as found,
    ):
        yield found


class Cause(NamedTuple):
    """A cause at a source: what makes and removes it, and the code that names it."""

    name: str
    resource: str
    code: str
    make: Callable[[Department], object]
    remove: Callable[[Department], object]


def psql(text: str) -> Callable[[Department], object]:
    """Statements at PostgreSQL."""
    return lambda d: d.server.sql(text)


def sqlite(text: str) -> Callable[[Department], object]:
    """A statement at SQLite."""
    return lambda d: d.agent.sql(text)


def away(d: Department) -> None:
    """The database file is gone."""
    d.agent.source.rename(d.agent.source.with_suffix(".away"))


def back(d: Department) -> None:
    """It is there again."""
    d.agent.source.with_suffix(".away").rename(d.agent.source)


PG = [
    Cause(
        "server unreachable",
        FIRMS,
        "source-unreachable",
        lambda d: d.line.unlink(),
        lambda d: d.line.symlink_to(d.server.socket_folder),
    ),
    Cause(
        "wrong password",
        FIRMS,
        "source-login",
        lambda d: d.write_secret("wrong"),
        lambda d: d.write_secret(PASSWORD),
    ),
    Cause(
        "unreadable secret",
        FIRMS,
        "secret-unreadable",
        lambda d: d.secret.unlink(),
        lambda d: d.write_secret(PASSWORD),
    ),
    Cause(
        "no SELECT",
        FIRMS,
        "source-right",
        psql("REVOKE SELECT ON firm FROM reader"),
        psql("GRANT SELECT ON firm TO reader"),
    ),
    Cause(
        "table gone",
        FIRMS,
        "source-missing",
        psql("ALTER TABLE firm RENAME TO company"),
        psql("ALTER TABLE company RENAME TO firm"),
    ),
    Cause(
        "column gone",
        FIRMS,
        "source-missing",
        psql("ALTER TABLE firm RENAME name TO title"),
        psql("ALTER TABLE firm RENAME title TO name"),
    ),
    Cause(
        "type changed",
        FIRMS,
        "source-type",
        psql("ALTER TABLE firm ALTER name TYPE bytea USING name::bytea"),
        psql("ALTER TABLE firm ALTER name TYPE text USING convert_from(name, 'UTF8')"),
    ),
]
SQLITE = [
    Cause("file gone", PERSONS, "source-unreachable", away, back),
    Cause(
        "table gone",
        PERSONS,
        "source-missing",
        sqlite("ALTER TABLE person RENAME TO people"),
        sqlite("ALTER TABLE people RENAME TO person"),
    ),
    Cause(
        "column gone",
        PERSONS,
        "source-missing",
        sqlite("ALTER TABLE person RENAME name TO title"),
        sqlite("ALTER TABLE person RENAME title TO name"),
    ),
]


@pytest.mark.parametrize(
    "cause", [*PG, *SQLITE], ids=lambda c: f"{TABLES[c.resource]} {c.name}"
)
def test_a_cause_at_a_source_is_named_and_costs_nothing(
    department: Department, cause: Cause
) -> None:
    """The other database's resources are loaded meanwhile; the run repeats itself."""
    other = PERMITS if cause.resource == FIRMS else FIRMS
    department.renew(cause.name)
    cause.make(department)
    try:
        department.ask(cause.resource)
        department.until_trouble(cause.resource, cause.code)
        assert department.told_to_people(cause.resource, cause.code) == {}
        department.ask(other)
        department.until_arrived(other)
    finally:
        cause.remove(department)
    department.until_arrived(cause.resource)


EXCHANGE: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "down": ("exchange-unreachable", [{"kind": "drop"}]),
    "failing": ("exchange-refused", [{"kind": "status", "status": 502}]),
    "busy": ("exchange-refused", [{"kind": "busy"}]),
    "behind a login page": (
        "malformed",
        [{"kind": "redirect", "location": "https://login.example/"}],
    ),
    "certificate of another CA": (
        "exchange-untrusted",
        [{"kind": "drop", "count": 4}, {"kind": "tls", "lie": "wrong-ca"}],
    ),
    "expired certificate": (
        "exchange-untrusted",
        [{"kind": "drop", "count": 4}, {"kind": "tls", "lie": "expired"}],
    ),
    "clock an hour ahead": ("clock-skew", [{"kind": "clock", "seconds": 3600}]),
    "clock an hour behind": ("clock-skew", [{"kind": "clock", "seconds": -3600}]),
    **{
        f"false receipt, {lie}": ("false-receipt", [{"kind": "receipt", "lie": lie}])
        for lie in ("other-batch", "bad-signature", "wrong-exchange", "unknown-key")
    },
}


@pytest.mark.parametrize("name", EXCHANGE)
def test_a_cause_at_the_exchange_is_named_and_costs_nothing(
    department: Department, name: str
) -> None:
    """All resources are still read and sealed; what waits is sent once it is gone."""
    code, switches = EXCHANGE[name]
    department.renew(name)
    department.sandbox.faults(*switches)
    try:
        for resource in TABLES:
            department.ask(resource)
        for resource in TABLES:
            department.until_read(resource)
            department.until_trouble(resource, code)
        assert department.told_to_people(PERSONS, code) == {}
    finally:
        department.sandbox.faults()
    department.until_arrived(*TABLES)


def test_text_that_no_encoding_decodes_withholds_its_row_only(
    department: Department,
) -> None:
    """The reason is named in both languages; the other rows are loaded."""
    department.renew("undecodable")
    department.agent.sql(
        "UPDATE person SET name = CAST(x'fffe41' AS TEXT) WHERE id = 3"
    )
    department.ask(PERSONS)
    department.until_delivered(PERSONS)
    run = department.status(PERSONS)["run"]
    assert (run["quarantined"], run["stale"]) == (1, 1)
    (reason,) = run["reasons"]
    for lang in ("en", "zh"):
        shown = department.agent.run("status", PERSONS, "--lang", lang).stdout
        assert f"{getattr(TITLES[reason], lang)} [{reason}]: 1" in shown
    department.agent.sql("UPDATE person SET name = 'again' WHERE id = 3")
    department.ask(PERSONS)
    department.until_arrived(PERSONS)


def test_a_table_of_another_type_deletes_nothing_at_the_centre(
    department: Department,
) -> None:
    """Its key is another: the run is held, and the centre keeps its rows."""
    department.renew("another type")
    before = department.centre(PERSONS)
    department.agent.sql("ALTER TABLE person RENAME TO numbered")
    department.agent.sql(
        "CREATE TABLE person AS SELECT 'n' || id AS id, name FROM numbered"
    )
    department.ask(PERSONS)
    department.until_trouble(PERSONS, "schema-drift")
    assert department.told_to_people(PERSONS, "schema-drift") == {}
    department.ask(PERMITS)
    department.until_arrived(PERMITS)
    assert department.centre(PERSONS) == before
    department.agent.sql("DROP TABLE person")
    department.agent.sql("ALTER TABLE numbered RENAME TO person")
    department.ask(PERSONS)
    department.until_arrived(PERSONS)


# --- the spool ------------------------------------------------------------------------


def flip(path: Path) -> None:
    """One bit of the payload."""
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def lengthen(path: Path) -> None:
    """Line 1 grows beyond what any reader takes."""
    line, _, payload = path.read_bytes().partition(b"\n")
    path.write_bytes(line.ljust(LINE_CAP + 1, b"A") + b"\n" + payload)


@pytest.mark.parametrize("spoil", [flip, lengthen, Path.unlink])
def test_a_spoilt_batch_file_never_leaves_and_is_read_again(
    department: Department, spoil: Callable[[Path], object]
) -> None:
    """A new epoch carries its rows; the other resource's file is sent as it is."""
    department.renew(f"spool {spoil.__name__}")
    opened = len(department.agent.events("stream.epoch"))
    department.sandbox.faults({"kind": "drop"})
    try:
        for resource in (PERSONS, PERMITS):
            department.ask(resource)
        for resource in (PERSONS, PERMITS):
            department.until_read(resource)
        batches = department.client.get("/v1/spool", {"resource": PERSONS})["batches"]
        path = batches[-1]["path"]
        spoil(Path(path))
        found = department.until_told("exchange.trouble", code="spool-damaged")
    finally:
        department.sandbox.faults()
    assert path in found["detail"]
    department.until_arrived(PERSONS, PERMITS)
    after = department.agent.events("stream.epoch")[opened:]
    assert [(e["resource"], e["reason"]) for e in after] == [(PERSONS, "spool_lost")]


# --- the disk -------------------------------------------------------------------------


SPOOL = "[spool]\nfree_floor_mb = 8\nballast_mb = 0\n"


@pytest.fixture(scope="module")
def cramped() -> Iterator[Department]:
    """A department whose state folder is a file system of 16 MB."""
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        state = Path(folder) / "agent" / "state"
        state.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", str(state)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small file system")
        try:
            with running_department(Path(folder), SPOOL) as d:
                yield d
        finally:
            subprocess.run(["umount", "--lazy", str(state)], check=True)


def fill(department: Department, *, leave: int) -> Path:
    """A file of somebody else that leaves so many bytes of the disk."""
    state = department.agent.folder / "state"
    filler = state / "filler"
    with filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(state).free > leave:
            file.write(bytes(4096))
    return filler


def test_a_disk_that_is_nearly_full_stops_reading_and_says_so(
    cramped: Department,
) -> None:
    """At the floor reading waits; with room again it goes on by itself."""
    cramped.renew("nearly full")
    filler = fill(cramped, leave=6_000_000)
    try:
        cramped.ask(PERSONS)
        cramped.until_trouble(PERSONS, "spool-full")
        assert cramped.told_to_people(PERSONS, "spool-full") == {}
    finally:
        filler.unlink()
    cramped.until_arrived(PERSONS)


def test_a_disk_without_a_byte_refuses_a_pull_by_name(cramped: Department) -> None:
    """What cannot be recorded is not begun; started again with room it is taken."""
    agent = cramped.agent
    cramped.renew("without a byte")
    filler = fill(cramped, leave=0)
    try:
        done = agent.run("pull", PERSONS, "--json")
    finally:
        filler.unlink()
    assert done.returncode == 74
    assert json.loads(done.stdout)["error"]["code"] == "audit-write-failed"
    shown = agent.run("status", "--lang", "en")
    assert shown.returncode == 1
    assert "audit-write-failed" in shown.stdout
    agent.stop()
    agent.start()
    cramped.ask(PERSONS)
    cramped.until_arrived(PERSONS)


def test_a_read_only_disk_is_named_at_the_start(cramped: Department) -> None:
    """Exit 74 with the path and the next step; nothing is lost meanwhile."""
    agent, state = cramped.agent, cramped.agent.folder / "state"
    agent.stop()
    cramped.renew("read-only")
    subprocess.run(["mount", "-o", "remount,ro", str(state)], check=True)
    try:
        done = agent.run("run")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(state)], check=True)
    assert done.returncode == 74
    assert "spool-write-failed" in done.stderr
    assert str(state) in done.stderr
    agent.start()
    cramped.ask(PERSONS)
    cramped.until_arrived(PERSONS)


# --- the settings ---------------------------------------------------------------------


def test_every_fault_of_the_files_is_listed_at_once(department: Department) -> None:
    """Unknown key, wrong type, unreadable secret, missing file: 78, file and key."""
    config = department.agent.folder / "spoilt.toml"
    text = department.agent.config.read_text("utf-8")
    text = text.replace('"secret"', '"no-secret"')
    text = text.replace("poll_s = 0.1", 'pol_s = 1\nworkers = "2"')
    config.write_text(text.replace("[agent]", '[agent]\ncatalog = "none"'), "utf-8")
    done = department.agent.run("config", "check", "--json", FEP_CONFIG=str(config))
    assert done.returncode == 78
    found = {(f["file"], f["key"]) for f in json.loads(done.stdout)["faults"]}
    assert found == {
        (str(config), "push.pol_s"),
        (str(config), "push.workers"),
        (str(config), "sources.firms.password"),
        (str(config.parent / "none"), ""),
    }
    started = department.agent.run("run", FEP_CONFIG=str(config))
    assert started.returncode == 78
    assert "config-invalid" in started.stderr
