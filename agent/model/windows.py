# SPDX-License-Identifier: Apache-2.0
"""Windows: times of day between which something is allowed, or otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import time
from typing import TypeVar

V = TypeVar("V")

EXPECTED = "two times of day such as 20:00-06:00"

_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


def check_window(text: str) -> str:
    """The text, if it is a window.

    Raises:
        ValueError: it is none; the message is what is expected.
    """
    found = _WINDOW.fullmatch(text)
    if found is None or found.group(1, 2) == found.group(3, 4):
        raise ValueError(EXPECTED)
    return text


def bounds(window: str) -> tuple[time, time]:
    """When it opens and when it closes."""
    opens, closes = (time.fromisoformat(part) for part in window.split("-"))
    return opens, closes


def inside(window: str, clock: time) -> bool:
    """Whether a time of day lies in a window, which may go over midnight."""
    opens, closes = bounds(window)
    if opens > closes:
        return clock >= opens or clock < closes
    return opens <= clock < closes


def any_open(windows: Iterable[str], clock: time) -> bool:
    """Whether one of them is open; none is, if there are none."""
    return any(inside(window, clock) for window in windows)


DAY = 24 * 60
"""Minutes of a day."""


def minutes(window: str) -> tuple[range, ...]:
    """The minutes of the day in a window; two parts if it goes over midnight."""
    opens, closes = (at.hour * 60 + at.minute for at in bounds(window))
    if opens < closes:
        return (range(opens, closes),)
    return range(opens, DAY), range(closes)


def common(some: Sequence[str], others: Iterable[str]) -> tuple[str, ...]:
    """The hours that lie in a window of both; ``some`` as they are if these are all."""
    ours, theirs = _covered(some), _covered(others)
    both = [one and other for one, other in zip(ours, theirs, strict=True)]
    if both == ours:
        return tuple(some)
    return tuple(window for window, is_open in steps(both) if is_open)


def steps(values: Sequence[V]) -> list[tuple[str, V]]:
    """Windows that each have one value, in the order in which they open.

    A window cannot be a whole day, so what is the same all day is two halves.

    Args:
        values: one for each minute of the day.
    """
    starts = [m for m in range(DAY) if values[m] != values[m - 1]] or [0, DAY // 2]
    ends = [*starts[1:], starts[0]]
    return [
        (f"{_clock(start)}-{_clock(end)}", values[start])
        for start, end in zip(starts, ends, strict=True)
    ]


def _covered(windows: Iterable[str]) -> list[bool]:
    found = [False] * DAY
    for window in windows:
        for part in minutes(window):
            found[part.start : part.stop] = [True] * len(part)
    return found


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
