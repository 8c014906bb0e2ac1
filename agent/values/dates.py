# SPDX-License-Identifier: Apache-2.0
"""Dates and times from text, and local times to UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agent.values import reasons
from agent.values.columns import (
    Column,
    Mask,
    Parsed,
    cast,
    missing,
    trim,
    truth,
    two_paths,
    within,
)
from agent.values.zone import SECOND, Zone
from agent.wire.arrow import DAYS, MICROS
from agent.wire.texts import lengths

UTC_TIME = pa.timestamp("us", tz="UTC")
LOCAL_TIME = pa.timestamp("us")

_DAY = 86_400 * SECOND
_LONG = 64
_FIRST, _LAST = MICROS

Ints = npt.NDArray[np.int64]

_ISO = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_DATE = r"(?P<y>[0-9]{4})(?P<a>[-/.])(?P<m>[0-9]{1,2})(?P<b>[-/.])(?P<d>[0-9]{1,2})"
_CLOCK = (
    r"(?P<h>[0-9]{1,2}):(?P<n>[0-9]{2})(?::(?P<s>[0-9]{2})(?:\.(?P<f>[0-9]{1,6}))?)?"
)
_OFFSET = (
    r"(?P<z>Z|(?P<g>[+-])(?P<p>[0-9]{2})"
    r"(?::?(?P<q>[0-9]{2})(?::(?P<r>[0-9]{2}))?)?)?"
)
_MIDNIGHT = r"[ T]00:00:00(\.0+)?$"
_COMPACT_DATE = r"^([0-9]{4})([0-9]{2})([0-9]{2})"
_COMPACT_CLOCK = r"([0-9]{2})([0-9]{2})([0-9]{2})$"


def date(text: Column) -> Parsed:
    """D: ``1985-03-17``, also with ``/`` or ``.``, short months, or ``19850317``.

    A time after it is allowed if it is midnight.
    """
    return two_paths(text, _fast_date, _slow_date, usual=f"^{_ISO}$")


def time(text: Column, zone: Zone) -> Parsed:
    """T: a date, a clock time to the microsecond and perhaps an offset."""
    return two_paths(
        text,
        lambda part: _fast_time(part, zone),
        lambda part: _slow_time(part, zone),
        usual=rf"^{_ISO}[ T]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,6}})?$",
    )


def localised(values: Column, zone: Zone) -> Parsed:
    """Local times (``timestamp[us]``) in UTC."""
    ends: Any = pc.min_max(values.view(pa.int64())).as_py()
    first, last = ends["min"], ends["max"]
    if first is not None and last is not None and _inside(first, last):
        offset = zone.offset(first, last)
        if offset is not None:
            utc = pc.subtract(values.view(pa.int64()), pa.scalar(offset, pa.int64()))
            return Parsed(utc.view(UTC_TIME), {})
    return _localised(values, zone)


def _inside(first: int, last: int) -> bool:
    """Whether times are in range in any zone."""
    return first >= _FIRST + _DAY and last <= _LAST - _DAY


def _localised(values: Column, zone: Zone) -> Parsed:
    """The same where a time may have no meaning, or several offsets are among them."""
    valid = truth(values.is_valid())
    local = _filled(values).to_numpy(zero_copy_only=False)
    sane = (local >= _FIRST - _DAY) & (local <= _LAST + _DAY)
    resolved = zone.to_utc(np.where(sane, local, 0) if not sane.all() else local)
    gap, twice = resolved.gap, resolved.overlap
    never = np.zeros(len(local), np.bool_)
    gap = never if gap is None else gap & sane & valid
    twice = never if twice is None else twice & sane & valid
    utc = resolved.utc
    outside = (~sane | (utc < _FIRST) | (utc > _LAST)) & valid & ~gap & ~twice
    found = {
        reasons.TIME_GAP: gap,
        reasons.TIME_AMBIGUOUS: twice,
        reasons.OUT_OF_RANGE: outside,
    }
    faults = {reason: mask for reason, mask in found.items() if mask.any()}
    return Parsed(instants(utc, valid & ~gap & ~twice & ~outside), faults)


def instants(utc: Ints, good: Mask) -> Column:
    """Microseconds since 1970 as a T column; null where not good."""
    mask = None if good.all() else ~good
    return pa.array(utc, pa.int64(), mask=mask).cast(UTC_TIME)


def _filled(values: Column) -> Column:
    """As integers, a null replaced by a neighbour so that it costs no special path."""
    numbers = values.view(pa.int64())
    if not numbers.null_count:
        return numbers
    return pc.fill_null(numbers, pa.scalar(pc.min(numbers).as_py() or 0, pa.int64()))


def _fast_date(text: Column) -> Column | None:
    values = cast(text, pa.date32())
    if values is None or not within(values.view(pa.int32()), *DAYS):
        return None
    return values


def _slow_date(text: Column) -> Parsed:
    text = trim(text)
    plain = pc.replace_substring_regex(text, _MIDNIGHT, "")
    plain = pc.replace_substring_regex(plain, _COMPACT_DATE + "$", r"\1-\2-\3")
    days, good = _days(pc.extract_regex(plain, f"^{_DATE}$"))
    values = pa.array(days.astype(np.int32), mask=~good).cast(pa.date32())
    return Parsed(values, {reasons.BAD_DATE: missing(values, text)})


def _fast_time(text: Column, zone: Zone) -> Column | None:
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
    if values is None or not within(values.view(pa.int64()), *MICROS):
        return None
    return values


def _shortest(text: Column) -> int:
    """Bytes of the shortest text; a column of nulls has none too short."""
    sizes = lengths(text)
    if text.null_count:
        sizes = sizes[truth(text.is_valid())]
    return int(sizes.min(initial=_LONG))


def _slow_time(text: Column, zone: Zone) -> Parsed:
    text = trim(text)
    plain = pc.replace_substring_regex(
        text, _COMPACT_DATE + _COMPACT_CLOCK, r"\1-\2-\3 \4:\5:\6"
    )
    found = pc.extract_regex(plain, f"^{_DATE}[ T]{_CLOCK}{_OFFSET}$")
    days, good = _days(found)
    clock, sane = _clock(found)
    offset, fair = _offset(found)
    good = good & sane & fair
    naive = good & ~truth(pc.not_equal(_group(found, "z"), pa.scalar("")))
    local = np.where(good, days * _DAY + clock, 0)
    parsed = localised(pa.array(local, pa.int64(), mask=~naive).cast(LOCAL_TIME), zone)
    shifted = local - offset
    outside = good & ~naive & ((shifted < _FIRST) | (shifted > _LAST))
    utc = np.where(naive, _filled(parsed.values).to_numpy(), shifted)
    done = (truth(parsed.values.is_valid()) | (good & ~naive)) & ~outside
    faults = dict(parsed.faults)
    faults[reasons.BAD_TIME] = truth(text.is_valid()) & ~good
    beyond = faults.get(reasons.OUT_OF_RANGE)
    faults[reasons.OUT_OF_RANGE] = outside if beyond is None else outside | beyond
    return Parsed(instants(utc, done), faults)


def _group(found: Column, name: str) -> Column:
    return pc.struct_field(found, name)


def _number(found: Column, name: str) -> Ints:
    """A group of digits; 0 where it is absent."""
    digits = pc.replace_substring_regex(_group(found, name), "^$", "0")
    numbers: Ints = pc.fill_null(digits, "0").cast(pa.int64()).to_numpy()
    return numbers


def _days(found: Column) -> tuple[Ints, Mask]:
    """Days since 1970 of the groups of :data:`_DATE`, and which are real dates."""
    year, month, day = (_number(found, name) for name in "ymd")
    same = truth(pc.equal(_group(found, "a"), _group(found, "b")))
    good = same & (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    first = ((year - 1970) * 12 + np.where(good, month, 1) - 1).astype("M8[M]")
    start = first.astype("M8[D]").astype(np.int64)
    end = (first + 1).astype("M8[D]").astype(np.int64)
    return start + day - 1, good & (day <= end - start)


def _clock(found: Column) -> tuple[Ints, Mask]:
    """Microseconds since midnight, and which are times of a day: 24:00 is not."""
    hour, minute, second = (_number(found, name) for name in "hns")
    fraction = pc.utf8_rpad(pc.fill_null(_group(found, "f"), ""), 6, "0")
    micros = fraction.cast(pa.int64()).to_numpy()
    good = (hour <= 23) & (minute <= 59) & (second <= 59)
    return ((hour * 60 + minute) * 60 + second) * SECOND + micros, good


def _offset(found: Column) -> tuple[Ints, Mask]:
    """Microseconds east of UTC, and which offsets exist."""
    hour, minute, second = (_number(found, name) for name in "pqr")
    east = ((hour * 60 + minute) * 60 + second) * SECOND
    west = truth(pc.equal(_group(found, "g"), pa.scalar("-")))
    good = (hour <= 23) & (minute <= 59) & (second <= 59)
    return np.where(west, -east, east), good
