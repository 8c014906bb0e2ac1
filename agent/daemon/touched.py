# SPDX-License-Identifier: Apache-2.0
"""What is not the same once other settings hold; pure."""

from __future__ import annotations

from dataclasses import dataclass

from agent.daemon.work import Work
from agent.settings import Settings

_EVERYWHERE = ("push", "uplink", "spool")
"""Sections of which a change reaches every stream."""
_TIMES = ("connect_timeout_s", "read_timeout_s")
"""Keys of the exchange that say how long it is waited for."""


@dataclass(frozen=True)
class Touched:
    """What is not the same.

    Args:
        streams: codes of resources that may leave afterwards.
        addresses: of the exchange, those that are new.
        line: the addresses, or how long an answer is waited for.
    """

    streams: frozenset[str]
    addresses: tuple[str, ...]
    line: bool


def touched(old: Work, new: Work) -> Touched:
    """What is not the same in the new work."""
    before, after = old.settings, new.settings
    moved = line(before) != line(after)
    everywhere = moved or any(
        getattr(before, name) != getattr(after, name) for name in _EVERYWHERE
    )
    left = {o.resource: o for o in old.outgoing}
    streams = {
        one.resource
        for one in new.outgoing
        if everywhere
        or left.get(one.resource) != one
        or before.schedule_of(one.resource) != after.schedule_of(one.resource)
        or before.pacing(one.source) != after.pacing(one.source)
    }
    known = addresses(before)
    found = tuple(url for url in addresses(after) if url not in known)
    return Touched(frozenset(streams), found, moved)


def line(found: Settings) -> tuple[object, ...]:
    """How the exchange is reached: its addresses, and how long it is waited for."""
    times = (getattr(found.exchange, key) for key in _TIMES)
    return (addresses(found), *times)


def addresses(found: Settings) -> tuple[str, ...]:
    """The addresses of the exchange, without the slash at an end."""
    urls = (found.exchange.url, *found.exchange.more_urls)
    return tuple(url.rstrip("/") for url in urls)
