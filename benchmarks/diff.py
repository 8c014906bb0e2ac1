# SPDX-License-Identifier: Apache-2.0
"""How fast changes are found in a table without any mark of them, and increments.

    scripts/bench diff --json

The table is a view over the population register: a view has no transaction ids, so its
rows are compared with the digests of what was sent. The first run reads everything;
then the view shows ``--version 2`` of the generator, and then the first again, in turn.
The rows are made once and kept in ``.work/bench``.

Ours: from the start of the run (a worker process is spawned then) to the last signed
``stored`` receipt. Reference, in the same run, same table, same machine::

    psql COPY (SELECT … ORDER BY id) TO STDOUT > /dev/null

``ratio`` is the time of ours over that of the reference, medians of ``--runs`` pairs.
Every upsert and delete that leaves is compared with what the database itself finds by
a join of both versions: one more or less ends the benchmark. ``found`` says how many.
Memory is daemon and worker together at their peak; ``worker_rss_mb`` is the worker
alone.

``increment_s``: 1,000 rows of the table itself are updated, with the column that the
document names as its stamp indexed as ``fep source check`` asks for, and pulled as an
increment, up to ``stored``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from agent.demo.site import Site
from benchmarks.process import PeakMemory
from benchmarks.push import follow, moment
from benchmarks.push_sources import NAMES
from benchmarks.register import TABLES, load
from benchmarks.site import RESOURCE, Wish, document, running
from tests.support.postgres import Server, private_server

TABLE_RESOURCE = "101001/000002"
CHANGED = 1000


@dataclass(frozen=True)
class Keys:
    """Numbers of persons."""

    upserts: frozenset[int]
    deletes: frozenset[int]


@dataclass(frozen=True)
class Expected:
    """What the database finds between two tables."""

    inserts: frozenset[int]
    updates: frozenset[int]
    deletes: frozenset[int]

    @property
    def keys(self) -> Keys:
        """As they leave."""
        return Keys(self.inserts | self.updates, self.deletes)

    @property
    def back(self) -> Expected:
        """From the second to the first."""
        return Expected(self.deletes, self.updates, self.inserts)


@dataclass(frozen=True)
class Found:
    """One run, measured."""

    seconds: float
    peak_rss: int
    worker_rss: int
    sealed: list[dict[str, Any]]


def show(server: Server, table: str) -> None:
    """Let the view show a version."""
    server.sql(f"create or replace view population_now as select * from {table}")


def expected(server: Server) -> Expected:
    """What a join of both versions finds."""
    old, new = TABLES
    text = server.sql(
        "copy (select case when o.id is null then 'i' when n.id is null then 'd'"
        " else 'u' end, coalesce(o.id, n.id)"
        f" from {old} o full join {new} n on o.id = n.id"
        " where o is distinct from n) to stdout"
    )
    found: dict[str, set[int]] = {"i": set(), "u": set(), "d": set()}
    for kind, number in (line.split("\t") for line in text.splitlines()):
        found[kind].add(int(number))
    return Expected(*(frozenset(found[kind]) for kind in "iud"))


def reference(server: Server, table: str) -> float:
    """Seconds of the ordered copy."""
    sql = f"copy (select {NAMES} from {table} order by id) to stdout"
    began = time.monotonic()
    command = [*server.psql_command(), "-c", sql]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def pull(place: Site, daemon: int, resource: str) -> Found:
    """Pull what changed, once, and wait for every ``stored`` receipt."""
    log = place.folder / "agent.log"
    start = log.stat().st_size
    client = place.client()
    with PeakMemory(daemon) as memory:
        body = {"resource": resource, "kind": "incremental"}
        events = follow(log, start, str(client.post("/v1/pull", body)["run"]))
    began = moment(next(e for e in events if e["event"] == "run.started"))
    ended = max(moment(e) for e in events if e["event"] == "receipt.kept")
    sealed = [e for e in events if e["event"] == "batch.registered"]
    return Found(ended - began, memory.bytes, memory.largest_child, sealed)


def _left(place: Site, sealed: list[dict[str, Any]]) -> Keys:
    """The keys that left, from the batch files."""
    found: dict[str, set[int]] = {"u": set(), "d": set()}
    for event in sealed:
        name = f"{event['resource'].replace('/', '_')}.{event['epoch']}.{event['seq']}"
        [file] = (place.state / "spool").rglob(f"{name}.fepb")
        payload = file.read_bytes().partition(b"\n")[2]
        if not payload:
            continue
        for rows in pa.ipc.open_stream(payload):
            for op, key in zip(rows["_op"], rows["id"], strict=True):
                found[op.as_py()].add(key.as_py())
    return Keys(frozenset(found["u"]), frozenset(found["d"]))


def _must(got: Keys, wanted: Keys, what: str) -> None:
    """End the benchmark unless exactly these keys left."""
    if got != wanted:
        wrong = [len(got.upserts ^ wanted.upserts), len(got.deletes ^ wanted.deletes)]
        raise SystemExit(f"{what}: {wrong} upserts and deletes differ")


@dataclass(frozen=True)
class Result:
    """All that was measured."""

    references: list[float]
    diffs: list[Found]
    first: float
    state_bytes: int
    expected: Expected
    found: Keys
    increments: list[float]


def measure(wish: argparse.Namespace) -> Result:
    """First run, diffs in turn with references, increments."""
    with tempfile.TemporaryDirectory(prefix="fepb-", dir=wish.folder) as name:
        folder = Path(name)
        with private_server() as server:
            load(server, wish.rows)
            source = (
                '[sources.rsj]\nconnector = "postgres"\n'
                f'host = "{server.socket_folder}"\nport = {server.port}\n'
                'database = "postgres"\nuser = "postgres"'
            )
            (folder / "w").mkdir()
            view = ["public", "population_now"]
            setup = Wish(folder / "w", source, view, load=False, batch_raw_mb=8)
            with running(setup, also=_table) as (place, daemon):
                return _measured(wish, server, place, daemon)


def _table(place: Site) -> None:
    """A document of the table itself."""
    text = document(["public", "population"], lookup=False)
    text = text.replace(f'code = "{RESOURCE}"', f'code = "{TABLE_RESOURCE}"')
    text = text.replace("\n[[items]]", 'stamp = "updated_at"\n[[items]]', 1)
    (place.catalog / "table.toml").write_text(text, encoding="utf-8")


def _measured(
    wish: argparse.Namespace, server: Server, place: Site, daemon: int
) -> Result:
    one, two = TABLES
    show(server, one)
    forth = expected(server)
    first = pull(place, daemon, RESOURCE).seconds
    references, diffs = [], []
    reference(server, one)  # warms the cache
    for i in range(wish.runs):
        table, wanted = (two, forth) if i % 2 == 0 else (one, forth.back)
        show(server, table)
        os.sync()
        references.append(reference(server, table))
        os.sync()
        diffs.append(pull(place, daemon, RESOURCE))
        found = _left(place, diffs[-1].sealed)
        _must(found, wanted.keys, "the diff")
    [state] = (place.state / "diff").glob("*.diff")
    return Result(
        references,
        diffs,
        first,
        state.stat().st_size,
        forth,
        found,
        increments(wish, server, place, daemon),
    )


def increments(
    wish: argparse.Namespace, server: Server, place: Site, daemon: int
) -> list[float]:
    """Seconds of increments of :data:`CHANGED` rows of the table itself."""
    pull(place, daemon, TABLE_RESOURCE)
    found = []
    step = max(wish.rows // CHANGED, 1)
    for i in range(wish.runs):
        chosen = f"id % {step} = {i} and id <= {step * CHANGED}"
        server.sql(
            "update population set status = 3 - status, updated_at = clock_timestamp()"
            f" where {chosen}"
        )
        ids = server.sql(f"copy (select id from population where {chosen}) to stdout")
        os.sync()
        run = pull(place, daemon, TABLE_RESOURCE)
        changed = frozenset(int(line) for line in ids.split())
        left = _left(place, run.sealed)
        _must(left, Keys(changed, frozenset()), "the increment")
        found.append(run.seconds)
    return found


def figures(wish: argparse.Namespace, result: Result) -> dict[str, Any]:
    """The one object: medians, and the worst of memory."""
    diffs, found = result.diffs, result.expected
    ours = statistics.median(d.seconds for d in diffs)
    return {
        "benchmark": "diff",
        "rows": wish.rows,
        "runs": len(diffs),
        "ratio": round(ours / statistics.median(result.references), 3),
        "peak_rss_mb": round(max(d.peak_rss for d in diffs) / 1e6, 1),
        "worker_rss_mb": round(max(d.worker_rss for d in diffs) / 1e6, 1),
        "state_bytes_per_row": round(result.state_bytes / wish.rows, 2),
        "inserts": len(found.inserts),
        "updates": len(found.updates),
        "deletes": len(found.deletes),
        "found": [len(result.found.upserts), len(result.found.deletes)],
        "increment_s": round(statistics.median(result.increments), 3),
        "increment_rows": min(CHANGED, wish.rows),
        "first_s": round(result.first, 3),
        "seconds": [round(d.seconds, 3) for d in diffs],
        "reference_seconds": [round(s, 3) for s in result.references],
        "increment_seconds": [round(s, 3) for s in result.increments],
    }


def main() -> None:
    """Take the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench diff",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where to work; default /tmp")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    result = figures(wish, measure(wish))
    if wish.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:>22}  {value}")


if __name__ == "__main__":
    main()
