# SPDX-License-Identifier: Apache-2.0
"""What a batch is called and what it counts (wire.md §2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["full", "incremental", "diff", "cdc", "repair", "unchanged"]
Reason = Literal["first", "restored", "spool_lost", "rejected", "rekeyed"]

ANY_NUMBER = 2**53 - 1
"""Deletes that a person confirmed where nobody here knows how many there will be."""


@dataclass(frozen=True, order=True)
class BatchId:
    """Identity of a batch: no two different manifests of one identity ever leave."""

    producer: str
    aud: str
    resource: str
    epoch: int
    seq: int


@dataclass(frozen=True)
class Rows:
    """Rows of a payload by operation."""

    upsert: int
    delete: int
    keep: int

    def __add__(self, other: Rows) -> Rows:
        """Rows of both."""
        return Rows(
            self.upsert + other.upsert,
            self.delete + other.delete,
            self.keep + other.keep,
        )


@dataclass(frozen=True)
class Quality:
    """Source rows of a batch: read = rows.upsert + quarantined + skipped."""

    read: int
    quarantined: int
    skipped: int

    def __add__(self, other: Quality) -> Quality:
        """Counts of both."""
        return Quality(
            self.read + other.read,
            self.quarantined + other.quarantined,
            self.skipped + other.skipped,
        )
