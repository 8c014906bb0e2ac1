# SPDX-License-Identifier: Apache-2.0
"""How fast a table reaches the exchange, beside the plainest way to pack it.

    scripts/bench push --source postgres --rows 1000000 --json

Ours: from the start of the run (a worker process is spawned then) to the last signed
``stored`` receipt; the exchange stores durably and does not load (``--load`` lets it).
Every row is judged by six rules (``benchmarks.site.RULES``), whatever the source.
Reference, in the same run, same table, same machine::

    psql COPY (...) TO STDOUT (FORMAT text) | zstd -1 | tee FILE | sha256sum; sync

For MariaDB it begins with ``mariadb-dump --quick``, for SQLite with ``sqlite3 -list``.
Both are run ``--runs`` times in turn, each on memory that was just touched (see
``process.settle``), as are the peers; figures are medians. Memory is daemon and worker
together at their peak; CPU is theirs too. Neither counts sandbox or database; the CPU
of a server stands beside what it needs for the reference. ``--peers`` lets dlt, with
its fastest backend, and sling read PostgreSQL once in the same run, from their start to
their end; they write files, and neither sign nor push.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.demo.site import Site
from benchmarks.process import PeakMemory, cpu_s, settle
from benchmarks.push_peers import seconds_of
from benchmarks.push_sources import SOURCES, Source
from benchmarks.site import RESOURCE, RULES, Wish, running

PATIENCE_S = 900.0
REST_S = 4.0
"""After a run of ours, seconds: the daemon makes the next run's worker meanwhile, and
not while the reference is measured."""


@dataclass(frozen=True)
class Plain:
    """One run of the reference: seconds, bytes of text, and the database's CPU."""

    seconds: float
    text: int
    server_cpu_s: float


def reference(source: Source, folder: Path) -> Plain:
    """Run the plain pipeline."""
    out = folder / "reference.zst"
    line = f"{source.reader} | zstd -q -1 | tee {out} | sha256sum; sync {out} {folder}"
    began, before = time.monotonic(), source.cpu_s()
    subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    time.sleep(0.1)  # the server counts its process once that has ended
    used = source.cpu_s() - before
    counted = subprocess.run(
        ["sh", "-c", f"zstd -dc {out} | wc -c"], check=True, capture_output=True
    )
    out.unlink()
    return Plain(took, int(counted.stdout), used)


@dataclass(frozen=True)
class Run:
    """One pull, measured; ``first_s`` is when its first batch was stored."""

    seconds: float
    first_s: float
    rows: int
    batches: int
    bytes: int
    cpu_s: float
    peak_rss: int
    server_cpu_s: float = 0.0


def measured(source: Source, place: Site, daemon: int) -> Run:
    """A pull with what it costs the database."""
    before = source.cpu_s()
    run = pull(place, daemon)
    return replace(run, server_cpu_s=source.cpu_s() - before)


def pull(place: Site, daemon: int) -> Run:
    """Pull once and wait until every batch of the run has its ``stored`` receipt."""
    log = place.folder / "agent.log"
    start = log.stat().st_size
    before = cpu_s(daemon)
    client = place.client()
    with PeakMemory(daemon) as memory:
        asked = client.post("/v1/pull", {"resource": RESOURCE})
        events = follow(log, start, str(asked["run"]))
        time.sleep(0.3)  # the worker is reaped, so its CPU is counted
    began = moment(next(e for e in events if e["event"] == "run.started"))
    stored = [moment(e) for e in events if e["event"] == "receipt.kept"]
    batches = [e for e in events if e["event"] == "batch.registered"]
    return Run(
        seconds=max(stored) - began,
        first_s=min(stored) - began,
        rows=sum(e["upsert"] for e in batches),
        batches=len(batches),
        bytes=sum(e["size"] for e in batches),
        cpu_s=cpu_s(daemon) - before,
        peak_rss=memory.bytes,
    )


def follow(log: Path, start: int, run: str) -> list[dict[str, Any]]:
    """What the daemon told from a place of its log on, until a run is stored."""
    until = time.monotonic() + PATIENCE_S
    events: list[dict[str, Any]] = []
    while time.monotonic() < until:
        with log.open("rb") as f:
            f.seek(start)
            whole = f.read().rpartition(b"\n")[0]
        start += len(whole) + 1 if whole else 0
        new = [json.loads(line) for line in whole.splitlines() if line[:1] == b"{"]
        events += new
        failed = [e for e in new if e["event"] in {"run.failed", "run.held"}]
        if failed:
            raise SystemExit(f"the run failed: {failed[0]}")
        if any(e["event"] == "run.ended" and e["run"] == run for e in events):
            wanted, stored = (
                {(e["epoch"], e["seq"]) for e in events if e["event"] == kind}
                for kind in ("batch.registered", "receipt.kept")
            )
            if wanted and wanted <= stored:
                return events
        time.sleep(0.05)
    raise SystemExit(f"no receipts within {PATIENCE_S:g} s; see {log}")


def moment(event: dict[str, Any]) -> float:
    """When it was told, seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def measure(wish: argparse.Namespace) -> dict[str, Any]:
    """The figures of all runs."""
    with tempfile.TemporaryDirectory(prefix="fepb-", dir=wish.folder) as name:
        folder = Path(name)
        with SOURCES[wish.source](wish.rows, folder) as source:
            world = folder / "w"
            world.mkdir()
            setup = Wish(
                world, source.settings, source.table, wish.load, wish.batch_raw_mb
            )
            if wish.wait:
                print("loaded; a line on stdin starts the measurement", file=sys.stderr)
                sys.stdin.readline()
            references, runs = [], []
            with running(setup) as (place, daemon):
                reference(source, folder)  # warms the cache
                for _ in range(wish.runs):
                    settle()
                    references.append(reference(source, folder))
                    settle()
                    runs.append(measured(source, place, daemon))
                    time.sleep(REST_S)
            peers = seconds_of(source, folder) if wish.peers else {}
    return {**figures(wish, references, runs), **beside(wish.rows, runs, peers)}


def beside(
    rows: int, runs: list[Run], peers: Mapping[str, float | None]
) -> dict[str, Any]:
    """How many times as fast as each peer; None where it is not to be had."""
    ours = statistics.median(r.seconds for r in runs)
    found: dict[str, Any] = {}
    for name, took in peers.items():
        found[f"{name}_rows_per_s"] = None if took is None else round(rows / took)
        found[f"times_{name}"] = None if took is None else round(took / ours, 2)
    return found


def figures(
    wish: argparse.Namespace, references: list[Plain], runs: list[Run]
) -> dict[str, Any]:
    """The one object: medians."""
    ours = statistics.median(r.rows / r.seconds for r in runs)
    plain = statistics.median(wish.rows / r.seconds for r in references)
    served = statistics.median(r.server_cpu_s for r in runs)
    copied = statistics.median(r.server_cpu_s for r in references)
    return {
        "benchmark": "push",
        "source": wish.source,
        "rows": wish.rows,
        "runs": len(runs),
        "rows_per_s": round(ours),
        "reference_rows_per_s": round(plain),
        "ratio": round(ours / plain, 3),
        "mb_per_s": round(references[-1].text / 1e6 * ours / wish.rows, 1),
        "first_stored_s": round(statistics.median(r.first_s for r in runs), 2),
        "cpu_s": round(statistics.median(r.cpu_s for r in runs), 2),
        "server_cpu_s": round(served, 2),
        "server_cpu_of_reference": round(served / copied, 2) if copied else None,
        "peak_rss_mb": round(statistics.median(r.peak_rss for r in runs) / 1e6, 1),
        "batches": runs[-1].batches,
        "batch_mb": round(runs[-1].bytes / 1e6 / max(runs[-1].batches, 1), 2),
        "loaded": wish.load,
        "rules": list(RULES),
        "seconds": [round(r.seconds, 3) for r in runs],
        "reference_seconds": [round(r.seconds, 3) for r in references],
    }


def main() -> None:
    """Take the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench push",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", choices=sorted(SOURCES), default="postgres")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--batch-raw-mb", type=int, default=16)
    parser.add_argument("--load", action="store_true", help="the exchange loads too")
    parser.add_argument("--peers", action="store_true", help="dlt and sling, too")
    parser.add_argument("--folder", default=None, help="where to work; default /tmp")
    parser.add_argument(
        "--wait", action="store_true", help="load, then wait for a line on stdin"
    )
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    if wish.peers and wish.source != "postgres":
        parser.error("--peers: only with --source postgres")
    result = measure(wish)
    if wish.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>22}  {value}")


if __name__ == "__main__":
    main()
