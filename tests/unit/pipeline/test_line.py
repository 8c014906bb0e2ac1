# SPDX-License-Identifier: Apache-2.0
"""How fast uploads go: what is learnt of a line, and who gives way on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from agent.pipeline.uplink.line import (
    FAST,
    FRESH_S,
    PIECE_CAP,
    PIECE_MIN,
    PIECE_S,
    SLICE_CAP,
    SLOWEST,
    Line,
    Rate,
    Sample,
)

MBIT_10 = 1_250_000.0


@dataclass
class Modem:
    """A line with one queue, and a client that feeds it as fast as it is told.

    Args:
        carries: bytes a second.
        delay_s: from the last byte to the answer when nothing is queued.
    """

    carries: float
    delay_s: float = 0.03
    rate: Rate = field(default_factory=Rate)
    now: float = 0.0
    queue_s: float = 0.0
    worst_s: float = 0.0

    def piece(self) -> None:
        """Send one piece and tell the rate how it went."""
        known = self.rate.bytes_s
        fed_s = 0.0
        size = PIECE_MIN
        if self.rate.paced and known is not None:
            size = max(PIECE_MIN, int(known * PIECE_S))
            fed_s = size / known
        began = self.now
        self.queue_s = max(0.0, self.queue_s + size / self.carries - fed_s)
        fed = began + fed_s
        ended = fed + self.queue_s + self.delay_s
        self.worst_s = max(self.worst_s, self.queue_s)
        still_s = self.rate.learn(Sample(size, began, fed, ended), active=1, free=True)
        self.queue_s = 0.0  # the answer was waited for, so the queue has drained
        self.now = ended + still_s


@pytest.mark.parametrize("carries", [40_000.0, 250_000.0, MBIT_10, 3_000_000.0])
def test_uploads_use_a_slow_line_and_queue_little_on_it(carries: float) -> None:
    """After a minute they use most of it, and delay others by less than 150 ms."""
    modem = Modem(carries)
    while modem.now < 60:
        modem.piece()
    modem.worst_s = 0.0
    for _ in range(40):
        modem.piece()
        assert modem.rate.paced
        assert modem.rate.bytes_s is not None
        assert modem.rate.bytes_s > 0.75 * carries
    assert modem.worst_s < 0.15


def test_a_fast_line_is_not_paced() -> None:
    """TCP does that; a megabyte is gone in no time."""
    modem = Modem(40_000_000.0, delay_s=0.0)
    for _ in range(20):
        modem.piece()
    assert not modem.rate.paced


def test_a_line_that_gets_slower_is_noticed_at_once() -> None:
    """10 Mbit/s become 1: three pieces later uploads are slow enough."""
    modem = Modem(MBIT_10)
    while modem.now < 60:
        modem.piece()
    modem.carries = MBIT_10 / 10
    for _ in range(6):
        modem.piece()
    assert modem.rate.bytes_s is not None
    assert modem.rate.bytes_s < 1.2 * modem.carries


def test_a_line_that_gets_faster_is_used_again() -> None:
    """1 Mbit/s become 10: within two minutes most of it is used."""
    modem = Modem(MBIT_10 / 10)
    while modem.now < 30:
        modem.piece()
    modem.carries, until = MBIT_10, modem.now + 120
    while modem.now < until:
        modem.piece()
    assert modem.rate.bytes_s is not None
    assert modem.rate.bytes_s > 0.7 * MBIT_10


def test_one_late_answer_costs_little() -> None:
    """A server that was busy once is no narrow line: it is measured anew."""
    modem = Modem(MBIT_10)
    while modem.now < 60:
        modem.piece()
    before = modem.rate.bytes_s
    modem.delay_s = 0.5
    modem.piece()
    modem.delay_s = 0.03
    modem.piece()
    assert before is not None
    assert modem.rate.bytes_s is not None
    assert modem.rate.bytes_s > 0.65 * before


@pytest.mark.parametrize("of_three", [1, 2])
def test_answers_of_a_busy_machine_do_not_starve_uploads(of_three: int) -> None:
    """One or two of three are late by a fifth of a second, for ten minutes."""
    modem = Modem(MBIT_10)
    while modem.now < 60:
        modem.piece()
    number = 0
    while modem.now < 660:
        number += 1
        modem.delay_s = 0.23 if number % 3 < of_three else 0.03
        modem.piece()
        rate = modem.rate.bytes_s
        assert rate is None or rate > 0.3 * MBIT_10  # None: it is measured anew


def test_the_rate_never_falls_below_what_counts_as_cut() -> None:
    """Else it could never learn that the line is back."""
    modem = Modem(1000.0)
    for _ in range(20):
        modem.piece()
        assert modem.rate.bytes_s is not None
        assert modem.rate.bytes_s >= SLOWEST


# --- whose turn it is -----------------------------------------------------------------


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def line(clock: Clock, ceiling: float | None = None) -> Line:
    return Line(clock=clock, sleep=clock.sleep, ceiling=lambda: ceiling)


def taught(clock: Clock, rate: float, ceiling: float | None = None) -> Line:
    """A line that has learnt to be paced at about nine tenths of a rate."""
    found = line(clock, ceiling)
    ended = clock.now
    found.learn(Sample(PIECE_MIN, ended - PIECE_MIN / rate, ended, ended))
    return found


async def test_a_line_that_nothing_is_known_of_holds_nobody_back() -> None:
    """The first piece goes as fast as it can."""
    clock = Clock()
    found = line(clock)
    await found.let(PIECE_CAP)
    assert clock.slept == []
    assert found.piece() == PIECE_MIN


async def test_a_file_begins_small_unless_the_line_was_fast_just_now() -> None:
    """Else a line that has grown slow would be told of by nothing."""
    clock = Clock()
    slow, fast = taught(clock, FAST / 8), taught(clock, 8 * FAST)
    assert (line(clock).first(), slow.first()) == (PIECE_MIN, PIECE_MIN)
    assert fast.first() == PIECE_CAP

    clock.now += FRESH_S
    assert fast.first() == PIECE_MIN


async def test_uploads_keep_to_what_was_learnt() -> None:
    """A second's worth takes a second."""
    clock = Clock()
    found = taught(clock, 1_000_000.0)
    began = clock.now
    for _ in range(90):
        await found.let(10_000)
    assert clock.now - began == pytest.approx(1.0, abs=0.1)


async def test_uploads_give_way_while_a_lookup_is_in_flight() -> None:
    """They go at a quarter, and at full speed once it is answered."""
    found = taught(Clock(), 1_000_000.0)
    whole = found.bytes_s
    assert whole is not None
    with found.lookup(), found.lookup():
        assert found.bytes_s == whole / 4
    assert found.bytes_s == whole


async def test_a_window_limits_a_fast_line_too() -> None:
    """What the settings allow is never exceeded."""
    clock = Clock()
    found = line(clock, 500_000.0)
    began = clock.now
    for _ in range(100):
        await found.let(found.slice())
    sent = 100 * found.slice()
    assert sent / (clock.now - began) < 1.1 * 500_000
    assert found.piece() == PIECE_MIN


async def test_a_window_does_not_teach_that_the_line_is_slow() -> None:
    """When it ends, uploads go on as before."""
    allowed: list[float | None] = [None]
    clock = Clock()
    found = Line(clock=clock, sleep=clock.sleep, ceiling=lambda: allowed[0])
    found.learn(Sample(PIECE_CAP, 0.0, 0.5, 0.6))
    assert found.bytes_s is None
    allowed[0] = 100_000.0
    assert found.bytes_s == 100_000.0
    found.learn(Sample(PIECE_MIN, 1.0, 1.0 + PIECE_MIN / 1e5, 1.1 + PIECE_MIN / 1e5))
    allowed[0] = None
    assert found.bytes_s is None


def test_pieces_take_a_second_and_a_half_of_their_share() -> None:
    """Between 256 KiB and 8 MiB; four uploads share what there is."""
    clock = Clock()
    found = taught(clock, 3_000_000.0)
    rate = found.bytes_s
    assert rate is not None
    assert found.piece() == int(rate * PIECE_S)
    with found.uploading(), found.uploading(), found.uploading(), found.uploading():
        assert found.piece() == int(rate * PIECE_S / 4)
    fast = line(clock)
    fast.learn(Sample(PIECE_CAP, 0.0, 0.01, 0.02))
    assert fast.piece() == PIECE_CAP
    assert fast.bytes_s is None
    assert PIECE_CAP / 0.02 > FAST


def test_slices_of_a_fast_line_are_the_largest() -> None:
    """Each costs a turn of the loop, so none is smaller than it has to be."""
    found = line(Clock())
    assert found.slice() == SLICE_CAP
    found.learn(Sample(PIECE_CAP, 2.0, 2.01, 2.02))
    assert found.slice() == SLICE_CAP


async def test_uploads_take_turns_on_the_line() -> None:
    """Of two that always want to send, each sends half."""
    clock = Clock()
    found = taught(clock, 200_000.0)
    sent = {"a": 0, "b": 0}

    async def send(name: str) -> None:
        while clock.now < 103:
            await found.let(found.slice())
            sent[name] += 1

    await asyncio.gather(send("a"), send("b"))
    assert abs(sent["a"] - sent["b"]) <= 1
