# SPDX-License-Identifier: Apache-2.0
"""How many come in: bounds before cryptography."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from agent.lookup.intake import PEERS, TOKEN_BYTES, Bounds, Crowded, Turnstile


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_no_more_than_so_many_at_a_time() -> None:
    """The next is told that everybody is in; leaving makes room."""
    turnstile = Turnstile(Bounds(in_flight=2), clock=Clock())
    with ExitStack() as inside:
        inside.enter_context(turnstile.entered("a"))
        inside.enter_context(turnstile.entered("b"))
        with pytest.raises(Crowded) as caught, turnstile.entered("c"):
            pass
        assert not caught.value.one_peer
        assert turnstile.inside == 2
    assert turnstile.inside == 0
    with turnstile.entered("c"):
        pass


def test_a_consumer_has_a_share() -> None:
    """Its own bound is told as its own."""
    turnstile = Turnstile(Bounds(in_flight=8, peer_in_flight=1), clock=Clock())
    with turnstile.entered("a"):
        with pytest.raises(Crowded) as caught, turnstile.entered("a"):
            pass
        assert caught.value.one_peer
        with turnstile.entered("b"):
            pass


def test_a_consumer_has_a_pace() -> None:
    """A second's worth at once, then as fast as the clock gives tokens."""
    clock = Clock()
    turnstile = Turnstile(Bounds(peer_per_s=10), clock=clock)

    def enter() -> bool:
        try:
            with turnstile.entered("a"):
                return True
        except Crowded:
            return False

    assert sum(enter() for _ in range(20)) == 10
    clock.at += 0.5
    assert sum(enter() for _ in range(20)) == 5
    clock.at += 3600
    assert sum(enter() for _ in range(20)) == 10


def test_names_that_nobody_has_fill_no_memory() -> None:
    """Who was away longest is forgotten, never one who is inside."""
    turnstile = Turnstile(Bounds(), clock=Clock())
    with turnstile.entered("first"):
        for n in range(PEERS * 2):
            with turnstile.entered(f"n{n}"):
                pass
        assert len(turnstile._peers) == PEERS
        assert "first" in turnstile._peers


def test_what_is_long_counts_as_several() -> None:
    """Bytes are what fills a disk; the longest that there is can still come in."""
    clock = Clock()
    turnstile = Turnstile(Bounds(peer_per_s=10), clock=clock)

    def enter(size: int) -> bool:
        try:
            with turnstile.entered("a", size):
                return True
        except Crowded:
            return False

    assert [enter(4 * TOKEN_BYTES) for _ in range(3)] == [True, True, False]
    clock.at += 0.9
    assert not enter(1024 * 1024)
    clock.at += 0.1
    assert enter(1024 * 1024)
    assert not enter(0)
