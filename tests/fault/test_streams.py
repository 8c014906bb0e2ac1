# SPDX-License-Identifier: Apache-2.0
"""Old copies and second machines, with real programs: each is found, none loses a row.

Afterwards the chain is checked from the exchange's registry and the rows are compared
by a script; neither imports anything of ours.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.local.client import LocalClient
from agent.pipeline.flow.seams import Limits
from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.population import compare_sqlite
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

ROWS = 3_000
PATIENCE_S = 60.0


class Site:
    """An agent, its exchange, and what both have."""

    def __init__(self, place: Path, sandbox: SandboxProcess) -> None:
        self.place = place
        self.sandbox = sandbox
        self.agent = AgentProcess(place / "one", sandbox, rows=ROWS)
        self.number = 0
        self.epoch = 0
        self.heard = 0

    def begin(self) -> None:
        """What happens from now on is of another test."""
        self.epoch = self.until(lambda s: s["state"] == "idle")["stream"]["epoch"]
        self.heard = len(self.agent.events("stream.moved"))

    # --- the department ---------------------------------------------------------------

    def works(self, agent: AgentProcess | None = None) -> None:
        """Rows come, change and go."""
        self.number += 1
        n, source = self.number, agent or self.agent
        source.sql("INSERT INTO person VALUES (?, 'new')", ROWS + 2 * n)
        source.sql("UPDATE person SET name = 'again ' || ? WHERE id <= 20", n)
        source.sql("DELETE FROM person WHERE id = ?", 100 + n)

    def pull(self, agent: AgentProcess | None = None) -> None:
        """Everything of the persons, until it is loaded."""
        client = self.client(agent or self.agent)
        run = client.post("/v1/pull", {"resource": PERSONS})["run"]
        query = {"run": run, "wait_s": 20, "delivered": "true"}
        report = client.get("/v1/run", query)
        assert report["delivered"], (report["code"], report["detail"])

    def asked(self, agent: AgentProcess) -> None:
        """Ask for the persons, once what was heard of the exchange is not fresh."""
        time.sleep(Limits().fresh_s)
        self.client(agent).post("/v1/pull", {"resource": PERSONS})

    def client(self, agent: AgentProcess) -> LocalClient:
        """The daemon's own interface."""
        return LocalClient(agent.folder / "run" / "fep.sock")

    # --- what stands ------------------------------------------------------------------

    def resource(self, agent: AgentProcess, code: str = PERSONS) -> Any:
        """How a resource stands."""
        return self.client(agent).get("/v1/status", {"resource": code})["resources"][0]

    def until(
        self,
        fact: Callable[[Any], bool],
        agent: AgentProcess | None = None,
        code: str = PERSONS,
    ) -> Any:
        """How it stands once a fact holds."""
        asked, end = agent or self.agent, time.monotonic() + PATIENCE_S
        while not fact(found := self.resource(asked, code)):
            assert time.monotonic() < end, (found, asked.tail())
            time.sleep(0.05)
        return found

    def begun_anew(self) -> Any:
        """How it stands once everything of the next epoch is loaded."""
        return self.until(
            lambda s: s["state"] == "idle" and s["stream"]["epoch"] == self.epoch + 1
        )

    def whole(self, agent: AgentProcess | None = None) -> None:
        """The centre has the source's rows, each once, and a chain without a fault."""
        self.sandbox.wait_loaded()
        source = (agent or self.agent).source
        found = compare_sqlite(
            source,
            "person",
            centre=self.sandbox.database,
            kept=PERSONS.replace("/", "_"),
            columns=("id:I:key", "name:C"),
        )
        assert found["source"] > ROWS / 2
        assert found["equal"] == found["source"] == found["centre"], found
        assert faults(links(self.sandbox.database)[PERSONS]) == []

    def moved(self, agent: AgentProcess | None = None) -> list[str]:
        """Causes that are in the audit log."""
        if agent is not None:
            return [event["cause"] for event in agent.events("stream.moved")]
        told = self.agent.events("stream.moved")[self.heard :]
        return [event["cause"] for event in told if event["resource"] == PERSONS]

    def left(self) -> dict[tuple[Any, ...], set[str]]:
        """Identity -> digests of what the machines say has left them."""
        found: dict[tuple[Any, ...], set[str]] = {}
        for log in self.place.glob("*/agent.log"):
            agent = AgentProcess.__new__(AgentProcess)
            agent.log = log
            for e in agent.events("batch.left"):
                place = (e["resource"], e["epoch"], e["seq"])
                found.setdefault(place, set()).add(e["digest"])
        return found


@pytest.fixture(scope="module")
def one() -> Iterator[Site]:
    """An enrolled agent that has sent everything, at work."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        sandbox = stack.enter_context(running_sandbox(place / "x"))
        found = Site(place, sandbox)
        found.agent.fep("enrol")
        stack.enter_context(found.agent.running())
        found.pull()
        yield found


@pytest.fixture
def site(one: Site) -> Iterator[Site]:
    """The same for each test, at rest; no identity has two manifests in the end."""
    one.begin()
    yield one
    assert {k: d for k, d in one.left().items() if len(d) != 1} == {}


def kept(folder: Path) -> Path:
    """A copy of a folder or file, as a backup has it."""
    copy = folder.with_name(f"{folder.name}.backup")
    if folder.is_dir():
        shutil.copytree(folder, copy, symlinks=True, ignore=_no_sockets)
    else:
        shutil.copy(folder, copy)
    return copy


def _no_sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_socket()]


def put_back(copy: Path) -> None:
    """A backup in place of what is there now."""
    place = copy.with_name(copy.name.removesuffix(".backup"))
    for old in (place, place.with_name(place.name + "-wal")):
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    copy.rename(place)


def waiting(site: Site) -> list[Path]:
    """Files that cannot leave now, after a pull while uploads are refused."""
    site.sandbox.faults({"kind": "status", "status": 503, "route": "POST /v1/batches"})
    site.works()
    site.client(site.agent).post("/v1/pull", {"resource": PERSONS})
    site.until(lambda s: s["run"]["state"] == "read")
    out = site.agent.folder / "state" / "spool" / "out"
    return sorted(out.rglob("101001_000001.*.fepb"), key=lambda p: p.stat().st_mtime)


@pytest.mark.parametrize("lost", ["all", "some"])
def test_a_spool_that_was_lost_is_read_again(site: Site, lost: str) -> None:
    """Emptied, or one file of those that wait: a new epoch, reason spool_lost."""
    files = waiting(site)
    site.agent.stop(signal.SIGKILL)
    for file in files if lost == "all" else files[-1:]:
        file.unlink()
    site.sandbox.faults()
    site.agent.start()
    found = site.begun_anew()
    assert found["stream"]["cause"] == "spool-lost"
    assert site.agent.events("spool.missing")
    chain = links(site.sandbox.database)[PERSONS]
    first = next(c for c in chain if c.epoch == site.epoch + 1)
    assert first.manifest["stream"]["reason"] == "spool_lost"
    site.whole()


def test_a_state_folder_that_was_lost_but_for_the_keys(site: Site) -> None:
    """Nothing is known of the stream: the position says where to go on."""
    site.agent.stop()
    state = site.agent.folder / "state"
    (state / "state.db").unlink()
    shutil.rmtree(state / "spool")
    site.works()
    site.agent.start()
    site.pull()
    assert site.moved() == ["spool-lost"]
    assert site.begun_anew()["stream"]["cause"] == "spool-lost"
    site.whole()


def test_a_state_from_an_older_backup(site: Site) -> None:
    """Found at the start, before anything waits; a new life begins."""
    site.agent.stop()
    backup = kept(site.agent.folder / "state" / "state.db")
    site.agent.start()
    site.works()
    site.pull()
    site.agent.stop()
    put_back(backup)
    site.works()
    site.agent.start()
    assert site.begun_anew()["stream"]["cause"] == "restored"
    assert site.moved() == ["restored"]
    lives = {
        c.epoch: c.manifest["stream"]["incarnation"]
        for c in links(site.sandbox.database)[PERSONS]
    }
    assert lives[site.epoch] != lives[site.epoch + 1]
    site.whole()


def test_an_exchange_from_an_older_backup(site: Site) -> None:
    """What it had signed as loaded comes again; the audit log and status say why."""
    site.sandbox.stop()
    backup = kept(site.sandbox.folder)
    site.sandbox.start()
    site.works()
    site.pull()
    signed = site.resource(site.agent)["receipt"]
    assert signed["state"] == "loaded"
    site.sandbox.stop()
    put_back(backup)
    site.sandbox.start()
    site.works()
    site.asked(site.agent)
    found = site.begun_anew()
    assert found["stream"]["cause"] == "exchange-restored"
    assert site.moved() == ["exchange-restored"]
    said = site.agent.run("status").stdout
    assert "the exchange went back to an old copy" in said
    site.whole()


def test_a_machine_that_was_cloned(site: Site) -> None:
    """The one that finds it second holds all its streams and says so; a person decides.

    Whichever goes on, no identity has two manifests, and no row is lost or doubled.
    """
    site.agent.stop()
    shutil.copytree(
        site.agent.folder, site.place / "two", ignore=_no_sockets, symlinks=True
    )
    two = AgentProcess.__new__(AgentProcess)
    vars(two).update(vars(site.agent))
    two.folder, two.process = site.place / "two", None
    two.config, two.source = two.folder / "agent.toml", two.folder / "rsj.db"
    two.log = two.folder / "agent.log"
    two.log.unlink()
    site.agent.start()
    with two.running():
        for agent in (site.agent, two):
            site.until(lambda s: s["stream"]["seen_at"] is not None, agent)
        site.works()
        site.pull()
        site.whole()

        site.asked(two)
        for code in (PERSONS, PERMITS):
            held = site.until(lambda s: s["state"] == "held", two, code)
            assert held["trouble"]["code"] == "node-cloned"
        assert two.run("status").returncode == 1
        assert site.moved(two) == ["cloned"]
        site.works()
        site.pull()
        site.whole()
        assert site.resource(site.agent)["stream"]["epoch"] == site.epoch

        site.works(two)
        site.pull(two)  # a person says: this one
        site.whole(two)
        site.asked(site.agent)
        held = site.until(lambda s: s["state"] == "held")
        assert held["trouble"]["code"] == "node-cloned"
        site.whole(two)
