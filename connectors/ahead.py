# SPDX-License-Identifier: Apache-2.0
"""An iterator that is one item ahead: the next one is made while this one is used."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items in order; ``source`` runs in a thread of its own.

    At most one item waits, and nothing runs before the first one is asked for. An
    error of the source is raised where its item would have come. Leaving the iterator
    waits until the source has given what it was asked for, and closes it.

    Args:
        source: used by nobody else from now on.
    """
    with closing(source), ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, source, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, source, None)
            yield item
            del item  # it is not kept while the next one is awaited
