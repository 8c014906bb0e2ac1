# SPDX-License-Identifier: Apache-2.0
"""Deletes of a PostgreSQL table that is read by increments, found by its keys."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.population import compare_postgres
from tests.support.postgres import Server, find_programs, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(find_programs() is None, reason="PostgreSQL is not installed"),
]

ROWS = 6_000


class Place:
    """An agent, its database and the centre."""

    def __init__(
        self, agent: AgentProcess, server: Server, sandbox: SandboxProcess
    ) -> None:
        self.agent, self.server, self.sandbox = agent, server, sandbox

    def pull(self, *words: str) -> dict[str, Any]:
        """A run until it is loaded or has ended otherwise."""
        done = self.agent.run("pull", PERSONS, *words, "--wait", "--json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def last(self) -> tuple[str, int, int]:
        """Mode, upserts and deletes of the newest batch; the chain is whole."""
        chain = links(self.sandbox.database)[PERSONS]
        assert faults(chain) == []
        manifest = chain[-1].manifest
        rows = manifest["rows"]
        return manifest["mode"], rows["upsert"], rows["delete"]

    def equal(self) -> bool:
        """Whether a comparison that imports nothing of ours finds no difference."""
        found = compare_postgres(
            self.server,
            "person",
            centre=self.sandbox.database,
            kept=PERSONS.replace("/", "_"),
            columns=("id:I:key", "name:C"),
        )
        return bool(found["equal"] == found["centre"] == found["source"])


@pytest.fixture
def place() -> Iterator[Place]:
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_sandbox(Path(folder) / "centre") as sandbox,
        private_server() as server,
    ):
        server.sql(
            "create table person (id bigint primary key, name text);"
            f"insert into person select i, 'p' || i from generate_series(1, {ROWS}) i"
        )
        agent = AgentProcess(Path(folder) / "agent", sandbox, rows=1)
        text = agent.config.read_text("utf-8").replace(
            'connector = "sqlite"\npath = "rsj.db"',
            f'connector = "postgres"\nhost = "{server.socket_folder}"\n'
            f'port = {server.port}\ndatabase = "postgres"\nuser = "postgres"',
        )
        agent.config.write_text(text, "utf-8")
        (agent.folder / "catalog" / "permit.toml").unlink()
        document = agent.folder / "catalog" / "person.toml"
        bound = 'table = ["public", "person"]'
        document.write_text(
            document.read_text("utf-8").replace('table = "person"', bound), "utf-8"
        )
        agent.fep("enrol")
        with agent.running():
            yield Place(agent, server, sandbox)


def test_deleted_rows_disappear_and_increments_go_on(place: Place) -> None:
    """Increments do not see deletes; a search does, and moves no frontier."""
    assert place.pull("--kind", "incremental")["kind"] == "full"
    place.server.sql("delete from person where id % 1000 = 7")
    place.server.sql("update person set name = 'new' where id = 1")
    run = place.pull("--kind", "incremental")
    assert (run["kind"], run["upsert"]) == ("incremental", 1)
    assert not place.equal()

    place.server.sql("insert into person values (7, 'made again'), (9001, 'more')")
    run = place.pull("--kind", "deletes")
    assert (run["kind"], run["state"], run["balanced"]) == ("deletes", "read", True)
    assert place.last() == ("diff", 0, 5)
    run = place.pull("--kind", "incremental")
    assert (run["kind"], run["upsert"]) == ("incremental", 2)
    assert place.equal()

    run = place.pull("--kind", "deletes")
    assert (run["state"], place.last()) == ("read", ("diff", 0, 0))
    assert place.agent.fep("status")["healthy"] is True


def test_more_deletes_than_usual_wait_for_a_person(place: Place) -> None:
    """Not one leaves; who confirms has the number that was shown, and no more."""
    place.pull("--kind", "incremental")
    place.server.sql("delete from person where id > 3000")
    held = place.pull("--kind", "deletes")
    assert (held["state"], held["code"]) == ("held", "mass-delete")
    assert held["keys_gone"] == ROWS - 3000
    assert place.last()[0] == "full"

    run = place.pull("--confirm-deletes")
    assert (run["kind"], run["delivered"]) == ("deletes", True)
    assert place.equal()
