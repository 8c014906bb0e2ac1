# SPDX-License-Identifier: Apache-2.0
"""Reading a source that digests its rows: first keys and tags, then what differs.

The reading thread asks, the comparing thread answers through :class:`Counsel`::

    reading                                   comparing
    Tagging(name)          ->                 has the state tags of this making?
    KeysRead, KeysRead, …  <- yes             looks each key up
    KeysOver               ->
    rows of these keys     <- those that differ, or None: all rows after all

Both passes see one snapshot. Where the answer is None, and in a full read, every row is
read with its tag. A tag is only compared with one that was made for the same items,
rules and severities by the same release: rows that these would judge otherwise have to
be read once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from agent import VERSION
from agent.model.item import ItemType
from agent.pipeline.worker.handoff import Handoff
from agent.values.columns import truth
from agent.values.typed import typed
from agent.values.zone import Zone

if TYPE_CHECKING:
    from agent.model.job import BoundItem, Job
    from agent.pipeline.diff_state import Chosen
    from agent.pipeline.diff_tags import Meeting
    from connectors.tags import TaggedKeys

MOST_KEYS = 524_288
"""Most keys that are asked for one by one; they stand in memory."""

FEW_KEYS = 10_000
"""So many are asked for however small the table is."""

SHARE = 4
"""If more than a fourth of the rows differs, reading all of them is cheaper."""

Wanted = Sequence[pa.RecordBatch] | None
"""Keys whose rows are to be read; None: all rows."""


@dataclass(frozen=True)
class Tagging:
    """All rows of this read have tags that are made in this way."""

    name: str


@dataclass(frozen=True)
class KeysRead:
    """Consecutive keys with their tags."""

    found: TaggedKeys


@dataclass(frozen=True)
class KeysOver:
    """That were all of them."""


Note = Tagging | KeysRead | KeysOver
"""What the reading thread says besides rows."""


class Counsel:
    """What the comparing thread answers the reading one."""

    def __init__(self) -> None:
        self._answers: Handoff[Wanted] = Handoff(1)

    def give(self, wanted: Wanted) -> None:
        """Answer.

        Raises:
            Stopped: nobody listens any more.
        """
        self._answers.put(wanted)

    def take(self) -> Wanted:
        """Wait for an answer.

        Raises:
            Stopped: nobody answers any more.
        """
        return next(iter(self._answers))

    def stop(self) -> None:
        """Give up: whoever waits gets :class:`Stopped`."""
        self._answers.stop()


def name_of(job: Job, tagging: str) -> str:
    """What must be equal for tags to be compared."""
    said = (VERSION, tagging, job.items, sorted(job.severity.items()), job.timezone)
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]


class Choice:
    """Takes the keys of a source and says of which the rows are to be read.

    Args:
        items: of the job.
        timezone: IANA name for times without zone.
        meeting: knows what was sent.
    """

    def __init__(
        self, items: Sequence[BoundItem], timezone: str, meeting: Meeting
    ) -> None:
        self._items = [bound.item for bound in items if bound.item.key]
        self._zone = Zone(timezone)
        self._meeting = meeting
        self._wanted: list[pa.RecordBatch] = []
        self._all = False
        self.read = self.chosen = 0

    def add(self, found: TaggedKeys) -> None:
        """Some more keys.

        Raises:
            SourceTypeChanged: a column that the catalog's type cannot take.
        """
        self.read += found.keys.num_rows
        if self._all or not self._ordered(found.keys):
            self._all = True
            return
        keys, good = self._typed(found.keys)
        differ = self._meeting.differing(keys, found.tags, good)
        if differ.any():
            self._wanted.append(found.keys.filter(pa.array(differ)))
            self.chosen += int(differ.sum())
        self._all = self.chosen > MOST_KEYS

    def wanted(self) -> Wanted:
        """The keys whose rows are to be read, once all came."""
        if self._all or self.chosen > max(FEW_KEYS, self.read // SHARE):
            return None
        return self._wanted

    def _ordered(self, keys: pa.RecordBatch) -> bool:
        """Whether some of the rows can be judged without those around them.

        A number that stands in a text, or a key that cannot be decoded, is judged by
        its place among all the others.
        """
        return all(
            pa.types.is_string(column.type) == (item.type is ItemType.C)
            and (item.type is ItemType.G or not pa.types.is_binary(column.type))
            for item, column in zip(self._items, keys.columns, strict=True)
        )

    def _typed(self, keys: pa.RecordBatch) -> tuple[pa.RecordBatch, Chosen]:
        """The keys in wire types, and which of them have a meaning."""
        good, columns = np.ones(keys.num_rows, np.bool_), []
        for item, column in zip(self._items, keys.columns, strict=True):
            parsed = typed(column, item, self._zone)
            for fault in parsed.faults.values():
                good &= ~fault
            if column.null_count:
                good &= ~truth(column.is_null())
            columns.append(parsed.values)
        names = [item.name for item in self._items]
        return pa.RecordBatch.from_arrays(columns, names=names), good


def told(keys: Iterator[TaggedKeys]) -> Iterator[Note]:
    """All keys, then that they are all."""
    yield from map(KeysRead, keys)
    yield KeysOver()
