# SPDX-License-Identifier: Apache-2.0
"""What a child tells a connector, and what it makes of a connector's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.errors import (
    FrontierLost,
    SourceFailed,
    SourceFault,
    SourceLogin,
    SourceMissing,
    SourceRight,
    SourceText,
    SourceTimeout,
    SourceTypeChanged,
    SourceUnreachable,
)
from connectors.contract import ColumnSpec, Kind, SourceError, StreamSpec
from connectors.contract import FrontierLost as Lost

if TYPE_CHECKING:
    from agent.model.job import BoundItem

FAULTS: dict[Kind, type[SourceFault]] = {
    "unreachable": SourceUnreachable,
    "login": SourceLogin,
    "right": SourceRight,
    "missing": SourceMissing,
    "type": SourceTypeChanged,
    "text": SourceText,
    "timeout": SourceTimeout,
    "failed": SourceFailed,
}
"""What a connector reports -> what the agent raises."""


def stream_of(
    table: tuple[str, ...],
    items: tuple[BoundItem, ...],
    stamp: str | None = None,
    number: str | None = None,
) -> StreamSpec:
    """What a connector must know of a job: columns, not items."""
    columns = (
        ColumnSpec(b.column, b.item.type.value, _length(b), b.item.scale, b.item.key)
        for b in items
    )
    return StreamSpec(table, tuple(columns), stamp, number)


def _length(bound: BoundItem) -> int | None:
    """Characters at the source: up to four of Latin-1 stand for one that was meant."""
    length = bound.item.length
    return length * 4 if length is not None and bound.encoding else length


@contextmanager
def source_faults() -> Iterator[None]:
    """Translate the errors of a connector, also those raised while iterating.

    Raises:
        FrontierLost: an increment cannot go on; its detail begins with the reason.
        SourceFault: the class of :data:`FAULTS` for any other SourceError.
    """
    try:
        yield
    except Lost as e:
        raise FrontierLost(e.detail) from None
    except SourceError as e:
        timed_out = "statement timeout: " if e.kind == "timeout" else ""
        raise FAULTS.get(e.kind, SourceFailed)(timed_out + e.detail) from None
