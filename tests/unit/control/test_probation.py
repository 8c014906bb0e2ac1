# SPDX-License-Identifier: Apache-2.0
"""Which configuration is tried, and whether it stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.probation import (
    Choice,
    Died,
    Failed,
    Failure,
    Gates,
    Good,
    Happening,
    Lost,
    Passed,
    Revert,
    Rules,
    Sent,
    Stand,
    Taken,
    Trial,
    Verdict,
    Wish,
    choose,
    step,
)
from tests.support.tries import tries

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LATER, EARLIER = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
OPEN = Gates(held_until=None, opens=EARLIER, halted=frozenset())
RULES = Rules()
ONE, TWO = "101001/000001", "101001/000002"
NEW = Trial(7, "b", watched=frozenset({ONE, TWO}), awaited=frozenset({ONE}))


def failed(generation: int, digest: str) -> Failure:
    return Failure(generation, digest, "source-timeout", "", "2026-11-23T07:00:00Z")


@pytest.mark.parametrize(
    ("wish", "stand", "gates", "expected"),
    [
        (Wish(7, "b"), Stand("a", 6), OPEN, "try"),
        (Wish(7, "b"), Stand(None, 0), OPEN, "try"),
        (Wish(6, "a"), Stand("a", 6), OPEN, "same"),
        (Wish(5, "b"), Stand("a", 6), OPEN, "older"),
        (Wish(5, "a"), Stand("a", 6), OPEN, "older"),
        (Wish(7, "b"), Stand("a", 7, failed(7, "b")), OPEN, "failed"),
        (Wish(8, "b"), Stand("a", 7, failed(7, "b")), OPEN, "try"),
        (Wish(7, "c"), Stand("a", 7, failed(7, "b")), OPEN, "try"),
        (Wish(7, "b"), Stand("a", 6), Gates(None, EARLIER, frozenset({7})), "halted"),
        (Wish(7, "b"), Stand("a", 6), Gates(None, EARLIER, frozenset({8})), "try"),
        (Wish(7, "b"), Stand("a", 6), Gates(None, LATER, frozenset()), "waits"),
        (Wish(7, "b"), Stand("a", 6), Gates(None, None, frozenset()), "waits"),
        (Wish(7, "b"), Stand("a", 6), Gates(LATER, EARLIER, frozenset()), "held"),
        (Wish(7, "b"), Stand("a", 6), Gates(EARLIER, EARLIER, frozenset()), "try"),
    ],
)
def test_wish_is_tried_only_where_nothing_stands_against_it(
    wish: Wish, stand: Stand, gates: Gates, expected: Choice
) -> None:
    """The floor, what failed, the brake, the ring and a person's hold."""
    assert choose(wish, stand, gates, NOW) == expected


def test_halted_generation_is_not_brought_in_by_a_younger_document() -> None:
    """A group's halted document stays out though the node's own one is newer."""
    wish = Wish(9, "b", frozenset({7, 9}))
    gates = Gates(None, EARLIER, frozenset({7}))
    assert choose(wish, Stand("a", 6), gates, NOW) == "halted"


def told(trial: Trial, *happened: Happening) -> tuple[Trial, Verdict]:
    """All of it, up to the first verdict."""
    verdict: Verdict = None
    for one in happened:
        trial, verdict = step(trial, one, RULES)
        if verdict is not None:
            break
    return trial, verdict


def test_probation_ends_well_with_time_streams_and_a_heartbeat() -> None:
    """Any one of the three missing, it goes on."""
    whole = (Sent(ONE), Taken(), Passed(600.0))
    assert told(NEW, *whole)[1] == Good()
    for left_out in whole:
        rest = [one for one in whole if one is not left_out]
        assert told(NEW, *rest)[1] is None


def test_stream_whose_window_is_shut_puts_the_end_off() -> None:
    """A day later it has sent nothing and failed nothing: still on probation."""
    trial, verdict = told(NEW, Taken(), Passed(86_400.0))
    assert verdict is None
    assert trial.waits_for == {ONE}
    assert told(trial, Sent(ONE))[1] == Good()


def test_stream_that_fails_twice_reverts() -> None:
    """The same run told twice is one failure; another run is another."""
    first = Failed(ONE, "r1", "source-timeout", "expected 1 s")
    trial, verdict = told(NEW, first, first)
    assert verdict is None
    _, verdict = told(trial, Failed(ONE, "r2", "source-timeout", "expected 1 s"))
    assert verdict == Revert("source-timeout", f"{ONE}: expected 1 s")


def test_failure_that_nobody_repeats_reverts_at_the_end() -> None:
    """What waits for a person does not wait for ever."""
    once = Failed(TWO, "r1", "batch-rejected", "rows")
    trial, verdict = told(NEW, once, Sent(ONE), Taken(), Passed(599.0))
    assert verdict is None
    assert told(trial, Passed(1.0))[1] == Revert("batch-rejected", f"{TWO}: rows")


def test_failure_that_mended_itself_is_forgiven() -> None:
    """It sent after all."""
    once = Failed(ONE, "r1", "source-timeout", "")
    assert told(NEW, once, Sent(ONE), Taken(), Passed(600.0))[1] == Good()


def test_stream_that_did_not_work_before_proves_nothing() -> None:
    """It was broken already: the new configuration is not to blame."""
    other = [Failed("101001/000009", f"r{n}", "source-failed", "") for n in range(9)]
    assert told(NEW, *other, Sent(ONE), Taken(), Passed(600.0))[1] == Good()


def test_lost_heartbeats_revert_only_while_the_old_address_answers() -> None:
    """Both away: the line is cut, and no time passes; one answers: it is bad."""
    cut = Lost("exchange-unreachable", "refused", old=False)
    trial, verdict = told(NEW, Sent(ONE), *[cut] * 50, Passed(9e9))
    assert (verdict, trial.passed_s) == (None, 0.0)
    bad = Lost("exchange-unreachable", "refused", old=True)
    _, verdict = told(trial, bad, bad, bad)
    said = "heartbeat: refused; the old address answers"
    assert verdict == Revert("exchange-unreachable", said)
    assert told(trial, bad, bad, Taken(), bad, bad)[1] is None


def test_third_death_reverts() -> None:
    """Two may be anything."""
    assert told(NEW, Died(), Died())[1] is None
    assert told(NEW, Died(), Died(), Died())[1] == Revert(
        "daemon-died", "the daemon died 3 times"
    )


STREAMS = st.sampled_from([ONE, TWO, "101001/000009"])
HAPPENINGS = st.one_of(
    st.builds(Sent, STREAMS),
    st.builds(
        Failed, STREAMS, st.sampled_from(["r1", "r2"]), st.just("x"), st.just("")
    ),
    st.just(Taken()),
    st.builds(Lost, st.just("away"), st.just(""), st.booleans()),
    st.just(Died()),
    st.builds(Passed, st.floats(0, 900)),
)


@tries(300)
@given(st.lists(HAPPENINGS, max_size=30))
def test_whatever_happens_good_means_proven_and_a_verdict_has_its_reason(
    happened: list[Happening],
) -> None:
    """Good: time, streams, heartbeat, no failure left. Revert: something failed."""
    trial, verdict = told(NEW, *happened)
    match verdict:
        case Good():
            assert trial.passed_s >= RULES.length_s
            assert trial.taken
            assert not trial.waits_for
            assert not trial.failures
            assert not trial.dark
        case Revert(reason, _):
            seen = [h for h in happened if isinstance(h, Failed | Lost | Died)]
            assert reason in {"x", "away", "daemon-died"}
            assert seen
    assert trial.sent <= trial.awaited
    assert trial.failures.keys() <= trial.watched


@tries(200)
@given(st.lists(HAPPENINGS, max_size=20))
def test_from_wherever_it_stands_it_can_end(happened: list[Happening]) -> None:
    """No state is a trap: when all is well at last, it ends well."""
    trial, verdict = told(NEW, *happened)
    if verdict is None:
        end = told(trial, Sent(ONE), Sent(TWO), Taken(), Passed(600.0))
        assert end[1] == Good()
