# SPDX-License-Identifier: Apache-2.0
"""Wall-clock times of a time zone to UTC, a column at a time.

A zone is cut into stretches of local time with one state each: an offset, a gap (the
clock was put forward, the time never was) or an overlap (put back, the time was twice).
A page of ordinary dates lies in one stretch, so its conversion is one subtraction.
Source of the rules: the IANA database through ``zoneinfo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SECOND = 1_000_000
"""Microseconds in a second: times here are microseconds since 1970."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = datetime(1880, 1, 1, tzinfo=UTC)
_LAST = datetime(2101, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=7)
_GAP = np.iinfo(np.int64).min
_OVERLAP = _GAP + 1


@dataclass(frozen=True)
class Resolved:
    """Times in UTC; a row in ``gap`` or ``overlap`` has no meaning."""

    utc: Times
    gap: Mask | None
    overlap: Mask | None


class Zone:
    """One time zone, prepared for columns of local times.

    Args:
        name: IANA name.

    Raises:
        zoneinfo.ZoneInfoNotFoundError: the machine's zone database lacks it.
    """

    def __init__(self, name: str) -> None:
        self._zone = ZoneInfo(name)

    @cached_property
    def _known(self) -> tuple[Times, Times]:
        """Starts and states; they take some 30 ms, and not every run needs them."""
        starts, states = _stretches(self._zone)
        return np.array(starts, np.int64), np.array(states, np.int64)

    @property
    def _starts(self) -> Times:
        return self._known[0]

    @property
    def _states(self) -> Times:
        return self._known[1]

    def to_utc(self, local: Times) -> Resolved:
        """Each local time in UTC.

        Args:
            local: microseconds since 1970 as a clock on the wall counts them.
        """
        if not len(local):
            return Resolved(local, None, None)
        offset = self.offset(local.min(), local.max())
        if offset is not None:
            return Resolved(local - offset, None, None)
        offsets = self._offsets(local)
        gap, overlap = offsets == _GAP, offsets == _OVERLAP
        utc = local - np.where(gap | overlap, 0, offsets)
        return Resolved(
            utc, gap if gap.any() else None, overlap if overlap.any() else None
        )

    def offset(self, first: int | np.int64, last: int | np.int64) -> int | None:
        """What all local times from ``first`` to ``last`` are ahead of UTC.

        Returns:
            microseconds; None if that changes between them, or nobody can say.
        """
        low, high = self._stretch(first), self._stretch(last)
        if low != high or not 0 <= low < len(self._states) - 1:
            return None
        state = int(self._states[low])
        return state if state > _OVERLAP else None

    def _stretch(self, local: int | np.int64) -> int:
        return int(np.searchsorted(self._starts, local, "right")) - 1

    def _offsets(self, local: Times) -> Times:
        at = np.searchsorted(self._starts, local, "right") - 1
        offsets = self._states[np.maximum(at, 0)]
        for i in np.flatnonzero((at < 0) | (at == len(self._states) - 1)):
            offsets[i] = self._state(int(local[i]))
        return offsets

    def _state(self, local: int) -> int:
        """State of a time before 1880 or after 2100, asked one by one."""
        try:
            wall = (_EPOCH + timedelta(microseconds=local)).replace(tzinfo=None)
        except OverflowError:  # outside of years 1 to 9999: judged by the caller
            return 0
        early = _us(wall.replace(tzinfo=self._zone).utcoffset())
        late = _us(wall.replace(tzinfo=self._zone, fold=1).utcoffset())
        if early == late:
            return early
        return _GAP if early < late else _OVERLAP


def _us(delta: timedelta | None) -> int:
    return (delta or timedelta()) // timedelta(microseconds=1)


def _stretches(zone: ZoneInfo) -> tuple[list[int], list[int]]:
    """Local starts of the stretches from 1880 to 2100, and their states."""
    at = _FIRST
    before = _offset(zone, at)
    starts, states = [_us(at - _EPOCH) + _us(before)], [_us(before)]
    while at < _LAST:
        after = _offset(zone, at + _STEP)
        if after != before:
            change = _us(_change(zone, at) - _EPOCH)
            old, new = change + _us(before), change + _us(after)
            starts += [min(old, new), max(old, new)]
            states += [_GAP if new > old else _OVERLAP, _us(after)]
            before = after
        at += _STEP
    starts.append(_us(at - _EPOCH) + _us(before))
    states.append(_us(before))
    return starts, states


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _change(zone: ZoneInfo, low: datetime) -> datetime:
    """The second within a step after ``low`` at which the offset changes."""
    first, high = _offset(zone, low), low + _STEP
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(zone, middle) == first:
            low = middle
        else:
            high = middle
    return high
