# SPDX-License-Identifier: Apache-2.0
"""An iterator that is one item ahead: the next one is made while this one is used.

Rules

1. At most one item waits, and nothing runs before the first one is asked for.
2. Leaving the iterator waits until the source has given what it was asked for, and
   closes it.
3. The collector may be who leaves it, in any thread and between any two steps, also
   inside the locks of ``threading``. So nothing here joins a thread, or takes a lock
   that others may hold: a queue of C says when the other side is done.
"""

from __future__ import annotations

from collections.abc import Generator
from queue import SimpleQueue
from threading import Thread, get_ident
from typing import Generic, TypeVar

T = TypeVar("T")


class _Maker(Generic[T]):
    """Takes steps of a source in a thread of its own."""

    def __init__(self, source: Generator[T, None, None]) -> None:
        self._source = source
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._given: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
        self._waits = False
        self._thread = Thread(target=self._go, name="ahead", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Begin the next step."""
        self._waits = True
        self._asked.put(True)

    def take(self) -> T | None:
        """What that step gave; None after the last one. Its error is raised."""
        item, error = self._given.get()
        self._waits = False
        try:
            if error is not None:
                raise error
            return item
        finally:
            del error  # it refers to this frame, which must not refer to it

    def end(self) -> None:
        """Take no other step, and wait until the source is closed.

        Within a step of its own, which the collector may interrupt, nobody can wait.
        """
        self._asked.put(False)
        if get_ident() == self._thread.ident:
            return
        if self._waits:
            self._given.get()
        _, error = self._given.get()
        if error is not None:
            raise error

    def _go(self) -> None:
        while self._asked.get():
            self._given.put(self._step())
        try:
            self._source.close()
        except BaseException as e:  # noqa: BLE001 - raised where it was left
            self._given.put((None, e))
        else:
            self._given.put((None, None))

    def _step(self) -> tuple[T | None, BaseException | None]:
        try:
            return next(self._source, None), None
        except BaseException as e:  # noqa: BLE001 - raised where the item would come
            return None, e


def ahead(source: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items in order; ``source`` runs in a thread of its own.

    An error of the source is raised where its item would have come.

    Args:
        source: used by nobody else from now on.
    """
    maker = _Maker(source)
    try:
        maker.ask()
        while (item := maker.take()) is not None:
            maker.ask()
            yield item
            del item  # it is not kept while the next one is awaited
    finally:
        maker.end()
