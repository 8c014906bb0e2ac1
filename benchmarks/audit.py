# SPDX-License-Identifier: Apache-2.0
"""What durable records cost, beside a bare SQLite commit on the same disk.

    scripts/bench audit --json

``settle``: lookups that are begun and settled (two durable steps each, leaf, evidence
and answer) with 1, 16 and 64 waiting; ``commit`` is one row of 700 bytes in one
transaction of a plain database with the same journal. ``start``, ``export``, ``verify``
and ``search`` are measured on a log of ``--records`` records without evidence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.audit import leaf, verify_log
from agent.audit.commit import Group
from tests.support.audit_log import Site, WitnessDouble, decided, exported, site

WAITING = {1: 2_000, 16: 10_000, 64: 20_000}
"""Lookups at once -> lookups in all."""


def commit_s(folder: Path) -> float:
    """Median of one bare commit."""
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE leaves (n INTEGER PRIMARY KEY, line TEXT)")
    taken = []
    for n in range(1_000):
        start = time.perf_counter()
        db.execute("INSERT INTO leaves VALUES (?, ?)", [n, "x" * 700])
        taken.append(time.perf_counter() - start)
    db.close()
    return statistics.median(taken)


async def settles(folder: Path) -> dict[str, Any]:
    """Lookups a second, and the time of one, by how many wait."""
    found: dict[str, Any] = {}
    async with site(folder) as s:
        for waiting, lookups in WAITING.items():
            taken: list[float] = []
            start = time.perf_counter()
            base = waiting * 1_000_000
            await asyncio.gather(
                *(
                    _client(s, range(base + k, base + lookups, waiting), taken)
                    for k in range(waiting)
                )
            )
            took = time.perf_counter() - start
            taken.sort()
            found[str(waiting)] = {
                "per_s": round(len(taken) / took),
                "p50_ms": round(taken[len(taken) // 2] * 1e3, 2),
                "p99_ms": round(taken[len(taken) * 99 // 100] * 1e3, 2),
            }
    return found


async def _client(s: Site, numbers: range, taken: list[float]) -> None:
    for i in numbers:
        start = time.perf_counter()
        await s.lookup(i)
        taken.append(time.perf_counter() - start)


async def fill(folder: Path, records: int) -> None:
    """A log of so many records, with heads on the way."""
    async with site(folder) as s:
        key, day = s.log.key_for(s.log.today()), s.log.today()
        event = decided(0, key, day=day)
        while (size := s.log.head().size) < records:
            count = min(5_000, records - size)
            tails = [leaf.tail(decided(size + i, key, day=day)) for i in range(count)]

            def op(group: Group, tails: list[str] = tails) -> None:
                for tail in tails:
                    group.record(event, tail)
                group.told.clear()

            await s.log._commit.submit(op)  # noqa: SLF001 - quicker than one by one
            await s.log.checkpoint()


async def large(folder: Path, records: int) -> dict[str, Any]:
    """What a long log costs."""
    await fill(folder, records)
    clock = _Clock()
    async with site(folder) as s:
        found = {"start_s": clock.lap()}
        desk = s.desk(WitnessDouble())
        await desk.prove(records // 2)
        found["prove_s"] = clock.lap()
        await desk.search({"kind": "audit.started", "before": records - 1})
        found["search_50000_s"] = clock.lap()
        await exported(desk, folder / "out")
        found["export_s"] = clock.lap()
    keys = verify_log.read_trust((folder / "out" / "keys.json").read_bytes(), "keys")
    alone = replace(keys, witnesses=())  # nobody cosigned this one
    clock.lap()
    report = verify_log.examine(folder / "out", trust=alone)
    found["verify_s"] = clock.lap()
    assert report.good, report.findings
    size = (folder / "lookup.db").stat().st_size
    return {**found, "records": records, "bytes_per_record": round(size / records)}


class _Clock:
    def __init__(self) -> None:
        self._at = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        taken, self._at = now - self._at, now
        return round(taken, 3)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        body = {
            "commit_ms": round(commit_s(folder) * 1e3, 3),
            "settle": asyncio.run(settles(folder / "settle")),
            "large": asyncio.run(large(folder / "large", args.records)),
        }
    json.dump(body, sys.stdout, indent=None if args.json else 2)
    print()


if __name__ == "__main__":
    main()
