# SPDX-License-Identifier: Apache-2.0
"""How soon the daemon is ready, and answers, when very many batches wait in the spool.

::

    scripts/bench backlog --json

The line is down. ``ready_s`` is from the start of the process to READY with
``--batches`` that wait, ``empty_ready_s`` with one; ``status_ms`` is the median of 11
answers of the running daemon to ``GET /v1/status``, ``rss_mb`` its resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.local.client import LocalClient
from benchmarks.process import rss_bytes
from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.sandbox_process import running_sandbox

_COPY = """
WITH RECURSIVE n (seq) AS (SELECT 2 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?)
INSERT INTO batches SELECT b.stream, b.epoch, n.seq, b.run, b.digest,
  replace(b.file, '.1.1.fepb', '.1.' || n.seq || '.fepb'), b.size, b.content_size,
  b.content_digest, b.mode, n.seq, 0, NULL, b.n_upsert, b.n_delete, b.n_keep, b.n_read,
  b.n_quarantined, b.n_skipped, b.state, b.gone, b.sealed_at, b.settled_at
FROM n, batches b WHERE b.seq = 1
"""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--batches", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fepb", dir="/tmp") as place:
        found = measured(Path(place), asked.batches)
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<16}{value:>12}")
    return 0


def measured(place: Path, batches: int) -> dict[str, Any]:
    """The figures."""
    with running_sandbox(place / "x") as sandbox:
        agent = AgentProcess(place / "a", sandbox, rows=10)
        agent.fep("enrol")
        sandbox.faults({"kind": "status", "route": "POST /v1/batches", "status": 503})
        agent.start()
        client = LocalClient(agent.folder / "run" / "fep.sock")
        client.post("/v1/pull", {"resource": PERSONS})
        agent.wait_for("run.ended")
        agent.stop(signal.SIGKILL)
    empty_s = _started(agent)
    agent.stop(signal.SIGKILL)
    _multiply(agent.folder / "state", batches)
    ready_s = _started(agent)
    assert agent.process is not None
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        status = client.get("/v1/status")
        taken.append(time.perf_counter() - began)
    waiting = sum(r["waiting"]["batches"] for r in status["resources"])
    assert waiting == batches, waiting
    found = {
        "batches": batches,
        "ready_s": round(ready_s, 2),
        "empty_ready_s": round(empty_s, 2),
        "status_ms": round(statistics.median(taken) * 1000, 1),
        "rss_mb": round(rss_bytes([agent.process.pid]) / 1e6, 1),
    }
    agent.stop(signal.SIGKILL)
    return found


def _started(agent: AgentProcess) -> float:
    began = time.perf_counter()
    agent.start()
    return time.perf_counter() - began


def _multiply(state: Path, batches: int) -> None:
    """Let so many wait where one does, each with a file."""
    (file,) = (state / "spool" / "out").rglob("*.1.1.fepb")
    data = file.read_bytes()
    for seq in range(2, batches + 1):
        named = file.with_name(f"101001_000001.1.{seq}.fepb")
        if seq % 30_000:
            os.link(file, named)
        else:  # a file system bounds the names of one file
            named.write_bytes(data)
            file = named
    with closing(sqlite3.connect(state / "state.db")) as db, db:
        db.execute(_COPY, [batches])
        db.execute("UPDATE streams SET seq = ? WHERE epoch = 1", [batches])


if __name__ == "__main__":
    raise SystemExit(main())
