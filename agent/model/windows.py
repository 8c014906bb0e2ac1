# SPDX-License-Identifier: Apache-2.0
"""Windows: times of day between which something is allowed, or otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import time

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
