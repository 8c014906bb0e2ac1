# SPDX-License-Identifier: Apache-2.0
"""Local times to UTC, against the standard library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from agent.values.zone import Zone
from tests.support.tries import tries

NAMES = ("Asia/Shanghai", "America/New_York", "Africa/Casablanca", "UTC", "Asia/Urumqi")
ZONES = {name: Zone(name) for name in NAMES}
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


def reference(name: str, local: datetime) -> datetime | str:
    """What the standard library says, with gaps and overlaps named."""
    zone = ZoneInfo(name)
    early = local.replace(tzinfo=zone)
    late = early.replace(fold=1)
    if early.utcoffset() == late.utcoffset():
        return early.astimezone(UTC)
    before, after = early.utcoffset(), late.utcoffset()
    assert before is not None
    assert after is not None
    return "gap" if before < after else "overlap"


def ours(name: str, local: list[datetime]) -> list[datetime | str]:
    micros = np.array([(t - EPOCH) // timedelta(microseconds=1) for t in local])
    got = ZONES[name].to_utc(micros.astype(np.int64))
    out: list[datetime | str] = []
    for i, utc in enumerate(got.utc.tolist()):
        if got.gap is not None and got.gap[i]:
            out.append("gap")
        elif got.overlap is not None and got.overlap[i]:
            out.append("overlap")
        else:
            out.append(EPOCH.replace(tzinfo=UTC) + timedelta(microseconds=utc))
    return out


_local = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1))  # noqa: DTZ001
_modern = st.datetimes(datetime(1935, 1, 1), datetime(2030, 1, 1))  # noqa: DTZ001


@tries(60)
@given(st.sampled_from(NAMES), st.lists(_local | _modern, max_size=4))
@example("Asia/Shanghai", [datetime(1900, 1, 1), datetime(2100, 6, 1)])  # noqa: DTZ001
def test_it_agrees_with_the_standard_library(name: str, local: list[datetime]) -> None:
    """Any year, zones with and without summer time."""
    assert ours(name, local) == [reference(name, t) for t in local]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_around_every_change_of_a_century(name: str) -> None:
    """A second before, at, and after each border of each change."""
    zone = ZoneInfo(name)
    at, changes = datetime(1930, 1, 1, tzinfo=UTC), []
    while at.year < 2031:
        low, high = at, at + timedelta(days=10)
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                same = (
                    middle.astimezone(zone).utcoffset()
                    == low.astimezone(zone).utcoffset()
                )
                low, high = (middle, high) if same else (low, middle)
            changes += [low.astimezone(zone), high.astimezone(zone)]
        at += timedelta(days=10)
    local = [
        t.replace(tzinfo=None, fold=0, microsecond=0) + timedelta(seconds=s)
        for t in changes
        for s in (-1, 0, 1, 2)
    ]
    assert ours(name, local) == [reference(name, t) for t in local]


def test_an_unknown_zone_is_an_error() -> None:
    """Never a silent UTC."""
    with pytest.raises(ZoneInfoNotFoundError):
        Zone("Mars/Olympus")
