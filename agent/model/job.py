# SPDX-License-Identifier: Apache-2.0
"""What the daemon and a worker process say to each other.

One socket, one JSON object a line, at most :data:`LINE_CAP` bytes. The daemon sends one
:class:`Job`; the worker answers with the table's :class:`Columns` if its connector can
say them, the :class:`Way` in which changes are found if there is one (at the latest
before the last batch), that the table's number is :class:`Unfit` for it, what it asks
of the centre (:class:`AskKeys` -> :class:`CentreKeys`), what it :class:`Compared`, how
many keys are :class:`Gone` before one is deleted, any number of :class:`Progress` and
:class:`Slowed` and, batch after batch: :class:`Packed` -> :class:`Line` ->
:class:`Written`. It ends with :class:`Ended` or :class:`Failed`. A daemon that does not
answer a Packed holds the worker back: that is the backpressure.
Secrets travel here only, never in argv or environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from agent.model.batch import Mode, Quality, Rows
from agent.model.column import Column
from agent.model.item import Item, ItemType
from agent.model.pacing import Bounds, Pacing, Rate
from agent.model.run import RunKind

LINE_CAP = 4 * 1024 * 1024
"""Longest line of the worker protocol, bytes (a line 1 is at most 64 KiB)."""


@dataclass(frozen=True)
class BoundItem:
    """An item and the source column that it is read from."""

    item: Item
    column: str
    rules: tuple[str, ...] = ()
    """Quality rules by name, such as ``code:gender`` or ``citizen_id``."""
    required: bool = False
    encoding: str | None = None
    """What its texts really are, where the database calls them Latin-1."""


@dataclass(frozen=True)
class Resume:
    """Where a full read that was cut goes on.

    Args:
        token: of the connector, after the last part that is registered.
        last: digest of that part's last key, or None if it had no rows.
        parts: that are registered.
        rows: their sum.
        quality: their sum.
        reasons: quarantine code -> rows of these parts.
        warnings: rule name -> rows of these parts.
        frontier: at which the first part was read; it counts for all of them.
        as_of: of the same moment.
        basis: what was read, by which catalog; only the same may go on.
    """

    token: str
    last: str | None
    parts: int
    rows: Rows
    quality: Quality
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    frontier: str
    as_of: str
    basis: str


@dataclass(frozen=True)
class States:
    """Files in which it stands what was sent, for streams that are compared.

    Args:
        fresh: to be written by this run.
        known: of the run at which the stream's frontier is, or None.
    """

    fresh: str
    known: str | None = None


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs for one run of one resource.

    Args:
        kind: ``pull`` packs batches; ``digest`` only counts and digests the rows that
            would be sent; nothing is written then.
        mode: which rows a ``pull`` reads.
        run: uuid7 of the run; also the snapshot's id.
        connector: name in the connector registry.
        source: the source's settings, secrets included. Never logged.
        table: schema-qualified name, outermost first.
        items: items in the order of the catalog, with their columns.
        timezone: IANA name for source times without zone.
        severity: rule name -> ``warn``, ``quarantine`` or ``halt``.
        batch_raw_bytes: aim for the uncompressed size of a batch.
        max_rows_per_batch: upper bound of rows.
        quarantine: path of this run's quarantine file; made only if needed, 0600.
        statement_timeout_s: passed to the connector.
        stamp: column that the database sets to its clock with every change, or None.
        number: column of numbers that grow from row to row, or None.
        since: frontier at which the last run of the stream ended; not in mode ``full``.
        resume: where a full read goes on, or None to begin.
        states: files of what was sent; None where nothing is compared.
        centre: rows of the centre by buckets of their keys, in modes that ask it.
        sums: digests of the centre's rows by buckets, 32 hex digits each, in modes that
            compare rows.
        report: file for the keys that differ, or None where nobody asked for them.
        as_of: for what does not read: instant for which its rows hold.
        pacing: how kindly the source is read; None: at full speed.
        origin: name of the source in the settings.
    """

    kind: Literal["pull", "digest"]
    resource: str
    run: str
    connector: str
    source: Mapping[str, Any] = field(repr=False)
    table: tuple[str, ...]
    items: tuple[BoundItem, ...]
    timezone: str
    severity: Mapping[str, str]
    batch_raw_bytes: int
    max_rows_per_batch: int
    quarantine: str
    statement_timeout_s: int
    mode: RunKind = "full"
    stamp: str | None = None
    number: str | None = None
    since: str | None = None
    resume: Resume | None = None
    states: States | None = None
    centre: tuple[int, ...] | None = None
    sums: tuple[str, ...] | None = None
    report: str | None = None
    as_of: str | None = None
    pacing: Pacing | None = None
    origin: str = ""


@dataclass(frozen=True)
class Prepare:
    """To a worker that has no job yet: import what this connector needs.

    Args:
        connector: its name.
    """

    connector: str


@dataclass(frozen=True)
class Columns:
    """The columns of the job's table as they are now, in its order.

    The worker does not wait for an answer; who does not like them kills it.

    Args:
        columns: all of them.
        fit: whether the job can be done with them; if not, a :class:`Failed` with the
            source's word follows.
    """

    columns: tuple[Column, ...]
    fit: bool = True


@dataclass(frozen=True)
class Way:
    """How the stream's changes are found from now on; not told if they cannot be.

    Args:
        method: stable name, such as ``xmin``.
        assumes: what is relied on and not proven, each as ``name=value``.
    """

    method: str
    assumes: tuple[str, ...]


@dataclass(frozen=True)
class Unfit:
    """The rows are to be followed by their number, and cannot be.

    They are compared with digests instead, where that can be.

    Args:
        reason: its name, a colon, and what was found.
    """

    reason: str


@dataclass(frozen=True)
class Gone:
    """So many keys are no longer there, of those that were sent.

    It comes before the first part that deletes any. The worker does not wait for an
    answer; who does not agree kills it.

    Args:
        keys: that are gone.
        known: that were sent.
    """

    keys: int
    known: int


@dataclass(frozen=True)
class AskKeys:
    """Which keys has the centre in these buckets? The worker waits for the answer."""

    buckets: tuple[int, ...]


@dataclass(frozen=True)
class CentreKeys:
    """Daemon: the keys that the centre has in the buckets asked for.

    Args:
        texts: canonical texts of each key.
        digests: of the rows, 32 hex digits each, in the same order.
    """

    texts: tuple[tuple[str, ...], ...]
    digests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """What a comparison with the centre found; told before the first part.

    Args:
        rows: rows of the source that would be sent.
        centre: rows of the centre.
        missing: the source has them, the centre has not.
        stale: the centre has other values.
        extra: the centre has them, the source has not.
        late: they differ because they changed after what was sent last.
        withheld: the centre keeps an older version, for quality withheld the new one.
        left: buckets that differ and were not looked into: there were too many.
        told_by: how late rows were told from others: ``frontier``, ``digests`` or None
            if they cannot be.
    """

    rows: int
    centre: int
    missing: int = 0
    stale: int = 0
    extra: int = 0
    late: int = 0
    withheld: int = 0
    left: int = 0
    told_by: Literal["frontier", "digests"] | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing is to be repaired."""
        return not (self.missing or self.stale or self.extra or self.left)


@dataclass(frozen=True)
class Progress:
    """Rows read so far, and the estimate of all if the source gives one."""

    read: int
    estimate: int | None


@dataclass(frozen=True)
class Slowed:
    """The source does not feel well, or feels better; told when that changes.

    Args:
        share: of the full speed that is read at; 1.0: it feels well.
        reasons: what is beyond its bound, each as ``name=value>bound``.
        hidden: what the account may not see of how it feels; told with the first look.
    """

    share: float
    reasons: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Packed:
    """A payload is compressed and waits in the worker's memory for its line 1.

    Args:
        distinct: distinct keys over all parts, of a full read, on its final part only.
        token: the keyset position after the part; None on the final one, and where
            nobody can go on.
        frontier: where the run ends, on the final part; None if it moves none.
        base: frontier of the run, on every part of a read that can go on.
        last: digest of the last key of the part, with ``base``.
        mode: how the part is applied.
        reasons: quarantine code -> rows of this part.
        warnings: rule name -> rows of this part.
    """

    part: int
    final: bool
    size: int
    raw_size: int
    digest: str
    rows: Rows
    quality: Quality
    distinct: int | None
    as_of: str
    token: str | None
    frontier: str | None
    base: str | None = None
    last: str | None = None
    mode: Mode = "full"
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """Daemon: write ``text``, LF and the payload of ``part`` to ``path``, and sync."""

    part: int
    text: str
    path: str


@dataclass(frozen=True)
class Written:
    """The file is written and fsynced; renaming and registering is the daemon's."""

    part: int


@dataclass(frozen=True)
class Ended:
    """The run is complete.

    Args:
        rows: sum over all parts.
        quality: sum over all parts.
        reasons: quarantine code -> rows.
        warnings: rule name -> rows that were sent with a warning.
        digest: digest of the accepted rows (32 lower hex), kind ``digest`` only.
        as_of: instant for which the rows hold, wire grammar.
        frontier: opaque text of the connector.
    """

    rows: Rows
    quality: Quality
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    digest: str | None
    as_of: str
    frontier: str


@dataclass(frozen=True)
class Failed:
    """The run ended early; ``code`` is the code of a class in ``agent.errors``."""

    code: str
    detail: str
    reasons: Mapping[str, int] = field(default_factory=dict)


Message = (
    Job
    | Prepare
    | Columns
    | Way
    | Unfit
    | Gone
    | AskKeys
    | CentreKeys
    | Compared
    | Progress
    | Slowed
    | Packed
    | Line
    | Written
    | Ended
    | Failed
)
_KINDS: dict[str, type[Any]] = {c.__name__.lower(): c for c in get_args(Message)}


def encode(message: Message) -> bytes:
    """One line, LF included."""
    body = {"t": type(message).__name__.lower(), **asdict(message)}
    return json.dumps(body, ensure_ascii=False, default=str).encode() + b"\n"


def decode(line: bytes) -> Message:
    """The message of a line.

    Raises:
        ValueError: not a line that :func:`encode` makes.
    """
    body = json.loads(line)
    try:
        cls = _KINDS[body.pop("t")]
        if (whole := _PARTS.get(cls)) is not None:
            whole(body)
        if isinstance(body.get("rows"), dict):
            body["rows"] = Rows(**body["rows"])
        if "quality" in body:
            body["quality"] = Quality(**body["quality"])
        message: Message = cls(**body)
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"worker message does not fit: {e}") from e
    return message


def _of_job(body: dict[str, Any]) -> None:
    body["table"] = tuple(body["table"])
    body["items"] = tuple(_bound(b) for b in body["items"])
    body["resume"] = _resume(body["resume"])
    if body["states"] is not None:
        body["states"] = States(**body["states"])
    if body["centre"] is not None:
        body["centre"] = tuple(body["centre"])
    if body["sums"] is not None:
        body["sums"] = tuple(body["sums"])
    body["pacing"] = _pacing(body["pacing"])


def _of_columns(body: dict[str, Any]) -> None:
    body["columns"] = tuple(Column(**c) for c in body["columns"])


def _of_way(body: dict[str, Any]) -> None:
    body["assumes"] = tuple(body["assumes"])


def _of_buckets(body: dict[str, Any]) -> None:
    body["buckets"] = tuple(body["buckets"])


def _of_slowed(body: dict[str, Any]) -> None:
    body["reasons"], body["hidden"] = tuple(body["reasons"]), tuple(body["hidden"])


def _of_keys(body: dict[str, Any]) -> None:
    body["texts"] = tuple(tuple(key) for key in body["texts"])
    body["digests"] = tuple(body["digests"])


_PARTS: Mapping[type[Any], Callable[[dict[str, Any]], None]] = {
    Job: _of_job,
    Columns: _of_columns,
    Way: _of_way,
    AskKeys: _of_buckets,
    CentreKeys: _of_keys,
    Slowed: _of_slowed,
}
"""Makes values of a message's members that JSON has no type for."""


def _resume(body: dict[str, Any] | None) -> Resume | None:
    if body is None:
        return None
    body["rows"], body["quality"] = Rows(**body["rows"]), Quality(**body["quality"])
    return Resume(**body)


def _pacing(body: dict[str, Any] | None) -> Pacing | None:
    if body is None:
        return None
    body["usual"], body["off_peak"] = Rate(**body["usual"]), Rate(**body["off_peak"])
    body["windows"], body["bounds"] = tuple(body["windows"]), Bounds(**body["bounds"])
    return Pacing(**body)


def _bound(body: dict[str, Any]) -> BoundItem:
    item = dict(body["item"])
    item["type"] = ItemType(item["type"])
    return BoundItem(
        item=Item(**item),
        column=body["column"],
        rules=tuple(body["rules"]),
        required=body["required"],
        encoding=body["encoding"],
    )
