# SPDX-License-Identifier: Apache-2.0
"""A table is altered under a running daemon."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.sandbox_process import running_sandbox

pytestmark = pytest.mark.e2e


@pytest.fixture
def agent() -> Iterator[AgentProcess]:
    """An enrolled agent with two tables, not running yet."""
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_sandbox(Path(folder) / "centre") as sandbox,
    ):
        agent = AgentProcess(Path(folder) / "agent", sandbox)
        agent.fep("enrol")
        yield agent


def test_an_altered_table_is_held_until_a_person_has_looked(
    agent: AgentProcess,
) -> None:
    """A new column goes on; another type is held, others are not, and then accepted."""
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        agent.sql("ALTER TABLE person ADD COLUMN phone TEXT")
        assert agent.fep("pull", PERSONS, "--wait")["delivered"]
        told = agent.wait_for("source.columns", resource=PERSONS)
        assert told["changes"] == ["+ phone TEXT"]

        agent.sql("ALTER TABLE person RENAME TO wide")
        agent.sql(
            "CREATE TABLE person (id INTEGER PRIMARY KEY, name VARCHAR(9), phone TEXT)"
        )
        agent.sql("INSERT INTO person SELECT * FROM wide")
        held = json.loads(agent.run("pull", PERSONS, "--wait", "--json").stdout)
        assert (held["state"], held["code"]) == ("held", "schema-drift")
        shown = json.loads(agent.run("status", PERSONS, "--json").stdout)
        [resource] = shown["resources"]
        assert resource["state"] == "held"
        assert "~ name TEXT -> VARCHAR(9) (type)" in resource["trouble"]["detail"]
        assert "version" in resource["trouble"]["remedy"]["zh"]
        assert agent.fep("pull", PERMITS, "--wait")["delivered"]

        path = agent.folder / "catalog" / "person.toml"
        text = path.read_text("utf-8").replace("version = 1", "version = 2")
        path.write_text(text, "utf-8")
        agent.wait_for("config.reloaded")
        assert agent.fep("pull", PERSONS, "--wait")["delivered"]
        assert agent.fep("status")["healthy"]
        assert agent.stop() == 0


def test_a_renamed_column_is_named_and_the_binding_mends_it(
    agent: AgentProcess,
) -> None:
    """The run is tried again by itself; the difference says what to write."""
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
        agent.sql("ALTER TABLE person RENAME COLUMN name TO full_name")
        failed = json.loads(agent.run("pull", PERSONS, "--wait", "--json").stdout)
        assert (failed["state"], failed["code"]) == ("failed", "source-missing")
        assert "~ name TEXT -> as full_name" in failed["detail"]

        path = agent.folder / "catalog" / "person.toml"
        text = path.read_text("utf-8")
        binding = 'table = "person"\ncolumns = { name = "full_name" }'
        path.write_text(text.replace('table = "person"', binding), "utf-8")
        agent.wait_for("receipt.kept", resource=PERSONS, seq=2, state="loaded")
        assert agent.fep("status")["healthy"]
