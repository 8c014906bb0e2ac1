# SPDX-License-Identifier: Apache-2.0
"""An iterator that is one item ahead."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest

from connectors.ahead import ahead

PATIENCE_S = 60.0


class Source:
    """Numbers; knows how many were asked for, and where."""

    def __init__(self, most: int, fault: Exception | None = None) -> None:
        self.most, self.fault = most, fault
        self.threads: set[int] = set()
        self.asked = 0
        self.two = threading.Event()
        self.closed = False

    def items(self) -> Generator[int, None, None]:
        try:
            for i in range(self.most):
                self.threads.add(threading.get_ident())
                self.asked += 1
                if self.asked == 2:
                    self.two.set()
                yield i
            if self.fault is not None:
                raise self.fault
        finally:
            self.closed = True


def test_items_come_in_order_from_another_thread() -> None:
    """All of them, each once."""
    source = Source(100)
    assert list(ahead(source.items())) == list(range(100))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


def test_the_next_item_is_made_while_one_is_used() -> None:
    """And no further one: memory stays bounded."""
    source = Source(100)
    with closing(ahead(source.items())) as found:
        assert source.asked == 0
        assert next(found) == 0
        assert source.two.wait(PATIENCE_S)
    assert source.asked == 2


def test_an_error_comes_where_its_item_would_have_come() -> None:
    """What was made before it is given out first."""
    found = ahead(Source(3, ValueError("late")).items())
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="late"):
        next(found)


def test_leaving_closes_the_source() -> None:
    """Also one that has given no item yet, and one that was read to its end."""
    for taken in (1, 5):
        source = Source(5)
        with closing(ahead(source.items())) as found:
            for _ in range(taken):
                next(found)
        assert source.closed


def test_a_read_that_was_forgotten_is_collected_anywhere() -> None:
    """Also by who holds the lock that ``Thread.join`` takes (up to Python 3.12)."""
    found = ahead(Source(3).items())
    assert next(found) == 0
    lock = getattr(threading, "_shutdown_locks_lock", threading.Lock())

    def collected() -> None:
        with lock:
            found.close()

    thread = threading.Thread(target=collected, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_a_read_is_collected_within_a_step_of_its_own() -> None:
    """The thread that makes the next item cannot wait for that item."""
    go, through, closed = (threading.Event() for _ in range(3))

    def items(forgotten: list[object]) -> Generator[int, None, None]:
        try:
            yield 1
            go.wait(PATIENCE_S)
            found = forgotten.pop()
            assert isinstance(found, Generator)
            found.close()
            through.set()
            yield 2
        finally:
            closed.set()

    box: list[object] = []
    found = ahead(items(box))
    assert next(found) == 1
    box.append(found)
    del found
    go.set()
    assert through.wait(PATIENCE_S)
    assert closed.wait(PATIENCE_S)
