# SPDX-License-Identifier: Apache-2.0
"""What the PostgreSQL connector costs alone, beside ``psql`` COPY of the same columns.

scripts/bench reader --rows 1000000 --runs 3 --json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import time
from collections.abc import Callable

from connectors.contract import ColumnSpec, Limits, StreamSpec
from connectors.postgres import CONNECTOR
from tests.support.population import COLUMNS, load_postgres
from tests.support.postgres import Server, private_server


def stream() -> StreamSpec:
    columns = []
    for name, letter, *key in (column.split(":") for column in COLUMNS):
        length = {"N": 12, "C": 200}.get(letter)
        scale = 2 if letter == "N" else None
        columns.append(ColumnSpec(name, letter, length, scale, key=bool(key)))
    return StreamSpec(("public", "population"), tuple(columns))


def cpu_s(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def timed(act: Callable[[], object], who: int) -> tuple[float, float]:
    """Seconds of wall time and of client CPU."""
    began, before = time.monotonic(), cpu_s(who)
    act()
    return time.monotonic() - began, cpu_s(who) - before


def read(server: Server) -> None:
    wanted = stream()
    with CONNECTOR.open(server.config(), Limits()) as session:
        session.frontier(wanted)
        for part in session.plan(wanted):
            for _ in session.read(part):
                pass


def copy(server: Server) -> None:
    names = ", ".join(column.name for column in stream().columns)
    sql = f"copy (select {names} from population order by id) to stdout"
    subprocess.run(
        [*server.psql_command(), "-c", sql], check=True, stdout=subprocess.DEVNULL
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ours, psql = [], []
    with private_server() as server:
        load_postgres(server, options.rows)
        server.sql("vacuum (freeze, analyze) population; checkpoint;")
        for _ in range(options.runs):
            ours.append(timed(lambda: read(server), resource.RUSAGE_SELF))
            psql.append(timed(lambda: copy(server), resource.RUSAGE_CHILDREN))
    wall, cpu = (statistics.median(values) for values in zip(*ours, strict=True))
    copied, _ = (statistics.median(values) for values in zip(*psql, strict=True))
    found = {
        "rows": options.rows,
        "rows_per_s": round(options.rows / wall),
        "client_cpu_us_per_row": round(cpu / options.rows * 1e6, 3),
        "of_psql_copy_text": round(copied / wall, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
