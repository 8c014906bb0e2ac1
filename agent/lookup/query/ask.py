# SPDX-License-Identifier: Apache-2.0
"""What is asked of a source, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeAlias

from agent.model.job import BoundItem


class Odd(Enum):
    """What is neither a value nor a row."""

    BAD = "bad"
    TWICE = "twice"


BAD: Final = Odd.BAD
"""In place of a value that its item cannot carry: a push would withhold the row."""
TWICE: Final = Odd.TWICE
"""In place of a row: the key is not unique."""

Value: TypeAlias = str | Literal[Odd.BAD] | None
"""Canonical text as lookups have it (wire.md §4), or NULL."""

Row: TypeAlias = tuple[Value, ...]
"""A value for each item of the question, in its order."""


@dataclass(frozen=True)
class Ask:
    """Rows of a table by exact keys.

    Args:
        source: name of the source in the settings.
        table: schema-qualified name, outermost first.
        items: what to answer, with their columns; all of ``key_items`` among them.
        key_items: names of the items that are compared.
        keys: at least one and at most 1,000; canonical texts in the order of
            ``key_items``. Never logged.
    """

    source: str
    table: tuple[str, ...]
    items: tuple[BoundItem, ...]
    key_items: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What was found.

    Args:
        rows: for each key its row, None if there is none, or :data:`TWICE`.
        as_of: the source's clock just before the rows were read, wire grammar; the
            earliest if it took several statements.
    """

    rows: tuple[Row | Literal[Odd.TWICE] | None, ...] = field(repr=False)
    as_of: str
