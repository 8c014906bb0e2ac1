# SPDX-License-Identifier: Apache-2.0
"""A million rows of the population register (a tenth in CI) reach the centre.

``FEP_FULL=1`` takes them all. The comparison reads both sides with the command line
programs of their databases and imports nothing of ours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.local.client import LocalClient
from tests.support import population
from tests.support.agent_process import NODE, AgentProcess
from tests.support.chain import faults, links
from tests.support.postgres import Server, find_programs, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

ROWS = population.rows_wanted()
FROM_SQLITE = "101001/000011"
FROM_POSTGRES = "101001/000012"
PATIENCE_S = 600.0

_SETTINGS = """\
[agent]
node = "{node}"
[paths]
state = "state"
run = "run"
[exchange]
aud = "{aud}"
url = "{url}"
ca_sha256 = "{ca_sha256}"
kid = "{kid}"
[sources.lite]
connector = "sqlite"
path = "population.db"
[sources.pg]
connector = "postgres"
host = "{host}"
port = {port}
database = "postgres"
user = "fep_read"
[push]
poll_s = 0.2
"""
_GRANTS = """
create role fep_read login;
grant usage on schema public to fep_read;
grant select on population to fep_read;
"""


@dataclass(frozen=True)
class World:
    """Both sources loaded, the agent running."""

    agent: AgentProcess
    sandbox: SandboxProcess
    postgres: Server
    lite: Path

    def pull(self, resource: str) -> dict[str, Any]:
        """The report of a run, all of whose receipts are there."""
        path = self.agent.folder / "run" / "fep.sock"
        client = LocalClient(path, timeout_s=60.0)
        run = client.post("/v1/pull", {"resource": resource})["run"]
        asked = {"run": run, "wait_s": 20, "delivered": "true"}
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            report: dict[str, Any] = client.get("/v1/run", asked)
            if report["state"] != "running":
                return report
        raise AssertionError(self.agent.tail())


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        server = stack.enter_context(private_server())
        population.load_postgres(server, ROWS)
        server.sql(_GRANTS)
        sandbox = stack.enter_context(running_sandbox(place / "centre"))
        agent = AgentProcess(place / "agent", sandbox)
        population.load_sqlite(agent.folder / "population.db", ROWS)
        settings = _SETTINGS.format(
            node=NODE,
            aud=sandbox.aud,
            url=sandbox.url,
            ca_sha256=sandbox.ca_sha256,
            kid=sandbox.kid,
            host=server.socket_folder,
            port=server.port,
        )
        agent.config.write_text(settings, "utf-8")
        catalog = agent.folder / "catalog"
        for old in catalog.iterdir():
            old.unlink()
        lite = population.document(FROM_SQLITE, source="lite", table=("population",))
        pg = population.document(
            FROM_POSTGRES, source="pg", table=("public", "population")
        )
        (catalog / "lite.toml").write_text(lite, "utf-8")
        (catalog / "pg.toml").write_text(pg, "utf-8")
        agent.fep("enrol")
        with agent.running():
            yield World(agent, sandbox, server, agent.folder / "population.db")


WHOLE = {
    "source": ROWS,
    "centre": ROWS,
    "equal": ROWS,
    "different": 0,
    "missing": 0,
    "extra": 0,
}


def check(run: dict[str, Any], world: World) -> None:
    """All rows read and sent, all receipts loaded, the chain whole."""
    assert (run["state"], run["delivered"], run["balanced"]) == ("read", True, True)
    assert (run["read"], run["loaded"], run["quarantined"]) == (ROWS, ROWS, 0)
    chain = links(world.sandbox.database)[run["resource"]]
    assert faults(chain) == []
    assert sum(link.manifest["rows"]["upsert"] for link in chain) == ROWS


def test_population_from_sqlite(world: World) -> None:
    """From SQLite: all receipts loaded, the centre equals the source row by row."""
    check(world.pull(FROM_SQLITE), world)
    found = population.compare_sqlite(
        world.lite,
        "population",
        centre=world.sandbox.database,
        kept=FROM_SQLITE.replace("/", "_"),
        columns=population.COLUMNS,
    )
    assert found == WHOLE


def test_population_from_postgres(world: World) -> None:
    """From PostgreSQL: all receipts loaded, the centre equals the source."""
    check(world.pull(FROM_POSTGRES), world)
    found = population.compare_postgres(
        world.postgres,
        "population",
        centre=world.sandbox.database,
        kept=FROM_POSTGRES.replace("/", "_"),
        columns=population.COLUMNS,
    )
    assert found == WHOLE
