# SPDX-License-Identifier: Apache-2.0
"""A table without any mark of changes: only what differs leaves, deletes included."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.population import compare_sqlite
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

ROWS = 5_000


@pytest.fixture
def place() -> Iterator[tuple[AgentProcess, SandboxProcess]]:
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_sandbox(Path(folder) / "centre") as sandbox,
    ):
        agent = AgentProcess(Path(folder) / "agent", sandbox, rows=ROWS)
        agent.fep("enrol")
        with agent.running():
            yield agent, sandbox


def changes(agent: AgentProcess, *words: str) -> dict[str, object]:
    """A run that reads what changed, until it is loaded or has ended otherwise."""
    done = agent.run(
        "pull", PERSONS, "--kind", "incremental", *words, "--wait", "--json"
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def sent(sandbox: SandboxProcess) -> list[tuple[str, int, int]]:
    """Mode, upserts and deletes of each run at the centre; its chain is whole."""
    chain = links(sandbox.database)[PERSONS]
    assert faults(chain) == []
    found, upserts, deletes = [], 0, 0
    for manifest in (link.manifest for link in chain):
        upserts += manifest["rows"]["upsert"]
        deletes += manifest["rows"]["delete"]
        if manifest["run_end"]:
            found.append((manifest["mode"], upserts, deletes))
            upserts = deletes = 0
    return found


def equal(agent: AgentProcess, sandbox: SandboxProcess) -> bool:
    """Whether a comparison that imports nothing of ours finds no difference."""
    found = compare_sqlite(
        agent.source,
        "person",
        centre=sandbox.database,
        kept=PERSONS.replace("/", "_"),
        columns=("id:I:key", "name:C"),
    )
    rows = found["source"]
    return bool(found["equal"] == found["centre"] == rows and not found["extra"])


def test_only_what_differs_leaves_and_a_damaged_record_loses_nothing(
    place: tuple[AgentProcess, SandboxProcess],
) -> None:
    """The first run is full; then changes alone leave, whatever the record suffers."""
    agent, sandbox = place
    assert changes(agent)["kind"] == "full"
    agent.sql("update person set name = 'new' where id in (7, 4999)")
    agent.sql("delete from person where id between 20 and 29")
    agent.sql("insert into person values (9001, 'one more')")
    run = changes(agent)
    assert (run["kind"], run["state"], run["balanced"]) == ("diff", "read", True)
    assert (run["read"], run["upsert"], run["skipped"]) == (ROWS - 9, 3, ROWS - 12)
    assert sent(sandbox)[-1] == ("diff", 3, 10)
    assert equal(agent, sandbox)

    assert changes(agent)["upsert"] == 0
    assert sent(sandbox)[-1] == ("unchanged", 0, 0)

    [state] = (agent.folder / "state" / "diff").glob("*.diff")
    state.write_bytes(state.read_bytes()[:-9])
    agent.sql("delete from person where id = 1")
    agent.sql("update person set name = 'after the damage' where id = 2")
    assert changes(agent)["code"] == "digests-unfit"
    lost = agent.wait_for("frontier.lost", resource=PERSONS)
    assert "description" in lost["detail"]
    agent.wait_for("receipt.kept", resource=PERSONS, seq=sent_until(sandbox, "full"))
    assert equal(agent, sandbox)
    assert changes(agent)["kind"] == "diff"
    assert agent.fep("status")["healthy"] is True


def sent_until(sandbox: SandboxProcess, mode: str) -> int:
    """Number of the newest batch, once it is of a mode."""
    sandbox.wait_loaded()
    while True:
        last = links(sandbox.database)[PERSONS][-1]
        if last.manifest["mode"] == mode and last.state == "loaded":
            return last.seq


def test_mass_deletes_wait_for_a_person(
    place: tuple[AgentProcess, SandboxProcess],
) -> None:
    """Not one delete leaves before somebody agrees to their number."""
    agent, sandbox = place
    changes(agent)
    agent.sql("delete from person where id > 2000")
    agent.sql("update person set name = 'new' where id = 1")
    held = changes(agent)
    assert (held["state"], held["code"]) == ("held", "mass-delete")
    assert held["keys_gone"] == ROWS - 2000
    assert all(deletes == 0 for _, _, deletes in sent(sandbox))

    run = agent.fep("pull", PERSONS, "--confirm-deletes", "--wait")
    assert (run["kind"], run["delivered"]) == ("diff", True)
    assert sent(sandbox)[-1] == ("diff", 1, ROWS - 2000)
    assert equal(agent, sandbox)
    for link in links(sandbox.database)[PERSONS]:
        rows, agreed = link.manifest["rows"], link.manifest["deletes_confirmed"]
        assert rows["delete"] == (agreed["count"] if agreed else 0)
    assert agent.fep("pull", PERSONS, "--wait")["delivered"]

    _deletes_that_the_exchange_rejects_come_back(agent, sandbox)


def _deletes_that_the_exchange_rejects_come_back(
    agent: AgentProcess, sandbox: SandboxProcess
) -> None:
    """It adds up what each run alone may delete; its reason stands with each key."""
    agent.sql("delete from person where id > 1400")
    assert changes(agent)["delivered"]
    agent.sql("delete from person where id > 800")
    assert changes(agent)["delivered"] is False
    told = agent.wait_for("rows.returned", resource=PERSONS)
    assert (told["code"], told["rows"]) == ("mass-delete", 600)
    [file] = (agent.folder / "state" / "quarantine").glob("*.rejected.jsonl")
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert {line["reason"] for line in lines} == {"rejected:mass-delete"}
    assert {line["key"]["id"] for line in lines} == set(range(801, 1401))
    halted = agent.wait_for("receipt.kept", resource=PERSONS, state="rejected")
    assert halted["code"] == "mass-delete"
    assert agent.run("status", PERSONS, "--json").returncode == 1

    assert agent.fep("pull", PERSONS, "--confirm-deletes", "--wait")["delivered"]
    assert equal(agent, sandbox)
    assert agent.fep("status")["healthy"] is True
