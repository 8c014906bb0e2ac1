# SPDX-License-Identifier: Apache-2.0
"""The diff stage of a worker: what leaves of a whole read, and what was sent by it.

It runs in a thread of its own between checking and packing.

Rules

1. A stream whose source tells no changes gets a state with every full read, under the
   name of the run. Only once that is synced the worker says so (:class:`Way`): the
   frontier that the last batch registers says it, too, and the next read is a diff.
2. A full read gives all rows on. If no state can be made (a key came twice, or the read
   goes on in the middle of the table), the next one is a full read again.
3. Where the source digests its rows (``tagged.py``), a diff begins with their tags, and
   says which rows have to be read.
4. A diff gives on what is new or changed, then the number of keys that are gone, so
   that the daemon can brake before one delete is sealed, then the deletes.
5. A state that cannot be compared with, and rows that were to be read and do not come,
   end the run by :class:`DigestsUnfit`; a full read follows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from agent.errors import DigestsUnfit, InternalFault
from agent.model.job import Gone, Way
from agent.pipeline import disk
from agent.pipeline.diff import Diff
from agent.pipeline.diff_state import KeyClash, StateUnfit
from agent.pipeline.diff_tags import Meeting, NotGiven
from agent.pipeline.pack import Load, count_ops
from agent.pipeline.worker.tagged import Choice, Counsel, KeysRead, Note, Tagging
from agent.wire.arrow import schema_of

if TYPE_CHECKING:
    from agent.model.item import Item
    from agent.model.job import Job, Message, States

    Steps = Iterator[Load | Note]

PIECE_ROWS = 16_384
"""Most deletes of a piece."""

METHOD = "diff"
"""How changes are found, as :class:`Way` says it."""


@dataclass(frozen=True)
class Scale:
    """What rows are compared with.

    Args:
        job: of the run; its mode decides.
        tell: sends a message to the daemon.
        tells_changes: whether the source does so itself; asked after the first load.
        salt: makes 8 random bytes.
        counsel: takes what is answered to who reads.
    """

    job: Job
    tell: Callable[[Message], None]
    tells_changes: Callable[[], bool]
    salt: Callable[[], bytes]
    counsel: Counsel

    @property
    def items(self) -> tuple[Item, ...]:
        """Those of the job."""
        return tuple(bound.item for bound in self.job.items)

    @property
    def states(self) -> States:
        """Where states are."""
        if self.job.states is None:
            raise InternalFault("a comparison needs a folder")
        return self.job.states


def compared(scale: Scale, loads: Steps) -> Generator[Load, None, None]:
    """What leaves of these loads.

    Raises:
        DigestsUnfit: the old state cannot be compared with.
        SpoolFull, SpoolWriteFailed: the new one cannot be written.
    """
    if scale.job.mode == "diff":
        yield from _differing(scale, loads)
    elif scale.job.mode == "full" and scale.job.resume is None:
        yield from _noted(scale, loads)
    else:
        yield from _rows(loads)


def _differing(scale: Scale, loads: Steps) -> Iterator[Load]:
    """What is new or changed, then what is gone."""
    try:
        tagging, loads = _tagging(loads)
        with _written(), _diff(scale, _known(scale), tagging) as diff:
            if tagging is None:
                yield from _all_left(loads, diff)
            else:
                yield from _chosen_left(scale, loads, diff)
            gone = diff.gone()
            if gone:
                scale.tell(Gone(gone, diff.known))
            for rows in diff.deletes():
                yield from _pieces(rows, scale.job.max_rows_per_batch)
            diff.finish(Path(scale.states.fresh))
    except (StateUnfit, KeyClash, NotGiven) as e:
        raise DigestsUnfit(f"{type(e).__name__}: {e}") from e
    scale.tell(Way(METHOD, ()))


def _tagging(loads: Steps) -> tuple[str | None, Steps]:
    """How the source digests the rows that follow; None if it does not."""
    first = next(loads, None)
    if isinstance(first, Tagging):
        return first.name, loads
    return None, loads if first is None else chain([first], loads)


def _rows(loads: Steps) -> Iterator[Load]:
    for load in loads:
        if not isinstance(load, Load):
            raise InternalFault(f"expected rows, got {type(load).__name__}")
        yield load


def _all_left(loads: Steps, diff: Diff) -> Iterator[Load]:
    for load in _rows(loads):
        yield _left(load, diff)


def _chosen_left(scale: Scale, loads: Steps, diff: Diff) -> Iterator[Load]:
    """Take the keys, if they help, and say which rows to read; the others are counted.

    Raises:
        NotGiven: rows did not come although they are there.
    """
    meeting = diff.meeting()
    scale.counsel.give(None if meeting is None else ())
    if meeting is None:
        yield from _all_left(loads, diff)
        return
    choice = _choice(scale, meeting, loads)
    wanted = choice.wanted()
    if wanted is None:
        diff.forget()
        scale.counsel.give(None)
        yield from _all_left(loads, diff)
        return
    meeting.over()
    yield _known_already(scale, choice.read - choice.chosen)
    scale.counsel.give(wanted)
    yield from _asked_left(loads, diff, meeting, due=choice.chosen)


def _asked_left(
    loads: Steps, diff: Diff, meeting: Meeting, *, due: int
) -> Iterator[Load]:
    """What is left of rows that were asked for, of which so many have to come."""
    read = silent = 0
    for load in _rows(loads):
        read += load.read
        silent += load.read - load.rows.num_rows
        yield _left(load, diff)
    if read < due:
        raise NotGiven(f"the source did not give {due - read} rows that it has")
    meeting.check(silent)


def _choice(scale: Scale, meeting: Meeting, loads: Steps) -> Choice:
    choice = Choice(scale.job.items, scale.job.timezone, meeting)
    for note in loads:
        if not isinstance(note, KeysRead):
            break
        choice.add(note.found)
    return choice


def _known_already(scale: Scale, rows: int) -> Load:
    """Rows that were not read, for they are as they were sent."""
    empty = pa.RecordBatch.from_pylist([], schema=schema_of(scale.items))
    return Load(empty, rows, None, skipped=rows)


def _pieces(rows: pa.RecordBatch, most: int) -> Iterator[Load]:
    step = min(most, PIECE_ROWS)
    for start in range(0, rows.num_rows, step):
        yield Load(rows.slice(start, step), 0, None)


def _left(load: Load, diff: Diff) -> Load:
    """A load without the rows that are as they were sent."""
    rows = diff.changes(load.rows, load.tags)
    same = count_ops(load.rows).upsert - rows.num_rows
    return replace(load, rows=rows, token=None, skipped=same)


def _noted(scale: Scale, loads: Steps) -> Iterator[Load]:
    """All rows; what they are is written down if the source tells no changes."""
    tagging, loads = _tagging(loads)
    if scale.tells_changes():
        yield from _rows(loads)
        return
    noted = False
    with _written(), _diff(scale, None, tagging) as diff:
        clash = False
        for load in _rows(loads):
            if not clash:
                clash = not _fed(diff, load)
            yield load
        if not clash:
            noted = _finished(diff, Path(scale.states.fresh))
    if noted:
        scale.tell(Way(METHOD, ()))


def _fed(diff: Diff, load: Load) -> bool:
    try:
        diff.changes(load.rows, load.tags)
    except KeyClash:
        return False
    return True


def _finished(diff: Diff, fresh: Path) -> bool:
    try:
        diff.finish(fresh)
    except KeyClash:
        return False
    return True


def _known(scale: Scale) -> Path:
    """The state of what was sent.

    Raises:
        StateUnfit: there is none.
    """
    known = scale.states.known
    if known is None or not Path(known).exists():
        raise StateUnfit("there is none of the last run")
    return Path(known)


def _diff(scale: Scale, known: Path | None, tagging: str | None) -> Diff:
    folder = Path(scale.states.fresh).parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Diff(
        scale.items, old=known, folder=folder, salt=scale.salt(), tagging=tagging
    )


@contextmanager
def _written() -> Iterator[None]:
    """Turn what the disk refuses into an error of ours."""
    try:
        yield
    except OSError as e:
        raise disk.refusal(e, "writing a diff state") from e
