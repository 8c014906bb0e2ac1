# SPDX-License-Identifier: Apache-2.0
"""The plug-in contract: what a connector is, and the values it takes and gives.

A connector is a module-level object found through the entry point group
``fep.connectors``. It is synchronous and runs in a worker process of its own, which may
be killed at any moment. It reads; it never writes to a source. ``conformance.py`` runs
every rule below against any connector.

Rules

1. A frontier is taken **before** reading, in the snapshot that is read where the
   database allows. The cursor of an increment moves to it, never to the largest value
   seen.
2. Only columns that a stream names are selected; there is no ``SELECT *``.
3. Rows come in an order of the key, equal keys side by side, so that a page's
   ``token`` can resume after its last row (keyset, never OFFSET) and doubles are seen.
   Rows of one key have no order among themselves; of a key that a page's end divides,
   as many as are left come first on resuming. Text keys come in the
   order of their bytes unless an index gives another order with the same grouping.
   Rows whose key is NULL come too.
4. A column arrives either in the exact Arrow type of its item (wire.md, Arrow profile)
   or as ``string``: the server's own text, to be parsed by the quality stage. A value
   is never changed: what the type cannot carry comes as text, and a column may so be
   native in one page and text in the next. Wall-clock times (a T item of a column
   without zone) may come as ``timestamp[us]``. Bytes come as ``binary``. Text that
   cannot be decoded makes its column ``binary`` for that page: UTF-8 where it could be
   decoded, the raw bytes where not, for the quality stage to judge.
5. Every failure is a :class:`SourceError` with one of its kinds, also while iterating;
   its detail never holds a value of a row, a password, or a connection string. After
   one the session is only good for closing.
6. Memory is bounded by a page, whatever the size of the table; wide rows make pages of
   fewer rows.
7. An account without rights, a missing table or column, and a type that cannot fit are
   told before the first row, by ``plan`` and by ``check``.

Rules of lookups, for a connector with ``lookup``; ``conformance_lookup.py`` runs them

8. A key is found if the canonical text (wire.md) of the row's own value is the asked
   text, character for character: no case, width, blank or zero more or less, and no
   wildcard. A row that is not quite equal may come too, for who asks compares again;
   one that is equal may not be missed, except where the key is refused with ``type``.
   NULL is equal to nothing.
9. At most two rows a key: the second says that the key is not unique. Two that are
   equal by rule 8 come before any that are not.
10. Asked texts are parameters and never part of a statement. One that the database
    cannot hold (U+0000, out of range, not of its encoding) finds nothing; it does not
    fail, and it does not hinder the keys beside it.
11. Values arrive as the server's own text and give the same items as a read does;
    bytes (G), and text that cannot be decoded, as bytes. A value longer than its item
    allows may arrive cut, still longer than allowed, so that a page's size is bounded
    by its items.
12. A session lives for weeks and reads only. Each ``fetch`` sees rows as committed at
    ``as_of`` or later. After an error the session is closed and another one opened; a
    database that was away is so found again.

Rules of increments, for a connector that promises them;
``conformance_increments.py`` runs them

13. A connector that promises increments (``Caps.increments``) gives, by ``changes``,
    every row that was inserted or changed by a transaction which the earlier frontier
    did not cover, however late it commits: as it stands now, in key order, with tokens
    and values like those of ``read``. A row may come again in a later increment.
    Deletes are not seen. What is not proven stands in ``Increments.assumes``.
14. A frontier that this source cannot continue (another or a restored database, a
    rebuilt table, too old) is a :class:`FrontierLost` with its reason, before the first
    row; never an increment with rows missing.

Rules of numbers, for a connector whose sessions are a :class:`NumberedSession`;
``conformance_numbered.py`` runs them

15. A transaction that may still commit a row of the stream, and that had begun when
    ``oldest_writer`` was asked, began at the told instant or later. Who cannot say so
    of every writer says None.
16. ``numbered`` gives the rows of its windows and no others, as ``read`` would, of the
    snapshot that the session's frontier is of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeGuard,
    runtime_checkable,
)

if TYPE_CHECKING:
    import pyarrow as pa

API = 1
"""Version of this contract."""

Kind = Literal[
    "unreachable", "login", "right", "missing", "type", "text", "timeout", "failed"
]


class SourceError(Exception):
    """The source could not be read.

    Args:
        kind: what went wrong, one of :data:`Kind`.
        detail: expected, got and where; no values, no secrets.
    """

    def __init__(self, kind: Kind, detail: str) -> None:
        self.kind = kind
        self.detail = detail
        super().__init__(f"{kind}: {detail}")


Lost = Literal[
    "unreadable",
    "other-source",
    "restored",
    "failover",
    "recreated",
    "rebound",
    "clock",
    "too-old",
]
"""Why an increment cannot go on from a frontier."""


class FrontierLost(SourceError):
    """Increments cannot go on from an earlier frontier; a full read can.

    Args:
        reason: one of :data:`Lost`, for people and events.
        detail: as for every SourceError.
    """

    def __init__(self, reason: Lost, detail: str) -> None:
        self.reason = reason
        super().__init__("failed", f"{reason}: {detail}")


@dataclass(frozen=True)
class ColumnSpec:
    """A column to read.

    Args:
        name: its name in the source, exactly as there.
        type: letter of the item's type (C M N Y I D T L B F G).
        length: as in the catalog, or None.
        scale: as in the catalog, or None.
        key: whether it belongs to the key.
    """

    name: str
    type: str
    length: int | None
    scale: int | None
    key: bool


@dataclass(frozen=True)
class StreamSpec:
    """A table (or view) and the columns of it that are bound.

    Args:
        table: schema-qualified name, outermost first: ``("public", "person")``.
        columns: at least one of them a key.
        stamp: name of a column that the database itself sets to its clock with every
            insert and update, or None. It need not be among the columns.
        number: name of a column of whole numbers that grow from row to row, or None.
            It need not be among the columns; it serves where nothing else does.
    """

    table: tuple[str, ...]
    columns: tuple[ColumnSpec, ...]
    stamp: str | None = None
    number: str | None = None


@dataclass(frozen=True)
class Limits:
    """What a session may cost.

    Args:
        statement_timeout_s: a statement that runs longer is cancelled.
        lock_timeout_s: so long a statement waits for a lock of others.
        page_rows: most rows of a page.
        timezone: IANA name; the session's time zone, if the database has one. Instants
            of columns with a zone arrive in UTC; naive ones arrive as they stand.
    """

    statement_timeout_s: int = 3600
    page_rows: int = 65_536
    timezone: str = "Asia/Shanghai"
    lock_timeout_s: int = 30


@dataclass(frozen=True)
class Health:
    """How a source feels now; None where it has no such thing or nobody may see it.

    Args:
        busy: sessions that do something now, as a share of the most that the server
            takes, 0 to 1.
        lock_waits: sessions that wait for a lock of another one.
        replica_lag_s: how far a replica is behind; None for what is no replica.
        hidden: names of those of these that the account may not see.
    """

    busy: float | None = None
    lock_waits: int | None = None
    replica_lag_s: float | None = None
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Frontier:
    """A point of the source up to which a read is complete.

    Args:
        value: opaque text, understood by this connector alone.
        as_of: the source's clock at that point, ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z``.
        note: the same for people.
    """

    value: str
    as_of: str
    note: str


@dataclass(frozen=True)
class Slice:
    """A part of a stream to read in one go; full reads have one.

    Args:
        stream: what to read.
        estimate: rows to expect, or None.
    """

    stream: StreamSpec
    estimate: int | None


@dataclass(frozen=True)
class Page:
    """Consecutive rows.

    Args:
        rows: columns in the order of the stream's columns, named like them.
        token: opaque; ``read(slice, resume=token)`` goes on after the last row.
    """

    rows: pa.RecordBatch
    token: str


@dataclass(frozen=True)
class Finding:
    """Something that ``check`` found.

    Args:
        code: stable, such as ``grant-missing``.
        severity: ``ok``, ``warning`` or ``error``.
        en: what and where, for people.
        zh: the same in Chinese.
        remedy: the exact statement or setting to run, or None.
        column: the column it is about, or None.
        path: how this column is read, as ``Caps.paths`` has it, or ``refused``; None
            if the finding is about something else.
    """

    code: str
    severity: Literal["ok", "warning", "error"]
    en: str
    zh: str
    remedy: str | None = None
    column: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class FoundColumn:
    """A column as the source declares it; ``type`` is the item type that fits."""

    name: str
    native: str
    type: str
    length: int | None
    scale: int | None
    nullable: bool
    key: bool
    comment: str | None


@dataclass(frozen=True)
class FoundTable:
    """A table that ``discover`` found."""

    table: tuple[str, ...]
    comment: str | None
    rows: int | None
    columns: tuple[FoundColumn, ...]


@dataclass(frozen=True)
class Increments:
    """How the changed rows of a stream are found.

    Args:
        method: stable name of the way, such as ``xmin``.
        assumes: what is relied on and not proven by the database, each as
            ``name=value``; none if the frontier is proven.
    """

    method: str
    assumes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Caps:
    """What a connector can promise for a stream.

    Args:
        snapshot: one consistent snapshot over all pages.
        ordered: rows come in key order (rule 3).
        paths: column name -> how it is read: ``native`` or ``text``.
        increments: how changed rows are found, or None if they cannot be: then the
            sessions need no ``changes``.
    """

    snapshot: bool
    ordered: bool
    paths: Mapping[str, str]
    increments: Increments | None = None


class Session(Protocol):
    """An open, read-only connection for one run."""

    def frontier(self, stream: StreamSpec) -> Frontier:
        """The point up to which the next read is complete; taken before reading.

        Raises:
            SourceError: as rule 5 says.
        """
        ...

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        """The slices of a full read, in order.

        Raises:
            SourceError: a table or column is missing or its type does not fit.
        """
        ...

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        """The rows of a slice, after ``resume`` if given; none if there are none.

        Raises:
            SourceError: also while iterating.
        """
        ...


@runtime_checkable
class DescribingSession(Session, Protocol):
    """A session that can say how a stream's table is made; optional."""

    def describe(self, stream: StreamSpec) -> Sequence[FoundColumn]:
        """All columns of the table that the account sees, in its order.

        Columns that the stream names and the table has not are no error here.

        Raises:
            SourceError: missing: there is no such table.
        """
        ...


@runtime_checkable
class IncrementalSession(Session, Protocol):
    """A session of a connector that promises increments."""

    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        """Rows that were inserted or changed after ``since``, in key order (rule 13).

        Args:
            stream: what to read.
            since: value of the frontier at which the last read of the stream ended.
            until: value of this session's frontier, taken before.
            resume: token of a page of the same increment, to go on after it.

        Raises:
            FrontierLost: ``since`` says nothing of this source.
            SourceError: also while iterating.
        """
        ...


@dataclass(frozen=True)
class Highest:
    """The end of a table whose rows have growing numbers.

    Args:
        number: the highest that is committed, or None if there is no row.
        nulls: whether a row has none.
    """

    number: int | None
    nulls: bool


@runtime_checkable
class NumberedSession(Session, Protocol):
    """A session for tables whose rows have a growing number and no other mark.

    All streams that it is asked about have a ``number``.
    """

    def oldest_writer(self, stream: StreamSpec) -> str | None:
        """When the oldest transaction began that may write; asked before a snapshot.

        Returns:
            ISO 8601 in UTC, the clock if there is none, less some seconds for steps of
            that clock; None if nobody tells, or not of all that may write the stream.

        Raises:
            SourceError: failed: the snapshot was taken already.
        """
        ...

    def highest(self, stream: StreamSpec) -> Highest:
        """The highest number; asked before a snapshot.

        Raises:
            SourceError: missing, type: the stream's number is none.
        """
        ...

    def goes_on(self, since: str, until: str) -> None:
        """Whether two frontiers are of one source that went on in between.

        Args:
            since: value of the frontier of an earlier read.
            until: value of this session's.

        Raises:
            FrontierLost: they are not.
        """
        ...

    def server_time(self) -> str:
        """The source's clock now, ISO 8601 in UTC."""
        ...

    def numbered(
        self,
        stream: StreamSpec,
        windows: Sequence[tuple[int, int | None]],
        resume: str | None = None,
    ) -> Iterator[Page]:
        """Rows whose number lies in one of the windows, in key order, with tokens.

        Args:
            stream: what to read.
            windows: first and last number; None is no end.
            resume: token of a page of the same read, to go on after it.

        Raises:
            SourceError: also while iterating.
        """
        ...


@dataclass(frozen=True)
class LookupSpec:
    """What is asked of a table, key by key.

    Args:
        stream: the table, and the columns to answer with, all of ``keys`` among them.
        keys: names of the columns that are compared, at least one; whether a column is
            a ``key`` in the stream says nothing here.
    """

    stream: StreamSpec
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LookupPage:
    """The rows of some keys.

    Args:
        columns: the values of each of the stream's columns, in its order, a value a
            row. Plain values: few rows are found sooner than Arrow is told of them.
        which: for each row the number of its key in the question, in rising order.
        as_of: the source's clock just before they were read, as in :class:`Frontier`.
    """

    columns: Sequence[Sequence[str | bytes | None]]
    which: Sequence[int]
    as_of: str


class LookupSession(Protocol):
    """An open, read-only connection for lookups."""

    def fetch(self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]) -> LookupPage:
        """The rows of each key.

        Args:
            spec: what is asked; a session remembers the last ones.
            keys: at least one and at most 1,000; for each a canonical text for each of
                ``spec.keys``.

        Raises:
            SourceError: as rule 5 says; ``type`` if the database cannot compare one of
                the columns with canonical texts.
        """
        ...


class Connector(Protocol):
    """One kind of database."""

    name: str
    api: int

    def spec(self) -> Mapping[str, Any]:
        """JSON Schema of the source's settings; secrets have ``"secret": true``."""
        ...

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        """Look at rights, columns, types and settings; never raises SourceError.

        A remedy is the exact GRANT or setting. An account that may write is a warning.
        """
        ...

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        """Tables that the account can see, with the item types that would fit.

        Raises:
            SourceError: as rule 5 says.
        """
        ...

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        """What can be promised for a stream.

        Raises:
            SourceError: as rule 5 says.
        """
        ...

    def open(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[Session]:
        """A session; closing it releases everything.

        Raises:
            SourceError: on entering: unreachable, login.
        """
        ...


class LookupConnector(Connector, Protocol):
    """A connector that answers lookups, too; optional."""

    def lookup(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[LookupSession]:
        """A session for lookups; closing it releases everything.

        Raises:
            SourceError: on entering: unreachable, login.
        """
        ...

    def check_lookup(
        self, config: Mapping[str, Any], specs: Sequence[LookupSpec]
    ) -> list[Finding]:
        """Look at keys and indexes; never raises SourceError.

        A key that costs a scan of the table is the warning ``lookup-no-index``, with
        the statement that makes the index; one that cannot be compared is an error.
        """
        ...


class PreparingConnector(Connector, Protocol):
    """A connector that imports its drivers late, or when it is told to; optional."""

    def prepare(self) -> None:
        """Import what a run needs; no source is touched."""
        ...


class FeelingConnector(Connector, Protocol):
    """A connector that can say how its source feels; optional.

    Without it a source is read at full speed, or at that of its limits.
    """

    def health(self, config: Mapping[str, Any]) -> Health:
        """A cheap look over a short connection of its own, while a run reads.

        It is called every few seconds in a thread of its own, so it may cost
        milliseconds and changes nothing. A measure that needs a right which the
        account lacks is ``hidden``, and no error.

        Raises:
            SourceError: as rule 5 says; unreachable and timeout count as unwell.
        """
        ...


def offers_health(connector: Connector) -> TypeGuard[FeelingConnector]:
    """Whether a connector says how its source feels."""
    return callable(getattr(connector, "health", None))


def offers_lookup(connector: Connector) -> TypeGuard[LookupConnector]:
    """Whether a connector answers lookups."""
    return callable(getattr(connector, "lookup", None))


def offers_preparing(connector: Connector) -> TypeGuard[PreparingConnector]:
    """Whether a connector can import its drivers before it reads."""
    return callable(getattr(connector, "prepare", None))
