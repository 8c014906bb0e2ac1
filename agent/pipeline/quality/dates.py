# SPDX-License-Identifier: Apache-2.0
"""Dates and times from text, and local times to UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agent.pipeline.quality import reasons
from agent.pipeline.quality.columns import (
    Mask,
    Parsed,
    cast,
    lengths,
    missing,
    trim,
    truth,
    two_paths,
    within,
)
from agent.pipeline.quality.zone import SECOND, Zone

DAY_MIN, DAY_MAX = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31 in days since 1970."""
TIME_MIN = DAY_MIN * 86_400 * SECOND
TIME_MAX = (DAY_MAX + 1) * 86_400 * SECOND - 1
"""First and last microsecond of the years 0001 to 9999."""

UTC_TIME = pa.timestamp("us", tz="UTC")
LOCAL_TIME = pa.timestamp("us")

Ints = npt.NDArray[np.int64]

_DATE = r"(?P<y>[0-9]{4})(?P<a>[-/.])(?P<m>[0-9]{1,2})(?P<b>[-/.])(?P<d>[0-9]{1,2})"
_CLOCK = r"(?P<h>[0-9]{1,2}):(?P<n>[0-9]{2})(:(?P<s>[0-9]{2})(\.(?P<f>[0-9]{1,6}))?)?"
_OFFSET = r"(?P<z>Z|(?P<g>[+-])(?P<p>[0-9]{2})(:?(?P<q>[0-9]{2})(:(?P<r>[0-9]{2}))?)?)?"
_MIDNIGHT = r"[ T]00:00:00(\.0+)?$"
_COMPACT_DATE = r"^([0-9]{4})([0-9]{2})([0-9]{2})"
_COMPACT_CLOCK = r"([0-9]{2})([0-9]{2})([0-9]{2})$"


def date(text: pa.Array[Any]) -> Parsed:
    """D: ``1985-03-17``, also with ``/`` or ``.``, short months, or ``19850317``.

    A time after it is allowed if it is midnight.
    """
    return two_paths(text, _fast_date, _slow_date)


def time(text: pa.Array[Any], zone: Zone) -> Parsed:
    """T: a date, a clock time to the microsecond and perhaps an offset."""
    return two_paths(
        text, lambda part: _fast_time(part, zone), lambda part: _slow_time(part, zone)
    )


def localised(values: pa.Array[Any], zone: Zone) -> Parsed:
    """Local times (``timestamp[us]``) in UTC."""
    valid = truth(values.is_valid())
    local = _filled(values).to_numpy(zero_copy_only=False)
    sane = (local >= TIME_MIN - _DAY) & (local <= TIME_MAX + _DAY)
    resolved = zone.to_utc(np.where(sane, local, 0) if not sane.all() else local)
    gap, twice = resolved.gap, resolved.overlap
    never = np.zeros(len(local), np.bool_)
    gap = never if gap is None else gap & sane & valid
    twice = never if twice is None else twice & sane & valid
    utc = resolved.utc
    outside = (~sane | (utc < TIME_MIN) | (utc > TIME_MAX)) & valid & ~gap & ~twice
    found = {
        reasons.TIME_GAP: gap,
        reasons.TIME_AMBIGUOUS: twice,
        reasons.OUT_OF_RANGE: outside,
    }
    faults = {reason: mask for reason, mask in found.items() if mask.any()}
    return Parsed(instants(utc, valid & ~gap & ~twice & ~outside), faults)


def instants(utc: Ints, good: Mask) -> pa.Array[Any]:
    """Microseconds since 1970 as a T column; null where not good."""
    mask = None if good.all() else ~good
    return pa.array(utc, pa.int64(), mask=mask).cast(UTC_TIME)


_DAY = 86_400 * SECOND


def _filled(values: pa.Array[Any]) -> pa.Array[Any]:
    """As integers, a null replaced by a neighbour so that it costs no special path."""
    numbers = values.view(pa.int64())
    if not numbers.null_count:
        return numbers
    return pc.fill_null(numbers, pc.min(numbers).as_py() or 0)


def _fast_date(text: pa.Array[Any]) -> pa.Array[Any] | None:
    values = cast(text, pa.date32())
    if values is None or not within(values.view(pa.int32()), DAY_MIN, DAY_MAX):
        return None
    return values


def _slow_date(text: pa.Array[Any]) -> Parsed:
    text = trim(text)
    plain = pc.replace_substring_regex(text, _MIDNIGHT, "")
    plain = pc.replace_substring_regex(plain, _COMPACT_DATE + "$", r"\1-\2-\3")
    days, good = _days(pc.extract_regex(plain, f"^{_DATE}$"))
    values = pa.array(days.astype(np.int32), mask=~good).cast(pa.date32())
    return Parsed(values, {reasons.BAD_DATE: missing(values, text)})


def _fast_time(text: pa.Array[Any], zone: Zone) -> pa.Array[Any] | None:
    """Shorter texts may be dates or hours alone, which a cast would complete."""
    shortest = _shortest(text)
    if shortest < len("2026-11-21 08:00"):
        return None
    local = cast(text, LOCAL_TIME)
    if local is not None:
        parsed = localised(local, zone)
        return None if parsed.faults else parsed.values
    if shortest < len("2026-11-21 08:00Z+08"):
        return None
    values = cast(text, UTC_TIME)
    if values is None or not within(values.view(pa.int64()), TIME_MIN, TIME_MAX):
        return None
    return values


def _shortest(text: pa.Array[Any]) -> int:
    sizes = lengths(text)
    if text.null_count:
        sizes = sizes[truth(text.is_valid())]
    return int(sizes.min()) if len(sizes) else 0


def _slow_time(text: pa.Array[Any], zone: Zone) -> Parsed:
    text = trim(text)
    plain = pc.replace_substring_regex(
        text, _COMPACT_DATE + _COMPACT_CLOCK, r"\1-\2-\3 \4:\5:\6"
    )
    found = pc.extract_regex(plain, f"^{_DATE}[ T]{_CLOCK}{_OFFSET}$")
    days, good = _days(found)
    clock, sane = _clock(found)
    offset, fair = _offset(found)
    good = good & sane & fair
    naive = good & ~truth(pc.not_equal(found.field("z"), ""))
    local = np.where(good, days * _DAY + clock, 0)
    parsed = localised(pa.array(local, pa.int64(), mask=~naive).cast(LOCAL_TIME), zone)
    shifted = local - offset
    outside = good & ~naive & ((shifted < TIME_MIN) | (shifted > TIME_MAX))
    utc = np.where(naive, _filled(parsed.values).to_numpy(), shifted)
    done = (truth(parsed.values.is_valid()) | (good & ~naive)) & ~outside
    faults = dict(parsed.faults)
    faults[reasons.BAD_TIME] = truth(text.is_valid()) & ~good
    beyond = faults.get(reasons.OUT_OF_RANGE)
    faults[reasons.OUT_OF_RANGE] = outside if beyond is None else outside | beyond
    return Parsed(instants(utc, done), faults)


def _number(found: pa.Array[Any], name: str) -> Ints:
    """A group of digits; 0 where it is absent."""
    digits = pc.replace_substring_regex(pc.struct_field(found, name), "^$", "0")
    numbers: Ints = pc.fill_null(digits, "0").cast(pa.int64()).to_numpy()
    return numbers


def _days(found: pa.Array[Any]) -> tuple[Ints, Mask]:
    """Days since 1970 of the groups of :data:`_DATE`, and which are real dates."""
    year, month, day = (_number(found, name) for name in "ymd")
    same = truth(pc.equal(pc.struct_field(found, "a"), pc.struct_field(found, "b")))
    good = same & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    first = ((year - 1970) * 12 + np.where(good, month, 1) - 1).astype("M8[M]")
    start = first.astype("M8[D]").astype(np.int64)
    end = (first + 1).astype("M8[D]").astype(np.int64)
    return start + day - 1, good & (day <= end - start)


def _clock(found: pa.Array[Any]) -> tuple[Ints, Mask]:
    """Microseconds since midnight, and which are times of a day: 24:00 is not."""
    hour, minute, second = (_number(found, name) for name in "hns")
    fraction = pc.utf8_rpad(pc.fill_null(pc.struct_field(found, "f"), ""), 6, "0")
    micros = fraction.cast(pa.int64()).to_numpy()
    good = (hour <= 23) & (minute <= 59) & (second <= 59)
    return ((hour * 60 + minute) * 60 + second) * SECOND + micros, good


def _offset(found: pa.Array[Any]) -> tuple[Ints, Mask]:
    """Microseconds east of UTC, and which offsets exist."""
    hour, minute, second = (_number(found, name) for name in "pqr")
    east = ((hour * 60 + minute) * 60 + second) * SECOND
    west = truth(pc.equal(pc.struct_field(found, "g"), "-"))
    good = (hour <= 23) & (minute <= 59) & (second <= 59)
    return np.where(west, -east, east), good
