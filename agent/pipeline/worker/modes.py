# SPDX-License-Identifier: Apache-2.0
"""The kinds of reading: what a worker does with an open source, by the job's mode.

How a mode plugs in

* :data:`MODES` has, for each ``RunKind`` that workers can do, a :class:`Mode`: the wire
  mode of its batches, and ``loads``, a generator of checked :class:`Load`. It runs in
  the reading thread. ``ground.source`` is open and its frontier taken; what
  ``ground.check`` returns has passed the quality rules.
* What follows the last row (``d`` rows, the file of a new state) belongs at the end of
  the generator: the final part is packed only once the generator has ended. Source rows
  that need not be sent are ``Load.skipped``; ``pack`` counts ``u``, ``k`` and ``d``.
* A run whose only part has no rows becomes ``unchanged`` by itself, unless it is full.
* What the mode needs from the daemon are fields of ``Job``; ``flow/start.py`` fills
  them, and chooses the kind: what is wanted as ``incremental`` is read as it can be.
* A frontier moves with the run's final batch, in the transaction that registers it
  (``state.frontier(stream)``); ``Mode.moves = False`` leaves it. What has to follow
  that transaction belongs into ``flow/sealing.py``, ``Sealing._registered``.
* A failure is an exception; the code of a ``FepError`` reaches the flow. One after
  which only a full read helps belongs into ``flow/start.py``, ``READ_IN_FULL``.
* The kind must stand in ``agent.model.run.READABLE`` for settings to ask for it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from agent.child.inside import give_memory_back
from agent.errors import InternalFault
from agent.pipeline.pack import Load
from agent.pipeline.quality.reasons import DUPLICATE_KEY
from agent.pipeline.worker.deleting import looked_for
from agent.pipeline.worker.reconciling import compared, repaired
from agent.pipeline.worker.tagged import (
    Counsel,
    KeysRead,
    Note,
    Tagging,
    Wanted,
    name_of,
    told,
)
from agent.wire.arrow import key_frames

if TYPE_CHECKING:
    import pyarrow as pa

    from agent.model.batch import Mode as WireMode
    from agent.model.item import Item
    from agent.model.job import CentreKeys, Job, Message
    from agent.model.run import RunKind
    from agent.pipeline.extract import Piece, Reading


@dataclass(frozen=True)
class Ground:
    """What a mode stands on.

    Args:
        job: what to do.
        source: open, its frontier taken.
        check: the quality stage; pieces go through it in the order of their reading.
        tell: sends a message to the daemon.
        ask: the keys of the centre in some buckets; before the first load only.
        again: the quality stage anew, for another pass over the same snapshot; what it
            withholds is not counted once more.
        beat: tells that the reading goes on; for what gives no load for long.
        counsel: answers of who compares the rows with those sent; None if nobody does.
        count: takes how many rows were met that no load tells of; it may be negative.
    """

    job: Job
    source: Reading
    check: Callable[[Piece], Load]
    tell: Callable[[Message], None]
    ask: Callable[[tuple[int, ...]], CentreKeys]
    again: Callable[[], Callable[[Piece], Load]]
    beat: Callable[[], None]
    counsel: Counsel | None = None
    count: Callable[[int], None] = lambda _rows: None

    @property
    def items(self) -> Sequence[Item]:
        """The items in the order of the catalog."""
        return tuple(bound.item for bound in self.job.items)


@dataclass(frozen=True)
class Mode:
    """A kind of reading.

    Args:
        wire: mode of its batches.
        loads: checked rows, piece by piece.
        moves: whether the stream's frontier moves with it.
        quiet: whether a run without rows makes no batch.
        blind: whether it needs no source; it gives no loads then.
    """

    wire: WireMode
    loads: Callable[[Ground], Iterator[Load | Note]]
    moves: bool = True
    quiet: bool = False
    blind: bool = False


def full(ground: Ground) -> Iterator[Load | Note]:
    """All rows, or those after the place where the read was cut."""
    if ground.counsel is not None and (tagging := ground.source.tagging()) is not None:
        return _with_tags(ground, tagging)
    return _plain(ground)


def _plain(ground: Ground) -> Iterator[Load]:
    job, resume = ground.job, ground.job.resume
    pieces = ground.source.pieces(
        raw_bytes=job.batch_raw_bytes,
        max_rows=job.max_rows_per_batch,
        resume=None if resume is None else resume.token,
    )
    loads = map(ground.check, pieces)
    if resume is not None and resume.last is not None:
        return _without_again(loads, resume.last, ground.items)
    return loads


def _with_tags(ground: Ground, tagging: str) -> Iterator[Load | Note]:
    yield Tagging(name_of(ground.job, tagging))
    yield from _tagged(ground, None)


def diff(ground: Ground) -> Iterator[Load | Note]:
    """What may have changed, if the source can tell it by tags; else all rows."""
    counsel, tagging = ground.counsel, ground.source.tagging()
    if counsel is None or tagging is None:
        yield from _plain(ground)
        return
    yield Tagging(name_of(ground.job, tagging))
    wanted = counsel.take()
    if wanted is not None:
        met = 0
        for note in told(ground.source.tags()):
            yield note
            if isinstance(note, KeysRead):
                ground.count(note.found.keys.num_rows)
                met += note.found.keys.num_rows
        wanted = counsel.take()
        give_memory_back()
        again = met if wanted is None else sum(keys.num_rows for keys in wanted)
        ground.count(-again)
    yield from _tagged(ground, wanted)


def _tagged(ground: Ground, keys: Wanted) -> Iterator[Load]:
    job = ground.job
    return map(
        ground.check,
        ground.source.tagged(
            keys, raw_bytes=job.batch_raw_bytes, max_rows=job.max_rows_per_batch
        ),
    )


def rows_only(loads: Iterable[Load | Note]) -> Iterator[Load]:
    """What is left for who compares nothing."""
    for load in loads:
        if isinstance(load, Load):
            yield load
        del load  # it is not kept while the next one is made


def incremental(ground: Ground) -> Iterator[Load]:
    """Rows that the source says were inserted or changed."""
    job = ground.job
    if job.since is None:
        raise InternalFault("an increment needs a frontier")
    pieces = ground.source.changes(
        job.since, raw_bytes=job.batch_raw_bytes, max_rows=job.max_rows_per_batch
    )
    return map(ground.check, pieces)


def nothing(_: Ground) -> Iterator[Load]:
    """No row at all: a snapshot of them takes everything from the centre."""
    return iter(())


MODES: Mapping[RunKind, Mode] = {
    "full": Mode("full", full),
    "incremental": Mode("incremental", incremental),
    "deletes": Mode("diff", looked_for, moves=False),
    "diff": Mode("diff", diff),  # ``comparing`` leaves out what was sent before
    "reconcile": Mode("repair", repaired, moves=False, quiet=True),
    "compare": Mode("repair", compared, moves=False, quiet=True),
    "recall": Mode("full", nothing, moves=False, blind=True),
}
"""What workers can do."""


def last_key(rows: pa.RecordBatch, items: Sequence[Item]) -> str | None:
    """A digest of the key of the last row, None if there is no row."""
    return _key(rows.slice(rows.num_rows - 1), items) if rows.num_rows else None


def _key(row: pa.RecordBatch, items: Sequence[Item]) -> str:
    return hashlib.sha256(key_frames(row, items)[0]).hexdigest()


def _without_again(
    loads: Iterator[Load], last: str, items: Sequence[Item]
) -> Iterator[Load]:
    """Leave out a first row of the key that was read last, as a duplicate.

    Where a cut divided rows of one key, the rest of them come first on resuming.
    """
    first = True
    for load in loads:
        rows = load.rows
        if first and rows.num_rows:
            first = False
            if _key(rows.slice(0, 1), items) == last:
                reasons = Counter(load.reasons)
                reasons[DUPLICATE_KEY] += 1
                yield replace(load, rows=rows.slice(1), reasons=dict(reasons))
                continue
        yield load
