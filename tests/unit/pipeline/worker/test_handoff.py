# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.pipeline.worker.handoff import Handoff, Stopped


def test_items_arrive_in_order() -> None:
    """Everything that is given is taken, in order, through a queue of one."""
    handoff: Handoff[int] = Handoff(1)
    with ThreadPoolExecutor(1) as threads:
        giving = threads.submit(handoff.feed, (i for i in range(1000)))

        assert list(handoff) == list(range(1000))
        giving.result()


def test_giver_is_held_back() -> None:
    """Without a taker no more is produced than the room and the one in hand."""
    handoff: Handoff[int] = Handoff(2)
    made = []

    def source() -> Generator[int, None, None]:
        for i in range(100):
            made.append(i)
            yield i

    with ThreadPoolExecutor(1) as threads:
        giving = threads.submit(handoff.feed, source())
        taken = next(iter(handoff))
        with handoff._changed:
            handoff._changed.wait_for(lambda: len(handoff._items) == 2)
        while len(made) < 4:
            pass

        assert (taken, made) == (0, [0, 1, 2, 3])
        handoff.stop()
        with pytest.raises(Stopped):
            giving.result()


def test_failure_is_not_the_end() -> None:
    """A giver that fails makes the taker fail, even with items waiting."""
    handoff: Handoff[int] = Handoff(10)

    def source() -> Generator[int, None, None]:
        yield 1
        raise KeyError

    with pytest.raises(KeyError):
        handoff.feed(source())
    with pytest.raises(Stopped):
        list(handoff)


def test_source_is_closed_when_the_taker_gives_up() -> None:
    """The giver's resources are released as soon as the other side stops."""
    handoff: Handoff[int] = Handoff(1)
    closed = []

    def source() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    handoff.stop()
    with pytest.raises(Stopped):
        handoff.feed(source())

    assert closed == [True]


def test_nothing_given_is_an_end_too() -> None:
    """An empty source ends the taker at once."""
    handoff: Handoff[int] = Handoff(1)
    handoff.feed(i for i in range(0))

    assert list(handoff) == []
