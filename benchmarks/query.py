# SPDX-License-Identifier: Apache-2.0
"""Rows by exact keys through the lookup worker alone, from indexed PostgreSQL.

    scripts/bench query --rows 1000000 --json

No request, policy, signature or record: ``Sources.fetch`` of five items by citizen
number, one at a time and 16, 64 and 256 at a time, each key random. Reference in the
same run: psycopg with the same prepared one-row SELECT in a loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from agent.lookup.query.ask import TWICE, Ask
from agent.lookup.query.gather import Sources
from agent.lookup.query.process import Seams
from agent.lookup.query.talk import Opening
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem
from benchmarks.process import cpu_s, tree
from tests.support.population import load_postgres
from tests.support.postgres import Server, private_server

ITEMS = tuple(
    BoundItem(Item(name, ItemType(letter), length, None, name == "id_no", "1"), name)
    for name, letter, length in (
        ("id_no", "C", 18),
        ("name", "C", 100),
        ("birth_date", "D", None),
        ("region_code", "C", 12),
        ("status", "C", 10),
        ("address", "C", 200),
    )
)


def _is_worker(pid: int) -> bool:
    return b"agent.lookup.query" in Path(f"/proc/{pid}/cmdline").read_bytes()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def ask(key: str) -> Ask:
    return Ask("bench", ("public", "population"), ITEMS, ("id_no",), ((key,),))


async def asked(
    sources: Sources, keys: Sequence[str], *, at_a_time: int, pid: int
) -> dict[str, float]:
    """So many clients, each asking one key after another."""
    took: list[float] = []
    waiting = iter(keys)

    async def client() -> None:
        for key in waiting:
            began = time.perf_counter()
            found = await sources.fetch(ask(key))
            took.append(time.perf_counter() - began)
            row = found.rows[0]
            if row is None or (row is not TWICE and row[0] != key):
                raise SystemExit("a key was not found")

    began, ours, workers = time.perf_counter(), cpu_s(os.getpid()), cpu_s(pid)
    await asyncio.gather(*(client() for _ in range(at_a_time)))
    wall = time.perf_counter() - began
    per_key = 1e6 / len(keys)
    return {
        "keys_per_s": round(len(keys) / wall),
        "p50_ms": round(statistics.median(took) * 1e3, 3),
        "p99_ms": round(percentile(took, 0.99) * 1e3, 3),
        "worker_cpu_us": round((cpu_s(pid) - workers) * per_key),
        "daemon_cpu_us": round((cpu_s(os.getpid()) - ours) * per_key),
    }


def reference(server: Server, keys: Sequence[str]) -> dict[str, float]:
    """psycopg alone, one key after another."""
    took = []
    names = ", ".join(b.column for b in ITEMS)
    sql = f"select {names} from population where id_no = %s"
    with psycopg.connect(
        host=str(server.socket_folder), port=server.port, user="postgres"
    ) as db:
        for key in keys:
            began = time.perf_counter()
            db.execute(sql.encode(), (key,), prepare=True).fetchall()
            took.append(time.perf_counter() - began)
    return {
        "keys_per_s": round(len(keys) / sum(took)),
        "p50_ms": round(statistics.median(took) * 1e3, 3),
        "p99_ms": round(percentile(took, 0.99) * 1e3, 3),
    }


async def measured(server: Server, rows: int, count: int) -> dict[str, object]:
    """All figures of one run."""
    seed = random.randrange(2**32)
    found = server.sql(
        f"select id_no from population tablesample system (20) repeatable ({seed})"
        f" order by random() limit {count * 4}"
    )
    keys = found.split("\n")
    sources = Sources(
        lambda _: Opening("postgres", server.config(), 3, "Asia/Shanghai"),
        seams=Seams(random.uniform),
    )
    try:
        began = time.perf_counter()
        await sources.fetch(ask(keys[0]))
        first_s = time.perf_counter() - began
        (pid,) = (p for p in tree(os.getpid())[1:] if _is_worker(p))
        await asked(sources, keys[:1000], at_a_time=4, pid=pid)
        figures: dict[str, object] = {"rows": rows, "first_s": round(first_s, 2)}
        figures["psycopg"] = reference(server, keys[:count])
        for i, at_a_time in enumerate((1, 16, 64, 256)):
            part = [keys[k % len(keys)] for k in range(i * count, (i + 1) * count)]
            figures[f"at_{at_a_time}"] = await asked(
                sources, part, at_a_time=at_a_time, pid=pid
            )
        return figures
    finally:
        await sources.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000, help="of each figure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with private_server() as server:
        load_postgres(server, options.rows)
        server.sql("create index on population (id_no); vacuum analyze population")
        figures = asyncio.run(measured(server, options.rows, options.keys))
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:10} {value}")


if __name__ == "__main__":
    main()
