# SPDX-License-Identifier: Apache-2.0
"""When the disk will be full, by how it has filled lately; pure.

Batches come and go within a day, so a day is the least that says anything. The rate is
the straight line through all samples (least squares): one large file that comes or goes
moves it less than the difference of two samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent.state import DiskSample
from agent.wire.grammar import parse_time

EVERY = timedelta(hours=1)
"""Between two samples."""
SPAN = timedelta(days=7)
"""What the rate is measured over."""
LEAST = timedelta(days=1)
"""Of a shorter history nothing is said."""
FEWEST = 12
"""Of fewer samples neither."""
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of the disk.

    Args:
        per_day: bytes a day by which it fills, less than 0 if it empties; None while
            the history is too short to say.
        days: until reading stops at this rate; None if it is not known or never.
        since: first sample of the history, wire grammar; None without one.
    """

    per_day: int | None
    days: float | None
    since: str | None


UNKNOWN = Forecast(None, None, None)


def forecast(samples: Sequence[DiskSample], *, free: int, floor: int) -> Forecast:
    """What samples of the last days let expect.

    Args:
        samples: oldest first.
        free: bytes left now.
        floor: bytes that stay free; reading stops there.
    """
    if not samples:
        return UNKNOWN
    times = [parse_time(s.at).timestamp() / _DAY_S for s in samples]
    since = samples[0].at
    if len(samples) < FEWEST or times[-1] - times[0] < LEAST.total_seconds() / _DAY_S:
        return Forecast(None, None, since)
    rate = -_slope(times, [float(s.free) for s in samples])
    days = max(free - floor, 0) / rate if rate > 0 else None
    return Forecast(round(rate), days, since)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line that fits best."""
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - middle_x) ** 2 for a in x)
