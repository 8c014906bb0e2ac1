# SPDX-License-Identifier: Apache-2.0
"""Numbers as the ledger of gaps takes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.pipeline.gaps import Run


def runs_of(numbers: Iterable[int]) -> Iterator[Run]:
    """Consecutive numbers together; they grow."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = number
        elif number > last + 1:
            yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last
