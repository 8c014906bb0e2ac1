# SPDX-License-Identifier: Apache-2.0
"""Frames of the channel."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedMessage
from agent.wire import channel
from agent.wire.channel import Frame
from agent.wire.problem import Problem
from tests.support.tries import tries

FRAMES = [
    Frame("nudge"),
    Frame("req", "1", "a.b.c.d.e"),
    Frame("res", "A-z_9", "a.b.c.d.e"),
    Frame.error("7", Problem.of("no-answer", "nobody")),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f.t)
def test_a_frame_comes_back(frame: Frame):
    """Text and bytes alike."""
    assert channel.parse(frame.format()) == frame
    assert channel.parse(frame.format().encode()) == frame


def test_a_frame_has_only_what_its_kind_has():
    """A nudge is its kind alone; others have id and body."""
    assert FRAMES[0].format() == '{"t":"nudge"}'
    assert FRAMES[1].format() == '{"t":"req","id":"1","body":"a.b.c.d.e"}'


def test_an_error_is_a_problem():
    """Its own status counts; there is no HTTP status beside it."""
    found = channel.parse(FRAMES[3].format()).problem()
    assert (found.code, found.status, found.detail) == ("no-answer", 504, "nobody")
    with pytest.raises(MalformedMessage, match="expected a problem"):
        FRAMES[1].problem()


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"t": "hello"},
        {"t": ["req"]},
        {"t": "nudge", "id": "1"},
        {"t": "nudge", "body": "x"},
        {"t": "req", "id": "1"},
        {"t": "req", "body": "x"},
        {"t": "req", "id": "", "body": "x"},
        {"t": "req", "id": "a b", "body": "x"},
        {"t": "req", "id": "a" * 65, "body": "x"},
        {"t": "req", "id": 1, "body": "x"},
        {"t": "req", "id": "1", "body": ""},
        {"t": "req", "id": "1", "body": None},
        {"t": "req", "id": "1", "body": {}},
        {"t": "req", "id": "1", "body": "x", "to": "y"},
        {"t": "err", "id": "1", "body": "x"},
        {"t": "err", "id": "1", "body": {}},
        {"t": "err", "id": "1", "body": {"type": "about:blank", "status": 503}},
        {"t": "err", "id": "1", "body": {"type": "urn:fep:problem:busy"}},
        {
            "t": "err",
            "id": "1",
            "body": {"type": "urn:fep:problem:busy", "status": 200},
        },
        {
            "t": "err",
            "id": "1",
            "body": {"type": "urn:fep:problem:busy", "status": "503"},
        },
    ],
)
def test_a_frame_of_another_shape_is_refused(obj: object):
    """Exactly the members of its kind."""
    with pytest.raises(MalformedMessage):
        channel.parse(json.dumps(obj))


@pytest.mark.parametrize(
    "text", ["", "[]", "nudge", '{"t":"nudge","t":"nudge"}', "\ud800"]
)
def test_a_text_that_is_no_frame_is_refused(text: str):
    """Strict JSON, as everywhere."""
    with pytest.raises(MalformedMessage):
        channel.parse(text)


def test_a_frame_over_its_cap_is_neither_read_nor_made():
    """4 MiB of bytes, on both sides."""
    room = channel.FRAME_CAP - len(Frame("req", "1", "x").format()) + 1
    most = Frame("req", "1", "x" * room)
    assert channel.parse(most.format()) == most
    over = Frame("req", "1", "x" * (room + 1))
    with pytest.raises(MalformedMessage, match="at most"):
        over.format()
    with pytest.raises(MalformedMessage, match="at most"):
        channel.parse('{"t":"req","id":"1","body":"' + "x" * (room + 1) + '"}')


def test_what_cannot_be_read_is_not_made():
    """An id of the exchange is checked on the way out too."""
    with pytest.raises(MalformedMessage):
        Frame("res", "a b", "x").format()


@tries(100)
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_garbage_is_a_frame_or_our_error(text: str | bytes):
    """Nothing else."""
    with pytest.raises(MalformedMessage):
        channel.parse(text)


def test_a_body_never_shows():
    """Frames are told of in logs; what they carry is not."""
    assert "a.b.c" not in repr(FRAMES[1])
