# SPDX-License-Identifier: Apache-2.0
"""Identifiers and times as the wire format writes them (wire.md §1, Grammar)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from agent.errors import MalformedMessage

DEPARTMENT = re.compile(r"[0-9A-Z]{18}")
NODE = re.compile(r"[0-9A-Z]{18}/[a-z0-9][a-z0-9-]{0,31}")
RESOURCE = re.compile(r"[0-9A-Za-z]{1,32}(?:/[0-9A-Za-z]{1,32}){1,3}")
EXCHANGE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
INCARNATION = re.compile(r"[0-9a-f]{32}")
ROW_DIGEST = re.compile(r"[0-9a-f]{32}")
ITEM_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
NONCE = re.compile(r"[A-Za-z0-9_-]{22,64}")
KID = re.compile(r"[A-Za-z0-9_-]{43}")
CODE = re.compile(r"[a-z][a-z0-9-]{0,63}")
UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]{1,6}))?Z"
)
"""All patterns are for ``fullmatch``."""


def parse_time(text: str) -> datetime:
    """The aware UTC instant of ``YYYY-MM-DDTHH:MM:SS[.d{1,6}]Z``.

    Raises:
        MalformedMessage: another form, or no such day or second (leap seconds too).
    """
    match = TIME.fullmatch(text)
    if match is None:
        raise MalformedMessage("expected a time like 2026-11-21T08:00:00Z")
    year, month, day, hour, minute, second = (int(g) for g in match.groups()[:6])
    micros = int((match[7] or "").ljust(6, "0"))
    try:
        return datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)
    except ValueError as e:
        raise MalformedMessage(f"expected a time that exists: {e}") from e


def is_time(text: str) -> bool:
    """Whether :func:`parse_time` takes it."""
    try:
        parse_time(text)
    except MalformedMessage:
        return False
    return True


def format_time(moment: datetime) -> str:
    """The wire form of an aware instant; microseconds only where there are any."""
    if moment.tzinfo is None:
        raise ValueError("expected an instant with a time zone")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def new_uuid7(now_ms: int, random: bytes) -> str:
    """A uuid7 of a Unix time in milliseconds and 10 random bytes."""
    if len(random) != 10 or not 0 <= now_ms < 1 << 48:
        raise ValueError("expected 10 random bytes and a time of 48 bits")
    noise = int.from_bytes(random, "big")
    low = (0b10 << 62) | (noise & ((1 << 62) - 1))
    high = (now_ms << 16) | (7 << 12) | ((noise >> 62) & 0xFFF)
    text = f"{(high << 64) | low:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def resource_file_part(resource: str) -> str:
    """A resource as it stands in file names: ``/`` becomes ``_``."""
    return resource.replace("/", "_")
