# SPDX-License-Identifier: Apache-2.0
"""Heartbeats: what is read, and what is refused."""

import json
from typing import Any

import pytest

from agent.errors import MalformedMessage
from agent.wire.heartbeat import WORST, answer, parse, refresh_wanted
from tests.support.beats import NODE, beat, body, stuck


def written(**changes: Any) -> bytes:
    return json.dumps(body(NODE, 1, **changes)).encode()


def test_what_is_sent_is_what_is_read() -> None:
    """A beat comes back as it was, with its streams and troubles."""
    found = beat(7, worst=(stuck(),), troubles=("restart-needed",))
    assert parse(found.payload()) == found


def test_beat_without_the_optional_member_is_read() -> None:
    """Another team may name no troubles; members that we do not know are ignored."""
    found = parse(written(colour="red"))
    assert (found.troubles, found.n, found.clock_offset_ms) == ((), 1, None)


def test_clock_that_is_behind_is_a_negative_offset() -> None:
    """Offsets and days may be less than nothing."""
    found = parse(written(clock_offset_ms=-31_536_000_000, certificate_days=-3))
    assert (found.clock_offset_ms, found.certificate_days) == (-31_536_000_000, -3)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"n": 0},
        {"n": 1.5},
        {"iss": "rsj"},
        {"incarnation": "A" * 32},
        {"config": {"desired": None, "running": None, "failed": None, "reason": None}},
        {"streams": {"worst": []}},
        {"spool": {"used": 0, "quota": 0, "free": 0, "blocked": 1}},
        {"troubles": ["Not a code"]},
        {"troubles": ["x"] * (WORST + 1)},
    ],
    ids=str,
)
def test_beat_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    """Each member has its type and bounds."""
    with pytest.raises(MalformedMessage):
        parse(written(**changes))


def test_more_streams_than_the_worst_are_refused() -> None:
    """Nobody fills the exchange with streams."""
    with pytest.raises(MalformedMessage, match="at most 20"):
        beat(worst=tuple(stuck(f"101001/{i:06d}") for i in range(WORST + 1))).payload()


def test_answer_hints_what_to_fetch() -> None:
    """What is hinted is named; an answer of another kind is refused."""
    assert refresh_wanted(answer(("directory",))) == {"directory"}
    assert refresh_wanted(b'{"v":1,"refresh":[],"more":1}') == frozenset()
    for text in (b"", b"[]", b'{"v":1}', b'{"v":1,"refresh":[1]}', b" " * 5000):
        with pytest.raises(MalformedMessage):
            refresh_wanted(text)
