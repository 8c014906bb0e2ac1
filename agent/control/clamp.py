# SPDX-License-Identifier: Apache-2.0
"""Bounds of what the centre sets: the stricter of two numbers, the common hours.

Rules

1. A bound of ``limits.json`` or ``ceiling.toml`` holds where it is written. Where the
   ceiling is silent, what ``agent.toml`` says is the bound: the centre can only be
   stricter than the department unless the department has said more.
2. 0 of a rate or of a watch over the source means none, so it is the largest of all.
3. What the centre moves in one key may loosen another: a table of which it sets
   anything is held against the bounds as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.model.windows import DAY, common, minutes, steps
from agent.wire.configuration import Bounds

Pick = Callable[[Any, Any], Any]
"""The stricter of what is wanted and of a bound; may raise Unspeakable."""

T = TypeVar("T")

MOST = 16
"""Windows that a list of the settings can have."""


class Unspeakable(ValueError):
    """No value is strict enough for both; the message is what would have been."""


def higher(wanted: float, bound: float) -> float:
    """The larger number."""
    return max(wanted, bound)


def lower(wanted: float, bound: float) -> float:
    """The smaller number; 0 is no limit at all."""
    return min(wanted, bound, key=lambda number: number or math.inf)


def within(wanted: Sequence[str], bound: Sequence[str]) -> list[str]:
    """The common hours, where no window at all means no hour.

    Raises:
        Unspeakable: they are more windows than the settings can hold.
    """
    return _held(list(common(wanted, bound)))


def reading(wanted: Sequence[str], bound: Sequence[str]) -> list[str]:
    """The common hours, where no window at all means every hour.

    Raises:
        Unspeakable: there are none, or too many windows of them.
    """
    if not bound or not wanted:
        return list(wanted or bound)
    if not (found := within(wanted, bound)):
        raise Unspeakable(f"hours within {', '.join(bound)}")
    return found


Steps = Sequence[Mapping[str, Any]]
"""``uplink.bandwidth``: windows with ``kb_s``; the first that fits counts."""


def narrower(wanted: Steps, bound: Steps) -> list[Mapping[str, Any]]:
    """At every minute the smaller of two bandwidths; outside of windows: any.

    Raises:
        Unspeakable: they are more windows than the settings can hold.
    """
    ours, theirs = _by_minute(wanted), _by_minute(bound)
    least = [min(pair) for pair in zip(ours, theirs, strict=True)]
    if least == ours:
        return list(wanted)
    return _held(
        [
            {"window": window, "kb_s": int(rate)}
            for window, rate in steps(least)
            if rate != math.inf
        ]
    )


def minutes_of(windows: Sequence[str]) -> frozenset[int]:
    """The minutes of a day within windows."""
    return frozenset(m for w in windows for part in minutes(w) for m in part)


def _held(windows: list[T]) -> list[T]:
    if len(windows) > MOST:
        raise Unspeakable(f"at most {MOST} windows once both are joined")
    return windows


def all_day(kb_s: int) -> Steps:
    """One bandwidth for the whole day; 0: any."""
    if not kb_s:
        return ()
    return [{"window": window, "kb_s": kb_s} for window, _ in steps([0] * DAY)]


def _by_minute(windows: Steps) -> list[float]:
    found: list[float] = [math.inf] * DAY
    for step in reversed(windows):
        for part in minutes(step["window"]):
            found[part.start : part.stop] = [float(step["kb_s"])] * len(part)
    return found


@dataclass(frozen=True)
class Rule:
    """How a key is bounded.

    Args:
        bound: the key of :class:`Bounds`.
        pick: the stricter of two values.
        read: the bound as a value of the key.
    """

    bound: str
    pick: Pick
    read: Callable[[Any], Any] = lambda value: value

    def strictest(self, wanted: Any, *bounds: Bounds) -> Any:
        """What is wanted, held against the bounds that are written.

        Raises:
            Unspeakable: no value is strict enough.
        """
        for one in bounds:
            if self.written(one):
                wanted = self.pick(wanted, self.read(getattr(one, self.bound)))
        return wanted

    def written(self, bounds: Bounds) -> bool:
        """Whether these bounds say anything of the key."""
        return self.bound in bounds.model_fields_set


TABLES: Mapping[str, Mapping[str, Rule]] = {
    "schedule": {"off_peak": Rule("windows", reading)},
    "limits": {
        "rows_per_s": Rule("rows_per_s", lower),
        "mb_per_s": Rule("mb_per_s", lower),
        "off_peak": Rule("off_peak", within),
        "off_peak_rows_per_s": Rule("off_peak_rows_per_s", lower),
        "off_peak_mb_per_s": Rule("off_peak_mb_per_s", lower),
        "probe_s": Rule("probe_s", lower),
        "busy_percent": Rule("busy_percent", lower),
        "lock_waits": Rule("lock_waits", lower),
        "replica_lag_s": Rule("replica_lag_s", lower),
    },
}
"""Sections of tables by name, with one for all; held as a whole where one is set."""

KEYS: Mapping[str, Mapping[str, Rule]] = {
    "uplink": {
        "streams": Rule("streams", lower),
        "bandwidth": Rule("kb_s", narrower, all_day),
    },
    "push": {
        "batch_raw_mb": Rule("batch_raw_mb", lower),
        "max_rows_per_batch": Rule("max_rows_per_batch", lower),
        "workers": Rule("workers", lower),
        "statement_timeout_s": Rule("statement_timeout_s", lower),
    },
    "spool": {"quota_mb": Rule("quota_mb", lower)},
    "exchange": {"heartbeat_s": Rule("heartbeat_s_min", higher)},
}
"""Sections of single keys."""
