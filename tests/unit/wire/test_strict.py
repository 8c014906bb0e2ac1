# SPDX-License-Identifier: Apache-2.0
"""JSON: a value or our error, and the same bytes back."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedMessage
from agent.wire import strict
from tests.support.tries import tries

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), VALUES, max_size=4)


@tries(100)
@given(OBJECTS)
def test_what_was_written_is_read(obj: dict[str, object]):
    """Objects within the rules survive; too deep ones are refused."""
    try:
        assert strict.loads(strict.dumps(obj)) == obj
    except MalformedMessage as e:
        assert "levels" in e.detail  # noqa: PT017 - both ends are right


@tries(100)
@given(st.binary(max_size=60) | st.text('{}[]":,\\u0dD8e.-1 a\ufeff', max_size=40))
def test_any_bytes_are_a_value_or_our_error(data: bytes | str):
    """Nothing else comes out, and what json takes beyond us is out of our rules."""
    raw = data if isinstance(data, bytes) else data.encode()
    try:
        value = strict.loads(raw)
    except MalformedMessage:
        return
    assert value == json.loads(raw)


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53) + 1, 0])
def test_integers_below_2_53_pass(number: int):
    """The bound itself is out, its neighbour is in."""
    assert strict.loads(b'{"n":%d}' % number) == {"n": number}
    with pytest.raises(MalformedMessage, match="2\\^53"):
        strict.loads(b'{"n":%d}' % (2**53 if number >= 0 else -(2**53)))


def test_eight_levels_pass_and_nine_do_not():
    """The top object is level 1."""
    eight = b'{"a":' + b"[" * 7 + b"]" * 7 + b"}"
    assert strict.loads(eight)
    with pytest.raises(MalformedMessage, match="8 levels"):
        strict.loads(b'{"a":' + b"[" * 8 + b"]" * 8 + b"}")


def test_brackets_in_text_are_no_levels():
    """Depth counts structure, not characters."""
    assert strict.loads(rb'{"a":"[[[[[[[[[[{{{{\"[[[[\\"}')


def test_surrogate_pair_is_one_character():
    """Escaped pairs are text; halves are refused, in names too."""
    assert strict.loads(rb'{"a":"\ud842\udfb7"}') == {"a": "𠮷"}
    for half in (rb'{"a":"\ud842"}', rb'{"\udfb7":1}', rb'{"a":[["\udfb7\ud842"]]}'):
        with pytest.raises(MalformedMessage, match="surrogate"):
            strict.loads(half)


@pytest.mark.parametrize("piece", [rb"\"", b'"', b"[", rb"\\"])
def test_hostile_text_takes_linear_time(piece: bytes):
    """A megabyte that never closes is refused at once."""
    start = time.process_time()
    with pytest.raises(MalformedMessage):
        strict.loads(b'{"a":"' + piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 2


def test_complaint_never_quotes_values():
    """A parser's message holds places, not content."""
    with pytest.raises(MalformedMessage) as caught:
        strict.loads(b'{"id":"110101199003070011",}')
    assert "1101" not in str(caught.value)
