# SPDX-License-Identifier: Apache-2.0
"""The exchange's registry: one SQLite file with the centre's tables beside it.

Rules

1. One connection writes, used by one thread only (:class:`Store`); others read
   (:class:`Registry`). Nobody else checkpoints, so the write-ahead log is never reset
   under a writer (SQLite before 3.51.3 could corrupt a file there).
2. What belongs together changes in one transaction: a batch, its receipt, the position
   and the rows.
3. Registry tables have names without ``_``; a resource's table always has one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from agent.crypto.jose import PublicKey, split
from agent.crypto.note import Checkpoint
from agent.crypto.tree import EMPTY_ROOT
from agent.model.item import Item
from agent.wire import catalog
from agent.wire.catalog import Statement
from agent.wire.directory import Reset
from agent.wire.grammar import format_time, parse_time

_SCHEMA = """
create table if not exists node(
  node text primary key, statement text not null, at text not null) without rowid;
create table if not exists statement(
  node text, n int, digest text not null, message text not null, at text not null,
  primary key(node, n)) without rowid;
create table if not exists kid(
  kid text primary key, node text not null, purpose text not null, jwk text not null,
  status text not null, since text not null, until text) without rowid;
create table if not exists owner(
  resource text primary key, node text not null,
  name text not null unique collate nocase) without rowid;
create table if not exists catalog(
  digest text primary key, producer text not null, resource text not null,
  version int not null, message text not null, at text not null) without rowid;
create table if not exists stream(
  resource text primary key, epoch int not null, seq int not null,
  digest text, incarnation text, loadedepoch int not null, loadedseq int not null,
  proven int not null, dead int not null, catalog text,
  snapshot text, part int not null) without rowid;
create table if not exists batch(
  id integer primary key, resource text not null, epoch int not null, seq int not null,
  digest text not null unique, message text not null, state text not null,
  receipt text not null, due int not null, staged int not null default 0,
  at text not null,
  unique(resource, epoch, seq));
create index if not exists batchdue on batch(due) where due;
create table if not exists witness(
  origin text primary key, size int not null, root blob not null, note text not null,
  at text not null) without rowid;
create table if not exists reset(
  node text primary key, at text not null, reason text not null) without rowid;
create table if not exists departed(
  node text primary key, at text not null) without rowid;
create table if not exists listener(
  node text primary key, url text not null) without rowid;
create table if not exists revokednode(
  node text primary key, at text not null) without rowid;
create table if not exists heartbeat(
  node text primary key, at text not null, payload text, doubt text) without rowid;
create table if not exists command(
  jti text primary key, node text not null, cmd text not null, resource text,
  at text not null, exp int not null, message text not null,
  status text, code text, answered text, bundle text) without rowid;
create index if not exists commandwaits on command(node, jti) where status is null;
create table if not exists deleted(resource text not null, at real not null,
  count int not null);
"""


@dataclass(frozen=True)
class KeyRecord:
    """A node's key and what may be done with it.

    Args:
        status: ``active``, ``retired`` or ``revoked``.
        since: when it got that status.
        until: retired: until when batches are taken; else None.
    """

    key: PublicKey
    node: str
    status: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True)
class Known:
    """A batch that was stored or rejected; ``receipt`` is its newest."""

    digest: str
    state: str
    receipt: str


@dataclass(frozen=True)
class Stream:
    """Where a stream stands.

    Args:
        epoch: of the last stored batch, 0 if there is none.
        seq: of the last stored batch, 0 if there is none.
        digest: its message digest.
        incarnation: of the last stored batch.
        loaded: (epoch, seq) of the last loaded batch.
        proven: see wire.md, Position.
        dead: the newest epoch in which a batch was rejected, 0 if there is none.
        catalog: digest of the statement that the centre's table follows.
        snapshot: id of the snapshot in the staging area.
        part: last staged part of it.
    """

    epoch: int = 0
    seq: int = 0
    digest: str | None = None
    incarnation: str | None = None
    loaded: tuple[int, int] = (0, 0)
    proven: bool = False
    dead: int = 0
    catalog: str | None = None
    snapshot: str | None = None
    part: int = 0


@dataclass(frozen=True)
class Due:
    """A stored batch that waits to be loaded; ``message`` is its line 1."""

    resource: str
    epoch: int
    seq: int
    message: str


class Registry:
    """Everything that can be asked. Answers see what was committed last."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def _one(self, sql: str, *values: object) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self.connection.execute(sql, values).fetchone()
        return row

    def enrolled(self, node: str) -> str | None:
        """Digest of the statement that the node's first request named."""
        row = self._one("select statement from node where node = ?", node)
        return None if row is None else str(row[0])

    def key(self, kid: str) -> KeyRecord | None:
        """A key of any node."""
        row = self._one(
            "select jwk, node, status, since, until from kid where kid = ?", kid
        )
        return None if row is None else _key(*row)

    def revoked(self, kid: str) -> bool:
        """Whether a key is known and revoked; asked with every request."""
        row = self._one("select status from kid where kid = ?", kid)
        return row is not None and row[0] == "revoked"

    def revoked_nodes(self) -> dict[str, str]:
        """Node -> since when it is revoked, wire grammar."""
        return dict(self.connection.execute("select node, at from revokednode"))

    def node_revoked(self, node: str) -> bool:
        """Whether a node is revoked; asked with every request."""
        return self._one("select 1 from revokednode where node = ?", node) is not None

    def keys(self) -> list[KeyRecord]:
        """All keys of all nodes, in order of kid."""
        rows = self.connection.execute(
            "select jwk, node, status, since, until from kid order by kid"
        )
        return [_key(*row) for row in rows]

    def statements(self, node: str) -> list[str]:
        """A node's key statements, 1 first."""
        rows = self.connection.execute(
            "select message from statement where node = ? order by n", (node,)
        )
        return [message for (message,) in rows]

    def nodes(self) -> list[str]:
        """Nodes whose keys are known."""
        rows = self.connection.execute(
            "select distinct node from statement order by node"
        )
        return [node for (node,) in rows]

    def resets(self) -> dict[str, Reset]:
        """Node -> why and when it was let begin anew, the last time."""
        rows = self.connection.execute("select node, at, reason from reset")
        return {node: Reset(at, reason) for node, at, reason in rows}

    def left(self, node: str) -> bool:
        """Whether a node has said goodbye; asked with every request."""
        return self._one("select 1 from departed where node = ?", node) is not None

    def owner(self, resource: str) -> str | None:
        """The node that may send a resource."""
        row = self._one("select node from owner where resource = ?", resource)
        return None if row is None else str(row[0])

    def owners(self) -> list[tuple[str, str]]:
        """(resource, node) in order."""
        sql = "select resource, node from owner order by resource"
        return list(self.connection.execute(sql))

    def table(self, resource: str) -> str:
        """Name of the centre's table of a resource that has an owner."""
        row = self._one("select name from owner where resource = ?", resource)
        if row is None:
            raise LookupError(f"{resource} has no owner")
        return str(row[0])

    def statement(self, digest: str) -> Statement | None:
        """A catalog statement by its message digest."""
        row = self._one("select message from catalog where digest = ?", digest)
        return None if row is None else _statement(str(row[0]))

    def items(self, digest: str) -> tuple[Item, ...]:
        """The items of a catalog statement that is known."""
        known = self.statement(digest)
        if known is None:
            raise LookupError(f"catalog {digest} is not known")
        return known.items

    def version(self, node: str, resource: str) -> tuple[int, str] | None:
        """(version, digest) of the newest catalog statement."""
        sql = (
            "select version, digest from catalog where producer = ? and resource = ?"
            " order by version desc limit 1"
        )
        row: tuple[int, str] | None = self.connection.execute(
            sql, (node, resource)
        ).fetchone()
        return row

    def stream(self, resource: str) -> Stream:
        """Where a stream stands; the empty stream if nothing came yet."""
        row = self.connection.execute(
            "select epoch, seq, digest, incarnation, loadedepoch, loadedseq, proven,"
            " dead, catalog, snapshot, part from stream where resource = ?",
            (resource,),
        ).fetchone()
        if row is None:
            return Stream()
        epoch, seq, digest, incarnation, loaded_epoch, loaded_seq, *rest = row
        proven, dead, follows, snapshot, part = rest
        return Stream(
            epoch=epoch,
            seq=seq,
            digest=digest,
            incarnation=incarnation,
            loaded=(loaded_epoch, loaded_seq),
            proven=bool(proven),
            dead=dead,
            catalog=follows,
            snapshot=snapshot,
            part=part,
        )

    def same(self, digest: str) -> Known | None:
        """The batch with this message digest."""
        sql = "select digest, state, receipt from batch where digest = ?"
        row = self.connection.execute(sql, (digest,)).fetchone()
        return None if row is None else Known(*row)

    def batch(self, resource: str, epoch: int, seq: int) -> Known | None:
        """The batch with this identity."""
        row = self.connection.execute(
            "select digest, state, receipt from batch"
            " where resource = ? and epoch = ? and seq = ?",
            (resource, epoch, seq),
        ).fetchone()
        return None if row is None else Known(*row)

    def due(self) -> Due | None:
        """The oldest stored batch that nobody has tried to load."""
        row = self.connection.execute(
            "select resource, epoch, seq, message from batch where due"
            " order by id limit 1"
        ).fetchone()
        return None if row is None else Due(*row)

    def staged(self, resource: str) -> list[Due]:
        """The parts in the staging area of a resource, in order."""
        rows = self.connection.execute(
            "select resource, epoch, seq, message from batch"
            " where resource = ? and staged order by id",
            (resource,),
        )
        return [Due(*row) for row in rows]

    def deletes_since(self, resource: str, moment: datetime) -> int:
        """Unconfirmed deletes that were loaded since a moment."""
        row = self._one(
            "select coalesce(sum(count), 0) from deleted where resource = ? and at > ?",
            resource,
            moment.timestamp(),
        )
        return int(str(row[0])) if row else 0

    def audit_keys(self, node: str) -> list[PublicKey]:
        """The active keys with which a node may sign checkpoints of its log."""
        sql = (
            "select jwk, node, status, since, until from kid"
            " where node = ? and purpose = 'audit' and status = 'active' order by kid"
        )
        rows = self.connection.execute(sql, (node,))
        return [_key(*row).key for row in rows]

    def head(self, origin: str) -> Checkpoint:
        """The checkpoint of a log that was cosigned last; the empty log's if none."""
        row: tuple[int, bytes] | None = self.connection.execute(
            "select size, root from witness where origin = ?", (origin,)
        ).fetchone()
        return Checkpoint(origin, *(row or (0, EMPTY_ROOT)))

    def heads(self) -> list[tuple[str, int]]:
        """(origin, size) of the logs that are witnessed, for people."""
        return list(self.connection.execute("select origin, size from witness"))

    def listeners(self) -> list[tuple[str, str]]:
        """(node, url) of the nodes that are asked at their own listener."""
        return list(self.connection.execute("select node, url from listener"))

    def counts(self) -> list[tuple[str, str, int]]:
        """(resource, state, batches) for people."""
        sql = "select resource, state, count(*) from batch group by 1, 2 order by 1, 2"
        return list(self.connection.execute(sql))


class Store(Registry):
    """The registry's one writer; one thread uses it."""

    def __init__(self, path: Path) -> None:
        super().__init__(_open(path))
        self.connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Fold the log into the file and close it."""
        self.connection.execute("pragma wal_checkpoint(truncate)")
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; durable when it ends."""
        self.connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")

    def bind_node(self, node: str, statement: str, *, now: datetime) -> bool:
        """Tie a node to its key statement; False if it is tied to another."""
        self.connection.execute(
            "insert or ignore into node values (?, ?, ?)",
            (node, statement, format_time(now)),
        )
        return self.enrolled(node) == statement

    def forget_node(self, node: str, *, reason: str, now: datetime) -> None:
        """Let a node enrol anew with other keys; its old ones are revoked."""
        with self.transaction():
            self.connection.execute(
                "insert or replace into reset values (?, ?, ?)",
                (node, format_time(now), reason),
            )
            self.connection.execute("delete from departed where node = ?", (node,))
            self.connection.execute("delete from node where node = ?", (node,))
            self.connection.execute("delete from revokednode where node = ?", (node,))
            self.connection.execute("delete from statement where node = ?", (node,))
            self.connection.execute("delete from heartbeat where node = ?", (node,))
            origin = f"{node}/audit"  # its next log has another key, and begins anew
            self.connection.execute("delete from witness where origin = ?", (origin,))
            self.connection.execute(
                "update kid set status = 'revoked', since = ?, until = null"
                " where node = ? and status <> 'revoked'",
                (format_time(now), node),
            )

    def depart(self, node: str, *, now: datetime) -> None:
        """A node leaves: none of its keys counts for anything new."""
        at = format_time(now)
        self.connection.execute(
            "insert or ignore into departed values (?, ?)", (node, at)
        )
        self.connection.execute(
            "update kid set status = 'retired', since = ?, until = ?"
            " where node = ? and status = 'active'",
            (at, at, node),
        )

    def add_statement(
        self, node: str, n: int, *, digest: str, message: str, now: datetime
    ) -> None:
        """Keep a verified key statement."""
        self.connection.execute(
            "insert into statement values (?, ?, ?, ?, ?)",
            (node, n, digest, message, format_time(now)),
        )

    def put_key(self, record: KeyRecord) -> None:
        """Keep a key, or its new status."""
        until = None if record.until is None else format_time(record.until)
        self.connection.execute(
            "insert or replace into kid values (?, ?, ?, ?, ?, ?, ?)",
            (
                record.key.kid,
                record.node,
                record.key.purpose,
                json.dumps(dict(record.key.jwk)),
                record.status,
                format_time(record.since),
                until,
            ),
        )

    def revoke_node(self, node: str, *, now: datetime) -> None:
        """A node and all its keys are refused from now on."""
        at = format_time(now)
        self.connection.execute(
            "insert or ignore into revokednode values (?, ?)", (node, at)
        )
        self.connection.execute(
            "update kid set status = 'revoked', since = ?, until = null"
            " where node = ? and status <> 'revoked'",
            (at, node),
        )

    def give_owner(self, resource: str, node: str) -> bool:
        """Give a resource that has an owner to another node; False if it has none."""
        done = self.connection.execute(
            "update owner set node = ? where resource = ?", (node, resource)
        )
        return done.rowcount == 1

    def add_owner(self, resource: str, node: str) -> None:
        """Give a resource to a node; its table gets a name no other has."""
        name = resource.replace("/", "_")
        sql = "select count(*) from owner where name = ?"
        while self.connection.execute(sql, (name,)).fetchone()[0]:
            name += "_2"
        self.connection.execute(
            "insert into owner values (?, ?, ?)", (resource, node, name)
        )

    def add_catalog(
        self, statement: Statement, *, digest: str, message: str, now: datetime
    ) -> None:
        """Keep a verified catalog statement."""
        self.connection.execute(
            "insert into catalog values (?, ?, ?, ?, ?, ?)",
            (
                digest,
                statement.producer,
                statement.resource,
                statement.version,
                message,
                format_time(now),
            ),
        )

    def put_stream(self, resource: str, stream: Stream) -> None:
        """Move a stream."""
        self.connection.execute(
            "insert or replace into stream values (?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                resource,
                stream.epoch,
                stream.seq,
                stream.digest,
                stream.incarnation,
                *stream.loaded,
                int(stream.proven),
                stream.dead,
                stream.catalog,
                stream.snapshot,
                stream.part,
            ),
        )

    def add_batch(self, due: Due, known: Known, *, now: datetime) -> None:
        """Register a stored or rejected batch."""
        self.connection.execute(
            "insert into batch(resource, epoch, seq, digest, message, state, receipt,"
            " due, at) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                due.resource,
                due.epoch,
                due.seq,
                known.digest,
                due.message,
                known.state,
                known.receipt,
                int(known.state == "stored"),
                format_time(now),
            ),
        )

    def put_batch(self, resource: str, epoch: int, seq: int, known: Known) -> None:
        """A registered batch has a newer receipt and is not due any more."""
        self.connection.execute(
            "update batch set state = ?, receipt = ?, due = 0"
            " where resource = ? and epoch = ? and seq = ?",
            (known.state, known.receipt, resource, epoch, seq),
        )

    def stage(self, resource: str, epoch: int, seq: int) -> None:
        """A part of a snapshot waits in the staging area."""
        self.connection.execute(
            "update batch set staged = 1, due = 0"
            " where resource = ? and epoch = ? and seq = ?",
            (resource, epoch, seq),
        )

    def unstage(self, resource: str) -> None:
        """The staging area of a resource is empty."""
        self.connection.execute(
            "update batch set staged = 0 where resource = ? and staged", (resource,)
        )

    def waiting(self, resource: str, epoch: int) -> list[tuple[int, str]]:
        """(seq, digest) of an epoch's batches that are still due, in order."""
        sql = (
            "select seq, digest from batch where due and resource = ? and epoch = ?"
            " order by seq"
        )
        return list(self.connection.execute(sql, (resource, epoch)))

    def put_head(self, checkpoint: Checkpoint, note: str, *, now: datetime) -> None:
        """Remember a log's newest checkpoint, with the signed note itself."""
        self.connection.execute(
            "insert or replace into witness values (?, ?, ?, ?, ?)",
            (
                checkpoint.origin,
                checkpoint.size,
                checkpoint.root,
                note,
                format_time(now),
            ),
        )

    def put_listener(self, node: str, url: str | None) -> None:
        """A node's own listener for lookups; None: it has none."""
        self.connection.execute("delete from listener where node = ?", (node,))
        if url is not None:
            self.connection.execute("insert into listener values (?, ?)", (node, url))

    def add_deletes(self, resource: str, count: int, *, now: datetime) -> None:
        """Remember unconfirmed deletes; those older than a week are forgotten."""
        at = now.timestamp()
        self.connection.execute(
            "insert into deleted values (?, ?, ?)", (resource, at, count)
        )
        week = 7 * 24 * 3600
        self.connection.execute("delete from deleted where at < ?", (at - week,))


def open_reader(path: Path) -> Registry:
    """A second connection that can only read and never checkpoints."""
    connection = _open(path)
    connection.execute("pragma query_only = 1")
    connection.execute("pragma wal_autocheckpoint = 0")
    return Registry(connection)


def payload_of(message: str) -> bytes:
    """Payload of a message that was verified before it was kept."""
    return split(message, cap=len(message)).payload


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("pragma page_size = 16384")
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma cache_size = -65536")
    connection.execute("pragma busy_timeout = 30000")
    return connection


@lru_cache(maxsize=256)
def _statement(message: str) -> Statement:
    """What a catalog statement says; it is asked for with every batch."""
    return catalog.parse(payload_of(message))


@lru_cache(maxsize=1024)
def _public(jwk: str) -> PublicKey:
    return PublicKey.from_jwk(json.loads(jwk))


def _key(
    jwk: object, node: object, status: object, since: object, until: object
) -> KeyRecord:
    return KeyRecord(
        _public(str(jwk)),
        str(node),
        str(status),
        parse_time(str(since)),
        None if until is None else parse_time(str(until)),
    )
