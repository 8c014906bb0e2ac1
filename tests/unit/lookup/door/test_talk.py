# SPDX-License-Identifier: Apache-2.0
"""The door's frames: cut anywhere, too long, of no kind."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.child.frames import TOGETHER, Frame, Frames, Outbox
from agent.crypto.jose import PrivateKey
from agent.crypto.jwe import Parcel
from agent.lookup.door.talk import (
    Kind,
    Opening,
    opening_body,
    opening_of,
    parcel_body,
    parcel_of,
    problem_body,
    problem_of,
)
from agent.wire.lookup import REPLY_TYP
from agent.wire.problem import Problem
from tests.support.tries import tries

FRAMES = [
    Frame(Kind.ASK, 7, b"text"),
    Frame(Kind.BEAT, 0, b""),
    Frame(3, 2**32 - 1, b"x"),
]


def sent(frames: list[Frame]) -> bytes:
    """What an outbox writes for them."""
    written: list[bytes] = []
    later: list[Callable[[], None]] = []
    outbox = Outbox(written.append, later.append)
    for frame in frames:
        outbox.put(*frame)
    for act in later:
        act()
    return b"".join(written)


def test_frames_of_one_moment_travel_together() -> None:
    """Nothing is written before the moment ends; then all, in order."""
    written: list[bytes] = []
    later: list[Callable[[], None]] = []
    Outbox(written.append, later.append).put(*FRAMES[0])
    assert (written, len(later)) == ([], 1)
    later[0]()
    assert len(written) == 1
    assert list(Frames(100).of(sent(FRAMES))) == FRAMES


def test_a_handful_does_not_wait() -> None:
    """The other side begins while this one goes on."""
    written: list[bytes] = []
    outbox = Outbox(written.append, lambda _: None)
    for n in range(TOGETHER):
        assert not written
        outbox.put(Kind.BEAT, n, b"")
    assert len(written) == 1


@tries(50)
@given(st.lists(st.integers(0, 40), max_size=6))
def test_frames_may_be_cut_anywhere(cuts: list[int]) -> None:
    """Whatever the pieces, the frames are the same."""
    data = sent(FRAMES)
    ends = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    frames = Frames(100)
    pieces = [data[a:b] for a, b in pairwise(ends)]
    assert [f for piece in pieces for f in frames.of(piece)] == FRAMES


def test_a_frame_that_is_too_long_is_not_waited_for() -> None:
    """Its head is enough."""
    with pytest.raises(ValueError, match="at most 3"):
        list(Frames(3).of(b"\x00\x00\x00\x04\x07\x00\x00\x00\x01"))


def test_bodies_come_back_as_they_went() -> None:
    """Opening, parcel, problem."""
    opening = Opening(
        "::1", 1, "/ca", "/c", "/k", "yunxi.exchange", 64, unsealing="\xff"
    )
    assert "unsealing" not in repr(opening)
    assert opening_of(opening_body(opening)) == opening
    key = PrivateKey.generate("decrypt").public
    parcel = Parcel("a.b.c", to=key, cty=REPLY_TYP, iss="x/y", aud="z/w", least=4096)
    assert parcel_of(parcel_body(parcel)) == parcel
    problem = Problem("busy", 429, "too many")
    assert problem_of(problem_body(problem)) == problem


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]\nx", b'{"to":{}}\nx', b'{"a":1}\nx', b"\xff"]
)
def test_other_bodies_are_refused(body: bytes) -> None:
    """ValueError and nothing else."""
    for of in (opening_of, parcel_of, problem_of):
        with pytest.raises(ValueError, match=r"."):
            of(body)
