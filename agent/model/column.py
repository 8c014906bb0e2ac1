# SPDX-License-Identifier: Apache-2.0
"""A column of a source as it was when a run began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        name: as in the source.
        native: its type there, for people, such as ``varchar(20)``.
        type: letter of the item type that fits.
        length: of the item that fits, or None.
        scale: of it, or None.
        nullable: it may be empty.
        key: it belongs to the primary key.
    """

    name: str
    native: str
    type: str
    length: int | None
    scale: int | None
    nullable: bool
    key: bool
