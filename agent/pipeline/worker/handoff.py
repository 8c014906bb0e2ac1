# SPDX-License-Identifier: Apache-2.0
"""A bounded queue between two threads that cannot mistake a failure for the end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The other side has given up; what it failed of is its own exception."""


class Handoff(Generic[T]):
    """Items in order from one thread to another, at most ``room`` waiting.

    Args:
        room: items that may wait before the giver is held back.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._stopped = False

    def feed(self, source: Generator[T, None, None]) -> None:
        """Give every item of ``source``; run by the giving thread.

        Raises:
            Stopped: the taker gave up.
        """
        try:
            with closing(source):
                for item in source:
                    self.put(item)
                    del item  # it is not kept while the next one is made
            with self._changed:
                self._complete = True
                self._changed.notify_all()
        finally:
            if not self._complete:
                self.stop()

    def __iter__(self) -> Iterator[T]:
        """Take items until the giver has given all.

        Raises:
            Stopped: the giver failed; no item after that is given out.
        """
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._items or self._complete or self._stopped
                )
                if self._stopped:
                    raise Stopped
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item

    def stop(self) -> None:
        """Give up: both sides get :class:`Stopped` at their next step."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def put(self, item: T) -> None:
        """Give one item.

        Raises:
            Stopped: the taker gave up.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._items) < self._room or self._stopped
            )
            if self._stopped:
                raise Stopped
            self._items.append(item)
            self._changed.notify_all()
