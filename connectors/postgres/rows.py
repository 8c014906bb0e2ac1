# SPDX-License-Identifier: Apache-2.0
"""The row reader: binary COPY of statements, one after the other, in one snapshot.

Rules

1. All of it happens in one read-only transaction on one connection.
2. A COPY has a savepoint: what is broken off (an iterator that is left, a value that
   asks for another statement) is cancelled, and the snapshot stays. The savepoint of
   one that ended well is released, so its locks stay.
3. One COPY at a time. While it runs the connection is used from the thread that
   receives it; only a cancel request and the end of the session come from another one.
4. A message of the server may hold values: only its SQLSTATE is told.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import pq

from connectors.ahead import ahead
from connectors.contract import Limits, SourceError
from connectors.postgres.copy import Copy, Wanted, line_of
from connectors.postgres.login import checked, connection, our_errors
from connectors.sql import PAGE_BYTES

STOP_S = 10.0
"""So long a cancel request may take, seconds, and as long until it is heeded; then the
connection is cut."""

_MOVED = """\
select count(*) from pg_catalog.pg_locks l
left join pg_catalog.pg_class c on c.oid = l.relation
where l.pid = pg_catalog.pg_backend_pid() and l.locktype = 'relation'
  and l.relation >= 16384 and case
    when c.oid is null then pg_catalog.pg_get_indexdef(l.relation) is null
    else c.relkind in ('r', 'm')
      and c.relfilenode <> pg_catalog.pg_relation_filenode(c.oid) end"""
"""How many of the tables that this transaction has locked have another file than when
its snapshot was taken: the row of pg_class is the snapshot's, the functions look at
what is. One made since then has no row; an index made since then harms nobody."""

_WIDEN = "select pg_catalog.repeat(' ', 262144)"
"""libpq asks a socket for no more than its own buffer holds, 16 KiB until a longer row
came, and never makes it smaller again. A wide one saves a tenth of the reader's CPU."""

_BEGIN, _KEEP = "savepoint fep", "release savepoint fep"
_BACK = "rollback to savepoint fep; release savepoint fep"


@contextmanager
def reader(config: Mapping[str, Any], limits: Limits) -> Iterator[Reader]:
    """A reader in a transaction of its own.

    Args:
        config: the source's settings.
        limits: of the session.

    Raises:
        SourceError: no connection, or by its SQLSTATE.
    """
    with connection(config, limits) as db, Reader(db) as found:
        found.row(_WIDEN)
        yield found


class Reader:
    """Runs statements in the transaction's snapshot, one after the other.

    A context: what is read of a statement after it is an error, and not its end.

    Args:
        db: in a transaction, and used by nobody else.
        stop_s: :data:`STOP_S`.
    """

    def __init__(self, db: psycopg.Connection[Any], *, stop_s: float = STOP_S) -> None:
        self._db = db
        self._stop_s = stop_s
        self._turn = threading.Lock()
        """Held by whom the connection serves."""
        self._closed = False
        self._reading = False
        """Rows of a statement are still to come."""
        self._broken_off = False
        """The last COPY has not ended well so far."""

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._stop()

    def row(self, sql: str) -> tuple[str | None, ...]:
        """The first row of a statement, as the server's texts.

        Raises:
            SourceError: by its SQLSTATE.
        """
        with self._turn:
            self._recover()
            found = self._run(sql)
            values = (found.get_value(0, i) for i in range(found.nfields))
            return tuple(None if value is None else value.decode() for value in values)

    def hold(self, sql: str) -> tuple[int, ...]:
        """Lock all that a statement reads, until the session ends.

        From then on nobody can give a column another type.

        What is broken off gives its locks away, and whoever empties a table then
        (TRUNCATE) empties it in older snapshots, too. Nothing is read here: a plan in
        words would hold values.

        Returns:
            the oid of each column's type; of a domain, of the type beneath it.

        Raises:
            SourceError: by its SQLSTATE; failed: a table was emptied, rewritten or made
                anew after the snapshot was taken, which would find no rows in it.
        """
        with self._turn:
            self._recover()
            self._run(_BEGIN)
            self._broken_off = True
            self._run(f"declare fep no scroll cursor for {sql}")
            with our_errors():
                found = checked(self._db.pgconn.describe_portal(b"fep"))
            self._run("close fep")
            moved = self._run(_MOVED).get_value(0, 0)
            self._run(_KEEP)
            self._broken_off = False
        if moved != b"0":
            raise SourceError(
                "failed", "the table was emptied or rewritten when the read began"
            )
        return tuple(found.ftype(i) for i in range(found.nfields))

    def batches(
        self, sql: str, columns: Sequence[Wanted], rows: int
    ) -> Generator[pa.RecordBatch, None, None]:
        """The rows of a statement in batches, as they come from the server.

        The next batch is received while the caller works with this one: else the
        server, which can only go on as far as a socket's buffer, would wait meanwhile.

        Args:
            sql: it.
            columns: that it has.
            rows: most of a batch; :data:`PAGE_BYTES` end one, too.

        Raises:
            Strange: a value that only its text can carry, in what would be the next
                batch. Another statement may follow.
            SourceError: by its SQLSTATE; failed: the reader was closed in between.
        """
        with closing(ahead(self._arriving(sql, columns, rows))) as found:
            for batch in found:
                try:
                    yield batch
                except GeneratorExit:
                    self._stop()
                    raise
                self._check()  # else the cancelled statement's error would come
                del batch  # it is not kept while the next one is awaited

    def _arriving(
        self, sql: str, columns: Sequence[Wanted], rows: int
    ) -> Generator[pa.RecordBatch, None, None]:
        with self._turn:
            self._begin(sql)
        copy = Copy(line_of(self._db), columns)
        more = True
        try:
            while more:
                with self._turn:
                    self._check()
                    batch, state = copy.page(rows, PAGE_BYTES)
                    more = state == "more"
                    if not more:
                        self._end()
                if batch.num_rows:
                    yield batch
                del batch
        finally:
            if self._reading:
                self._cancel()
                self._reading = False

    def _check(self) -> None:
        if self._closed:
            raise SourceError("failed", "the session was closed while it was read")

    def _begin(self, sql: str) -> None:
        self._recover()
        self._run(_BEGIN)
        self._broken_off = True
        self._reading = True  # a sort may take long before the first row
        try:
            self._run(f"copy ({sql}) to stdout (format binary)", pq.ExecStatus.COPY_OUT)
        except SourceError:
            self._reading = False
            self._check()  # who closed it cancelled it
            raise

    def _end(self) -> None:
        """The COPY is over; whether it was complete is what the server says of it."""
        self._reading = False
        done = self._result()
        if done is None:
            raise SourceError("failed", "the rows have no end")
        while done is not None:
            checked(done)
            done = self._result()
        self._run(_KEEP)
        self._broken_off = False

    def _recover(self) -> None:
        """To the transaction as it was before what was broken off.

        Raises:
            SourceError: failed: something is still being read, or the reader is closed.
        """
        self._check()
        if self._reading:
            raise SourceError("failed", "rows of another statement are still to come")
        if self._broken_off:
            self._run(_BACK)  # libpq drops the rows that are still on their way
            self._broken_off = False

    def _run(self, sql: str, *good: pq.ExecStatus) -> pq.abc.PGresult:
        with our_errors():
            return checked(self._db.pgconn.exec_(sql.encode()), *good)

    def _result(self) -> pq.abc.PGresult | None:
        with our_errors():
            return self._db.pgconn.get_result()

    def _stop(self) -> None:
        """Let nobody wait for rows any more."""
        if self._reading:
            self._cancel()
        if not self._turn.acquire(timeout=self._stop_s):
            self._cut()
            self._turn.acquire()
        self._turn.release()

    def _cancel(self) -> None:
        with suppress(psycopg.Error):
            self._db.cancel_safe(timeout=self._stop_s)

    def _cut(self) -> None:
        """End the connection beneath whoever waits for it."""
        with suppress(psycopg.Error, OSError):
            line = socket.socket(fileno=os.dup(self._db.pgconn.socket))
            with line:
                line.shutdown(socket.SHUT_RDWR)
