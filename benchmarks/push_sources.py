# SPDX-License-Identifier: Apache-2.0
"""The databases that ``scripts/bench push`` reads, each with its plainest reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import tree_cpu_s
from tests.support.mariadb import private_mariadb
from tests.support.population import (
    COLUMNS,
    load_mariadb,
    load_postgres,
    load_sqlite,
)
from tests.support.postgres import private_server

TRUST = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
NAMES = ", ".join(column.split(":")[0] for column in COLUMNS)


@dataclass(frozen=True)
class Source:
    """A loaded table: how the agent reads it, and how the reference does.

    Args:
        settings: TOML text of the source.
        table: where the rows are, outermost first.
        reader: shell command that prints all rows, the plainest way there is.
        url: by which other projects read it, or None.
        server: the process whose descendants are the database, or None.
    """

    settings: str
    table: list[str]
    reader: str
    url: str | None = None
    server: int | None = None

    def cpu_s(self) -> float:
        """Seconds that the database has used so far."""
        return 0.0 if self.server is None else tree_cpu_s(self.server)


@contextmanager
def _sqlite(rows: int, folder: Path) -> Iterator[Source]:
    path = folder / "population.db"
    load_sqlite(path, rows)
    sql = f"select {NAMES} from population"
    yield Source(
        f'[sources.rsj]\nconnector = "sqlite"\npath = "{path}"',
        ["population"],
        f"sqlite3 -readonly -list {path} '{sql}'",
    )


@contextmanager
def _mariadb(rows: int, _folder: Path) -> Iterator[Source]:
    """With the buffer pool that MariaDB has by default."""
    with private_mariadb({"innodb-buffer-pool-size": "128M"}) as server:
        load_mariadb(server, rows)
        yield Source(
            f'[sources.rsj]\nconnector = "mysql"\nhost = "{server.socket}"\n'
            f'port = {server.port}\ndatabase = "town"\nuser = "root"',
            ["population"],
            f"mariadb-dump --no-defaults --quick -S {server.socket} -u root"
            " town population",
            server=server.pid,
        )


@contextmanager
def _postgres(rows: int, _folder: Path) -> Iterator[Source]:
    with private_server(tcp=True, hba=TRUST) as server:
        load_postgres(server, rows)
        server.sql("vacuum (freeze, analyze) population; checkpoint;")
        sql = f"copy (select {NAMES} from population) to stdout (format text)"
        psql = " ".join(server.psql_command())
        yield Source(
            f'[sources.rsj]\nconnector = "postgres"\nhost = "{server.socket_folder}"\n'
            f'port = {server.port}\ndatabase = "postgres"\nuser = "postgres"',
            ["public", "population"],
            f'{psql} -c "{sql}"',
            f"postgresql://postgres@127.0.0.1:{server.port}/postgres",
            server.pid,
        )


SOURCES: Mapping[str, Callable[[int, Path], AbstractContextManager[Source]]] = {
    "mariadb": _mariadb,
    "postgres": _postgres,
    "sqlite": _sqlite,
}
"""Kind of source -> (rows, an empty folder) -> the source, loaded."""
