# SPDX-License-Identifier: Apache-2.0
"""What is asked of a source, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal, TypeAlias

from agent.model.job import BoundItem

MOST_KEYS = 1000
"""Most keys of an ask, and of a statement."""


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

    def __post_init__(self) -> None:
        """Refuse what no request can hold.

        Raises:
            ValueError: no key or too many, or keys of another width.
        """
        if not 1 <= len(self.keys) <= MOST_KEYS:
            raise ValueError(f"expected 1 to {MOST_KEYS} keys, got {len(self.keys)}")
        width = len(self.key_items)
        if not width or any(len(key) != width for key in self.keys):
            raise ValueError(f"expected keys of {width} texts, at least one")


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
