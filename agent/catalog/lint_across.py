# SPDX-License-Identifier: Apache-2.0
"""What two resource documents say against each other; see ``lint`` for one alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

from agent.catalog.document import Binding, Resource
from agent.catalog.finding import Finding, warning


def lint_across(
    resources: Sequence[Resource],
) -> tuple[tuple[Resource, Finding], ...]:
    """Columns that one document shares and another keeps back (辽9).

    Only a warning: the gate goes by each document alone, and a person has to say which
    of the two is right. It stands with the document that shares.
    """
    return tuple(
        (giver, finding)
        for giver, keeper in permutations(resources, 2)
        for finding in _contradictions(giver, keeper)
    )


def _contradictions(giver: Resource, keeper: Resource) -> Iterator[Finding]:
    """Columns of one table that ``giver`` shares and ``keeper`` does not."""
    if giver.binding is None or keeper.binding is None:
        return
    if not _same_table(giver.binding, keeper.binding):
        return
    shared = keeper.shared_items()
    kept = {keeper.column(i).casefold() for i in keeper.items if i not in shared}
    table = ".".join(giver.binding.table)
    for item in giver.shared_items():
        column = giver.column(item)
        if column.casefold() in kept:
            yield warning(
                f"binding.columns.{item.name}",
                "辽9",
                f"{giver.code} shares column {column} of {table}, which {keeper.code}"
                " withholds as not shared",
                f"{giver.code} 共享了 {table} 的列 {column}，而 {keeper.code}"
                " 将其列为不予共享",
            )


def _same_table(one: Binding, other: Binding) -> bool:
    """Whether two names may mean one table: without case, outer parts may be left out.

    ``person`` and ``public.PERSON`` are taken for the same.
    """
    a = [part.casefold() for part in one.table]
    b = [part.casefold() for part in other.table]
    parts = min(len(a), len(b))
    return one.source == other.source and a[-parts:] == b[-parts:]
