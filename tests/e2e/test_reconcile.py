# SPDX-License-Identifier: Apache-2.0
"""What was done behind the exchange's back is found, repaired; recalls are proven."""

from __future__ import annotations

import json
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.population import compare_postgres, compare_sqlite
from tests.support.postgres import Server, find_programs, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

ROWS = 5_000
COLUMNS = ("id:I:key", "name:C")
NOTHING = {"missing": 0, "stale": 0, "extra": 0, "late": 0}


@dataclass(frozen=True)
class Place:
    """An agent, its table ``person`` and the centre.

    Args:
        sql: changes the table.
        compare: what the foreign comparison says of it and the centre's.
    """

    agent: AgentProcess
    sandbox: SandboxProcess
    sql: Callable[[str], object]
    compare: Callable[[], dict[str, int]]

    def fep(self, *words: str) -> tuple[int, dict[str, Any]]:
        """A command on the resource until its end: exit code and JSON."""
        done = self.agent.run(words[0], PERSONS, *words[1:], "--wait", "--json")
        return done.returncode, json.loads(done.stdout)

    def reconcile(self, *words: str) -> tuple[int, dict[str, int]]:
        """The same of a comparison: exit code and what differed."""
        code, run = self.fep("reconcile", *words)
        return code, {name: run["found"][name] for name in NOTHING}

    def equal(self) -> bool:
        """Whether both tables hold the same rows."""
        found = self.compare()
        return found["equal"] == found["centre"] == found["source"]

    def status(self) -> dict[str, Any]:
        """Of the resource."""
        body = json.loads(self.agent.run("status", PERSONS, "--json").stdout)
        shown: dict[str, Any] = body["resources"][0]
        return shown


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "postgres" and find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        sandbox = stack.enter_context(running_sandbox(folder / "centre"))
        if request.param == "postgres":
            server = stack.enter_context(private_server())
            agent = AgentProcess(folder / "agent", sandbox, rows=1)
            _bind(agent, server)
        else:
            agent = AgentProcess(folder / "agent", sandbox, rows=ROWS)
        agent.fep("enrol")
        stack.enter_context(agent.running())
        kept = {"centre": sandbox.database, "kept": PERSONS.replace("/", "_")}
        if request.param == "postgres":
            yield Place(
                agent,
                sandbox,
                server.sql,
                lambda: compare_postgres(server, "person", columns=COLUMNS, **kept),
            )
        else:
            yield Place(
                agent,
                sandbox,
                agent.sql,
                lambda: compare_sqlite(agent.source, "person", columns=COLUMNS, **kept),
            )


def _bind(agent: AgentProcess, server: Server) -> None:
    """The agent reads a PostgreSQL table with increments."""
    server.sql(
        "create table person (id bigint primary key, name text);"
        f"insert into person select i, 'p' || i from generate_series(1, {ROWS}) i"
    )
    text = agent.config.read_text("utf-8").replace(
        'connector = "sqlite"\npath = "rsj.db"',
        f'connector = "postgres"\nhost = "{server.socket_folder}"\n'
        f'port = {server.port}\ndatabase = "postgres"\nuser = "postgres"',
    )
    agent.config.write_text(text, "utf-8")
    (agent.folder / "catalog" / "permit.toml").unlink()
    document = agent.folder / "catalog" / "person.toml"
    bound = document.read_text("utf-8").replace(
        'table = "person"', 'table = ["public", "person"]'
    )
    document.write_text(bound, "utf-8")


def test_rows_changed_behind_the_exchanges_back_are_found_and_repaired(
    place: Place,
) -> None:
    """Counted first, then repaired; the second run finds nothing."""
    place.fep("pull")
    place.sandbox.tamper(PERSONS, alter=7, remove=5, add=3)
    assert not place.equal()
    place.sql("update person set name = 'late' where id in (4000, 4001)")
    place.sql("insert into person values (9001, 'late, too')")

    differs = {"missing": 5, "stale": 7, "extra": 3, "late": 3}
    words = ("--report-only", "--report", "keys.jsonl")
    assert place.reconcile(*words) == (1, differs)
    report = place.agent.folder / "state" / "reconcile" / "keys.jsonl"
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    assert {c: sum(x["class"] == c for x in lines) for c in NOTHING} == differs
    assert ["4000"] in [x["key"] for x in lines if x["class"] == "late"]
    assert not place.status()["reconciled"]["repaired"]

    assert place.reconcile() == (0, differs)
    assert place.status()["reconciled"]["repaired"]
    chain = links(place.sandbox.database)[PERSONS]
    assert faults(chain) == []
    last = chain[-1].manifest
    assert (last["mode"], last["rows"]) == (
        "repair",
        {"upsert": 12, "delete": 3, "keep": 0},
    )
    found = place.compare()
    assert (found["different"], found["missing"], found["extra"]) == (2, 1, 0)

    code, run = place.fep("pull", "--kind", "incremental")
    assert (code, run["upsert"]) == (0, 3)
    assert place.equal()
    assert place.reconcile() == (0, NOTHING)
    assert links(place.sandbox.database)[PERSONS][-1].manifest["mode"] != "repair"
    assert place.status()["healthy"]
    told = place.agent.events("rows.compared")
    assert [e["stale"] for e in told] == [7, 7, 0]


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_person_agrees_to_the_deletes_of_a_repair_and_of_a_recall(
    place: Place,
) -> None:
    """Each to its own number; a recall takes rows that nobody knew, and is proven."""
    place.fep("pull")
    place.sandbox.tamper(PERSONS, alter=1, add=2000)
    code, held = place.fep("reconcile")
    assert (code, held["code"], held["keys_gone"]) == (1, "mass-delete", 2000)
    code, run = place.fep("reconcile", "--confirm-deletes")
    assert (code, run["kind"], run["upsert"]) == (0, "reconcile", 1)
    assert place.equal()

    place.sandbox.tamper(PERSONS, remove=10, add=1500)
    there = ROWS + 1490
    code, held = place.fep("pull", "--recall")
    assert (code, held["code"]) == (1, "recall-unconfirmed")
    assert held["keys_gone"] == place.compare()["centre"] == there
    code, run = place.fep("pull", "--recall", "--confirm-deletes")
    assert (code, run["kind"], run["deletes_confirmed"]) == (0, "recall", there)
    assert place.compare()["centre"] == 0
    last = links(place.sandbox.database)[PERSONS][-1]
    assert (last.state, last.manifest["deletes_confirmed"]["count"]) == (
        "loaded",
        there,
    )
    place.agent.wait_for("resource.recalled", resource=PERSONS, rows=there)
    shown = place.status()
    assert (shown["state"], shown["complete_to"]) == ("recalled", None)
    refused = place.agent.run("pull", PERSONS, "--json")
    assert json.loads(refused.stdout)["error"]["code"] == "busy"

    place.agent.fep("resume", PERSONS)  # which reads all anew by itself
    end = time.monotonic() + 30
    while not place.equal():
        assert time.monotonic() < end, place.status()
        time.sleep(0.2)
