# SPDX-License-Identifier: Apache-2.0
"""Lookups in PostgreSQL: many keys in one prepared statement, an index probe each.

::

    unnest($1::type[], …) with ordinality          the keys, in their columns' own types
    left join lateral (select … limit 2) on true   at most two rows a key

The statement is planned once (a generic plan) and executed through libpq directly: for
one row psycopg's cursor would cost more than the server. All values come as the
server's own text, like those that a push has no faster way for.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import pq

from connectors import findings
from connectors.contract import (
    Finding,
    Limits,
    LookupPage,
    LookupSpec,
    SourceError,
)
from connectors.postgres.catalog import bound
from connectors.postgres.login import (
    checked,
    connected,
    connection,
    our_errors,
    settings,
)
from connectors.postgres.question import Question, question_of
from connectors.sql import quoted, text_or_bytes

LOOK_S = 30.0
"""How long a column's type is taken for known, seconds. After ALTER TABLE a key may be
compared in the old type, and not be found, for so long."""

QUESTIONS = 128
"""Prepared statements that a session keeps."""

CONNECT_S = 2
"""How long a connection may take, seconds: somebody waits."""

_CLOCK = (
    "select to_char(statement_timestamp() at time zone 'UTC',"
    ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
)
Told = str | bytes | None
"""A value as the contract has it."""


@contextmanager
def lookup(config: Mapping[str, Any], limits: Limits) -> Iterator[PostgresLookup]:
    """A session for lookups.

    Raises:
        SourceError: unreachable, login, right.
    """
    db = connected(config, connect_s=CONNECT_S)
    try:
        session = PostgresLookup(config, limits, db)
        session.run(settings(limits, db.info.server_version, lasting=True))
        if session.raw:
            # texts have no encoding that the server knows: bytes to and fro
            session.run("set client_encoding to SQL_ASCII")
        yield session
    finally:
        db.close()


@dataclass(frozen=True)
class Prepared:
    """A question that the server knows by name.

    Args:
        name: of the statement.
        question: it.
        looked_at: when the catalogue was asked about its columns.
    """

    name: bytes
    question: Question
    looked_at: float


@dataclass
class PostgresLookup:
    """One connection; a transaction for each fetch.

    Args:
        config: the source's settings.
        limits: of this session.
        db: the connection.
        clock: monotonic seconds.
    """

    config: Mapping[str, Any] = field(repr=False)
    limits: Limits
    db: psycopg.Connection[Any]
    clock: Callable[[], float] = time.monotonic
    _prepared: OrderedDict[LookupSpec, Prepared] = field(default_factory=OrderedDict)
    _made: int = 0

    @property
    def raw(self) -> bool:
        """The server does not know the encoding of its texts."""
        return self.db.info.parameter_status("server_encoding") == "SQL_ASCII"

    def fetch(self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]) -> LookupPage:
        """See the contract."""
        prepared = self._known(spec)
        question = prepared.question
        places, arrays = question.parameters(keys)
        if not places:
            return LookupPage([()] * len(question.columns), [], self._clock())
        found = checked(self.db.pgconn.exec_prepared(prepared.name, arrays))
        cell = found.get_value
        rows = [i for i in range(found.ntuples) if cell(i, 2) is not None]
        columns = [
            [told(cell(i, place)) for i in rows]
            for place, told in enumerate(self._tellers(question), 3)
        ]
        which = [places[int(cell(i, 1) or 0) - 1] for i in rows]
        return LookupPage(columns, which, (cell(0, 0) or b"").decode())

    def _clock(self) -> str:
        return (self.run(_CLOCK).get_value(0, 0) or b"").decode()

    def _tellers(self, question: Question) -> list[Callable[[bytes | None], Told]]:
        text = _utf8 if question.encoding == "utf-8" else _text(question.encoding)
        return [_bytes if c.type == "G" else text for c in question.columns]

    def run(self, sql: str) -> pq.abc.PGresult:
        """The result of a statement that holds nothing of a question.

        Raises:
            SourceError: as the contract says.
        """
        return checked(self.db.pgconn.exec_(sql.encode()))

    def _known(self, spec: LookupSpec) -> Prepared:
        """The statement of a spec, which fits the columns as they were lately."""
        known, now = self._prepared.get(spec), self.clock()
        if known is not None and now - known.looked_at < LOOK_S:
            return known
        question = self._question(spec)
        if known is not None and known.question.sql == question.sql:
            name = known.name
        else:
            self._made += 1
            name = f"fep_{self._made}".encode()
            checked(self.db.pgconn.prepare(name, question.sql.encode()))
        made = self._prepared[spec] = Prepared(name, question, now)
        if len(self._prepared) > QUESTIONS:
            _, oldest = self._prepared.popitem(last=False)
            self.run(f"deallocate {oldest.name.decode()}")
        return made

    def _question(self, spec: LookupSpec) -> Question:
        with ExitStack() as stack:
            stack.enter_context(our_errors())
            db = self.db
            if self.raw:
                db = stack.enter_context(connection(self.config, self.limits))
            return question_of(
                bound(db, spec.stream),
                spec,
                server_encoding="SQL_ASCII" if self.raw else "UTF8",
                encoding=str(self.config.get("encoding", "utf-8")),
                timezone=self.limits.timezone,
            )


def _bytes(value: bytes | None) -> Told:
    return None if value is None else bytes.fromhex(value[2:].decode())


def _utf8(value: bytes | None) -> Told:
    return None if value is None else value.decode()


def _text(encoding: str) -> Callable[[bytes | None], Told]:
    return lambda value: None if value is None else text_or_bytes(value, encoding)


def check(config: Mapping[str, Any], specs: Sequence[LookupSpec]) -> list[Finding]:
    """Findings about the keys of lookups; see the contract."""
    found: list[Finding] = []
    for spec in specs:
        try:
            with connection(config, Limits(statement_timeout_s=60)) as db:
                found += _check(db, config, spec)
        except SourceError as e:
            found.append(findings.from_error(e))
    return found


def _check(
    db: psycopg.Connection[Any], config: Mapping[str, Any], spec: LookupSpec
) -> Iterator[Finding]:
    table = bound(db, spec.stream)
    question = question_of(
        table,
        spec,
        server_encoding=db.info.parameter_status("server_encoding") or "UTF8",
        encoding=str(config.get("encoding", "utf-8")),
        timezone=Limits().timezone,
    )
    sql = question.sql
    for i in range(len(spec.keys), 0, -1):
        sql = sql.replace(f"${i}::", "'{}'::")
    with our_errors():
        db.execute("set local enable_seqscan = off")  # a small table has its index, too
        plan = db.execute(f"explain {sql}".encode()).fetchall()
    if any("Index Cond" in line for (line,) in plan):
        return
    listed = ", ".join(quoted(key) for key in spec.keys)
    at = f"{quoted(table.name[0])}.{quoted(table.name[1])}"
    remedy = f"CREATE INDEX CONCURRENTLY ON {at} ({listed});"
    if table.kind not in "rm":
        remedy = "Index the tables behind it / 请为其底层表建立索引"
    yield findings.lookup_no_index(".".join(table.name), ", ".join(spec.keys), remedy)
