# SPDX-License-Identifier: Apache-2.0
"""Where rows are read: a source, a table of it and columns of that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.model.job import Job

Allowed = Mapping[tuple[str, tuple[str, ...]], frozenset[str]]
"""(source, table) -> columns that may be read; what is not in it may not."""


@dataclass(frozen=True)
class Place:
    """Where a run reads.

    Args:
        source: its name in the settings.
        table: schema-qualified name, outermost first.
        columns: of the items, in their order, then those by which changes are found.
    """

    source: str
    table: tuple[str, ...]
    columns: tuple[str, ...]

    def __str__(self) -> str:
        """For people, short."""
        return f"{self.source}: {'.'.join(self.table)}"

    def within(self, allowed: Allowed | None) -> bool:
        """Whether all of it may be read; None: no bound has been set."""
        if allowed is None:
            return True
        return allowed.get((self.source, self.table), frozenset()).issuperset(
            self.columns
        )

    def as_text(self) -> str:
        """As the state keeps it."""
        return json.dumps([self.source, self.table, self.columns], ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Place:
        """What :meth:`as_text` has made."""
        source, table, columns = json.loads(text)
        return cls(source, tuple(table), tuple(columns))


def place_of(job: Job) -> Place | None:
    """Where a job reads; None: nowhere."""
    if not job.table:
        return None
    ways = (c for c in (job.stamp, job.number) if c is not None)
    return Place(job.origin, job.table, (*(b.column for b in job.items), *ways))
