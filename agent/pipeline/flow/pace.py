# SPDX-License-Identifier: Apache-2.0
"""How fast a run reads, and how long it still takes; pure."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

SPAN = timedelta(seconds=60)
"""What the rate is measured over: long enough to be steady, short enough to show a
source that has become slow."""


class Pace:
    """The last minute of one run.

    Args:
        began: when it began, aware UTC.
    """

    def __init__(self, began: datetime) -> None:
        self._seen: deque[tuple[datetime, int]] = deque([(began, 0)])

    def note(self, at: datetime, read: int) -> None:
        """So many rows have been read by now."""
        if at < self._seen[-1][0]:  # the clock was set back: measure anew
            self._seen.clear()
        self._seen.append((at, read))
        while len(self._seen) > 2 and self._seen[1][0] <= at - SPAN:
            self._seen.popleft()

    def rate(self) -> float | None:
        """Rows a second; None before anything can be said."""
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        seconds = (end - start).total_seconds()
        return (after - before) / seconds if seconds > 0 else None

    def eta_s(self, estimate: int | None) -> float | None:
        """Seconds to the end by the source's estimate; None if nobody can say."""
        rate, read = self.rate(), self._seen[-1][1]
        if estimate is None or estimate <= read or not rate:
            return None
        return (estimate - read) / rate
