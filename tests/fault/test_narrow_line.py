# SPDX-License-Identifier: Apache-2.0
"""A line that is narrow, cut again and again, and gone in the end."""

from __future__ import annotations

import secrets
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.pipeline.uplink.line import PIECE_MIN
from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.narrow_line import narrow_line
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.fault

ROWS = 30_000
"""Half a megabyte when sealed: names of random letters cannot be made smaller."""


def agent_of(folder: Path, sandbox: SandboxProcess) -> AgentProcess:
    """An enrolled agent with a table that takes a while on a narrow line."""
    agent = AgentProcess(folder, sandbox, rows=100)
    with closing(sqlite3.connect(agent.source)) as db, db:
        db.execute("delete from person")
        names = ((i, secrets.token_urlsafe(15)) for i in range(ROWS))
        db.executemany("insert into person values (?, ?)", names)
    agent.fep("enrol")
    return agent


def reach(agent: AgentProcess, sandbox: SandboxProcess, url: str) -> None:
    """Let it know a line to the exchange, and another address of it."""
    agent.configure(
        aud=sandbox.aud,
        url=f'{url}"\nmore_urls = ["{sandbox.url}"]\n#"',
        ca_sha256=sandbox.ca_sha256,
        kid=sandbox.kid,
        batch_rows=ROWS,
    )


def test_a_daemon_that_is_killed_in_an_upload_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    """The next life finds the Location again: what arrived is not sent again."""
    refused = {"kind": "status", "status": 503, "route": "PATCH", "skip": 1}
    with running_sandbox(tmp_path / "c") as sandbox:
        agent = agent_of(tmp_path / "a", sandbox)
        there = urlsplit(sandbox.url)
        with narrow_line(
            str(there.hostname),
            int(there.port or 0),
            bytes_per_s=5_000_000,
            cut_every_s=3600.0,
        ) as line:
            reach(agent, sandbox, f"https://127.0.0.1:{line.port}")
            sandbox.faults(refused)  # the first piece arrives, the second does not
            with agent.running():
                agent.fep("pull", PERSONS)
                sealed = agent.wait_for("batch.registered")["size"]
                agent.wait_for("exchange.trouble", resource=PERSONS)
                assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
                sandbox.faults()
                before = line.counts()["up"]
                agent.start()
                agent.wait_for("receipt.kept", state="loaded")
                up = line.counts()["up"] - before
        persons = sandbox.rows('select count(*) from "101001_000001"')[0][0]
    assert persons == ROWS
    assert up < sealed - PIECE_MIN // 2  # from its first byte on it would be more


def test_a_line_that_is_cut_all_the_time_brings_everything_once(
    tmp_path: Path,
) -> None:
    """A batch takes longer than the line holds; what arrived is never sent again.

    When the line is gone for good, the other address of the exchange is used.
    """
    with running_sandbox(tmp_path / "c") as sandbox:
        agent = agent_of(tmp_path / "a", sandbox)
        there = urlsplit(sandbox.url)
        with narrow_line(
            str(there.hostname),
            int(there.port or 0),
            bytes_per_s=300_000,
            cut_every_s=1.0,
            room=32 * 1024,
        ) as line:
            reach(agent, sandbox, f"https://127.0.0.1:{line.port}")
            with agent.running():
                before = line.begin_cuts()
                agent.fep("pull", PERSONS, "--wait")
                after = line.counts()
                sealed = sum(b["size"] for b in agent.events("batch.registered"))
                line.end()
                agent.fep("pull", PERMITS, "--wait")
        persons = sandbox.rows('select count(*) from "101001_000001"')[0][0]
        permits = sandbox.rows('select count(*) from "101001_000002"')[0][0]
    assert (persons, permits) == (ROWS, 100)
    assert after["cuts"] - before["cuts"] >= 2
    # anew each time it would never arrive: in one second the line carries half of it
    assert after["lost"] - before["lost"] < sealed
    told = [(e["url"], e["first"]) for e in agent.events("exchange.endpoint")]
    assert told == [(sandbox.url, False)]
