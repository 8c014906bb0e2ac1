# SPDX-License-Identifier: Apache-2.0
"""Rows that quality withholds, on their way to the quarantine file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """Why a row is withheld, and the item that decided."""

    reason: str
    item: str


@dataclass(frozen=True)
class Withheld:
    """Rows of a page that are not sent.

    Args:
        rows: their places in the page, ascending.
        which: for each of them, its place in ``causes``.
        causes: every cause on this page.
    """

    rows: Sequence[int]
    which: Sequence[int]
    causes: tuple[Cause, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, Cause]]:
        for row, which in zip(self.rows, self.which, strict=True):
            yield row, self.causes[which]
