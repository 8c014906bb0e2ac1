# SPDX-License-Identifier: Apache-2.0
"""The comparing modes of a worker: the source's rows against the centre's (对账).

Rules

1. The daemon has asked the centre before the source's snapshot was taken, and asks it
   for keys at the same loaded batch. All passes read one snapshot of the source: the
   first digests all rows by buckets, the next ones look at the rows of the buckets that
   differ, the last gives the rows that are to be sent again.
2. Rows are checked as those that are sent are, and canonical as they are. What quality
   withholds is counted, and not put into the quarantine once more.
3. What changed since the last read is late, not wrong: the next increment brings it.
   The connector's changes since the frontier tell it, or the digests of what was sent;
   these also tell which deletes are theirs: they must not be sent without them.
4. What was found is told, and how many deletes a repair would bring, before one row is
   packed: where buckets were left, as many as there must be in all of them, so that
   no number of runs deletes more than a person saw. Keys go into no message; if asked
   for, into a file that only we may read.
5. A row that was made again after the snapshot comes with the next increment, which is
   sealed after the repair.
"""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from agent.crypto.frames import bucket
from agent.errors import InternalFault, SpoolWriteFailed
from agent.model.job import Compared, Gone
from agent.pipeline import differences
from agent.pipeline.diff import Diff
from agent.pipeline.diff_state import KeyClash, StateUnfit
from agent.pipeline.differences import USUAL, Bounds, Found, Key, Match
from agent.pipeline.pack import Load
from agent.wire.arrow import OP, deleted_rows, key_frames, row_digests, schema_of
from agent.wire.key_text import frames_of, key_columns, texts_of
from connectors.contract import FrontierLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Literal

    from agent.model.item import Item
    from agent.pipeline.extract import Piece
    from agent.pipeline.worker.modes import Ground

PIECE_ROWS = 16_384
"""Most deletes of a piece."""
REPORT_KEYS = 100_000
"""Most keys of a class in a report."""
SALT = bytes(8)
"""For a state that is only compared with: its own salt counts."""


def compared(ground: Ground) -> Iterator[Load]:
    """What differs is counted and told; nothing leaves.

    Raises:
        InternalFault: the daemon did not ask the centre.
        SpoolWriteFailed: the report cannot be written.
    """
    comparison = _Comparison(ground, USUAL)
    comparison.go()
    yield comparison.unsent(0)


def repaired(ground: Ground, *, bounds: Bounds = USUAL) -> Iterator[Load]:
    """What is missing or stale at the centre, then a ``d`` row for what is extra.

    Args:
        ground: open.
        bounds: how much is in memory at once.

    Raises:
        InternalFault: the daemon did not ask the centre.
        SpoolWriteFailed: the report cannot be written.
    """
    comparison = _Comparison(ground, bounds)
    found = comparison.go()
    if gone := comparison.gone:
        ground.tell(Gone(gone, comparison.centre))
    again = found.missing | found.stale
    yield comparison.unsent(len(again))
    if again:
        yield from comparison.rows(again)
    yield from _deletes(found.extra, ground)


@dataclass
class _Counts:
    """What the first pass met."""

    read: int = 0
    sent: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)


class _Comparison:
    """One comparison, pass by pass."""

    def __init__(self, ground: Ground, bounds: Bounds) -> None:
        job = ground.job
        if job.centre is None or job.sums is None:
            raise InternalFault("a comparison needs what the centre holds")
        self._ground, self._bounds = ground, bounds
        self._counts, self._sums = job.centre, job.sums
        self._keys: Sequence[Item] = tuple(i for i in ground.items if i.key)
        self._met = _Counts()
        self._found = Found()
        self._left = self._at_least = 0
        self._told_by: Literal["frontier", "digests"] | None = None

    @property
    def centre(self) -> int:
        """Rows of the centre."""
        return sum(self._counts)

    @property
    def gone(self) -> int:
        """Deletes that there are; with buckets left, also those that must be there."""
        known = len(self._found.extra)
        return max(known, self._at_least) if self._left else known

    def go(self) -> Found:
        """Compare, tell what was found, and write the report if there is to be one."""
        tally = self._tally()
        self._at_least = tally.at_least(self._counts)
        differing = tally.differing(self._counts, self._sums)
        passes = list(
            differences.groups(differing, self._counts, rows=self._bounds.group_rows)
        )
        for number, group in enumerate(passes):
            if self._found.size > self._bounds.most:
                self._left = sum(map(len, passes[number:]))
                break
            self._match(group, tally.bits)
        self._told_by = self._find_late()
        found = self._found
        self._ground.tell(
            Compared(
                rows=self._met.sent,
                centre=self.centre,
                missing=len(found.missing),
                stale=len(found.stale),
                extra=len(found.extra),
                late=len(found.late),
                withheld=found.withheld,
                left=self._left,
                told_by=self._told_by,
            )
        )
        if self._ground.job.report is not None:
            _write_report(Path(self._ground.job.report), found, len(self._keys))
        return found

    def _tally(self) -> differences.Tally:
        """The first pass: every row, by buckets."""
        tally = differences.Tally(len(self._counts).bit_length() - 1)
        met = self._met
        for load in self._loads(self._ground.check):
            sent = _sent(load.rows)
            if sent.num_rows < load.rows.num_rows:
                tally.withhold(key_frames(_withheld(load.rows), self._ground.items))
            tally.add(key_frames(sent, self._ground.items), self._digests(sent))
            met.read += load.read
            met.sent += sent.num_rows
            met.reasons.update(load.reasons)
            met.warnings.update(load.warnings)
        return tally

    def _match(self, group: Sequence[int], bits: int) -> None:
        """One more pass: the rows of some buckets, against the centre's."""
        theirs: dict[Key, int] = {}
        asks = differences.groups(
            group,
            self._counts,
            rows=self._bounds.ask_rows,
            most=differences.DETAIL,
        )
        for asked in asks:
            answer = self._ground.ask(asked)
            for texts, told in zip(answer.texts, answer.digests, strict=True):
                theirs[frames_of(texts, self._keys)] = int(told, 16)
        match, wanted = Match(theirs, self._found), frozenset(group)
        for rows, keys in self._chosen(lambda key: bucket(key, bits) in wanted):
            sent = pc.equal(rows.column(OP), pa.scalar("u")).to_pylist()
            digests = self._digests(rows)
            for key, digest, leaves in zip(keys, digests, sent, strict=True):
                if leaves:
                    match.sent(key, digest)
                else:
                    match.withheld(key)
        match.end()

    def _find_late(self) -> Literal["frontier", "digests"] | None:
        """Which differences the next increment brings, and who says so."""
        job, found = self._ground.job, self._found
        again = bool(found.missing or found.stale)
        if job.since is not None:
            if not again:
                return None
            try:
                self._found.are_late(list(self._changed(job.since)))
            except FrontierLost:
                return None
            return "frontier"
        known = None if job.states is None else job.states.known
        if known is None or not Path(known).exists() or not (again or found.extra):
            return None
        try:
            if again:
                found.are_late(list(self._unlike(Path(known))))
            if found.extra:
                found.will_go(list(self._kept(Path(known))))
        except (StateUnfit, KeyClash):
            return None
        return "digests"

    def _changed(self, since: str) -> Iterator[Key]:
        """Keys of the rows that the source says were changed after a frontier."""
        job, check = self._ground.job, self._ground.again()
        for piece in self._ground.source.changes(
            since, raw_bytes=job.batch_raw_bytes, max_rows=job.max_rows_per_batch
        ):
            self._ground.beat()
            yield from key_frames(check(piece).rows, self._ground.items)

    def _unlike(self, known: Path) -> Iterator[Key]:
        """Keys of the rows that are not as they were sent."""
        items, folder = self._ground.items, known.parent
        some = self._found.missing | self._found.stale
        with Diff(items, old=known, folder=folder, salt=SALT) as diff:
            for rows, _ in self._chosen(some.__contains__):
                yield from key_frames(diff.changes(_sent(rows)), items)

    def _kept(self, known: Path) -> Iterator[Key]:
        """Extra keys that were sent last: the next run misses them, too.

        A delete of ours would not reach what is kept. If the row came back as it was,
        it would look as if it had been sent.
        """
        items, folder = self._ground.items, known.parent
        with Diff(items, old=known, folder=folder, salt=SALT) as diff:
            for keys, rows in _deleted(self._found.extra, items, PIECE_ROWS):
                yield from compress(keys, diff.has(rows))

    def unsent(self, again: int) -> Load:
        """All source rows but those that are sent again, counted."""
        met = self._met
        schema = schema_of(self._ground.items)
        return Load(
            rows=pa.RecordBatch.from_pylist([], schema=schema),
            read=met.read - again,
            token=None,
            skipped=met.sent - again,
            reasons=dict(met.reasons),
            warnings=dict(met.warnings),
        )

    def rows(self, again: set[Key]) -> Iterator[Load]:
        """The last pass: the rows of these keys."""
        for rows, _ in self._chosen(again.__contains__):
            sent = _sent(rows)
            if sent.num_rows:
                yield Load(sent, sent.num_rows, None)

    def _chosen(
        self, wanted: Callable[[Key], bool]
    ) -> Iterator[tuple[pa.RecordBatch, list[Key]]]:
        """Rows of some keys, of one more pass over the same snapshot."""
        for load in self._loads(self._ground.again()):
            keys = key_frames(load.rows, self._ground.items)
            mask = [wanted(key) for key in keys]
            if any(mask):
                rows = load.rows.filter(pa.array(mask))
                yield rows, [k for k, here in zip(keys, mask, strict=True) if here]

    def _loads(self, check: Callable[[Piece], Load]) -> Iterator[Load]:
        job = self._ground.job
        for piece in self._ground.source.pieces(
            raw_bytes=job.batch_raw_bytes, max_rows=job.max_rows_per_batch
        ):
            yield check(piece)
            self._ground.beat()

    def _digests(self, rows: pa.RecordBatch) -> Iterator[int]:
        return row_digests(rows, self._ground.items)


def _sent(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that would be sent, not those that are withheld."""
    return rows.filter(pc.equal(rows.column(OP), pa.scalar("u")))


def _withheld(rows: pa.RecordBatch) -> pa.RecordBatch:
    """The others."""
    return rows.filter(pc.not_equal(rows.column(OP), pa.scalar("u")))


def _deletes(extra: Iterable[Key], ground: Ground) -> Iterator[Load]:
    most = min(PIECE_ROWS, ground.job.max_rows_per_batch)
    for _, rows in _deleted(extra, ground.items, most):
        yield Load(rows, 0, None)


def _deleted(
    keys: Iterable[Key], items: Sequence[Item], most: int
) -> Iterator[tuple[list[Key], pa.RecordBatch]]:
    """Keys in order, and a ``d`` row for each, so many at a time."""
    of_keys = tuple(i for i in items if i.key)
    rest = iter(sorted(keys))
    while some := list(islice(rest, most)):
        yield some, deleted_rows(key_columns(some, of_keys), len(some), items)


def _write_report(path: Path, found: Found, items: int) -> None:
    """One JSON line a key, class by class; whoever may read it may read the rows.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    classes: Mapping[str, set[Key]] = {
        "missing": found.missing,
        "stale": found.stale,
        "extra": found.extra,
        "late": found.late,
    }
    fresh = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with open(fresh, "x", encoding="utf-8", opener=_only_ours) as file:
            for name, keys in classes.items():
                for key in islice(sorted(keys), REPORT_KEYS):
                    line = {"class": name, "key": texts_of(key, items)}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as e:
        name = errno.errorcode.get(e.errno or 0, "EIO")
        raise SpoolWriteFailed(f"{name} while writing a report") from e


def _only_ours(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
