# SPDX-License-Identifier: Apache-2.0
"""The row reader: DuckDB's PostgreSQL extension inside one read-only transaction.

Only ``postgres_query`` with an explicit statement is used, never a table scan, which
changes values (ADR 0001). DuckDB may not use the disk, load anything else or be set up
again. Its messages hold values and the connection string, so they stay here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib.resources import as_file, files
from typing import Any

import duckdb
import pyarrow as pa

from connectors.ahead import ahead
from connectors.contract import Limits, SourceError
from connectors.postgres.login import conninfo, settings
from connectors.sql import literal

EXTENSION = (
    "duckdb_extension_postgres_scanner",
    f"extensions/v{duckdb.__version__}/postgres_scanner.duckdb_extension",
)
"""Package and path of the extension, which only fits this version of DuckDB."""

_LOCKED: Mapping[str, str | bool | int | float | list[str]] = {
    # its signature would be checked over 39 MB in each run, a quarter of a second; who
    # can change that file can change this one, and the lock holds the hashes of both
    "allow_unsigned_extensions": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "memory_limit": "128MB",
    "temp_directory": "",
    "threads": 1,
}

_QUERY = "select * from postgres_query('s', ?)"

FAULTS = (duckdb.Error, pa.ArrowException, OSError, RuntimeError)
"""What a failing read raises; Arrow wraps DuckDB's errors while iterating."""


@contextmanager
def reader(config: Mapping[str, Any], limits: Limits, version: int) -> Iterator[Reader]:
    """A reader in a transaction of its own.

    Args:
        config: the source's settings.
        limits: of the session.
        version: of the server.

    Raises:
        duckdb.Error: no connection; the message holds the password.
    """
    db = duckdb.connect(config=dict(_LOCKED))
    try:
        package, path = EXTENSION
        with as_file(files(package).joinpath(path)) as extension:
            db.execute(f"LOAD {literal(str(extension))}")
        db.execute("SET TimeZone = 'UTC'")
        db.execute(
            f"ATTACH {literal(conninfo(config))} AS s (TYPE postgres, READ_ONLY)"
        )
        db.execute("SET lock_configuration = true")
        db.execute("BEGIN")
        found = Reader(db)
        found.row(settings(limits, version))
        with found:
            yield found
    finally:
        # closing with an open transaction ends the process if the server is gone
        with suppress(duckdb.Error):
            db.execute("ROLLBACK")
        db.close()


class Reader:
    """Runs statements in the transaction's snapshot, one after the other.

    A context: what is read of a statement after it is an error, and not its end.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._closed = False

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True

    def row(self, sql: str) -> tuple[Any, ...]:
        """The one row of a statement."""
        found = self._db.execute(_QUERY, [sql]).fetchone()
        return found or ()

    def batches(self, sql: str, rows: int) -> Generator[pa.RecordBatch, None, None]:
        """The rows of a statement in batches, as they come from the server.

        The next batch is received while the caller works with this one: else the
        server, which can only go on as far as a socket's buffer, would wait meanwhile.

        Raises:
            SourceError: failed: the reader was closed in between.
        """
        with closing(ahead(self._arriving(sql, rows))) as found:
            for batch in found:
                self._check()
                yield batch
            self._check()

    def _check(self) -> None:
        if self._closed:
            raise SourceError("failed", "the session was closed while it was read")

    def _arriving(self, sql: str, rows: int) -> Generator[pa.RecordBatch, None, None]:
        yield from self._db.execute(_QUERY, [sql]).to_arrow_reader(rows)
