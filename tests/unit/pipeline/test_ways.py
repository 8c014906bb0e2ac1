# SPDX-License-Identifier: Apache-2.0
"""Which address of the exchange is asked, and when one that failed is tried again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from agent.errors import ExchangeRefused, ExchangeUnreachable
from agent.pipeline.uplink.ways import PROBE_S, Shift, Ways

A, B = "https://a.example:8443", "https://b.example:8443"
C = "https://c.example:8443"


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def ways(clock: Clock, *urls: str) -> tuple[Ways, list[Shift]]:
    found = Ways(urls or (A,), clock=clock, base_s=5.0)
    heard: list[Shift] = []
    found.listen(heard.append)
    return found, heard


def fail(found: Ways, clock: Clock, times: int) -> None:
    """So many requests fail, one after the other."""
    for _ in range(times):
        way, began = found.choose(), clock.now
        clock.now += 1
        found.failed(way, began=began)


def test_an_only_address_is_left_alone_after_five_failures() -> None:
    """The next request is not made; who asks is told when to come again."""
    clock = Clock()
    found, heard = ways(clock)
    fail(found, clock, 5)
    with pytest.raises(ExchangeUnreachable) as caught:
        found.choose()
    assert caught.value.retry_after == 5.0
    assert heard == []


def test_who_is_not_let_through_learns_what_was_wrong() -> None:
    """An exchange that answers 500 is not told as a line that is down."""
    clock = Clock()
    found, _ = ways(clock)
    refused = ExchangeRefused("got 500", problem="http-500")
    for _ in range(5):
        way, began = found.choose(), clock.now
        clock.now += 1
        found.failed(way, began=began, why=refused)
    with pytest.raises(ExchangeUnreachable) as caught:
        found.choose()
    assert caught.value.__cause__ is refused


def test_one_request_tries_a_circuit_that_was_open() -> None:
    """Others wait for what becomes of it; if it is answered, all go on."""
    clock = Clock()
    found, heard = ways(clock)
    fail(found, clock, 5)
    clock.now += 5
    way = found.choose()
    with pytest.raises(ExchangeUnreachable):
        found.choose()
    found.succeeded(way)
    assert found.choose() == 0
    assert heard == [Shift("back", A)]


def test_a_try_of_which_nothing_is_heard_does_not_close_the_way_for_ever() -> None:
    """Its task was cancelled; another one may try later."""
    clock = Clock()
    found, _ = ways(clock)
    fail(found, clock, 5)
    clock.now += 5
    found.choose()
    clock.now += PROBE_S
    assert found.choose() == 0


def test_waits_double_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    clock = Clock()
    found, _ = ways(clock)
    fail(found, clock, 5)
    waits = []
    for _ in range(6):
        with pytest.raises(ExchangeUnreachable) as caught:
            found.choose()
        assert caught.value.retry_after is not None
        waits.append(caught.value.retry_after)
        clock.now += caught.value.retry_after
        fail(found, clock, 1)
    assert waits == [5, 10, 20, 40, 60, 60]


def test_a_cut_that_breaks_ten_requests_counts_once() -> None:
    """They had all begun before the first of them failed."""
    clock = Clock()
    found, _ = ways(clock)
    clock.now = 1.0
    for _ in range(10):
        found.failed(0, began=0.5)
        clock.now += 0.001
    assert found.choose() == 0


def test_any_answer_begins_the_count_anew() -> None:
    """A line that is cut every few seconds is in use all the time."""
    clock = Clock()
    found, heard = ways(clock)
    for _ in range(20):
        fail(found, clock, 4)
        found.succeeded(found.choose())
    assert heard == []


def test_the_next_address_is_used_while_the_first_one_fails() -> None:
    """After two failures; and it is told."""
    clock = Clock()
    found, heard = ways(clock, A, B)
    fail(found, clock, 2)
    assert found.choose() == 1
    found.succeeded(1)
    assert heard == [Shift("failover", B)]
    assert (found.used, found.choose()) == (1, 1)


def test_the_first_address_is_used_again_once_it_answers() -> None:
    """One request tries it when its circuit may be tried; the others do not wait."""
    clock = Clock()
    found, heard = ways(clock, A, B)
    fail(found, clock, 2)
    found.succeeded(found.choose())
    clock.now += 5
    assert found.choose() == 0
    assert found.choose() == 1
    found.succeeded(0)
    assert heard == [Shift("failover", B), Shift("return", A)]
    assert found.choose() == 0


def test_when_all_fail_the_soonest_counts() -> None:
    """Nobody is asked; the wait is that of the address that may be tried first."""
    clock = Clock()
    found, _ = ways(clock, A, B)
    fail(found, clock, 4)
    with pytest.raises(ExchangeUnreachable) as caught:
        found.choose()
    assert caught.value.retry_after == 3.0  # the first one has failed 2 s earlier


def test_who_listens_no_more_is_told_nothing() -> None:
    """A channel that has ended."""
    clock = Clock()
    found, heard = ways(clock, A, B)
    found.unlisten(heard.append)
    fail(found, clock, 2)
    found.succeeded(1)
    assert heard == []


def test_address_that_stays_keeps_its_number_and_its_circuit() -> None:
    """Nobody is sent to an address that was found broken a moment ago."""
    clock = Clock()
    found, heard = ways(clock, A, B)
    fail(found, clock, 2)
    found.succeeded(found.choose())
    found.use((A, B, C))
    assert [str(found.url(way)) for way in (0, 1, 2)] == [A, B, C]
    assert found.choose() == found.used == 1
    assert [shift.what for shift in heard] == ["failover"]


def test_address_that_goes_is_asked_no_more_and_judged_no_more() -> None:
    """What is under way there may end there; its end moves nothing."""
    clock = Clock()
    found, heard = ways(clock, A)
    under_way = found.choose()
    found.use((B,))
    assert heard == [Shift("moved", B)]
    assert str(found.url(under_way)) == A
    assert found.behind(under_way)
    new = found.choose()
    assert str(found.url(new)) == B
    for _ in range(9):
        found.failed(under_way, began=clock.now)
    found.succeeded(under_way)
    assert found.choose() == found.used == new
    assert not found.behind(new)
    assert len(heard) == 1


def test_address_that_comes_first_is_used_once_it_answers() -> None:
    """The old one goes on until then."""
    clock = Clock()
    found, heard = ways(clock, A)
    found.use((B, A))
    assert found.used == 0
    found.succeeded(found.choose())
    assert str(found.url(found.used)) == B
    assert heard == [Shift("return", B)]
    found.use((A,))
    assert heard[-1] == Shift("moved", A)


def test_addresses_that_come_and_go_are_forgotten_in_the_end() -> None:
    """A centre that changes its mind every minute costs no memory."""
    found, _ = ways(Clock(), A)
    for n in range(500):
        found.use((f"https://{n}.example",))
    with pytest.raises(KeyError):
        found.url(0)
    assert str(found.url(found.choose())) == "https://499.example"
