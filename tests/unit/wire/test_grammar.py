# SPDX-License-Identifier: Apache-2.0
"""Identifiers and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedMessage
from agent.wire import grammar
from tests.support.tries import tries

MOMENTS = st.datetimes(timezones=st.just(UTC))


@tries(100)
@given(MOMENTS)
def test_time_survives(moment: datetime):
    """Microseconds, and years from 1, come back."""
    text = grammar.format_time(moment)
    assert grammar.is_time(text)
    assert grammar.parse_time(text) == moment


@tries(100)
@given(st.text(max_size=30) | st.from_regex(grammar.TIME))
def test_any_text_is_a_time_or_our_error(text: str):
    """No other exception, whatever the digits say."""
    try:
        assert grammar.parse_time(text).tzinfo is UTC
    except MalformedMessage:
        assert not grammar.is_time(text)


@pytest.mark.parametrize(
    ("text", "micros"), [("", 0), (".5", 500_000), (".000001", 1), (".12", 120_000)]
)
def test_fraction_is_of_a_second(text: str, micros: int):
    """One to six digits."""
    assert grammar.parse_time(f"2026-11-21T08:00:00{text}Z").microsecond == micros


def test_time_is_written_in_utc():
    """Other zones are converted, naive times refused."""
    east = datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert grammar.format_time(east) == "2026-01-01T00:00:00Z"
    with pytest.raises(ValueError, match="time zone"):
        grammar.format_time(datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose


@tries(50)
@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_has_time_version_and_variant(now_ms: int, random: bytes):
    """RFC 9562: 48 bits of time, version 7, variant 10."""
    text = grammar.new_uuid7(now_ms, random)
    assert grammar.UUID7.fullmatch(text)
    assert int(text.replace("-", "")[:12], 16) == now_ms


def test_uuid7_of_rfc_9562_is_made_of_its_parts():
    """The example of RFC 9562 A.6."""
    random = ((0xCC3 << 62) | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    wanted = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    assert grammar.new_uuid7(0x017F22E279B0, random) == wanted


def test_uuid7_needs_its_random_bytes():
    """Fewer or more are a programmer's error."""
    with pytest.raises(ValueError, match="10 random"):
        grammar.new_uuid7(0, b"")
    assert not grammar.UUID7.fullmatch("017f22e2-79b0-4cc3-98c4-dc0c0c07398f")


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (grammar.DEPARTMENT, "11990100000000019F", "11990100000000019f"),
        (grammar.NODE, "11990100000000019F/a", "11990100000000019F/-a"),
        (grammar.NODE, "11990100000000019F/" + "a" * 32, "11990100000000019F/"),
        (grammar.RESOURCE, "a/b", "a"),
        (grammar.RESOURCE, "a/b/c/d", "a/b/c/d/e"),
        (grammar.RESOURCE, "A" * 32 + "/1", "A" * 33 + "/1"),
        (grammar.EXCHANGE, "yunxi.exchange", ".yunxi"),
        (grammar.EXCHANGE, "a" * 64, "a" * 65),
        (grammar.NONCE, "A" * 22, "A" * 65),
        (grammar.ITEM_NAME, "a" * 63, "a" * 64),
        (grammar.CODE, "chain-gap", "Chain"),
    ],
)
def test_identifiers(pattern: re.Pattern[str], good: str, bad: str):
    """Each form has its bounds, and an LF at the end is never part of it."""
    assert pattern.fullmatch(good)
    assert not pattern.fullmatch(bad)
    assert not pattern.fullmatch(good + "\n")


def test_resource_in_a_file_name_has_no_slash():
    """It cannot leave its folder."""
    assert grammar.resource_file_part("a/b/c") == "a_b_c"
