# SPDX-License-Identifier: Apache-2.0
"""What one run has met and offered so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from agent.model.batch import Quality, Rows

if TYPE_CHECKING:
    from agent.model.job import Resume
    from agent.pipeline.pack import Part
    from connectors.contract import Frontier

NO_ROWS, NOTHING_READ = Rows(0, 0, 0), Quality(0, 0, 0)


@dataclass
class Tally:
    """What one run has met so far; written by the reading thread alone."""

    frontier: Frontier | None = None
    tells_changes: bool = False
    read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass
class Sums:
    """The parts that are offered, added up."""

    rows: Rows = NO_ROWS
    quality: Quality = NOTHING_READ
    reasons: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, done: Resume | None) -> Self:
        """Those that an earlier try of the same run has registered."""
        if done is None:
            return cls()
        reasons, warnings = Counter(done.reasons), Counter(done.warnings)
        return cls(done.rows, done.quality, reasons, warnings)

    def add(self, part: Part) -> None:
        """One more."""
        self.rows += part.counts
        self.quality += part.quality
        self.reasons.update(part.reasons)
        self.warnings.update(part.warnings)
