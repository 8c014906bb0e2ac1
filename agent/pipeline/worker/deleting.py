# SPDX-License-Identifier: Apache-2.0
"""The deletes mode of a worker: keys that the centre has and the source has not.

Rules

1. The daemon has asked the centre before the source's snapshot was taken: a row that
   was made in between is not missed, only not looked for.
2. Only the key columns are read, once to count them by buckets and once more, in the
   same snapshot, for each :data:`BUCKETS` buckets in which the centre has more.
3. The number of deletes is told before one of them is sealed: as many as there must be
   before the centre is asked for keys, and their exact number after.
4. A key that is not of its type cannot be at the centre, and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from agent.errors import InternalFault
from agent.model.job import Gone
from agent.pipeline import deletes
from agent.pipeline.pack import Load
from agent.values.typed import typed
from agent.values.zone import Zone
from agent.wire.arrow import deleted_rows, key_frames
from agent.wire.key_text import frames_of, key_columns
from connectors.contract import Slice

if TYPE_CHECKING:
    from agent.model.item import Item
    from agent.pipeline.worker.modes import Ground

BUCKETS = 4096
"""Buckets whose keys of the source are in memory at once."""

PIECE_ROWS = 16_384
"""Most deletes of a piece."""


def looked_for(ground: Ground) -> Iterator[Load]:
    """A ``d`` row for each key of the centre that the source has not.

    Raises:
        InternalFault: the daemon did not ask the centre.
    """
    centre = ground.job.centre
    if centre is None:
        raise InternalFault("a search for deletes needs what the centre holds")
    source = _Source(ground)
    tally = deletes.Tally(len(centre).bit_length() - 1)
    tally.add(source.keys())
    found = deletes.suspects(tally.counts, centre)
    if not found.buckets:
        return
    ground.tell(Gone(found.at_least, sum(centre)))
    gone = [key for some in _groups(found.buckets) for key in source.gone(some, tally)]
    ground.tell(Gone(len(gone), sum(centre)))
    for start in range(0, len(gone), PIECE_ROWS):
        keys = gone[start : start + PIECE_ROWS]
        columns = key_columns(keys, source.items)
        yield Load(deleted_rows(columns, len(keys), ground.items), 0, None)


def _groups(buckets: Sequence[int]) -> Iterator[frozenset[int]]:
    rest = iter(buckets)
    while some := frozenset(islice(rest, BUCKETS)):
        yield some


class _Source:
    """The keys of the source, of one snapshot."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._zone = Zone(ground.job.timezone)
        self.items: tuple[Item, ...] = tuple(i for i in ground.items if i.key)

    def gone(self, buckets: frozenset[int], tally: deletes.Tally) -> list[bytes]:
        """The keys of some buckets that only the centre has."""
        ours = frozenset(deletes.within(self.keys(), buckets, tally.bits))
        found = []
        for some in deletes.Suspects(tuple(sorted(buckets)), 0).asks():
            texts = self._ground.ask(some).texts
            centre = (frames_of(text, self.items) for text in texts)
            found += deletes.deleted(ours, centre)
        return found

    def keys(self) -> Iterator[bytes]:
        """Canonical keys in the source's order; of neighbours that are equal one."""
        reading = self._ground.source
        columns = tuple(c for c in reading.stream.columns if c.key)
        part = Slice(replace(reading.stream, columns=columns), reading.estimate)
        before = None
        for page in reading.paced(reading.session.read(part)):
            for key in self._frames(page.rows):
                if key != before:
                    yield key
                before = key

    def _frames(self, rows: pa.RecordBatch) -> list[bytes]:
        good = np.ones(rows.num_rows, np.bool_)
        values = []
        for column, item in zip(rows.columns, self.items, strict=True):
            parsed = typed(column, item, self._zone)
            good &= ~column.is_null().to_numpy(zero_copy_only=False)
            for mask in parsed.faults.values():
                good &= ~mask
            values.append(parsed.values)
        names = [item.name for item in self.items]
        batch = pa.RecordBatch.from_arrays(values, names=names)
        if not good.all():
            batch = batch.filter(pa.array(good))
        return key_frames(batch, self.items)
