# SPDX-License-Identifier: Apache-2.0
"""The population register of two versions in a server, made once and kept.

Making five million rows takes a minute; loading them takes seconds. The rows are kept
under ``.work/bench``, by their number and the checksum of what makes them.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import tests.support.population
from tests.support.postgres import Server

GENERATOR = Path(tests.support.population.__file__).with_name("gen_population.py")
KEPT = Path(__file__).parents[1] / ".work" / "bench"
TABLES = ("population", "population_2")
"""Of version 1 and 2."""


def rows_file(rows: int, version: int) -> Path:
    """The rows of a version as COPY reads them, compressed with zstd."""
    made_by = hashlib.sha256(GENERATOR.read_bytes()).hexdigest()[:16]
    path = KEPT / f"population-{rows}-{version}-{made_by}.tsv.zst"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        words = f"population --rows {rows} --rare 1 --version {version}".split()
        with subprocess.Popen(
            [sys.executable, str(GENERATOR), *words], stdout=subprocess.PIPE
        ) as made:
            packer = ["zstd", "-q", "-1", "-f", "-o", str(half)]
            subprocess.run(packer, stdin=made.stdout, check=True)
        if made.returncode:
            raise SystemExit("the generator failed")
        half.rename(path)
    return path


def load(server: Server, rows: int) -> None:
    """Both versions, with their keys, and an index on the stamp of the first."""
    ddl = subprocess.run(
        [sys.executable, str(GENERATOR), "ddl", "--dialect", "postgresql"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    server.sql(ddl)
    server.sql(f"create table {TABLES[1]} (like {TABLES[0]} including all)")
    for version, table in enumerate(TABLES, start=1):
        unpacker = ["zstd", "-dcq", str(rows_file(rows, version))]
        with subprocess.Popen(unpacker, stdout=subprocess.PIPE) as plain:
            copy = [*server.psql_command(), "-c", f"copy {table} from stdin"]
            subprocess.run(copy, stdin=plain.stdout, check=True)
        if plain.returncode:
            raise SystemExit(f"{rows_file(rows, version)} is damaged; delete it")
        server.sql(f"alter table {table} add primary key (id)")
    server.sql(f"create index on {TABLES[0]} (updated_at)")
    for table in TABLES:
        server.sql(f"vacuum (freeze, analyze) {table}")
    server.sql("checkpoint")
